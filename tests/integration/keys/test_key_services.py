"""Making and changing records: what no form can get past."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from keys import ledger
from keys.models import Account, KeyRecord
from keys.scopes import SCOPES
from keys.selectors import KeyFilter, filter_keys
from keys.services import (
    KeyRecordError,
    KeySpec,
    ask_for_balance,
    change_key,
    create_key,
    store_balance,
    store_balance_error,
)
from people.audit import Actor
from people.models import AuditEntry
from tests.factories import make_account, make_key, make_team, make_user

pytestmark = pytest.mark.django_db
NOBODY = Actor(None)


@pytest.fixture
def spec() -> KeySpec:
    return KeySpec(
        environment="prod",
        system="crm_sync",
        label="revops",
        owner=make_user(),
        deputy=make_user(),
        team=make_team(),
        purpose="Nightly  CRM\nclean-up ",
        scopes=["leads:search", "email-search:bulk", "leads:search"],
        secret_ref="env:ICYPEAS_KEY_X",
    )


def test_create_key_builds_the_name_and_tidies_the_words(spec: KeySpec) -> None:
    key = create_key(NOBODY, spec)

    assert (key.name, key.purpose) == ("prod_crm_sync_revops", "Nightly CRM clean-up")
    assert key.scopes == ["email-search:bulk", "leads:search"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"environment": "moon"}, "environment"),
        ({"system": "a\n"}, "system"),
        ({"label": ""}, "label"),
        ({"owner": None}, "owner"),
        ({"purpose": ""}, "purpose"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["x:y"]}, "scopes"),
        ({"scopes": list(SCOPES)}, "scopes"),
        ({"secret_ref": ""}, "secret_ref"),
        ({"secret_ref": "env:ICYPEAS_" + "X" * 200}, "secret_ref"),
        ({"previous_secret_ref": "env:PATH"}, "previous_secret_ref"),
        ({"account": "x" * 61}, "account"),
        ({"daily_cap": Decimal(-1)}, "daily_cap"),
        ({"rotation_days": 0}, "rotation_days"),
    ],
)
def test_create_key_names_the_field_that_is_wrong(
    spec: KeySpec, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(KeyRecordError) as caught:
        create_key(NOBODY, replace(spec, **changes))  # type: ignore[arg-type]

    assert list(caught.value.fields) == [field]
    assert not KeyRecord.objects.exists()
    assert not AuditEntry.objects.exists()


def test_create_key_refuses_an_owner_who_left(spec: KeySpec) -> None:
    with pytest.raises(KeyRecordError, match="owner who can log in"):
        create_key(NOBODY, replace(spec, owner=make_user(is_active=False)))


def test_owner_as_deputy_makes_a_draft_in_production_and_an_active_record_in_dev(spec: KeySpec) -> None:
    own = replace(spec, deputy=spec.owner)

    assert create_key(NOBODY, own).state == "draft"
    in_dev = replace(own, environment="dev", secret_ref="env:ICYPEAS_KEY_DEV")
    assert create_key(NOBODY, in_dev).state == "active"


def test_change_key_keeps_the_replaced_reference(spec: KeySpec) -> None:
    key = create_key(NOBODY, spec)

    key = change_key(NOBODY, key, replace(spec, secret_ref="env:ICYPEAS_KEY_NEW"), reason="rotation")
    assert key.previous_secret_ref == "env:ICYPEAS_KEY_X"

    again = replace(spec, secret_ref="env:ICYPEAS_KEY_NEWER", previous_secret_ref="env:ICYPEAS_KEY_X")
    key = change_key(NOBODY, key, again, reason="rotation")
    assert key.previous_secret_ref == "env:ICYPEAS_KEY_NEW"

    forgotten = replace(spec, secret_ref="env:ICYPEAS_KEY_NEWER", previous_secret_ref="")
    key = change_key(NOBODY, key, forgotten, reason="the old one is dead")
    assert key.previous_secret_ref == ""


def test_change_key_writes_down_a_cap_of_zero(spec: KeySpec) -> None:
    key = create_key(NOBODY, spec)

    change_key(NOBODY, key, replace(spec, daily_cap=Decimal(0)), reason="stop")

    assert AuditEntry.objects.get(action="key.changed").detail["daily cap"] == ["", "0"]


def test_change_key_is_refused_whole_when_the_account_is_of_the_other_realm(spec: KeySpec) -> None:
    key = create_key(NOBODY, spec)
    make_account("Training", realm="sandbox")

    with pytest.raises(KeyRecordError, match="sandbox account"):
        change_key(NOBODY, key, replace(spec, account="Training", purpose="Other"), reason="move")

    key.refresh_from_db()
    assert key.purpose == "Nightly CRM clean-up"
    assert not AuditEntry.objects.filter(action="key.changed").exists()


def test_older_reading_never_replaces_a_newer_one() -> None:
    account, now = make_account(), timezone.now()
    store_balance(account, credits=Decimal(10), asked_at=now)

    store_balance(account, credits=Decimal(99), asked_at=now - timedelta(seconds=1))

    account.refresh_from_db()
    assert account.balance == 10


def test_reading_clears_the_error_and_the_wish() -> None:
    account = make_account()
    assert ask_for_balance(account)
    store_balance_error(account, "x" * 400)

    store_balance(account, credits=Decimal(10), asked_at=timezone.now())

    account.refresh_from_db()
    assert (account.balance_error, account.balance_failed_at, account.balance_wanted_at) == ("", None, None)


def test_balance_is_asked_for_once_a_minute() -> None:
    account = make_account()

    assert ask_for_balance(account)
    assert not ask_for_balance(account)
    Account.objects.update(balance_wanted_at=timezone.now() - timedelta(seconds=61))
    assert ask_for_balance(account)
    Account.objects.update(balance_wanted_at=None, balance_asked_at=timezone.now() - timedelta(seconds=30))
    assert not ask_for_balance(account)


def test_scope_filter_does_not_take_one_scope_for_another() -> None:
    make_key("sandbox_x_single", scopes=["email-search:single"])
    make_key("sandbox_x_bulk", scopes=["email-search:bulk"])

    found = filter_keys(KeyFilter(scope="email-search:bulk"), make_user())

    assert [key.name for key in found] == ["sandbox_x_bulk"]


def test_record_stays_on_its_account_while_jobs_hold_credits_there(spec: KeySpec) -> None:
    key = create_key(NOBODY, replace(spec, account="Main"))
    store_balance(key.account, credits=Decimal(100), asked_at=timezone.now())
    ledger.reserve(key=key, operation="email-search", job=7, credits=Decimal(40))

    with pytest.raises(KeyRecordError) as refused:
        change_key(NOBODY, key, replace(spec, account="Second"), reason="Another contract")

    assert "Job #7 holds 40 credits on Main" in refused.value.fields["account"]
    assert not Account.objects.filter(name="Second").exists()
    ledger.release(key=key, operation="email-search", job=7, credits=Decimal(40))
    assert change_key(NOBODY, key, replace(spec, account="Second"), reason="x").account.name == "Second"


def test_reservation_meets_the_cap_that_stands_now_and_not_the_one_that_was_read(spec: KeySpec) -> None:
    stale = create_key(NOBODY, replace(spec, daily_cap=Decimal(100)))
    KeyRecord.objects.filter(id=stale.id).update(daily_cap=Decimal(10))  # while a terminal asks "Start?"

    with pytest.raises(ledger.ReservationError, match="leaves 10"):
        ledger.reserve(key=stale, operation="email-search", job=7, credits=Decimal(11))


def test_reservation_for_a_record_that_was_just_moved_is_refused(spec: KeySpec) -> None:
    stale = create_key(NOBODY, replace(spec, account="Main"))
    assert stale.account.name == "Main"  # read, as by a page that starts a job now
    change_key(NOBODY, stale, replace(spec, account="Second"), reason="Another contract")

    with pytest.raises(ledger.ReservationError, match="moved from Main"):
        ledger.reserve(key=stale, operation="email-search", job=7, credits=Decimal(1))

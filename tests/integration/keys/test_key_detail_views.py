"""One key's page: facts, use, scopes granted against used, calls, history."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from keys import calls
from keys.models import Account, Call, KeyRecord, LedgerEntry
from people.models import User
from tests.factories import make_account, make_key, make_numbered_job, make_team, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> User:
    return make_user(name="Mira Okafor", role="key_admin")


@pytest.fixture
def key() -> KeyRecord:
    return make_key("sandbox_training_revops", scopes=["email-verification:bulk", "email-search:bulk"])


def call(key: KeyRecord, **more: Any) -> Call:
    values: dict[str, Any] = {
        "route": "bulk-search",
        "scope": "email-verification:bulk",
        "outcome": "ok",
        "worker": "worker-1",
    }
    values |= {
        "at": timezone.now(),
        "fingerprint": "7c1e90ab44f2",
        "account": key.account,
        "key": key,
        **more,
    }
    return calls.write(Call(**values))


def charge(key: KeyRecord, credits: str, *, days: int = 0, operation: str = "email-verification") -> None:
    at = timezone.now() - timedelta(days=days)
    LedgerEntry.objects.create(
        at=at,
        kind="charged",
        credits=Decimal(credits),
        account=key.account,
        key=key,
        operation=operation,
        job=1,
    )


@pytest.mark.parametrize("role", ["viewer", "operator", "key_admin", "manager", "auditor"])
def test_key_page_opens_for_every_role(client: Client, key: KeyRecord, role: str) -> None:
    client.force_login(make_user(role=role))

    answer = client.get("/keys/sandbox_training_revops/")

    assert answer.status_code == 200
    assert "env:ICYPEAS_API_KEY" in answer.content.decode()


def test_key_page_is_refused_without_a_role(client: Client, key: KeyRecord) -> None:
    client.force_login(make_user(role=None))

    assert client.get("/keys/sandbox_training_revops/").status_code == 403


def test_key_page_leads_anonymous_people_to_the_log_in(client: Client, key: KeyRecord) -> None:
    assert client.get("/keys/sandbox_training_revops/")["Location"].startswith("/login/")


def test_key_page_of_an_unknown_name_is_not_found(client: Client, admin: User) -> None:
    client.force_login(admin)

    assert client.get("/keys/sandbox_no_such/").status_code == 404


def test_key_page_refuses_a_post(client: Client, admin: User, key: KeyRecord) -> None:
    client.force_login(admin)

    assert client.post("/keys/sandbox_training_revops/").status_code == 405


def test_key_page_offers_the_edit_to_key_admins_only(client: Client, admin: User, key: KeyRecord) -> None:
    client.force_login(admin)
    assert (
        "/keys/sandbox_training_revops/edit/" in client.get("/keys/sandbox_training_revops/").content.decode()
    )

    client.force_login(make_user(role="manager"))
    text = client.get("/keys/sandbox_training_revops/").content.decode()

    assert "/keys/sandbox_training_revops/edit/" not in text
    assert "Mira Okafor can" in text


def test_key_page_lists_what_a_draft_misses(client: Client, admin: User) -> None:
    make_key("prod_crm_sync_revops", environment="prod", state="draft")
    client.force_login(admin)

    text = client.get("/keys/prod_crm_sync_revops/").content.decode()

    assert "It lets nothing out until it has an active deputy, a team." in text
    assert "To become active" in text


def test_key_page_shows_available_credits_with_the_age_of_the_reading(client: Client, admin: User) -> None:
    read_at = timezone.now() - timedelta(minutes=5)
    key = make_key(account=make_account(balance=1000, balance_asked_at=read_at))
    LedgerEntry.objects.create(
        at=timezone.now(),
        kind="reserved",
        credits=100,
        account=key.account,
        key=key,
        operation="email-search",
        job=1,
    )
    client.force_login(admin)

    answer = client.get(f"/keys/{key.name}/")

    assert answer.context["detail"].available.credits == 900
    assert "900 credits" in answer.content.decode()
    assert "5\xa0min ago" in answer.content.decode()


def test_key_page_shows_why_the_balance_was_not_read(client: Client, admin: User, key: KeyRecord) -> None:
    Account.objects.filter(id=key.account_id).update(
        balance_error="The key was not accepted.", balance_failed_at=timezone.now()
    )
    client.force_login(admin)

    text = client.get("/keys/sandbox_training_revops/").content.decode()

    assert "never read" in text
    assert "The key was not accepted." in text


def test_key_page_holds_scopes_granted_against_used(client: Client, admin: User, key: KeyRecord) -> None:
    call(key, rows=500)
    call(key, rows=300)
    call(key, rows=200, outcome="uncertain")
    call(key, scope="leads:search", outcome="policy_scope", fingerprint="", message="no such scope")
    call(key, scope="account:read")
    call(key, rows=9, at=timezone.now() - timedelta(days=91))
    client.force_login(admin)

    detail = client.get("/keys/sandbox_training_revops/").context["detail"]

    uses = [line.use for line in detail.scopes]
    found = {use.scope: (use.is_granted, use.calls[1], use.rows[1], use.refused) for use in uses}
    assert found == {
        "email-search:bulk": (True, 0, 0, 0),
        "email-verification:bulk": (True, 3, 800, 0),
        "leads:search": (False, 0, 0, 1),
    }
    assert detail.scope_note == "2 granted, 1 used in 90 days"


def test_key_page_shows_recent_calls_and_refusals(client: Client, admin: User, key: KeyRecord) -> None:
    make_numbered_job(412)
    call(key, job=412, person="Ana Duarte", rows=500)
    call(
        key, scope="leads:search", outcome="policy_scope", message="Mira Okafor can grant it.", fingerprint=""
    )
    client.force_login(admin)

    text = client.get("/keys/sandbox_training_revops/").content.decode()

    assert '<a href="/jobs/412/">#412</a>, Ana Duarte' in text
    assert "refused: scope" in text
    assert "Mira Okafor can grant it." in text


def test_key_page_hides_the_link_to_a_job_of_another_team(client: Client, key: KeyRecord) -> None:
    call(key, job=412, person="Ana Duarte", rows=500)
    client.force_login(make_user(role="viewer", team=make_team()))

    text = client.get("/keys/sandbox_training_revops/").content.decode()

    assert "#412, Ana Duarte" in text
    assert "/jobs/412/" not in text


def test_key_page_draws_the_credits_of_each_day_in_the_colour_of_the_operation(
    client: Client, admin: User, key: KeyRecord
) -> None:
    charge(key, "3")
    charge(key, "2.5", operation="email-search")
    charge(key, "7", days=29)
    charge(key, "50", days=30)
    charge(make_key(account=key.account), "99")
    client.force_login(admin)

    detail = client.get("/keys/sandbox_training_revops/").context["detail"]

    first, last = detail.chart.days[0], detail.chart.days[-1]
    assert len(detail.chart.days) == 30
    assert last["label"] == "today"
    assert last["values"] == [Decimal("2.5"), 0, 0, Decimal(3), 0, 0]
    assert sum(first["values"]) == 7
    assert detail.line.total == Decimal("12.5")


def test_key_page_says_how_much_of_the_cap_is_used_today(client: Client, admin: User) -> None:
    key = make_key(daily_cap=Decimal(5000))
    LedgerEntry.objects.create(
        at=timezone.now(),
        kind="reserved",
        credits=1843,
        account=key.account,
        key=key,
        operation="email-search",
        job=1,
    )
    client.force_login(admin)

    assert "1,843 reserved or charged today" in client.get(f"/keys/{key.name}/").content.decode()


def test_key_page_asks_the_same_number_of_questions_for_one_call_and_for_twenty(
    client: Client, admin: User, key: KeyRecord, django_assert_num_queries: Any
) -> None:
    call(key, job=1)
    client.force_login(admin)
    client.get("/keys/sandbox_training_revops/")
    with CaptureQueriesContext(connection) as for_one:
        client.get("/keys/sandbox_training_revops/")
    for number in range(30):
        call(key, job=number, scope=f"scope-{number}")

    with django_assert_num_queries(len(for_one)):
        answer = client.get("/keys/sandbox_training_revops/")

    assert len(answer.context["detail"].calls) == 20

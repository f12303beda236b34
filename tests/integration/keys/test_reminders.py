"""Reminders before rotation and expiry: once a threshold, date and person."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection

from keys import findings, ledger, reminders
from keys.models import Budget, Finding, KeyRecord
from people.models import Notice, User
from tests import factories

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)


def key_due(days: int, **more: object) -> KeyRecord:
    return factories.make_key("sandbox_lists_ops", **{"rotate_by": NOW.date() + timedelta(days=days), **more})


def told(person: User | None) -> list[str]:
    return [notice.title for notice in Notice.objects.filter(person=person).order_by("id")]


def days_later(days: int) -> datetime:
    return NOW + timedelta(days=days)


def test_owner_and_deputy_hear_once_of_each_threshold() -> None:
    deputy = factories.make_user()
    admin = factories.make_user(role="key_admin")
    key = key_due(31, deputy=deputy)

    for day in range(35):
        reminders.remind(days_later(day))
        reminders.remind(days_later(day))

    expected = [
        "sandbox_lists_ops must be rotated in 30 days",
        "sandbox_lists_ops must be rotated in 14 days",
        "sandbox_lists_ops must be rotated in 7 days",
        "sandbox_lists_ops must be rotated in 1 day",
        "sandbox_lists_ops is 1 day late to be rotated",
    ]
    assert told(key.owner) == expected
    assert told(deputy) == expected
    assert told(admin) == []
    assert Notice.objects.filter(person=deputy).first().url == "/keys/sandbox_lists_ops/"  # type: ignore[union-attr]


def test_days_that_were_skipped_give_one_notice_of_the_nearest() -> None:
    key = key_due(40)

    reminders.remind(NOW)
    assert told(key.owner) == []
    reminders.remind(days_later(35))
    reminders.remind(days_later(36))

    assert told(key.owner) == ["sandbox_lists_ops must be rotated in 5 days"]


def test_another_date_begins_anew() -> None:
    key = key_due(6)
    reminders.remind(NOW)
    KeyRecord.objects.update(rotate_by=NOW.date() + timedelta(days=96))
    reminders.remind(NOW)

    reminders.remind(days_later(90))

    assert told(key.owner) == ["sandbox_lists_ops must be rotated in 6 days"] * 2


@pytest.mark.parametrize("owner", ["none", "disabled"])
def test_key_admins_hear_in_the_place_of_an_owner_who_is_gone(owner: str) -> None:
    deputy, admins = factories.make_user(), [factories.make_user(role="key_admin") for _ in range(4)]
    factories.make_user(role="key_admin", is_active=False)
    key = key_due(7, deputy=deputy)
    if owner == "none":
        KeyRecord.objects.update(owner=None)
    else:
        User.objects.filter(id=key.owner_id).update(is_active=False)

    reminders.remind(NOW)

    people = set(Notice.objects.values_list("person", flat=True))
    assert people == {deputy.id, *(admin.id for admin in admins)}


def test_expiry_is_reminded_of_too_and_once_when_it_is_past() -> None:
    key = key_due(300, expires_at=NOW.date() + timedelta(days=1))

    for day in (0, 1, 2, 3):
        reminders.remind(days_later(day))

    assert told(key.owner) == ["sandbox_lists_ops expires in 1 day", "sandbox_lists_ops has expired"]


def test_records_that_let_nothing_out_are_not_reminded_of() -> None:
    for state in ("draft", "revoked", "quarantined"):
        factories.make_key(state=state, rotate_by=NOW.date())
    factories.make_key(rotate_by=NOW.date() + timedelta(days=31))

    assert reminders.remind(NOW) == 0


def test_owner_and_deputy_hear_once_of_each_threshold_of_a_finding() -> None:
    deputy = factories.make_user()
    key = key_due(400, deputy=deputy, last_used_at=NOW)
    KeyRecord.objects.update(created_at=NOW)
    findings.refresh(
        now=days_later(30)
    )  # a warning: scopes that were not used for 30 days, due 30 days later
    title = Finding.objects.get().title
    assert told(key.owner) == []

    for day in range(30, 65):
        reminders.remind(days_later(day))
        reminders.remind(days_later(day))

    expected = [
        f"sandbox_lists_ops: {title}, {left}"
        for left in ("due in 30 days", "due in 14 days", "due in 7 days", "due in 1 day", "1 day late")
    ]
    assert told(key.owner) == expected
    assert told(deputy) == expected


def test_finding_that_comes_back_is_reminded_of_anew_and_an_excepted_one_is_not() -> None:
    key = key_due(400, last_used_at=NOW)
    KeyRecord.objects.update(created_at=NOW)
    findings.refresh(now=days_later(30))
    Finding.objects.update(excepted_until=days_later(50).date(), exception_reason="a pilot")

    reminders.remind(days_later(49))
    assert told(key.owner) == []
    findings.refresh(now=days_later(51))
    reminders.remind(days_later(51))

    assert [title.rpartition(", ")[2] for title in told(key.owner)] == ["due in 30 days"]


def test_bad_finding_that_was_just_told_is_not_reminded_of_at_once_to_the_same_person() -> None:
    deputy = factories.make_user()
    key = key_due(400, deputy=deputy, last_used_at=NOW, let_in_outcome="vendor_401")
    findings.refresh(now=NOW)
    (begun,) = told(key.owner)

    for day in (0, 6, 8):
        reminders.remind(days_later(day))

    assert told(key.owner) == [begun, f"{begun}, due in 1 day", f"{begun}, 1 day late"]
    assert told(deputy) == [f"{begun}, due in 7 days", f"{begun}, due in 1 day", f"{begun}, 1 day late"]


@pytest.mark.django_db(transaction=True)
def test_schedulers_that_meet_remind_once() -> None:
    key = key_due(7)
    gate = threading.Barrier(4)

    def run() -> None:
        gate.wait()
        try:
            reminders.remind(NOW)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(told(key.owner)) == 1


def test_sweep_reminds_once_an_hour() -> None:
    key = key_due(7)

    assert reminders.sweep(NOW)
    assert not reminders.sweep(NOW + timedelta(minutes=59))
    assert reminders.sweep(NOW + timedelta(minutes=60))
    assert len(told(key.owner)) == 1


def test_budget_that_is_reached_tells_the_teams_managers_and_the_owner_once() -> None:
    team = factories.make_team("RevOps")
    manager = factories.make_user(role="manager", team=team)
    for role, other in (("manager", factories.make_team()), ("operator", team), ("key_admin", team)):
        factories.make_user(role=role, team=other)
    key = factories.make_key(team=team, account=factories.make_account(balance=1000))
    Budget.objects.create(
        team=team, realm="sandbox", first_month=date(2020, 1, 1), credits=Decimal(100), reason="x"
    )

    for job, credits in enumerate((40, 45, 5, 10), start=1):
        ledger.reserve(key=key, operation="email-search", job=job, credits=Decimal(credits))

    for person in (manager, key.owner):
        titles = [title.partition(" of ")[0] for title in told(person)]
        assert titles == ["RevOps reached 80 %", "RevOps reached 100 %"]
    assert Notice.objects.count() == 4
    first = Notice.objects.filter(person=manager).order_by("id")[0]
    assert first.text.startswith("85 of 100 credits are reserved or charged")
    assert first.url == "/spend/"

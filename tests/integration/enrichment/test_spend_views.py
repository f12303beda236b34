"""The spend page: budgets of a month, and estimate, receipts and balance side by side."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from enrichment import spend_page
from keys import ledger
from keys.clock import db_now
from keys.models import Budget, KeyRecord, LedgerEntry
from keys.services import store_balance
from people.models import Team, User
from tests import factories

pytestmark = pytest.mark.django_db
AsPerson = Callable[[User], Client]


def words(response: Any) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())))


@pytest.fixture
def team() -> Team:
    return factories.make_team("RevOps")


@pytest.fixture
def manager(team: Team) -> User:
    return factories.make_user(role="manager", name="Mia Wong", team=team)


@pytest.fixture
def key(team: Team) -> KeyRecord:
    return factories.make_key(team=team, account=factories.make_account("Sandbox"))


def spend(key: KeyRecord, job: int, reserved: int, charged: int) -> None:
    ledger.reserve(key=key, operation="email-search", job=job, credits=Decimal(reserved))
    ledger.charge(key=key, operation="email-search", job=job, credits=Decimal(charged))


def read(key: KeyRecord, credits: int, *, ago_s: float) -> None:
    store_balance(key.account, credits=Decimal(credits), asked_at=db_now() - timedelta(seconds=ago_s))


def count(key: KeyRecord) -> spend_page.Count:
    key.account.refresh_from_db()
    now = db_now()
    return spend_page.count_of(key.account, now - timedelta(days=2), now + timedelta(days=1))


# --- three counts ------------------------------------------------------------------------------------------------------


def test_receipts_and_balance_that_agree_say_so(key: KeyRecord) -> None:
    read(key, 1000, ago_s=60)
    spend(key, 1, 50, 30)
    LedgerEntry.objects.update(at=db_now() - timedelta(seconds=30))
    read(key, 970, ago_s=0)

    counted = count(key)

    assert (counted.receipts, counted.balance_fell, counted.difference) == (30, 30, 0)
    assert counted.verdict == "Receipts and balance agree."


def test_difference_is_shown_and_a_top_up_is_no_spending(key: KeyRecord) -> None:
    read(key, 1000, ago_s=90)
    read(key, 1500, ago_s=60)
    spend(key, 1, 50, 30)
    LedgerEntry.objects.update(at=db_now() - timedelta(seconds=30))
    read(key, 1456, ago_s=0)

    counted = count(key)

    assert (counted.topped_up, counted.balance_fell, counted.difference) == (500, 44, 14)
    assert "14 more than our receipts: something else spends from this account" in counted.verdict
    assert counted.tone == "warn"


def test_charge_after_the_last_reading_is_not_compared(key: KeyRecord) -> None:
    read(key, 1000, ago_s=60)
    read(key, 1000, ago_s=10)
    spend(key, 1, 50, 30)

    assert (count(key).receipts, count(key).balance_fell) == (0, 0)


def test_one_reading_says_that_there_is_nothing_to_compare(key: KeyRecord) -> None:
    assert count(key).difference is None
    read(key, 1000, ago_s=10)

    assert count(key).difference is None
    assert "not read twice" in count(key).verdict


# --- the page ------------------------------------------------------------------------------------------------------------


def test_budget_shows_what_is_charged_set_aside_and_left(
    as_person: AsPerson, manager: User, team: Team, key: KeyRecord
) -> None:
    month = timezone.localdate().replace(day=1)
    Budget.objects.create(team=team, realm="sandbox", first_month=month, credits=Decimal(200), reason="x")
    spend(key, 1, 170, 20)
    factories.make_job(1, created_by=manager)  # else the overview is that of the first day
    client = as_person(manager)

    text = words(client.get("/spend/"))

    assert "RevOps team, sandbox money · 80 % reached" in text
    assert "200 20 170 30" in text
    assert "RevOps reached 80 % of its budget" in words(client.get("/"))
    assert "No budget in this month" in words(client.get("/spend/?month=2001-01"))


def test_budget_is_set_by_the_form(as_person: AsPerson, manager: User, team: Team) -> None:
    client = as_person(manager)
    month = timezone.localdate().replace(day=1).isoformat()
    told = {"owner": f"team-{team.id}-sandbox", "credits": "500", "first_month": month, "reason": "Agreed"}

    refused = client.post("/spend/budget/", {**told, "reason": "", "owner": "team-999-sandbox"})
    assert refused.status_code == 422
    assert "Say why" in words(refused)
    assert "Choose a team or a key of the list." in words(refused)
    assert client.post("/spend/budget/", told).status_code == 303

    assert Budget.objects.get().credits == 500


def test_operator_sees_the_own_team_alone_and_sets_nothing(
    as_person: AsPerson, manager: User, team: Team, key: KeyRecord
) -> None:
    month = timezone.localdate().replace(day=1)
    other = factories.make_team("Growth")
    for owner in (team, other):
        Budget.objects.create(team=owner, realm="sandbox", first_month=month, credits=Decimal(9), reason="x")
    client = as_person(factories.make_user(role="operator", team=team))

    text = words(client.get("/spend/"))

    assert "RevOps" in text
    assert "Growth" not in text
    assert "Mia Wong can set budgets." in text
    assert client.get("/spend/budget/").status_code == 403
    assert client.post("/spend/budget/", {}).status_code == 403


def test_start_above_the_budget_says_how_many_rows_fit(
    as_person: AsPerson, team: Team, key: KeyRecord, wakes: list[Any]
) -> None:
    month = timezone.localdate().replace(day=1)
    key.account.balance = Decimal(1000)
    key.account.save()
    Budget.objects.create(key=key, realm="sandbox", first_month=month, credits=Decimal(2), reason="x")
    person = factories.make_user(team=team)
    lines = "".join(f"ann{n}@firm.example\n" for n in range(30))
    job = factories.make_job_from_file(
        f"Email\n{lines}".encode(), created_by=person, operation="email-verification"
    )
    told = {"key": str(key.id), "freshness_days": "90", "purpose": "x", "token": job.start_token}

    answer = as_person(person).post(f"/jobs/{job.id}/start/", told)

    assert answer.status_code == 422
    assert f"the budget of {key.name}" in words(answer)
    assert "That is enough for 20 rows." in words(answer)
    job.refresh_from_db()
    assert job.state == "draft"

"""Monthly budgets: what counts, who may set them, notices once, and two jobs for the last credits."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from keys import budgets, gate, ledger
from keys.choices import Outcome
from keys.clock import db_now
from keys.models import Budget, BudgetNotice, KeyRecord, LedgerEntry
from people.audit import SYSTEM, Actor
from people.models import AuditEntry, Team
from tests import factories

MONTH = date(2020, 1, 1)


@pytest.fixture
def team(db: None) -> Team:
    return factories.make_team("RevOps")


@pytest.fixture
def key(team: Team) -> KeyRecord:
    return factories.make_key(team=team, account=factories.make_account(balance=1000))


def budget_of(credits: int | None, **owner: Any) -> Budget:
    realm = owner["key"].account.realm if "key" in owner else "sandbox"
    return Budget.objects.create(
        first_month=MONTH,
        realm=realm,
        credits=None if credits is None else Decimal(credits),
        reason="x",
        **owner,
    )


def reserve(key: KeyRecord, job: int, credits: int) -> None:
    ledger.reserve(key=key, operation="email-search", job=job, credits=Decimal(credits))


def paid_errand(key: KeyRecord) -> gate.Errand:
    return gate.Errand(
        key_id=key.id,
        environment=key.environment,
        scope="email-search:bulk",
        route="bulk-search",
        interval_s=0,
        rows=3,
    )


@pytest.mark.parametrize("owner", ["team", "key"])
def test_reservation_above_the_budget_is_refused_with_what_fits(
    team: Team, key: KeyRecord, owner: str
) -> None:
    budget_of(100, **{owner: team if owner == "team" else key})
    manager = factories.make_user(role="manager", name="Mia Wong")
    reserve(key, 1, 80)

    with pytest.raises(ledger.ReservationError) as refused:
        reserve(key, 2, 21)

    assert (refused.value.limit, refused.value.fits) == ("budget", Decimal(20))
    assert manager.name in refused.value.message
    reserve(key, 2, 20)
    assert budgets.standing(Budget.objects.get()).left == 0


def test_what_is_released_may_be_spent_again_and_what_is_charged_not(team: Team, key: KeyRecord) -> None:
    budget = budget_of(100, team=team)
    reserve(key, 1, 100)
    ledger.charge(key=key, operation="email-search", job=1, credits=Decimal(60))
    ledger.release(key=key, operation="email-search", job=1, credits=Decimal(40))

    standing = budgets.standing(budget)

    assert (standing.committed, standing.charged, standing.left) == (60, 60, 40)


def test_notices_come_once_at_each_threshold(team: Team, key: KeyRecord) -> None:
    budget_of(100, team=team)

    for job, credits in enumerate((40, 15, 5, 20, 10, 10), start=1):
        reserve(key, job, credits)
    ledger.release(key=key, operation="email-search", job=4, credits=Decimal(20))
    reserve(key, 7, 20)

    assert list(BudgetNotice.objects.order_by("threshold").values_list("threshold", "committed")) == [
        (50, 55),
        (80, 80),
        (100, 100),
    ]


def test_a_month_begins_in_the_teams_zone(team: Team, key: KeyRecord) -> None:
    team.time_zone = "America/New_York"
    team.save()
    budget = budget_of(100, team=team)
    reserve(key, 1, 30)
    reserve(key, 2, 50)
    # 1 November 2020, 03:00 UTC is still October in New York.
    LedgerEntry.objects.filter(job=1).update(at=datetime(2020, 11, 1, 3, tzinfo=UTC))
    LedgerEntry.objects.filter(job=2).update(at=datetime(2020, 11, 1, 5, tzinfo=UTC))

    assert budgets.standing(budget, date(2020, 10, 1)).committed == 30
    assert budgets.standing(budget, date(2020, 11, 1)).committed == 50
    assert budgets.month_of(budget, datetime(2020, 11, 1, 3, tzinfo=UTC)) == date(2020, 10, 1)


def test_realms_never_mix(team: Team, key: KeyRecord) -> None:
    budget_of(10, team=team)
    live = factories.make_key(
        team=team, environment="prod", account=factories.make_account("Live", realm="live", balance=1000)
    )

    reserve(live, 1, 500)

    with pytest.raises(ledger.ReservationError):
        reserve(key, 2, 11)


def test_the_newest_that_has_begun_holds_and_none_takes_it_away(team: Team, key: KeyRecord) -> None:
    budget_of(10, team=team)
    budget_of(50, team=team)
    Budget.objects.create(
        team=team, realm="sandbox", first_month=date(2999, 1, 1), credits=Decimal(1), reason="later"
    )
    assert [budget.credits for budget in budgets.for_key(key)] == [50]

    budget_of(None, team=team)

    assert budgets.for_key(key) == []
    reserve(key, 1, 500)


def test_lowered_budget_stops_the_next_paid_call_and_names_who_can_raise_it(
    team: Team, key: KeyRecord, settings: Any
) -> None:
    budget_of(100, team=team)
    factories.make_user(role="manager", name="Mia Wong")
    reserve(key, 1, 80)
    budget_of(50, team=team)

    with pytest.raises(gate.GateRefusedError) as refused:
        gate.admit(paid_errand(key), max_wait_s=0)

    assert refused.value.outcome == Outcome.POLICY_BUDGET
    assert "Mia Wong" in refused.value.message
    assert "is 50 credits and 80 are reserved or charged" in refused.value.message


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("accounts", [1, 2])
def test_two_jobs_of_80_at_once_on_a_budget_of_100_one_runs(accounts: int) -> None:
    team = factories.make_team("RevOps")
    keys = [
        factories.make_key(team=team, account=factories.make_account(f"Account {n % accounts}", balance=1000))
        if n < accounts
        else None
        for n in range(2)
    ]
    first = keys[0]
    assert first is not None
    second = keys[1] or factories.make_key(team=team, account=first.account)
    budget_of(100, team=team)
    barrier = threading.Barrier(2)
    said: list[str] = []

    def start(key: KeyRecord, job: int) -> None:
        barrier.wait(10)
        try:
            reserve(key, job, 80)
            said.append("")
        except ledger.ReservationError as error:
            said.append(error.message)
        finally:
            connection.close()

    threads = [
        threading.Thread(target=start, args=(key, job)) for job, key in enumerate((first, second), start=1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(bool(message) for message in said) == [False, True]
    assert "leaves 20 of 100" in max(said)
    assert LedgerEntry.objects.count() == 1


def test_budget_is_set_with_a_reason_and_an_audit_line(team: Team) -> None:
    manager = factories.make_user(role="manager")

    budget = budgets.set_budget(
        Actor(manager),
        team=team,
        realm="sandbox",
        first_month=date.today().replace(day=1),
        credits=Decimal(500),
        reason="Agreed in spring",
    )

    assert (budget.owner, budget.credits) == ("RevOps", 500)
    entry = AuditEntry.objects.get(action="budget.set")
    assert (entry.actor, entry.reason, entry.detail["credits a month"]) == (
        manager,
        "Agreed in spring",
        "500",
    )


def test_who_may_not_set_it_a_past_month_and_no_reason_are_refused(team: Team) -> None:
    with pytest.raises(budgets.BudgetError) as refused:
        budgets.set_budget(
            Actor(factories.make_user(role="operator")),
            first_month=MONTH,
            credits=Decimal(-1),
            reason=" ",
        )

    assert set(refused.value.fields) == {"owner", "credits", "first_month", "reason"}
    assert not Budget.objects.exists()
    assert SYSTEM.user is None


def a_month_ago(job: int) -> None:
    LedgerEntry.objects.filter(job=job).update(at=db_now() - timedelta(days=32))


@pytest.mark.parametrize("limit", ["budget", "cap"])
def test_job_of_before_that_reserves_again_counts_with_what_it_reserves_now(
    team: Team, key: KeyRecord, limit: str
) -> None:
    if limit == "budget":
        budget_of(100, team=team)
    else:
        KeyRecord.objects.filter(id=key.id).update(daily_cap=100)
        key.refresh_from_db()
    reserve(key, 1, 100)
    ledger.charge(key=key, operation="email-search", job=1, credits=Decimal(95))
    ledger.release(key=key, operation="email-search", job=1, credits=Decimal(5))
    a_month_ago(job=1)

    reserve(key, 1, 10)

    with pytest.raises(gate.GateRefusedError) as beyond:
        gate.admit(paid_errand(key), max_wait_s=0)
    assert beyond.value.outcome == Outcome.SECRET_MISSING  # which is asked after budget and cap
    with pytest.raises(ledger.ReservationError) as refused:
        reserve(key, 2, 91)
    assert (refused.value.limit, refused.value.fits) == (limit, 90)


def test_each_month_keeps_what_was_reserved_in_it(team: Team, key: KeyRecord) -> None:
    budget = budget_of(1000, team=team)
    reserve(key, 1, 100)
    ledger.charge(key=key, operation="email-search", job=1, credits=Decimal(60))
    a_month_ago(job=1)
    before = budgets.month_of(budget, db_now() - timedelta(days=32))

    reserve(key, 1, 50)
    ledger.release(
        key=key, operation="email-search", job=1, credits=Decimal(45)
    )  # 40 of the first, 5 of the second
    ledger.charge(key=key, operation="email-search", job=1, credits=Decimal(7))

    then, now = budgets.standing(budget, before), budgets.standing(budget)
    assert (then.committed, then.charged) == (60, 60)
    assert (now.committed, now.charged) == (45, 7)


def test_team_that_reserved_gets_back_and_pays_though_the_record_has_another_by_now(
    team: Team, key: KeyRecord
) -> None:
    other = factories.make_team("Sales")
    mine, theirs = budget_of(100, team=team), budget_of(100, team=other)
    reserve(key, 1, 80)
    key.team = other
    key.save()
    reserve(key, 1, 30)

    ledger.release(key=key, operation="email-search", job=1, credits=Decimal(50))
    ledger.charge(key=key, operation="email-search", job=1, credits=Decimal(40))

    first, second = budgets.standing(mine), budgets.standing(theirs)
    assert (first.committed, first.charged) == (30, 30)
    assert (second.committed, second.charged) == (30, 10)
    assert ledger.job_sums(1).open == 20


def test_what_costs_nothing_starts_whatever_is_left(team: Team, key: KeyRecord) -> None:
    budget_of(0, team=team)
    reserve_more = factories.make_key(account=key.account)
    reserve(reserve_more, 1, 900)
    type(key.account).objects.filter(id=key.account_id).update(balance=Decimal(100))

    reserve(key, 2, 0)

    assert not LedgerEntry.objects.filter(job=2).exists()

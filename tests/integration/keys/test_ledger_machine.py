"""The ledger as a state machine: random reservations, charges, releases, readings, caps, budgets and days against a plain model.

`LEDGER_EXAMPLES=10000` runs so many examples instead of the few of `make test`; `LEDGER_STEPS` the steps of each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from unittest import mock

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from keys import budgets, ledger
from keys.models import Account, Budget, BudgetNotice, KeyRecord, LedgerEntry
from keys.services import store_balance
from tests import factories

EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "25"))
STEPS = int(os.environ.get("LEDGER_STEPS", "20"))
amounts = st.integers(1, 4_000).map(lambda tenths: Decimal(tenths) / 10)
smallest = Decimal("0.001")


@dataclass
class Job:
    """What the model knows of a job: every thousandth of a credit that it ever reserved, in order, as the day on which it
    was reserved. The first `settled` of them are charged or given back; `returned` are the places of those given back."""

    key: int
    stretches: list[tuple[date, int]] = field(default_factory=list)  # day, thousandths
    settled: int = 0
    returned: list[tuple[int, int]] = field(default_factory=list)  # from, to

    @property
    def reserved(self) -> Decimal:
        return Decimal(sum(size for _, size in self.stretches)) / 1000

    @property
    def released(self) -> Decimal:
        return Decimal(sum(end - begin for begin, end in self.returned)) / 1000

    @property
    def charged(self) -> Decimal:
        return Decimal(self.settled) / 1000 - self.released

    @property
    def open(self) -> Decimal:
        return self.reserved - Decimal(self.settled) / 1000

    def settle(self, credits: Decimal, *, is_charge: bool) -> None:
        begin, self.settled = self.settled, self.settled + int(credits * 1000)
        if not is_charge:
            self.returned.append((begin, self.settled))

    def counted(self, is_meant: Callable[[date], bool]) -> tuple[Decimal, Decimal]:
        """Committed and charged of the days that are meant."""
        committed = charged = begin = 0
        for day, size in self.stretches:
            end = begin + size
            if is_meant(day):
                back = sum(max(0, min(end, to) - max(begin, since)) for since, to in self.returned)
                committed += size - back
                charged += max(0, min(end, self.settled) - begin) - back
            begin = end
        return Decimal(committed) / 1000, Decimal(charged) / 1000


class LedgerMachine(RuleBasedStateMachine):
    """Two keys of one team on one account; the first has a daily cap, the team a monthly budget."""

    @initialize()
    def begin(self) -> None:
        self.now = datetime(2026, 11, 28, 8, tzinfo=UTC)
        self.clock = mock.patch.multiple("keys.ledger", db_now=self.tick)
        self.budget_clock = mock.patch.multiple("keys.budgets", db_now=self.tick)
        self.clock.start()
        self.budget_clock.start()
        self.undo = transaction.atomic()
        self.undo.__enter__()
        self.team = factories.make_team()
        self.account = factories.make_account(balance=1000)
        Account.objects.filter(id=self.account.id).update(balance_asked_at=self.now)
        self.keys = [factories.make_key(team=self.team, account=self.account) for _ in range(2)]
        self.cap: Decimal | None = None
        self.budget: Decimal | None = None
        self.balance = Decimal(1000)  # as last read
        self.unseen = Decimal(0)  # charged since
        self.provider = Decimal(1000)
        self.jobs: dict[int, Job] = {}
        self.entries: list[tuple[int, str, Decimal]] = []

    def tick(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now

    def teardown(self) -> None:
        if not hasattr(self, "undo"):
            return
        transaction.set_rollback(True)
        self.undo.__exit__(None, None, None)
        self.clock.stop()
        self.budget_clock.stop()

    # --- the model -----------------------------------------------------------------------------------------------------

    def key(self, number: int) -> KeyRecord:
        return KeyRecord.objects.select_related("account", "team").get(id=self.keys[number].id)

    def available(self) -> Decimal:
        return self.balance - self.unseen - sum((job.open for job in self.jobs.values()), Decimal(0))

    def counted(self, number: int | None, *, month: bool) -> tuple[Decimal, Decimal]:
        today = self.now.date()

        def is_meant(day: date) -> bool:
            return day.replace(day=1) == today.replace(day=1) if month else day == today

        jobs = [job for job in self.jobs.values() if number is None or job.key == number]
        parts = [job.counted(is_meant) for job in jobs]
        return sum((part[0] for part in parts), Decimal(0)), sum((part[1] for part in parts), Decimal(0))

    def committed(self, number: int | None, *, month: bool) -> Decimal:
        return self.counted(number, month=month)[0]

    def limits(self, number: int) -> list[tuple[str, Decimal]]:
        """What bounds a reservation, in the order in which it is asked."""
        found = [("balance", self.available())]
        if number == 0 and self.cap is not None:
            found.append(("cap", self.cap - self.committed(0, month=False)))
        if self.budget is not None:
            found.append(("budget", self.budget - self.committed(None, month=True)))
        return [(name, max(left, Decimal(0))) for name, left in found]

    # --- what happens ----------------------------------------------------------------------------------------------------

    @rule(number=st.integers(0, 1), credits=amounts, again=st.booleans())
    def reserve(self, number: int, credits: Decimal, again: bool) -> None:
        mine = [job for job, one in self.jobs.items() if one.key == number]
        job = mine[0] if again and mine else len(self.jobs) + 1
        self._reserve(number, job, credits)

    @rule(number=st.integers(0, 1))
    def reserve_all_that_fits_and_not_a_bit_more(self, number: int) -> None:
        least = min(left for _, left in self.limits(number))
        if least > 0:
            self._reserve(number, len(self.jobs) + 1, least + smallest)
            self._reserve(number, len(self.jobs) + 1, least)

    def _reserve(self, number: int, job: int, credits: Decimal) -> None:
        too_small = next(((name, left) for name, left in self.limits(number) if credits > left), None)
        if too_small:
            with pytest.raises(ledger.ReservationError) as refused, transaction.atomic():
                ledger.reserve(key=self.key(number), operation="email-search", job=job, credits=credits)
            assert (refused.value.limit, refused.value.fits) == too_small
            return
        ledger.reserve(key=self.key(number), operation="email-search", job=job, credits=credits)
        kept = self.jobs.setdefault(job, Job(number))
        kept.stretches.append((self.now.date(), int(credits * 1000)))

    @precondition(lambda self: any(job.open for job in self.jobs.values()))
    @rule(data=st.data(), is_charge=st.booleans())
    def settle(self, data: st.DataObject, is_charge: bool) -> None:
        number = data.draw(st.sampled_from([number for number, job in self.jobs.items() if job.open]))
        job = self.jobs[number]
        share = data.draw(st.sampled_from([1, 2, 3]))
        credits = (job.open / share).quantize(smallest)
        book = ledger.charge if is_charge else ledger.release
        book(key=self.key(job.key), operation="email-search", job=number, credits=credits)
        job.settle(credits, is_charge=is_charge)
        if is_charge:
            self.unseen += credits
            self.provider -= credits

    @rule()
    def read_the_balance(self) -> None:
        store_balance(self.account, credits=self.provider, asked_at=self.tick())
        self.balance, self.unseen = self.provider, Decimal(0)

    @rule(credits=amounts)
    def late_answer_of_an_older_reading_changes_nothing(self, credits: Decimal) -> None:
        store_balance(self.account, credits=credits, asked_at=self.now - timedelta(days=400))

    @rule(credits=amounts)
    def credits_are_bought(self, credits: Decimal) -> None:
        self.provider += credits

    @rule(cap=st.none() | amounts)
    def change_the_cap(self, cap: Decimal | None) -> None:
        KeyRecord.objects.filter(id=self.keys[0].id).update(daily_cap=cap)
        self.cap = cap

    @rule(credits=st.none() | amounts)
    def set_the_budget(self, credits: Decimal | None) -> None:
        Budget.objects.create(
            team=self.team,
            realm=self.account.realm,
            first_month=date(2026, 1, 1),
            credits=credits,
            reason="x",
        )
        self.budget = credits

    @rule(days=st.integers(1, 3))
    def days_pass(self, days: int) -> None:
        self.now += timedelta(days=days)

    # --- what always holds -------------------------------------------------------------------------------------------------

    @invariant()
    def each_job_adds_up(self) -> None:
        for number, job in getattr(self, "jobs", {}).items():
            sums = ledger.job_sums(number)
            assert (sums.reserved, sums.charged, sums.released) == (job.reserved, job.charged, job.released)
            assert sums.open >= 0

    @invariant()
    def what_is_left_is_what_the_model_says(self) -> None:
        if not hasattr(self, "jobs"):
            return
        self.account.refresh_from_db()
        left = ledger.available(self.account)
        assert left.credits == self.available()
        for number in range(2):
            assert ledger.committed_today(self.key(number)) == self.committed(number, month=False)
        for budget in budgets.for_key(self.key(1)):
            standing = budgets.standing(budget)
            assert (standing.committed, standing.charged) == self.counted(None, month=True)

    @invariant()
    def nothing_written_ever_changes(self) -> None:
        if not hasattr(self, "entries"):
            return
        now = list(LedgerEntry.objects.order_by("id").values_list("id", "kind", "credits"))
        assert now[: len(self.entries)] == self.entries
        self.entries = now

    @invariant()
    def each_notice_comes_once(self) -> None:
        if hasattr(self, "jobs"):
            notices = list(BudgetNotice.objects.values_list("month", "threshold"))
            assert len(notices) == len(set(notices))


@pytest.mark.timeout(max(180, EXAMPLES * STEPS // 10))
@pytest.mark.django_db
def test_ledger_keeps_its_promises_whatever_happens() -> None:
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )

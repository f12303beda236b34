"""What the spend page says: budgets in a month, and for each account estimate, receipts and balance side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from django.db.models import QuerySet
from django.utils import timezone

from enrichment.choices import RowState
from enrichment.models import EnrichmentJob, EnrichmentRow
from keys import budgets, ledger
from keys.budgets import Standing
from keys.choices import EntryKind
from keys.credit_sum import CreditSum
from keys.models import Account, BalanceReading, LedgerEntry
from people.models import User
from people.rights import Right

ZERO = Decimal(0)


@dataclass(frozen=True)
class BudgetLine:
    """A budget with its bar: shares of the budget that are charged and set aside, at most 1 together."""

    standing: Standing
    reached: str
    tone: str
    owner_value: str

    @property
    def credits_value(self) -> str:
        """For the form: without separators."""
        return f"{self.standing.credits.normalize():f}"

    @property
    def share(self) -> Decimal:
        return min(self.standing.percent / 100, Decimal(1))


@dataclass(frozen=True)
class Count:
    """One account's three-way count between two readings. `balance_fell` is what the readings say was spent, with
    top-ups set apart; `expected` are the estimates of the jobs that started meanwhile; `at_icypeas` is the most that rows can
    account for which Icypeas may have charged and whose answers are not booked yet. None: fewer than two readings."""

    account: Account
    since: datetime | None
    until: datetime | None
    expected: Decimal
    receipts: Decimal
    balance_fell: Decimal | None
    topped_up: Decimal
    at_icypeas: Decimal

    @property
    def difference(self) -> Decimal | None:
        return None if self.balance_fell is None else self.balance_fell - self.receipts

    @property
    def verdict(self) -> str:
        """What the difference means, as a sentence."""
        difference = self.difference
        if difference is None:
            return "The balance was not read twice in this time, so there is nothing to compare yet."
        if not difference:
            return "Receipts and balance agree."
        words = ledger.words(abs(difference))
        if difference < 0:
            return f"The balance fell by {words} less than our receipts: Icypeas may book later, or charged less."
        if difference <= self.at_icypeas:
            return f"The balance fell by {words} more than our receipts; rows that are still at Icypeas can explain it."
        return f"The balance fell by {words} more than our receipts: something else spends from this account, or a charge is not known here."

    @property
    def tone(self) -> str:
        difference = self.difference
        if difference is None or not difference:
            return ""
        return "" if 0 < difference <= self.at_icypeas else "warn"


@dataclass(frozen=True)
class Page:
    month: date
    earlier: date
    later: date | None
    budgets: Sequence[BudgetLine]
    counts: Sequence[Count]


def page(user: User, month: date) -> Page:
    """The month's spend as far as the person may see it: all teams, or their own."""
    sees_all = user.may(Right.VIEW_ALL_JOBS)
    teams = None if sees_all else [user.team] if user.team else []
    this_month = timezone.localdate().replace(day=1)
    following = (month + timedelta(days=32)).replace(day=1)
    accounts = Account.objects.order_by("name")
    if not sees_all:
        accounts = accounts.filter(keys__team=user.team).distinct() if user.team else accounts.none()
    return Page(
        month=month,
        earlier=(month - timedelta(days=1)).replace(day=1),
        later=following if following <= this_month else None,
        budgets=[_line(budgets.standing(budget, month)) for budget in budgets.all_of(month, teams)],
        counts=[count_of(account, *_bounds(month)) for account in accounts],
    )


def _bounds(month: date) -> tuple[datetime, datetime]:
    """A month in the reader's zone."""
    zone = timezone.get_current_timezone()
    following = (month + timedelta(days=32)).replace(day=1)
    return (
        datetime(month.year, month.month, 1, tzinfo=zone),
        datetime(following.year, following.month, 1, tzinfo=zone),
    )


def _line(standing: Standing) -> BudgetLine:
    budget = standing.budget
    highest = max((threshold for threshold, _ in standing.notices), default=0)
    value = f"key-{budget.key_id}" if budget.key_id else f"team-{budget.team_id}-{budget.realm}"
    over = standing.committed > standing.credits
    tone = "bad" if over or highest == 100 else "warn" if highest >= 80 else ""
    reached = "over the budget" if over else f"{highest} % reached" if highest else ""
    return BudgetLine(standing, reached, tone, value)


def count_of(account: Account, begin: datetime, end: datetime) -> Count:
    """The account between its last reading before `begin` (or its first after it) and its last before `end`."""
    before = account.readings.filter(asked_at__lt=begin).order_by("-asked_at")[:1]
    readings = [*before, *account.readings.filter(asked_at__gte=begin, asked_at__lt=end).order_by("asked_at")]
    if not readings:
        return Count(account, None, None, ZERO, ZERO, None, ZERO, ZERO)
    since, until = readings[0].asked_at, _last_asked(account, readings, end)
    charges = LedgerEntry.objects.filter(account=account, kind=EntryKind.CHARGED, at__gt=since, at__lte=until)
    jobs = EnrichmentJob.objects.filter(key__account=account, started_at__gt=since, started_at__lte=until)
    steps = [after.credits - earlier.credits for earlier, after in pairwise(readings)]
    return Count(
        account=account,
        since=since,
        until=until,
        expected=jobs.aggregate(sum=CreditSum("estimate_expected", default=ZERO))["sum"],
        receipts=charges.aggregate(sum=CreditSum("credits", default=ZERO))["sum"],
        balance_fell=-sum((step for step in steps if step < 0), ZERO) if until > since else None,
        topped_up=sum((step for step in steps if step > 0), ZERO),
        at_icypeas=_at_icypeas(account),
    )


def _last_asked(account: Account, readings: Sequence[BalanceReading], end: datetime) -> datetime:
    """Readings that say the same as the one before are not kept, so the account knows the time of the newest."""
    newest = account.balance_asked_at
    return newest if newest and readings[-1].asked_at <= newest < end else readings[-1].asked_at


def _at_icypeas(account: Account) -> Decimal:
    """The most that rows without an answer may have cost."""
    rows: QuerySet[EnrichmentRow] = EnrichmentRow.objects.filter(
        job__key__account=account, is_lead=True, state__in=(RowState.IN_FLIGHT, RowState.UNCERTAIN)
    )
    return rows.aggregate(sum=CreditSum("job__price", default=ZERO))["sum"] or ZERO

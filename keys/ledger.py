"""The money ledger: what is reserved, charged and released, and what is left to spend.

For every job: reserved = charged + released + open.
`reserve` does the sum and the insert under the account's lock, so two jobs never spend the same balance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Q, QuerySet

from keys import budgets
from keys.choices import EntryKind
from keys.clock import db_now
from keys.credit_sum import CreditSum
from keys.models import Account, KeyRecord, LedgerEntry
from people.rights import Right
from people.selectors import who_can

ZERO = Decimal(0)


def words(credits: Decimal) -> str:
    """Credits as people read them: `12,400`, `271.2`."""
    return f"{credits.normalize():,f}"


class ReservationError(Exception):
    """The credits cannot be reserved. `fits` is how many credits would, `limit` names what is too small."""

    def __init__(self, message: str, *, limit: str, fits: Decimal) -> None:
        super().__init__(message)
        self.message = message
        self.limit = limit
        self.fits = fits


@dataclass(frozen=True)
class JobSums:
    """Credits of one job. `open` is reserved and neither charged nor released yet."""

    reserved: Decimal = ZERO
    charged: Decimal = ZERO
    released: Decimal = ZERO

    @property
    def open(self) -> Decimal:
        return self.reserved - self.charged - self.released


@dataclass(frozen=True)
class Available:
    """What can still be spent on an account: `credits` = `balance` - `unseen_charges` - `reserved`; None while unread."""

    balance: Decimal | None
    read_at: datetime | None
    unseen_charges: Decimal
    reserved: Decimal

    @property
    def credits(self) -> Decimal | None:
        if self.balance is None:
            return None
        return self.balance - self.unseen_charges - self.reserved


def _sums(entries: QuerySet[LedgerEntry]) -> JobSums:
    totals = entries.aggregate(
        **{kind.value: CreditSum("credits", filter=Q(kind=kind), default=ZERO) for kind in EntryKind}
    )
    return JobSums(**totals)


def job_sums(job: int) -> JobSums:
    """Credits of one job, from its entries."""
    return _sums(LedgerEntry.objects.filter(job=job))


def sums_by_job(jobs: Iterable[int]) -> dict[int, JobSums]:
    """Credits of several jobs in one query; a job without entries is absent."""
    rows = (
        LedgerEntry.objects.filter(job__in=list(jobs))
        .order_by()
        .values_list("job")
        .annotate(
            reserved=CreditSum("credits", filter=Q(kind=EntryKind.RESERVED), default=ZERO),
            charged=CreditSum("credits", filter=Q(kind=EntryKind.CHARGED), default=ZERO),
            released=CreditSum("credits", filter=Q(kind=EntryKind.RELEASED), default=ZERO),
        )
    )
    return {job: JobSums(*sums) for job, *sums in rows}


def available(account: Account) -> Available:
    """What is left on the account, with the age of the reading."""
    entries = LedgerEntry.objects.filter(account=account)
    later = Q(at__gt=account.balance_asked_at) if account.balance_asked_at else Q(id__isnull=True)
    # One statement: a charge booked between two would leave the reservations and not be among the charges yet.
    totals = entries.aggregate(
        **{kind.value: CreditSum("credits", filter=Q(kind=kind), default=ZERO) for kind in EntryKind},
        unseen=CreditSum("credits", filter=Q(kind=EntryKind.CHARGED) & later, default=ZERO),
    )
    unseen = totals.pop("unseen")
    return Available(account.balance, account.balance_asked_at, unseen, JobSums(**totals).open)


def committed_today(key: KeyRecord) -> Decimal:
    """Credits that count against the key's daily cap: reserved by jobs that started today (the key's zone), less released."""
    midnight = db_now().astimezone(ZoneInfo(key.time_zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    jobs_of_today = LedgerEntry.objects.filter(key=key, kind=EntryKind.RESERVED, at__gte=midnight).values(
        "job"
    )
    sums = _sums(LedgerEntry.objects.filter(key=key, job__in=jobs_of_today))
    return sums.reserved - sums.released


def reserve(*, key: KeyRecord, operation: str, job: int, credits: Decimal, note: str = "") -> None:
    """Set `credits` aside for a job, or raise `ReservationError`. The sum and the insert happen under the account's lock."""
    with transaction.atomic():
        account = Account.objects.select_for_update(no_key=True).get(id=key.account_id)
        left = available(account).credits
        if left is not None and credits > left:
            raise ReservationError(
                f"This can cost {words(credits)} credits and {words(max(left, ZERO))} are available on {account.name}.",
                limit="balance",
                fits=max(left, ZERO),
            )
        if key.daily_cap is not None:
            cap_left = max(key.daily_cap - committed_today(key), ZERO)
            if credits > cap_left:
                raise ReservationError(
                    f"This can cost {words(credits)} credits and the daily cap of {key.name} leaves {words(cap_left)}.",
                    limit="cap",
                    fits=cap_left,
                )
        budgets.lock(key)
        for budget in budgets.for_key(key):
            standing = budgets.standing(budget)
            if credits > standing.left:
                raise ReservationError(
                    f"This can cost {words(credits)} credits and {standing.name} leaves {words(standing.left)} "
                    f"of {words(standing.credits)}. {who_can(Right.SET_BUDGETS)} can raise it.",
                    limit="budget",
                    fits=standing.left,
                )
        _append(
            EntryKind.RESERVED, key=key, operation=operation, job=job, credits=credits, batch=None, note=note
        )
        budgets.note_thresholds(key)


def charge(
    *, key: KeyRecord, operation: str, job: int, credits: Decimal, batch: int | None = None, note: str = ""
) -> None:
    """Book `credits` of the job's reservation as paid. Call inside the transaction that records the answers."""
    if credits:
        _append(
            EntryKind.CHARGED, key=key, operation=operation, job=job, credits=credits, batch=batch, note=note
        )


def release(
    *, key: KeyRecord, operation: str, job: int, credits: Decimal, batch: int | None = None, note: str = ""
) -> None:
    """Give `credits` of the job's reservation back."""
    if credits:
        _append(
            EntryKind.RELEASED, key=key, operation=operation, job=job, credits=credits, batch=batch, note=note
        )


def _append(
    kind: EntryKind,
    *,
    key: KeyRecord,
    operation: str,
    job: int,
    credits: Decimal,
    batch: int | None,
    note: str,
) -> None:
    LedgerEntry.objects.create(
        at=db_now(),
        kind=kind,
        credits=credits,
        account_id=key.account_id,
        key=key,
        team_id=key.team_id,
        operation=operation,
        job=job,
        batch=batch,
        note=note,
    )

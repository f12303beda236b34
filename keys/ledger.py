"""The money ledger: what is reserved, charged and released, and what is left to spend.

For every job: reserved = charged + released + open.
`reserve` does the sum and the insert under the account's lock, so two jobs never spend the same balance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import takewhile
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Count, FilteredRelation, Min, Q, QuerySet
from django.db.models.functions import TruncHour

from keys import budgets
from keys.choices import EntryKind
from keys.clock import db_now
from keys.counted import counted
from keys.credit_sum import CreditSum
from keys.models import Account, ChargeHour, JobUse, KeyRecord, LedgerEntry, LedgerHold, LedgerMark
from people.rights import Right
from people.selectors import who_can

ZERO = Decimal(0)
SETTLED_AFTER = timedelta(hours=1)  # no transaction that books credits is open for so long
FOLD_AT_ONCE = 5000


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


def _folded(**whose: object) -> tuple[int, Decimal]:
    """How far the ledger is folded, and what was still held there by an account: read in one statement, as they change."""
    held = CreditSum("holds__credits", filter=Q(**{f"holds__{name}": value for name, value in whose.items()}))
    found = LedgerMark.objects.values_list("up_to").annotate(held=held).order_by("up_to").first()
    return (found[0], found[1] or ZERO) if found else (0, ZERO)


def available(account: Account) -> Available:
    """What is left on the account, with the age of the reading."""
    up_to, held = _folded(account=account)
    is_new = Q(id__gt=up_to)
    is_unseen = (
        Q(kind=EntryKind.CHARGED, at__gt=account.balance_asked_at)
        if account.balance_asked_at
        else Q(id__isnull=True)
    )
    # One statement: a charge booked between two would leave the reservations and not be among the charges yet.
    totals = LedgerEntry.objects.filter(is_new | is_unseen, account=account).aggregate(
        **{
            kind.value: CreditSum("credits", filter=is_new & Q(kind=kind), default=ZERO) for kind in EntryKind
        },
        unseen=CreditSum("credits", filter=is_unseen, default=ZERO),
    )
    unseen = totals.pop("unseen")
    return Available(account.balance, account.balance_asked_at, unseen, held + JobSums(**totals).open)


def open_jobs(key: KeyRecord) -> dict[int, Decimal]:
    """Jobs that hold credits of this key now, and how many: reserved, and neither charged nor released."""
    rows = list(
        LedgerMark.objects.annotate(hold=FilteredRelation("holds", condition=Q(holds__key=key))).values_list(
            "up_to", "hold__job", "hold__credits"
        )
    )
    up_to = rows[0][0] if rows else 0
    held: dict[int, Decimal] = {job: credits for _, job, credits in rows if job is not None}
    later = LedgerEntry.objects.filter(key=key, id__gt=up_to).order_by().values_list("job", "kind")
    for job, kind, credits in later.annotate(total=CreditSum("credits")):
        held[job] = held.get(job, ZERO) + (credits if kind == EntryKind.RESERVED else -credits)
    return {job: credits for job, credits in sorted(held.items(), reverse=True) if credits > 0}


def fold(limit: int = FOLD_AT_ONCE) -> int:
    """Fold settled entries, so that no page sums them again: what jobs still hold, and what was charged in each hour. How
    many entries and charges.

    An entry gets number and time before others see it, so what is younger than an hour is left alone: no transaction takes
    so long. Nothing is folded before the oldest is twice that old, so that the rows are not changed all the time.
    """
    mark = LedgerMark.objects.filter(id=1).first() or LedgerMark(id=1)
    if not _has_old_entry(mark) and not _has_old_charge(mark):
        return 0  # nothing is locked while there is nothing to do
    with transaction.atomic():
        LedgerMark.objects.get_or_create(id=1)
        mark = LedgerMark.objects.select_for_update().get(id=1)
        return _fold_holds(mark, limit) + _fold_charges(mark, limit)


def _has_old_entry(mark: LedgerMark) -> bool:
    first = LedgerEntry.objects.filter(id__gt=mark.up_to).order_by("id").first()
    return first is not None and first.at <= db_now() - 2 * SETTLED_AFTER


def _has_old_charge(mark: LedgerMark) -> bool:
    begin = _first_charge(mark.charged_until)
    return begin is not None and begin + SETTLED_AFTER <= _settled_hour()


def _settled_hour() -> datetime:
    """All charges before that full hour are booked and seen."""
    return _hour(db_now() - SETTLED_AFTER)


def _hour(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _fold_holds(mark: LedgerMark, limit: int) -> int:
    if not _has_old_entry(mark):
        return 0
    now = db_now()
    entries = LedgerEntry.objects.filter(id__gt=mark.up_to).order_by("id")
    rows = entries.values_list("id", "at", "account_id", "key_id", "job", "kind", "credits")[:limit]
    settled = list(takewhile(lambda row: row[1] < now - SETTLED_AFTER, rows))
    changes: dict[tuple[int, int, int], Decimal] = {}
    for _id, _at, account, key, job, kind, credits in settled:
        whose = (account, key, job)
        changes[whose] = changes.get(whose, ZERO) + (credits if kind == EntryKind.RESERVED else -credits)
    jobs = {job for _account, _key, job in changes}
    for hold in LedgerHold.objects.filter(job__in=jobs):
        whose = (hold.account_id, hold.key_id, hold.job)
        if whose in changes:
            changes[whose] += hold.credits
            hold.delete()
    LedgerHold.objects.bulk_create(
        LedgerHold(mark=mark, account_id=account, key_id=key, job=job, credits=credits)
        for (account, key, job), credits in changes.items()
        if credits
    )
    LedgerMark.objects.filter(id=mark.id).update(up_to=settled[-1][0])
    return len(settled)


def _fold_charges(mark: LedgerMark, limit: int) -> int:
    """Whole hours, so that a reader who knows an older mark finds its hours unchanged and the rest in the ledger."""
    begin = _first_charge(mark.charged_until)
    if begin is None or not _has_old_charge(mark):
        return 0
    # As many hours as the limit takes, and at least one.
    until = min(_hour_after_charges(begin, limit), _settled_hour())
    charges = LedgerEntry.objects.filter(kind=EntryKind.CHARGED, at__gte=begin, at__lt=until)
    rows = list(
        charges.order_by()
        .annotate(hour=TruncHour("at", tzinfo=UTC))
        .values_list("key_id", "hour", "operation", "job")
        .annotate(total=CreditSum("credits"), entries=Count("id"))
    )
    people = dict(
        JobUse.objects.filter(job__in={row[3] for row in rows}).order_by("id").values_list("job", "person")
    )
    sums: dict[tuple[int, datetime, str, str], Decimal] = {}
    for key, hour, operation, job, total, _entries in rows:
        line = (key, hour, operation, people.get(job, ""))
        sums[line] = sums.get(line, ZERO) + total
    ChargeHour.objects.bulk_create(
        ChargeHour(key_id=key, hour=hour, operation=operation, person=person, credits=credits)
        for (key, hour, operation, person), credits in sums.items()
    )
    LedgerMark.objects.filter(id=mark.id).update(charged_until=until)
    return sum(row[-1] for row in rows)


def _first_charge(since: datetime | None) -> datetime | None:
    """The hour of the first charge that is not folded yet."""
    charges = LedgerEntry.objects.filter(kind=EntryKind.CHARGED)
    if since is not None:
        charges = charges.filter(at__gte=since)
    first = charges.order_by("at").values_list("at", flat=True).first()
    return _hour(first) if first else None


def _hour_after_charges(begin: datetime, limit: int) -> datetime:
    """The full hour after so many charges from `begin` on."""
    charges = LedgerEntry.objects.filter(kind=EntryKind.CHARGED, at__gte=begin).order_by("at")
    times = list(charges.values_list("at", flat=True)[limit - 1 : limit])
    last = times[0] if times else db_now()
    return _hour(last) + timedelta(hours=1)


def charged_until() -> datetime | None:
    """Before that full hour charges are read from `ChargeHour`, from it on from the entries."""
    return LedgerMark.objects.values_list("charged_until", flat=True).first()


def committed_today(key: KeyRecord) -> Decimal:
    """Credits that count against the key's daily cap: reserved since midnight in the key's zone, less what was given back."""
    midnight = db_now().astimezone(ZoneInfo(key.time_zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    return counted(LedgerEntry.objects.filter(key=key), midnight).committed


def reserve(*, key: KeyRecord, operation: str, job: int, credits: Decimal, note: str = "") -> None:
    """Set `credits` aside for a job, or raise `ReservationError`. The sum and the insert happen under the account's lock."""
    if not credits:  # whatever is left: what costs nothing needs nothing
        return
    with transaction.atomic():
        account = Account.objects.select_for_update(no_key=True).get(id=key.account_id)
        # As it is now: a page, or a question at a terminal, may have shown it long before.
        present = KeyRecord.objects.filter(id=key.id, account=account).first()
        if present is None:
            raise ReservationError(
                f"{key.name} was just moved from {account.name} to another account. Look at the figures again.",
                limit="account",
                fits=ZERO,
            )
        key = present
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
            EntryKind.RESERVED,
            key=key,
            payer=_Payer(account.id, key.team_id),
            operation=operation,
            job=job,
            credits=credits,
            note=note,
        )
        budgets.note_thresholds(key)


def charge(
    *, key: KeyRecord, operation: str, job: int, credits: Decimal, batch: int | None = None, note: str = ""
) -> None:
    """Book `credits` of the job's reservation as paid. Call inside the transaction that records the answers."""
    _settle(EntryKind.CHARGED, key=key, operation=operation, job=job, credits=credits, batch=batch, note=note)


def release(
    *, key: KeyRecord, operation: str, job: int, credits: Decimal, batch: int | None = None, note: str = ""
) -> None:
    """Give `credits` of the job's reservation back."""
    _settle(
        EntryKind.RELEASED, key=key, operation=operation, job=job, credits=credits, batch=batch, note=note
    )


@dataclass(frozen=True)
class _Payer:
    """Whose credits an entry moves."""

    account: int
    team: int | None


def _settle(
    kind: EntryKind,
    *,
    key: KeyRecord,
    operation: str,
    job: int,
    credits: Decimal,
    batch: int | None,
    note: str,
) -> None:
    """Book against the account and team that reserved, wherever the record belongs by now."""
    if not credits:
        return
    for payer, share in _shares(key, job, credits):
        _append(
            kind,
            key=key,
            payer=payer,
            operation=operation,
            job=job,
            credits=share,
            batch=batch,
            note=note,
        )


def _shares(key: KeyRecord, job: int, credits: Decimal) -> list[tuple[_Payer, Decimal]]:
    """Who reserved the credits of a job that are settled now: as good as always one; of several, who reserved first."""
    entries = LedgerEntry.objects.filter(job=job).order_by()
    reserved = entries.filter(kind=EntryKind.RESERVED)
    by_first = reserved.values_list("account", "team").annotate(first=Min("id")).order_by("first")
    payers = [_Payer(account, team) for account, team, _ in by_first] or [_Payer(key.account_id, key.team_id)]
    if len(payers) == 1:
        return [(payers[0], credits)]
    shares = []
    for payer in payers:
        still_open = max(_sums(entries.filter(account=payer.account, team=payer.team)).open, ZERO)
        share = min(credits, still_open)
        credits -= share
        if share:
            shares.append((payer, share))
    if credits:  # more than was ever reserved: nothing is lost, and the ledger's checks show it
        shares.append((payer, credits))
    return shares


def _append(
    kind: EntryKind,
    *,
    key: KeyRecord,
    payer: _Payer,
    operation: str,
    job: int,
    credits: Decimal,
    batch: int | None = None,
    note: str,
) -> None:
    LedgerEntry.objects.create(
        at=db_now(),
        kind=kind,
        credits=credits,
        account_id=payer.account,
        key=key,
        team_id=payer.team,
        operation=operation,
        job=job,
        batch=batch,
        note=note,
    )

"""What keys were used for: last use, scopes, jobs and people, calls and credits a day.

Nothing here counts calls: whatever speaks of many is read from the sums that `calls.write` keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Q, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from keys import ledger
from keys.choices import POLICY_OUTCOMES, EntryKind, Outcome
from keys.credit_sum import CreditSum
from keys.findings import words_of_day
from keys.models import Call, CallHour, ChargeHour, JobUse, KeyRecord, LedgerEntry
from keys.scopes import SCOPES, WORKLOADS
from people.models import AuditEntry

DAYS, MORE_DAYS = 30, 90


def operation_words(operation: str, rows: int = 0) -> str:
    """ "verify 3,100 emails"; without rows "verify emails"."""
    if operation not in WORKLOADS:
        return "balance check" if operation == "balance" else operation.replace("-", " ") or "free call"
    verb, one, many = WORKLOADS[operation].words
    return f"{verb} 1 {one}" if rows == 1 else f"{verb} {rows:,} {many}" if rows else f"{verb} {many}"


@dataclass(frozen=True)
class LastUse:
    """When a key was last used through this app, in its ways of not knowing.

    `state` is `used`, `idle` (not lately), `never`, or `unknown` (the secret is older than its record). `text` says why
    there is no time, `rest` what the use was beside its `job`, `ending` where it was made and how it ended.
    """

    state: str
    at: datetime | None
    text: str
    rest: str
    job: int | None = None
    ending: str = ""
    is_ok: bool = True

    @property
    def detail(self) -> str:
        """Everything but the time, as one text."""
        parts = (f"#{self.job}" if self.job else "", self.rest, self.ending)
        return ", ".join(part for part in parts if part)


def last_use(key: KeyRecord) -> LastUse:
    """The age is left to the page."""
    if key.last_used_at is None:
        made = words_of_day(timezone.localtime(key.created_at).date())
        if key.was_used_before:
            return LastUse("unknown", None, f"unknown before {made}", "in use before it was recorded here")
        return LastUse("never", None, "never through this app", f"tracked since {made}")
    said = operation_words(key.last_used_operation, key.last_used_rows)
    outcome = Outcome(key.last_used_outcome).label if key.last_used_outcome else ""
    worker = f"from {key.last_used_worker}" if key.last_used_worker else ""
    return LastUse(
        "idle" if key.last_used_at < timezone.now() - timedelta(days=settings.UNUSED_DAYS) else "used",
        key.last_used_at,
        "",
        f"{said}, {key.last_used_by}" if key.last_used_by else said,
        key.last_used_job,
        ", ".join(part for part in (worker, outcome) if part),
        is_ok=key.last_used_outcome in ("", Outcome.OK),
    )


def recent_calls(key: KeyRecord, limit: int = 20) -> list[Call]:
    return list(Call.objects.filter(key=key).order_by("-at", "-id")[:limit])


# --- scopes --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScopeUse:
    """One scope of a key, granted against used. `refused` counts 90 days; `last_at` is of all time."""

    scope: str
    is_granted: bool
    granted_on: date | None
    rows: Sequence[int]  # of 30 and 90 days
    calls: Sequence[int]
    last_at: datetime | None
    last_job: int | None
    last_by: str
    refused: int
    refused_at: datetime | None
    refused_by: str
    refused_job: int | None

    @property
    def is_unused(self) -> bool:
        """Granted, and never used through this app."""
        return self.is_granted and self.last_at is None


def scope_use(key: KeyRecord) -> list[ScopeUse]:
    """Scopes granted, used and refused. Free calls need none, so they are not among them."""
    hours = CallHour.objects.filter(key=key, scope__in=SCOPES).order_by()
    let_out, refused = hours.exclude(outcome__in=POLICY_OUTCOMES), hours.filter(outcome__in=POLICY_OUTCOMES)
    sums = _sums_of_scopes(hours)
    scopes = sorted({*key.scopes, *sums})
    times = {scope: line.last_hour for scope, line in sums.items() if line.last_hour}
    longer_ago = [scope for scope in scopes if scope not in times] if key.last_used_at else []
    if longer_ago:
        earlier = let_out.filter(scope__in=longer_ago).values_list("scope")
        times |= dict(earlier.annotate(newest=Max("hour")))
    last = _in_hours(let_out, times)
    refusals = _in_hours(
        refused, {scope: line.refused_hour for scope, line in sums.items() if line.refused_hour}
    )
    granted = _granted_on(key)
    return [
        _scope(
            scope,
            key,
            sums.get(scope, _ScopeSums()),
            last.get(scope),
            refusals.get(scope),
            granted.get(scope),
        )
        for scope in scopes
    ]


@dataclass
class _ScopeSums:
    """One scope in 30 and 90 days: calls that were let out, rows that were sent, refusals of 90 days, and the newest hour of
    each kind."""

    calls_30: int = 0
    calls_90: int = 0
    rows_30: int = 0
    rows_90: int = 0
    refused: int = 0
    last_hour: datetime | None = None
    refused_hour: datetime | None = None


def _sums_of_scopes(hours: QuerySet[CallHour]) -> dict[str, _ScopeSums]:
    """By scope. The database sums by outcome, which an index answers alone; what an outcome means is told here."""
    now = timezone.now()
    recent = Q(hour__gte=now - timedelta(days=DAYS))
    rows = (
        hours.filter(hour__gte=now - timedelta(days=MORE_DAYS))
        .values_list("scope", "outcome")
        .annotate(
            calls_30=Sum("calls", filter=recent, default=0),
            calls_90=Sum("calls"),
            rows_30=Sum("rows", filter=recent, default=0),
            rows_90=Sum("rows"),
            newest=Max("hour"),
        )
    )
    sums: dict[str, _ScopeSums] = {}
    for scope, outcome, calls_30, calls_90, rows_30, rows_90, newest in rows:
        line = sums.setdefault(scope, _ScopeSums())
        if outcome in POLICY_OUTCOMES:
            line.refused += calls_90
            line.refused_hour = max(line.refused_hour or newest, newest)
            continue
        line.calls_30 += calls_30
        line.calls_90 += calls_90
        line.last_hour = max(line.last_hour or newest, newest)
        if outcome == Outcome.OK:
            line.rows_30, line.rows_90 = rows_30, rows_90
    return sums


def _in_hours(hours: QuerySet[CallHour], times: Mapping[str, datetime]) -> dict[str, CallHour]:
    """The line of each scope in its hour; of several outcomes the last."""
    if not times:
        return {}
    near = hours.filter(scope__in=times, hour__in=set(times.values())).order_by("last_at")
    return {line.scope: line for line in near if line.hour == times[line.scope]}


def _scope(
    scope: str,
    key: KeyRecord,
    sums: _ScopeSums,
    last: CallHour | None,
    refusal: CallHour | None,
    granted_on: date | None,
) -> ScopeUse:
    is_granted = scope in key.scopes
    return ScopeUse(
        scope=scope,
        is_granted=is_granted,
        granted_on=(granted_on or timezone.localtime(key.created_at).date()) if is_granted else None,
        rows=(sums.rows_30, sums.rows_90),
        calls=(sums.calls_30, sums.calls_90),
        last_at=last.last_at if last else None,
        last_job=last.last_job if last else None,
        last_by=last.last_by if last else "",
        refused=sums.refused,
        refused_at=refusal.last_at if refusal else None,
        refused_by=refusal.last_by if refusal else "",
        refused_job=refusal.last_job if refusal else None,
    )


def _granted_on(key: KeyRecord) -> dict[str, date]:
    """The day since which each scope is granted without a break, by the record's history."""
    days: dict[str, date] = {}
    entries = AuditEntry.objects.filter(
        object_type="keyrecord", object_id=key.id, detail__has_key="scopes"
    ).order_by("id")
    for action, at, told in entries.values_list("action", "at", "detail"):
        if action == "key.created":
            at = key.created_at
        scopes = told["scopes"]
        now = set(str(scopes[1] if isinstance(scopes, list) else scopes).split(", "))
        day = timezone.localtime(at).date()
        days = {scope: days.get(scope, day) for scope in now}
    return days


# --- jobs and people -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JobLine:
    """What one job did with a key, in its whole life. `job` is 0 for calls without one."""

    use: JobUse
    credits: Decimal


@dataclass(frozen=True)
class PersonLine:
    """What one person's jobs of the last days did with a key; "" is the app itself. Credits are of those days."""

    name: str
    jobs: int
    calls: int
    rows: int
    refused: int
    credits: Decimal
    last_at: datetime


def _recent_uses(key: KeyRecord, days: int) -> QuerySet[JobUse]:
    return JobUse.objects.filter(key=key, last_at__gte=timezone.now() - timedelta(days=days))


def jobs_of_key(key: KeyRecord, *, days: int = DAYS, limit: int = 8) -> list[JobLine]:
    """Jobs that used the key lately, the newest first, with what they were charged in all."""
    uses = list(_recent_uses(key, days).exclude(job=0).order_by("-last_at")[:limit])
    sums = ledger.sums_by_job(use.job for use in uses)
    return [JobLine(use, sums[use.job].charged if use.job in sums else Decimal(0)) for use in uses]


def count_jobs(key: KeyRecord, days: int = DAYS) -> int:
    return int(_recent_uses(key, days).exclude(job=0).aggregate(n=Count("job", distinct=True))["n"])


def people_of_key(key: KeyRecord, days: int = DAYS) -> list[PersonLine]:
    """People whose jobs used the key lately, the busiest first; the app's own free calls come last, without a name."""
    rows = (
        _recent_uses(key, days)
        .order_by()
        .values("person")
        .annotate(
            jobs=Count("job", distinct=True, filter=~Q(job=0)),
            n=Sum("calls"),
            sent=Sum("rows"),
            no=Sum("refused"),
            last=Max("last_at"),
        )
    )
    credits = _charged_by_person(key, days)
    lines = [
        PersonLine(
            row["person"],
            row["jobs"],
            row["n"],
            row["sent"],
            row["no"],
            credits.get(row["person"], Decimal(0)),
            row["last"],
        )
        for row in rows
    ]
    return sorted(lines, key=lambda line: (not line.name, -line.credits, -line.calls, line.name))


def people_of_jobs(key: KeyRecord, jobs: Sequence[int]) -> dict[int, str]:
    """Whose jobs they are, as far as they used the key."""
    return dict(JobUse.objects.filter(key=key, job__in=jobs).order_by("id").values_list("job", "person"))


def _charged_by_person(key: KeyRecord, days: int) -> dict[str, Decimal]:
    """Credits by the person of the job that was charged. The ledger names jobs and no people, so what is not folded yet is
    brought together here."""
    first = _first_moment(days)
    until = ledger.charged_until() or first
    folded = ChargeHour.objects.filter(key=key, hour__gte=first, hour__lt=until).order_by()
    sums = dict(folded.values_list("person").annotate(total=CreditSum("credits")))
    new = LedgerEntry.objects.filter(key=key, kind=EntryKind.CHARGED, at__gte=max(first, until)).order_by()
    by_job = dict(new.values_list("job").annotate(total=CreditSum("credits")))
    people = people_of_jobs(key, list(by_job))
    for job, credits in by_job.items():
        name = people.get(job, "")
        sums[name] = sums.get(name, Decimal(0)) + credits
    return sums


# --- days ----------------------------------------------------------------------------------------------------------------


def window(days: int) -> list[date]:
    """The last `days` days in the viewer's zone, oldest first, today included."""
    today = timezone.localdate()
    return [today - timedelta(days=back) for back in range(days - 1, -1, -1)]


def _first_moment(days: int) -> datetime:
    return datetime.combine(window(days)[0], time.min, tzinfo=timezone.get_current_timezone())


def _charged(days: int, *names: str, **whose: Any) -> list[tuple[Any, ...]]:
    """Rows of `names` and the credits charged: settled hours from their sums, and what came since from the ledger. `day` is
    the viewer's; an hour belongs to the day in which it begins."""
    first = _first_moment(days)
    until = ledger.charged_until() or first
    folded = ChargeHour.objects.filter(hour__gte=first, hour__lt=until, **whose).annotate(
        day=TruncDate("hour")
    )
    new = LedgerEntry.objects.filter(kind=EntryKind.CHARGED, at__gte=max(first, until), **whose)
    both = (folded, new.annotate(day=TruncDate("at")))
    sums = [rows.order_by().values_list(*names).annotate(total=CreditSum("credits")) for rows in both]
    return list(sums[0].union(sums[1], all=True))


def charged_by_key(days: int = DAYS) -> dict[int, Decimal]:
    """Credits charged per key over the last days."""
    sums: dict[int, Decimal] = {}
    for key, credits in _charged(days, "key"):
        sums[key] = sums.get(key, Decimal(0)) + credits
    return sums


def charged_per_day(key: KeyRecord, days: int = DAYS) -> dict[tuple[str, str], Decimal]:
    """Credits per (ISO day, operation) of one key."""
    sums: dict[tuple[str, str], Decimal] = {}
    for day, operation, credits in _charged(days, "day", "operation", key=key):
        place = (day.isoformat(), operation)
        sums[place] = sums.get(place, Decimal(0)) + credits
    return sums


def charged_per_day_by_key(key_ids: Sequence[int], days: int = DAYS) -> dict[int, list[Decimal]]:
    """Credits of each day of the window, oldest first, for several keys; a key without charges is absent."""
    place = {day: index for index, day in enumerate(window(days))}
    sums: dict[int, list[Decimal]] = {}
    for key, day, credits in _charged(days, "key", "day", key__in=key_ids):
        if day in place:  # an entry of the next second may already be tomorrow's
            sums.setdefault(key, [Decimal(0)] * days)[place[day]] += credits
    return sums


def calls_per_day(key: KeyRecord, days: int = DAYS) -> dict[tuple[str, str, str], int]:
    """Calls and refusals per (ISO day, scope, outcome) of one key. An hour belongs to the day in which it begins."""
    hours = CallHour.objects.filter(key=key, hour__gte=_first_moment(days)).order_by()
    rows = hours.annotate(day=TruncDate("hour")).values("day", "scope", "outcome").annotate(n=Sum("calls"))
    return {(row["day"].isoformat(), row["scope"], row["outcome"]): row["n"] for row in rows}

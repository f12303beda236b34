"""What keys were used for: last use, calls, scopes, credits a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Max, Q, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from keys.choices import POLICY_OUTCOMES, EntryKind, Outcome
from keys.credit_sum import CreditSum
from keys.findings import words_of_day
from keys.models import Call, KeyRecord, LedgerEntry

# Operations are known here by name only; these are the words for a line of text.
OPERATION_WORDS = {
    "email-search": "find emails",
    "email-verification": "verify emails",
    "domain-search": "scan domains",
    "balance": "balance check",
}


@dataclass(frozen=True)
class LastUse:
    """When a key was last used through this app, in the ways of not knowing. `detail` is `job` and `rest` as one text."""

    at: datetime | None
    text: str
    detail: str
    job: int | None = None
    rest: str = ""


def last_use(key: KeyRecord) -> LastUse:
    """The age is left to the page; `text` says why there is no time, `detail` what the use was."""
    if key.last_used_at is None:
        tracked = f"tracked since {words_of_day(key.created_at.date())}"
        return LastUse(None, "never through this app", tracked, rest=tracked)
    parts = [OPERATION_WORDS.get(key.last_used_operation, key.last_used_operation.replace("-", " "))]
    if key.last_used_rows:
        parts.append("1 row" if key.last_used_rows == 1 else f"{key.last_used_rows:,} rows")
    if key.last_used_by:
        parts.append(key.last_used_by)
    rest = ", ".join(parts)
    job = key.last_used_job
    return LastUse(key.last_used_at, "", f"#{job}, {rest}" if job else rest, job, rest)


def recent_calls(key: KeyRecord, limit: int = 20) -> list[Call]:
    return list(Call.objects.filter(key=key).order_by("-id")[:limit])


@dataclass(frozen=True)
class ScopeUse:
    """One scope of a key, granted against used."""

    scope: str
    is_granted: bool
    rows: int
    calls: int
    refused: int
    last_at: datetime | None


def scope_use(key: KeyRecord, days: int = 90) -> list[ScopeUse]:
    """Scopes granted, and those that were refused, with what they were used for."""
    since = timezone.now() - timedelta(days=days)
    let_out = ~Q(outcome__in=POLICY_OUTCOMES)
    used: dict[str, dict[str, Any]] = {
        row["scope"]: dict(row)
        for row in Call.objects.filter(key=key, at__gte=since)
        .exclude(scope="account:read")
        .order_by()
        .values("scope")
        .annotate(
            n=Count("id", filter=let_out),
            total_rows=Sum("rows", filter=Q(outcome=Outcome.OK), default=0),
            refused=Count("id", filter=~let_out),
            last_at=Max("at", filter=let_out),
        )
    }
    unused = {"total_rows": 0, "n": 0, "refused": 0, "last_at": None}
    return [
        ScopeUse(scope, scope in key.scopes, row["total_rows"], row["n"], row["refused"], row["last_at"])
        for scope, row in ((scope, used.get(scope, unused)) for scope in sorted({*key.scopes, *used}))
    ]


def window(days: int) -> list[date]:
    """The last `days` days in the viewer's zone, oldest first, today included."""
    today = timezone.localdate()
    return [today - timedelta(days=back) for back in range(days - 1, -1, -1)]


def _charged_in(days: int) -> QuerySet[LedgerEntry]:
    first = datetime.combine(window(days)[0], time.min, tzinfo=timezone.get_current_timezone())
    return LedgerEntry.objects.filter(kind=EntryKind.CHARGED, at__gte=first).order_by()


def charged_by_key(days: int = 30) -> dict[int, Decimal]:
    """Credits charged per key over the last days."""
    rows = _charged_in(days).values("key").annotate(total=CreditSum("credits"))
    return {row["key"]: row["total"] for row in rows}


def charged_per_day(key: KeyRecord, days: int = 30) -> dict[tuple[str, str], Decimal]:
    """Credits per (ISO day, operation) of one key."""
    rows = _charged_in(days).filter(key=key).annotate(day=TruncDate("at")).values("day", "operation")
    return {
        (row["day"].isoformat(), row["operation"]): row["total"]
        for row in rows.annotate(total=CreditSum("credits"))
    }


def charged_per_day_by_key(key_ids: Sequence[int], days: int = 30) -> dict[int, list[Decimal]]:
    """Credits of each day of the window, oldest first, for several keys; a key without charges is absent."""
    place = {day: index for index, day in enumerate(window(days))}
    rows = _charged_in(days).filter(key__in=key_ids).annotate(day=TruncDate("at")).values("key", "day")
    sums: dict[int, list[Decimal]] = {}
    for row in rows.annotate(total=CreditSum("credits")):
        if row["day"] in place:  # an entry of the next second may already be tomorrow's
            sums.setdefault(row["key"], [Decimal(0)] * days)[place[row["day"]]] = row["total"]
    return sums


def jobs_of_key(key: KeyRecord, days: int = 30) -> tuple[int, int]:
    """Jobs and people that used the key lately."""
    since = timezone.now() - timedelta(days=days)
    found = Call.objects.filter(key=key, at__gte=since, job__isnull=False).aggregate(
        jobs=Count("job", distinct=True), people=Count("person", distinct=True)
    )
    return found["jobs"], found["people"]

"""Reads for the page of all calls of a key: a page at a time, by index, however many there are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import Any

from django.db.models import Max, Q, QuerySet
from django.utils import timezone

from keys import calls, job_links, use
from keys.call_filter import GROUPS, REFUSED, CallFilter, Place
from keys.choices import POLICY_OUTCOMES, Outcome
from keys.findings import words_of_day
from keys.inventory import CallLine, call_line
from keys.models import Call, JobUse, KeyRecord
from keys.scopes import ACCOUNT_READ
from people.models import User

PAGE = 50
CHUNK = 1_000  # calls that an export reads at a time
PEOPLE = 30  # names that the filter offers


@dataclass(frozen=True)
class CallPage:
    """One page, newest first. `newest` and `older` are addresses, "" at the ends; `kept_since` is None when calls are kept
    for ever, `is_removed` says that the day asked for is older."""

    lines: Sequence[CallLine]
    newest: str
    older: str
    shown: str
    kept_since: datetime | None
    is_removed: bool


def filter_calls(key: KeyRecord, wanted: CallFilter) -> QuerySet[Call]:
    """Calls of a filter, newest first."""
    found = Call.objects.filter(key=key)
    if wanted.outcome in GROUPS:
        # Said for both, so that the index of calls that are not ok serves.
        found = found.exclude(outcome=Outcome.OK)
        if wanted.outcome == REFUSED:
            found = found.filter(outcome__in=POLICY_OUTCOMES)
    elif wanted.outcome:
        found = found.filter(outcome=wanted.outcome)
        if wanted.outcome != Outcome.OK:
            found = found.exclude(outcome=Outcome.OK)
    if wanted.scope:
        found = found.filter(scope=wanted.scope)
    if wanted.day:
        found = found.filter(at__gte=_start_of(wanted.day), at__lt=_start_of(wanted.day + timedelta(days=1)))
    if wanted.person:
        found = found.filter(person=wanted.person)
    if wanted.job is not None:
        found = found.filter(job=wanted.job) if wanted.job else found.filter(job__isnull=True)
    return found.order_by("-at", "-id")


def _start_of(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=timezone.get_current_timezone())


def get_page(key: KeyRecord, wanted: CallFilter, user: User) -> CallPage:
    found = filter_calls(key, wanted)
    if wanted.before:
        at, number = wanted.before.at, wanted.before.number
        found = found.filter(
            Q(at__lt=at) | Q(id__lt=number), at__lte=at
        )  # the last bound is one that an index takes
    shown = list(found[: PAGE + 1])
    has_more, shown = len(shown) > PAGE, shown[:PAGE]
    openable = job_links.openable(user, [call.job for call in shown])
    since = calls.kept_since()
    return CallPage(
        lines=[call_line(call, openable) for call in shown],
        newest=wanted.address() if wanted.before else "",
        older=wanted.address(before=Place(shown[-1].at, shown[-1].id)) if has_more else "",
        shown=f"{len(shown)} call{'' if len(shown) == 1 else 's'} on this page",
        kept_since=since,
        is_removed=bool(since and wanted.day and _start_of(wanted.day + timedelta(days=1)) <= since),
    )


def chips(key: KeyRecord, wanted: CallFilter) -> list[dict[str, Any]]:
    """Each filter, set or with its choices."""
    people = (
        JobUse.objects.filter(key=key, last_at__gte=timezone.now() - timedelta(days=use.MORE_DAYS))
        .exclude(person="")
        .order_by()
        .values_list("person")
        .annotate(last=Max("last_at"))
        .order_by("-last")[:PEOPLE]
    )
    days = use.window(7)[::-1]
    outcomes = {**GROUPS, **dict(Outcome.choices)}
    offered: dict[str, tuple[str, list[tuple[Any, str]]]] = {
        "outcome": ("Outcome", list(outcomes.items())),
        "scope": (
            "Scope",
            [(scope, scope) for scope in sorted({*key.scopes, ACCOUNT_READ, wanted.scope} - {""})],
        ),
        "day": ("Day", [(day, _day_words(day)) for day in days]),
        "person": ("Who", [(name, name) for name, _ in people]),
    }
    found: list[dict[str, Any]] = []
    for name, (label, options) in offered.items():
        value = getattr(wanted, name)
        found.append(
            {
                "label": label,
                "value": _said(name, value, dict(options)) if value else "",
                "remove": wanted.address(**{name: None if name == "day" else ""}),
                "options": [
                    {"label": words, "url": wanted.address(**{name: option})} for option, words in options
                ],
            }
        )
    if wanted.job is not None:
        words = f"#{wanted.job}" if wanted.job else "without one"
        found.append({"label": "Job", "value": words, "remove": wanted.address(job=None), "options": None})
    return found


def _said(name: str, value: Any, options: dict[Any, str]) -> str:
    return _day_words(value) if name == "day" else options.get(value, str(value))


def _day_words(day: date) -> str:
    back = (timezone.localdate() - day).days
    return {0: "today", 1: "yesterday"}.get(back) or words_of_day(day)


EXPORT_COLUMNS = (
    "time",
    "outcome",
    "message",
    "call",
    "scope",
    "job",
    "job name",
    "person",
    "worker",
    "rows",
    "took ms",
    "http status",
    "fingerprint",
    "probe",
)


def export_rows(key: KeyRecord, wanted: CallFilter, user: User) -> Iterator[list[str]]:
    """Every call of a filter as text cells, newest first. A job that this person may not open has no name."""
    found = filter_calls(key, wanted).iterator(chunk_size=CHUNK)
    while chunk := list(islice(found, CHUNK)):
        openable = job_links.openable(user, [call.job for call in chunk])
        yield from (_cells(call, openable) for call in chunk)


def _cells(call: Call, openable: Collection[int]) -> list[str]:
    return [
        call.at.isoformat(timespec="milliseconds"),
        call.outcome,
        call.message,
        call.route,
        call.scope,
        str(call.job or ""),
        call.job_text if call.job in openable else "",
        call.person,
        call.worker,
        str(call.rows),
        str(call.duration_ms),
        str(call.status or ""),
        call.fingerprint,
        "yes" if call.is_probe else "",
    ]

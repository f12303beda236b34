"""The chart of a key's page: credits, calls or errors of thirty days, with what was changed on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils import timezone

from keys import use
from keys.choices import KeyState, Outcome
from keys.models import KeyRecord
from keys.scopes import ACCOUNT_READ, OTHER, SERIES, series_of
from people.models import AuditEntry

CREDITS, CALLS, ERRORS = "credits", "calls", "errors"
KINDS = {CREDITS: "Credits", CALLS: "Calls", ERRORS: "Errors"}

OPERATIONS = (*SERIES, OTHER)
WITH_READS = (*SERIES, "Free reads and other")
# Calls that did not go well, by who can do something about them.
TROUBLES: Mapping[str, tuple[Outcome, ...]] = {
    "Key refused": (Outcome.VENDOR_401, Outcome.VENDOR_403, Outcome.UNPAID, Outcome.SECRET_MISSING),
    "Too many calls": (Outcome.VENDOR_429,),
    "Refused by our rules": (
        Outcome.POLICY_SCOPE,
        Outcome.POLICY_ENVIRONMENT,
        Outcome.POLICY_BUDGET,
        Outcome.POLICY_STATE,
    ),
    "Input or credits": (Outcome.VENDOR_REJECTED, Outcome.OUT_OF_CREDITS),
    "Outcome unknown": (Outcome.UNCERTAIN,),
    "Icypeas or network failed": (Outcome.VENDOR_5XX, Outcome.READ_FAILED, Outcome.NOT_SENT),
}
TROUBLE_OF = {outcome: index for index, each in enumerate(TROUBLES.values()) for outcome in each}
NOTHING = {
    CREDITS: (
        "Nothing was charged in 30 days",
        "Each day with a charge gets a bar here, in the colour of its operation.",
    ),
    CALLS: ("No call in 30 days", "Each day with calls gets a bar here, in the colour of their operation."),
    ERRORS: (
        "No call went wrong in 30 days",
        "Refusals, by Icypeas or by our own rules, and failures would get a bar here.",
    ),
}
# Facts of a record whose change can be seen in its use.
TOLD = ("scopes", "state", "secret reference")


@dataclass(frozen=True)
class UseChart:
    """`days` and `series` as the component wants them; `cap` is the daily cap where credits are drawn."""

    kind: str
    days: list[dict[str, Any]]
    series: tuple[str, ...]
    tabs: list[dict[str, Any]]
    cap: Decimal | None
    is_empty: bool

    @property
    def unit(self) -> str:
        return {CREDITS: "credits", CALLS: "calls", ERRORS: "calls that did not go well"}[self.kind]

    @property
    def nothing(self) -> tuple[str, str]:
        return NOTHING[self.kind]


def kind_of(wanted: str | None) -> str:
    return wanted if wanted in KINDS else CREDITS


def get_chart(
    key: KeyRecord, kind: str, charged: Mapping[tuple[str, str], Decimal] | None = None
) -> UseChart:
    """The chart of one kind; `charged` is per (ISO day, operation) where the page has it already."""
    values: dict[str, list[Decimal]] = {}
    series = {CREDITS: OPERATIONS, CALLS: WITH_READS, ERRORS: tuple(TROUBLES)}[kind]
    for day, place, amount in _amounts(key, kind, charged):
        values.setdefault(day, [Decimal(0)] * len(series))[place] += amount
    marks = _marks(key)
    days = use.window(use.DAYS)
    calls = reverse("keys:key_calls", args=[key.name])
    more = {"outcome": "failed"} if kind == ERRORS else {}
    return UseChart(
        kind=kind,
        days=[
            {
                "label": "today" if day == days[-1] else f"{day.day} {day:%b}",
                "values": values.get(day.isoformat(), [Decimal(0)] * len(series)),
                "url": f"{calls}?{urlencode({'day': day.isoformat(), **more})}"
                if day.isoformat() in values
                else "",
                "mark": marks.get(day, ""),
            }
            for day in days
        ],
        series=series,
        tabs=[
            {"label": label, "url": f"?chart={name}", "is_current": name == kind}
            for name, label in KINDS.items()
        ],
        cap=key.daily_cap if kind == CREDITS else None,
        is_empty=not values,
    )


def _amounts(
    key: KeyRecord, kind: str, charged: Mapping[tuple[str, str], Decimal] | None
) -> Iterable[tuple[str, int, Decimal]]:
    """(ISO day, number of the series, how much)."""
    if kind == CREDITS:
        for (day, operation), credits in (use.charged_per_day(key) if charged is None else charged).items():
            yield day, series_of(operation), credits
        return
    for (day, scope, outcome), calls in use.calls_per_day(key).items():
        if kind == CALLS:
            operation = "" if scope == ACCOUNT_READ else scope.partition(":")[0]
            yield day, series_of(operation), Decimal(calls)
        elif outcome != Outcome.OK:
            yield day, TROUBLE_OF[Outcome(outcome)], Decimal(calls)


def _marks(key: KeyRecord) -> dict[date, str]:
    """What the history tells of the days of the chart, in a few words each."""
    first = datetime.combine(use.window(use.DAYS)[0], time.min, tzinfo=timezone.get_current_timezone())
    entries = AuditEntry.objects.filter(object_type="keyrecord", object_id=key.id, at__gte=first).exclude(
        action="key.created"
    )
    said: dict[date, list[str]] = {}
    for at, detail in entries.order_by("id").values_list("at", "detail"):
        words = [_change(name, detail[name]) for name in TOLD if isinstance(detail.get(name), list)]
        if words:
            said.setdefault(timezone.localtime(at).date(), []).extend(words)
    return {day: ", ".join(dict.fromkeys(words)) for day, words in said.items()}


def _change(name: str, change: list[Any]) -> str:
    before, after = (str(value) for value in change)
    if name == "scopes":
        old, new = ({scope for scope in text.split(", ") if scope} for text in (before, after))
        added, removed = len(new - old), len(old - new)
        if added and removed:
            return "scopes changed"
        word = "scope" if added + removed == 1 else "scopes"
        return f"{word} {'added' if added else 'removed'}"
    if name == "state":
        return KeyState(after).label.lower() if after in KeyState.values else after
    return "other secret reference"

"""The inventory's addresses: tabs and chips are links, and the query string is the only state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import urlencode

from django.conf import settings

from keys.choices import FindingCode, KeyState
from keys.scopes import SCOPES
from keys.selectors import KeyFilter, environments
from people.models import Team, User

UNUSED_DAYS = (30, 60, 90, 180)  # others stand in the address

VIEWS = {
    "": "All",
    "findings": "With findings",
    "mine": "Mine",
    "unused": f"Unused for {settings.UNUSED_DAYS} days",
    "rotation": "Rotation due",
    "inactive": "No longer active",
}


def address(wanted: KeyFilter, *, after: str = "") -> str:
    """The query string of a filter, without what is not set, at the page that follows `after`."""
    given = {("q" if name == "search" else name): value for name, value in asdict(wanted).items()}
    query = urlencode({name: value for name, value in {**given, "after": after}.items() if value})
    return f"?{query}"


def _with(wanted: KeyFilter, name: str, value: Any) -> str:
    """The address of this filter with one field changed; None takes it out."""
    changes: Any = {name: value}
    return address(replace(wanted, **changes))


def hidden(wanted: KeyFilter) -> list[tuple[str, object]]:
    """The other filters, for the search form to keep."""
    return [(name, value) for name, value in asdict(wanted).items() if value and name != "search"]


def tabs(wanted: KeyFilter, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "url": address(KeyFilter(view=view)),
            "count": counts[view or "all"],
            "is_current": view == wanted.view,
        }
        for view, label in VIEWS.items()
    ]


def chips(
    wanted: KeyFilter, teams: Sequence[Team], owners: Sequence[User], person: User | None = None
) -> list[dict[str, Any]]:
    """Each filter, set or with its choices. Owner *or* deputy is set by the page of a person and can only be taken out."""
    choices: dict[str, list[tuple[Any, str]]] = {
        "environment": [(name, name) for name in environments()],
        "owner": [(one.id, one.name if one.is_active else f"{one.name} (left)") for one in owners],
        "team": [(team.id, team.name) for team in teams],
        "scope": [(scope, scope) for scope in SCOPES],
        "state": list(KeyState.choices),
        "finding": list(FindingCode.choices),
        "unused": [(days, f"for {days} days") for days in UNUSED_DAYS],
    }
    if wanted.unused:
        choices["unused"].append((wanted.unused, f"for {_days(wanted.unused)}"))
    found = []
    for name, options in choices.items():
        value = getattr(wanted, name)
        found.append(
            {
                "label": name.capitalize(),
                "value": dict(options).get(value, str(value)) if value else "",
                "remove": _with(wanted, name, None),
                "options": [
                    {"label": label, "url": _with(wanted, name, option)} for option, label in options
                ],
            }
        )
    if wanted.person:
        name = person.name if person else str(wanted.person)
        found.insert(0, {"label": "Owner or deputy", "value": name, "remove": _with(wanted, "person", None)})
    return found


def words(
    wanted: KeyFilter, teams: Sequence[Team], owners: Sequence[User], person: User | None = None
) -> str:
    """The filter as a person says it: "With findings, Environment prod, Unused for 60 days"."""
    parts = [VIEWS[wanted.view]] if wanted.view in VIEWS and wanted.view else []
    parts += [
        f"{chip['label']} {chip['value']}" for chip in chips(wanted, teams, owners, person) if chip["value"]
    ]
    if wanted.search:
        parts.append(f"“{wanted.search}”")
    return ", ".join(parts) or "all records"


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def clear(wanted: KeyFilter) -> str:
    """The same view without its filters, or "" when none is set."""
    return address(KeyFilter(view=wanted.view)) if wanted.is_set else ""

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
from people.models import Team

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


def chips(wanted: KeyFilter, teams: Sequence[Team]) -> list[dict[str, Any]]:
    """Each filter, set or with its choices."""
    choices: dict[str, list[tuple[Any, str]]] = {
        "environment": [(name, name) for name in environments()],
        "team": [(team.id, team.name) for team in teams],
        "scope": [(scope, scope) for scope in SCOPES],
        "state": list(KeyState.choices),
        "finding": list(FindingCode.choices),
    }
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
    return found


def clear(wanted: KeyFilter) -> str:
    """The same view without its filters, or "" when none is set."""
    return address(KeyFilter(view=wanted.view)) if wanted.is_set else ""

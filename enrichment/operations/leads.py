"""What the two searches for leads share: filters, how a form becomes a query, and the places of a list of leads.

A search has no list of its own, so it gets one: `search` names it and `place` counts from 1. Each place is asked once, a
page of places with one call, and what comes fills them in order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from enrichment import normal_forms

from .base import CHOICES, GROWTH, WORDS, Checked, Filter, InputField, Skipped

PLACE_FIELDS = (
    InputField(name="search", label="Search", names=("search",), is_required=True),
    InputField(name="place", label="Place", names=("place",), is_required=True),
)
LEADS = {"leads:search": "search people and companies"}
LEADS_TITLE = "Search people and companies"
MOST_VALUES = 200  # Icypeas' limit of each half of a filter


def check(fields: Mapping[str, str]) -> Checked | Skipped:
    """A place of a list of leads."""
    search, place = (normal_forms.text(fields.get(name, "")) for name in ("search", "place"))
    if not search or not place.isascii() or not place.isdigit():
        return Skipped("no_place", "This is no place of a search for leads.")
    return Checked({"search": search, "place": place})


class FilterError(ValueError):
    """Filters that make no query. `field` is the form's field that would mend it, or ""."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field


def values_of(text: str) -> list[str]:
    """What is parted by commas, semicolons or line ends, each once."""
    cleaned = (normal_forms.text(part) for part in re.split(r"[,;\n]", text))
    return list({value.casefold(): value for value in cleaned if value}.values())


def build_query(filters: Sequence[Filter], told: Mapping[str, Any]) -> dict[str, Any]:
    """Icypeas' `query` from a form: `<id>` and `<id>_not` texts, `<id>_from` and `<id>_to` whole numbers or None,
    `<id>` a list for choices. Raises `FilterError`; a query without any filter is none."""
    query: dict[str, Any] = {}
    for each in filters:
        condition = _condition(each, told)
        if condition:
            _put(query, each.name.split("."), condition)
    if not query:
        raise FilterError("Fill in at least one filter: Icypeas refuses an empty search.", filters[0].id)
    return query


def _put(query: dict[str, Any], path: Sequence[str], condition: dict[str, Any]) -> None:
    for part in path[:-1]:
        query = query.setdefault(part, {})
    query[path[-1]] = condition


def _condition(each: Filter, told: Mapping[str, Any]) -> dict[str, Any]:
    if each.kind == CHOICES:
        chosen = [value for value in told.get(each.id) or [] if value in each.choices]
        return {"include": chosen} if chosen else {}
    if each.kind == WORDS:
        condition = {}
        for key, name in (("include", each.id), ("exclude", f"{each.id}_not")):
            values = values_of(str(told.get(name) or ""))
            if len(values) > MOST_VALUES:
                raise FilterError(
                    f"{each.label}: {len(values):,} values, and Icypeas takes {MOST_VALUES}.", name
                )
            if values:
                condition[key] = values
        return condition
    low, high = told.get(f"{each.id}_from"), told.get(f"{each.id}_to")
    if low is not None and high is not None and low > high:
        raise FilterError(f"{each.label}: from {low:,} to {high:,} holds nothing.", f"{each.id}_from")
    if low is None and high is None:
        return {}
    if each.kind == GROWTH:
        bounds = {"min": low, "max": high}
        return {"timespan": "6months", **{key: bound for key, bound in bounds.items() if bound is not None}}
    return {key: bound for key, bound in ((">=", low), ("<=", high)) if bound is not None}


def words_of(filters: Sequence[Filter], query: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A query as people read it: label and values of each filter."""
    found = []
    for each in filters:
        condition: Any = query
        for part in each.name.split("."):
            condition = condition.get(part, {}) if isinstance(condition, Mapping) else {}
        if not isinstance(condition, Mapping) or not condition:
            continue
        parts = []
        if condition.get("include"):
            parts.append(", ".join(condition["include"]))
        if condition.get("exclude"):
            parts.append("not " + ", ".join(condition["exclude"]))
        low = condition.get(">=", condition.get("min"))
        high = condition.get("<=", condition.get("max"))
        unit = " %" if each.kind == GROWTH else ""
        if low is not None or high is not None:
            start = f"from {low:,}{unit}" if low is not None else ""
            end = f"to {high:,}{unit}" if high is not None else ""
            parts.append(f"{start} {end}".strip())
        found.append((each.label, "; ".join(parts)))
    return found

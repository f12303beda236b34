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


_PART = re.compile(
    r"""[^\S\n]*(?:"(?P<quoted>[^"\n]*)"[^\S\n]*(?=[,;\n]|\Z)|(?P<plain>[^,;\n]*))(?P<end>[,;\n]|\Z)"""
)


def values_of(text: str, comma_parted: str = "") -> list[str]:
    """What is parted by semicolons or line ends, each once. A text in double quotes is one value whatever it holds;
    commas part a line with such a text in it, and one whose parts all look like `comma_parted` (see `Filter`)."""
    values: list[str] = []
    line: list[re.Match[str]] = []
    for part in _PART.finditer(text):
        line.append(part)
        if part["end"] != ",":
            values += _of_line(text, line, comma_parted)
            line = []
    cleaned = map(normal_forms.text, values)
    return list({value.casefold(): value for value in cleaned if value}.values())


def _of_line(text: str, parts: Sequence[re.Match[str]], comma_parted: str) -> list[str]:
    """The values between two semicolons or line ends; `parts` are what commas part there."""
    plain = [part["plain"].strip() for part in parts if part["quoted"] is None]
    if len(plain) < len(parts) or all(re.fullmatch(comma_parted, each) for each in plain if each):
        return [part["plain"] if part["quoted"] is None else part["quoted"] for part in parts]
    # A comma at the end is one that waits for more, while a person types.
    return [text[parts[0].start() : parts[-1].end("plain")].strip(" ,")]


def text_of(values: Sequence[str]) -> str:
    """The text of a form that `values_of` reads as these values, whatever the filter."""
    return "; ".join(map(quoted, values))


def quoted(value: str) -> str:
    """A value as it is read back among others. What has a double quote in it has come without two around it."""
    return f'"{value}"' if re.search("[,;]", value) and '"' not in value else value


def values_with_commas(filters: Sequence[Filter], query: Mapping[str, Any]) -> list[str]:
    """What a person may have meant as several values."""
    halves = (half for each in filters for half in condition_in(query, each).values())
    return [value for half in halves if isinstance(half, list) for value in half if "," in value]


def build_query(filters: Sequence[Filter], told: Mapping[str, Any]) -> dict[str, Any]:
    """Icypeas' `query` from a form: `<id>` and `<id>_not` texts, `<id>_from` and `<id>_to` whole numbers or None,
    `<id>` and `<id>_not` lists for choices. Raises `FilterError`; a query without any filter is none."""
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
    if each.kind in (CHOICES, WORDS):
        condition = {}
        for key, name in (("include", each.id), ("exclude", f"{each.id}_not")):
            if each.kind == CHOICES:
                values = [value for value in told.get(name) or [] if value in each.choices]
            else:
                values = values_of(str(told.get(name) or ""), each.comma_parted)
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


def condition_in(query: Mapping[str, Any], each: Filter) -> Mapping[str, Any]:
    """What a query says of one filter; empty when it says nothing."""
    condition: Any = query
    for part in each.name.split("."):
        condition = condition.get(part, {}) if isinstance(condition, Mapping) else {}
    return condition if isinstance(condition, Mapping) else {}


def words_of(filters: Sequence[Filter], query: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A query as people read it: label and values of each filter."""
    found = []
    for each in filters:
        condition = condition_in(query, each)
        if not condition:
            continue
        parts = []
        if condition.get("include"):
            parts.append(", ".join(map(quoted, condition["include"])))
        if condition.get("exclude"):
            parts.append("not " + ", ".join(map(quoted, condition["exclude"])))
        low = condition.get(">=", condition.get("min"))
        high = condition.get("<=", condition.get("max"))
        unit = " %" if each.kind == GROWTH else ""
        if low is not None or high is not None:
            start = f"from {low:,}{unit}" if low is not None else ""
            end = f"to {high:,}{unit}" if high is not None else ""
            parts.append(f"{start} {end}".strip())
        found.append((each.label, "; ".join(parts)))
    return found

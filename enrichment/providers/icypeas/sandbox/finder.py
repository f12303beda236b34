"""Lists of leads: which filters a query may have, who meets them, and pages with tokens that grow old."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from . import population
from .population import Company, Person
from .validation import Fields, is_text

MAX_VALUES: Final = 200
MAX_SIZE: Final = 200
DEFAULT_SIZE: Final = 100
TOKEN_LIFE_S: Final = 600  # of sandbox time [choice]

_OPERATORS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
}


def _place(place: tuple[str, str, str, str, str]) -> tuple[str, ...]:
    # A country's code meets itself alone, its name is a word among others.
    return (f"={place[0]}", *place[1:4])


def _company_ids(company: Company) -> tuple[str, ...]:
    return (
        f"={company.slug}",
        f"={company.domain}",
        f"={company.url}",
        f"={population.number_of(company.slug)}",
    )


_COMPANY_WORDS: Final[dict[str, Callable[[Company], Iterable[str]]]] = {
    "name": lambda c: (c.name,),
    "lid": lambda c: (f"={c.slug}",),
    "urn": lambda c: (f"={population.number_of(c.slug)}",),
    "companyId": _company_ids,
    "type": lambda c: (f"={c.type}",),
    # A fixed taxonomy: free text meets nothing.
    "industry": lambda c: (f"={c.industry}",),
    "location": lambda c: _place(c.place),
    "keyword": lambda c: (c.name, c.description),
    "domain": lambda c: (f"={c.domain}",),
}
_PERSON_WORDS: Final[dict[str, Callable[[Person], Iterable[str]]]] = {
    "firstname": lambda p: (p.first_name,),
    "lastname": lambda p: (p.last_name,),
    "currentJobTitle": lambda p: (p.title,),
    "pastJobTitle": lambda p: (p.past_title,),
    "currentCompanyName": lambda p: (p.company.name,),
    "pastCompanyName": lambda p: (p.past_company.name,),
    "currentCompanyUrn": lambda p: (f"={population.number_of(p.company.slug)}",),
    "pastCompanyUrn": lambda p: (f"={population.number_of(p.past_company.slug)}",),
    "currentCompanyWebsite": lambda p: (p.company.domain,),
    "pastCompanyWebsite": lambda p: (p.past_company.domain,),
    "currentCompanyId": lambda p: _company_ids(p.company),
    "pastCompanyId": lambda p: _company_ids(p.past_company),
    "school": lambda p: (),
    "languages": lambda p: p.languages,
    "skills": lambda p: p.skills,
    "location": lambda p: (*_place(p.place), *_place(p.company.place)),
    "profileLocation": lambda p: _place(p.place),
    "keyword": lambda p: (p.headline, p.company.description),
    "currentCompany.industry": lambda p: (f"={p.company.industry}",),
    "currentCompany.keyword": lambda p: (p.company.name, p.company.description),
}
_COMPANY_NUMBERS: Final[dict[str, Callable[[Company], float]]] = {
    "headcount": lambda c: c.employees,
    "revenue": lambda c: c.revenue_millions * 1_000_000,
}
_PERSON_NUMBERS: Final[dict[str, Callable[[Person], float]]] = {
    "currentCompany.headcount": lambda p: p.company.employees,
}


@dataclass(frozen=True)
class Kind:
    """One of the two lists: its filters, everything in it, and how an entry is told."""

    name: str
    words: Mapping[str, Callable[[Any], Iterable[str]]]
    numbers: Mapping[str, Callable[[Any], float]]
    everything: Callable[[], tuple[Any, ...]]
    tell: Callable[[Any], dict[str, Any]]


PEOPLE: Final = Kind("find-people", _PERSON_WORDS, _PERSON_NUMBERS, population.people, population.person_lead)
COMPANIES: Final = Kind(
    "find-companies", _COMPANY_WORDS, _COMPANY_NUMBERS, population.companies, population.company_lead
)


def read_query(fields: Fields, kind: Kind) -> dict[str, Any]:
    """The filters of a body by their flat names; {} when refused."""
    query = fields.body.get("query")
    if not isinstance(query, dict) or not query:
        fields.refuse("query", "empty_query", "query must hold at least one filter.", "EmptyQueryError")
        return {}
    flat: dict[str, Any] = {}
    for name, value in query.items():
        if name == "currentCompany" and kind is PEOPLE and isinstance(value, dict):
            flat.update({f"currentCompany.{inner}": entry for inner, entry in value.items()})
        else:
            flat[name] = value
    for name, value in flat.items():
        _check_filter(fields, kind, f"query.{name}", name, value)
    return flat


def _check_filter(fields: Fields, kind: Kind, field: str, name: str, value: Any) -> None:
    if not isinstance(value, dict) or not value:
        fields.refuse(field, "validation_filter", f"{field} must be an object with conditions.")
    elif name in kind.words:
        for key, entries in value.items():
            if key not in ("include", "exclude"):
                fields.refuse(field, "validation_filter", f"{field} knows include and exclude only.")
            elif not isinstance(entries, list) or not all(is_text(entry) for entry in entries):
                fields.refuse(field, "validation_array", f"{field}.{key} must be an array of strings.")
            elif len(entries) > MAX_VALUES:
                fields.refuse(
                    field, "validation_array_length", f"{field}.{key} holds more than {MAX_VALUES}."
                )
    elif name in kind.numbers:
        for key, bound in value.items():
            if key not in _OPERATORS or not _is_number(bound):
                fields.refuse(field, "validation_range", f"{field} takes >, >=, < and <= with numbers.")
    elif name == "headcountGrowth" and kind is COMPANIES:
        bounds = [value[key] for key in ("min", "max") if key in value]
        if set(value) - {"timespan", "min", "max"} or not all(map(_is_number, bounds)):
            fields.refuse(field, "validation_range", f"{field} takes timespan, min and max.")
    else:
        fields.refuse(field, "validation_filter", f"{field} is no filter.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def find(kind: Kind, query: Mapping[str, Any]) -> list[Any]:
    """Everything that meets every filter, always in the same order."""
    return [entry for entry in kind.everything() if all(_meets(kind, entry, *item) for item in query.items())]


def _meets(kind: Kind, entry: Any, name: str, value: Mapping[str, Any]) -> bool:
    if name in kind.words:
        words = [word.lower() for word in kind.words[name](entry)]
        include = value.get("include", [])
        return (not include or any(_is_among(w, words) for w in include)) and not any(
            _is_among(w, words) for w in value.get("exclude", [])
        )
    if name == "headcountGrowth":
        return bool(value.get("min", -1000) <= entry.growth <= value.get("max", 1000))
    number = kind.numbers[name](entry)
    return all(_OPERATORS[key](number, bound) for key, bound in value.items())


def _is_among(wanted: str, words: list[str]) -> bool:
    """A word with `=` before it must be met whole, others may hold what is wanted."""
    wanted = wanted.strip().lower()
    # Two letters are a country's code: as a part of a word they would stand in half of all cities.
    return bool(wanted) and any(
        wanted == word.removeprefix("=") if word.startswith("=") or len(wanted) == 2 else wanted in word
        for word in words
    )


@dataclass(frozen=True)
class PageOrder:
    """Which part of a listing is wanted."""

    start: int
    size: int


def read_pagination(fields: Fields, query: Mapping[str, Any], now_ms: int) -> PageOrder:
    """The page that a body asks for. A token of another query, or one that has grown old, is refused."""
    pagination = fields.body.get("pagination", {})
    if not isinstance(pagination, dict):
        fields.refuse("pagination", "validation_object", "pagination must be an object.")
        return PageOrder(0, DEFAULT_SIZE)
    size = pagination.get("size", DEFAULT_SIZE)
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_SIZE:
        fields.refuse("pagination.size", "validation_size", f"size must be 1 to {MAX_SIZE}.")
        size = DEFAULT_SIZE
    token = pagination.get("token")
    if token is None or token == "":
        return PageOrder(0, size)
    try:
        start, digest, until_ms = json.loads(base64.urlsafe_b64decode(str(token).encode()))
        is_good = digest == _digest(query) and 0 <= now_ms <= until_ms and type(start) is int and start >= 0
    except (ValueError, TypeError):
        is_good, start = False, 0
    if not is_good:
        fields.refuse("pagination.token", "invalid_token", "The pagination token is expired or invalid.")
    return PageOrder(start if is_good else 0, size)


def make_token(query: Mapping[str, Any], start: int, now_ms: int) -> str:
    content = json.dumps([start, _digest(query), now_ms + TOKEN_LIFE_S * 1000])
    return base64.urlsafe_b64encode(content.encode()).decode()


def _digest(query: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(query, sort_keys=True).encode())

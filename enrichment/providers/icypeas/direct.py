"""Routes that answer in the same call: how rows become a body, and what stands in an answer.

Such an answer has a status and a `result`: the address of a page, or what a page says. Nothing here raises on what a
server may send.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from enrichment.providers.base import ItemState, ProviderItem, Verdict
from enrichment.providers.icypeas.payloads import (
    MAX_ID,
    MAX_WORD,
    RAN,
    SUCCESS,
    address_of,
    decimal_of,
    is_charged,
    is_known,
    object_of,
    one_line,
    parse_item,
    state_of,
    text_of,
)

_PAGE = re.compile(r"https?://[^\s<>\"\\/]+\.[^\s<>\"\\]+", re.IGNORECASE)
_SAYS = frozenset({"status", "result", "results", "url", "urls", "searchId"})
_PAGE_WITHOUT_SCHEME = re.compile(r"(?:[a-z]{2,3}\.)?linkedin\.com/[^\s<>\"\\]+", re.IGNORECASE)
_MAX_URL = 500
_MAX_TEXT = 2_000
_MAX_LISTED = 50
_MAX_PLACE = 5_000
_PLACES = 3  # of a fraction: a number may have a million of them
_MONEY_UNITS = {"THOUSAND": "thousand", "MILLION": "million", "BILLION": "billion"}
_TIMESPANS = {"SIX_MONTHS": "six months", "YEAR": "a year", "TWO_YEAR": "two years"}

Read = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Layout:
    """An operation whose routes answer at once. `one` is the body (or query) for a row alone, `many` the body for a
    list; `read` turns an answer into the result columns, all of them empty when there is nothing in it. A list of some
    accounts is answered later and `takes_user` and external ids."""

    one: Callable[[Mapping[str, str]], dict[str, Any]]
    many: Callable[[Sequence[Mapping[str, str]]], dict[str, Any]]
    read: Read
    takes_user: bool = False


def parse(raw: Any, *, external_id: str, read: Read) -> ProviderItem | None:
    """One answer, for the row that we call `external_id`; None when it is no object.

    Without a status an answer tells its end by what it brings: one with nothing in it still runs where a search id says
    under what it can be read, and found nothing where none does. One that says nothing at all is none.
    """
    if not isinstance(raw, dict) or not _SAYS.intersection(raw):
        return None
    return _judged(raw, text_of(raw.get("searchId")), external_id, read)


def _judged(raw: Mapping[str, Any], search_id: str, external_id: str, read: Read) -> ProviderItem:
    """An answer that can be read later by `search_id`, or not at all when that is empty."""
    result = read(raw)
    has_result = any(result.values())
    raw_status = text_of(raw.get("status"), most=MAX_WORD)
    status = raw_status.upper()
    if not status and (has_result or not search_id):
        status = "FOUND" if has_result else "NOT_FOUND"
    state = state_of(status)
    verdict: Verdict | None = None
    if state is ItemState.FINAL:
        is_found = has_result and status in SUCCESS
        verdict = Verdict.UNKNOWN if status not in RAN else Verdict.FOUND if is_found else Verdict.NOT_FOUND
        result = result if is_found else dict.fromkeys(result, "")
    return ProviderItem(
        provider_id=search_id if 0 < len(search_id) <= MAX_ID else external_id,
        external_id=external_id,
        state=state,
        raw_status=raw_status,
        verdict=verdict,
        result=result if state is ItemState.FINAL else {},
        is_charged=is_charged(status),
        is_known=is_known(status),
        raw=raw,
    )


def parse_listed(raw: Any, read: Read) -> ProviderItem | None:
    """One item of a list that the provider chose to answer later, with its place there; None when it has no id."""
    listed = parse_item(raw)
    if listed is None:
        return None
    item = _judged(raw, listed.provider_id, listed.external_id, read)
    return replace(item, order=_place(raw.get("order")))


def _place(value: Any) -> int | None:
    """The place of a row in its list: a whole number or a numeral; None when it is none."""
    text = text_of(value, most=10)
    return int(text) if text.isascii() and text.isdigit() and int(text) <= _MAX_PLACE else None


# --- Answers that are the address of a page ------------------------------------------------------------


def page_in(column: str) -> Read:
    """Reads the address of a page into that column."""
    return lambda raw: {column: _page_address(raw)}


def _page_address(raw: Mapping[str, Any], *, depth: int = 3) -> str:
    """The http or https address in `result`, `results`, `url` or the first of `urls`, each a text or an object that has it
    under one of these names; else empty."""
    urls = raw.get("urls")
    first = urls[0] if isinstance(urls, list) and urls else None
    for candidate in (raw.get("result"), raw.get("results"), raw.get("url"), first):
        if isinstance(candidate, dict):
            found = _page_address(candidate, depth=depth - 1) if depth else ""
        else:
            found = url(candidate)
        if found:
            return found
    return ""


def url(value: Any) -> str:
    """An http or https address of a page, else empty. LinkedIn's are known without their scheme, too."""
    text = text_of(value)
    if _PAGE_WITHOUT_SCHEME.fullmatch(text):
        text = f"https://{text}"
    return text if _PAGE.fullmatch(text) and len(text) <= _MAX_URL else ""


# --- Answers that are what a page says ------------------------------------------------------------------


def _what_it_says(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object in `result`, or in `results` where a list of pages was read later."""
    return object_of(raw.get("result")) or object_of(raw.get("results"))


def short_text(value: Any) -> str:
    """A text on one line, cut where no person would read on."""
    return one_line(text_of(value))[:_MAX_TEXT]


def number(value: Any) -> str:
    """A count that is known: −1 and 0 stand for unknown."""
    count = decimal_of(value)
    return f"{count:.0f}" if count is not None and count > 0 else ""


def _objects(value: Any) -> list[Mapping[str, Any]]:
    elements = value if isinstance(value, list) else []
    return [element for element in elements[:_MAX_LISTED] if isinstance(element, dict)]


def _listed(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value))[:_MAX_TEXT]


def _words(value: Any) -> str:
    """A list of `{value}` or of texts as one text."""
    elements = value[:_MAX_LISTED] if isinstance(value, list) else []
    return _listed(short_text(object_of(e).get("value") if isinstance(e, dict) else e) for e in elements)


def _known(value: Any) -> str:
    """A text of an address; its code for "unknown" is none."""
    text = short_text(value)
    return "" if text.upper() in ("UNK", "UNKNOWN") else text


def _country(address: Mapping[str, Any]) -> str:
    return _known(address.get("addressCountry")) or _known(address.get("addressCountryCode"))


def website_domain(website: str) -> str:
    """The host of a website without `www.`."""
    host = re.sub(r"^[a-z]+://", "", website.lower()).split("/")[0].split("?")[0].rpartition("@")[2]
    return host.partition(":")[0].removeprefix("www.")


def _amount(value: Any) -> str:
    """`{amount, unit, currency}` as `2.5 million USD`."""
    money = object_of(value)
    amount = decimal_of(money.get("amount"))
    if amount is None or amount < 0:
        return ""
    amount = round(amount, _PLACES)
    amount = amount.quantize(Decimal(1)) if amount == amount.to_integral_value() else amount.normalize()
    unit = text_of(money.get("unit"), most=MAX_WORD).upper()
    words = (f"{amount:f}", _MONEY_UNITS.get(unit, ""), short_text(money.get("currency"))[:8])
    return " ".join(word for word in words if word)


def revenue(page: Mapping[str, Any]) -> str:
    """The revenue that a page names, or the span that is estimated."""
    exact = _amount(page.get("revenue"))
    span = object_of(page.get("estimatedRevenuRange") or page.get("estimatedRevenueRange"))
    bounds = [_amount(span.get(key)) for key in ("estimatedMinRevenue", "estimatedMaxRevenue")]
    return exact or " to ".join(bound for bound in bounds if bound)


def _growth(page: Mapping[str, Any]) -> str:
    return _listed(
        f"{round(percentage, _PLACES).normalize():+f} % in {_TIMESPANS.get(span, span.lower())}"
        for entry in _objects(page.get("employeeGrowth"))
        if (percentage := decimal_of(entry.get("percentage"))) is not None
        and (span := text_of(entry.get("timespan"), most=MAX_WORD).upper())
    )


def read_profile(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of a person says, by result column."""
    page = _what_it_says(raw)
    first, last = short_text(page.get("firstname")), short_text(page.get("lastname"))
    job: Mapping[str, Any] = next(iter(_objects(page.get("worksFor"))), {})
    address = object_of(page.get("address"))
    contact = object_of(page.get("ContactInfo") or page.get("contactInfo"))
    places = (_known(address.get(key)) for key in ("addressLocality", "addressRegion"))
    return {
        "full_name": " ".join(part for part in (first, last) if part),
        "first_name": first,
        "last_name": last,
        "headline": short_text(page.get("headline")),
        "job_title": short_text(job.get("jobTitle")),
        "company": short_text(job.get("name")),
        "since": short_text(job.get("startDate"))[:10],
        "location": _listed(places),
        "country": _country(address),
        "connections": number(page.get("numOfConnections")),
        "skills": _words(page.get("skills")),
        "languages": _words(page.get("languages")),
        "email": address_of(page.get("linkedinEmail")) or address_of(contact.get("linkedinEmail")),
        "profile_url": url(page.get("url")),
    }


def read_company(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of a company says, by result column."""
    page = _what_it_says(raw)
    address = object_of(page.get("address"))
    website = short_text(page.get("website"))
    return {
        "name": short_text(page.get("name")),
        "website": website,
        "domain": website_domain(website),
        "industry": short_text(page.get("industry")),
        "type": short_text(page.get("type")),
        "employees": number(page.get("numberOfEmployees")),
        "growth": _growth(page),
        "revenue": revenue(page),
        "founded": number(page.get("foundedYear")),
        "city": _known(address.get("addressLocality")),
        "country": _country(address),
        "specialties": _words(page.get("specialties")),
        "description": short_text(page.get("description")),
        "company_url": url(page.get("url")),
    }


# --- Bodies ------------------------------------------------------------------------------------------------


def _filled(pairs: Mapping[str, str]) -> dict[str, Any]:
    """An empty text is refused where a missing key is not."""
    return {key: value for key, value in pairs.items() if value}


def person(row: Mapping[str, str]) -> dict[str, Any]:
    """A person as the routes of the URL search want one."""
    theirs = {
        "firstname": row.get("first_name", ""),
        "lastname": row.get("last_name", ""),
        # Another key than in the e-mail routes.
        "companyOrDomain": row.get("company", ""),
        "jobTitle": row.get("job_title", ""),
    }
    return _filled(theirs)


def company(row: Mapping[str, str]) -> dict[str, Any]:
    """A company as the routes of the URL search want one."""
    return {"companyOrDomain": row.get("company", "")}

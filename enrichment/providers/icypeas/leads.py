"""Searches for leads: a page of people or companies as items, one for each place that was asked for.

Nothing here raises on what a server may send; a malformed element takes its place without a result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from enrichment.providers.base import ItemState, LeadPage, ProviderItem, Verdict
from enrichment.providers.icypeas.direct import number, revenue, short_text, url, website_domain
from enrichment.providers.icypeas.payloads import count_of, object_of, text_of

MAX_SIZE = 200
_MAX_TOKEN = 4_000


@dataclass(frozen=True)
class Search:
    """A search for leads: how one of them becomes the result columns."""

    read: Callable[[Mapping[str, Any]], dict[str, Any]]


def read_person(lead: Mapping[str, Any]) -> dict[str, Any]:
    """A person in a list of leads, by result column."""
    first, last = short_text(lead.get("firstname")), short_text(lead.get("lastname"))
    return {
        "full_name": " ".join(part for part in (first, last) if part),
        "first_name": first,
        "last_name": last,
        "headline": short_text(lead.get("headline")),
        "job_title": short_text(lead.get("lastJobTitle")),
        "since": short_text(lead.get("lastJobStartDate"))[:10],
        "location": short_text(lead.get("address")),
        "profile_url": url(lead.get("profileUrl")),
        "company": short_text(lead.get("lastCompanyName")),
        "domain": website_domain(short_text(lead.get("lastCompanyWebsite"))),
        "company_url": url(lead.get("lastCompanyUrl")),
        "industry": short_text(lead.get("lastCompanyIndustry")),
        "employees": number(lead.get("lastCompanySize")),
        "company_location": short_text(lead.get("lastCompanyAddress")),
    }


def read_company(lead: Mapping[str, Any]) -> dict[str, Any]:
    """A company in a list of leads, by result column."""
    website = short_text(lead.get("website"))
    return {
        "company": short_text(lead.get("name")),
        "website": website,
        "domain": website_domain(website),
        "industry": short_text(lead.get("industry")),
        "employees": number(lead.get("numberOfEmployees")),
        "revenue": revenue(lead),
        "location": short_text(lead.get("address")),
        "description": short_text(lead.get("description")),
        "company_url": url(lead.get("url")),
    }


def parse_page(
    answer: Mapping[str, Any], elements: Sequence[Any], external_ids: Sequence[str], search: Search
) -> LeadPage:
    """A page of leads under the places that they fill. It is the last one when it has no token or nothing in it."""
    items = [
        _item(element, external_id, search)
        for element, external_id in zip(elements, external_ids, strict=False)
    ]
    token = text_of(object_of(answer.get("pagination")).get("token"))
    is_last = not items or len(token) > _MAX_TOKEN
    return LeadPage(items=items, token="" if is_last else token, total=count_of(answer.get("total")))


def _item(element: Any, external_id: str, search: Search) -> ProviderItem:
    """One lead. Each element of a page is billed, also one that says nothing."""
    result = search.read(object_of(element))
    has_result = any(result.values())
    return ProviderItem(
        provider_id=external_id,
        external_id=external_id,
        state=ItemState.FINAL,
        raw_status="LEAD",
        verdict=Verdict.FOUND if has_result else Verdict.NOT_FOUND,
        result=result,
        is_charged=True,
        raw=dict(object_of(element)) or {"element": element},
    )

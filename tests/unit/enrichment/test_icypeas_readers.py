"""Whatever arrives, a reader ends in something that can be stored or in an error of the tree.

Documented answers of every route are changed at random places, in the ways in which servers change theirs, and read by every
method of the provider. `READER_EXAMPLES` sets how many answers each reader gets.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrichment.operations import OPERATIONS
from enrichment.providers.base import (
    Balance,
    BulkRequest,
    FilePage,
    FindRequest,
    ItemPage,
    LeadPage,
    Provider,
    ProviderError,
    ProviderItem,
    SingleRequest,
    Verdict,
)
from enrichment.providers.icypeas.direct import Layout
from enrichment.providers.icypeas.provider import IcypeasProvider
from enrichment.services import hooks
from tests.unit.enrichment.icypeas_wire import Wire, ending, payload

EXAMPLES = int(os.environ.get("READER_EXAMPLES", "150"))
PAGE = "https://www.linkedin.com/in/ada-1"
ADDRESS = {
    "streetAddress": "Am Tor 1",
    "addressLocality": "Köln",
    "addressRegion": "",
    "postalCode": "50667",
    "addressCountry": "Germany",
    "addressCountryCode": "UNK",
}
MONEY = {"amount": 2.5, "unit": "MILLION", "currency": "USD"}
JOB = {
    "name": "Engines",
    "location": None,
    "urn": 5,
    "startDate": "2020-01",
    "endDate": None,
    "jobTitle": "Chief",
}
PROFILE = {
    "id": "1",
    "firstname": "Ada",
    "lastname": "Byron",
    "headline": "Analyst",
    "url": PAGE,
    "numOfConnections": -1,
    "linkedinEmail": "ada@engines.example",
    "ContactInfo": {"phoneNumber": "", "linkedinEmail": ""},
    "skills": [{"value": "Analysis"}],
    "languages": [{"value": "English", "norm": "en"}],
    "address": ADDRESS,
    "educations": [{"name": "Home", "fieldsOfStudy": [{"value": "x"}]}],
    "worksFor": [JOB],
    "alumniOf": [JOB],
}
COMPANY = {
    "id": "2",
    "name": "Engines",
    "url": "https://www.linkedin.com/company/engines",
    "website": "https://www.engines.example",
    "specialties": [{"value": "Engines"}],
    "numberOfEmployees": 12,
    "foundedYear": "1843",
    "address": ADDRESS,
    "estimatedRevenuRange": {"estimatedMinRevenue": MONEY, "estimatedMaxRevenue": MONEY},
    "revenue": MONEY,
    "employeeGrowth": [{"percentage": -3.5, "timespan": "SIX_MONTHS"}],
}
PERSON_LEAD = {
    "firstname": "Ada",
    "lastname": None,
    "headline": "",
    "profileUrl": PAGE,
    "lastJobStartDate": "2021-02-01",
    "lastCompanyName": "Engines",
    "lastCompanySize": 12,
    "lastCompanyWebsite": "https://engines.example/",
}
COMPANY_LEAD = {
    "name": "Engines",
    "url": COMPANY["url"],
    "website": "engines.example",
    "estimatedRevenuRange": None,
}
ROW = {"searchId": "-s_1", "status": "FOUND"}


def item(results: Any, order: int = 0) -> dict[str, Any]:
    return {
        "_id": "s-1",
        "name": "__icypeas__individual",
        "status": "DEBITED",
        "order": order,
        "results": results,
        "userData": {"externalId": "row-0", "webhookUrl": ""},
        "system": {"createdAt": "2026-01-15T08:30:00.000Z", "modifiedAt": "2026-01-15T08:30:00.000Z"},
    }


def listing(*items: Any) -> dict[str, Any]:
    return {"success": True, "items": list(items), "total": len(items), "sorts": [[1, "a"], [2, "b"]]}


def leads(lead: dict[str, Any]) -> dict[str, Any]:
    return {"success": True, "total": 7, "leads": [lead, lead], "pagination": {"size": 2, "token": "t=="}}


ANSWERS: dict[str, dict[str, Any]] = {
    **{
        name: payload(name)
        for name in (
            *("submit_single", "submit_bulk", "files", "items_search", "items_verification", "balance"),
            *("refused_fields", "refused_strings", "refused_user", "refused_unpaid"),
        )
    },
    "page address": {"success": True, **ROW, "result": PAGE},
    "page addresses": {"success": True, **ROW, "urls": [{"url": PAGE, "platform": "linkedin"}]},
    "pending": {"success": True, "searchId": "-s_1", "status": "IN_PROGRESS"},
    "profile": {"success": True, **ROW, "result": PROFILE},
    "company": {"success": True, **ROW, "result": COMPANY},
    "list of addresses": {"success": True, "data": [{**ROW, "result": PAGE}, {**ROW, "result": ""}]},
    "list of profiles": {"success": True, "data": [{**ROW, "result": PROFILE}, {**ROW, "result": None}]},
    "list of companies": {"success": True, "data": [{**ROW, "result": COMPANY}] * 2},
    "list for later": {"success": True, "status": "in_progress", "file": "f-1"},
    "pages read later": listing(item(PROFILE), item(COMPANY, 1), item(PAGE, 2)),
    "people": leads(PERSON_LEAD),
    "companies": leads(COMPANY_LEAD),
    "count": {"success": True, "total": "12"},
}

WORDS = st.sampled_from(
    [
        *("", "FOUND", "found", "Not_Found", "MELTED", "ULTRA_SURE", "sure", "-1", "1e999", "NaN", "true"),
        *("2026-13-45", PAGE, "a@b.example", "\u0000", "\ud800", "\u202e", "https://", "<b>", "=1+1"),
        *("x" * 5_000, "9" * 400),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | st.text(max_size=20)
)
THINGS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | WORDS, inner, max_size=4)
    ),
    max_leaves=10,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path into a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def changed(draw: Callable[[st.SearchStrategy[Any]], Any], value: Any) -> Any:
    """Another value in a place, as servers come up with them."""
    how = draw(st.sampled_from(["thing", "text", "list", "object", "case", "twice", "shuffled", "extra"]))
    if how == "text" and isinstance(value, int | float):
        return str(value)
    if how == "list":
        return [value]
    if how == "object":
        return {"value": value, "url": value}
    if how == "case" and isinstance(value, str):
        return value.swapcase()
    if how == "twice" and isinstance(value, list):
        return value * draw(st.sampled_from([2, 60]))
    if how == "shuffled" and isinstance(value, dict):
        return dict(draw(st.permutations(list(value.items()))))
    if how == "extra" and isinstance(value, dict):
        return {**value, draw(st.text(max_size=5)): draw(THINGS)}
    return draw(THINGS)


@st.composite
def bodies(draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
    """The bytes of a documented answer, changed at up to five places; now and then cut off or behind a mark."""
    found: Any = copy.deepcopy(ANSWERS[draw(st.sampled_from(sorted(ANSWERS)))])
    for _ in range(draw(st.integers(0, 5))):
        path = draw(st.sampled_from(list(places(found))))
        if not path:
            found = changed(draw, found) if draw(st.integers(0, 9)) == 0 else found
            continue
        parent = found
        for key in path[:-1]:
            parent = parent[key]
        if draw(st.integers(0, 3)):
            parent[path[-1]] = changed(draw, parent[path[-1]])
        else:
            del parent[path[-1]]
    body = json.dumps(found).encode()
    how = draw(st.integers(0, 19))
    if how == 0:
        return body[: draw(st.integers(0, len(body)))]
    if how == 1:
        return b"\xef\xbb\xbf" + body
    return body + draw(st.binary(max_size=8)) if how == 2 else body


def ask(operation: str, count: int) -> Callable[[Provider], Any]:
    row = {"email": "a@b.example", "first_name": "A", "last_name": "B", "company": "c.example"}
    row |= {"profile_url": PAGE, "company_url": PAGE}
    request = BulkRequest(operation, "batch", [row] * count, [f"row-{n}" for n in range(count)])
    return lambda provider: provider.ask(request)


LAYOUTS = [name for name, operation in OPERATIONS.items() if isinstance(operation.wire, Layout)]
SINGLE = SingleRequest("email-search", {"company": "x.example"}, "row-0")
BULK = BulkRequest("email-verification", "batch", [{"email": "a@b.example"}], ["row-0"])
READERS: dict[str, Callable[[Provider], Any]] = {
    "submit_single": lambda provider: provider.submit_single(SINGLE),
    "submit_bulk": lambda provider: provider.submit_bulk(BULK),
    **{f"ask {name} one": ask(name, 1) for name in LAYOUTS},
    **{f"ask {name} list": ask(name, 2) for name in LAYOUTS},
    **{
        f"find {name}": lambda provider, name=name: provider.find(
            FindRequest(name, {"x": {}}, ["row-0", "row-1"], "t")
        )
        for name in ("find-people", "find-companies")
    },
    "count": lambda provider: provider.count("find-people", {"x": {}}),
    "list_files": lambda provider: provider.list_files(),
    **{
        f"read_file_items {name}": lambda provider, name=name: provider.read_file_items("f-1", operation=name)
        for name in ("email-search", "email-verification", "domain-search", *LAYOUTS)
    },
    "read_single_items": lambda provider: provider.read_single_items(operation=None),
    "read_item": lambda provider: provider.read_item("s-1", operation="email-verification"),
    "read_item of a page": lambda provider: provider.read_item("-s_1", operation="reverse-lookup"),
    "read_balance": lambda provider: provider.read_balance(),
}


def test_every_method_of_the_provider_is_among_the_readers() -> None:
    methods = {
        name for name, _ in inspect.getmembers(Provider, inspect.isfunction) if not name.startswith("_")
    }

    assert methods - {"close", "judge"} == {name.split()[0] for name in READERS}


@pytest.mark.parametrize("name", READERS)
@given(body=bodies(), status=st.sampled_from([200] * 12 + [201, 204, 301, 400, 401, 404, 408, 429, 500, 502]))
@settings(max_examples=EXAMPLES, deadline=None)
def test_no_answer_ends_in_anything_but_results_or_an_error_of_the_tree(
    name: str, body: bytes, status: int
) -> None:
    wire = Wire(httpx.Response(status, content=body))
    provider = IcypeasProvider(wire.client)
    result = ending(lambda: READERS[name](provider))

    assert len(wire.requests) == 1
    if isinstance(result, ProviderError):
        assert 0 < len(result.message) < 400
        assert result.message.isprintable()
    else:
        check(result, provider)


def check(result: Any, provider: IcypeasProvider) -> None:
    """What every result promises, whatever it was read from."""
    if isinstance(result, str):  # an id, which is stored and sent again
        assert result == result.strip() != ""
    elif isinstance(result, Balance):
        assert result.credits.is_finite()
        assert isinstance(result.credits, Decimal)
    elif isinstance(result, FilePage):
        assert all(file.file_id and file.done >= 0 and file.found >= 0 for file in result.files)
    elif isinstance(result, ItemPage | LeadPage):
        for found in result.items:
            check(found, provider)
    elif isinstance(result, list):
        assert {found.external_id for found in result} <= {"row-0", "row-1"}
        for found in result:
            check(found, provider)
    elif isinstance(result, ProviderItem):
        check_item(result)
        for operation in ("email-search", "email-verification", "domain-search", *LAYOUTS):
            check_item(provider.judge(result, operation=operation, inputs={"email": "a@b.example"}))
    else:
        assert result is None or 0 <= result <= 2_000_000_000


def check_item(found: ProviderItem) -> None:
    assert 0 < len(found.provider_id) <= 128
    assert found.order is None or 0 <= found.order <= 5_000
    assert found.is_charged in (True, False, None)
    for value in found.result.values():
        assert isinstance(value, str) or all(isinstance(entry["email"], str) for entry in value)
    if found.verdict in (Verdict.FOUND, Verdict.DELIVERABLE, Verdict.RISKY):
        assert any(found.result.values())
    # It can be stored: finite, UTF-8, and without the character that databases refuse.
    text = (
        json.dumps([dict(found.raw), dict(found.result)], allow_nan=False, ensure_ascii=False)
        .encode()
        .decode()
    )
    assert not re.search(r"(?<!\\)(\\\\)*\\u0000", text)


@given(body=bodies() | st.binary(max_size=60))
@settings(max_examples=EXAMPLES, deadline=None)
def test_no_webhook_ends_in_anything_but_ids_or_a_refusal(body: bytes) -> None:
    try:
        envelope = hooks._object(body)
    except hooks.HookError:
        return

    for data in (envelope, envelope.get("data")):
        ids = hooks._ids(data if isinstance(data, dict) else {})
        assert all(0 < len(value) <= 128 and value.isprintable() for value in ids)

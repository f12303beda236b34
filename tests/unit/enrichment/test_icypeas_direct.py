"""Routes that answer at once: what is sent, which answer belongs to which row, and that no answer upsets us."""

from __future__ import annotations

import httpx
import pytest

from enrichment.providers.base import (
    BadInputError,
    BulkRequest,
    FindRequest,
    ItemState,
    ReadFailedError,
    RefusedError,
    UncertainOutcomeError,
    Verdict,
)
from enrichment.providers.icypeas import direct
from enrichment.providers.icypeas.provider import IcypeasProvider
from tests.unit.enrichment.icypeas_wire import Wire

PAGE = "https://www.linkedin.com/in/ada-1"


def asking(count: int, *replies) -> tuple[list, Wire]:
    """The items for `count` addresses, and what was sent for them."""
    wire = Wire(*replies)
    return list(IcypeasProvider(wire.client).ask(request(count))), wire


def request(count: int, operation: str = "reverse-lookup") -> BulkRequest:
    rows = [{"email": f"ada{n}@engines.example"} for n in range(count)]
    return BulkRequest(operation, "batch", rows, [f"row-{n}" for n in range(count)])


def many(*answers, **more) -> httpx.Response:
    return httpx.Response(200, json={"success": True, "data": list(answers), **more})


def test_several_rows_go_to_the_list_route_and_come_back_in_their_order():
    found, wire = asking(
        2,
        many(
            {"searchId": "a", "status": "FOUND", "result": PAGE},
            {"searchId": "b", "status": "NOT_FOUND", "result": ""},
        ),
    )

    assert wire.requests[0].url.path == "/api/reverse-email-lookups"
    assert wire.body() == {"data": ["ada0@engines.example", "ada1@engines.example"]}
    assert [(item.external_id, item.verdict, item.result["profile_url"]) for item in found] == [
        ("row-0", Verdict.FOUND, PAGE),
        ("row-1", Verdict.NOT_FOUND, ""),
    ]
    assert [item.is_charged for item in found] == [True, None]


@pytest.mark.parametrize(
    "said",
    [
        {"result": PAGE},
        {"results": PAGE},
        {"url": PAGE},
        {"urls": [{"url": PAGE, "platform": "linkedin"}]},
        {"urls": [PAGE]},
        {"result": {"url": PAGE}},
        {"status": "debited", "result": PAGE},
    ],
)
def test_one_row_goes_to_the_single_route_whose_every_spelling_is_read(said):
    (item,), wire = asking(1, httpx.Response(200, json={"success": True, "status": "FOUND", **said}))

    assert wire.requests[0].url.path == "/api/reverse-email-lookup"
    assert wire.body() == {"email": "ada0@engines.example"}
    assert (item.verdict, item.result["profile_url"], item.external_id) == (Verdict.FOUND, PAGE, "row-0")


@pytest.mark.parametrize(
    ("said", "state", "verdict", "is_known"),
    [
        ({"status": "BAD_INPUT"}, ItemState.BAD_INPUT, None, True),
        ({"status": "INSUFFICIENT_FUNDS"}, ItemState.NO_CREDITS, None, True),
        ({"status": "IN_PROGRESS", "searchId": "s1"}, ItemState.PENDING, None, True),
        ({"status": "PARTLY", "result": PAGE}, ItemState.FINAL, Verdict.UNKNOWN, False),
        ({"status": "FOUND", "result": "javascript:alert(1)"}, ItemState.FINAL, Verdict.NOT_FOUND, True),
        ({"status": "NOT_FOUND", "result": PAGE}, ItemState.FINAL, Verdict.NOT_FOUND, True),
    ],
)
def test_status_decides_what_became_of_a_row(said, state, verdict, is_known):
    (item,), _ = asking(1, httpx.Response(200, json={"success": True, **said}))

    assert (item.state, item.verdict, item.is_known) == (state, verdict, is_known)
    assert item.result.get("profile_url", "") == ""


@pytest.mark.parametrize("more", [{}, {"status": ""}, {"status": None}, {"status": " ", "result": ""}])
def test_answer_without_a_status_still_runs_where_an_id_says_under_what_it_is_read(more):
    (item,), _ = asking(1, httpx.Response(200, json={"success": True, "searchId": "s-1", **more}))
    listed = {"items": [{"_id": "s-1", "results": {}, **more}]}
    wire = Wire(httpx.Response(200, json={"success": True, **listed}))
    read = IcypeasProvider(wire.client).read_item("s-1", operation="reverse-lookup")

    assert read is not None
    for found in (item, read):
        assert (found.state, found.verdict, found.provider_id) == (ItemState.PENDING, None, "s-1")


def test_answer_without_a_status_has_ended_where_it_brings_something_or_cannot_be_read_later():
    found, _ = asking(3, many({"searchId": "a", "result": PAGE}, {"result": ""}, {"searchId": "x" * 129}))

    assert [item.verdict for item in found] == [Verdict.FOUND, Verdict.NOT_FOUND, None]
    # An id that fits no column is none to read by, and says all the same that something began.
    assert (found[2].state, found[2].provider_id) == (ItemState.PENDING, "row-2")


@pytest.mark.parametrize("answers", [[], [{"status": "FOUND"}], [{}, {}, {}], "FOUND", None])
def test_answers_that_do_not_fit_the_rows_are_uncertain(answers):
    with pytest.raises(UncertainOutcomeError, match="do not fit the 2 rows"):
        asking(2, httpx.Response(200, json={"success": True, "data": answers}))


@pytest.mark.parametrize("nothing", [{}, {"searched": 1}, None, []])
def test_answer_that_says_nothing_is_none(nothing):
    found, _ = asking(2, many(nothing, {"status": "NOT_FOUND"}))
    alone, _ = asking(1, httpx.Response(200, json={"success": True}))

    assert [item.external_id for item in found] == ["row-1"]
    assert list(alone) == []


@pytest.mark.parametrize(
    "address", ["linkedin.com/in/ann", "www.linkedin.com/in/ann", "FR.LinkedIn.com/in/ann"]
)
def test_page_without_a_scheme_is_an_address_at_linkedin_alone(address):
    (item,), _ = asking(1, httpx.Response(200, json={"success": True, "status": "FOUND", "result": address}))
    (other,), _ = asking(
        1, httpx.Response(200, json={"success": True, "status": "FOUND", "result": "x.example/ann"})
    )

    assert item.result["profile_url"] == f"https://{address}"
    assert other.result["profile_url"] == ""


def test_malformed_answer_leaves_its_row_out_and_keeps_the_others():
    found, _ = asking(3, many({"status": "FOUND", "result": PAGE}, "gone", {"status": "NOT_FOUND"}))

    assert [item.external_id for item in found] == ["row-0", "row-2"]


@pytest.mark.parametrize(
    ("count", "operation"), [(0, "reverse-lookup"), (51, "reverse-lookup"), (2, "email-search")]
)
def test_what_no_route_takes_is_refused_before_anything_is_sent(count, operation):
    wire = Wire(many())

    with pytest.raises(BadInputError):
        IcypeasProvider(wire.client).ask(request(count, operation))

    assert wire.requests == []


PROFILE = {
    "firstname": "Ada",
    "lastname": "Byron",
    "headline": "Analyst",
    "url": PAGE,
    "numOfConnections": "312",
    "address": {
        "addressLocality": "London",
        "addressRegion": "",
        "addressCountry": "",
        "addressCountryCode": "GB",
    },
    "worksFor": [
        {"name": "Engines", "jobTitle": "Analyst", "startDate": "1843-08-01T00:00:00.000Z"},
        {"name": "Old"},
    ],
    "skills": [{"value": "Mathematics"}, {"value": ""}, "Poetry", 4],
    "languages": [{"value": "English", "norm": "EN"}],
    "ContactInfo": {"linkedinEmail": "ada@engines.example"},
}
COMPANY = {
    "name": "Engines",
    "website": "https://www.engines.example/en?x=1",
    "url": "https://www.linkedin.com/company/engines",
    "industry": "Machinery",
    "type": "Privately Held",
    "numberOfEmployees": -1,
    "foundedYear": "1843",
    "address": {"addressLocality": "London", "addressCountry": "UNK", "addressCountryCode": "UNK"},
    "estimatedRevenuRange": {
        "estimatedMinRevenue": {"amount": 1.50, "unit": "MILLION", "currency": "USD"},
        "estimatedMaxRevenue": {"amount": 5, "unit": "MILLION", "currency": "USD"},
    },
    "employeeGrowth": [{"percentage": 12.5, "timespan": "SIX_MONTHS"}, {"percentage": "x"}],
    "specialties": [{"value": "Engines"}],
}


def ask(operation, rows, *replies):
    wire = Wire(*replies)
    ids = [f"row-{n}" for n in range(len(rows))]
    return list(IcypeasProvider(wire.client).ask(BulkRequest(operation, "batch", rows, ids))), wire


@pytest.mark.parametrize(
    ("operation", "row", "method", "path", "said"),
    [
        (
            "find-profile",
            {"first_name": "Ada", "last_name": "Byron", "company": "engines.example", "job_title": ""},
            "POST",
            "/api/url-search/profile",
            {"firstname": "Ada", "lastname": "Byron", "companyOrDomain": "engines.example"},
        ),
        (
            "find-company",
            {"company": "Engines"},
            "POST",
            "/api/url-search/company",
            {"companyOrDomain": "Engines"},
        ),
        ("scrape-profile", {"profile_url": PAGE + "&a=b"}, "GET", "/api/scrape/profile", PAGE + "&a=b"),
        ("scrape-company", {"company_url": PAGE}, "GET", "/api/scrape/company", PAGE),
    ],
)
def test_row_alone_goes_to_the_single_route_of_its_operation(operation, row, method, path, said):
    result = PAGE if operation.startswith("find") else PROFILE if "profile" in operation else COMPANY
    (item,), wire = ask(
        operation, [row], httpx.Response(200, json={"success": True, "status": "FOUND", "result": result})
    )

    (sent,) = wire.requests
    assert (sent.method, sent.url.path) == (method, path)
    assert (sent.url.params["url"] if method == "GET" else wire.body()) == said
    assert (item.verdict, item.is_charged) == (Verdict.FOUND, True)


@pytest.mark.parametrize(
    ("operation", "row", "path", "body"),
    [
        (
            "find-company",
            {"company": "Engines"},
            "/api/url-search",
            {"type": "company", "data": [{"companyOrDomain": "Engines"}] * 2},
        ),
        ("scrape-profile", {"profile_url": PAGE}, "/api/scrape", {"type": "profile", "data": [PAGE] * 2}),
        ("scrape-company", {"company_url": PAGE}, "/api/scrape", {"type": "company", "data": [PAGE] * 2}),
    ],
)
def test_list_goes_to_the_list_route_of_its_operation(operation, row, path, body):
    found, wire = ask(
        operation, [row, row], many({"status": "NOT_FOUND", "result": None}, {"status": "NOT_FOUND"})
    )

    assert wire.requests[0].url.path == path
    assert wire.body() == body
    assert [item.verdict for item in found] == [Verdict.NOT_FOUND] * 2
    assert not any(any(item.result.values()) for item in found)


def test_profile_is_read_into_its_columns():
    (item,), _ = ask(
        "scrape-profile",
        [{"profile_url": PAGE}],
        httpx.Response(200, json={"success": True, "status": "FOUND", "result": PROFILE}),
    )

    assert item.result == {
        "full_name": "Ada Byron",
        "first_name": "Ada",
        "last_name": "Byron",
        "headline": "Analyst",
        "job_title": "Analyst",
        "company": "Engines",
        "since": "1843-08-01",
        "location": "London",
        "country": "GB",
        "connections": "312",
        "skills": "Mathematics, Poetry, 4",
        "languages": "English",
        "email": "ada@engines.example",
        "profile_url": PAGE,
    }


def test_company_is_read_into_its_columns():
    (item,), _ = ask(
        "scrape-company",
        [{"company_url": PAGE}],
        httpx.Response(200, json={"success": True, "status": "DEBITED", "result": COMPANY}),
    )

    assert {name: value for name, value in item.result.items() if value} == {
        "name": "Engines",
        "website": "https://www.engines.example/en?x=1",
        "domain": "engines.example",
        "industry": "Machinery",
        "type": "Privately Held",
        "growth": "+12.5 % in six months",
        "revenue": "1.5 million USD to 5 million USD",
        "founded": "1843",
        "city": "London",
        "specialties": "Engines",
        "company_url": "https://www.linkedin.com/company/engines",
    }


@pytest.mark.parametrize("number", ["1E-999999", "2.5000" + "1" * 100_000, 2.5000001])
def test_fraction_of_a_page_keeps_three_places(number):
    page = {
        "revenue": {"amount": number, "unit": "MILLION", "currency": "EUR"},
        "employeeGrowth": [{"percentage": number, "timespan": "YEAR"}],
    }

    found = direct.read_company({"result": page})

    assert found["revenue"] in ("2.5 million EUR", "0 million EUR")
    assert found["growth"] in ("+2.5 % in a year", "+0 % in a year")


def test_list_of_pages_that_is_accepted_for_later_is_a_file():
    rows = [{"profile_url": PAGE}] * 2
    wire = Wire(httpx.Response(200, json={"success": True, "file": "file-1"}))

    assert IcypeasProvider(wire.client).ask(BulkRequest("scrape-profile", "b", rows, ["a", "b"])) == "file-1"


def test_list_of_pages_whose_file_has_an_id_that_nothing_could_keep_is_uncertain():
    wire = Wire(httpx.Response(200, json={"success": True, "file": "f" * 129}))
    rows = [{"profile_url": PAGE}] * 2

    with pytest.raises(UncertainOutcomeError, match="names no id"):
        IcypeasProvider(wire.client).ask(BulkRequest("scrape-profile", "b", rows, ["a", "b"]))


# Searches for leads


def find(*replies, count=3, token="", operation="find-people"):
    wire = Wire(*replies)
    ids = [f"row-{n}" for n in range(count)]
    request = FindRequest(operation, {"keyword": {"include": ["a"]}}, ids, token)
    return IcypeasProvider(wire.client).find(request), wire


def page_of(*leads, **more):
    return httpx.Response(200, json={"success": True, "total": 9, "leads": list(leads), **more})


def test_page_of_leads_fills_places_in_order_and_hands_its_token_on():
    lead = {
        "firstname": "Ada",
        "lastname": None,
        "profileUrl": PAGE,
        "lastCompanySize": 12,
        "lastCompanyWebsite": "https://www.engines.example",
    }

    page, wire = find(page_of(lead, {"headline": "x"}, pagination={"size": 3, "token": "next"}), token="this")

    assert wire.body() == {
        "query": {"keyword": {"include": ["a"]}},
        "pagination": {"size": 3, "token": "this"},
    }
    assert ([item.external_id for item in page.items], page.token, page.total) == (
        ["row-0", "row-1"],
        "next",
        9,
    )
    assert page.items[0].result["full_name"] == "Ada"
    assert (page.items[0].result["employees"], page.items[0].result["domain"]) == ("12", "engines.example")
    assert all(item.is_charged for item in page.items)


@pytest.mark.parametrize("pagination", [{"size": 3, "token": "again"}, {"token": None}, {}, None, "x"])
def test_empty_page_is_the_last_whatever_its_token(pagination):
    page, _ = find(page_of(pagination=pagination))

    assert (list(page.items), page.token) == ([], "")


def test_more_leads_than_asked_are_left_out_and_malformed_ones_take_their_place():
    page, _ = find(page_of("gone", {"firstname": "Ada"}, 5, {"firstname": "Bea"}))

    assert [item.verdict for item in page.items] == [Verdict.NOT_FOUND, Verdict.FOUND, Verdict.NOT_FOUND]


@pytest.mark.parametrize(
    "refusal",
    [
        httpx.Response(200, json={"success": False, "validationErrors": ["pagination.token expired"]}),
        httpx.Response(200, json={"success": False, "message": "token expired"}),
        httpx.Response(200, json={"success": False}),
        httpx.Response(200, json={"success": False, "validationErrors": [{"type": "SearchNotFoundError"}]}),
        httpx.Response(400, json={"message": "token expired"}),
    ],
)
def test_token_that_grew_old_is_bad_input(refusal):
    with pytest.raises(BadInputError):
        find(refusal, token="old")


@pytest.mark.parametrize("status", [402, 403, 404])
def test_page_that_is_refused_for_another_reason_than_its_token_is_no_bad_input(status):
    with pytest.raises(RefusedError) as caught:
        find(httpx.Response(status, json={"success": False, "message": "no"}), token="old")

    assert type(caught.value) is RefusedError


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"success": True, "total": 1}, UncertainOutcomeError),
        ({"success": False, "validationErrors": [{"type": "EmptyQueryError"}]}, BadInputError),
    ],
)
def test_answer_without_leads_is_uncertain_and_a_refusal_is_one(said, error):
    with pytest.raises(error):
        find(httpx.Response(200, json=said))


@pytest.mark.parametrize("said", [{}, {"total": None}, {"total": "many"}, {"total": -1}, {"total": [1]}])
def test_count_without_a_total_is_read_again(said):
    wire = Wire(httpx.Response(200, json={"success": True, **said}))

    with pytest.raises(ReadFailedError):
        IcypeasProvider(wire.client).count("find-companies", {"keyword": {"include": ["a"]}})


@pytest.mark.parametrize(
    ("order", "place"),
    [
        (0, 0),
        ("7", 7),
        (" 12 ", 12),
        (5001, None),
        (-1, None),
        (1.5, None),
        (True, None),
        ("one", None),
        (None, None),
    ],
)
def test_place_in_a_list_that_is_answered_later_may_be_a_numeral(order, place):
    listed = {"_id": "s-1", "status": "FOUND", "order": order, "results": {"url": PAGE}}
    wire = Wire(httpx.Response(200, json={"success": True, "items": [listed]}))

    page = IcypeasProvider(wire.client).read_file_items("f-1", operation="find-profile")

    assert [item.order for item in page.items] == [place]


@pytest.mark.parametrize("results", [PAGE, {"url": PAGE}, {"result": PAGE}, {"urls": [{"url": PAGE}]}])
def test_look_up_that_is_read_later_is_found_in_each_spelling(results):
    listed = {"_id": "s-1", "status": "FOUND", "results": results}
    wire = Wire(httpx.Response(200, json={"success": True, "items": [listed]}))

    item = IcypeasProvider(wire.client).read_item("s-1", operation="reverse-lookup")

    assert item is not None
    assert item.result == {"profile_url": PAGE}


def test_list_of_pages_names_its_rows_where_the_account_names_its_user():
    wire = Wire(httpx.Response(200, json={"success": True, "file": "f"}), user_id="usr-1")
    rows = [{"company_url": PAGE}] * 2

    IcypeasProvider(wire.client).ask(BulkRequest("scrape-company", "b", rows, ["a", "b"]))

    assert wire.body() == {
        "type": "company",
        "data": [PAGE, PAGE],
        "user": "usr-1",
        "custom": {"externalIds": ["a", "b"]},
    }

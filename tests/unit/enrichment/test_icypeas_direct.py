"""Routes that answer at once: what is sent, which answer belongs to which row, and that no answer upsets us."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrichment.providers.base import (
    BadInputError,
    BulkRequest,
    ItemState,
    ProviderError,
    UncertainOutcomeError,
    Verdict,
)
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


@pytest.mark.parametrize("answers", [[], [{"status": "FOUND"}], [{}, {}, {}], "FOUND", None])
def test_answers_that_do_not_fit_the_rows_are_uncertain(answers):
    with pytest.raises(UncertainOutcomeError, match="do not fit the 2 rows"):
        asking(2, httpx.Response(200, json={"success": True, "data": answers}))


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


words = st.sampled_from(
    ["FOUND", "found", "NOT_FOUND", "DEBITED", "BAD_INPUT", "NONE", "PARTLY", PAGE, "", "ada"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words
    | st.text(max_size=20)
)
things = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
answers = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("searchId", "status", "result", "results", "url", "urls", "user"), things)
)


@given(
    st.fixed_dictionaries(
        {"success": st.sampled_from([True, True, True, False, None, "true"])},
        optional={
            "data": st.lists(answers | things, max_size=3) | things,
            "validationErrors": things,
            "message": things,
        },
    )
    | things
)
@settings(max_examples=300, deadline=None)
def test_no_answer_ends_in_anything_but_items_or_an_error_of_the_tree(body):
    for count in (1, 2):
        try:
            found, _ = asking(count, httpx.Response(200, json=body))
        except ProviderError:
            continue
        assert {item.external_id for item in found} <= {f"row-{n}" for n in range(count)}

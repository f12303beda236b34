import json
from decimal import Decimal

import httpx
import pytest

from enrichment.providers.base import (
    BadInputError,
    BulkRequest,
    ItemState,
    Provider,
    ReadFailedError,
    SingleRequest,
    UncertainOutcomeError,
    Verdict,
)
from enrichment.providers.factory import make_provider
from enrichment.providers.icypeas.provider import IcypeasProvider
from tests.unit.enrichment.icypeas_wire import SECRET, Wire, answer, payload, present


def talking(*replies, **options) -> tuple[Provider, Wire]:
    wire = Wire(*replies, **options)
    return IcypeasProvider(wire.client), wire


def bulk(
    operation="email-search", rows=({"first_name": "Ada", "company": "engines.example"},)
) -> BulkRequest:
    return BulkRequest(operation, "batch-1", rows, [f"row-{number}" for number in range(len(rows))])


def items(count: int, **more) -> httpx.Response:
    elements = [{"_id": f"i{number}", "status": "FOUND"} for number in range(count)]
    return httpx.Response(200, json={"success": True, "items": elements, **more})


# --- submits ---


@pytest.mark.parametrize(
    ("operation", "row", "sent"),
    [
        (
            "email-search",
            {"first_name": "Ada", "last_name": "Lovelace", "company": "engines.example"},
            ["Ada", "Lovelace", "engines.example"],
        ),
        ("email-search", {"last_name": "Lovelace", "company": "Engines"}, ["", "Lovelace", "Engines"]),
        ("email-verification", {"email": "ada@engines.example"}, ["ada@engines.example"]),
        ("domain-search", {"company": "engines.example"}, ["engines.example"]),
    ],
)
def test_submit_bulk_sends_rows_in_the_layout_of_the_task_with_external_ids(operation, row, sent):
    provider, wire = talking(answer("submit_bulk"))

    assert provider.submit_bulk(bulk(operation, [row, row])) == "f9-Demo_FileId_00001"

    assert wire.requests[0].url.path == "/api/bulk-search"
    assert wire.requests[0].headers["Authorization"] == SECRET
    assert wire.body() == {
        "name": "batch-1",
        "task": operation,
        "data": [sent, sent],
        "custom": {"externalIds": ["row-0", "row-1"]},
    }


def test_submit_bulk_alone_sends_the_user_id_when_one_is_set():
    provider, wire = talking(
        answer("submit_bulk"), answer("submit_single"), answer("items_search"), user_id=" acc_1 "
    )

    provider.submit_bulk(bulk())
    provider.submit_single(SingleRequest("domain-search", {"company": "x.example"}, "row-1"))
    provider.read_single_items(operation=None)

    assert [wire.body(index).get("user") for index in range(3)] == ["acc_1", None, None]


@pytest.mark.parametrize(
    ("operation", "inputs", "sent"),
    [
        (
            "email-search",
            {"first_name": "", "last_name": "Lovelace", "company": "engines.example"},
            {"lastname": "Lovelace", "domainOrCompany": "engines.example"},
        ),
        ("email-verification", {"email": "ada@engines.example"}, {"email": "ada@engines.example"}),
        ("domain-search", {"company": "Engines"}, {"domainOrCompany": "Engines"}),
    ],
)
def test_submit_single_leaves_empty_keys_out(operation, inputs, sent):
    provider, wire = talking(answer("submit_single"))

    assert provider.submit_single(SingleRequest(operation, inputs, "row-7")) == "k3X_demoSearchId_0001"

    assert wire.requests[0].url.path == f"/api/{operation}"
    assert wire.body() == {**sent, "custom": {"externalId": "row-7"}}


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"item": None},
        {"item": "x"},
        {"item": {"_id": ""}},
        {"item": {"_id": {}}},
        {"file": None},
        {"file": []},
        {"file": "f" * 129, "item": {"_id": "i" * 129}},
    ],
)
def test_submit_is_uncertain_when_a_success_names_no_id(found):
    provider, _ = talking(httpx.Response(200, json={"success": True, **found}))

    with pytest.raises(UncertainOutcomeError):
        provider.submit_bulk(bulk())
    with pytest.raises(UncertainOutcomeError):
        provider.submit_single(SingleRequest("email-search", {"company": "x.example"}, "row-1"))


@pytest.mark.parametrize(
    "request_",
    [
        bulk("reading-minds"),
        bulk(rows=()),
        bulk(rows=({"company": "x.example"},) * 5001),
        BulkRequest("email-search", "batch-1", [{"company": "x.example"}], []),
    ],
)
def test_submit_bulk_sends_nothing_when_the_request_cannot_be_right(request_):
    provider, wire = talking(answer("submit_bulk"))

    with pytest.raises(BadInputError):
        provider.submit_bulk(request_)

    assert wire.requests == []


# --- reads ---


def test_read_file_items_asks_for_the_whole_page_of_one_bulk():
    provider, wire = talking(answer("items_search"))

    page = provider.read_file_items("file-1", operation="email-search")

    assert wire.requests[0].url.path == "/api/bulk-single-searchs/read"
    assert wire.body() == {"mode": "bulk", "file": "file-1", "limit": 100}
    assert (page.raw_count, len(page.items), page.cursor) == (15, 13, None)
    assert page.items[0].verdict is Verdict.FOUND


def test_read_file_items_hands_the_whole_sorts_array_on():
    sorts = [["a", 1.5], [None, {"odd": []}]]
    provider, wire = talking(items(100, sorts=sorts), items(3, sorts=sorts))

    first = provider.read_file_items("file-1", operation="email-search")
    second = provider.read_file_items(
        "file-1", operation="email-search", cursor=json.loads(json.dumps(first.cursor))
    )

    assert wire.body() == {"mode": "bulk", "file": "file-1", "limit": 100, "next": True, "sorts": sorts}
    assert second.cursor is None


@pytest.mark.parametrize("more", [{}, {"sorts": None}, {"sorts": []}, {"sorts": "a"}, {"sorts": {"a": 1}}])
def test_read_file_items_ends_when_a_full_page_has_no_sorts(more):
    provider, _ = talking(items(100, **more))

    assert provider.read_file_items("file-1", operation="email-search").cursor is None


def test_read_file_items_goes_on_when_malformed_rows_filled_the_page():
    elements = ["garbage"] * 99 + [{"_id": "good", "status": "FOUND"}]
    provider, _ = talking(httpx.Response(200, json={"success": True, "items": elements, "sorts": [[1], [2]]}))

    page = provider.read_file_items("file-1", operation="email-search")

    assert (page.raw_count, len(page.items), page.cursor) == (100, 1, [[1], [2]])


def test_read_single_items_filters_by_operation_when_one_is_told():
    provider, wire = talking(answer("items_verification"))

    everything = provider.read_single_items(operation=None)
    verified = provider.read_single_items(operation="email-verification")

    assert wire.body(0) == {"mode": "single", "limit": 100}
    assert wire.body(1) == {"mode": "single", "limit": 100, "type": "email-verification"}
    assert everything.items[0].verdict is None
    assert verified.items[0].verdict is Verdict.DELIVERABLE


@pytest.mark.parametrize(
    "found", [{}, {"items": None}, {"items": {}}, {"items": "x"}, {"item": {"_id": "x"}}]
)
def test_read_fails_when_a_success_holds_no_list(found):
    provider, _ = talking(httpx.Response(200, json={"success": True, **found}))

    with pytest.raises(ReadFailedError):
        provider.read_file_items("file-1", operation="email-search")
    with pytest.raises(ReadFailedError):
        provider.read_item("x", operation="email-search")
    with pytest.raises(ReadFailedError):
        provider.list_files()


def test_read_item_finds_the_item_of_that_id():
    provider, wire = talking(answer("items_search"))

    item = present(provider.read_item("s-running", operation="email-search"))

    assert wire.body() == {"id": "s-running", "limit": 1}
    assert (item.provider_id, item.state) == ("s-running", ItemState.PENDING)


@pytest.mark.parametrize(
    "reply", [items(0), items(1), answer("refused_not_found")], ids=["none", "other", "refused"]
)
def test_read_item_is_none_while_the_item_is_not_visible(reply):
    provider, _ = talking(reply)

    assert provider.read_item("fresh", operation="email-search") is None


def test_judge_decides_a_verification_by_the_asked_address():
    provider, _ = talking(answer("items_verification"))
    item = provider.read_single_items(operation=None).items[-1]

    asked = provider.judge(item, operation="email-verification", inputs={"email": "asked@mail.example"})
    unasked = provider.judge(item, operation="email-verification")

    assert (asked.verdict, asked.result["email"]) == (Verdict.DELIVERABLE, "Asked@mail.example")
    assert unasked.verdict is Verdict.UNDELIVERABLE


def test_list_files_pages_by_fifty():
    full = {**payload("files"), "files": payload("files")["files"] * 10}
    provider, wire = talking(httpx.Response(200, json=full), answer("files"))

    first = provider.list_files()
    second = provider.list_files(cursor=first.cursor)

    assert wire.requests[0].url.path == "/api/search-files/read"
    assert wire.body(0) == {"limit": 50}
    assert wire.body(1) == {"limit": 50, "next": True, "sorts": [[1768466400000], [1768380000000]]}
    assert [file.file_id for file in second.files] == ["file-running", "file-finished", "file-unflagged"]
    assert second.cursor is None


def test_read_balance_sends_the_owner_only_when_one_is_told():
    provider, wire = talking(answer("balance"))

    assert provider.read_balance(email="owner@desk.example").credits == Decimal("1234.7")
    assert provider.read_balance().user_id == "acc_demo_0001"

    assert wire.requests[0].url.path == "/api/a/actions/subscription-information"
    assert [wire.body(0), wire.body(1)] == [{"email": "owner@desk.example"}, {}]


def test_read_balance_fails_when_no_credits_are_named():
    provider, _ = talking(httpx.Response(200, json={"userId": "acc", "credits": "plenty"}))

    with pytest.raises(ReadFailedError):
        provider.read_balance()


def test_make_provider_gives_a_provider_that_does_not_show_the_key():
    provider = make_provider(base_url="http://127.0.0.1:9/api", secret=SECRET, user_id="acc_1")

    provider.close()

    assert SECRET not in repr(provider) + repr(vars(provider))


def test_listing_that_does_not_move_on_ends():
    page = {"success": True, "items": [{"_id": f"s-{n}"} for n in range(100)], "sorts": [[1], [2]]}
    provider, _ = talking(httpx.Response(200, json=page))

    first = provider.read_single_items(operation=None)
    again = provider.read_single_items(operation=None, cursor=first.cursor)

    assert first.cursor == [[1], [2]]
    assert again.cursor is None

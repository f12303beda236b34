"""The sandbox as its callers see it: a real process, real HTTP. Its clock stands still unless a test moves it."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from enrichment.providers.icypeas.sandbox.auth import sign_request
from tests.fakes.sandbox_process import API_SECRET, OTHER_SECRET, OTHER_USER_ID, SECRET, USER_ID, run_sandbox

ITEMS = "/bulk-single-searchs/read"
FILES = "/search-files/read"
SUBSCRIPTION = "/a/actions/subscription-information"


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    with run_sandbox(tmp_path_factory.mktemp("sandbox"), "--speed", "0") as running:
        yield running


@pytest.fixture
def sandbox(process):
    process.order("/control/reset", {})
    process.order("/control/settings", {"rate_limits": False})
    return process


def bulk(count, *, task="email-verification", name="list", **custom):
    rows = [[f"ann{number}@firm.example"] for number in range(count)]
    if task == "email-search":
        rows = [[f"Ann{number}", "Lee", "firm.example"] for number in range(count)]
    ids = {"externalIds": [f"row-{number}" for number in range(count)]}
    return {"name": name, "task": task, "data": rows, "custom": {**ids, **custom}}


def drain(sandbox, body, *, path=ITEMS, key="items"):
    """Every page of a listing, front to back."""
    pages = [sandbox.post(path, body)]
    while pages[-1][key]:
        pages.append(sandbox.post(path, {**body, "next": True, "sorts": pages[-1]["sorts"]}))
    return [page[key] for page in pages[:-1]]


def balance(sandbox, user_id=USER_ID):
    return Decimal(sandbox.state()["accounts"][user_id]["credits"])


def refused_fields(answer):
    assert answer["success"] is False
    return [error["field"] for error in answer["validationErrors"]]


# Who may call


@pytest.mark.parametrize(
    "authorization",
    ["", f"Bearer {SECRET}", f"bearer {SECRET}", f'"{SECRET}"', "unknown", f"{SECRET}:", f"{SECRET}x"],
)
def test_call_is_401_unless_it_carries_the_bare_key(sandbox, authorization):
    with sandbox.client(authorization) as client:
        answer = client.post(SUBSCRIPTION, json={})

    assert answer.status_code == 401
    assert answer.json()["message"] == "Unauthorized access."
    state = sandbox.state()
    assert state["requests"][SUBSCRIPTION]["401"] == 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"timestamp": "2020-01-01T00:00:00.000Z"}, 401),
        ({"path": "/api/other"}, 401),
        ({"secret": "x"}, 401),
    ],
)
def test_signed_call_is_allowed_only_with_a_fresh_and_right_signature(sandbox, change, status):
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    stamp = change.get("timestamp", now)
    signature = sign_request(
        change.get("secret", API_SECRET), "POST", change.get("path", f"/api{SUBSCRIPTION}"), stamp
    )

    with sandbox.client(f"{SECRET}:{signature}") as client:
        answer = client.post(SUBSCRIPTION, json={}, headers={"X-ROCK-TIMESTAMP": stamp})

    assert answer.status_code == status


def test_state_tells_whose_secret_arrived_and_how_often(sandbox):
    sandbox.post(SUBSCRIPTION, {})
    sandbox.post(FILES, {})

    accounts = sandbox.state()["accounts"]

    assert (accounts[USER_ID]["secret_received"], accounts[USER_ID]["times_received"]) == (True, 2)
    assert (accounts[OTHER_USER_ID]["secret_received"], accounts[OTHER_USER_ID]["times_received"]) == (
        False,
        0,
    )


def test_account_sees_nothing_of_another_account(sandbox):
    file_id = sandbox.post("/bulk-search", bulk(1))["file"]
    single = sandbox.post("/email-verification", {"email": "a@b.example"})["item"]["_id"]

    with sandbox.client(OTHER_SECRET) as other:
        answers = [other.post(FILES, json={}), other.post(ITEMS, json={"mode": "single"})]
        unknown = [
            other.post(ITEMS, json={"id": single}),
            other.post(ITEMS, json={"mode": "bulk", "file": file_id}),
            other.post(FILES, json={"file": file_id}),
        ]

    assert [answer.json()["total"] for answer in answers] == [0, 0]
    assert {answer.json()["validationErrors"][0]["type"] for answer in unknown} == {"SearchNotFoundError"}


@pytest.mark.parametrize("body", [{"user": "someone-else"}, {}])
def test_bulk_is_401_when_the_needed_user_id_is_wrong_or_missing(sandbox, body):
    sandbox.order("/control/settings", {"needs_user_id": True})

    refused = sandbox.api.post("/bulk-search", json={**bulk(1), **body})
    accepted = sandbox.post("/bulk-search", {**bulk(1), "user": USER_ID})

    assert refused.status_code == 401
    assert refused.json()["validationErrors"][0]["type"] == "UserNotFoundError"
    assert accepted["success"] is True


# Shape of the interface


@pytest.mark.parametrize(
    "path",
    [
        "/email-verifier",
        "/domain-scan",
        "/bulk",
        "/url-search/person",
        "/sync/email-search",
        "/email-search/",
        "//email-search",
    ],
)
def test_path_is_404_when_it_is_not_served(sandbox, path):
    assert sandbox.api.post(path, json={}).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_wrong_method_is_405(sandbox, method):
    answer = sandbox.api.request(method, "/email-search")

    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 100_000, b"nope"])
def test_body_is_400_when_it_is_not_json(sandbox, body):
    assert sandbox.api.post("/email-search", content=body).status_code == 400


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/email-search", {}, ["domainOrCompany", "firstname", "lastname"]),
        (
            "/email-search",
            {"firstname": "", "lastname": 3, "domainOrCompany": "x"},
            ["firstname", "lastname"],
        ),
        ("/email-search", {"firstname": "A", "domainOrCompany": "x", "custom": []}, ["custom"]),
        (
            "/email-search",
            {"firstname": "A", "domainOrCompany": "x", "custom": {"webhookUrl": "no", "externalId": 5}},
            ["custom.webhookUrl", "custom.externalId"],
        ),
        ("/email-search", {"firstname": "\ud800", "domainOrCompany": "x"}, ["firstname"]),
        ("/email-search", [], ["body"]),
        ("/email-verification", {}, ["email"]),
        ("/email-verification", {"email": None}, ["email"]),
        ("/domain-search", {"domainOrCompany": " "}, ["domainOrCompany"]),
        ("/bulk-search", {}, ["name", "task", "data"]),
        ("/bulk-search", {"name": "n", "task": "scan", "data": [["a"]]}, ["task"]),
        ("/bulk-search", {"name": "n", "task": "email-search", "data": [["a", "b"]]}, ["data"]),
        ("/bulk-search", {"name": "n", "task": "domain-search", "data": [["a"], [3]]}, ["data"]),
        ("/bulk-search", {"name": "n", "task": "domain-search", "data": "a"}, ["data"]),
        ("/bulk-search", {"name": "n", "task": "domain-search", "data": []}, ["data"]),
        ("/bulk-search", {"name": "n", "task": "domain-search", "data": [["a"]] * 5001}, ["data"]),
        (
            "/bulk-search",
            {
                "name": "n",
                "task": "domain-search",
                "data": [["a"]],
                "custom": {
                    "externalIds": ["1", "2"],
                    "webhookUrlItem": "x",
                    "webhookUrlBulkDone": "y",
                    "includeResultsInWebhook": 1,
                },
            },
            [
                "custom.externalIds",
                "custom.webhookUrlItem",
                "custom.webhookUrlBulkDone",
                "custom.includeResultsInWebhook",
            ],
        ),
        (ITEMS, {}, ["mode"]),
        (ITEMS, {"mode": "bulk", "type": "email-search"}, ["type"]),
        (ITEMS, {"mode": "single", "file": "x"}, ["file"]),
        (ITEMS, {"file": "x"}, ["mode", "file"]),
        (ITEMS, {"mode": "single", "limit": 101}, ["limit"]),
        (ITEMS, {"mode": "single", "limit": True}, ["limit"]),
        (ITEMS, {"mode": "single", "next": "yes"}, ["next"]),
        (ITEMS, {"mode": "single", "sorts": [[1, 2], [1, 2]]}, ["next"]),
        (ITEMS, {"mode": "single", "next": True, "sorts": [["a"], ["b"]]}, ["sorts"]),
        (FILES, {"limit": 51}, ["limit"]),
        (FILES, {"limit": 0, "status": "open"}, ["status", "limit"]),
        (SUBSCRIPTION, {"email": 5}, ["email"]),
        (SUBSCRIPTION, {"email": "someone@else.example"}, ["email"]),
    ],
)
def test_faulty_body_is_refused_with_every_offending_field(sandbox, path, body, fields):
    answer = sandbox.api.post(path, content=json.dumps(body))

    assert answer.status_code == 200
    assert refused_fields(answer.json()) == fields
    assert set(answer.json()["validationErrors"][0]) == {"field", "type", "message", "humanReadableMessage"}
    state = sandbox.state()
    assert (state["files"], state["singles"]) == ([], 0)


def test_connection_is_kept_open_between_calls(sandbox):
    with sandbox.client(SECRET) as client:
        streams = {id(client.post(FILES, json={}).extensions["network_stream"]) for _ in range(3)}

    assert len(streams) == 1


# Single searches


def test_single_search_passes_through_every_state_and_is_charged_at_the_end(sandbox):
    body = {"firstname": "sbx-found", "lastname": "Lee", "domainOrCompany": "acme.example"}
    answer = sandbox.post(
        "/email-search", {**body, "custom": {"externalId": "e-1", "webhookUrl": "https://h.example/x"}}
    )
    statuses, charges = [], []

    for seconds in (0, 0.6, 1, 3):
        sandbox.order("/control/advance", {"seconds": seconds})
        item = sandbox.post(ITEMS, {"id": answer["item"]["_id"]})["items"][0]
        statuses.append(item["status"])
        charges.append(len(sandbox.charges()))

    assert answer["item"]["status"] == "NONE"
    assert set("".join(answer["item"]["_id"])) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
    )
    assert len(answer["item"]["_id"]) == 20
    assert statuses == ["NONE", "SCHEDULED", "IN_PROGRESS", "FOUND"]
    assert charges == [0, 0, 0, 1]
    assert item["name"] == "__icypeas__individual"
    assert item["user"] == USER_ID
    assert item["userData"] == {"externalId": "e-1", "webhookUrl": "https://h.example/x"}
    assert "file" not in item
    assert balance(sandbox) == 999


def test_single_read_answers_one_item_with_empty_sorts_and_empty_user_data(sandbox):
    search_id = sandbox.post("/domain-search", {"domainOrCompany": "sbx-manyemails.example"})["item"]["_id"]
    sandbox.order("/control/advance", {"seconds": 10})

    answer = sandbox.post(ITEMS, {"id": search_id})

    assert (answer["total"], answer["sorts"]) == (1, [[], []])
    assert answer["items"][0]["userData"] == {"externalId": "", "webhookUrl": ""}
    assert len(answer["items"][0]["results"]["emails"]) == 4


def test_noresults_item_lacks_the_key(sandbox):
    search_id = sandbox.post("/email-verification", {"email": "sbx-noresults@firm.example"})["item"]["_id"]
    sandbox.order("/control/advance", {"seconds": 10})

    assert "results" not in sandbox.post(ITEMS, {"id": search_id})["items"][0]


def test_stuck_item_stays_in_progress_and_slow_item_ends_later(sandbox):
    names = ("sbx-stuck", "sbx-slow")
    ids = [
        sandbox.post("/email-verification", {"email": f"{name}@x.example"})["item"]["_id"] for name in names
    ]
    seen = []

    for seconds in (30, 60, 100_000):
        sandbox.order("/control/advance", {"seconds": seconds})
        seen.append([sandbox.post(ITEMS, {"id": id_})["items"][0]["status"] == "IN_PROGRESS" for id_ in ids])

    assert seen == [[True, True], [True, False], [True, False]]


def test_singles_are_listed_newest_first_filtered_by_task_and_ten_by_default(sandbox):
    for number in range(12):
        custom = {"externalId": str(number)}
        sandbox.post("/email-verification", {"email": "a@b.example", "custom": custom})
    sandbox.post("/domain-search", {"domainOrCompany": "b.example", "custom": {"externalId": "scan"}})

    default = sandbox.post(ITEMS, {"mode": "single"})
    scans = [
        sandbox.post(ITEMS, {"mode": "single", "type": name}) for name in ("domain-search", "domain-scan")
    ]
    pages = drain(sandbox, {"mode": "single", "type": "email-verification", "limit": 5})

    assert (len(default["items"]), default["total"]) == (10, 13)
    assert default["items"][0]["userData"]["externalId"] == "scan"
    assert [page["total"] for page in scans] == [1, 1]
    assert [item["userData"]["externalId"] for page in pages for item in page] == [
        str(n) for n in range(11, -1, -1)
    ]


def test_accepted_work_is_hidden_from_reads_during_the_visibility_lag(sandbox):
    sandbox.order("/control/settings", {"visibility_lag_s": 20})
    single = sandbox.post("/email-verification", {"email": "a@b.example"})["item"]["_id"]
    sandbox.post("/bulk-search", bulk(1))

    def seen():
        listing = sandbox.post(ITEMS, {"mode": "single"})["total"], sandbox.post(FILES, {})["total"]
        return (*listing, sandbox.post(ITEMS, {"id": single})["success"])

    before = seen()
    sandbox.order("/control/advance", {"seconds": 21})

    assert (before, seen()) == ((0, 0, False), (1, 1, True))


# Bulks


def test_bulk_answers_its_file_at_the_top_and_ends_with_every_row_once(sandbox):
    answer = sandbox.post("/bulk-search", bulk(230))
    sandbox.order("/control/advance", {"seconds": 20})

    pages = drain(sandbox, {"mode": "bulk", "file": answer["file"], "limit": 100})
    items = [item for page in pages for item in page]

    assert set(answer) == {"success", "status", "file"}
    assert answer["status"] == "in_progress"
    assert [len(page) for page in pages] == [100, 100, 30]
    assert {item["userData"]["externalId"] for item in items} == {f"row-{number}" for number in range(230)}
    assert all(item["userData"]["externalId"] == f"row-{item['order']}" for item in items)
    assert {(item["file"], item["name"]) for item in items} == {(answer["file"], "list")}


def test_bulk_rows_come_shuffled_in_an_order_that_stays(sandbox):
    file_id = sandbox.post("/bulk-search", bulk(50))["file"]
    body = {"mode": "bulk", "file": file_id, "limit": 100}

    first = [item["order"] for item in sandbox.post(ITEMS, body)["items"]]
    sandbox.order("/control/advance", {"seconds": 20})
    second = [item["order"] for item in sandbox.post(ITEMS, body)["items"]]

    assert first == second != sorted(first)
    assert sorted(first) == list(range(50))


def test_bulk_rows_come_in_row_order_when_shuffle_is_off(sandbox):
    sandbox.order("/control/settings", {"shuffle": False})
    file_id = sandbox.post("/bulk-search", bulk(50))["file"]

    items = sandbox.post(ITEMS, {"mode": "bulk", "file": file_id, "limit": 100})["items"]

    assert [item["order"] for item in items] == list(range(50))


def test_previous_page_is_the_one_that_was_read_before(sandbox):
    file_id = sandbox.post("/bulk-search", bulk(25))["file"]
    body = {"mode": "bulk", "file": file_id, "limit": 10}
    first = sandbox.post(ITEMS, body)
    second = sandbox.post(ITEMS, {**body, "next": True, "sorts": first["sorts"]})

    back = sandbox.post(ITEMS, {**body, "next": False, "sorts": second["sorts"]})
    before_all = sandbox.post(ITEMS, {**body, "next": False, "sorts": first["sorts"]})

    assert [item["_id"] for item in back["items"]] == [item["_id"] for item in first["items"]]
    assert back["sorts"] == first["sorts"]
    assert (before_all["items"], before_all["sorts"]) == ([], [])


def test_rows_of_all_bulks_are_listed_by_creation(sandbox):
    for name in ("one", "two"):
        sandbox.post("/bulk-search", bulk(3, name=name))
        time.sleep(0.01)  # rows of lists made in the same millisecond interleave

    pages = drain(sandbox, {"mode": "bulk", "limit": 4})

    assert [(item["name"], item["order"]) for page in pages for item in page] == [
        (name, order) for name in ("one", "two") for order in range(3)
    ]


def test_files_are_listed_newest_first_with_their_progress(sandbox):
    for number in range(12):
        sandbox.post("/bulk-search", bulk(1, name=f"list {number}"))
    sandbox.order("/control/advance", {"seconds": 30})
    running = sandbox.post("/bulk-search", bulk(1, name="running"))["file"]

    pages = drain(sandbox, {"limit": 5}, path=FILES, key="files")
    done = sandbox.post(FILES, {"status": "done", "limit": 50})
    in_progress = sandbox.post(FILES, {"status": "in_progress"})
    one = sandbox.post(FILES, {"file": running})

    names = [file["name"] for page in pages for file in page]
    assert names == ["running", *(f"list {number}" for number in range(11, -1, -1))]
    assert (done["total"], in_progress["total"], one["total"]) == (12, 1, 1)
    assert [file["finished"] for file in one["files"]] == [False]
    assert all(len(key) == 1 for key in done["sorts"])


def test_file_counts_bad_unpaid_and_aborted_rows_outside_done(sandbox):
    words = ("found", "debited", "notfound", "badinput", "nofunds", "aborted", "stuck")
    rows = [[f"sbx-{word}@firm.example"] for word in words] + [["no-address"]]
    file_id = sandbox.post("/bulk-search", {"name": "mixed", "task": "email-verification", "data": rows})[
        "file"
    ]
    sandbox.order("/control/advance", {"seconds": 30})

    file = sandbox.post(FILES, {"file": file_id})["files"][0]

    counters = {
        key: file[key] for key in ("total", "done", "found", "bad-input", "credits-missing", "aborted")
    }
    assert counters == {"total": 8, "done": 3, "found": 2, "bad-input": 2, "credits-missing": 1, "aborted": 1}
    assert (file["in-progress"], file["finished"], "status" in file) == (1, False, False)


def test_equal_inputs_get_equal_answers_and_each_is_charged(sandbox):
    body = {"name": "twins", "task": "email-verification", "data": [["ann@firm.example"]] * 3}
    file_id = sandbox.post("/bulk-search", body)["file"]
    sandbox.order("/control/advance", {"seconds": 30})

    items = sandbox.post(ITEMS, {"mode": "bulk", "file": file_id})["items"]

    assert len({(item["status"], str(item["results"])) for item in items}) == 1
    assert len({item["_id"] for item in items}) == len(sandbox.charges()) == 3


# Credits


def test_ledger_has_one_row_per_debit_and_adds_up_to_the_balance(sandbox):
    sandbox.post("/bulk-search", bulk(60, task="email-search"))
    sandbox.post("/email-verification", {"email": "a@b.example", "custom": {"externalId": "single"}})
    sandbox.order("/control/advance", {"seconds": 30})

    charges = sandbox.charges()
    items = [item for page in drain(sandbox, {"mode": "bulk", "limit": 100}) for item in page]
    paid = {item["_id"] for item in items if item["status"] in ("FOUND", "DEBITED")}
    single = next(row for row in charges if row["kind"] == "email-verification")

    assert {row["search_id"] for row in charges if row["kind"] == "email-search"} == paid
    assert Counter(row["search_id"] for row in charges).most_common(1)[0][1] == 1
    assert sum(Decimal(row["credits"]) for row in charges) == 1000 - balance(sandbox)
    assert (single["credits"], single["external_id"], single["input"]) == ("0.1", "single", ["a@b.example"])
    assert sandbox.charges(after=charges[-2]["id"]) == charges[-1:]


def test_balance_in_the_subscription_answer_is_fractional_and_without_success(sandbox):
    sandbox.post("/email-verification", {"email": "a@b.example"})
    sandbox.order("/control/advance", {"seconds": 30})

    answers = [sandbox.post(SUBSCRIPTION, body) for body in ({}, {"email": "OPS@desk.example"})]

    assert [answer["credits"] for answer in answers] == [999.9, 999.9]
    assert answers[0]["userId"] == USER_ID
    assert "success" not in answers[0]


@pytest.mark.parametrize(("one_credit_a_row", "is_accepted"), [(False, True), (True, False)])
def test_bulk_is_refused_when_the_account_cannot_pay_for_every_row(sandbox, one_credit_a_row, is_accepted):
    sandbox.order("/control/settings", {"needs_one_credit_a_row": one_credit_a_row})
    with sandbox.client(OTHER_SECRET) as poor:
        fitting = poor.post("/bulk-search", json=bulk(55)).json()
        too_many = poor.post("/bulk-search", json=bulk(56)).json()

    error = too_many["validationErrors"][0]
    assert fitting["success"] is is_accepted
    assert (error["field"], error["type"], error["message"]) == (
        "user",
        "InsufficientCreditsError",
        "insufficient_credits",
    )
    assert len(sandbox.state()["files"]) == int(is_accepted)


def test_rows_end_unpaid_when_credits_run_dry_in_the_middle_of_a_bulk(sandbox):
    rows = [[f"sbx-found-{number}@firm.example"] for number in range(30)]
    with sandbox.client(OTHER_SECRET) as poor:
        bulks = [{"name": name, "task": "email-verification", "data": rows} for name in ("one", "two")]
        assert all(poor.post("/bulk-search", json=body).json()["success"] for body in bulks)
        sandbox.order("/control/advance", {"seconds": 30})
        files = poor.post(FILES, json={}).json()["files"]
        statuses = Counter(
            item["status"] for item in poor.post(ITEMS, json={"mode": "bulk", "limit": 100}).json()["items"]
        )

    assert statuses == {"FOUND": 55, "INSUFFICIENT_FUNDS": 5}
    assert sum(file["credits-missing"] for file in files) == 5
    assert all(file["finished"] for file in files)
    assert balance(sandbox, OTHER_USER_ID) == 0


def test_returned_credits_pay_for_new_searches(sandbox):
    sandbox.order("/control/settings", {"out_of_credits": True})
    broke = sandbox.post("/bulk-search", bulk(1)), sandbox.post(SUBSCRIPTION, {})["credits"]
    sandbox.order("/control/settings", {"out_of_credits": False})
    sandbox.order("/control/credits", {"user_id": USER_ID, "credits": "2.25"})

    accepted = sandbox.post("/bulk-search", bulk(22))

    assert (broke[0]["success"], broke[1], accepted["success"]) == (False, 0, True)
    assert sandbox.state()["accounts"][USER_ID]["granted"] == "2.25"


# Rate limits


@pytest.mark.parametrize(
    ("path", "body", "allowed", "window_s"),
    [
        ("/bulk-search", bulk(1), 1, 1),
        ("/email-verification", {"email": "a@b.example"}, 10, 1),
        (ITEMS, {"mode": "single"}, 30, 60),
        (FILES, {}, 15, 60),
    ],
)
def test_call_above_the_documented_limit_is_429_and_creates_nothing(sandbox, path, body, allowed, window_s):
    # Limits count real seconds: calls that a busy machine spread over more than their window say nothing.
    for _attempt in range(5):
        sandbox.order("/control/reset", {})
        sandbox.order("/control/settings", {"rate_limits": True})
        begin = time.monotonic()
        statuses = [sandbox.api.post(path, json=body).status_code for _ in range(allowed + 2)]
        if time.monotonic() - begin <= 0.8 * window_s:
            break
    else:
        pytest.fail("five times the calls took longer than the window of their limit")
    with sandbox.client(OTHER_SECRET) as other:
        elsewhere = other.post(path, json=body).status_code

    assert statuses == [200] * allowed + [429] * 2
    assert elsewhere == 200
    state = sandbox.state()
    assert state["requests"][path] == {
        "total": allowed + 3,
        "200": allowed + 1,
        "401": 0,
        "429": 2,
        "faults": 0,
    }
    created = len(state["files"]) + state["singles"]
    assert created == (0 if path.endswith("/read") else allowed + 1)


def test_limit_grows_with_the_speed(sandbox):
    sandbox.order("/control/settings", {"rate_limits": True, "speed": 3})

    statuses = [sandbox.api.post(FILES, json={}).status_code for _ in range(46)]

    assert statuses == [200] * 45 + [429]


# Routes that answer at once


def test_reverse_look_up_answers_and_charges_in_the_call(sandbox):
    before = balance(sandbox)

    one = sandbox.post("/reverse-email-lookup", {"email": "ann@sbx-found.example"})
    again = sandbox.post("/reverse-email-lookup", {"email": "ann@sbx-found.example"})
    none = sandbox.post("/reverse-email-lookup", {"email": "ann@sbx-notfound.example"})

    assert (one["status"], one["result"]) == (again["status"], again["result"])
    assert one["result"].startswith("https://www.linkedin.com/in/ann-")
    assert one["searchId"] != again["searchId"]
    assert (none["status"], none["result"]) == ("NOT_FOUND", "")
    assert before - balance(sandbox) == 20
    assert [charge["kind"] for charge in sandbox.charges()] == ["reverse-email-lookup"] * 2


def test_reverse_look_up_of_a_list_keeps_its_order_and_ends_where_the_credits_end(sandbox):
    sandbox.order("/control/credits", {"user_id": USER_ID, "credits": "15"})
    names = ["ann@sbx-found.example", "no address", "bob@sbx-notfound.example", "cleo@sbx-found.example"]

    answer = sandbox.post("/reverse-email-lookups", {"data": names})

    assert [row["status"] for row in answer["data"]] == [
        "FOUND",
        "BAD_INPUT",
        "NOT_FOUND",
        "INSUFFICIENT_FUNDS",
    ]
    assert balance(sandbox) == 5


@pytest.mark.parametrize("data", [None, "a@b.example", ["a@b.example"], [1, 2], ["a@b.example"] * 51])
def test_reverse_look_up_refuses_lists_of_another_shape_whole(sandbox, data):
    answer = sandbox.post("/reverse-email-lookups", {} if data is None else {"data": data})

    assert refused_fields(answer) == ["data"]
    assert sandbox.charges() == []


@pytest.mark.parametrize(
    ("path", "body", "result"),
    [
        (
            "/url-search/profile",
            {"firstname": "Ann", "lastname": "Lee sbx-found", "jobTitle": "CFO"},
            "https://www.linkedin.com/in/ann-lee-sbx-found-",
        ),
        (
            "/url-search/company",
            {"companyOrDomain": "sbx-found.example"},
            "https://www.linkedin.com/company/sbx-found",
        ),
    ],
)
def test_page_search_answers_with_an_address_under_result(sandbox, path, body, result):
    answer = sandbox.post(path, body)

    assert (answer["success"], answer["status"]) == (True, "FOUND")
    assert answer["result"].startswith(result)
    assert sandbox.post(path, body)["result"] == answer["result"]


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/url-search/profile", {"firstname": "Ann", "companyOrDomain": "a.example"}, ["lastname"]),
        ("/url-search/profile", {"firstname": "Ann", "lastname": "Lee"}, ["companyOrDomain", "jobTitle"]),
        ("/url-search/company", {"domainOrCompany": "a.example"}, ["companyOrDomain"]),
        ("/url-search", {"type": "person", "data": [{}]}, ["type"]),
        ("/url-search", {"type": "company", "data": ["a.example"]}, ["data"]),
        ("/url-search", {"type": "company", "data": [{"companyOrDomain": "a"}] * 51}, ["data"]),
        ("/scrape", {"data": ["https://www.linkedin.com/in/ann"]}, ["type"]),
        ("/scrape", {"type": "profile", "data": ["https://x.example/y"] * 51}, ["data"]),
        ("/find-people", {"query": {}}, ["query"]),
        ("/find-people", {"query": {"firstname": ["Ann"]}}, ["query.firstname"]),
        ("/find-people/count", {"query": {"firstname": {"include": ["a"] * 201}}}, ["query.firstname"]),
        (
            "/find-companies",
            {"query": {"type": {"include": ["Nonprofit"]}}, "pagination": {"size": 201}},
            ["pagination.size"],
        ),
        ("/find-companies", {"query": {"headcount": {"=": 3}}}, ["query.headcount"]),
        (
            "/find-companies",
            {"query": {"keyword": {"include": ["a"]}}, "pagination": {"token": "x"}},
            ["pagination.token"],
        ),
    ],
)
def test_direct_routes_refuse_bodies_of_another_shape_whole(sandbox, path, body, fields):
    assert refused_fields(sandbox.post(path, body)) == fields
    assert sandbox.charges() == []


def test_rows_that_say_too_little_end_alone(sandbox):
    answer = sandbox.post(
        "/url-search",
        {
            "type": "profile",
            "data": [
                {"firstname": "Ann"},
                {"firstname": "Ann", "lastname": "Lee", "companyOrDomain": "sbx-found.example"},
            ],
        },
    )

    assert [row["status"] for row in answer["data"]] == ["BAD_INPUT", "FOUND"]


def test_page_that_a_search_found_can_be_read(sandbox):
    found = sandbox.post(
        "/url-search/profile", {"firstname": "Ann", "lastname": "Lee", "companyOrDomain": "sbx-found.example"}
    )
    url = found["result"] + "?sbx-found"

    page = sandbox.api.get("/scrape/profile", params={"url": url}).json()
    many = sandbox.post("/scrape", {"type": "profile", "data": [url, "no page"]})

    assert (page["status"], page["result"]["firstname"], page["result"]["lastname"]) == (
        "FOUND",
        "Ann",
        "Lee",
    )
    assert many["data"][0]["result"] == page["result"]
    assert (many["data"][1]["status"], many["data"][1]["result"]) == ("BAD_INPUT", None)
    assert sandbox.api.post("/scrape/profile", json={"url": url}).status_code == 405


def test_leads_are_counted_for_nothing_and_fetched_page_by_page(sandbox):
    before = balance(sandbox)
    query = {
        "currentJobTitle": {"include": ["sales"]},
        "profileLocation": {"include": ["FR"], "exclude": ["Lyon"]},
    }

    total = sandbox.post("/find-people/count", {"query": query})["total"]
    assert (total > 20, balance(sandbox)) == (True, before)

    seen, token = [], None
    while True:
        pagination = {"size": 20, **({"token": token} if token else {})}
        answer = sandbox.post("/find-people", {"query": query, "pagination": pagination})
        seen += answer["leads"]
        token = answer["pagination"]["token"]
        if not answer["leads"] or not token:
            break

    assert len(seen) == len({lead["profileUrl"] for lead in seen}) == total
    assert all("sales" in lead["lastJobTitle"].lower() and "France" in lead["address"] for lead in seen)
    assert before - balance(sandbox) == Decimal("0.02") * total
    assert not any("email" in key.lower() for key in seen[0])


def test_token_belongs_to_its_query_and_grows_old(sandbox):
    query = {"keyword": {"include": ["a"]}}
    token = sandbox.post("/find-companies", {"query": query, "pagination": {"size": 1}})["pagination"][
        "token"
    ]

    other = sandbox.post(
        "/find-companies", {"query": {"keyword": {"include": ["b"]}}, "pagination": {"token": token}}
    )
    assert refused_fields(other) == ["pagination.token"]

    start, *rest = json.loads(base64.urlsafe_b64decode(token))
    for place in (start + 0.5, True, -1, "1"):
        odd = base64.urlsafe_b64encode(json.dumps([place, *rest]).encode()).decode()
        answer = sandbox.post("/find-companies", {"query": query, "pagination": {"token": odd}})
        assert refused_fields(answer) == ["pagination.token"]

    sandbox.order("/control/advance", {"seconds": 700})
    old = sandbox.post("/find-companies", {"query": query, "pagination": {"token": token}})
    assert refused_fields(old) == ["pagination.token"]


def test_companies_meet_ranges_types_and_growth(sandbox):
    query = {
        "headcount": {">": 50, "<=": 500},
        "type": {"exclude": ["Nonprofit"]},
        "headcountGrowth": {"timespan": "6months", "min": 5},
    }

    answer = sandbox.post("/find-companies", {"query": query, "pagination": {"size": 200}})

    assert answer["leads"]
    assert all(50 < lead["numberOfEmployees"] <= 500 for lead in answer["leads"])
    assert sandbox.post("/find-companies/count", {"query": {"industry": {"include": ["soft"]}}})["total"] == 0


def test_list_of_pages_can_be_answered_later_as_a_file(sandbox):
    sandbox.order("/control/settings", {"scrapes_later": True, "speed": 1000})
    file = sandbox.post(
        "/scrape", {"type": "company", "data": ["https://www.linkedin.com/company/sbx-found"]}
    )["file"]
    sandbox.order("/control/advance", {"seconds": 300})

    (item,) = sandbox.post("/bulk-single-searchs/read", {"mode": "bulk", "file": file, "limit": 100})["items"]

    assert (item["order"], item["results"]["name"]) == (0, "Sbx Found")

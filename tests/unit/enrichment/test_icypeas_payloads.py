import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from enrichment.providers.base import ItemState, Verdict
from enrichment.providers.icypeas import payloads
from tests.unit.enrichment.icypeas_wire import payload, present

SEARCH, VERIFICATION = (
    payloads.Rows((), judge) for judge in (payloads.judge_search, payloads.judge_verification)
)


def parse(kind: str, operation: str) -> dict[str, Any]:
    rows = {"email-search": SEARCH, "email-verification": VERIFICATION}[operation]
    items = [payloads.parse_item(raw, rows=rows) for raw in payload(kind)["items"]]
    return {item.provider_id: item for item in items if item is not None}


def entry(email="", certainty="", mx_provider="") -> dict[str, Any]:
    return {"email": email, "certainty": certainty, "mx_provider": mx_provider}


def test_parse_item_takes_the_highest_ranked_entry_and_keeps_all():
    item = parse("items_search", "email-search")["s-found"]

    assert (item.external_id, item.state, item.verdict) == ("row-3", ItemState.FINAL, Verdict.FOUND)
    assert item.is_charged is True
    assert item.result == {
        "email": "a.lovelace@engines.example",
        "certainty": "ultra_sure",
        "mx_provider": "google",
        "all_emails": [
            entry("ada@engines.example", "probable", "google"),
            entry("a.lovelace@engines.example", "ultra_sure", "google"),
            entry("old@engines.example", "undeliverable", "google"),
        ],
    }


@pytest.mark.parametrize(
    ("provider_id", "state", "verdict", "email", "certainty", "is_charged"),
    [
        ("s-debited-upper", ItemState.FINAL, Verdict.FOUND, "grace@navy.example", "very_sure", True),
        ("s-odd-word", ItemState.FINAL, Verdict.FOUND, "x@odd.example", "cosmic", True),
        ("s-address-on-not-found", ItemState.FINAL, Verdict.NOT_FOUND, "", "", None),
        ("s-debited-empty", ItemState.FINAL, Verdict.NOT_FOUND, "", "", True),
        ("s-debited-not-found", ItemState.FINAL, Verdict.NOT_FOUND, "", "", None),
        ("s-unknown-status", ItemState.FINAL, Verdict.UNKNOWN, "", "", None),
        ("s-garbage-results", ItemState.FINAL, Verdict.FOUND, "plain@text.example", "", True),
    ],
)
def test_parse_item_judges_a_finished_search_by_status_and_entries(
    provider_id, state, verdict, email, certainty, is_charged
):
    item = parse("items_search", "email-search")[provider_id]

    assert (item.state, item.verdict, item.is_charged) == (state, verdict, is_charged)
    assert (item.result["email"], item.result["certainty"]) == (email, certainty)


@pytest.mark.parametrize(
    ("provider_id", "state", "is_charged"),
    [
        ("s-running", ItemState.PENDING, None),
        ("s-no-status", ItemState.PENDING, None),
        ("s-bad-input", ItemState.BAD_INPUT, False),
        ("s-no-funds", ItemState.NO_CREDITS, False),
        ("s-aborted", ItemState.ABORTED, False),
    ],
)
def test_parse_item_gives_no_verdict_when_the_row_did_not_run_to_an_end(provider_id, state, is_charged):
    item = parse("items_search", "email-search")[provider_id]

    assert (item.state, item.verdict, item.is_charged) == (state, None, is_charged)
    assert item.result == {}


def test_parse_item_reads_ids_that_arrive_as_numbers_and_keeps_the_raw_item():
    items = parse("items_search", "email-search")

    assert items["s-no-funds"].external_id == "11"
    assert items["s-aborted"].external_id == ""
    assert items["s-garbage-results"].raw["order"] == "12"


def test_parse_item_leaves_out_what_has_no_id():
    assert len(parse("items_search", "email-search")) == len(payload("items_search")["items"]) - 2
    malformed: list[Any] = [
        None,
        [],
        "text",
        3,
        {},
        {"_id": None},
        {"_id": {}},
        {"_id": "x" * 129},
        {"_id": " "},
    ]
    for raw in malformed:
        assert payloads.parse_item(raw, rows=SEARCH) is None


def test_parse_item_gives_no_verdict_without_an_operation():
    items = {i["_id"]: present(payloads.parse_item(i)) for i in payload("items_verification")["items"]}

    assert {item.verdict for item in items.values()} == {None, Verdict.UNKNOWN}
    assert items["v-unknown-status"].verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("provider_id", "verdict", "certainty"),
    [
        ("v-ultra", Verdict.DELIVERABLE, "ultra_sure"),
        ("v-sure", Verdict.DELIVERABLE, "sure"),
        ("v-probable", Verdict.RISKY, "probable"),
        ("v-undeliverable", Verdict.UNDELIVERABLE, "undeliverable"),
        ("v-undeliverable-not-found", Verdict.UNDELIVERABLE, "undeliverable"),
        ("v-cannot-tell", Verdict.UNKNOWN, "not_found"),
        ("v-odd-word", Verdict.UNKNOWN, "cosmic"),
        ("v-empty", Verdict.UNKNOWN, ""),
        ("v-unknown-status", Verdict.UNKNOWN, ""),
    ],
)
def test_parse_item_judges_a_verification_by_certainty_and_not_by_status(provider_id, verdict, certainty):
    item = parse("items_verification", "email-verification")[provider_id]

    assert (item.state, item.verdict) == (ItemState.FINAL, verdict)
    assert item.result["certainty"] == certainty


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        ("asked@MAIL.example", Verdict.DELIVERABLE),
        ("stranger@mail.example", Verdict.UNDELIVERABLE),
        ("", Verdict.UNDELIVERABLE),
    ],
)
def test_parse_item_prefers_the_asked_address_and_else_the_first(asked, verdict):
    raw = payload("items_verification")["items"][-1]

    item = present(payloads.parse_item(raw, rows=VERIFICATION, asked_email=asked))

    assert item.verdict is verdict


@pytest.mark.parametrize(
    ("word", "beaten"),
    [
        ("ultra_sure", "very_sure"),
        ("very_sure", "sure"),
        ("sure", "probable"),
        ("probable", "never_heard"),
    ],
)
def test_parse_item_ranks_certainties_in_the_documented_order(word, beaten):
    emails = [{"email": "b@x.example", "certainty": beaten}, {"email": "a@x.example", "certainty": word}]

    raw = {"_id": "1", "status": "FOUND", "results": {"emails": emails}}
    item = present(payloads.parse_item(raw, rows=SEARCH))

    assert (item.verdict, item.result["email"]) == (Verdict.FOUND, "a@x.example")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "plain",
        "a@b",
        "a b@x.example",
        "a@@x.example",
        "a@x..example",
        "a@.example",
        "x@y.example\x07",
        "@x.example",
    ],
)
def test_parse_item_finds_nothing_when_the_address_cannot_exist(address):
    raw = {"_id": "1", "status": "FOUND", "results": {"emails": [{"email": address, "certainty": "sure"}]}}

    assert present(payloads.parse_item(raw, rows=SEARCH)).verdict is Verdict.NOT_FOUND


@pytest.mark.parametrize("status", ["none", " Scheduled ", "in_progress", "", None, [], {}, True])
def test_parse_item_is_pending_when_the_status_is_early_or_missing(status):
    item = present(payloads.parse_item({"_id": "1", "status": status}))

    assert item.state is ItemState.PENDING


@pytest.mark.parametrize("status", ["ERROR", "VALID", "PENDING", 7])
def test_parse_item_is_final_when_nobody_knows_the_status(status):
    item = present(payloads.parse_item({"_id": "1", "status": status}, rows=SEARCH))

    assert (item.state, item.verdict, item.raw_status) == (ItemState.FINAL, Verdict.UNKNOWN, str(status))


def test_parse_item_keeps_what_came_with_an_unknown_status_and_gives_it_out_as_nothing():
    emails = [{"email": "ann@x.example", "certainty": "ultra_sure"}]
    raw = {"_id": "1", "status": "PARTLY", "results": {"emails": emails}}

    item = present(payloads.parse_item(raw, rows=SEARCH))

    assert (item.verdict, item.is_known, item.result["email"]) == (Verdict.UNKNOWN, False, "")
    assert [entry["email"] for entry in item.result["all_emails"]] == ["ann@x.example"]


def test_parse_file_reads_numerals_times_and_the_only_completion_flag():
    first, second, third, without_id, text = [payloads.parse_file(raw) for raw in payload("files")["files"]]

    running, finished, unflagged = present(first), present(second), present(third)
    assert (running.total, running.done, running.found, running.is_finished) == (500, 310, 201, False)
    assert running.created_at == datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
    assert (finished.total, finished.done, finished.is_finished, finished.created_at) == (20, 18, True, None)
    assert unflagged.is_finished is True
    assert without_id is None
    assert text is None


def test_parse_file_is_unfinished_when_flag_and_counters_say_nothing():
    assert present(payloads.parse_file({"file": "f"})).is_finished is False
    assert present(payloads.parse_file({"file": "f", "total": 3, "done": 2})).is_finished is False
    assert (
        present(payloads.parse_file({"file": "f", "total": 3, "done": 3, "finished": False})).is_finished
        is False
    )
    assert (
        present(payloads.parse_file({"file": "f", "total": 3, "done": 3, "in-progress": 1})).is_finished
        is False
    )


@pytest.mark.parametrize(
    ("value", "count"),
    [(3, 3), ("3", 3), ("3.0", 3), (2.9, 2), (-4, 0), (True, 0), (None, 0), ([], 0), ("many", 0), ("nan", 0)],
)
def test_count_of_is_a_number_of_rows_whatever_came(value, count):
    assert payloads.count_of(value) == count


def test_count_of_stays_within_a_column():
    assert payloads.count_of(10**400) == payloads.count_of("9e18") == 2_000_000_000


def test_parse_balance_is_exact():
    balance = present(payloads.parse_balance(payload("balance")))

    assert balance.credits == Decimal("1234.7")
    assert (balance.plan, balance.status, balance.user_id) == ("premium", "active", "acc_demo_0001")
    assert present(payloads.parse_balance({"credits": "0.1"})).credits == Decimal("0.1")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (99.70000000000002, "99.7"),
        ("0.1234567", "0.123"),
        (99_999_999_998, "99999999998"),
        (-2.5, "-2.5"),
        ("1e-30", "0"),
    ],
)
def test_parse_balance_keeps_thousandths(said, kept):
    credits = present(payloads.parse_balance({"credits": said})).credits

    assert credits == Decimal(kept)
    assert credits.as_tuple().exponent == -3


@pytest.mark.parametrize(
    "credits",
    [
        None,
        True,
        "",
        "lots",
        [],
        "NaN",
        "1e999999999",
        10**300,
        "-Infinity",
        10**11,
        -(10**11),
        "99999999999.9999",
    ],
)
def test_parse_balance_is_none_when_no_amount_is_named(credits):
    assert payloads.parse_balance({"credits": credits}) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"a": ',
        b"[]",
        b'"text"',
        b"null",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": -Infinity}',
        b"\xff\xfe{",
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b"[" * 60 + b"]" * 60 + b"}",
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_decode_object_is_none_when_there_is_no_usable_object(body):
    assert payloads.decode_object(body) is None


def test_decode_object_replaces_what_a_database_refuses():
    found = payloads.decode_object(
        b'\xef\xbb\xbf{"a\\u0000": ["x\\u0000y", "\\ud800z", "\\ud83d\\ude00\\u0000"]}'
    )

    assert found == {"a�": ["x�y", "�z", "😀�"]}
    json.dumps(found, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            {
                "validationErrors": [{"humanReadableMessage": "H", "message": "m", "type": "T"}],
                "message": "top",
            },
            "H",
        ),
        ({"validationErrors": [{"message": "m", "type": "T"}]}, "m"),
        ({"validationErrors": [{"type": "T"}]}, "T"),
        ({"validationErrors": ["a text"]}, "a text"),
        ({"validationErrors": [{}], "message": "top"}, "top"),
        ({"validationErrors": "a text"}, "a text"),
        ({"validationErrors": [], "error": "e"}, "e"),
        ({"error": {"message": "deep"}}, "deep"),
        ({"message": ["no text"], "error": 5}, "5"),
        ({}, "the body"),
        (None, "the body"),
    ],
)
def test_error_message_is_taken_from_the_first_place_that_says_something(found, message):
    assert payloads.error_message(" the\r\n body ", found) == message


def test_error_fields_are_each_named_once_in_their_order():
    assert payloads.error_fields(payload("refused_fields")) == ("firstname", "domainOrCompany")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("contact@linkedin.com/company/x", False),
        ("a@b?c.example", False),
        ("ann@loxwell.example", True),
        ("o'neil+x@sub.loxwell.example", True),
        ("ann@müller.example", True),
        ("ann@xn--mller-kva.example", True),
    ],
)
def test_address_has_a_host_behind_its_sign(text, is_one):
    assert bool(payloads._ADDRESS.fullmatch(text)) is is_one

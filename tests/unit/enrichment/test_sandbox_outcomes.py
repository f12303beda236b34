from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from enrichment.providers.icypeas.sandbox import auth, schedule
from enrichment.providers.icypeas.sandbox.accounts import make_account
from enrichment.providers.icypeas.sandbox.catalogue import TASKS, to_credits, to_micro
from enrichment.providers.icypeas.sandbox.limiter import SlidingWindow
from enrichment.providers.icypeas.sandbox.outcomes import Outcome, decide, domain_of

SEARCH, VERIFICATION, SCAN = (TASKS[name] for name in ("email-search", "email-verification", "domain-search"))
NOW = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
STAMP = "2026-01-15T08:30:00.000Z"


def certainties(outcome: Outcome) -> list[str]:
    assert outcome.results is not None
    return [entry["certainty"] for entry in outcome.results["emails"]]


def search(first_name: str, company: str = "acme.example") -> Outcome:
    return decide(SEARCH, [first_name, "Doe", company])


def test_signature_matches_the_published_vector():
    signature = auth.sign_request("demo-secret", "POST", "/api/email-search", STAMP)

    assert signature == "3d9b1465af43dc0f3f35687af77f66534a3c61f9"


@pytest.mark.parametrize(
    ("minutes", "is_allowed"), [(0, True), (4, True), (-4, True), (6, False), (-6, False)]
)
def test_signed_request_is_allowed_only_within_five_minutes(minutes, is_allowed):
    account = make_account("key", api_secret="demo-secret")
    authorization = "key:3d9b1465af43dc0f3f35687af77f66534a3c61f9"

    caller = auth.identify(
        [account],
        authorization=authorization,
        timestamp=STAMP,
        method="POST",
        path="/api/email-search",
        now=NOW + timedelta(minutes=minutes),
    )

    assert caller == auth.Caller(account, is_allowed)


def test_account_repr_shows_no_secret():
    text = repr(make_account("hidden-key", api_secret="hidden-secret"))

    assert "hidden" not in text


def test_search_outcomes_have_the_announced_distribution():
    outcomes = [search(f"Ann{number}", f"firm{number}.example") for number in range(4000)]
    statuses = Counter(outcome.status for outcome in outcomes)
    grades = Counter(grade for outcome in outcomes for grade in certainties(outcome)[:1])

    assert 0.59 < (statuses["FOUND"] + statuses["DEBITED"]) / 4000 < 0.65
    assert 40 < statuses["DEBITED_NOT_FOUND"] < 0.1 * statuses["NOT_FOUND"] + 60
    assert min(statuses["FOUND"], statuses["DEBITED"]) > 700
    assert set(grades) == {"ultra_sure", "very_sure", "sure", "probable"}
    assert grades["sure"] < grades["probable"] < grades["ultra_sure"]
    assert any(len(certainties(outcome)) > 1 for outcome in outcomes)


def test_verification_outcomes_have_the_announced_distribution_and_always_cost():
    outcomes = [decide(VERIFICATION, [f"ann{number}@firm.example"]) for number in range(4000)]
    verdicts = Counter((certainties(outcome) or ["not_found"])[0] for outcome in outcomes)

    assert 0.67 < (verdicts["ultra_sure"] + verdicts["very_sure"]) / 4000 < 0.73
    assert 0.06 < verdicts["probable"] / 4000 < 0.10
    assert 0.12 < verdicts["undeliverable"] / 4000 < 0.16
    assert 0.06 < verdicts["not_found"] / 4000 < 0.10
    assert all(outcome.is_charged for outcome in outcomes)
    assert {outcome.status for outcome in outcomes} == {"FOUND", "DEBITED", "NOT_FOUND", "DEBITED_NOT_FOUND"}


def test_outcome_is_the_same_for_any_case_and_outer_space():
    first = decide(VERIFICATION, ["Ann.Lee@Firm.example"])
    second = decide(VERIFICATION, ["  ann.lee@firm.EXAMPLE "])

    assert (first.status, first.is_charged, first.fraction) == (
        second.status,
        second.is_charged,
        second.fraction,
    )


def test_search_is_charged_exactly_when_something_was_found():
    outcomes = [search(f"Ann{number}") for number in range(300)]

    assert all(outcome.is_charged == (outcome.status in ("FOUND", "DEBITED")) for outcome in outcomes)


def test_found_address_is_ascii_and_stands_at_the_asked_domain():
    outcome = decide(SEARCH, ["Zoë sbx-found", "Müßig-Łoś", "https://www.Acme.example:8443/team?x=1"])

    assert outcome.results is not None
    address = outcome.results["emails"][0]["email"]
    assert address.isascii()
    assert address.endswith("mussig-los@acme.example")


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("Côte & Söhne GmbH", "cote-sohne-gmbh.example"),
        ("WWW.Firm.example.", "firm.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("株式会社", "company.example"),
        ("Dr. Who Ltd.", "dr-who-ltd.example"),
    ],
)
def test_domain_of_makes_a_domain_from_what_was_typed(text, domain):
    assert domain_of(text) == domain


@pytest.mark.parametrize(
    ("word", "status", "is_charged", "expected"),
    [
        ("found", "FOUND", True, ["ultra_sure"]),
        ("debited", "DEBITED", True, ["ultra_sure"]),
        ("notfound", "NOT_FOUND", False, []),
        ("debitednotfound", "DEBITED_NOT_FOUND", False, []),
        ("badinput", "BAD_INPUT", False, None),
        ("nofunds", "INSUFFICIENT_FUNDS", False, None),
        ("aborted", "ABORTED", False, None),
        ("unknownstatus", "ON_REVIEW", False, ["ultra_sure"]),
        ("certainty-sure", "FOUND", True, ["sure"]),
        ("certainty-very-sure", "FOUND", True, ["very_sure"]),
        ("certainty-very_sure-sbx-uppercase", "FOUND", True, ["VERY_SURE"]),
        ("certainty-not_found", "DEBITED", True, ["not_found"]),
        ("certainty-maybe", "FOUND", True, ["maybe"]),
        ("uppercase", "FOUND", True, ["ULTRA_SURE"]),
        ("manyemails", "FOUND", True, ["ultra_sure", "very_sure", "sure", "probable"]),
        ("emailonnotfound", "NOT_FOUND", False, ["probable"]),
    ],
)
@pytest.mark.parametrize("place", ["first name", "domain"])
def test_magic_word_forces_the_outcome_of_a_search(place, word, status, is_charged, expected):
    text = f"sbx-{word}"

    outcome = search(text) if place == "first name" else search("Ann", f"{text}.example")

    assert (outcome.status, outcome.is_charged) == (status, is_charged)
    if expected is None:
        assert outcome.results == {}
    else:
        # Without a forced number a second address may come along.
        assert certainties(outcome)[: len(expected) or 1] == expected


def test_magic_word_in_a_local_part_forces_the_outcome_of_a_verification():
    outcome = decide(VERIFICATION, ["joe.sbx-certainty-undeliverable@firm.example"])

    assert (outcome.status, certainties(outcome)) == ("DEBITED", ["undeliverable"])


def test_magic_word_noresults_leaves_the_key_out_and_charges():
    outcome = search("sbx-noresults")

    assert (outcome.status, outcome.results, outcome.is_charged) == ("FOUND", None, True)


@pytest.mark.parametrize(
    ("task", "cells"),
    [
        (SEARCH, ["", "", "a.example"]),
        (SEARCH, ["Ann", "Lee", " "]),
        (VERIFICATION, ["no-address"]),
        (SCAN, [""]),
    ],
)
def test_row_that_cannot_be_asked_is_bad_input_and_free(task, cells):
    outcome = decide(task, cells)

    assert (outcome.status, outcome.is_charged, outcome.needs_funds) == ("BAD_INPUT", False, False)


def test_bulk_of_500_takes_about_eight_seconds_and_a_single_about_three():
    last = max(schedule.time_bulk_row(row, 500, (row * 7 % 500) / 500).ready_ms or 0 for row in range(500))
    single = schedule.time_single(0.5)

    assert 7000 < last <= 8000
    assert single.ready_ms == 3000


def test_sliding_window_lets_a_call_in_again_when_the_oldest_has_left(monkeypatch):
    now = 100.0
    monkeypatch.setattr("enrichment.providers.icypeas.sandbox.limiter.time.monotonic", lambda: now)
    window = SlidingWindow()

    def admit() -> bool:
        return window.admit("user", "/read", calls=2, window_s=60, scale=1)

    first = [admit(), admit(), admit()]
    now = 159.9
    second = admit()
    now = 160.1
    third = [admit(), admit(), admit()]

    assert (first, second, third) == ([True, True, False], False, [True, True, False])


def test_sliding_window_grows_when_less_than_one_call_fits(monkeypatch):
    now = 100.0
    monkeypatch.setattr("enrichment.providers.icypeas.sandbox.limiter.time.monotonic", lambda: now)
    window = SlidingWindow()
    answers = []

    for now in (100.0, 103.9, 104.1):  # noqa: B007  (read by the patched clock)
        answers.append(window.admit("user", "/bulk-search", calls=1, window_s=1, scale=0.25))

    assert answers == [True, False, True]


@pytest.mark.parametrize("text", ["0", "0.1", "99999.9", "0.000001", "100000", "10"])
def test_credits_survive_the_way_to_millionths_and_back(text):
    assert str(to_credits(to_micro(Decimal(text)))) == text


@pytest.mark.parametrize("text", ["-1", "0.0000001", "1e10", "NaN", "Infinity"])
def test_credits_are_refused_when_they_cannot_be_kept_exactly(text):
    with pytest.raises(ValueError, match="credits"):
        to_micro(Decimal(text))

"""Reverse look-up end to end against a sandbox process: the first operation whose calls cannot be looked up."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from enrichment.models import EnrichmentJob
from enrichment.services import submission
from keys import ledger
from keys.models import Call
from people.audit import Actor
from people.models import User
from tests.fakes.engine import Engine, exported, paid_credits, paid_inputs

AsPerson = Callable[[User], Client]

LIST = (
    "email",
    "ann@sbx-found.example",
    "Ann@SBX-found.example",
    "bob@sbx-notfound.example",
    "cleo@sbx-found.example",
    "not an address",
    "dora@sbx-found.example",
    "emil@sbx-badinput.example",
)


def begin(engine: Engine, lines: tuple[str, ...] = LIST, **order: object) -> EnrichmentJob:
    engine.credits("500")
    return engine.begin(engine.draft(lines, operation="reverse-lookup"), **order)


def test_list_of_addresses_brings_profile_pages_two_rows_a_call(engine: Engine) -> None:
    job = engine.run(begin(engine))

    assert (job.state, job.rows_found, job.rows_not_found, job.rows_cached) == ("completed", 3, 1, 1)
    assert (job.rows_failed, job.rows_skipped) == (1, 1)
    # 25 credits may be at risk in one call and a row costs 10; the last row is alone.
    assert (engine.sent("/reverse-email-lookups"), engine.sent("/reverse-email-lookup")) == (2, 1)
    assert paid_credits(engine.sandbox) == ledger.job_sums(job.id).charged == 30
    assert set(paid_inputs(engine.sandbox).values()) == {1}
    rows = list(csv.DictReader(io.StringIO(exported(job).decode())))
    assert rows[0]["icypeas_profile_url"].startswith("https://www.linkedin.com/in/ann-")
    assert rows[1]["icypeas_profile_url"] == rows[0]["icypeas_profile_url"]
    assert rows[2]["icypeas_profile_url"] == ""
    assert len({row["icypeas_profile_url"] for row in rows if row["icypeas_profile_url"]}) == 3


def test_calls_take_the_slot_of_their_own_route(engine: Engine) -> None:
    job = engine.run(begin(engine))

    routes = Counter(Call.objects.filter(job=job.id).values_list("route", flat=True))
    assert (routes["reverse-email-lookups"], routes["reverse-email-lookup"]) == (2, 1)


def test_lost_answer_is_left_to_a_person(engine: Engine, settings: Any) -> None:
    settings.DIRECT_AT_ONCE = 1  # the first two questions are in the first call that Icypeas sees
    engine.fault("/reverse-email-lookups", "reset_after_accept", times=1)

    job = engine.run(begin(engine))

    assert (job.state, job.rows_uncertain) == ("completed", 3)  # two questions, one of them on two rows
    assert set(paid_inputs(engine.sandbox).values()) == {1}
    assert ledger.job_sums(job.id).open == 20


def test_lost_answer_is_paid_again_within_the_limit_set_before(engine: Engine) -> None:
    engine.fault("/reverse-email-lookups", "reset_after_accept", times=1)

    job = engine.run(begin(engine, pay_again_limit=Decimal(20)))

    assert (job.state, job.rows_uncertain, job.rows_found) == ("completed", 0, 3)
    assert job.paid_again == 20
    assert max(paid_inputs(engine.sandbox).values()) == 2


def test_rows_wait_when_the_credits_run_dry_at_icypeas(engine: Engine) -> None:
    job = begin(engine)
    engine.credits("15")

    job = engine.run(job)

    assert (job.state, job.pause_reason) == ("paused", "credits")
    engine.credits("500")
    job = engine.run(submission.resume_job(Actor(engine.person), job.id))
    assert (job.state, job.rows_found) == ("completed", 3)
    assert set(paid_inputs(engine.sandbox).values()) == {1}


def test_look_up_shows_the_page_that_was_found(engine: Engine, as_person: AsPerson) -> None:
    engine.credits("500")
    job = engine.run(
        submission.look_up(
            Actor(engine.person),
            operation="reverse-lookup",
            told={"email": "greta@sbx-found.example"},
            key=engine.key,
            purpose="one",
            freshness_days=90,
            token=submission.new_token(),
        )
    )

    page = as_person(engine.person).get(f"/lookup/reverse-lookup/?job={job.id}").content.decode()

    assert "https://www.linkedin.com/in/greta-" in page
    assert "Look up, at most 10 credits" in page or "Look up, 10 credits" in page
    assert "Verify an email" not in page.partition('id="lookup-answer"')[2]
    assert engine.sent("/reverse-email-lookup") == 1


@pytest.mark.parametrize(("operation", "is_there"), [("reverse-lookup", True), ("email-verification", False)])
def test_start_form_asks_for_the_limit_where_it_means_something(
    engine: Engine, as_person: AsPerson, operation: str, is_there: bool
) -> None:
    engine.credits("500")
    job = engine.draft(
        ["ann@sbx-found.example"] if operation == "email-verification" else LIST, operation=operation
    )
    person = as_person(engine.person)

    page = person.get(f"/jobs/{job.id}/review/").content.decode()
    assert ("Accept paying again" in page) is is_there

    person.post(
        f"/jobs/{job.id}/start/",
        {
            "key": engine.key.id,
            "freshness_days": "90",
            "purpose": "Who wrote to us",
            "token": job.start_token,
            "pay_again": "20",
        },
    )
    job.refresh_from_db()
    assert job.pay_again_limit == (20 if is_there else 0)

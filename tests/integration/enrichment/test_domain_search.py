"""Scanning domains end to end against a sandbox process: a list, one look-up, what is charged and what comes home."""

from __future__ import annotations

import csv
import io

from enrichment.models import Answer
from enrichment.services import submission
from people.audit import Actor
from tests.fakes.engine import Engine, assert_paid_once, exported, paid_credits

LIST = (
    "Company,Website",
    "Found Ltd,https://www.sbx-found.example/about",
    "Found again,sbx-found.example",
    "Nothing AG,sbx-notfound.example",
    "Only a Name SA sbx-found,",
    ",",
)


def test_list_of_companies_brings_their_role_addresses(engine: Engine) -> None:
    job = engine.run(engine.begin(engine.draft(LIST, operation="domain-search")))

    assert (job.state, job.rows_found, job.rows_not_found, job.rows_cached) == ("completed", 2, 1, 1)
    assert job.rows_skipped == 1
    assert_paid_once(engine.sandbox, times=2)
    assert paid_credits(engine.sandbox) == 2
    rows = list(csv.DictReader(io.StringIO(exported(job).decode())))
    assert [row["icypeas_status"] for row in rows] == ["found", "found", "not_found", "found", "skipped"]
    assert rows[0]["icypeas_email"].endswith("@sbx-found.example")
    assert rows[0]["icypeas_email"] in rows[0]["icypeas_all_emails"].split()
    assert rows[1]["icypeas_email"] == rows[0]["icypeas_email"]
    assert rows[1]["icypeas_cached"] == "yes"
    assert rows[2]["icypeas_email"] == ""


def test_look_up_of_one_domain_is_a_single_search(engine: Engine) -> None:
    job = engine.run(
        submission.look_up(
            Actor(engine.person),
            operation="domain-search",
            told={"domain": "sbx-manyemails.example", "company": ""},
            key=engine.key,
            purpose="",
            freshness_days=90,
            token=submission.new_token(),
        )
    )

    assert (job.state, job.rows_found) == ("completed", 1)
    assert engine.sent("/domain-search") == 1
    answer = Answer.objects.get(rows__job=job)
    assert len(answer.result["all_emails"]) > 1
    assert paid_credits(engine.sandbox) == 1

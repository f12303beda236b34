from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import Any

from enrichment import selectors
from enrichment.services import exporting, submission
from keys import ledger
from people.audit import Actor
from people.models import AuditEntry
from tests import factories
from tests.fakes import big_list
from tests.fakes.engine import SPEED, Engine, assert_paid_once, exported


def lines_of(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_list_of_the_main_job_comes_home_whole(engine: Engine) -> None:
    draft = factories.make_job_from_file(big_list.content(), created_by=engine.person)
    job = engine.run(engine.begin(draft))

    export = exported(job)

    assert job.state == "completed"
    big_list.assert_is_the_list(export)
    assert_paid_once(engine.sandbox, times=big_list.distinct_questions())
    found = big_list.read(export)
    asked = [row for row in found if row["icypeas_status_2"] != "skipped"]
    assert {row["icypeas_status_2"] for row in asked} == {"deliverable", "risky", "undeliverable", "unknown"}
    assert sum(row["icypeas_cached"] == "yes" for row in asked) == len(asked) - big_list.distinct_questions()
    assert sum(Decimal(row["icypeas_credits"]) for row in found) == ledger.job_sums(job.id).charged


def test_list_of_the_main_job_has_all_its_rows_when_it_was_paused_and_when_it_was_cancelled(
    engine: Engine, settings: Any
) -> None:
    settings.BATCH_ROWS, settings.BATCHES_IN_FLIGHT = 200, 1
    engine.switch(speed=0)
    job = engine.begin(factories.make_job_from_file(big_list.content(), created_by=engine.person))
    while not job.rows_in_flight:
        engine.step(job)
    submission.pause_job(Actor(engine.person), job.id)
    engine.switch(speed=SPEED)
    engine.run(job)

    paused = exported(job)
    submission.cancel_job(Actor(engine.person), job.id)
    engine.run(job)
    cancelled = exported(job)

    assert big_list.originals(paused) == big_list.originals(cancelled)
    waiting = [row for row in big_list.read(paused) if row["icypeas_status_2"] == "waiting"]
    assert len(waiting) > 900
    assert {row["icypeas_reason"] for row in waiting} == {"The job is paused; this row waits to be sent."}
    assert [row["icypeas_status_2"] for row in big_list.read(cancelled)].count("waiting") == 0
    assert all(
        row["icypeas_reason"] for row in big_list.read(cancelled) if row["icypeas_status_2"] == "skipped"
    )
    assert job.state == "cancelled"


def test_each_state_of_a_row_has_its_words(engine: Engine, settings: Any) -> None:
    settings.BATCH_ROWS, settings.BATCHES_IN_FLIGHT = 4, 1
    rows = ["a@sbx-found.example", "b@sbx-badinput.example", "c@sbx-unknownstatus.example", "no address"]
    engine.switch(speed=0)
    job = engine.start([*rows, "A@sbx-found.example", "d@x.example", "e@x.example"])
    while not job.rows_in_flight:
        engine.step(job)

    before = [line[1:3] for line in lines_of(exported(job))[1:]]
    engine.switch(speed=SPEED)
    engine.run(job)
    after = [[line[1], line[5], line[6]] for line in lines_of(exported(job))[1:]]

    in_flight = ["waiting", "This row was sent and has no answer yet."]
    assert before[:3] == [in_flight] * 3
    assert before[6] == ["waiting", "This row waits to be sent."]
    assert after[:5] == [
        ["deliverable", "no", "0.1"],
        ["failed", "no", "0"],
        ["uncertain", "no", ""],
        ["skipped", "no", "0"],
        ["deliverable", "yes", "0"],
    ]


def test_filtered_export_has_the_rows_of_the_filter_only_and_says_so(engine: Engine) -> None:
    job = engine.run(engine.start(["a@sbx-found.example", "no address", "b@sbx-found.example"]))
    wanted = selectors.RowFilter(state="skipped")

    content = b"".join(exporting.export(job, "raw", wanted))

    assert [line[0] for line in lines_of(content)] == ["email", "no address"]
    assert exporting.file_name(job, "raw", wanted) == f"list-{job.id}-enriched-PARTIAL.csv"
    assert exporting.file_name(job, "excel") == f"list-{job.id}-enriched-excel.csv"


def test_name_of_an_unfinished_export_says_partial(engine: Engine) -> None:
    job = engine.start(3)

    assert exporting.file_name(job, "raw") == f"list-{job.id}-enriched-PARTIAL.csv"


def test_who_took_the_rows_home_is_written_down(engine: Engine) -> None:
    job = engine.run(engine.start(3))

    b"".join(exporting.hand_out(Actor(engine.person), job, "excel"))

    entry = AuditEntry.objects.get(action="job.exported")
    assert (entry.actor, entry.object_id, entry.detail) == (
        engine.person,
        job.id,
        {"preset": "excel", "rows": 3},
    )


def test_export_reads_its_rows_in_chunks(engine: Engine, django_assert_max_num_queries: Any) -> None:
    job = engine.draft(factories.addresses(60))

    with django_assert_max_num_queries(7):
        rows = list(selectors.stream_rows(job, chunk=10))

    assert [row.position for row in rows] == list(range(1, 61))

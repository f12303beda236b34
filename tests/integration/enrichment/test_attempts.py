"""Rows that surely were not paid are sent again by reason; cells that cannot be asked are corrected in place."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db.models import Count

from enrichment.models import Answer, BatchItem, EnrichmentJob, EnrichmentRow
from enrichment.services import attempts, decisions, preparing, submission
from enrichment.services.decisions import Act, Chosen
from keys import ledger
from keys.clock import db_now
from keys.models import Call
from people.audit import Actor
from people.models import AuditEntry
from tests.fakes.engine import Engine, assert_paid_once, books_fit, exported, paid_inputs


def finished_with_bad_input(engine: Engine) -> EnrichmentJob:
    """Two answered rows, one that Icypeas did not accept, one that could not be asked."""
    job = engine.run(
        engine.start(
            ["ann@sbx-found.example", "bad@sbx-badinput.example", "no address", "bob@sbx-found.example"]
        )
    )
    assert (job.rows_failed, job.rows_skipped) == (1, 1)
    return job


def row(job: EnrichmentJob, position: int) -> EnrichmentRow:
    return EnrichmentRow.objects.get(job=job, position=position)


def test_retry_sends_the_chosen_reason_and_nothing_else(engine: Engine) -> None:
    job = finished_with_bad_input(engine)
    before = engine.sent()

    job = submission.retry_rows(Actor(engine.person), job.id, [attempts.BAD_INPUT])

    assert (job.state, job.attempt, job.rows_waiting) == ("queued", 2, 1)
    assert ledger.job_sums(job.id).open == job.price
    books_fit(job)
    job = engine.run(job)
    assert engine.sent() == before + 1
    assert (job.state, job.rows_failed, job.rows_answered) == ("completed", 1, 2)
    assert_paid_once(engine.sandbox, times=2)


def test_corrected_row_is_sent_with_what_the_person_typed(engine: Engine) -> None:
    job = finished_with_bad_input(engine)
    actor = Actor(engine.person)

    for position in (2, 3):
        attempts.correct_row(actor, job.id, position, {"email": f" cleo{position}@sbx-found.example "})
    job.refresh_from_db()
    assert (job.rows_failed, job.rows_skipped) == (1, 1)  # not sent yet
    job = engine.run(submission.retry_rows(actor, job.id, [attempts.CORRECTED]))

    assert (job.state, job.rows_answered) == ("completed", 4)
    assert row(job, 3).cells == ["no address"]
    assert b"no address" in exported(job)
    assert_paid_once(engine.sandbox, times=4)
    assert AuditEntry.objects.filter(action="job.row_corrected").count() == 2


def test_correction_to_something_already_answered_costs_nothing(engine: Engine) -> None:
    job = finished_with_bad_input(engine)
    actor = Actor(engine.person)

    attempts.correct_row(actor, job.id, 3, {"email": "ANN@sbx-found.example"})
    job = engine.run(submission.retry_rows(actor, job.id, [attempts.CORRECTED]))

    assert row(job, 3).state == "cached"
    assert ledger.job_sums(job.id).charged == 2 * job.price
    assert_paid_once(engine.sandbox, times=2)


def test_correction_that_cannot_be_asked_is_refused_and_changes_nothing(engine: Engine) -> None:
    job = finished_with_bad_input(engine)

    with pytest.raises(attempts.AttemptError):
        attempts.correct_row(Actor(engine.person), job.id, 3, {"email": "still none"})

    assert row(job, 3).told is None


@pytest.mark.parametrize("position", [1, 4])
def test_paid_row_is_neither_corrected_nor_sent_again(engine: Engine, position: int) -> None:
    job = finished_with_bad_input(engine)

    with pytest.raises(attempts.AttemptError, match="has an answer"):
        attempts.correct_row(Actor(engine.person), job.id, position, {"email": "x@sbx-found.example"})
    with pytest.raises(attempts.AttemptError, match="No row"):
        attempts.retry(Actor(engine.person), job.id, ["", "accepted_paid", "no_such_reason"])


def test_retry_above_the_cap_changes_nothing(engine: Engine) -> None:
    job = finished_with_bad_input(engine)
    engine.key.daily_cap = Decimal("0.2")
    engine.key.save()

    with pytest.raises(attempts.AttemptError, match="daily cap"):
        submission.retry_rows(Actor(engine.person), job.id, [attempts.BAD_INPUT])

    job.refresh_from_db()
    assert (job.state, job.attempt, job.rows_failed) == ("completed", 1, 1)
    assert Call.objects.filter(job=job.id, outcome="policy_budget").count() == 1


def test_retry_twice_at_once_sends_once(engine: Engine) -> None:
    job = finished_with_bad_input(engine)
    submission.retry_rows(Actor(engine.person), job.id, [attempts.BAD_INPUT])

    with pytest.raises(attempts.AttemptError, match="finished"):
        submission.retry_rows(Actor(engine.person), job.id, [attempts.BAD_INPUT])

    assert ledger.job_sums(job.id).open == job.price


def test_rows_skipped_for_a_warning_may_be_asked_after_all(engine: Engine) -> None:
    draft = engine.draft(["ann@sbx-found.example"])
    EnrichmentRow.objects.create(
        job=draft,
        position=2,
        cells=["info@sbx-found.example"],
        inputs={"email": "info@sbx-found.example"},
        digest="f" * 32,
        state="skipped",
        reason_code="odd",
        reason="Odd.",
    )
    EnrichmentJob.objects.filter(id=draft.id).update(skip_codes=["odd"], rows_total=2, rows_skipped=1)
    job = engine.run(engine.begin(draft))
    assert (job.state, job.rows_skipped) == ("completed", 1)

    job = engine.run(submission.retry_rows(Actor(engine.person), job.id, ["odd"]))

    assert (job.rows_skipped, job.rows_answered) == (0, 2)


@pytest.mark.parametrize("act", [Act.SEND_AGAIN, Act.LOOK_AGAIN])
def test_row_corrected_to_one_that_is_decided_meanwhile_is_asked_with_it(engine: Engine, act: Act) -> None:
    engine.switch(visibility_lag_s=1_000_000)  # listed after both looks
    engine.fault("/bulk-search", "reset_after_accept", times=1)
    job = engine.run(engine.start(["ann at sbx-found.example", "ann@sbx-found.example"]))
    assert (job.rows_skipped, job.rows_uncertain) == (1, 1)
    engine.switch(visibility_lag_s=0)
    actor = Actor(engine.person)

    attempts.correct_row(actor, job.id, 1, {"email": "ann@sbx-found.example"})
    submission.retry_rows(actor, job.id, [attempts.CORRECTED])
    chosen = [Chosen(batch.id, batch.fence) for batch in decisions.uncertain_batches().filter(job=job)]
    submission.decide(actor, job.id, act, chosen, reason="The page of the day before")
    job = engine.run(job)

    assert (job.state, job.rows_answered) == ("completed", 2)
    # Once lost, and once more only because a person said so; never twice in one batch.
    assert max(paid_inputs(engine.sandbox).values()) == (2 if act == Act.SEND_AGAIN else 1)
    assert EnrichmentRow.objects.filter(job=job, is_lead=True).count() == 1
    assert not BatchItem.objects.values("batch", "question").annotate(n=Count("id")).filter(n__gt=1).exists()
    books_fit(job)


def test_row_that_is_linked_to_an_uncertain_question_does_not_stand_for_it_beside_the_other(
    engine: Engine,
) -> None:
    engine.switch(visibility_lag_s=1_000_000)
    engine.fault("/bulk-search", "reset_after_accept", times=1)
    job = engine.run(engine.start(["ann at sbx-found.example", "ann@sbx-found.example"]))
    attempts.correct_row(Actor(engine.person), job.id, 1, {"email": "ann@sbx-found.example"})
    job = submission.retry_rows(Actor(engine.person), job.id, [attempts.CORRECTED])

    # A worker that dies here leaves the job queued; the uncertain row may be decided before another one goes on.
    preparing._link(job, EnrichmentRow.objects.filter(job=job, state="waiting"))

    assert row(job, 1).question == row(job, 2).question
    assert (row(job, 1).is_lead, row(job, 2).is_lead) == (False, True)


def test_next_attempt_takes_no_answer_that_is_older_than_the_job_allows(engine: Engine) -> None:
    first = engine.run(engine.start(["ann@sbx-found.example"]))
    Answer.objects.filter(job=first).update(answered_at=db_now() - timedelta(days=60))
    job = engine.run(engine.start(["ann at sbx-found.example", "bob@sbx-found.example"]))
    EnrichmentJob.objects.filter(id=job.id).update(fresh_after=db_now() - timedelta(days=130))
    attempts.correct_row(Actor(engine.person), job.id, 1, {"email": "ann@sbx-found.example"})
    EnrichmentJob.objects.filter(id=job.id).update(freshness_days=30)

    job = engine.run(submission.retry_rows(Actor(engine.person), job.id, [attempts.CORRECTED]))

    assert (row(job, 1).state, row(job, 2).state) == ("found", "found")
    assert paid_inputs(engine.sandbox)[("ann@sbx-found.example",)] == 2


def test_retry_costs_what_its_page_says_when_known_answers_have_grown_old(engine: Engine) -> None:
    first = engine.run(engine.start(["ann@sbx-found.example"]))
    Answer.objects.filter(job=first).update(answered_at=db_now() - timedelta(days=93))
    job = engine.run(engine.start(["ann at sbx-found.example", "bob@sbx-found.example"]))
    attempts.correct_row(Actor(engine.person), job.id, 1, {"email": "ann@sbx-found.example"})
    # As if it had been started five days before today, when that answer was still fresh.
    EnrichmentJob.objects.filter(id=job.id).update(fresh_after=db_now() - timedelta(days=95))
    job.refresh_from_db()
    shown = attempts.costs(job)[attempts.CORRECTED]

    before = ledger.job_sums(job.id).reserved
    submission.retry_rows(Actor(engine.person), job.id, [attempts.CORRECTED])

    assert shown == ledger.job_sums(job.id).reserved - before == job.price

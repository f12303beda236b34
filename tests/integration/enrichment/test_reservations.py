"""What a job holds follows its rows: a sample first, a long pause, other jobs' answers."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from enrichment import selectors
from enrichment.models import EnrichmentJob, EnrichmentRow
from enrichment.services import reservations, submission
from keys import ledger
from keys.clock import db_now
from people.audit import Actor
from tests.fakes.engine import Engine, assert_paid_once, books_fit


def found(count: int, start: int = 0) -> list[str]:
    return [f"p{n}@sbx-found.example" for n in range(start, start + count)]


def with_sample(engine: Engine, lines: list[str]) -> EnrichmentJob:
    job = engine.start(lines, is_sample=True)
    return engine.run(job)


# --- a sample first -----------------------------------------------------------------------------------------------------


def test_sample_asks_ten_rows_and_waits_for_a_person(engine: Engine) -> None:
    job = with_sample(engine, found(30) + [f"no{n}@sbx-notfound.example" for n in range(3)])

    assert (job.state, job.pause_reason) == ("paused", "sample")
    assert (job.sample_asked, job.rows_answered) == (10, 10)
    answered = EnrichmentRow.objects.filter(job=job, in_sample=True)
    assert job.sample_good == answered.filter(state="found").count()
    sums = ledger.job_sums(job.id)
    assert (sums.reserved, sums.open) == (10 * job.price, Decimal(0))


def test_going_on_after_the_sample_pays_no_row_twice(engine: Engine) -> None:
    job = with_sample(engine, found(30))

    job = submission.resume_job(Actor(engine.person), job.id)
    assert ledger.job_sums(job.id).open == 20 * job.price
    books_fit(job)
    job = engine.run(job)

    assert (job.state, job.rows_found) == ("completed", 30)
    assert_paid_once(engine.sandbox, times=30)


def test_cancelling_after_the_sample_costs_the_sample_alone(engine: Engine) -> None:
    job = with_sample(engine, found(30))

    job = engine.run(submission.cancel_job(Actor(engine.person), job.id))

    assert (job.state, job.rows_found, job.rows_skipped) == ("cancelled", 10, 20)
    sums = ledger.job_sums(job.id)
    assert (sums.charged, sums.open) == (10 * job.price, Decimal(0))


def test_going_on_without_enough_credits_is_refused_and_stays_paused(engine: Engine) -> None:
    job = with_sample(engine, found(30))
    engine.key.daily_cap = 15 * job.price
    engine.key.save()

    with pytest.raises(submission.SubmissionError, match="daily cap"):
        submission.resume_job(Actor(engine.person), job.id)

    job.refresh_from_db()
    assert (job.state, job.rows_waiting) == ("paused", 20)


def test_short_list_needs_no_sample(engine: Engine) -> None:
    job = with_sample(engine, found(10))

    assert (job.state, job.rows_found, job.sample_rows) == ("completed", 10, 0)


def test_sample_rate_replaces_the_expectation(engine: Engine) -> None:
    job = with_sample(engine, [*found(15), *(f"n{n}@sbx-notfound.example" for n in range(15))])
    # What an operation would say that charges for good answers alone.
    EnrichmentJob.objects.filter(id=job.id).update(charged_when_empty=False, sample_good=4)
    job.refresh_from_db()

    progress = selectors.progress(job)

    charged = ledger.job_sums(job.id).charged
    assert progress.expected_end == charged + 20 * job.price * Decimal("0.4")


def test_answers_of_another_job_take_nothing_from_a_sample(engine: Engine) -> None:
    job = engine.start(found(30), is_sample=True)
    for _ in range(2):  # queued → running → sent
        engine.step(job)
    other = engine.start(found(31))

    engine.run_all([other, job])

    job.refresh_from_db()
    other.refresh_from_db()
    assert (job.state, job.rows_answered, other.state) == ("completed", 30, "completed")
    assert_paid_once(engine.sandbox, times=31)


# --- a long pause ---------------------------------------------------------------------------------------------------------


def paused_long_ago(engine: Engine, lines: list[str]) -> EnrichmentJob:
    job = engine.start(lines)
    submission.pause_job(Actor(engine.person), job.id)
    EnrichmentJob.objects.filter(id=job.id).update(paused_at=db_now() - timedelta(days=8))
    job.refresh_from_db()
    return job


def test_paused_job_keeps_its_reservation_for_a_week(engine: Engine) -> None:
    job = engine.start(found(3))
    submission.pause_job(Actor(engine.person), job.id)

    assert reservations.give_back_overdue() == 0
    assert ledger.job_sums(job.id).open == 3 * job.price


@pytest.mark.parametrize("is_prepared", [False, True])
def test_after_a_week_it_is_given_back_and_reserved_again_on_resume(
    engine: Engine, is_prepared: bool
) -> None:
    job = paused_long_ago(engine, found(3))
    if is_prepared:
        job = submission.resume_job(Actor(engine.person), job.id)
        engine.step(job)
        submission.pause_job(Actor(engine.person), job.id)
        EnrichmentJob.objects.filter(id=job.id).update(paused_at=db_now() - timedelta(days=8))

    assert reservations.give_back_overdue() == 1
    assert reservations.give_back_overdue() == 0
    assert ledger.job_sums(job.id).open == 0

    job = submission.resume_job(Actor(engine.person), job.id)
    assert ledger.job_sums(job.id).open == 3 * job.price
    job = engine.run(job)
    assert (job.state, job.rows_found) == ("completed", 3)


def test_resume_that_no_longer_fits_stays_paused_and_says_why(engine: Engine) -> None:
    job = paused_long_ago(engine, found(3))
    reservations.give_back_overdue()
    engine.key.daily_cap = job.price
    engine.key.save()

    with pytest.raises(submission.SubmissionError, match="stays paused"):
        submission.resume_job(Actor(engine.person), job.id)

    assert EnrichmentJob.objects.get(id=job.id).state == "paused"


def test_rows_at_icypeas_stay_covered_through_a_long_pause(engine: Engine, settings: Any) -> None:
    settings.BATCH_ROWS = 2
    settings.BATCHES_IN_FLIGHT = 1
    job = engine.start(found(5))
    for _ in range(2):
        engine.step(job)
    assert job.rows_in_flight == 2
    submission.pause_job(Actor(engine.person), job.id)
    EnrichmentJob.objects.filter(id=job.id).update(paused_at=db_now() - timedelta(days=8))

    reservations.give_back_overdue()

    assert ledger.job_sums(job.id).open == 2 * job.price
    job = engine.run(job)
    assert (job.state, job.rows_found, job.rows_waiting) == ("paused", 2, 3)


# --- before the start ---------------------------------------------------------------------------------------------------


def test_estimate_names_questions_that_other_jobs_are_asking(engine: Engine) -> None:
    first = engine.start(found(3))
    engine.step(first)
    draft = engine.draft(found(5))

    estimate = selectors.estimate(draft, realm="sandbox", fresh_after=db_now() - timedelta(days=90))

    assert (estimate.ask, estimate.on_their_way, estimate.on_their_way_from) == (5, 3, (first.id,))
    assert estimate.at_most == 5 * estimate.price
    assert EnrichmentRow.objects.filter(job=draft, state="waiting").count() == 5

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery

from enrichment import tasks
from enrichment.choices import BatchState, PauseReason, RowState
from enrichment.models import Answer, Batch, EnrichmentJob, EnrichmentRow, Question
from enrichment.providers import factory
from enrichment.providers.base import BadInputError
from enrichment.services import (
    answers,
    balances,
    batching,
    collecting,
    decisions,
    looking,
    preparing,
    processing,
    provider_call,
    send_path,
    submission,
)
from enrichment.services.transitions import lock_job, move_rows, pause
from keys import ledger, presence
from keys.clock import db_now
from keys.models import Account, Call, JobUse, KeyRecord, LedgerEntry, Worker
from people.audit import Actor
from tests import factories
from tests.fakes.engine import SPEED, Engine, assert_paid_once, books_fit, exported, paid_credits, paid_inputs
from tests.fakes.listing import HidingProvider
from tests.fakes.sandbox_process import SECRET

SUBMIT = "/bulk-search"


class Killed(BaseException):
    """Stands for SIGKILL: nothing between here and the test may catch it."""


def kill_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool) -> None:
    """The next call of `owner.name` ends the worker, before it or after it was carried out."""
    original: Callable[..., Any] = getattr(owner, name)

    def killed(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(owner, name, original)
        if after:
            original(*args, **options)
        raise Killed

    monkeypatch.setattr(owner, name, killed)


def die(engine: Engine, job: EnrichmentJob) -> None:
    """Work on the job until the planted kill, then let the dead worker's lease run out."""
    with pytest.raises(Killed):
        engine.run(job)
    end_leases()


def end_leases() -> None:
    Batch.objects.filter(lease_until__isnull=False).update(lease_until=db_now() - timedelta(seconds=1))


def actor(engine: Engine) -> Actor:
    return Actor(engine.person)


# --- the whole way ---------------------------------------------------------------------------------------------------


def test_list_ends_completed_with_every_row_answered(engine: Engine) -> None:
    job = engine.run(engine.start(7))

    assert job.state == "completed"
    assert job.rows_answered == 7
    assert_paid_once(engine.sandbox, times=7)
    assert ledger.job_sums(job.id).charged == paid_credits(engine.sandbox)


def test_answers_belong_to_their_rows_when_the_sandbox_shuffles_them(engine: Engine) -> None:
    lines = [f"{name}{n}@sbx-found.example" for n in range(60) for name in ("ann", "bob")]

    job = engine.run(engine.start(lines))

    rows = EnrichmentRow.objects.filter(job=job).select_related("answer").order_by("position")
    assert [row.answer.result["email"].lower() for row in rows if row.answer] == lines


def test_list_is_sent_in_batches_of_the_set_size(engine: Engine, settings: Any) -> None:
    settings.BATCH_ROWS = 20

    job = engine.run(engine.start(45))

    assert list(Batch.objects.filter(job=job).values_list("size", flat=True)) == [20, 20, 5]
    assert engine.sent() == 3
    assert_paid_once(engine.sandbox, times=45)


def test_duplicates_share_one_paid_answer(engine: Engine) -> None:
    job = engine.run(engine.start(["a@x.example", "A@X.example ", "b@x.example", "a@x.example"]))

    assert job.rows_cached == 2
    assert job.useful_results == job.rows.filter(answer__is_good=True).count()
    assert_paid_once(engine.sandbox, times=2)
    assert len(set(EnrichmentRow.objects.filter(job=job).values_list("answer", flat=True))) == 2


def look_up(engine: Engine, email: str = "ann@sbx-found.example") -> EnrichmentJob:
    return submission.look_up(
        actor(engine),
        operation="email-verification",
        told={"email": email},
        key=engine.key,
        purpose="",
        freshness_days=90,
        token=submission.new_token(),
    )


def test_look_up_is_sent_as_a_single_search(engine: Engine) -> None:
    job = engine.run(look_up(engine))

    assert job.rows_found == 1
    assert engine.sent("/email-verification") == 1
    assert engine.sent() == 0
    assert_paid_once(engine.sandbox, times=1)


def test_calls_of_a_look_up_hold_nothing_of_whom_it_asked_for(engine: Engine) -> None:
    engine.run(look_up(engine))

    texts = set(Call.objects.values_list("job_text")) | set(JobUse.objects.values_list("job_text"))
    assert texts == {("verify 1 email",)}


def test_look_up_overtakes_a_list_within_its_slice(engine: Engine) -> None:
    engine.switch(speed=0)
    listed = engine.start(5)
    single = submission.look_up(
        actor(engine),
        operation="email-verification",
        told={"email": "ann@sbx-found.example"},
        key=engine.key,
        purpose="",
        freshness_days=90,
        token=submission.new_token(),
    )
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        engine.switch(speed=SPEED)
        return steps > 200 or EnrichmentJob.objects.get(id=single.id).is_finished

    processing.run_slice(listed.id, should_stop=stop)

    assert EnrichmentJob.objects.get(id=single.id).state == "completed"


def test_slice_on_a_job_that_has_gone_ends_quietly(engine: Engine) -> None:
    processing.run_slice(987_654)

    assert Call.objects.count() == 0


def test_slice_does_nothing_when_the_job_has_ended(engine: Engine) -> None:
    job = engine.run(engine.start(3))
    calls = Call.objects.count()

    processing.run_slice(job.id)

    assert Call.objects.count() == calls


# --- the error table: submitting -------------------------------------------------------------------------------------


def test_refused_connection_is_tried_again_and_costs_nothing(engine: Engine, settings: Any) -> None:
    address, settings.ICYPEAS_BASE_URL = settings.ICYPEAS_BASE_URL, "http://127.0.0.1:9/api"
    job = engine.start(3)
    engine.step(job)  # prepares
    engine.step(job)

    batch = Batch.objects.get(job=job)
    assert batch.state == BatchState.READY
    assert job.rows_waiting == 3
    assert "could not be reached" in job.state_text
    assert list(Call.objects.values_list("outcome", flat=True)) == ["not_sent"]

    settings.ICYPEAS_BASE_URL = address
    engine.run(job)
    assert job.state == "completed"
    assert_paid_once(engine.sandbox, times=3)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("reset_after_accept", {}),
        ("status", {"status": 500, "accept": True}),
        ("status", {"status": 503, "accept": True}),
        ("html", {"status": 502}),
        ("html", {"status": 200}),
        ("truncated", {}),
        ("empty", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.get("status", "")),
)
def test_accepted_submit_without_an_answer_is_found_again_and_not_resent(
    engine: Engine, kind: str, more: dict[str, Any]
) -> None:
    engine.fault(SUBMIT, kind, **more)

    job = engine.run(engine.start(4))

    assert job.state == "completed"
    assert job.rows_answered == 4
    assert engine.sent() == 1
    assert_paid_once(engine.sandbox, times=4)
    assert Call.objects.filter(route="bulk-search").get().outcome == "uncertain"
    assert any("none was sent twice" in event.text for event in job.events.all())


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("reset_before", {}),
        ("status", {"status": 500}),
        ("html", {"accept": False}),
        ("empty", {"accept": False, "status": 200}),
    ],
    ids=["reset", "500", "html", "empty"],
)
def test_submit_that_nobody_lists_is_left_to_a_person_after_two_looks(
    engine: Engine, kind: str, more: dict[str, Any]
) -> None:
    engine.fault(SUBMIT, kind, **more)

    job = engine.run(engine.start(4))

    batch = Batch.objects.get(job=job)
    assert (batch.state, batch.looks) == (BatchState.UNCERTAIN, 2)
    assert job.state == "completed"
    assert job.rows_uncertain == 4
    assert engine.sent() == 1
    assert engine.sandbox.charges() == []
    assert ledger.job_sums(job.id).open == ledger.job_sums(job.id).reserved
    assert b"It may have been charged" in exported(job)


def test_lost_submit_is_adopted_when_the_listing_lags_behind(engine: Engine, settings: Any) -> None:
    settings.SETTLE_S = (
        5.0  # counted from before the send, the lag from its arrival: a busy machine lies between
    )
    engine.switch(visibility_lag_s=40)  # 0.2 s of ours: the first looks see nothing
    engine.fault(SUBMIT, "reset_after_accept")

    job = engine.run(engine.start(4))

    assert job.rows_answered == 4
    assert_paid_once(engine.sandbox, times=4)


def test_first_look_before_the_settle_time_decides_nothing(engine: Engine, settings: Any) -> None:
    settings.SETTLE_S = 60.0
    engine.fault(SUBMIT, "reset_before")
    job = engine.start(2)

    for _ in range(12):
        engine.step(job)

    batch = Batch.objects.get(job=job)
    assert (batch.state, batch.looks) == (BatchState.DOUBT, 0)
    assert job.rows_in_flight == 2


def test_uncertain_question_is_not_asked_by_a_later_job_either(engine: Engine) -> None:
    engine.fault(SUBMIT, "reset_before")
    engine.run(engine.start(["a@x.example"]))

    later = engine.run(engine.start(["a@x.example", "b@x.example"], is_again=True))

    assert later.rows_uncertain == 1
    assert later.rows_answered == 1
    assert paid_inputs(engine.sandbox) == {("b@x.example",): 1}
    assert ledger.job_sums(later.id).open == 0


def test_refused_key_pauses_the_job_and_resume_goes_on(engine: Engine) -> None:
    engine.switch(key_revoked=True)
    job = engine.run(engine.start(3))

    assert (job.state, job.pause_reason, job.rows_waiting) == ("paused", "key", 3)
    assert engine.sandbox.charges() == []

    engine.switch(key_revoked=False)
    submission.resume_job(actor(engine), job.id)
    engine.run(job)
    assert job.state == "completed"
    assert_paid_once(engine.sandbox, times=3)


def test_too_many_calls_are_waited_for(engine: Engine, settings: Any) -> None:
    engine.fault(SUBMIT, "status", status=429, times=2)

    job = engine.run(engine.start(3))

    assert job.state == "completed"
    outcomes = list(Call.objects.filter(route="bulk-search").order_by("id").values_list("outcome", flat=True))
    assert outcomes == ["vendor_429", "vendor_429", "ok"]
    assert_paid_once(engine.sandbox, times=3)


def test_too_many_calls_without_end_are_tried_ever_more_rarely(engine: Engine) -> None:
    engine.fault(SUBMIT, "status", status=429, times=None)
    job = engine.start(3)
    fellow = engine.start(["other@x.example"])
    calls = Call.objects.filter(route="bulk-search")
    until = time.monotonic() + 60

    while calls.filter(job=job.id).count() < 11 and time.monotonic() < until:
        engine.step(job)
        engine.step(fellow)

    # Three times after the window of a second, then after 2, 4, 8 … up to 60, all of them compressed.
    assert set(calls.values_list("outcome", flat=True)) == {"vendor_429"}
    moments = list(calls.filter(job=job.id).order_by("id").values_list("at", flat=True))
    gaps = [(later - sooner).total_seconds() for sooner, later in itertools.pairwise(moments)]
    waits = [min(2 ** max(tries - 3, 0), 60) / SPEED for tries in range(1, len(moments))]
    assert len(gaps) >= 10
    assert all(gap >= wait for gap, wait in zip(gaps, waits, strict=True))
    assert (job.state, job.rows_waiting, job.rows_failed) == ("running", 3, 0)
    assert job.state_text.startswith("Icypeas refuses for too many calls (429). The next try is at ")

    engine.sandbox.order("/control/faults", {"clear": True})
    engine.run_all([job, fellow])
    assert [each.state for each in (job, fellow)] == ["completed", "completed"]
    assert job.state_text == ""
    assert_paid_once(engine.sandbox, times=4)


def test_too_few_credits_at_the_submit_pause_the_job(engine: Engine) -> None:
    engine.credits("0.2")
    job = engine.run(engine.start(3))

    assert (job.state, job.pause_reason, job.rows_waiting) == ("paused", "credits", 3)
    assert ledger.job_sums(job.id).open == ledger.job_sums(job.id).reserved

    engine.credits("50")
    submission.resume_job(actor(engine), job.id)
    engine.run(job)
    assert job.state == "completed"
    assert_paid_once(engine.sandbox, times=3)


def test_rows_wait_again_when_credits_run_dry_within_a_bulk(engine: Engine) -> None:
    engine.switch(speed=0)
    job = engine.start(10)
    while job.rows_in_flight < 10:
        engine.step(job)
    engine.credits("0.5")
    engine.switch(speed=SPEED)
    engine.run(job)

    assert (job.state, job.pause_reason) == ("paused", "credits")
    assert (job.rows_answered, job.rows_waiting) == (5, 5)

    engine.credits("50")
    submission.resume_job(actor(engine), job.id)
    engine.run(job)
    assert job.state == "completed"
    assert job.rows_answered == 10
    assert_paid_once(engine.sandbox, times=10)


def test_refused_batch_fails_its_rows_and_gives_their_credits_back(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> str:
        raise BadInputError("bulk-search: the rows are too wide", fields=("data",))

    monkeypatch.setattr(send_path, "_submit", refuse)

    job = engine.run(engine.start(2))

    assert job.rows_failed == 2
    assert ledger.job_sums(job.id).released == ledger.job_sums(job.id).reserved
    assert Batch.objects.get(job=job).state == BatchState.REFUSED


# --- the error table: single rows ------------------------------------------------------------------------------------


def test_row_that_icypeas_does_not_accept_fails_alone_and_costs_nothing(engine: Engine) -> None:
    job = engine.run(engine.start(["a@sbx-badinput.example", "b@x.example"]))

    assert (job.rows_failed, job.rows_answered) == (1, 1)
    assert ledger.job_sums(job.id).released > 0
    assert answers.BAD_INPUT_TEXT.encode() in exported(job)


def test_aborted_rows_wait_for_a_person_and_cost_nothing(engine: Engine) -> None:
    job = engine.run(engine.start(["a@sbx-aborted.example", "b@x.example"]))

    assert (job.state, job.rows_waiting, job.rows_answered) == ("paused", 1, 1)
    assert paid_inputs(engine.sandbox) == {("b@x.example",): 1}


def test_unknown_status_leaves_the_row_to_a_person(engine: Engine) -> None:
    job = engine.run(engine.start(["a@sbx-unknownstatus.example", "b@x.example"]))

    row = EnrichmentRow.objects.get(job=job, position=1)
    assert (row.state, row.reason_code) == ("uncertain", answers.UNKNOWN_STATUS)
    assert "ON_REVIEW" in row.reason
    assert row.answer is not None
    assert row.answer.raw["status"] == "ON_REVIEW"
    assert job.rows_answered == 1
    assert ledger.job_sums(job.id).open == job.price
    line = exported(job).decode().splitlines()[1]
    assert line.startswith('a@sbx-unknownstatus.example,uncertain,"Icypeas ended this row')


def test_row_with_an_unknown_status_is_not_asked_again_by_a_machine(engine: Engine) -> None:
    engine.run(engine.start(["a@sbx-unknownstatus.example"]))

    later = engine.run(engine.start(["a@sbx-unknownstatus.example"], is_again=True))

    assert later.rows_uncertain == 1
    assert engine.sent() == 1


def test_answer_missing_on_a_later_page_is_fetched_by_a_second_pass(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    hiding = HidingProvider(pages={2})
    monkeypatch.setattr(factory, "make_provider", hiding.around(factory.make_provider))

    job = engine.run(engine.start(150))

    assert hiding.hidden > 0
    assert job.rows_answered == 150
    assert_paid_once(engine.sandbox, times=150)


def test_row_that_never_comes_back_is_left_to_a_person(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    hiding = HidingProvider(emails={"ann7@company7.example"})
    monkeypatch.setattr(factory, "make_provider", hiding.around(factory.make_provider))

    job = engine.run(engine.start(120))

    assert (job.rows_uncertain, job.rows_answered) == (1, 119)
    assert EnrichmentRow.objects.get(job=job, state="uncertain").position == 7
    assert hiding.reads == 2 * collecting.PASSES  # of two pages each


def test_answers_that_are_listed_later_than_the_end_of_their_list_are_waited_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """A list says that it has ended, and its rows show up two minutes later: as long as the settle time."""
    hiding = HidingProvider(late_s=settings.SETTLE_S)
    monkeypatch.setattr(factory, "make_provider", hiding.around(factory.make_provider))

    job = engine.run(engine.start(3))

    assert hiding.hidden > 0
    assert (job.state, job.rows_answered) == ("completed", 3)
    assert_paid_once(engine.sandbox, times=3)


# --- the error table: reading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["/search-files/read", "/bulk-single-searchs/read"])
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("status", {"status": 503}),
        ("status", {"status": 429}),
        ("reset_before", {}),
        ("truncated", {}),
        ("html", {}),
        ("empty", {}),
    ],
    ids=["503", "429", "reset", "truncated", "html", "empty"],
)
def test_failed_read_is_repeated_and_costs_nothing(
    engine: Engine, route: str, kind: str, more: dict[str, Any]
) -> None:
    engine.fault(route, kind, times=2, **more)

    job = engine.run(engine.start(3))

    assert job.state == "completed"
    assert job.state_text == ""
    assert_paid_once(engine.sandbox, times=3)


def test_key_refused_while_reading_pauses_and_resume_brings_the_answers(engine: Engine) -> None:
    engine.switch(speed=0)
    job = engine.start(3)
    while job.rows_in_flight < 3:
        engine.step(job)
    engine.switch(speed=SPEED, key_revoked=True)
    engine.run(job)

    assert (job.state, job.pause_reason, job.rows_in_flight) == ("paused", "key", 3)

    engine.switch(key_revoked=False)
    submission.resume_job(actor(engine), job.id)
    engine.run(job)
    assert job.state == "completed"
    assert_paid_once(engine.sandbox, times=3)


def test_lost_secret_pauses_the_job_and_says_which(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ICYPEAS_API_KEY")

    job = engine.run(engine.start(3))

    assert (job.state, job.pause_reason) == ("paused", "key")
    assert "ICYPEAS_API_KEY" in job.state_text
    assert Call.objects.get().outcome == "secret_missing"
    assert engine.sent() == 0


def test_lost_scope_stops_sending_and_still_collects(engine: Engine, settings: Any) -> None:
    settings.BATCH_ROWS, settings.BATCHES_IN_FLIGHT = 2, 1
    engine.switch(speed=0)
    job = engine.start(4)
    while job.rows_in_flight < 2:
        engine.step(job)
    engine.key.scopes = ["email-search:bulk"]
    engine.key.save()
    engine.switch(speed=SPEED)
    engine.run(job)

    assert (job.state, job.pause_reason) == ("paused", "policy")
    assert (job.rows_answered, job.rows_waiting) == (2, 2)
    assert "email-verification:bulk" in job.state_text
    assert engine.sent() == 1


# --- pause, resume, cancel -------------------------------------------------------------------------------------------


def half_sent(engine: Engine, settings: Any) -> EnrichmentJob:
    """A job of six rows with two of them at Icypeas, whose clock stands still."""
    settings.BATCH_ROWS, settings.BATCHES_IN_FLIGHT = 2, 1
    engine.switch(speed=0)
    job = engine.start(6)
    while job.rows_in_flight < 2:
        engine.step(job)
    return job


def test_pause_stops_sending_and_still_collects(engine: Engine, settings: Any) -> None:
    job = half_sent(engine, settings)
    submission.pause_job(actor(engine), job.id)
    engine.switch(speed=SPEED)
    engine.run(job)

    assert (job.state, job.rows_answered, job.rows_waiting) == ("paused", 2, 4)
    assert engine.sent() == 1
    assert ledger.job_sums(job.id).open == 4 * job.price
    assert exported(job).count(b"waiting,The job is paused") == 4

    submission.resume_job(actor(engine), job.id)
    engine.run(job)
    assert job.state == "completed"
    assert_paid_once(engine.sandbox, times=6)


def test_cancel_gives_the_waiting_reservation_back_at_once(engine: Engine, settings: Any) -> None:
    job = half_sent(engine, settings)
    submission.cancel_job(actor(engine), job.id)

    job.refresh_from_db()
    assert (job.state, job.rows_skipped, job.rows_in_flight) == ("cancelling", 4, 2)
    assert ledger.job_sums(job.id).open == 2 * job.price
    books_fit(job)

    engine.switch(speed=SPEED)
    engine.run(job)
    assert (job.state, job.rows_answered) == ("cancelled", 2)
    assert engine.sent() == 1
    assert ledger.job_sums(job.id).open == 0
    lines = exported(job).decode().splitlines()
    assert len(lines) == 7
    assert sum("skipped,Cancelled" in line for line in lines) == 4


def test_cancel_before_the_first_slice_gives_everything_back(engine: Engine) -> None:
    job = engine.start(6)
    submission.cancel_job(actor(engine), job.id)

    assert ledger.job_sums(job.id).open == 0
    engine.run(job)
    assert job.state == "cancelled"
    assert engine.sent() == 0


@pytest.mark.parametrize("stop", [submission.pause_job, submission.cancel_job])
def test_batch_that_was_formed_and_not_sent_stays_unsent_when_the_job_is_stopped(
    engine: Engine, settings: Any, stop: Any
) -> None:
    engine.fault(SUBMIT, "status", status=429)
    job = engine.start(3)
    engine.step(job)
    engine.step(job)
    assert Batch.objects.get(job=job).state == BatchState.READY

    stop(actor(engine), job.id)
    engine.run(job)

    assert not Batch.objects.filter(job=job).exists()
    assert not Question.objects.filter(busy_batch__isnull=False).exists()
    assert engine.sent() == 1
    assert engine.sandbox.charges() == []


@pytest.mark.parametrize(
    ("fault", "ends"),
    [
        ({"kind": "status", "status": 429}, "never_sent"),
        ({"kind": "status", "status": 401}, "never_sent"),
        ({"kind": "reset_before"}, "uncertain"),
        ({"kind": "reset_after_accept"}, "answered"),
    ],
    ids=["429", "401", "reset-before", "reset-after"],
)
def test_cancel_during_a_send_ends_the_job_whatever_becomes_of_the_send(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any], ends: str
) -> None:
    engine.fault(SUBMIT, fault.pop("kind"), **fault)
    job = engine.start(3)
    submit = send_path._submit

    def submit_and_cancel(*args: Any) -> str:
        monkeypatch.setattr(send_path, "_submit", submit)
        submission.cancel_job(actor(engine), job.id)
        return submit(*args)

    monkeypatch.setattr(send_path, "_submit", submit_and_cancel)

    engine.run(job)

    assert job.state == "cancelled"
    assert job.rows_open == 0
    counts = {"never_sent": job.rows_skipped, "uncertain": job.rows_uncertain, "answered": job.rows_answered}
    assert counts[ends] == 3
    assert engine.sent() == 1


@pytest.mark.parametrize("word", ["sbx-nofunds", "sbx-aborted"])
def test_cancelled_rows_that_icypeas_did_not_run_are_skipped(
    engine: Engine, settings: Any, word: str
) -> None:
    engine.switch(speed=0)
    job = engine.start([f"a@{word}.example", "b@x.example"])
    while job.rows_in_flight < 2:
        engine.step(job)
    submission.cancel_job(actor(engine), job.id)
    engine.switch(speed=SPEED)

    engine.run(job)

    assert (job.state, job.rows_skipped, job.rows_answered) == ("cancelled", 1, 1)
    assert ledger.job_sums(job.id).open == 0


def test_cancelled_job_still_fetches_its_answers_after_the_key_was_refused(
    engine: Engine, settings: Any
) -> None:
    job = half_sent(engine, settings)
    submission.cancel_job(actor(engine), job.id)
    engine.switch(speed=SPEED, key_revoked=True)
    due_in = 0.0
    for _ in range(5):
        due_in = engine.step(job) or due_in
    job.refresh_from_db()
    assert job.state == "cancelling"
    assert due_in > 0  # it stays due: nobody presses Resume on a cancelled job

    engine.switch(key_revoked=False)
    engine.run(job)
    assert (job.state, job.rows_answered) == ("cancelled", 2)


@pytest.mark.parametrize("mode", ["list", "look-up"])
def test_what_never_ends_is_looked_for_ever_more_rarely_and_left_to_a_person_after_a_day(
    engine: Engine, settings: Any, mode: str
) -> None:
    settings.LOOK_GAPS_S = ((60.0, 15.0), (600.0, 120.0))
    settings.SINGLE_LOOK_MOST_S = 120.0
    engine.switch(speed=0)
    job = engine.start(1) if mode == "list" else look_up(engine)
    while job.rows_in_flight < 1:
        engine.step(job)
    gaps = []
    for age_s in (30, 90, 900):
        then = db_now() - timedelta(seconds=age_s)
        Batch.objects.update(intent_at=then, sent_at=then, next_at=db_now() - timedelta(seconds=1))
        engine.step(job)
        gaps.append((Batch.objects.get().next_at - db_now()).total_seconds())
    expected = [0, 15, 120] if mode == "list" else [15, 45, 120]  # a look-up: half its age
    assert gaps == [pytest.approx(gap, abs=6) for gap in expected]

    then = db_now() - timedelta(days=1, seconds=1)
    Batch.objects.update(sent_at=then, next_at=db_now() - timedelta(seconds=1))
    engine.run(job)

    assert (job.state, job.rows_uncertain) == ("completed", 1)
    assert ledger.job_sums(job.id).open == job.price


# --- questions that two jobs share -----------------------------------------------------------------------------------


def test_question_in_flight_elsewhere_is_paid_once_and_answers_both_jobs(engine: Engine) -> None:
    engine.switch(speed=0)
    first = engine.start(["a@x.example", "b@x.example"])
    while first.rows_in_flight < 2:
        engine.step(first)
    second = engine.start(["b@x.example", "a@x.example", "c@x.example"])
    while second.rows_in_flight < 1:
        engine.step(second)
    assert (second.rows_waiting, ledger.job_sums(second.id).open) == (2, 3 * second.price)

    engine.switch(speed=SPEED)
    engine.run(first)
    engine.run(second)

    assert (first.state, second.state) == ("completed", "completed")
    assert (second.rows_cached, second.rows_answered) == (2, 3)
    assert_paid_once(engine.sandbox, times=3)
    money = ledger.job_sums(second.id)
    assert (money.charged, money.released) == (second.price, 2 * second.price)


def test_waiting_job_takes_over_when_the_payer_was_cancelled_before_it_sent(engine: Engine) -> None:
    engine.fault(SUBMIT, "status", status=429)
    first = engine.start(["a@x.example"])
    engine.step(first)
    engine.step(first)
    second = engine.start(["a@x.example"], is_again=True)
    engine.step(second)
    engine.step(second)
    assert engine.sent() == 1  # the question is in the first job's batch

    submission.cancel_job(actor(engine), first.id)
    engine.run(first)
    engine.run(second)

    assert (first.state, second.state, second.rows_answered) == ("cancelled", "completed", 1)
    assert_paid_once(engine.sandbox, times=1)


def test_job_paused_for_its_key_gives_its_unsent_questions_free(engine: Engine) -> None:
    first = engine.start(["a@x.example"])
    engine.step(first)
    assert batching.claim_batch(first) is not None  # and its worker dies
    second = engine.start(["a@x.example"], is_again=True)
    engine.step(second)
    processing._pause_job(first.id, "Paused: the key was refused.")
    assert (engine.step(first) or 0) > 0  # looked at again when the lease is over
    end_leases()

    engine.run(first)
    engine.run(second)

    assert (first.state, second.state, second.rows_answered) == ("paused", "completed", 1)
    assert_paid_once(engine.sandbox, times=1)


@pytest.mark.parametrize("state", [BatchState.SENT, BatchState.DOUBT, BatchState.COLLECTING])
def test_waiting_job_reads_what_a_job_that_may_not_read_has_sent(engine: Engine, state: str) -> None:
    """The payer's key is quarantined; the same account answers the other key."""
    engine.switch(speed=0)
    if state == BatchState.DOUBT:
        engine.fault(SUBMIT, "reset_after_accept")
    first = engine.start(["a@x.example"])
    while first.rows_in_flight < 1:
        engine.step(first)
    engine.switch(speed=SPEED)
    while not Batch.objects.filter(state=state).exists():
        engine.step(first)
    KeyRecord.objects.filter(id=engine.key.id).update(state="quarantined")
    processing._pause_job(first.id, "Paused: the key is quarantined.")
    other = factories.make_key(account=engine.account)
    second = engine.begin(engine.draft(["a@x.example"]), key=other)

    engine.run(second)
    engine.run(first)

    assert (second.state, second.rows_cached) == ("completed", 1)
    assert (first.state, first.rows_answered) == ("paused", 1)
    assert_paid_once(engine.sandbox, times=1)


def test_refused_key_pauses_the_other_jobs_of_that_key_before_they_ask(engine: Engine) -> None:
    other_key = factories.make_key(account=engine.account)
    jobs = [engine.start(2), engine.start(2, is_again=True), engine.begin(engine.draft(2), key=other_key)]
    engine.switch(key_revoked=True)

    engine.run(jobs[0])

    for job in jobs:
        job.refresh_from_db()
    assert [(job.state, job.pause_reason) for job in jobs] == [
        ("paused", "key"),
        ("paused", "key"),
        ("queued", ""),
    ]
    assert f"Job #{jobs[0].id}" in jobs[1].state_text
    assert engine.sent() == 1


def test_missing_credits_pause_the_other_jobs_of_the_account(engine: Engine) -> None:
    other_key = factories.make_key(account=engine.account)
    stranger = engine.begin(engine.draft(2), key=factories.make_key())
    jobs = [engine.start(2), engine.begin(engine.draft(2), key=other_key)]
    engine.fault(SUBMIT, "refusal", word="InsufficientCreditsError")

    engine.run(jobs[0])

    for job in (*jobs, stranger):
        job.refresh_from_db()
    assert [(job.state, job.pause_reason) for job in jobs] == [("paused", "credits")] * 2
    assert stranger.state == "queued"


def test_running_dry_in_the_middle_pauses_the_other_jobs_of_the_account(engine: Engine) -> None:
    engine.switch(speed=0)
    first = engine.start(10)
    while first.rows_in_flight < 10:
        engine.step(first)
    engine.credits("0.5")
    engine.switch(speed=SPEED)
    second = engine.start(["other@x.example"])

    engine.run(first)

    second.refresh_from_db()
    assert (first.state, first.pause_reason) == ("paused", "credits")
    assert (second.state, second.pause_reason) == ("paused", "credits")
    assert engine.sent() == 1


def test_uncertain_end_in_one_job_is_told_to_the_other(engine: Engine) -> None:
    engine.fault(SUBMIT, "reset_before")
    first = engine.start(["a@x.example"])
    for _ in range(3):
        engine.step(first)
    second = engine.start(["a@x.example"], is_again=True)
    engine.step(second)

    engine.run(first)
    engine.run(second)

    assert (first.rows_uncertain, second.rows_uncertain) == (1, 1)
    assert (ledger.job_sums(first.id).open, ledger.job_sums(second.id).open) == (first.price, 0)
    assert engine.sent() == 1


def test_answer_that_came_while_a_job_was_prepared_is_not_paid_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.switch(speed=0)
    first = engine.start(["a@x.example"])
    while first.rows_in_flight < 1:
        engine.step(first)
    second = engine.start(["a@x.example", "b@x.example"], is_again=True)
    engine.step(second)
    engine.switch(speed=SPEED)
    # As if the answer had been stored by a transaction that did not see the second job's rows yet.
    monkeypatch.setattr(answers, "take_known", lambda job, ids: None)
    engine.run(first)
    monkeypatch.undo()
    monkeypatch.setenv("ICYPEAS_API_KEY", SECRET)

    engine.run(second)

    assert second.rows_answered == 2
    assert_paid_once(engine.sandbox, times=2)


def test_stopped_job_gets_the_answers_that_another_job_paid_for(engine: Engine) -> None:
    engine.switch(speed=0)
    first = engine.start(["a@x.example"])
    while first.rows_in_flight < 1:
        engine.step(first)
    second = engine.start(["a@x.example"], is_again=True)
    engine.step(second)
    submission.pause_job(actor(engine), second.id)
    engine.switch(speed=SPEED)

    engine.run(first)
    engine.run(second)

    assert (second.state, second.rows_cached) == ("completed", 1)
    assert_paid_once(engine.sandbox, times=1)


# --- workers that die ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "name", "after", "uncertain"),
    [
        pytest.param(preparing, "_link", True, 0, id="rows linked"),
        pytest.param(preparing, "prepare", True, 0, id="prepared"),
        pytest.param(batching, "_form_batch", True, 0, id="batch formed"),
        pytest.param(send_path.gate, "admit", False, 0, id="before the gate"),
        pytest.param(send_path.gate, "admit", True, 0, id="before the intent"),
        pytest.param(provider_call, "_provider", False, 5, id="intent committed, nothing sent"),
        pytest.param(send_path, "_submit", True, 0, id="sent, answer not recorded"),
        pytest.param(send_path.gate, "record", False, 0, id="sent, call not recorded"),
        pytest.param(send_path, "_sent", True, 0, id="recorded"),
        pytest.param(looking, "_take_turn", True, 0, id="before a look"),
        pytest.param(looking, "_progress", True, 0, id="after a look"),
        pytest.param(collecting, "_collect", False, 0, id="before collecting"),
        pytest.param(answers, "_write_answers", True, 0, id="answers half written"),
        pytest.param(answers.ledger, "charge", True, 0, id="charge booked in an open transaction"),
        pytest.param(answers, "record_items", True, 0, id="answers written"),
        pytest.param(answers, "close", True, 0, id="batch closed"),
        pytest.param(processing, "finish_if_done", True, 0, id="finished"),
    ],
)
def test_job_ends_and_nothing_is_paid_twice_when_the_worker_dies(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: bool, uncertain: int
) -> None:
    job = engine.start(5)
    kill_once(monkeypatch, owner, name, after=after)
    die(engine, job)

    engine.run(job)

    assert job.state == "completed"
    assert (job.rows_uncertain, job.rows_answered) == (uncertain, 5 - uncertain)
    assert_paid_once(engine.sandbox, times=5 - uncertain)
    assert ledger.job_sums(job.id).charged == paid_credits(engine.sandbox)
    assert engine.sent() <= 1


def test_batch_that_takes_three_workers_down_is_left_out(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = engine.start(3)
    for _ in range(3):
        kill_once(monkeypatch, send_path.gate, "admit", after=False)
        die(engine, job)

    engine.run(job)

    assert (job.state, job.rows_failed) == ("completed", 3)
    assert ledger.job_sums(job.id).open == 0
    assert engine.sent() == 0


def test_answers_that_take_three_workers_down_are_left_to_a_person_and_the_rest_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.BATCH_ROWS = 2
    job = engine.start(4)
    record = answers.record_items

    def poisoned(batch: Batch, items: Any) -> int:
        if batch.number == 1:
            raise Killed
        return record(batch, items)

    monkeypatch.setattr(answers, "record_items", poisoned)
    for _ in range(3):
        die(engine, job)

    engine.run(job)

    assert (job.state, job.rows_uncertain, job.rows_answered) == ("completed", 2, 2)
    assert_paid_once(engine.sandbox, times=4)
    assert ledger.job_sums(job.id).open == 2 * job.price

    monkeypatch.undo()
    monkeypatch.setenv("ICYPEAS_API_KEY", SECRET)
    (batch,) = decisions.uncertain_batches()
    chosen = [decisions.Chosen(batch.id, batch.fence)]
    submission.decide(actor(engine), job.id, decisions.Act.LOOK_AGAIN, chosen, reason="mended")
    engine.run(job)
    assert (job.state, job.rows_answered) == ("completed", 4)
    assert ledger.job_sums(job.id).charged == paid_credits(engine.sandbox)


def test_look_up_whose_answer_takes_three_workers_down_is_left_to_a_person(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = look_up(engine)
    for _ in range(3):
        kill_once(monkeypatch, answers, "record_items", after=False)
        die(engine, job)

    engine.run(job)

    assert (job.state, job.rows_uncertain) == ("completed", 1)
    assert_paid_once(engine.sandbox, times=1)


def test_many_pages_of_answers_are_no_poison(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "PASSES", 8)
    engine.fault("/bulk-single-searchs/read", "status", status=503, times=6)

    job = engine.run(engine.start(3))

    assert (job.state, job.rows_answered) == ("completed", 3)


def test_worker_that_stood_still_before_it_sent_sends_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """SIGSTOP between the intent and the send, for longer than a lease: the batch is looked for by others by then."""
    settings.LEASE_S, settings.HEARTBEAT_S = 0.4, 60.0
    intent = send_path._intent

    def slow(batch: Batch, items: Any) -> Any:
        commit = intent(batch, items)

        def stand_still(permit: Any) -> None:
            commit(permit)
            time.sleep(0.6)

        return stand_still

    monkeypatch.setattr(send_path, "_intent", slow)
    job = engine.start(3)
    while not Call.objects.filter(route="bulk-search").exists():
        engine.step(job)

    assert engine.sent() == 0
    assert Call.objects.get(route="bulk-search").outcome == "not_sent"
    assert (job.rows_waiting, job.rows_in_flight) == (3, 0)

    monkeypatch.setattr(send_path, "_intent", intent)
    engine.run(job)
    assert (job.state, job.rows_answered) == ("completed", 3)
    assert engine.sent() == 1


def test_late_worker_writes_nothing_when_another_has_taken_over(engine: Engine) -> None:
    job = engine.start(3)
    engine.step(job)
    batch = batching.claim_batch(job)
    assert batch is not None
    end_leases()
    taken = batching.claim(batch.id, BatchState.READY)
    assert taken is not None

    with pytest.raises(answers.LostLeaseError):
        answers.record_items(batch, [])
    with pytest.raises(answers.LostLeaseError):
        send_path.send(batch)

    assert engine.sent() == 0
    assert Batch.objects.get(id=batch.id).fence == taken.fence


def test_lease_is_not_taken_while_another_worker_holds_it(engine: Engine) -> None:
    job = engine.start(3)
    engine.step(job)
    batch = batching.claim_batch(job)
    assert batch is not None

    assert batching.claim(batch.id, BatchState.READY) is None
    assert batching.claim_batch(job) is None


# --- waking ----------------------------------------------------------------------------------------------------------


def test_job_is_due_until_a_slice_has_it_and_again_when_that_worker_is_gone(
    engine: Engine, settings: Any
) -> None:
    job = engine.start(3)
    assert processing.due_jobs() == [(job.id, False)]
    assert processing.mark_dispatched(job.id) is True
    assert processing.mark_dispatched(job.id) is False
    assert processing.due_jobs() == []

    EnrichmentJob.objects.filter(id=job.id).update(dispatched_at=db_now() - timedelta(seconds=60))
    assert processing.due_jobs() == [(job.id, False)]

    engine.run(job)
    assert processing.due_jobs() == []


def test_job_of_a_dead_slice_is_due_after_three_missed_beats(engine: Engine, settings: Any) -> None:
    settings.HEARTBEAT_S, settings.LEASE_S = 15, 60
    job = engine.start(3)
    processing.mark_dispatched(job.id)
    processing._beat(job.id)
    EnrichmentJob.objects.filter(id=job.id).update(slice_at=db_now() - timedelta(seconds=3))
    assert processing.due_jobs() == []

    EnrichmentJob.objects.filter(id=job.id).update(slice_at=db_now() - timedelta(seconds=11))
    assert processing.due_jobs() == [(job.id, False)]
    assert processing.mark_dispatched(job.id) is True
    assert processing.due_jobs() == []  # the wake-up that is on its way has the time of a lease


@pytest.mark.parametrize(("kind", "queue"), [("list", "work"), ("look-up", "urgent")])
def test_slice_whose_time_is_over_before_its_work_rings_for_the_next_one(
    engine: Engine, settings: Any, kind: str, queue: str
) -> None:
    settings.SLICE_S = 0.05
    job = engine.start(3) if kind == "list" else look_up(engine)
    engine.switch(speed=0)
    engine.wakes.clear()

    tasks.run_job(job.id)

    assert engine.wakes == [("run_job", job.id, queue)]
    job.refresh_from_db()
    assert job.dispatched_at is not None
    assert processing.due_jobs() == []  # the sweep need not send it again
    assert processing.mark_dispatched(job.id) is False


def test_slice_with_nothing_to_do_rings_for_nobody(engine: Engine) -> None:
    job = engine.run(engine.start(3))
    engine.wakes.clear()

    tasks.run_job(job.id)

    assert engine.wakes == []


def test_worker_of_other_environments_leaves_the_work_to_one_that_serves_it(
    engine: Engine, settings: Any
) -> None:
    job, single = engine.start(3), look_up(engine)
    Account.objects.update(balance_asked_at=db_now() - timedelta(hours=1))
    Worker.objects.create(name="right", environments=["sandbox"], seen_at=db_now())
    settings.ENVIRONMENTS = ["prod", "dev"]
    assert processing.mark_dispatched(job.id) is True

    tasks.run_job(job.id)
    tasks.run_job(single.id)
    processing._serve_people_first(0)  # as a slice of another job would
    balances.read_balance(engine.account.id)

    assert engine.sandbox.state()["requests"] == {}
    assert not Call.objects.exists()
    assert processing.due_jobs() == [(job.id, False), (single.id, True)]
    assert balances.due_accounts() == []  # of a worker that could not read it
    assert Account.objects.get(id=engine.account.id).balance_error == ""

    settings.ENVIRONMENTS = ["sandbox"]
    assert balances.due_accounts() == [engine.account.id]
    engine.run_all([job, single])
    assert [(each.state, each.rows_open) for each in (job, single)] == [("completed", 0)] * 2


def test_slice_of_the_right_worker_is_not_disturbed_by_a_message_that_comes_to_another(
    engine: Engine, settings: Any
) -> None:
    settings.HEARTBEAT_S, settings.LEASE_S = 15, 60
    job = engine.start(3)
    processing.mark_dispatched(job.id)
    processing._beat(job.id)
    Worker.objects.create(name="right", environments=["sandbox"], seen_at=db_now())
    settings.ENVIRONMENTS = ["prod"]

    tasks.run_job(job.id)

    job.refresh_from_db()
    assert job.slice_at is not None
    assert processing.due_jobs() == []


@pytest.mark.parametrize("seen", ["never", "long ago"])
def test_job_pauses_when_no_living_worker_serves_its_environment(
    engine: Engine, settings: Any, seen: str
) -> None:
    job = engine.start(3)
    if seen == "long ago":
        gone = db_now() - 2 * presence.GONE_AFTER
        Worker.objects.create(name="right", environments=["sandbox"], seen_at=gone)
    settings.ENVIRONMENTS = ["prod"]

    engine.run(job)

    assert (job.state, job.pause_reason) == ("paused", "key")
    assert "This worker serves prod and not sandbox" in job.state_text


def test_wake_up_during_the_end_of_a_slice_is_not_lost(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = engine.start(3)
    submission.pause_job(actor(engine), job.id)
    hand_over = processing._hand_over

    def resumed_meanwhile(job_id: int, due_in: float | None) -> None:
        submission.resume_job(actor(engine), job_id)
        hand_over(job_id, due_in)

    monkeypatch.setattr(processing, "_hand_over", resumed_meanwhile)
    processing.run_slice(job.id)
    monkeypatch.setattr(processing, "_hand_over", hand_over)

    assert processing.due_jobs() == [(job.id, False)]


# --- whatever people do ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_books_fit_after_each_step_of_a_random_walk(engine: Engine, settings: Any, seed: int) -> None:
    chance = random.Random(seed)
    settings.BATCH_ROWS, settings.BATCHES_IN_FLIGHT = 3, 2
    pool = factories.addresses(14)
    pool += ["a@sbx-badinput.example", "b@sbx-nofunds.example", "c@sbx-unknownstatus.example"]
    jobs: list[EnrichmentJob] = []
    who = actor(engine)
    for _ in range(45):
        move = chance.randrange(12)
        job = chance.choice(jobs) if jobs else None
        if job is None or (move == 0 and len(jobs) < 4):
            jobs.append(engine.start(chance.sample(pool, 8), is_again=True))
        elif move == 1:
            submission.pause_job(who, job.id)
        elif move in (2, 3):
            submission.resume_job(who, job.id)
        elif move == 4 and chance.random() < 0.4:
            submission.cancel_job(who, job.id)
        elif move == 5:
            kinds = ("reset_before", "reset_after_accept", "status", "truncated")
            engine.fault(chance.choice([SUBMIT, "/search-files/read"]), chance.choice(kinds))
        else:
            engine.step(job)
        for other in jobs:
            books_fit(other)

    engine.sandbox.order("/control/faults", {"clear": True})
    for _ in range(4):  # rows that Icypeas never runs pause their job each time
        for job in jobs:
            submission.resume_job(who, job.id)
        engine.run_all(jobs)
    for job in jobs:
        submission.cancel_job(who, job.id)
    engine.run_all(jobs)
    assert [job.rows_open for job in jobs if job.is_finished] == [0] * len(jobs)
    assert set(paid_inputs(engine.sandbox).values()) <= {1}
    assert not Batch.objects.exclude(state__in=("done", "uncertain", "refused")).exists()
    charged = sum(entry.credits for entry in LedgerEntry.objects.filter(kind="charged"))
    uncertain = EnrichmentRow.objects.filter(state=RowState.UNCERTAIN, is_lead=True).count()
    assert charged <= paid_credits(engine.sandbox) <= charged + uncertain * jobs[0].price
    assert Answer.objects.exclude(raw_status="ON_REVIEW").count() == len(paid_inputs(engine.sandbox))


def test_batch_that_another_worker_sent_meanwhile_is_neither_claimed_nor_taken_apart(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = engine.start(3)
    engine.step(job)
    batch = batching.claim_batch(EnrichmentJob.objects.get(id=job.id))
    assert batch is not None
    Batch.objects.filter(id=batch.id).update(lease_until=None)  # found by both
    claim = batching.claim

    def second(batch_id: int, *states: BatchState) -> Batch | None:
        monkeypatch.setattr(batching, "claim", claim)
        engine.step(job)  # the other worker is faster by one step
        assert Batch.objects.get(id=batch_id).state == BatchState.SENT
        return claim(batch_id, *states)

    monkeypatch.setattr(batching, "claim", second)
    batching._send_next(EnrichmentJob.objects.select_related("key", "created_by").get(id=job.id))
    sent = Batch.objects.get(id=batch.id)
    send_path.dissolve(sent)

    engine.run(job)
    assert (job.state, job.rows_found + job.rows_not_found) == ("completed", 3)
    assert_paid_once(engine.sandbox, times=3)
    assert engine.sent() == 1


@pytest.mark.parametrize("is_list", [True, False])
def test_batch_whose_last_answer_is_unclear_is_left_to_a_person_when_the_worker_dies(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, is_list: bool
) -> None:
    lines = ["a@sbx-unknownstatus.example"]
    job = engine.start(lines) if is_list else look_up(engine, lines[0])
    kill_once(monkeypatch, answers, "close", after=False)
    with pytest.raises(Killed):
        engine.run(job)

    Batch.objects.update(
        lease_until=db_now() + timedelta(seconds=1)
    )  # the dead worker's lease still keeps others off
    engine.run(job)

    assert (job.state, job.rows_uncertain) == ("completed", 1)
    assert decisions.uncertain_batches().filter(job=job).count() == 1


def test_look_keeps_the_reason_of_a_paused_job(engine: Engine) -> None:
    engine.switch(speed=0)
    job = engine.start(2)
    while not job.rows_in_flight:
        engine.step(job)
    with transaction.atomic():
        pause(lock_job(job.id), PauseReason.CREDITS, "Paused: no credits.")

    looking.look_at_files(EnrichmentJob.objects.get(id=job.id))

    assert EnrichmentJob.objects.get(id=job.id).state_text == "Paused: no credits."


class SeesMoreLater(QuerySet[EnrichmentRow]):
    """As PostgreSQL does: between its two statements another transaction has answered a question."""

    def update(self, **changes: Any) -> int:
        later = Question.objects.get(inputs={"email": "b@x.example"})
        later.latest_answer = Answer.objects.latest("id")
        later.save()
        return super().update(**changes)


def test_counters_fit_the_rows_when_another_job_answers_between_two_statements(engine: Engine) -> None:
    engine.run(engine.start(["a@x.example"]))
    engine.switch(speed=0)
    job = engine.start(["a@x.example", "b@x.example", "c@x.example"], freshness_days=0)
    while not job.rows_in_flight:
        engine.step(job)
    rows = SeesMoreLater(EnrichmentRow).filter(job=job, question__latest_answer__isnull=False)
    answer = Subquery(Question.objects.filter(id=OuterRef("question_id")).values("latest_answer_id")[:1])

    with transaction.atomic():
        lock_job(job.id)
        assert move_rows(job.id, rows, RowState.CACHED, answer_id=answer) == 2

    now = EnrichmentJob.objects.get(id=job.id)
    assert (now.rows_cached, now.rows_in_flight, sum(now.counts.values())) == (2, 1, 3)
    good = EnrichmentRow.objects.filter(job=job, state="cached", answer__is_good=True).count()
    assert now.useful_results == good


@pytest.mark.parametrize(
    ("told", "is_account"),
    [({"status": 400}, False), ({"status": 404}, False), ({"status": 405}, False), ({"status": 402}, True)],
)
def test_refusal_stops_other_jobs_only_when_it_is_about_the_account(
    engine: Engine, told: dict[str, int], is_account: bool
) -> None:
    engine.fault(SUBMIT, "status", **told)
    job, fellow = engine.start(["a@x.example"]), engine.start(["b@x.example"])

    engine.run(job)
    engine.run(fellow)

    assert (job.state, job.pause_reason) == ("paused", "provider")
    assert fellow.state == ("paused" if is_account else "completed")


def test_read_that_is_refused_does_not_say_that_nothing_was_charged(engine: Engine) -> None:
    engine.fault("/bulk-single-searchs/read", "status", status=404, times=None)
    job = engine.run(look_up(engine))

    assert (job.state, job.rows_in_flight) == ("paused", 1)
    assert "Nothing was charged" not in job.state_text
    assert "What was sent before may cost." in job.state_text

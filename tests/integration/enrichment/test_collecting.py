"""Reading the answers of what Icypeas has: whatever a read ends in, the job goes on, waits or ends; never for ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from enrichment.models import Batch, EnrichmentJob, EnrichmentRow
from enrichment.providers import factory
from enrichment.providers.base import (
    BadInputError,
    ItemPage,
    NotFoundError,
    Provider,
    ProviderError,
    ReadFailedError,
)
from enrichment.services import collecting, provider_call, submission
from keys import ledger, limiter
from keys.clock import db_now
from people.audit import Actor
from tests.fakes.engine import SPEED, Engine, assert_paid_once, story

FILES, ITEMS = "/search-files/read", "/bulk-single-searchs/read"
READ = Callable[[Callable[[], ItemPage], Any], ItemPage]


def reading(monkeypatch: pytest.MonkeyPatch, change: READ) -> list[Any]:
    """Each page of answers passes through `change(read, cursor)`; the cursors that were asked for."""
    make = factory.make_provider
    cursors: list[Any] = []

    def made(**options: Any) -> Provider:
        provider = make(**options)
        read = provider.read_file_items

        def changed(file_id: str, *, operation: str, cursor: Any | None = None) -> ItemPage:
            cursors.append(cursor)
            return change(lambda: read(file_id, operation=operation, cursor=cursor), cursor)

        provider.read_file_items = changed  # type: ignore[method-assign]
        return provider

    monkeypatch.setattr(factory, "make_provider", made)
    return cursors


def actor(engine: Engine) -> Actor:
    return Actor(engine.person)


def at_icypeas(engine: Engine, name: str = "ann") -> EnrichmentJob:
    """A job whose three rows are at Icypeas, whose clock stands still."""
    engine.switch(speed=0)
    job = engine.start([f"{name}{number}@sbx-found.example" for number in range(3)])
    while job.rows_in_flight < 3:
        engine.step(job)
    return job


def a_day_ago(engine: Engine, job: EnrichmentJob) -> None:
    then = db_now() - timedelta(days=1, seconds=1)
    Batch.objects.filter(job=job).update(intent_at=then, sent_at=then, next_at=db_now())


def test_finished_list_that_icypeas_no_longer_knows_is_left_to_a_person(engine: Engine) -> None:
    engine.fault(ITEMS, "refusal", word="SearchNotFoundError", times=None)

    job = engine.run(engine.start(3))

    assert (job.state, job.rows_uncertain) == ("completed", 3), story(job)
    assert engine.sent(ITEMS) == collecting.PASSES
    assert job.events.filter(text__contains="read from the top").count() == collecting.PASSES
    assert ledger.job_sums(job.id).open == 3 * job.price


@pytest.mark.parametrize(
    ("refusal", "times"),
    [
        (BadInputError("items-read: sorts are too old", status=400), 1),
        (NotFoundError("items-read: SearchNotFoundError"), 1),
        (ReadFailedError("items-read: HTTP 500", status=500), collecting.FAILED_READS),
    ],
    ids=["refused", "not found", "broken"],
)
def test_place_in_a_listing_that_cannot_be_read_is_passed_from_the_top(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, refusal: ProviderError, times: int
) -> None:
    left = [refusal] * times

    def change(read: Callable[[], ItemPage], cursor: Any) -> ItemPage:
        if cursor is not None and left:
            raise left.pop()
        return read()

    cursors = reading(monkeypatch, change)

    job = engine.run(engine.start(150))

    assert (job.state, job.rows_answered, job.rows_uncertain) == ("completed", 150, 0)
    assert [cursor is None for cursor in cursors] == [True, *[False] * times, True, False]
    assert_paid_once(engine.sandbox, times=150)


def test_outage_at_the_first_page_uses_up_no_pass(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [ReadFailedError("items-read: HTTP 500", status=500)] * (3 * collecting.PASSES)

    def change(read: Callable[[], ItemPage], cursor: Any) -> ItemPage:
        if left:
            raise left.pop()
        return read()

    reading(monkeypatch, change)

    job = engine.run(engine.start(3), seconds=60)

    assert (job.state, job.rows_answered) == ("completed", 3)
    assert Batch.objects.get(job=job).passes == 0


def test_listing_that_brings_the_same_page_again_ends_its_pass(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[ItemPage] = []

    def change(read: Callable[[], ItemPage], cursor: Any) -> ItemPage:
        first.append(first[0] if first else read())
        return replace(first[0], cursor=[[len(first)], [len(first)]])

    cursors = reading(monkeypatch, change)

    job = engine.run(engine.start(450))

    assert (job.rows_answered, job.rows_uncertain) == (100, 350)
    assert len(cursors) == 2 * collecting.PASSES


@pytest.mark.parametrize("route", [FILES, ITEMS])
@pytest.mark.parametrize("status", [402, 403])
def test_refused_account_pauses_its_jobs_while_they_read(engine: Engine, route: str, status: int) -> None:
    job = at_icypeas(engine)
    fellow = at_icypeas(engine, "bob")
    engine.switch(speed=SPEED)
    engine.fault(route, "status", status=status, times=None)

    engine.run(job)

    fellow.refresh_from_db()
    assert [each.state for each in (job, fellow)] == ["paused", "paused"]
    assert [each.pause_reason for each in (job, fellow)] == ["provider", "provider"]
    assert f"HTTP {status}" in job.state_text
    reads = engine.sent(FILES) + engine.sent(ITEMS)
    engine.run(job)
    assert engine.sent(FILES) + engine.sent(ITEMS) == reads  # nothing is asked until a person says so

    engine.sandbox.order("/control/faults", {"clear": True})
    for each in (job, fellow):
        engine.run(submission.resume_job(actor(engine), each.id))
    job.refresh_from_db()
    assert (job.state, job.rows_answered) == ("completed", 3)
    assert_paid_once(engine.sandbox, times=6)


@pytest.mark.parametrize("place", ["at Icypeas", "answers to fetch"])
def test_cancelled_job_whose_reads_are_refused_ends_after_a_day(engine: Engine, place: str) -> None:
    job = at_icypeas(engine)
    engine.switch(speed=SPEED)
    if place == "answers to fetch":
        engine.fault(ITEMS, "status", status=503, times=None)
        while not Batch.objects.filter(job=job, state="collecting").exists():
            engine.step(job)
    engine.switch(key_revoked=True)
    submission.cancel_job(actor(engine), job.id)
    for _ in range(5):
        engine.step(job)
    assert job.state == "cancelling"

    a_day_ago(engine, job)
    engine.run(job)

    assert (job.state, job.rows_uncertain) == ("cancelled", 3)
    assert set(EnrichmentRow.objects.filter(job=job).values_list("reason_code", flat=True)) == {"unreadable"}
    assert ledger.job_sums(job.id).open == 3 * job.price


def test_paused_job_whose_reads_are_refused_waits_for_its_person_also_after_a_day(engine: Engine) -> None:
    job = at_icypeas(engine)
    engine.switch(speed=SPEED, key_revoked=True)
    engine.run(job)
    a_day_ago(engine, job)
    engine.run(job)
    assert (job.state, job.rows_in_flight) == ("paused", 3)

    engine.switch(key_revoked=False)
    job = engine.run(submission.resume_job(actor(engine), job.id))

    assert (job.state, job.rows_answered) == ("completed", 3)


def test_list_whose_slot_is_kept_for_somebody_waits_a_moment_and_does_not_spin(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = at_icypeas(engine)
    Batch.objects.filter(job=job).update(state="collecting", next_at=db_now())

    def kept(*_: Any) -> bool:
        raise limiter.BusyError(0.001)  # nearer than a list may take a slot ahead

    monkeypatch.setattr(collecting, "collect_from", kept)

    with pytest.raises(limiter.BusyError) as told:
        collecting.collect_next(job)

    assert told.value.wait_s == pytest.approx(provider_call.slot_s(provider_call.ITEMS) / 10)

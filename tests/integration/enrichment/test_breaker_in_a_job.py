"""A job whose account's paid calls stop getting clear answers."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from enrichment.choices import JobState
from keys.clock import db_now
from keys.models import Breaker
from tests.fakes.engine import Engine, assert_paid_once, story


def test_after_five_unclear_answers_nothing_paid_is_sent_until_a_try_is_clear(
    engine: Engine, settings: Any
) -> None:
    settings.BATCH_ROWS, settings.BATCHES_IN_FLIGHT = 1, 20
    patience = settings.BREAKER_FIRST_S, settings.BREAKER_MOST_S
    settings.BREAKER_FIRST_S = settings.BREAKER_MOST_S = 3600.0
    engine.fault("/bulk-search", "status", status=500, accept=True, times=5)
    job = engine.start(8)

    until = time.monotonic() + 30
    while engine.sent() < 5:
        engine.step(job)
        assert time.monotonic() < until, story(job)
    for _ in range(20):
        engine.step(job)
    assert engine.sent() == 5  # not one while it is open, though rows wait
    assert job.rows_waiting == 3

    settings.BREAKER_FIRST_S, settings.BREAKER_MOST_S = patience
    Breaker.objects.update(next_try_at=db_now())
    engine.run(job)

    assert job.state == JobState.COMPLETED
    assert (job.rows_answered, job.rows_uncertain) == (8, 0), story(job)  # what had arrived was found
    assert engine.sent() == 8
    assert_paid_once(engine.sandbox, times=len(engine.sandbox.charges()))
    assert Breaker.objects.get().unclear == 0


def open_breaker(engine: Engine) -> None:
    Breaker.objects.update_or_create(
        account=engine.account, defaults={"unclear": 5, "next_try_at": db_now() + timedelta(hours=1)}
    )


def test_answers_are_read_while_it_is_open_and_reading_does_not_close_it(
    engine: Engine, settings: Any
) -> None:
    settings.BATCH_ROWS, settings.BATCHES_IN_FLIGHT = 2, 1
    job = engine.start(["a@x.example", "b@x.example", "c@x.example"])
    while job.rows_in_flight < 2:
        engine.step(job)
    open_breaker(engine)

    until = time.monotonic() + 30
    while job.rows_answered < 2:
        engine.step(job)
        assert time.monotonic() < until, story(job)

    for _ in range(3):
        engine.step(job)
    assert Breaker.objects.get().unclear == 5
    assert (engine.sent(), job.rows_waiting) == (1, 1)


def test_reads_that_fail_do_not_open_it(engine: Engine) -> None:
    job = engine.start(1)
    while job.rows_in_flight < 1:
        engine.step(job)
    engine.fault("/bulk-single-searchs/read", "status", status=503, times=6)

    until = time.monotonic() + 30
    while not job.is_finished:
        engine.step(job)
        assert not Breaker.objects.filter(unclear__gt=0).exists()
        assert time.monotonic() < until, story(job)

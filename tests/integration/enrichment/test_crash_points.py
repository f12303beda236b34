"""The worker ends, or stands still, at one statement of the database after the other; whatever comes next, no row is
lost or paid twice.

`make test` tries every ninth statement of a small job; `CRASH_POINTS=all` tries each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connection

from enrichment.models import Batch, EnrichmentJob
from enrichment.services import leases, processing
from keys.clock import db_now
from tests.fakes.engine import Engine, books_fit, paid_inputs, story

EVERY = 1 if os.environ.get("CRASH_POINTS") == "all" else 9
MOST = 400  # more statements than the job needs, so that the last point is one that is never reached
LINES = (
    "ann@sbx-found.example",
    "bob@sbx-notfound.example",
    "cleo@sbx-badinput.example",
    "ann@sbx-found.example",
)


class Crash(BaseException):
    """The process ends here: nothing catches it."""


class Tripwire:
    """Counts the statements of this connection and raises before the one at `point`, once."""

    def __init__(self, point: int, kind: type[BaseException]) -> None:
        self.point, self.kind, self.seen = point, kind, 0

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        self.seen += 1
        if self.seen == self.point:
            raise self.kind(f"at statement {self.point}: {sql[:60]}")
        return execute(sql, params, many, context)


class StandStill(Tripwire):
    """Before the statement at `point` this process stands still for longer than its lease, as after SIGSTOP. Meanwhile
    another worker ends the job, or waits too where this one holds a transaction open. Then this one goes on."""

    def __init__(self, point: int, engine: Engine, job: EnrichmentJob) -> None:
        super().__init__(point, Crash)
        self.engine, self.job, self.is_still = engine, job, False

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if self.is_still:  # these are the other worker's statements
            return execute(sql, params, many, context)
        self.seen += 1
        if self.seen == self.point:
            self.is_still = True
            if connection.in_atomic_block:
                time.sleep(1.2 * settings.LEASE_S)
            else:
                Batch.objects.filter(lease_until__isnull=False).update(lease_until=db_now() - timedelta(1))
                self.engine.run(self.job)
            self.is_still = False
        return execute(sql, params, many, context)


def work_until_the_wire(job: EnrichmentJob, wire: Tripwire) -> bool:
    """Steps until the job ends or the wire's error comes out; whether the wire was touched, which the way may also survive.
    Waits are not counted: they send no statement."""
    until = time.monotonic() + 20
    with connection.execute_wrapper(wire):
        while time.monotonic() < until:
            due_in = processing._safe_step(job.id)
            if due_in is None:
                return wire.seen >= wire.point
            time.sleep(min(due_in, 0.02))
    raise AssertionError("the job neither ended nor met the wire")


# A process that ends closes no cursor; here its remains are collected while the test goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [Crash, OperationalError])
def test_no_point_of_the_way_loses_or_pays_twice(
    engine: Engine, settings: Any, kind: type[BaseException]
) -> None:
    settings.LEASE_S, settings.HEARTBEAT_S = 0.3, 0.05
    reached = uncertain = 0
    for point in range(1, MOST, EVERY):
        engine.sandbox.order("/control/reset", {})
        job = engine.start([line.replace("@", f"{point}@") for line in LINES], is_again=True)
        try:
            was_touched = work_until_the_wire(job, Tripwire(point, kind))
        except (Crash, OperationalError):
            was_touched = True
        if not was_touched:
            break
        reached += 1
        sending = Batch.objects.filter(job=job, state="sending").exists()

        job = engine.run(job)

        assert (job.state, job.rows_open) == ("completed", 0), point
        assert set(paid_inputs(engine.sandbox).values()) <= {1}, point
        books_fit(job)
        if job.rows_uncertain:
            assert sending, f"uncertain without an open intent at statement {point}"
            assert not engine.sandbox.charges(), point
            uncertain += 1
    else:
        pytest.fail(f"the job needed more than {MOST} statements")
    assert reached >= 60 / EVERY
    assert uncertain <= 3


@pytest.mark.timeout(600)
def test_worker_that_stands_still_at_any_point_loses_nothing_and_pays_nothing_twice(
    engine: Engine, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.LEASE_S = 0.3
    # A process that stands still beats no more, not from another thread either.
    monkeypatch.setattr(leases, "heartbeat", lambda batch: nullcontext())
    reached = uncertain = 0
    for point in range(1, MOST, EVERY):
        engine.sandbox.order("/control/reset", {})
        job = engine.start([line.replace("@", f"{point}@") for line in LINES], is_again=True)
        wire = StandStill(point, engine, job)
        work_until_the_wire(job, wire)
        if wire.seen < point:
            break
        reached += 1

        job = engine.run(job)

        assert (job.state, job.rows_open) == ("completed", 0), (point, story(job))
        assert set(paid_inputs(engine.sandbox).values()) <= {1}, point
        books_fit(job)
        if job.rows_uncertain:
            assert not engine.sandbox.charges(), (point, story(job))
            uncertain += 1
    else:
        pytest.fail(f"the job needed more than {MOST} statements")
    assert reached >= 60 / EVERY
    assert uncertain <= 3

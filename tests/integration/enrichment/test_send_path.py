from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError

from enrichment.choices import BatchState
from enrichment.models import Batch, EnrichmentJob, EnrichmentRow
from enrichment.providers.base import (
    BadInputError,
    KeyRejectedError,
    NotFoundError,
    NotSentError,
    OutOfCreditsError,
    ProviderError,
    RateLimitedError,
    ReadFailedError,
    RefusedError,
    UncertainOutcomeError,
    UnpaidError,
)
from enrichment.services import batching, consequences, leases, looking, provider_call, send_path
from keys.clock import db_now
from keys.models import Call
from tests.fakes.engine import Engine
from tests.fakes.sandbox_process import SECRET

SUBMIT = "/bulk-search"


def claimed(engine: Engine, rows: int = 3) -> Batch:
    """A batch that is formed and leased to this worker, with nothing sent yet."""
    job = engine.start(rows)
    engine.step(job)
    batch = batching.claim_batch(job)
    assert batch is not None
    return batch


def during_the_send(monkeypatch: pytest.MonkeyPatch, look: Callable[[], None]) -> None:
    """Call `look` at the moment at which the request goes out."""
    submit = send_path._submit

    def look_and_submit(*args: Any) -> str:
        look()
        return submit(*args)

    monkeypatch.setattr(send_path, "_submit", look_and_submit)


def test_intent_is_committed_before_anything_is_sent(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = claimed(engine)
    seen: list[tuple[Any, ...]] = []

    def look() -> None:
        # On a connection of its own, which sees only what is committed.
        def read() -> None:
            now = Batch.objects.get(id=batch.id)
            in_flight = EnrichmentRow.objects.filter(job_id=batch.job_id, state="in_flight").count()
            seen.append((now.state, now.attempt, now.intent_at is not None, len(now.request_hash), in_flight))
            seen.append((now.fingerprint, now.lease_until))
            from django.db import connection  # of this thread

            connection.close()

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()

    during_the_send(monkeypatch, look)

    send_path.send(batch)

    assert seen[0] == (BatchState.SENDING, 1, True, 64, 3)
    fingerprint, lease_until = seen[1]
    assert len(fingerprint) == 12
    assert lease_until > batch.lease_until
    assert engine.sent() == 1


def test_nothing_is_sent_when_the_job_was_stopped_meanwhile(engine: Engine) -> None:
    batch = claimed(engine)
    EnrichmentJob.objects.filter(id=batch.job_id).update(state="paused")

    send_path.send(batch)

    assert engine.sent() == 0
    assert not Batch.objects.filter(id=batch.id).exists()


def test_nothing_is_sent_inside_a_transaction(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connection  # the connection of this test

    batch = claimed(engine)
    inside: list[bool] = []
    during_the_send(monkeypatch, lambda: inside.append(connection.in_atomic_block))

    send_path.send(batch)

    assert inside == [False]


def test_bulk_carries_its_name_and_external_ids(engine: Engine) -> None:
    batch = claimed(engine)

    send_path.send(batch)

    batch.refresh_from_db()
    (file,) = engine.sandbox.state()["files"]
    assert (file["name"], file["file"], file["size"]) == (batch.name, batch.provider_ref, 3)
    engine.run(batch.job)
    ids = set(batch.items.values_list("external_id", flat=True))
    assert {charge["external_id"] for charge in engine.sandbox.charges()} == ids


def test_call_is_written_down_with_who_and_what_for(engine: Engine, settings: Any) -> None:
    settings.WORKER_NAME = "worker-7"
    batch = claimed(engine)

    send_path.send(batch)

    call = Call.objects.get()
    assert (call.route, call.scope, call.outcome) == ("bulk-search", "email-verification:bulk", "ok")
    assert (call.job, call.job_text, call.person, call.worker) == (
        batch.job_id,
        "list",
        "Ira Quist",
        "worker-7",
    )
    assert (call.rows, call.status, call.key, call.account) == (3, None, engine.key, engine.account)
    batch.refresh_from_db()
    assert call.fingerprint == batch.fingerprint
    engine.key.refresh_from_db()
    assert (engine.key.last_used_job, engine.key.last_used_outcome) == (batch.job_id, "ok")


def test_failed_call_is_written_down_without_the_secret(engine: Engine) -> None:
    batch = claimed(engine)
    engine.fault(SUBMIT, "status", status=500)

    send_path.send(batch)

    call = Call.objects.get()
    assert (call.outcome, call.status) == ("uncertain", 500)
    assert "HTTP 500" in call.message
    assert SECRET not in call.message + repr(batch) + repr(call)


def test_lease_is_kept_while_an_answer_takes_long(
    engine: Engine, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.LEASE_S, settings.HEARTBEAT_S = 30.0, 0.1
    batch = claimed(engine)
    kept: list[bool] = []
    taken: list[int] = []

    def wait_for_a_beat() -> None:
        def wait() -> None:
            from django.db import connection  # of this thread

            # As it stands when the answer takes as long as the lease.
            Batch.objects.filter(id=batch.id).update(lease_until=db_now())
            until = time.monotonic() + 20
            while time.monotonic() < until and not kept:
                lease_until = Batch.objects.get(id=batch.id).lease_until
                if lease_until > db_now() + timedelta(seconds=10):
                    kept.append(True)
                time.sleep(0.02)
            taken.append(looking.doubt_crashed_sends(batch.job))
            connection.close()

        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()

    during_the_send(monkeypatch, wait_for_a_beat)

    send_path.send(batch)

    assert (kept, taken) == ([True], [0])
    assert Batch.objects.get(id=batch.id).state == BatchState.SENT


def test_heartbeat_survives_a_database_that_is_busy_for_a_moment(
    engine: Engine, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.LEASE_S, settings.HEARTBEAT_S = 30.0, 0.05
    batch = claimed(engine)
    main, beats = threading.current_thread(), 0

    def now_or_never() -> Any:
        nonlocal beats
        if threading.current_thread() is not main:
            beats += 1
            if beats == 1:
                raise DatabaseError("busy")
        return db_now()

    monkeypatch.setattr(leases, "db_now", now_or_never)
    before = db_now() + leases.lease_end()

    with leases.heartbeat(batch):
        until = time.monotonic() + 20
        while beats < 3 and time.monotonic() < until:
            time.sleep(0.02)

    assert "no heartbeat" in caplog.text
    assert Batch.objects.get(id=batch.id).lease_until > before


def test_worker_that_lost_its_batch_while_sending_does_not_overwrite_the_new_owner(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = claimed(engine)

    def taken_over() -> None:
        Batch.objects.filter(id=batch.id).update(
            state=BatchState.DOUBT, fence=99, next_at=db_now(), lease_until=None
        )

    during_the_send(monkeypatch, taken_over)

    send_path.send(batch)

    now = Batch.objects.get(id=batch.id)
    assert (now.state, now.fence, now.provider_ref) == (BatchState.DOUBT, 99, "")
    job = engine.run(batch.job)
    assert job.rows_answered == 3  # found again by its name
    assert engine.sent() == 1


def test_batch_stays_ready_and_uncounted_when_the_limiter_has_no_room(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = claimed(engine)
    busy = send_path.limiter.BusyError(7.0)

    def no_room(**options: Any) -> float:
        raise busy

    monkeypatch.setattr(send_path.gate.limiter, "take_slot", no_room)

    with pytest.raises(send_path.limiter.BusyError):
        send_path.send(batch)

    now = Batch.objects.get(id=batch.id)
    assert (now.state, now.lease_until, now.claims) == (BatchState.READY, None, batch.claims - 1)
    assert Call.objects.count() == 0


def test_too_many_calls_hold_the_route_back_for_every_process(
    engine: Engine, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ICYPEAS_RATE_FACTOR = 1.0
    monkeypatch.setattr(provider_call, "interval_s", lambda route: 0.01)
    batch = claimed(engine)
    engine.fault(SUBMIT, "status", status=429)
    before_us = send_path.limiter.db_now_us()
    send_path.send(batch)

    slots = send_path.limiter.RateSlot.objects.filter(account=engine.account, route="bulk-search")
    held_until_us = slots.get().next_free_us

    # For the second that is the window of the route, from when the answer came.
    assert before_us + 1_000_000 <= held_until_us <= send_path.limiter.db_now_us() + 1_000_000
    assert Batch.objects.get(id=batch.id).state == BatchState.READY


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NotSentError("no route"), "not_sent"),
        (RateLimitedError("slow down"), "vendor_429"),
        (UncertainOutcomeError("broken", status=502), "uncertain"),
        (KeyRejectedError("no"), "vendor_401"),
        (UnpaidError("overdue", status=200), "unpaid"),
        (OutOfCreditsError("empty", status=200), "out_of_credits"),
        (BadInputError("field"), "vendor_rejected"),
        (NotFoundError("gone", status=200), "vendor_rejected"),
        (RefusedError("forbidden", status=403), "vendor_403"),
        (RefusedError("gone", status=410), "vendor_rejected"),
        (ReadFailedError("late", status=503), "vendor_5xx"),
        (ReadFailedError("odd", status=200), "read_failed"),
        (ReadFailedError("cut"), "read_failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_outcome_says_what_a_call_ended_in(error: ProviderError, outcome: str) -> None:
    assert consequences.outcome_of(error) == outcome


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyRejectedError("no", needs_user_id=True), "key"),
        (UnpaidError("overdue", status=200), "key"),
        (OutOfCreditsError("empty", status=200), "credits"),
        (RefusedError("who knows", status=418), "provider"),
    ],
    ids=["user id", "unpaid", "credits", "unknown"],
)
def test_refused_submit_pauses_with_its_reason_and_the_rows_wait(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, error: ProviderError, reason: str
) -> None:
    job = engine.start(3)

    def refuse(*args: Any) -> str:
        raise error

    monkeypatch.setattr(send_path, "_submit", refuse)

    engine.run(job)

    assert (job.state, job.pause_reason, job.rows_waiting) == ("paused", reason, 3)
    assert job.state_text.startswith("Paused: ")
    assert not Batch.objects.exists()


def test_late_beat_does_not_take_a_lease_back_that_was_let_go(engine: Engine, settings: Any) -> None:
    settings.HEARTBEAT_S = 0.03
    job = engine.start(1)
    engine.step(job)
    batch = batching.claim_batch(job)
    assert batch is not None

    with leases.heartbeat(batch):
        Batch.objects.filter(id=batch.id).update(lease_until=None)
        time.sleep(0.2)

    assert Batch.objects.get(id=batch.id).lease_until is None

"""Slices of work on a job: what tasks and the terminal call.

A slice does whatever is due, one step at a time, until nothing is due soon or its time is over. All it knows it
reads from the database, so any worker can take over after any other at any point.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from math import inf

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, Min, OuterRef, Q
from django.db.models.functions import Coalesce

from enrichment.choices import (
    SILENT_PAUSES,
    UNSETTLED_BATCHES,
    WORKED_ON,
    BatchState,
    JobState,
    Mode,
    PauseReason,
    RowState,
)
from enrichment.models import Batch, EnrichmentJob, EnrichmentRow
from enrichment.providers.base import (
    KeyRejectedError,
    OutOfCreditsError,
    ProviderError,
    RateLimitedError,
    RefusedError,
    UnpaidError,
)
from enrichment.services import answers, batching, collecting, consequences, leases, looking, preparing
from enrichment.services.transitions import finish_if_done, lock_job, pause, pause_after_sample, pause_fellows
from keys import gate, limiter, presence
from keys.clock import db_now
from keys.services import worker_seen

log = logging.getLogger(__name__)

IDLE_S = 5.0  # a slice stays for what is due this soon, and leaves the rest to a later wake-up
TICK_S = 0.25
ROUND_S = 5.0  # calls side by side are begun for so long; then the job's other work has its turn


def run_slice(job_id: int, *, should_stop: Callable[[], bool] = lambda: False) -> bool:
    """Work on a job for up to `SLICE_S`; whether its time was over before its work was. A job that has gone, or has
    nothing to do, is a quiet end; so is one for which this worker is the wrong one and another lives that is right."""
    if _left_to_others(job_id):
        return False
    deadline = time.monotonic() + settings.SLICE_S
    last_beat = 0.0
    due_in: float | None = 0.0
    while time.monotonic() < deadline and not should_stop():
        if time.monotonic() - last_beat > settings.HEARTBEAT_S / leases.BEATS:
            if not _beat(job_id):
                return False
            last_beat = time.monotonic()
        _serve_people_first(job_id)
        due_in = _safe_step(job_id, until=deadline)
        if due_in is None or due_in > IDLE_S:
            break
        if due_in > 0:
            time.sleep(min(due_in, 1.0))
    _hand_over(job_id, due_in)
    return due_in is not None and due_in <= IDLE_S


def _left_to_others(job_id: int) -> bool:
    """Leave a job to a worker that serves its environment, where one lives: it stays due, and the next sweep rings again. A
    slice that is at work on it is not disturbed."""
    environments = presence.left_to_others()
    if not environments or not EnrichmentJob.objects.filter(id=job_id, environment__in=environments).exists():
        return False
    EnrichmentJob.objects.filter(id=job_id, slice_at__isnull=True).update(
        dispatched_at=None, next_due_at=Coalesce("next_due_at", db_now())
    )
    return True


def _beat(job_id: int) -> bool:
    """Say that a slice is at work; False when the job has gone."""
    worker_seen()
    now = db_now()
    return bool(EnrichmentJob.objects.filter(id=job_id).update(dispatched_at=now, slice_at=now))


def _hand_over(job_id: int, due_in: float | None) -> None:
    """End of a slice: when must somebody look again?"""
    next_due = None if due_in is None else db_now() + timedelta(seconds=due_in)
    jobs = EnrichmentJob.objects.filter(id=job_id)
    # A wake-up that came while the slice ended must not be lost: only an older due time is replaced.
    replaced = Q(next_due_at__isnull=True) | Q(next_due_at__lt=F("dispatched_at"))
    if next_due is not None:
        replaced |= Q(next_due_at__gt=next_due)
    jobs.filter(replaced).update(next_due_at=next_due)
    jobs.update(dispatched_at=None, slice_at=None)


def _serve_people_first(job_id: int) -> None:
    """One person's look-up overtakes any list: a slice does what is due for look-ups before its own next step, unless their
    own slice is at work."""
    now = db_now()
    unheard = Q(slice_at__isnull=True) | Q(slice_at__lt=now - leases.silence())
    urgent = (
        EnrichmentJob.objects.filter(
            unheard, mode=Mode.SINGLE, state__in=(JobState.QUEUED, JobState.RUNNING), next_due_at__lte=now
        )
        .exclude(id=job_id)
        .exclude(environment__in=presence.left_to_others())
        .order_by("id")
        .values_list("id", flat=True)[:3]
    )
    for other in urgent:
        due_in = _safe_step(other)
        EnrichmentJob.objects.filter(id=other).update(
            next_due_at=None if due_in is None else db_now() + timedelta(seconds=due_in)
        )


def _safe_step(job_id: int, *, until: float | None = None) -> float | None:
    """One step; refusals and read failures become a pause or a wait, never an exception."""
    try:
        return step(job_id, until=until)
    except limiter.BusyError as busy:
        return busy.wait_s
    except answers.LostLeaseError as lost:
        log.info("job %s: %s", job_id, lost)
        return TICK_S
    except RateLimitedError as error:
        return error.retry_after_s / max(settings.ICYPEAS_RATE_FACTOR, 1)
    except (gate.GateRefusedError, ProviderError) as error:
        # Only reads get here: asking again is free.
        return 0.0 if looking.give_up_cancelled(job_id) else _after_failed_read(job_id, error)


def _after_failed_read(job_id: int, error: gate.GateRefusedError | ProviderError) -> float | None:
    """Pause what would be refused again; after anything else the page says what is silent. Seconds until the next try."""
    if isinstance(error, gate.GateRefusedError):
        return _pause_job(job_id, f"Paused: {error.message}", consequences.pause_reason(error))
    is_definite = isinstance(error, RefusedError) and (error.status or 0) >= 300
    if is_definite or isinstance(error, (KeyRejectedError, UnpaidError, OutOfCreditsError)):
        assert isinstance(error, RefusedError)
        reason, text = consequences.pause_for(error, is_read=True)
        due_in = _pause_job(job_id, text, reason)
        if consequences.is_about_account(error):
            job = EnrichmentJob.objects.select_related("key").get(id=job_id)
            pause_fellows(job, reason, text, is_key_alone=isinstance(error, KeyRejectedError))
        return due_in
    EnrichmentJob.objects.filter(id=job_id).update(state_text=error.message[:300])
    return _wait_after_failed_read(job_id)


def _wait_after_failed_read(job_id: int) -> float:
    """Seconds until Icypeas is asked again: the longer it has been silent, the more."""
    heard_at = EnrichmentJob.objects.filter(id=job_id).values_list("heard_at", flat=True).first()
    silent_s = (db_now() - heard_at).total_seconds() if heard_at else 0.0
    return min(max(settings.RETRY_S, silent_s / 2), 24.0 * settings.RETRY_S)


def _pause_job(job_id: int, text: str, reason: PauseReason = PauseReason.KEY) -> float | None:
    """Pause the job; None. One that was stopped before is not paused again: nobody would press Resume, so its rows at
    Icypeas are asked for again after that many seconds."""
    with transaction.atomic():
        job = lock_job(job_id)
        pause(job, reason, text)
    return None if job.state in (JobState.RUNNING, JobState.QUEUED) else 12.0 * settings.RETRY_S


def step(job_id: int, *, until: float | None = None) -> float | None:
    """Do the next due thing for the job. Seconds until the next one is due (0: now), None when nothing will be. After
    `until` (monotonic) nothing new is sent.

    Raises the provider's errors of free reads, `GateRefusedError`, `BusyError`, `LostLeaseError`.
    """
    job = EnrichmentJob.objects.select_related("key", "created_by").filter(id=job_id).first()
    if job is None or job.state not in WORKED_ON:
        return None
    if job.state == JobState.QUEUED:
        preparing.prepare(job)
        return 0
    if job.is_silent:
        return _free_unsent(job)
    looking.doubt_crashed_sends(job)
    busy_s: list[float] = []
    ends_at = min(until or inf, time.monotonic() + ROUND_S)
    for work in (
        partial(batching.send_due, ends_at=ends_at, meanwhile=partial(_serve_people_first, job.id)),
        looking.look,
        collecting.collect_next,
    ):
        try:
            if work(job):
                return 0
        except limiter.BusyError as busy:
            busy_s.append(busy.wait_s)
    if finish_if_done(job.id) or pause_after_sample(job.id):
        return None
    if _work_for_silent_jobs(job):
        return 0
    return _due_in(job, busy_s)


def _due_in(job: EnrichmentJob, busy_s: list[float]) -> float | None:
    """Seconds until the earliest thing that this job waits for."""
    waits = list(busy_s)
    batches = Batch.objects.filter(job=job, state__in=(BatchState.READY, *UNSETTLED_BATCHES))
    times = batches.aggregate(next_at=Min("next_at"), lease=Min("lease_until"))
    now = db_now()
    waits += [max((moment - now).total_seconds(), TICK_S) for moment in times.values() if moment]
    if not waits and job.rows_open and job.state != JobState.PAUSED:
        # Its questions are on their way in another job's batch; that job's slice answers ours.
        return float(settings.FILE_LOOK_S)
    return min(waits) if waits else None


def _free_unsent(job: EnrichmentJob) -> float | None:
    """What a paused job still does that may not even read: other jobs may ask what it has not sent, and a lost call that
    nothing looks up waits for a person at once. Seconds until the lease of a batch ends that its worker did not let go,
    None when there is none."""
    batching.dissolve_unsent(job)
    looking.doubt_crashed_sends(job)
    if (
        job.paid_again >= job.pay_again_limit
    ):  # else what was lost is sent again on resume, as was wanted at the start
        looking.give_up_direct(job)
    held = Batch.objects.filter(job=job, state__in=(BatchState.READY, BatchState.SENDING))
    left = held.aggregate(lease=Min("lease_until"))["lease"]
    return max((left - db_now()).total_seconds(), TICK_S) if left else None


def _work_for_silent_jobs(job: EnrichmentJob) -> bool:
    """Look at and collect what a silently paused job of the account holds and this one waits for: nobody else would, and
    this job's key may read it. True when something was due."""
    assert job.key is not None
    if job.state not in (JobState.RUNNING, JobState.CANCELLING) or not job.rows_waiting:
        return False
    awaited = EnrichmentRow.objects.filter(
        job=job, state=RowState.WAITING, question__busy_batch=OuterRef("id")
    )
    due = Batch.objects.filter(
        Exists(awaited),
        account_id=job.key.account_id,
        mode__in=(Mode.BULK, Mode.SINGLE),
        job__state=JobState.PAUSED,
        job__pause_reason__in=SILENT_PAUSES,
        next_at__lte=db_now(),
    )
    sent = due.filter(state__in=(BatchState.SENT, BatchState.DOUBT))
    modes = set(sent.values_list("mode", flat=True))
    if Mode.BULK in modes:
        looking.look_at_files(job)
    if Mode.SINGLE in modes:
        looking.look_at_singles(job)
    finished = list(due.filter(state=BatchState.COLLECTING).values_list("id", flat=True)[:5])
    return any(collecting.collect_from(job, batch_id) for batch_id in finished) or bool(modes)


def is_for_person(job_id: int) -> bool:
    """Whether somebody waits for this job in front of a page."""
    return EnrichmentJob.objects.filter(id=job_id, mode=Mode.SINGLE).exists()


def due_jobs() -> list[tuple[int, bool]]:
    """Jobs that a sweep must wake, and whether a person waits: due and not dispatched, or dispatched so long ago that
    their worker is gone."""
    jobs = EnrichmentJob.objects.filter(state__in=WORKED_ON)
    due = jobs.filter(Q(dispatched_at__isnull=True, next_due_at__lte=db_now()) | _is_forsaken())
    return [(job_id, mode == Mode.SINGLE) for job_id, mode in due.order_by("id").values_list("id", "mode")]


def mark_dispatched(job_id: int) -> bool:
    """Reserve the right to wake a job: one of two schedulers wins."""
    free = Q(dispatched_at__isnull=True) | _is_forsaken()
    return bool(EnrichmentJob.objects.filter(free, id=job_id).update(dispatched_at=db_now(), slice_at=None))


def _is_forsaken() -> Q:
    """Jobs whose wake-up nobody took for the time of a lease, or whose slice has fallen silent."""
    now = db_now()
    unheard = Q(slice_at__isnull=True, dispatched_at__lt=now - leases.lease_end())
    return unheard | Q(dispatched_at__isnull=False, slice_at__lt=now - leases.silence())

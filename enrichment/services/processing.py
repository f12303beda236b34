"""Slices of work on a job: what tasks and the terminal call.

A slice does whatever is due, one step at a time, until nothing is due soon or its time is over. All it knows it
reads from the database, so any worker can take over after any other at any point.
"""

from __future__ import annotations

import logging
import secrets
import time
from array import array
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from math import ceil, inf

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, F, Max, Min, OuterRef, Q, QuerySet, Subquery

from enrichment import operations
from enrichment.choices import (
    ANSWERED_ROWS,
    OPEN_ROWS,
    SILENT_PAUSES,
    UNSETTLED_BATCHES,
    WORKED_ON,
    BatchState,
    JobState,
    Mode,
    PauseReason,
    RowState,
)
from enrichment.models import Batch, BatchItem, EnrichmentJob, EnrichmentRow, Question
from enrichment.operations.base import Operation
from enrichment.providers.base import (
    ItemState,
    KeyRejectedError,
    ProviderError,
    ProviderFile,
    ProviderItem,
    RateLimitedError,
    UnpaidError,
)
from enrichment.services import answers, decisions, reservations, send_path, side_by_side
from enrichment.services.transitions import lock_job, move_rows, pause, pause_fellows, tell
from keys import gate, limiter
from keys.clock import db_now
from keys.services import worker_seen

log = logging.getLogger(__name__)

CHUNK = 5_000
IDLE_S = 5.0  # a slice stays for what is due this soon, and leaves the rest to a later wake-up
TICK_S = 0.25
ROUND_S = 5.0  # calls side by side are begun for so long; then the job's other work has its turn
FILE_PAGES = 20
SINGLE_PAGES = 5
ITEMS_A_PAGE = 100
PASSES = 5  # full readings of a finished bulk before a missing answer counts as missing
LOOKS = 2
NOT_SEEN = "not_seen"
NOT_SEEN_TEXT = (
    "The connection broke after we sent this, and Icypeas does not list it. It may have been charged."
)
NO_LOOK_UP = "no_look_up"
NO_LOOK_UP_TEXT = (
    "The connection broke after we sent this, and such a call cannot be looked up. It may have been charged."
)
UNREADABLE_TEXT = (
    "Reading the answers stopped three workers, so they are left unread. They may have been charged."
)
TOO_LATE = "too_late"
TOO_LATE_TEXT = "Icypeas accepted this and gave no answer within a day. It may have been charged."
NO_MORE_LEADS = "no_more_leads"
NO_MORE_LEADS_TEXT = "The search has no more leads than those above. Nothing was charged for this place."
LISTING_BROKE = "listing_broke"
LISTING_BROKE_TEXT = (
    "The page before this one was lost or refused, and a listing goes on from page to page only. Nothing was charged for "
    "this place. A new search starts from the top, and what came already would be paid again."
)
# How a read may end without an answer. Anything else counts like the end of a worker.
EXPECTED = (ProviderError, limiter.BusyError, gate.GateRefusedError, answers.LostLeaseError)
CLOCK_SKEW = timedelta(minutes=10)  # between the database's clock and Icypeas'


def run_slice(job_id: int, *, should_stop: Callable[[], bool] = lambda: False) -> None:
    """Work on a job for up to `SLICE_S`. A job that has gone, or has nothing to do, is a quiet end."""
    deadline = time.monotonic() + settings.SLICE_S
    last_beat = 0.0
    due_in: float | None = 0.0
    while time.monotonic() < deadline and not should_stop():
        if time.monotonic() - last_beat > settings.HEARTBEAT_S / send_path.BEATS:
            if not _beat(job_id):
                return
            last_beat = time.monotonic()
        _serve_people_first(job_id)
        due_in = _safe_step(job_id, until=deadline)
        if due_in is None or due_in > IDLE_S:
            break
        if due_in > 0:
            time.sleep(min(due_in, 1.0))
    _hand_over(job_id, due_in)


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
    unheard = Q(slice_at__isnull=True) | Q(slice_at__lt=now - timedelta(seconds=settings.HEARTBEAT_S))
    urgent = (
        EnrichmentJob.objects.filter(
            unheard, mode=Mode.SINGLE, state__in=(JobState.QUEUED, JobState.RUNNING), next_due_at__lte=now
        )
        .exclude(id=job_id)
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
    except gate.GateRefusedError as refused:
        return _pause_job(job_id, f"Paused: {refused.message}", send_path.pause_reason(refused))
    except (KeyRejectedError, UnpaidError) as error:
        text = (
            f"Paused: Icypeas refused the key: {error.message}. A key admin can test it; then press Resume."
        )
        due_in = _pause_job(job_id, text)
        job = EnrichmentJob.objects.select_related("key").get(id=job_id)
        pause_fellows(job, PauseReason.KEY, text, is_key_alone=isinstance(error, KeyRejectedError))
        return due_in
    except RateLimitedError as error:
        return error.retry_after_s / max(settings.ICYPEAS_RATE_FACTOR, 1)
    except ProviderError as error:
        # Only reads get here: asking again is free. The page says what is silent, and since when.
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
        prepare(job)
        return 0
    if job.state == JobState.PAUSED and job.pause_reason in SILENT_PAUSES:
        return _free_unsent(job)
    doubt_crashed_sends(job)
    busy_s: list[float] = []
    ends_at = min(until or inf, time.monotonic() + ROUND_S)
    for work in (partial(_send_due, ends_at=ends_at), _look, _collect_next):
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


# --- from queued to running ----------------------------------------------------------------------------------------------


def prepare(job: EnrichmentJob) -> None:
    """Turn rows into questions: link each to its normal form, take known answers, choose the rows that stand for
    their question, and give back what the reservation held for more. May be repeated after a crash."""
    waiting = EnrichmentRow.objects.filter(job=job, state=RowState.WAITING)
    last = waiting.aggregate(last=Max("position"))["last"] or 0
    for start in range(0, last + 1, CHUNK):
        chunk = waiting.filter(position__gt=start, position__lte=start + CHUNK, question__isnull=True)
        _link(job, chunk)
    with transaction.atomic():
        locked = lock_job(job.id)
        if locked.state != JobState.QUEUED:
            return
        known = waiting.filter(question__latest_answer__answered_at__gte=locked.fresh_after)
        answer = Subquery(Question.objects.filter(id=OuterRef("question_id")).values("latest_answer_id")[:1])
        cached = move_rows(job.id, known, RowState.CACHED, answer_id=answer)
        answers.leave_in_doubt(locked)
        leads = _choose_leads(waiting)
        locked.state, locked.prepared_at = JobState.RUNNING, db_now()
        if locked.is_sampling:
            _choose_sample(locked, leads)
        locked.save(update_fields=["state", "prepared_at", "sampled_at"])
        reservations.trim(locked, note="already known at the start")
        if cached:
            tell(job.id, f"{cached:,} rows were already known and cost nothing", icon="database")
    if locked.rows_total > CHUNK:
        _tell_the_planner()


def _tell_the_planner() -> None:
    """PostgreSQL knows nothing of rows that were just written until it analyses its tables, minutes later; meanwhile it
    sorts the whole list for each batch. Without the right to do so it warns and goes on."""
    if connection.vendor == "postgresql":
        tables = ", ".join(model._meta.db_table for model in (EnrichmentRow, Question, BatchItem))
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {tables}")


def _choose_leads(waiting: QuerySet[EnrichmentRow]) -> int:
    """Mark the first row of each question as the one that stands for it; how many there are.

    The ids come here and go back in chunks: as one statement, on a table that was just filled, it takes a time that grows
    squared on both databases, which know nothing of its size yet.
    """
    groups = waiting.order_by().values("question_id").annotate(first=Min("id"))
    firsts = array("q", groups.values_list("first", flat=True).iterator())
    chunks = (firsts[start : start + CHUNK].tolist() for start in range(0, len(firsts), CHUNK))
    return sum(waiting.filter(id__in=chunk).update(is_lead=True) for chunk in chunks)


def _choose_sample(job: EnrichmentJob, leads: int) -> None:
    """Choose the sample's rows by lot; a list that is no longer than its sample needs none."""
    if leads <= job.sample_rows:
        job.sampled_at = db_now()
        return
    rows = EnrichmentRow.objects.filter(job=job, is_lead=True, state=RowState.WAITING)
    chosen = list(rows.order_by("?").values_list("id", flat=True)[: job.sample_rows])
    EnrichmentRow.objects.filter(id__in=chosen).update(in_sample=True)


def _link(job: EnrichmentJob, rows: object) -> None:
    """Upsert the questions of a chunk of rows and point the rows at them."""
    assert isinstance(rows, type(EnrichmentRow.objects.none()))
    by_digest = dict(rows.values_list("digest", "inputs"))
    if not by_digest:
        return
    with transaction.atomic():
        Question.objects.bulk_create(
            [
                Question(realm=job.realm, operation=job.operation, digest=digest, inputs=inputs)
                # Sorted, so that two jobs that insert the same questions never wait for each other in a circle.
                for digest, inputs in sorted(by_digest.items(), key=lambda pair: pair[0])
            ],
            ignore_conflicts=True,
            batch_size=1_000,
        )
        same = Question.objects.filter(realm=job.realm, operation=job.operation, digest=OuterRef("digest"))
        rows.update(question_id=Subquery(same.values("id")[:1]))


# --- sending ---------------------------------------------------------------------------------------------------------------


def _send_due(job: EnrichmentJob, *, ends_at: float) -> bool:
    """Send what is due: batch after batch, or side by side where each call waits for its own answers."""
    operation = operations.get(job.operation)
    if not operation.direct_rows or operation.is_search or job.state != JobState.RUNNING:
        return _send_next(job)
    batches = ceil(job.rows_waiting / _batch_size(job, operation))
    at_once = min(batches, _most_under_way(operation))
    if at_once <= 1:
        return _send_next(job)

    def send_another() -> bool:
        now = EnrichmentJob.objects.select_related("key", "created_by").filter(id=job.id).first()
        return now is not None and now.state == JobState.RUNNING and _send_next(now)

    return side_by_side.repeat(
        send_another,
        at_once=at_once,
        is_over=lambda: time.monotonic() >= ends_at,
        meanwhile=partial(_serve_people_first, job.id),
    )


def _most_under_way(operation: Operation) -> int:
    """Batches of one job that may be under way. Pages of a search follow from each other."""
    if operation.direct_rows and not operation.is_search:
        return int(settings.DIRECT_AT_ONCE)
    return int(settings.BATCHES_IN_FLIGHT)


def _send_next(job: EnrichmentJob) -> bool:
    """Send one batch if one is due and few enough are under way."""
    if job.state != JobState.RUNNING:
        _dissolve_unsent(job)
        return False
    if _under_way(job) >= _most_under_way(operations.get(job.operation)):
        return False
    batch = claim_batch(job)
    if batch is None:
        return False
    if batch.claims > send_path.MAX_CLAIMS:
        send_path.quarantine(batch)
    else:
        send_path.send(batch)
    return True


def _under_way(job: EnrichmentJob) -> int:
    """Batches that are sent, or are being sent by some worker now. Those in doubt wait for their look-up and hold nobody
    up, until they are as many as may be under way."""
    batches = Batch.objects.filter(job=job)
    held = Q(state=BatchState.READY, lease_until__gt=db_now())
    doubted = batches.filter(state=BatchState.DOUBT).count()
    going = batches.filter(held | Q(state__in=UNSETTLED_BATCHES)).exclude(state=BatchState.DOUBT).count()
    return going + max(0, doubted - _most_under_way(operations.get(job.operation)))


def _dissolve_unsent(job: EnrichmentJob) -> None:
    """A stopped job gives its unsent questions free, so that another job may ask them."""
    for batch in Batch.objects.filter(job=job, state=BatchState.READY):
        claimed = _claim(batch.id, BatchState.READY)
        if claimed:
            send_path.dissolve(claimed)


def _free_unsent(job: EnrichmentJob) -> float | None:
    """What a paused job still does that may not even read: other jobs may ask what it has not sent. Seconds until the
    lease of a batch ends that its worker did not let go, None when there is none."""
    _dissolve_unsent(job)
    left = Batch.objects.filter(job=job, state=BatchState.READY).aggregate(lease=Min("lease_until"))["lease"]
    return max((left - db_now()).total_seconds(), TICK_S) if left else None


def claim_batch(job: EnrichmentJob) -> Batch | None:
    """A READY batch that is due, or a new one formed from waiting rows; leased to this worker. None when there is none."""
    now = db_now()
    ready = Batch.objects.filter(job=job, state=BatchState.READY)
    for batch_id in ready.filter(Q(next_at__isnull=True) | Q(next_at__lte=now)).values_list("id", flat=True)[
        :5
    ]:
        claimed = _claim(batch_id, BatchState.READY)
        if claimed:
            return claimed
    free = Q(lease_until__isnull=True) | Q(lease_until__lte=now)
    if ready.filter(free).exists():  # after a refused connection nothing else is tried
        return None
    return _form_batch(job)


def _claim(batch_id: int, state: BatchState, *others: BatchState) -> Batch | None:
    """Take a batch whose lease is free or over, if it still is in one of these states: a conditional update, so that one
    worker wins. Since the batch was found another may have sent it and let it go; as an unsent one it would be dissolved."""
    now = db_now()
    free = Batch.objects.filter(
        Q(lease_until__isnull=True) | Q(lease_until__lt=now), id=batch_id, state__in=(state, *others)
    )
    if not free.update(
        fence=F("fence") + 1,
        claims=F("claims") + 1,
        lease_until=now + send_path.lease_end(),
        worker=settings.WORKER_NAME,
    ):
        return None
    return Batch.objects.get(id=batch_id)


def _form_batch(job: EnrichmentJob) -> Batch | None:
    """Put the next waiting questions that nobody carries into a batch of this job, leased to this worker."""
    operation = operations.get(job.operation)
    with transaction.atomic():
        locked = lock_job(job.id)
        # Counted again under the lock: two workers may have seen the same free place.
        if locked.state != JobState.RUNNING or _under_way(job) >= _most_under_way(operation):
            return None
        leads = EnrichmentRow.objects.filter(
            job=job, is_lead=True, state=RowState.WAITING, question__busy_batch__isnull=True
        )
        if locked.is_sampling:
            leads = leads.filter(in_sample=True)
        cursor = None
        if operation.is_search:
            cursor = _next_page(locked, leads)
            if cursor is None:
                return None
        size = _batch_size(locked, operation)
        ids = list(leads.order_by("position").values_list("question_id", flat=True)[:size])
        if not ids:
            answers.leave_in_doubt(locked)
            return None
        token = secrets.token_hex(8)
        number = (Batch.objects.filter(job=job).aggregate(n=Max("number"))["n"] or 0) + 1
        assert locked.key is not None
        batch = Batch.objects.create(
            job=job,
            account_id=locked.key.account_id,
            number=number,
            mode=Mode.DIRECT if operation.direct_rows else job.mode,
            size=len(ids),
            price=locked.price,
            cursor=cursor,
            name=f"{operation.name} job {job.id} batch {number} {token}",
            fence=1,
            claims=1,
            lease_until=db_now() + send_path.lease_end(),
            worker=settings.WORKER_NAME,
        )
        Question.objects.filter(id__in=ids, busy_batch__isnull=True).update(busy_batch=batch)
        taken = _still_unknown(locked, batch)
        ids = [question_id for question_id in ids if question_id in taken]
        if not ids:
            batch.delete()
            return None
        if len(ids) != batch.size:
            batch.size = len(ids)
            batch.save(update_fields=["size"])
        BatchItem.objects.bulk_create(
            [
                BatchItem(batch=batch, question_id=question_id, external_id=f"{token}-{index}")
                for index, question_id in enumerate(ids)
            ],
            batch_size=1_000,
        )
    return batch


def _next_page(job: EnrichmentJob, rows: QuerySet[EnrichmentRow]) -> dict[str, str] | None:
    """Where the next page of a search begins; None while the page before is under way, and at the end of the listing:
    then the places that are left are never asked."""
    batches = list(Batch.objects.filter(job=job).order_by("number"))
    if any(batch.state in (BatchState.READY, *UNSETTLED_BATCHES) for batch in batches):
        return None
    fetched = [batch for batch in batches if "next" in (batch.cursor or {})]
    last = fetched[-1] if fetched else None
    token = str(last.cursor["next"]) if last and last.cursor else ""
    if last and not token:
        _leave_unasked(job, rows, NO_MORE_LEADS, NO_MORE_LEADS_TEXT)
        return None
    if any(
        batch.state in (BatchState.UNCERTAIN, BatchState.REFUSED)
        for batch in batches
        if last is None or batch.number > last.number
    ):
        _leave_unasked(job, rows, LISTING_BROKE, LISTING_BROKE_TEXT)
        return None
    return {"token": token}


def _leave_unasked(job: EnrichmentJob, rows: QuerySet[EnrichmentRow], code: str, text: str) -> None:
    count = move_rows(job.id, rows, RowState.SKIPPED, reason_code=code, reason=text)
    if count:
        reservations.trim(job, note=code)
        tell(job.id, f"{count:,} places stay empty: {text}", icon="list-end")


def _batch_size(job: EnrichmentJob, operation: Operation) -> int:
    """Rows of the next batch: what cannot be looked up risks little at a time."""
    if job.mode == Mode.SINGLE:
        return 1
    if operation.direct_rows:
        affordable = int(settings.DIRECT_CREDITS / job.price) if job.price else operation.direct_rows
        return max(min(operation.direct_rows, affordable), 1)
    return int(settings.BATCH_ROWS)


def _still_unknown(job: EnrichmentJob, batch: Batch) -> set[int]:
    """Of the questions that a new batch took, those that must be asked. Read after they were taken: until then another
    job could be faster with one, or store its answer, which then costs this job nothing."""
    taken = Question.objects.filter(busy_batch=batch)
    known = list(taken.filter(latest_answer__answered_at__gte=job.fresh_after).values_list("id", flat=True))
    if known:
        answers.take_known(job, known)
        taken.filter(id__in=known).update(busy_batch=None)
    return set(taken.values_list("id", flat=True))


# --- looking: progress of what was sent, and what became of what is in doubt -------------------------------------------------


def doubt_crashed_sends(job: EnrichmentJob) -> int:
    """A send whose lease is over has lost its worker between intent and record: from now on it is looked up."""
    now = db_now()
    assert job.key is not None
    crashed = Batch.objects.filter(account_id=job.key.account_id, state=BatchState.SENDING)
    count = 0
    for batch in crashed.filter(lease_until__lt=now):
        with transaction.atomic():
            changed = Batch.objects.filter(id=batch.id, fence=batch.fence, lease_until__lt=now).update(
                state=BatchState.DOUBT, fence=F("fence") + 1, lease_until=None, next_at=now
            )
            if changed:
                count += 1
                tell(
                    batch.job_id,
                    f"A worker stopped while it sent batch {batch.number}. {send_path.what_next(batch)}",
                    icon="triangle-alert",
                    tone="warn",
                )
                EnrichmentJob.objects.filter(id=batch.job_id).update(next_due_at=now)
    return count


def _look(job: EnrichmentJob) -> bool:
    """Read the progress of the account's bulks and singles, if any of this job is due. One read serves every job."""
    assert job.key is not None
    due = Batch.objects.filter(job=job, state__in=(BatchState.SENT, BatchState.DOUBT), next_at__lte=db_now())
    modes = set(due.values_list("mode", flat=True))
    ways = {Mode.BULK: _look_at_files, Mode.SINGLE: _look_at_singles, Mode.DIRECT: _give_up_direct}
    for mode in modes:
        ways[Mode(mode)](job)
    if modes:
        _give_up_late(job, modes)
    return bool(modes)


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
        _look_at_files(job)
    if Mode.SINGLE in modes:
        _look_at_singles(job)
    finished = list(due.filter(state=BatchState.COLLECTING).values_list("id", flat=True)[:5])
    return any(_collect_from(job, batch_id) for batch_id in finished) or bool(modes)


def _give_up_direct(job: EnrichmentJob) -> None:
    """Calls that may have arrived and that no listing knows: within the limit that was set before the start they are
    paid again, beyond it a person decides."""
    lost = Batch.objects.filter(job=job, mode=Mode.DIRECT, state=BatchState.DOUBT)
    for batch_id in list(lost.order_by("number").values_list("id", flat=True)):
        claimed = _claim(batch_id, BatchState.DOUBT)
        if claimed is not None and not decisions.pay_again(claimed):
            with transaction.atomic():
                answers.hold(claimed)
                answers.leave_uncertain(claimed, code=NO_LOOK_UP, text=NO_LOOK_UP_TEXT)
                answers.close(claimed)


def _take_turn(job: EnrichmentJob, again_s: float) -> list[Batch]:
    """The account's bulks to look for. Setting their next time first keeps other workers from reading the same."""
    assert job.key is not None
    now = db_now()
    sought = Batch.objects.filter(
        account_id=job.key.account_id, mode=Mode.BULK, state__in=(BatchState.SENT, BatchState.DOUBT)
    ).select_related("job")
    batches = list(sought)
    taken = sought.filter(id__in=[batch.id for batch in batches])
    taken.update(next_at=now + timedelta(seconds=again_s))
    for age_s, gap_s in settings.LOOK_GAPS_S:
        taken.filter(intent_at__lt=now - timedelta(seconds=age_s)).update(
            next_at=now + timedelta(seconds=max(gap_s, again_s))
        )
    return batches


def _give_up_late(job: EnrichmentJob, modes: Iterable[str]) -> None:
    """What was accepted and never ended: it would keep its job open and be looked for without end."""
    assert job.key is not None
    before = db_now() - timedelta(seconds=settings.ANSWER_S)
    late = Batch.objects.filter(
        account_id=job.key.account_id, mode__in=modes, state=BatchState.SENT, sent_at__lt=before
    )
    for batch_id in list(late.values_list("id", flat=True)):
        claimed = _claim(batch_id, BatchState.SENT)
        if claimed is not None:
            with transaction.atomic():
                answers.hold(claimed)
                answers.leave_uncertain(claimed, code=TOO_LATE, text=TOO_LATE_TEXT)
                answers.close(claimed)


def _look_at_files(job: EnrichmentJob) -> None:
    # With answers to fetch there is time; without any, waiting for the next look would be all that is done.
    is_idle = not Batch.objects.filter(job=job, state=BatchState.COLLECTING).exists()
    batches = _take_turn(job, settings.FILE_LOOK_S / (2 if is_idle else 1))
    by_ref = {batch.provider_ref: batch for batch in batches if batch.state == BatchState.SENT}
    by_name = {batch.name: batch for batch in batches if batch.state == BatchState.DOUBT}
    oldest = min((batch.intent_at for batch in batches if batch.intent_at), default=None)
    cursor: object | None = None
    for _page in range(FILE_PAGES):
        page = send_path.read_files(job, cursor)
        for file in page.files:
            batch = by_ref.pop(file.file_id, None)
            if batch is not None:
                _progress(batch, file)
            batch = by_name.pop(file.name, None)
            if batch is not None:
                _adopt(batch, file.file_id)
        cursor = page.cursor
        if cursor is None or _older_than(page.files, oldest) or not (by_ref or by_name):
            break
    # Also one that is older than all pages that we read: no later look would go further back.
    for batch in by_name.values():
        _not_seen(batch)
    EnrichmentJob.objects.filter(id__in={batch.job_id for batch in batches}).update(
        heard_at=db_now(), state_text=""
    )


def _older_than(files: object, oldest: datetime | None) -> bool:
    """Whether a page, newest first, has reached files from before the oldest batch that is sought."""
    assert isinstance(files, (list, tuple))
    times = [file.created_at for file in files if isinstance(file, ProviderFile) and file.created_at]
    return bool(oldest and times and min(times) < oldest - CLOCK_SKEW)


def _progress(batch: Batch, file: ProviderFile) -> None:
    if file.is_finished:
        now = db_now()
        Batch.objects.filter(id=batch.id, state=BatchState.SENT).update(
            state=BatchState.COLLECTING, next_at=now, cursor=None, claims=0
        )
        EnrichmentJob.objects.filter(id=batch.job_id).update(next_due_at=now)


def _adopt(batch: Batch, ref: str) -> None:
    """The send had arrived: go on with what Icypeas holds, as if the answer had come."""
    now = db_now()
    changed = Batch.objects.filter(id=batch.id, state=BatchState.DOUBT).update(
        state=BatchState.SENT, provider_ref=ref, sent_at=now, next_at=now, message="", claims=0
    )
    if changed:
        tell(
            batch.job_id,
            f"Batch {batch.number} was found at Icypeas: {batch.size:,} rows go on, none was sent twice",
            icon="circle-check",
            tone="ok",
        )
        EnrichmentJob.objects.filter(id=batch.job_id).update(next_due_at=now)


def _not_seen(batch: Batch) -> None:
    """A complete listing did not have it. It counts as a look only after the settle time, and two looks decide."""
    now = db_now()
    assert batch.intent_at is not None
    settled = batch.intent_at + timedelta(seconds=settings.SETTLE_S)
    mine = Batch.objects.filter(id=batch.id, state=BatchState.DOUBT, looks=batch.looks)
    if now < settled:
        mine.update(next_at=min(settled, now + timedelta(seconds=settings.FILE_LOOK_S)))
        return
    second = settings.SECOND_LOOK_S
    if batch.looks == 0:
        mine.update(looks=1, looked_at=now, next_at=now + timedelta(seconds=second))
        return
    if batch.looked_at and now < batch.looked_at + timedelta(seconds=second):
        mine.update(next_at=batch.looked_at + timedelta(seconds=second))
        return
    with transaction.atomic():
        if mine.update(looks=LOOKS, looked_at=now, state=BatchState.UNCERTAIN, next_at=None, done_at=now):
            answers.leave_uncertain(batch, code=NOT_SEEN, text=NOT_SEEN_TEXT)


def _look_at_singles(job: EnrichmentJob) -> None:
    """One list read covers a hundred look-ups: settle those that are final, adopt those in doubt. Reads nothing when
    another worker has just begun to."""
    assert job.key is not None
    account_id = job.key.account_id
    is_for_person = _take_look(account_id)
    if is_for_person is None:
        return
    batches = list(_singles(account_id).select_related("job"))
    items = list(BatchItem.objects.filter(batch__in=batches, is_settled=False).select_related("question"))
    by_id = {batch.id: batch for batch in batches}
    sought = {item.external_id: item for item in items}
    known = {item.provider_id: item.external_id for item in items if item.provider_id}
    settled: set[int] = set()
    cursor: object | None = None
    for _page in range(SINGLE_PAGES):
        try:
            page = send_path.read_singles(job, cursor, known, is_for_person=is_for_person)
        except limiter.BusyError as busy:
            _singles(account_id).filter(id__in=by_id).update(
                next_at=db_now() + timedelta(seconds=busy.wait_s)
            )
            raise
        for found in page.items:
            item = sought.pop(found.external_id, None)
            if item is not None and _take_in(by_id[item.batch_id], found):
                settled.add(by_id[item.batch_id].job_id)
        cursor = page.cursor
        if cursor is None or not sought:
            break
    _look_deeper(job, by_id, sought, is_cut=cursor is not None, is_for_person=is_for_person)
    for job_id in settled:  # people wait for its page
        finish_if_done(job_id)
    _keep_next_look(account_id)
    EnrichmentJob.objects.filter(id__in={batch.job_id for batch in batches}).update(heard_at=db_now())


def _singles(account_id: int) -> QuerySet[Batch]:
    """Searches of single rows whose end is not known."""
    return Batch.objects.filter(
        account_id=account_id, mode=Mode.SINGLE, state__in=(BatchState.SENT, BatchState.DOUBT)
    )


def _take_look(account_id: int) -> bool | None:
    """The right to look for everything that is due, by setting when each is due again; whether a person waits for one of
    them. None when nothing is due, or another worker was first."""
    now = db_now()
    is_for_person: bool | None = None
    for batch in _singles(account_id).filter(next_at__lte=now):
        age_s = (now - batch.sent_at).total_seconds() if batch.sent_at else 0.0
        # The longer it takes, the longer until the next look: a search that never ends must not read for ever.
        again_s = min(max(settings.SINGLE_LOOK_S, age_s / 2), settings.SINGLE_LOOK_MOST_S)
        mine = Batch.objects.filter(id=batch.id, next_at=batch.next_at)
        if mine.update(next_at=now + timedelta(seconds=again_s)):
            is_for_person = bool(is_for_person) or age_s < settings.SINGLE_LOOK_MOST_S
    return is_for_person


def _take_in(batch: Batch, found: ProviderItem) -> bool:
    """What a look brought about one search. True when its batch is over."""
    if batch.state == BatchState.DOUBT:
        _adopt(batch, found.provider_id)
        BatchItem.objects.filter(batch=batch, external_id=found.external_id).update(
            provider_id=found.provider_id
        )
    if found.state is ItemState.PENDING:
        return False
    claimed = _claim(batch.id, BatchState.SENT, BatchState.DOUBT)
    if claimed is None:
        return False
    if claimed.claims > send_path.MAX_CLAIMS:
        _leave_unread(claimed)
        return True
    answers.record_items(claimed, [found])
    return _settle(claimed)


def _look_deeper(
    job: EnrichmentJob,
    batches: dict[int, Batch],
    sought: dict[str, BatchItem],
    *,
    is_cut: bool,
    is_for_person: bool,
) -> None:
    """Searches that the listing did not show. One that lies behind the pages that we read is asked for by its own id, one
    at a time; after all pages, what is in doubt is not there."""
    by_id = None
    for item in sought.values():
        batch = batches[item.batch_id]
        if batch.state == BatchState.DOUBT:
            _not_seen(batch)
        elif item.provider_id and is_cut and by_id is None:
            by_id = item
    if by_id is not None:
        found = send_path.read_single(job, by_id, is_for_person=is_for_person)
        if found is not None:
            _take_in(batches[by_id.batch_id], found)


def _keep_next_look(account_id: int) -> None:
    """The slot of reading at which the next look for a person comes."""
    young = db_now() - timedelta(seconds=settings.SINGLE_LOOK_MOST_S)
    next_at = _singles(account_id).filter(sent_at__gte=young).aggregate(at=Min("next_at"))["at"]
    if next_at is not None:
        send_path.keep_slot(account_id, next_at)


def _settle(batch: Batch) -> bool:
    """Free the claim; a batch without open questions is done. True when it is."""
    if answers.unsettled(batch):
        Batch.objects.filter(id=batch.id, fence=batch.fence).update(lease_until=None, claims=0)
        return False
    answers.close(batch)
    EnrichmentJob.objects.filter(id=batch.job_id).update(next_due_at=db_now())
    return True


# --- collecting -------------------------------------------------------------------------------------------------------------


def _collect_next(job: EnrichmentJob) -> bool:
    """Fetch one page of answers of a finished bulk. The limiter turns it away while a slot is kept for somebody's look-up."""
    due = Batch.objects.filter(job=job, state=BatchState.COLLECTING, next_at__lte=db_now()).order_by("number")
    try:
        return any(_collect_from(job, batch_id) for batch_id in list(due.values_list("id", flat=True)[:5]))
    except limiter.BusyError as busy:
        # Back when the slot is so near that it may be taken.
        raise limiter.BusyError(max(busy.wait_s - send_path.read_ahead_s(), 0.0)) from busy


def _collect_from(job: EnrichmentJob, batch_id: int) -> bool:
    """One page of a batch, unless another worker has it."""
    batch = _claim(batch_id, BatchState.COLLECTING)
    if batch is None:
        return False
    if batch.claims > send_path.MAX_CLAIMS:
        _leave_unread(batch)
        return True
    mine = Batch.objects.filter(id=batch.id, fence=batch.fence)
    try:
        _collect(job, batch)
    except EXPECTED:
        mine.update(claims=0)
        raise
    else:
        mine.update(claims=0)
    finally:
        mine.update(lease_until=None)
    return True


def _leave_unread(batch: Batch) -> None:
    """Answers that keep ending the workers that read them: a person decides, and the rest of the job goes on."""
    with transaction.atomic():
        answers.hold(batch)
        answers.leave_uncertain(batch, code=send_path.POISON, text=UNREADABLE_TEXT)
        answers.close(batch)


def _most_pages(batch: Batch) -> int:
    """How many pages one pass may read; one more than the batch needs, since the listing may move while it is read."""
    return batch.size // ITEMS_A_PAGE + 2


def _collect(job: EnrichmentJob, batch: Batch) -> None:
    page_number, cursor = batch.cursor or (0, None)
    page = send_path.read_file_items(job, batch, cursor)
    page_number += 1
    answers.record_items(batch, page.items)
    mine = Batch.objects.filter(id=batch.id, fence=batch.fence)
    if answers.unsettled(batch) == 0:
        answers.close(batch)
    elif page.cursor is not None and page_number < _most_pages(batch):
        mine.update(cursor=[page_number, page.cursor])
    # The listing ended, or goes on longer than the batch is: what is missing is looked for in a new pass.
    elif batch.passes + 1 < PASSES:
        # Answers may be listed later than the end of their bulk: the last pass comes after more than the settle time.
        wait_s = min(settings.RETRY_S * 4**batch.passes, settings.SETTLE_S)
        mine.update(cursor=None, passes=batch.passes + 1, next_at=db_now() + timedelta(seconds=wait_s))
    else:
        with transaction.atomic():
            answers.hold(batch)
            mine.update(state=BatchState.UNCERTAIN, next_at=None, done_at=db_now())
            answers.leave_uncertain(batch, code=answers.NO_ANSWER, text=answers.NO_ANSWER_TEXT)


# --- the end ----------------------------------------------------------------------------------------------------------------


def finish_if_done(job_id: int) -> bool:
    """End the job when no row is open; any worker may try, the state decides. True when the job has ended."""
    with transaction.atomic():
        job = lock_job(job_id)
        if job.state not in WORKED_ON or job.state == JobState.QUEUED:
            return job.is_finished
        if job.rows_open or EnrichmentRow.objects.filter(job=job, state__in=OPEN_ROWS).exists():
            return False
        if job.state == JobState.CANCELLING:
            state, text, icon = (
                JobState.CANCELLED,
                "Cancelled; every row that was at Icypeas has come back",
                "circle-slash",
            )
        else:
            state, text, icon = JobState.COMPLETED, "Finished", "circle-check"
            if job.rows_uncertain:
                text = f"Finished with {job.rows_uncertain:,} uncertain rows"
        EnrichmentJob.objects.filter(id=job.id).update(
            state=state,
            pause_reason=PauseReason.NONE,
            state_text="",
            finished_at=db_now(),
            next_due_at=None,
        )
        tell(job.id, text, icon=icon, tone="ok" if state == JobState.COMPLETED else "")
    return True


def pause_after_sample(job_id: int) -> bool:
    """Pause a job whose sample has its answers, for a person to say whether the rest is worth it. True when it was paused."""
    with transaction.atomic():
        job = lock_job(job_id)
        if job.state != JobState.RUNNING or not job.is_sampling:
            return False
        sample = EnrichmentRow.objects.filter(job=job, in_sample=True)
        if sample.filter(state__in=OPEN_ROWS).exists():
            return False
        answered = sample.filter(state__in=ANSWERED_ROWS)
        job.sampled_at = db_now()
        job.sample_asked = answered.count()
        job.sample_good = answered.filter(answer__is_good=True).count()
        job.save(update_fields=["sampled_at", "sample_asked", "sample_good"])
        # What the other rows can cost is reserved when a person goes on.
        EnrichmentJob.objects.filter(id=job_id).update(holds_reservation=False)
        pause(
            job,
            PauseReason.SAMPLE,
            f"The sample is done: {job.sample_good:,} of {job.sample_asked:,} answers are what you hoped for. "
            "Look at the figures, then go on or cancel.",
        )
    return True


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
    """Jobs whose wake-up nobody took for the time of a lease, or whose slice missed three beats.

    A second slice beside a living one does no harm: claims and fences keep them apart.
    """
    now = db_now()
    unheard = Q(slice_at__isnull=True, dispatched_at__lt=now - send_path.lease_end())
    silent = now - timedelta(seconds=settings.HEARTBEAT_S)
    return unheard | Q(dispatched_at__isnull=False, slice_at__lt=silent)

"""Batches of questions: how they are formed, claimed and sent, and how what is unsent is given free."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from math import ceil

from django.conf import settings
from django.db import transaction
from django.db.models import F, Max, Q, QuerySet

from enrichment import operations
from enrichment.choices import UNSETTLED_BATCHES, BatchState, JobState, Mode, RowState
from enrichment.models import Batch, BatchItem, EnrichmentJob, EnrichmentRow, Question
from enrichment.operations.base import Operation
from enrichment.services import answers, leases, reservations, send_path, side_by_side
from enrichment.services.transitions import lock_job, move_rows, tell
from keys.clock import db_now

NO_MORE_LEADS = "no_more_leads"
NO_MORE_LEADS_TEXT = "The search has no more leads than those above. Nothing was charged for this place."
LISTING_BROKE = "listing_broke"
LISTING_BROKE_TEXT = (
    "The page before this one was lost or refused, and a listing goes on from page to page only. Nothing was charged for "
    "this place. A new search starts from the top, and what came already would be paid again."
)


def send_due(job: EnrichmentJob, *, ends_at: float, meanwhile: Callable[[], object]) -> bool:
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
        meanwhile=meanwhile,
    )


def _send_next(job: EnrichmentJob) -> bool:
    """Send one batch if one is due and few enough are under way."""
    if job.state != JobState.RUNNING:
        dissolve_unsent(job)
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


def _most_under_way(operation: Operation) -> int:
    """Batches of one job that may be under way. Pages of a search follow from each other."""
    if operation.direct_rows and not operation.is_search:
        return int(settings.DIRECT_AT_ONCE)
    return int(settings.BATCHES_IN_FLIGHT)


def _under_way(job: EnrichmentJob) -> int:
    """Batches that are sent, or are being sent by some worker now. Those in doubt wait for their look-up and hold nobody
    up, until they are as many as may be under way."""
    batches = Batch.objects.filter(job=job)
    held = Q(state=BatchState.READY, lease_until__gt=db_now())
    doubted = batches.filter(state=BatchState.DOUBT).count()
    going = batches.filter(held | Q(state__in=UNSETTLED_BATCHES)).exclude(state=BatchState.DOUBT).count()
    return going + max(0, doubted - _most_under_way(operations.get(job.operation)))


def dissolve_unsent(job: EnrichmentJob) -> None:
    """A stopped job gives its unsent questions free, so that another job may ask them."""
    for batch in Batch.objects.filter(job=job, state=BatchState.READY):
        claimed = claim(batch.id, BatchState.READY)
        if claimed:
            send_path.dissolve(claimed)


def claim_batch(job: EnrichmentJob) -> Batch | None:
    """A READY batch that is due, or a new one formed from waiting rows; leased to this worker. None when there is none."""
    now = db_now()
    ready = Batch.objects.filter(job=job, state=BatchState.READY)
    for batch_id in ready.filter(Q(next_at__isnull=True) | Q(next_at__lte=now)).values_list("id", flat=True)[
        :5
    ]:
        claimed = claim(batch_id, BatchState.READY)
        if claimed:
            return claimed
    free = Q(lease_until__isnull=True) | Q(lease_until__lte=now)
    if ready.filter(free).exists():  # after a refused connection nothing else is tried
        return None
    return _form_batch(job)


def claim(batch_id: int, state: BatchState, *others: BatchState) -> Batch | None:
    """Take a batch whose lease is free or over, if it still is in one of these states: a conditional update, so that one
    worker wins. Since the batch was found another may have sent it and let it go; as an unsent one it would be dissolved."""
    now = db_now()
    free = Batch.objects.filter(
        Q(lease_until__isnull=True) | Q(lease_until__lt=now), id=batch_id, state__in=(state, *others)
    )
    if not free.update(
        fence=F("fence") + 1,
        claims=F("claims") + 1,
        lease_until=now + leases.lease_end(),
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
        ids = list(dict.fromkeys(leads.order_by("position").values_list("question_id", flat=True)[:size]))
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
            lease_until=db_now() + leases.lease_end(),
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
    beyond = [batch for batch in batches if last is None or batch.number > last.number]
    if any(batch.state in (BatchState.UNCERTAIN, BatchState.REFUSED) for batch in beyond) or _is_given_up(
        job, beyond
    ):
        _leave_unasked(job, rows, LISTING_BROKE, LISTING_BROKE_TEXT)
        return None
    return {"token": token}


def _is_given_up(job: EnrichmentJob, pages: Sequence[Batch]) -> bool:
    """Whether a lost page was accepted as paid: to fetch it now would pay for it again."""
    places = BatchItem.objects.filter(batch__in=pages).values("question")
    return EnrichmentRow.objects.filter(
        job=job, question__in=places, reason_code=EnrichmentRow.ACCEPTED_PAID
    ).exists()


def _leave_unasked(job: EnrichmentJob, rows: QuerySet[EnrichmentRow], code: str, text: str) -> None:
    count = move_rows(job.id, rows, RowState.SKIPPED, reason_code=code, reason=text)
    if count:
        reservations.trim(job, note=code)
        tell(job.id, f"{count:,} places stay empty: {text}", icon="list-end")

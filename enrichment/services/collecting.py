"""Collecting: the answers of a finished bulk, page by page."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction

from enrichment.choices import BatchState
from enrichment.models import Batch, EnrichmentJob
from enrichment.providers.base import ProviderError
from enrichment.services import answers, batching, send_path
from keys import gate, limiter
from keys.clock import db_now

ITEMS_A_PAGE = 100
PASSES = 5  # full readings of a finished bulk before a missing answer counts as missing
UNREADABLE_TEXT = (
    "Reading the answers stopped three workers, so they are left unread. They may have been charged."
)
# How a read may end without an answer. Anything else counts like the end of a worker.
EXPECTED = (ProviderError, limiter.BusyError, gate.GateRefusedError, answers.LostLeaseError)


def collect_next(job: EnrichmentJob) -> bool:
    """Fetch one page of answers of a finished bulk. The limiter turns it away while a slot is kept for somebody's look-up."""
    due = Batch.objects.filter(job=job, state=BatchState.COLLECTING, next_at__lte=db_now()).order_by("number")
    try:
        return any(collect_from(job, batch_id) for batch_id in list(due.values_list("id", flat=True)[:5]))
    except limiter.BusyError as busy:
        # Back when the slot is so near that it may be taken.
        raise limiter.BusyError(max(busy.wait_s - send_path.read_ahead_s(), 0.0)) from busy


def collect_from(job: EnrichmentJob, batch_id: int) -> bool:
    """One page of a batch, unless another worker has it."""
    batch = batching.claim(batch_id, BatchState.COLLECTING)
    if batch is None:
        return False
    if batch.claims > send_path.MAX_CLAIMS:
        leave_unread(batch)
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


def leave_unread(batch: Batch) -> None:
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

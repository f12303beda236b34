"""Collecting: the answers of a finished bulk, page by page."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from enrichment.choices import BatchState
from enrichment.models import Batch, EnrichmentJob
from enrichment.providers.base import ProviderError, ProviderItem, ReadFailedError, RefusedError
from enrichment.services import answers, batching, consequences, provider_call, reads, send_path
from enrichment.services.transitions import tell
from keys import gate, limiter
from keys.clock import db_now

ITEMS_A_PAGE = 100
PASSES = 5  # full readings of a finished bulk before a missing answer counts as missing
FAILED_READS = 3  # of one place in the listing; then the place itself counts as broken
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
        # Back when the slot is so near that it may be taken, and not before a moment: it may be kept for one who does not come.
        moment_s = provider_call.slot_s(provider_call.ITEMS) / 10
        raise limiter.BusyError(max(busy.wait_s - provider_call.read_ahead_s(), moment_s)) from busy


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
    place = batch.cursor if isinstance(batch.cursor, dict) else {}
    cursor = place.get("cursor")
    mine = Batch.objects.filter(id=batch.id, fence=batch.fence)
    try:
        page = reads.read_file_items(job, batch, cursor)
    except RefusedError as error:
        if consequences.is_about_account(error):
            raise
        # The file, or the place in it, is unknown or refused. It may be known again from the top.
        _read_again(batch, f"{error.message}.")
        return
    except ReadFailedError as error:
        failed = place.get("failed", 0) + 1
        if cursor is not None and failed >= FAILED_READS:
            _read_again(batch, f"{error.message}, {FAILED_READS} times at the same place.")
        elif cursor is not None:
            mine.update(cursor={**place, "failed": failed})
        raise
    pages = place.get("pages", 0) + 1
    seen = _digest(page.items)
    with transaction.atomic():  # or a kill in between would leave what is settled to nobody
        answers.record_items(batch, page.items)
        is_settled = answers.unsettled(batch) == 0
        if is_settled:
            answers.close(batch)
    if is_settled:
        return
    # A page that came a moment ago will come for ever; one too many pages do the same more slowly.
    if page.cursor is not None and pages < _most_pages(batch) and seen != place.get("seen"):
        mine.update(cursor={"pages": pages, "cursor": page.cursor, "seen": seen})
    else:
        _begin_pass(mine, batch)


def _digest(items: Sequence[ProviderItem]) -> str:
    """Which items a page brought, in a few characters."""
    return hashlib.sha256(repr([item.provider_id for item in items]).encode()).hexdigest()[:16]


def _begin_pass(mine: QuerySet[Batch], batch: Batch) -> None:
    """The listing ended, and answers are missing: it is read once more from its top, or they count as missing."""
    if batch.passes + 1 < PASSES:
        # Answers may be listed later than the end of their bulk: the last pass comes after more than the settle time.
        wait_s = min(settings.RETRY_S * 4**batch.passes, settings.SETTLE_S)
        mine.update(cursor=None, passes=batch.passes + 1, next_at=db_now() + timedelta(seconds=wait_s))
        return
    with transaction.atomic():
        answers.hold(batch)
        mine.update(state=BatchState.UNCERTAIN, next_at=None, done_at=db_now())
        answers.leave_uncertain(batch, code=answers.NO_ANSWER, text=answers.NO_ANSWER_TEXT)


def _read_again(batch: Batch, why: str) -> None:
    tell(
        batch.job_id,
        f"The answers of batch {batch.number} could not be read on: {why} They are read from the top.",
        icon="triangle-alert",
        tone="warn",
    )
    _begin_pass(Batch.objects.filter(id=batch.id, fence=batch.fence), batch)

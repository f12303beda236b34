"""What a job holds of its account: the price of each row that it may still send, or that may be at Icypeas.

Every change of rows ends with `trim`, which gives back what is held for more; before rows may be sent, `cover` reserves
what they can cost. So no caller computes a release, and what is open always fits the rows.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from enrichment import selectors
from enrichment.choices import JobState, RowState
from enrichment.models import EnrichmentJob, EnrichmentRow
from enrichment.services.transitions import lock_job, tell
from keys import ledger
from keys.clock import db_now


def at_risk(job: EnrichmentJob) -> Decimal:
    """Credits that rows at Icypeas and uncertain ones can still cost."""
    states = (RowState.IN_FLIGHT, RowState.UNCERTAIN)
    return EnrichmentRow.objects.filter(job=job, is_lead=True, state__in=states).count() * job.price


def unsent(job: EnrichmentJob) -> Decimal:
    """Credits that the waiting rows can cost as far as the job may send them; at most so much before they are questions."""
    if job.prepared_at is None:
        ask = selectors.estimate(job, realm=job.realm, fresh_after=job.fresh_after or db_now()).ask
        return (min(ask, job.sample_rows) if job.is_sampling else ask) * job.price
    return _may_be_sent(job).count() * job.price


def lacking(job: EnrichmentJob) -> Decimal:
    """Credits that the job must still reserve before its waiting rows may be sent."""
    return max(unsent(job) + at_risk(job) - ledger.job_sums(job.id).open, Decimal(0))


def _may_be_sent(job: EnrichmentJob) -> QuerySet[EnrichmentRow]:
    leads = EnrichmentRow.objects.filter(job=job, is_lead=True, state=RowState.WAITING)
    return leads.filter(in_sample=True) if job.is_sampling else leads


def cover(job: EnrichmentJob, *, note: str = "") -> Decimal:
    """Reserve what a locked job lacks for its waiting rows; how much. Raises `ReservationError`, then nothing changed."""
    assert job.key is not None
    credits = lacking(job)
    if credits:
        ledger.reserve(key=job.key, operation=job.operation, job=job.id, credits=credits, note=note)
    EnrichmentJob.objects.filter(id=job.id).update(holds_reservation=True)
    job.holds_reservation = True
    return credits


def trim(job: EnrichmentJob, *, note: str = "", batch: int | None = None) -> Decimal:
    """Give back what a locked job holds for more than its rows can cost; how much. Before its rows are questions it
    keeps all it has. Charges of the rows that moved must be booked before."""
    if job.key is None:
        return Decimal(0)
    spare = ledger.job_sums(job.id).open - at_risk(job) - _needed(job)
    if spare > 0:
        ledger.release(
            key=job.key, operation=job.operation, job=job.id, batch=batch, credits=spare, note=note
        )
    return max(spare, Decimal(0))


def _needed(job: EnrichmentJob) -> Decimal:
    """What must stay reserved for waiting rows: nothing once they are never sent, or after a long pause."""
    if job.state in (JobState.CANCELLING, JobState.CANCELLED) or not job.holds_reservation:
        return Decimal(0)
    return ledger.job_sums(job.id).open - at_risk(job) if job.prepared_at is None else unsent(job)


def give_back_overdue() -> int:
    """Give back what jobs hold for waiting rows that were paused for `RESERVATION_KEPT_DAYS`; how many jobs. Resuming
    reserves anew. The sweep calls this."""
    before = db_now() - timedelta(days=settings.RESERVATION_KEPT_DAYS)
    overdue = EnrichmentJob.objects.filter(
        state=JobState.PAUSED, holds_reservation=True, paused_at__lt=before
    )
    count = 0
    for job_id in list(overdue.order_by("id").values_list("id", flat=True)[:200]):
        with transaction.atomic():
            job = lock_job(job_id)
            if not overdue.filter(id=job_id).exists():  # a person resumed it meanwhile
                continue
            EnrichmentJob.objects.filter(id=job_id).update(holds_reservation=False)
            job.holds_reservation = False
            credits = trim(job, note="paused for long")
            if credits:
                tell(
                    job_id,
                    f"Paused for {settings.RESERVATION_KEPT_DAYS} days: {ledger.words(credits)} reserved credits are given back. "
                    "Resume reserves them again.",
                    icon="undo-2",
                )
            count += 1
    return count

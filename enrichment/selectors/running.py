"""A job under way: its figures now, its events, and whether anybody works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db.models import Count, Max, Q

from enrichment.choices import ACTIVE, UNSETTLED_BATCHES, JobState, Mode, RowState
from enrichment.models import Answer, Batch, EnrichmentJob, EnrichmentRow, JobEvent
from enrichment.selectors.starting import expected_rate
from keys import breaker, ledger
from keys.clock import db_now
from keys.models import Breaker, Worker


@dataclass(frozen=True)
class Progress:
    """Everything that the live part of a job page says, each from one query or one counter."""

    job: EnrichmentJob
    counts: Mapping[str, int]
    money: ledger.JobSums
    answered: int
    percent: Decimal
    per_minute: int
    seconds_left: int | None
    at_risk: Decimal  # of the rows at Icypeas and the uncertain ones
    uncertain_at_risk: Decimal
    unsent: int
    at_provider: int
    is_stalled: bool
    worker_seen_at: datetime | None
    has_worker: bool
    breaker: Breaker | None  # of the job's account, while it is open
    jobs_before: int
    expected_end: Decimal

    @property
    def at_most_if_stopped(self) -> Decimal:
        """The most that the job has cost in the end if nothing more is sent."""
        return self.money.charged + self.at_risk


def progress(job: EnrichmentJob) -> Progress:
    """The job's figures now."""
    now = db_now()
    total = job.rows_total
    open_rows = job.rows_open
    done = total - open_rows
    settled_leads = EnrichmentRow.objects.filter(job=job, is_lead=True).aggregate(
        at_provider=Count("id", filter=Q(state=RowState.IN_FLIGHT)),
        uncertain=Count("id", filter=Q(state=RowState.UNCERTAIN)),
        waiting=Count("id", filter=Q(state=RowState.WAITING)),
    )
    money = ledger.job_sums(job.id)
    seen = worker_seen_at()
    # A command at a terminal works on its own job alone.
    has_worker = has_live_worker() or _is_live(job.slice_at)
    per_minute, seconds_left = _speed(job, now, open_rows)
    rate = expected_rate(job)
    open_price = (settled_leads["waiting"] + settled_leads["at_provider"]) * job.price
    return Progress(
        job=job,
        counts=job.counts,
        money=money,
        answered=job.rows_answered,
        percent=Decimal(done * 100) / total if total else Decimal(0),
        per_minute=per_minute,
        seconds_left=seconds_left,
        at_risk=(settled_leads["at_provider"] + settled_leads["uncertain"]) * job.price,
        uncertain_at_risk=settled_leads["uncertain"] * job.price,
        unsent=job.rows_waiting,
        at_provider=job.rows_in_flight,
        is_stalled=_is_stalled(job, now, has_worker),
        worker_seen_at=seen,
        has_worker=has_worker,
        breaker=breaker.opened(job.key.account_id) if job.key else None,
        jobs_before=EnrichmentJob.objects.filter(
            state__in=(JobState.QUEUED, JobState.RUNNING), mode=Mode.BULK, id__lt=job.id
        ).count()
        if job.state == JobState.QUEUED
        else 0,
        expected_end=_expected_end(job, money.charged, open_price, rate),
    )


def _expected_end(job: EnrichmentJob, charged: Decimal, open_price: Decimal, rate: Decimal) -> Decimal:
    """Credits that the job has probably cost when it ends: before the rows are turned into questions, the estimate."""
    if job.prepared_at is None:
        return job.estimate_expected
    return charged + open_price * (1 if job.charged_when_empty else rate)


def _speed(job: EnrichmentJob, now: datetime, open_rows: int) -> tuple[int, int | None]:
    """Answers a minute over the last minute (or since the start), and the seconds that the open rows take at it."""
    if job.state not in ACTIVE or not job.started_at:
        return 0, None
    window = min(max((now - job.started_at).total_seconds(), 1.0), 60.0)
    recent = Answer.objects.filter(job=job, answered_at__gte=now - timedelta(seconds=window)).count()
    per_minute = round(recent * 60 / window)
    return per_minute, (round(open_rows * 60 / per_minute) if per_minute and open_rows else None)


def _is_stalled(job: EnrichmentJob, now: datetime, has_worker: bool) -> bool:
    """Icypeas was silent for longer than its answers ever take, though something is there or a reason is known why nothing
    goes there. A job that was just resumed has not been waiting since it was last heard of, but since it sent."""
    if job.state not in (JobState.RUNNING, JobState.CANCELLING) or not job.rows_open or not has_worker:
        return False
    if not job.rows_in_flight and not job.state_text:
        return False
    sent = Batch.objects.filter(job=job, state__in=UNSETTLED_BATCHES).aggregate(at=Max("intent_at"))["at"]
    times = [at for at in (job.heard_at or job.started_at, sent) if at is not None]
    return bool(times) and (now - max(times)).total_seconds() > settings.STALLED_S


def list_events(job: EnrichmentJob, limit: int = 30) -> list[JobEvent]:
    return list(job.events.order_by("-id")[:limit])


def worker_seen_at() -> datetime | None:
    """When any worker was last seen; None when there never was one."""
    seen: datetime | None = Worker.objects.aggregate(at=Max("seen_at"))["at"]
    return seen


def has_live_worker() -> bool:
    """Whether a worker that takes any job was heard lately and did not say that it ends."""
    living = Worker.objects.filter(ended_at__isnull=True, reports=True)
    return _is_live(living.aggregate(at=Max("seen_at"))["at"])


def _is_live(seen: datetime | None) -> bool:
    return bool(seen and (db_now() - seen).total_seconds() < settings.WORKER_SILENT_S)

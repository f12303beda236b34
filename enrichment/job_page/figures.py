"""What a job's page says while it lasts: banner, announcement, sentences, and what *Resume* would do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings

from enrichment import selectors
from enrichment.choices import JobState, PauseReason
from enrichment.models import EnrichmentJob
from enrichment.selectors import Progress
from enrichment.services import reservations
from keys import ledger
from keys.clock import db_now

MILESTONES = (75, 50, 25)
FRESH_S = 15  # "4 s ago" is renewed at least this often while nothing else changes


@dataclass(frozen=True)
class Live:
    """The state of the page's live part. While `layout` stays the same only figures change; `version` is the figures'."""

    layout: str
    version: str
    banner: str
    announcement: str
    poll_s: int
    done: int


def live(progress: Progress) -> Live:
    job = progress.job
    banner = banner_of(progress)
    done = job.rows_total - job.rows_open
    layout = f"{job.state}-{job.pause_reason}-{banner}-{'worker' if progress.has_worker else 'alone'}"
    if not job.holds_reservation:
        layout += "-uncovered"
    if job.rows_uncertain:
        layout += "-uncertain"
    shown = (
        sorted(progress.counts.items()),
        progress.money,
        progress.per_minute,
        progress.expected_end,
        progress.jobs_before,
        job.state_text,
        _age(progress) // (FRESH_S if job.state == JobState.RUNNING else 60),
    )
    return Live(
        layout=layout,
        version=f"{layout}.{hashlib.sha256(repr(shown).encode()).hexdigest()[:12]}",
        banner=banner,
        announcement=_announcement(progress, banner, done),
        poll_s=5 if job.state == JobState.PAUSED else 2,
        done=done,
    )


def is_layout_of(version: str, layout: str) -> bool:
    """Whether the page that has `version` is laid out like this, so that new figures are enough."""
    return version.rpartition(".")[0] == layout


def _age(progress: Progress) -> int:
    """Seconds since the moment that the page counts from: the last answer, or the last sign of a worker."""
    since = progress.job.heard_at if progress.has_worker else progress.worker_seen_at
    return int((db_now() - since).total_seconds()) if since else 0


def banner_of(progress: Progress) -> str:
    """Which one banner stands on the page; the worst wins. "" for none."""
    job = progress.job
    if job.is_finished:
        return "failed" if job.state == JobState.FAILED else ""
    if job.state == JobState.PAUSED:
        return "sampled" if job.pause_reason == PauseReason.SAMPLE else "paused"
    if not progress.has_worker:
        return "no_worker"
    if progress.breaker and progress.unsent:
        return "breaker"
    if progress.is_stalled:
        return "stalled"
    if job.state == JobState.CANCELLING:
        return "cancelling"
    return "sampling" if job.is_sampling else ""


def _announcement(progress: Progress, banner: str, done: int) -> str:
    """What the status line tells; it is read out when it changes, so never more often than at a milestone."""
    job = progress.job
    if job.is_finished:
        return f"{job.get_state_display()}: {job.rows_answered:,} of {job.rows_total:,} rows have an answer."
    if job.state == JobState.PAUSED:
        return job.state_text or "Paused."
    if banner == "no_worker":
        return "No worker answers; the job waits."
    if banner == "breaker":
        return "Icypeas gives no clear answers; nothing more is sent for now."
    if banner == "stalled":
        return "Stalled: nothing heard from Icypeas."
    if job.state != JobState.RUNNING:
        return f"{job.get_state_display()}."
    reached = next((mark for mark in MILESTONES if done * 100 >= mark * job.rows_total), 0)
    return f"Running, {reached} % of the rows are done." if reached else "Running."


@dataclass(frozen=True)
class Words:
    """Sentences of the page that depend on the figures."""

    state_lead: str
    state_rest: str
    risk_label: str
    uncertain_title: str
    pause_title: str
    cancel_title: str
    took: timedelta | None
    left_s: int | None
    ends_at: datetime | None


def words_of(progress: Progress) -> Words:
    job = progress.job
    left_s = _left_s(progress)
    lead, stop, rest = job.state_text.partition(". ")
    uncertain = (
        f"Can still cost, with {job.rows_uncertain:,} uncertain" if job.rows_uncertain else "Can still cost"
    )
    return Words(
        state_lead=lead + stop.strip(),
        state_rest=rest,
        risk_label=uncertain,
        uncertain_title=uncertain_title(progress) if job.rows_uncertain else "",
        pause_title=f"Pause job #{job.id}?",
        cancel_title=f"Cancel job #{job.id}?",
        took=job.finished_at - job.started_at if job.finished_at and job.started_at else None,
        left_s=left_s,
        ends_at=db_now() + timedelta(seconds=left_s) if left_s else None,
    )


def uncertain_title(progress: Progress) -> str:
    """How many rows are uncertain, and what they may have cost."""
    count, at_risk = progress.job.rows_uncertain, progress.uncertain_at_risk
    rows = "1 row is" if count == 1 else f"{count:,} rows are"
    if not at_risk:
        return f"{rows} uncertain and cost this job nothing."
    credits = f"{at_risk.normalize():,f}"
    return f"{rows} uncertain and may have cost up to {credits} credit{'' if at_risk == 1 else 's'}."


@dataclass(frozen=True)
class Resume:
    """What *Resume* does to a paused job. `reserves` credits are set aside first; `expected` is what the waiting rows
    probably cost, `at_most` the most. `kept_until` says how long the reservation stays while it is paused."""

    label: str
    reserves: Decimal
    expected: Decimal
    at_most: Decimal
    kept_until: datetime | None


def resume_of(job: EnrichmentJob) -> Resume | None:
    """None unless the job is paused."""
    if job.state != JobState.PAUSED:
        return None
    at_most, reserves = reservations.unsent(job), reservations.lacking(job)
    kept = timedelta(days=settings.RESERVATION_KEPT_DAYS)
    is_sample = job.pause_reason == PauseReason.SAMPLE
    label = f"Go on, at most {ledger.words(at_most)} credit{'' if at_most == 1 else 's'}"
    return Resume(
        label=label if is_sample else "Resume",
        reserves=reserves,
        expected=at_most if job.charged_when_empty else at_most * selectors.expected_rate(job),
        at_most=at_most,
        kept_until=job.paused_at + kept if job.paused_at and job.holds_reservation else None,
    )


def _left_s(progress: Progress) -> int | None:
    """Seconds left, no more exact than a forecast is; None while nothing moves."""
    left = progress.seconds_left
    if left is None or progress.is_stalled or not progress.has_worker:
        return None
    return left if left < 120 else round(left / 60) * 60

"""Sending rows of a finished job again that surely were not paid: by reason, as a new attempt of the same job.

A paid row, an answered row and an uncertain row are never among them. Cells that cannot be asked are corrected first, in
the draft already or in the finished job; the original cells stay as they came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.db.models import F, QuerySet

from enrichment import operations, selectors
from enrichment.choices import JobState, RowState
from enrichment.models import EnrichmentJob, EnrichmentRow
from enrichment.operations.base import Skipped, digest
from enrichment.services import reservations, uploads
from enrichment.services.answers import ASKED_ELSEWHERE, BAD_INPUT
from enrichment.services.refusals import OrderError, outcome_of
from enrichment.services.send_path import POISON, REFUSED
from enrichment.services.transitions import lock_job, move_rows, tell
from keys import gate, ledger
from keys.choices import Outcome
from keys.clock import db_now
from people import audit
from people.rights import Right
from people.selectors import who_can

CORRECTED = "corrected"
CORRECTED_IN = (JobState.DRAFT, JobState.COMPLETED)
UNPAID = (BAD_INPUT, REFUSED, POISON, ASKED_ELSEWHERE)  # reasons of failed rows that surely cost nothing


def is_over(job: EnrichmentJob) -> bool:
    """Whether the job was cancelled or failed: no row of it is corrected or sent any more."""
    return job.is_finished and job.state != JobState.COMPLETED


def why_closed(job: EnrichmentJob) -> str:
    """Why no row of this job can be corrected now, and what to do instead; "" when rows can."""
    if job.state in CORRECTED_IN:
        return ""
    if is_over(job):
        end = "was cancelled" if job.state == JobState.CANCELLED else "failed"
        return f"Job #{job.id} {end}: nothing is sent in it any more. Download its rows and run them as a new list."
    return "Rows can be corrected before the start, and when the job is finished."


class AttemptError(OrderError):
    """Nothing was changed; the message says why and what to do. `field` names the input that is wrong, or ""."""

    def __init__(self, message: str, *, field: str = "", outcome: Outcome | None = None) -> None:
        super().__init__(message, outcome=outcome)
        self.field = field


def sendable(job: EnrichmentJob) -> QuerySet[EnrichmentRow]:
    """Rows of a job that may be sent in a new attempt: failed unpaid ones, and skipped ones that could be asked (a
    warning that a person chose to skip, or corrected cells)."""
    rows = EnrichmentRow.objects.filter(job=job).exclude(digest="")
    if operations.get(job.operation).is_search:
        return rows.none()  # a listing goes on from page to page only
    return rows.filter(state=RowState.FAILED, reason_code__in=(*UNPAID, CORRECTED)) | rows.filter(
        state=RowState.SKIPPED, reason_code__in=(*job.skip_codes, CORRECTED)
    )


def correctable(job: EnrichmentJob) -> QuerySet[EnrichmentRow]:
    """Rows whose cells a person may correct: those that could not be asked, and those that may be sent again."""
    rows = EnrichmentRow.objects.filter(job=job)
    if operations.get(job.operation).is_search:
        return rows.none()
    return rows.filter(state=RowState.SKIPPED) | rows.filter(
        state=RowState.FAILED, reason_code__in=(*UNPAID, CORRECTED)
    )


def can_correct(job: EnrichmentJob, row: EnrichmentRow) -> bool:
    """Whether a person may correct this row now."""
    if job.state not in CORRECTED_IN or operations.get(job.operation).is_search:
        return False
    failed = row.state == RowState.FAILED and row.reason_code in (*UNPAID, CORRECTED)
    return failed or row.state == RowState.SKIPPED


def correct_row(actor: audit.Actor, job_id: int, position: int, told: Mapping[str, str]) -> EnrichmentRow:
    """Put `told` (input field → text) in the place of a row's cells. The row is not sent yet: a draft asks it when it is
    started; in a finished job its reason says so, and a new attempt takes it. Raises `AttemptError`, also for an input
    that still cannot be asked."""
    _may_spend(actor)
    with transaction.atomic():
        job = lock_job(job_id)
        if closed := why_closed(job):
            raise AttemptError(closed)
        if job.state == JobState.DRAFT and not job.is_checked:
            raise AttemptError("The rows of this list are being checked. Wait for the check.")
        row = correctable(job).filter(position=position).first()
        if row is None:
            raise AttemptError(
                f"Row {position:,} has an answer, or may have been paid, so it is not asked again."
            )
        operation = operations.get(job.operation)
        given = {field.name: " ".join(told.get(field.name, "").split())[:500] for field in operation.fields}
        outcome = operation.check(given)
        if isinstance(outcome, Skipped):
            raise AttemptError(outcome.text)
        if job.state == JobState.DRAFT:
            uploads.correct_row(job, row, given, outcome)
            audit.record(actor, "job.row_corrected", job, detail={"row": position})
            row.refresh_from_db()
            return row
        EnrichmentRow.objects.filter(id=row.id).update(
            told=given,
            inputs=dict(outcome.inputs),
            digest=digest(outcome.inputs),
            question=None,
            is_lead=False,
            warning=outcome.warnings[0].code if outcome.warnings else "",
            reason_code=CORRECTED,
            reason=f"Corrected by {actor.text}; not sent yet.",
        )
        audit.record(actor, "job.row_corrected", job, detail={"row": position})
        row.refresh_from_db()
    return row


def retry(actor: audit.Actor, job_id: int, codes: Sequence[str]) -> EnrichmentJob:
    """Send the rows of the chosen reasons again as the next attempt of the job: what they can cost is reserved, known
    answers are taken first. Raises `AttemptError`; then nothing was changed."""
    _may_spend(actor)
    with transaction.atomic():
        job = lock_job(job_id)
        if job.state != JobState.COMPLETED:
            raise AttemptError(
                why_closed(job) if is_over(job) else "Rows can be sent again when the job is finished."
            )
        assert job.key is not None
        scope = operations.get(job.operation).scope(job.mode)
        refused = gate.refusal(job.key, environment=job.environment, scope=scope)
        if refused:
            raise AttemptError(refused[1], outcome=refused[0])
        count = move_rows(
            job.id,
            sendable(job).filter(reason_code__in=list(codes)),
            RowState.WAITING,
            reason_code="",
            reason="",
            answer=None,
            is_lead=False,
            in_sample=False,
        )
        if not count:
            raise AttemptError("No row has one of the chosen reasons any more. Reload the page.")
        job.prepared_at = None
        job.fresh_after = next_fresh_after(job)
        try:
            credits = reservations.cover(job, note="next attempt")
        except ledger.ReservationError as error:
            raise AttemptError(f"{error.message} Nothing was sent.", outcome=outcome_of(error)) from error
        EnrichmentJob.objects.filter(id=job.id).update(
            state=JobState.QUEUED,
            attempt=F("attempt") + 1,
            prepared_at=None,
            fresh_after=job.fresh_after,
            finished_at=None,
            dispatched_at=None,
            next_due_at=db_now(),
        )
        number = job.attempt + 1
        tell(
            job.id,
            f"Attempt {number}: {count:,} rows are sent again, at most {ledger.words(credits)} credits",
            icon="rotate-ccw",
            person=actor.text,
        )
        audit.record(
            actor,
            "job.retried",
            job,
            detail={"attempt": number, "rows": count, "reasons": sorted(codes), "at most": str(credits)},
        )
        job.refresh_from_db()
    return job


def next_fresh_after(job: EnrichmentJob) -> datetime | None:
    """Since when an answer is fresh for the next attempt. With 0 days those of the job's own start are as fresh as asked."""
    return db_now() - timedelta(days=job.freshness_days) if job.freshness_days else job.fresh_after


def costs(job: EnrichmentJob) -> dict[str, Decimal]:
    """The most that the next attempt can cost, by reason code."""
    return selectors.costs_of_asking(job, sendable(job), fresh_after=next_fresh_after(job))


def _may_spend(actor: audit.Actor) -> None:
    if actor.user is None or not actor.user.may(Right.SPEND):
        raise AttemptError(f"Your role does not let you {Right.SPEND.label}. {who_can(Right.SPEND)} can.")

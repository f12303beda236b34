"""What people do to jobs: draft, start, pause, resume, cancel. The only module that enqueues."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, BinaryIO

from celery import Task
from django.conf import settings
from django.db import IntegrityError, transaction

from enrichment import operations, prices, selectors, tasks
from enrichment.choices import ACTIVE, JobState, Mode, PauseReason, RowState, Source
from enrichment.models import Batch, EnrichmentJob, EnrichmentRow
from enrichment.operations.base import Operation, Skipped, digest
from enrichment.services import attempts, decisions, refusals, reservations, uploads
from enrichment.services.refusals import OrderError
from enrichment.services.transitions import lock_job, move_rows, tell
from keys import gate, ledger
from keys import services as key_services
from keys.choices import Outcome
from keys.clock import db_now
from keys.models import Account, KeyRecord
from people import audit
from people.models import User

log = logging.getLogger(__name__)


class SubmissionError(OrderError):
    """The job cannot be started or changed as asked: what, why, what to do. `field` names the form's field."""

    def __init__(self, message: str, *, field: str = "", outcome: Outcome | None = None) -> None:
        super().__init__(message, outcome=outcome)
        self.field = field


class SameFileError(SubmissionError):
    """The same list ran with the same columns and key a short while ago; `job` is that run."""

    def __init__(self, job: EnrichmentJob) -> None:
        super().__init__(
            f"Job #{job.id} ran this same file with the same columns and key within {settings.SAME_FILE_HOURS} hours.",
            field="again",
        )
        self.job = job


@dataclass(frozen=True)
class StartOrder:
    """What a person decides at the start. `token` is the draft's; `max_credits` refuses a dearer job."""

    key: KeyRecord
    purpose: str
    freshness_days: int
    token: str
    max_credits: Decimal | None = None
    is_again: bool = False
    pay_again_limit: Decimal = Decimal(0)  # for calls that cannot be looked up
    is_sample: bool = False  # a few random rows first; then a person goes on or cancels


def wake(task: Task, argument: int, *, queue: str) -> None:
    """Ring the doorbell when the transaction is over. A broker that is down is no failure: the sweep makes up for it."""

    def send() -> None:
        try:
            task.apply_async((argument,), queue=queue, retry=False)
        except Exception as error:  # any broker, any failure: the row is the job
            log.warning("no wake-up for %s %s: %s", task.name, argument, type(error).__name__)

    transaction.on_commit(send)


def wake_job(job: EnrichmentJob) -> None:
    wake(tasks.run_job, job.id, queue=tasks.URGENT if job.mode == Mode.SINGLE else tasks.WORK)


def draft_from_upload(
    actor: audit.Actor, *, operation: str, stream: BinaryIO, file_name: str, **how: Any
) -> EnrichmentJob:
    """Keep a list and check it: at once when small, in a worker when large. Raises `UploadError`."""
    job = uploads.create_draft(actor, operation=operation, stream=stream, file_name=file_name, **how)
    check(job)
    return job


def check(job: EnrichmentJob) -> None:
    """Check the rows of a draft, here or in a worker."""
    if uploads.is_small(job):
        uploads.check_rows(job.id)
    else:
        EnrichmentJob.objects.filter(id=job.id).update(next_due_at=db_now())
        wake(tasks.run_check, job.id, queue=tasks.WORK)


def change_columns(job: EnrichmentJob, mapping: Mapping[str, int], skip_codes: list[str]) -> None:
    """Other columns for a draft, or other warnings to skip."""
    uploads.change_mapping(job, mapping, skip_codes)
    check(job)


def keep_purpose(job: EnrichmentJob, purpose: str) -> None:
    """What a person has written so far: the draft may be left and come back to."""
    EnrichmentJob.objects.filter(id=job.id, state=JobState.DRAFT).update(
        purpose=" ".join(purpose.replace("\0", " ").split())[:300]  # PostgreSQL stores no NUL
    )


def reread(
    job: EnrichmentJob, *, encoding: str | None, delimiter: str | None, has_header: bool | None
) -> None:
    """Read the draft's file in another way. Raises `UploadError`."""
    uploads.reread(job, encoding=encoding, delimiter=delimiter, has_header=has_header)
    check(job)


def ask_for_balance(account: Account) -> None:
    """A fresh balance, by a worker."""
    if key_services.ask_for_balance(account):
        wake(tasks.read_balance, account.id, queue=tasks.URGENT)


def _check_order(job: EnrichmentJob, order: StartOrder) -> None:
    if not job.is_checked or job.check_error:
        raise SubmissionError(
            "The rows of this list are not checked yet. Wait for the check, or correct the file."
        )
    operation = operations.get(job.operation)
    if operation.is_search and not job.query:
        raise SubmissionError(
            "This search has no filters: its page was left while it was made. Search again."
        )
    refused = gate.refusal(order.key, environment=order.key.environment, scope=operation.scope(job.mode))
    if refused:
        raise SubmissionError(refused[1], field="key", outcome=refused[0])
    if order.key.environment not in settings.ENVIRONMENTS:
        raise SubmissionError(
            f"This installation does not serve {order.key.environment} keys.",
            field="key",
            outcome=Outcome.POLICY_ENVIRONMENT,
        )
    if len(order.purpose) > 300:
        raise SubmissionError(
            f"The purpose may have 300 characters; this has {len(order.purpose)}.", field="purpose"
        )
    if not 0 <= order.freshness_days <= 3650:
        raise SubmissionError("Known answers may be 0 to 3,650 days old.", field="freshness_days")
    if not job.rows_waiting:
        raise SubmissionError(
            "No row of this list can be asked: every row is skipped, for the reasons above."
        )


def start_job(actor: audit.Actor, job_id: int, order: StartOrder) -> EnrichmentJob:
    """Reserve the most that the job can cost and queue it. Pressing twice, or in two tabs, starts it once.

    Raises `SubmissionError` and `SameFileError`; then nothing is reserved and the draft stays. What the policy refused is
    written down as a call of the key.
    """
    with refusals.noted(job_id, order.key):
        return _start(actor, job_id, order)


def _start(actor: audit.Actor, job_id: int, order: StartOrder) -> EnrichmentJob:
    with transaction.atomic():
        job = lock_job(job_id)
        if job.start_token != order.token:
            raise SubmissionError("This page is out of date. Reload it and look at the figures again.")
        if job.state != JobState.DRAFT:
            return job  # the first press won
        _check_order(job, order)
        same = None if order.is_again else selectors.same_run(job, order.key)
        if same:
            raise SameFileError(same)
        now = db_now()
        realm = key_services.realm_of(order.key.environment)
        fresh_after = now - timedelta(days=order.freshness_days)
        operation = operations.get(job.operation)
        price = prices.price_of(operation, realm)
        if price.credits is None:
            raise SubmissionError(prices.unknown_text(operation))
        estimate = selectors.estimate(job, realm=realm, fresh_after=fresh_after)
        if not order.purpose.strip() and (
            job.mode == Mode.BULK or estimate.at_most > settings.PURPOSE_FREE_CREDITS
        ):
            raise SubmissionError("Say what this is for: managers see it in the history.", field="purpose")
        if order.max_credits is not None and estimate.at_most > order.max_credits:
            raise SubmissionError(
                f"This can cost {ledger.words(estimate.at_most)} credits, and the limit given is {ledger.words(order.max_credits)}.",
                field="max_credits",
            )
        sample_rows = settings.SAMPLE_ROWS if order.is_sample and estimate.ask > settings.SAMPLE_ROWS else 0
        reserved = sample_rows * estimate.price if sample_rows else estimate.at_most
        try:
            ledger.reserve(key=order.key, operation=job.operation, job=job.id, credits=reserved)
        except ledger.ReservationError as error:
            fits = int(error.fits / estimate.price)
            raise SubmissionError(
                f"{error.message} That is enough for {fits:,} rows.",
                field="key",
                outcome=refusals.outcome_of(error),
            ) from error
        EnrichmentJob.objects.filter(id=job.id).update(
            state=JobState.QUEUED,
            key=order.key,
            environment=order.key.environment,
            realm=realm,
            team=job.team,
            purpose=" ".join(order.purpose.split()),
            freshness_days=order.freshness_days,
            fresh_after=fresh_after,
            price=price.credits,
            charged_when_empty=price.charged_when_empty,
            price_version=price.version,
            estimate_min=estimate.at_least,
            estimate_expected=estimate.expected,
            estimate_max=estimate.at_most,
            sample_rows=sample_rows,
            pay_again_limit=order.pay_again_limit if operation.direct_rows else Decimal(0),
            started_at=now,
            next_due_at=now,
            dispatched_at=None,
        )
        tell(
            job.id,
            f"Started{f' with a sample of {sample_rows} random rows' if sample_rows else ''}, "
            f"{ledger.words(reserved)} {'credit' if reserved == 1 else 'credits'} reserved",
            icon="play",
            person=actor.text,
        )
        audit.record(
            actor,
            "job.started",
            job,
            reason=order.purpose,
            detail={"key": order.key.name, "rows": job.rows_total, "at most": str(reserved)},
        )
        job.refresh_from_db()
        wake_job(job)
    return job


def look_up(
    actor: audit.Actor,
    *,
    operation: str,
    told: Mapping[str, str],
    key: KeyRecord,
    purpose: str,
    freshness_days: int,
    token: str,
) -> EnrichmentJob:
    """One form: a job of one row, sent as a single search. Raises `SubmissionError` (also for an input that cannot be asked)."""
    assert actor.user is not None
    chosen = operations.get(operation)
    outcome = chosen.check(told)
    if isinstance(outcome, Skipped):
        raise SubmissionError(outcome.text)
    token = token_of(token, operation, outcome.inputs)
    earlier = EnrichmentJob.objects.filter(start_token=token).first()
    if earlier is not None:
        return earlier  # the first press won
    order = StartOrder(key=key, purpose=purpose, freshness_days=freshness_days, token=token, is_again=True)
    try:
        return _look_up(actor, actor.user, chosen, told, outcome.inputs, order)
    except SubmissionError as error:
        if error.outcome is not None:
            # The job went with its transaction, and its name would tell who was looked for.
            nameless = refusals.nameless(chosen, Mode.SINGLE, actor.user)
            refusals.note(nameless, key, error.outcome, error.message)
        raise


def _look_up(
    actor: audit.Actor,
    person: User,
    operation: Operation,
    told: Mapping[str, str],
    inputs: Mapping[str, str],
    order: StartOrder,
) -> EnrichmentJob:
    with transaction.atomic():
        try:
            with transaction.atomic():
                job = EnrichmentJob.objects.create(
                    name=operation.describe(inputs)[:200],
                    operation=operation.name,
                    mode=Mode.SINGLE,
                    source=Source.LOOKUP,
                    created_by=person,
                    team=person.team,
                    start_token=order.token,
                    is_checked=True,
                    rows_total=1,
                    rows_waiting=1,
                )
        except IntegrityError:  # pressed twice within the same moment
            return EnrichmentJob.objects.get(start_token=order.token)
        EnrichmentRow.objects.create(
            job=job, position=1, cells=list(told.values()), inputs=dict(inputs), digest=digest(inputs)
        )
        return _start(actor, job.id, order)


def new_token() -> str:
    """Goes into a form once; the same token starts the same job."""
    return secrets.token_hex(16)


def token_of(form_token: str, operation: str, asked: Mapping[str, Any]) -> str:
    """A form's token with what the form asks: pressed twice it is one job, sent again with other inputs it is another."""
    return hashlib.sha256(
        json.dumps([form_token, operation, dict(asked)], sort_keys=True).encode()
    ).hexdigest()


def pause_job(actor: audit.Actor, job_id: int, *, reason: str = "") -> EnrichmentJob:
    """Send nothing new. Rows at Icypeas still come back; the reservation of waiting rows stays."""
    with transaction.atomic():
        job = lock_job(job_id)
        if job.state not in (JobState.QUEUED, JobState.RUNNING):
            return job
        EnrichmentJob.objects.filter(id=job.id).update(
            state=JobState.PAUSED,
            pause_reason=PauseReason.PERSON,
            state_text=f"Paused by {actor.text}.",
            paused_at=db_now(),
            next_due_at=db_now(),
        )
        tell(job.id, "Paused", icon="circle-pause", person=actor.text)
        audit.record(actor, "job.paused", job, reason=reason)
        job.refresh_from_db()
        wake_job(job)
    return job


def resume_job(actor: audit.Actor, job_id: int) -> EnrichmentJob:
    """Go on with the waiting rows: after a sample, or a pause so long that their reservation was given back, what they
    can cost is reserved first. Raises `SubmissionError`; then the job stays paused."""
    with refusals.noted(job_id), transaction.atomic():
        job = lock_job(job_id)
        if job.state != JobState.PAUSED:
            return job
        try:
            reserved = reservations.cover(job, note="resumed")
        except ledger.ReservationError as error:
            raise SubmissionError(
                f"{error.message} The job stays paused; nothing was sent.", outcome=refusals.outcome_of(error)
            ) from error
        state = JobState.RUNNING if job.prepared_at else JobState.QUEUED
        EnrichmentJob.objects.filter(id=job.id).update(
            state=state, pause_reason=PauseReason.NONE, state_text="", paused_at=None, next_due_at=db_now()
        )
        text = f"Resumed, {ledger.words(reserved)} credits reserved" if reserved else "Resumed"
        tell(job.id, text, icon="play", person=actor.text)
        audit.record(actor, "job.resumed", job, detail={"reserved": str(reserved)} if reserved else {})
        job.refresh_from_db()
        wake_job(job)
    return job


DECISIONS = {
    decisions.Act.LOOK_AGAIN: decisions.look_again,
    decisions.Act.ACCEPT: decisions.accept_as_paid,
    decisions.Act.SEND_AGAIN: decisions.send_again,
}


def decide(
    actor: audit.Actor,
    job_id: int,
    act: decisions.Act,
    chosen: Sequence[decisions.Chosen],
    *,
    reason: str,
) -> list[Batch]:
    """What a person decides about uncertain batches, and a wake-up for what there is to do now. Raises `DecisionError`."""
    is_read = act == decisions.Act.LOOK_AGAIN
    with refusals.noted(job_id, is_read=is_read), transaction.atomic():
        batches = DECISIONS[act](actor, job_id, chosen, reason=reason)
        job = EnrichmentJob.objects.get(id=job_id)
        if job.is_active:
            wake_job(job)
    return batches


def retry_rows(actor: audit.Actor, job_id: int, codes: Sequence[str]) -> EnrichmentJob:
    """Send the rows of the chosen reasons in a new attempt of a finished job. Raises `AttemptError`."""
    with refusals.noted(job_id), transaction.atomic():
        job = attempts.retry(actor, job_id, codes)
        wake_job(job)
    return job


def discard_draft(actor: audit.Actor, job_id: int, *, reason: str = "") -> EnrichmentJob:
    """Throw a draft away. A job that was started meanwhile stays as it is."""
    with transaction.atomic():
        job = lock_job(job_id)
        if job.state == JobState.DRAFT:
            EnrichmentJob.objects.filter(id=job.id).update(
                state=JobState.CANCELLED, finished_at=db_now(), next_due_at=None
            )
            audit.record(actor, "job.discarded", job, reason=reason)
            job.refresh_from_db()
    return job


def cancel_job(actor: audit.Actor, job_id: int, *, reason: str = "") -> EnrichmentJob:
    """Never send the waiting rows, and give their reservation back at once. Rows at Icypeas still come back and may cost."""
    with transaction.atomic():
        job = lock_job(job_id)
        if job.state == JobState.DRAFT:
            return discard_draft(actor, job_id, reason=reason)
        if job.state not in ACTIVE or job.state == JobState.CANCELLING:
            return job
        waiting = EnrichmentRow.objects.filter(job=job, state=RowState.WAITING)
        # Batches that are formed and not sent are taken apart by the worker; the intent refuses them from now on.
        count = move_rows(
            job.id,
            waiting,
            RowState.SKIPPED,
            reason_code="cancelled",
            reason=f"Cancelled by {actor.text} before it was sent.",
        )
        job.state = JobState.CANCELLING
        reservations.trim(job, note="cancelled")
        EnrichmentJob.objects.filter(id=job.id).update(
            state=JobState.CANCELLING, pause_reason=PauseReason.NONE, state_text="", next_due_at=db_now()
        )
        tell(job.id, f"Cancelled: {count:,} rows are never sent", icon="circle-slash", person=actor.text)
        audit.record(actor, "job.cancelled", job, reason=reason, detail={"rows not sent": count})
        job.refresh_from_db()
        wake_job(job)
    return job

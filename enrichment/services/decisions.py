"""What a person decides about uncertain batches: look again, accept as paid, send again. Decision 0010 says why so.

Each is one transaction under the job's lock: all chosen batches or none. A batch is chosen by its id and fence, which
rises with each decision, so a form that was sent twice, or overtaken by somebody else, changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from django.db import models, transaction
from django.db.models import Exists, F, OuterRef, QuerySet

from enrichment import operations
from enrichment.choices import OPEN_ROWS, WORKED_ON, BatchState, JobState, Mode, RowState
from enrichment.models import Batch, BatchItem, EnrichmentJob, EnrichmentRow, Question
from enrichment.services.answers import ASKED_ELSEWHERE, hold
from enrichment.services.refusals import OrderError, outcome_of
from enrichment.services.transitions import lock_job, move_rows, reopen, tell
from keys import gate, ledger
from keys.clock import db_now
from people import audit
from people.rights import Right
from people.selectors import who_can

ACCEPTED_PAID = EnrichmentRow.ACCEPTED_PAID
ACCEPTED_PAID_TEXT = "Nobody could find out what became of this row; it is booked as paid."
NOT_ANSWERED_ELSEWHERE_TEXT = "The other job that asked this got no answer. This job paid nothing for it."
SENT_AGAIN = "sent again"


class Act(models.TextChoices):
    LOOK_AGAIN = "look_again", "Look again"
    ACCEPT = "accept", "Accept as paid"
    SEND_AGAIN = "send_again", "Send again"


class DecisionError(OrderError):
    """The batches cannot be decided as asked; nothing was changed. The message says why and what to do."""


@dataclass(frozen=True)
class Chosen:
    """A batch as the person saw it: an older fence is an older page."""

    batch_id: int
    fence: int

    def __str__(self) -> str:
        return f"{self.batch_id}-{self.fence}"

    @classmethod
    def read(cls, text: str) -> Chosen | None:
        batch_id, _, fence = text.partition("-")
        if not (batch_id.isdecimal() and fence.isdecimal() and len(text) <= 30):
            return None
        return cls(int(batch_id), int(fence))


@dataclass(frozen=True)
class AtRisk:
    """What a batch left open: rows of its job, and credits that stay reserved for them."""

    rows: int
    credits: Decimal


def look_again(actor: audit.Actor, job_id: int, chosen: Sequence[Chosen], *, reason: str) -> list[Batch]:
    """Look the batches up anew, as after a broken connection: free, and whatever is found is collected. The job is
    worked on again until the rows have an answer or are uncertain again. Raises `DecisionError`."""
    _may_decide(actor, reason)
    with transaction.atomic():
        job = lock_job(job_id)
        assert job.key is not None
        refused = gate.refusal(job.key, environment=job.environment, scope=gate.ACCOUNT_READ)
        if refused:
            raise DecisionError(refused[1], outcome=refused[0])
        batches = _uncertain(job, chosen)
        if any(batch.mode == Mode.DIRECT for batch in batches):
            raise DecisionError(
                "Such a call cannot be looked up: Icypeas lists it nowhere. Accept it as paid, or send it again."
            )
        for batch in batches:
            _set_looking(batch)
            move_rows(job.id, rows_of(batch), RowState.IN_FLIGHT, answer=None, reason_code="", reason="")
        reopen(job)
        _note(
            actor, job, batches, "is looked up again", icon="search", action="job.looked_again", reason=reason
        )
    return batches


def accept_as_paid(actor: audit.Actor, job_id: int, chosen: Sequence[Chosen], *, reason: str) -> list[Batch]:
    """Book what the batches hold as charged: their rows end as failed, with a reason that says so, and their
    questions may be asked anew by a new list. Raises `DecisionError`."""
    _may_decide(actor, reason)
    with transaction.atomic():
        job = lock_job(job_id)
        batches = _uncertain(job, chosen)
        _accept(actor, job, batches, reason=reason)
    return batches


def send_again(actor: audit.Actor, job_id: int, chosen: Sequence[Chosen], *, reason: str) -> list[Batch]:
    """Let the rows of the batches be sent once more, which may pay twice: what was reserved counts as charged, the same
    is reserved anew, and the rows wait. The only way in which a row that may have been paid is sent again.
    Raises `DecisionError`."""
    _may_decide(actor, reason)
    with transaction.atomic():
        job = lock_job(job_id)
        assert job.key is not None
        if job.state in (JobState.CANCELLED, JobState.CANCELLING):
            raise DecisionError(
                "This job is cancelled, so it sends nothing more. Accept the rows as paid and run them as a new list."
            )
        scope = operations.get(job.operation).scope(job.mode)
        refused = gate.refusal(job.key, environment=job.environment, scope=scope)
        if refused:
            raise DecisionError(refused[1], outcome=refused[0])
        batches = _uncertain(job, chosen)
        for batch in batches:
            at_risk = _charge(job, batch)
            try:
                ledger.reserve(
                    key=job.key, operation=job.operation, job=job.id, credits=at_risk.credits, note=SENT_AGAIN
                )
            except ledger.ReservationError as error:
                raise DecisionError(
                    f"{error.message} Nothing was changed.", outcome=outcome_of(error)
                ) from error
            move_rows(job.id, rows_of(batch), RowState.WAITING, answer=None, reason_code="", reason="")
            _end(batch, f"Sent again by {actor.text}")
        reopen(job)
        if job.state != JobState.PAUSED:  # of a paused one other rows may wait without a reservation
            EnrichmentJob.objects.filter(id=job.id).update(holds_reservation=True)
        _note(
            actor,
            job,
            batches,
            "is sent again and may be paid twice",
            icon="send",
            action="job.sent_again",
            reason=reason,
        )
    return batches


def pay_again(batch: Batch) -> bool:
    """Send the rows of a lost call again within the limit that a person set before the start; False beyond it, or when
    the job does not run or the credits cannot be reserved. Raises `LostLeaseError`."""
    with transaction.atomic():
        job = lock_job(batch.job_id)
        hold(batch)
        rows = EnrichmentRow.objects.filter(job=job, question__busy_batch=batch, state__in=OPEN_ROWS)
        credits = rows.filter(is_lead=True).count() * batch.price
        if job.state != JobState.RUNNING or job.paid_again + credits > job.pay_again_limit:
            return False
        assert job.key is not None
        try:
            ledger.reserve(key=job.key, operation=job.operation, job=job.id, credits=credits, note=SENT_AGAIN)
        except ledger.ReservationError:
            return False
        ledger.charge(
            key=job.key,
            operation=job.operation,
            job=job.id,
            credits=credits,
            batch=batch.id,
            note=ACCEPTED_PAID,
        )
        EnrichmentJob.objects.filter(id=job.id).update(paid_again=F("paid_again") + credits)
        move_rows(job.id, rows, RowState.WAITING)
        _end(batch, "Sent again within the limit set before the start")
        tell(
            job.id,
            f"Batch {batch.number} is sent again and may be paid twice, {ledger.words(credits)} credits: "
            f"up to {ledger.words(job.pay_again_limit)} were accepted before the start",
            icon="send",
            tone="warn",
        )
    return True


def accept_overdue() -> int:
    """Accept what nobody decided within `UNCERTAIN_ACCEPT_DAYS`; how many batches. The sweep calls this."""
    before = db_now() - timedelta(days=settings.UNCERTAIN_ACCEPT_DAYS)
    overdue = uncertain_batches().filter(done_at__lt=before).order_by("job_id", "number")
    count = 0
    for batch_id, job_id in list(overdue.values_list("id", "job_id")[:200]):
        with transaction.atomic():
            job = lock_job(job_id)
            batch = overdue.filter(id=batch_id).first()  # a person may have decided meanwhile
            if batch is not None:
                days = settings.UNCERTAIN_ACCEPT_DAYS
                _accept(audit.SYSTEM, job, [batch], reason=f"Nobody decided within {days} days")
                count += 1
    return count


def end_rows_asked_elsewhere() -> int:
    """End rows that wait for another job's question which came to nothing: nobody carries it and nobody will. How many."""
    jobs = list(EnrichmentJob.objects.filter(rows_uncertain__gt=0).values_list("id", flat=True))
    will_be_asked = EnrichmentRow.objects.filter(
        question_id=OuterRef("question_id"), state__in=OPEN_ROWS, job__state__in=WORKED_ON
    )
    orphans = EnrichmentRow.objects.filter(
        ~Exists(will_be_asked),
        state=RowState.UNCERTAIN,
        reason_code=ASKED_ELSEWHERE,
        question__busy_batch__isnull=True,
    )
    count = 0
    for job_id in list(
        orphans.filter(job_id__in=jobs).order_by().values_list("job_id", flat=True).distinct()
    ):
        with transaction.atomic():
            lock_job(job_id)
            count += move_rows(
                job_id,
                orphans.filter(job_id=job_id),
                RowState.FAILED,
                reason_code=ASKED_ELSEWHERE,
                reason=NOT_ANSWERED_ELSEWHERE_TEXT,
            )
    return count


def uncertain_batches() -> QuerySet[Batch]:
    """Batches that wait for a person, since their `done_at`."""
    return Batch.objects.filter(state=BatchState.UNCERTAIN)


def rows_of(batch: Batch) -> QuerySet[EnrichmentRow]:
    """The uncertain rows of the batch's job."""
    return EnrichmentRow.objects.filter(
        job_id=batch.job_id, question__busy_batch=batch, state=RowState.UNCERTAIN
    )


def at_risk_of(batch: Batch) -> AtRisk:
    leads = rows_of(batch).filter(is_lead=True).count()
    return AtRisk(rows_of(batch).count(), leads * batch.price)


def _may_decide(actor: audit.Actor, reason: str) -> None:
    """Only a person who may spend decides: the app itself has no right."""
    if actor.user is None or not actor.user.may(Right.SPEND):
        raise DecisionError(f"Your role does not let you decide this. {who_can(Right.SPEND)} can.")
    if not reason.strip():
        raise DecisionError("Say why: the reason stands in the audit log.")


def _uncertain(job: EnrichmentJob, chosen: Sequence[Chosen]) -> list[Batch]:
    """The chosen batches of a locked job, if each of them is still as the person saw it."""
    if not chosen:
        raise DecisionError("Choose at least one batch.")
    fences = {one.batch_id: one.fence for one in chosen}
    batches = list(uncertain_batches().filter(job=job, id__in=fences).order_by("number"))
    if len(batches) != len(fences) or any(batch.fence != fences[batch.id] for batch in batches):
        raise DecisionError(
            "This was decided meanwhile, by somebody else or by an earlier press. Nothing was changed now."
        )
    return batches


def _set_looking(batch: Batch) -> None:
    """A finished bulk is read again from its first page; anything else is looked for in the listings."""
    now = db_now()
    is_known = batch.mode == Mode.BULK and batch.provider_ref
    BatchItem.objects.filter(batch=batch, question__busy_batch=batch).update(is_settled=False)
    Batch.objects.filter(id=batch.id).update(
        state=BatchState.COLLECTING if is_known else BatchState.DOUBT,
        fence=F("fence") + 1,
        claims=0,
        lease_until=None,
        cursor=None,
        passes=0,
        looks=0,
        looked_at=None,
        next_at=now,
        done_at=None,
    )


def _accept(actor: audit.Actor, job: EnrichmentJob, batches: Sequence[Batch], *, reason: str) -> None:
    for batch in batches:
        _charge(job, batch)
        move_rows(
            job.id,
            rows_of(batch),
            RowState.FAILED,
            answer=None,
            reason_code=ACCEPTED_PAID,
            reason=ACCEPTED_PAID_TEXT,
        )
        _end(batch, f"Accepted as paid by {actor.text}")
    _note(
        actor, job, batches, "is accepted as paid", icon="check", action="job.accepted_as_paid", reason=reason
    )


def _charge(job: EnrichmentJob, batch: Batch) -> AtRisk:
    """Book the reservation of the batch's uncertain rows as paid. They must still be uncertain."""
    assert job.key is not None
    at_risk = at_risk_of(batch)
    ledger.charge(
        key=job.key,
        operation=job.operation,
        job=job.id,
        credits=at_risk.credits,
        batch=batch.id,
        note=ACCEPTED_PAID,
    )
    return at_risk


def _end(batch: Batch, message: str) -> None:
    """No longer waits for anybody; its questions are free."""
    Question.objects.filter(busy_batch=batch).update(busy_batch=None)
    Batch.objects.filter(id=batch.id).update(
        state=BatchState.ACCEPTED,
        fence=F("fence") + 1,
        lease_until=None,
        next_at=None,
        message=message[:300],
        done_at=db_now(),
    )


def _note(
    actor: audit.Actor,
    job: EnrichmentJob,
    batches: Sequence[Batch],
    what: str,
    *,
    icon: str,
    action: str,
    reason: str,
) -> None:
    """The story and the audit log, one line a decision."""
    numbers = [batch.number for batch in batches]
    named = f"Batch {numbers[0]}" if len(numbers) == 1 else f"Each of {len(numbers)} uncertain batches"
    tell(job.id, f"{named} {what}: {reason}", icon=icon, tone="warn", person=actor.text)
    audit.record(actor, action, job, reason=reason, detail={"batches": numbers})

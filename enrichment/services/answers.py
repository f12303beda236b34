"""What Icypeas said, written down once: answers, rows of every job that asked, and the money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.db import transaction
from django.db.models import OuterRef, Q, QuerySet, Subquery

from enrichment import operations
from enrichment.choices import OPEN_ROWS, WORKED_ON, BatchState, JobState, PauseReason, RowState
from enrichment.models import Answer, Batch, BatchItem, EnrichmentJob, EnrichmentRow, Question
from enrichment.providers.base import ItemState, ProviderItem, Verdict
from enrichment.services import reservations
from enrichment.services.transitions import lock_jobs, move_rows, pause, pause_fellows, tell
from keys import ledger
from keys.clock import db_now

BAD_INPUT = "bad_input"
BAD_INPUT_TEXT = "Icypeas did not accept the input; it was not charged."
NO_ANSWER = "no_answer"
NO_ANSWER_TEXT = "Icypeas finished without an answer for this row; it may have been charged."

ASKED_ELSEWHERE = "asked_elsewhere"
ASKED_ELSEWHERE_TEXT = (
    "Another job asked this and its outcome is unknown; it is not asked again until a person decides."
)
# Rows that ask nothing themselves: an answer that comes after all is theirs too, though their job may have ended.
LEFT_TO_ANOTHER_JOB = Q(state=RowState.UNCERTAIN, reason_code=ASKED_ELSEWHERE)

UNKNOWN_STATUS = "unknown_status"
UNKNOWN_STATUS_TEXT = "Icypeas ended this row with a status that we do not know, so it may have been charged."

CANCELLED = "cancelled"
CANCELLED_TEXT = "Cancelled before it was asked; it was not charged."


class LostLeaseError(Exception):
    """Another worker has taken the batch over: what this one holds must not be written."""


@dataclass
class _Sorted:
    """Items of one page by what they mean for us. `others` have ended, too, and are settled already or not ours."""

    final: list[tuple[BatchItem, ProviderItem]] = field(default_factory=list)
    unclear: list[tuple[BatchItem, ProviderItem]] = field(default_factory=list)
    bad_input: list[BatchItem] = field(default_factory=list)
    not_run: list[tuple[BatchItem, ProviderItem]] = field(default_factory=list)
    others: list[ProviderItem] = field(default_factory=list)

    @property
    def question_ids(self) -> list[int]:
        ran = [item.question_id for item, _ in self.final + self.unclear + self.not_run]
        return ran + [item.question_id for item in self.bad_input]


def return_rows(job: EnrichmentJob, rows: QuerySet[EnrichmentRow]) -> int:
    """Rows of a locked job that surely were not run are open again; how many. They wait with their reservation, but a
    job that is being cancelled never sends them: there they are skipped, and `trim` gives their reservation back."""
    if job.state != JobState.CANCELLING:
        return move_rows(job.id, rows, RowState.WAITING)
    return move_rows(job.id, rows, RowState.SKIPPED, reason_code=CANCELLED, reason=CANCELLED_TEXT)


def hold(batch: Batch) -> Batch:
    """The batch, locked, if this worker's fence still holds. Raises `LostLeaseError`."""
    held = Batch.objects.select_for_update(no_key=True).filter(id=batch.id, fence=batch.fence).first()
    if held is None:
        raise LostLeaseError(f"batch {batch.id} has a newer fence than {batch.fence}")
    return held


def record_items(batch: Batch, items: Sequence[ProviderItem]) -> int:
    """Settle what a page brought, in one transaction; how many questions were settled by it.

    Matched by external id alone. A settled item is never changed again; another answer to it is kept beside it. Raises
    `LostLeaseError`.
    """
    with transaction.atomic():
        hold(batch)
        found = _sort(batch, items)
        _keep_contradictions(batch, found)
        ids = found.question_ids
        if not ids:
            return 0
        waiting_elsewhere = EnrichmentRow.objects.filter(
            Q(state__in=OPEN_ROWS, job__state__in=WORKED_ON) | LEFT_TO_ANOTHER_JOB, question_id__in=ids
        ).exclude(job_id=batch.job_id)
        jobs = lock_jobs({batch.job_id, *waiting_elsewhere.values_list("job_id", flat=True).distinct()})
        job = jobs[batch.job_id]
        charged = _write_answers(batch, job, found)
        if job.key is not None:
            ledger.charge(key=job.key, operation=job.operation, job=job.id, batch=batch.id, credits=charged)
        for other in jobs.values():
            _answer_rows(other, batch, [item.question_id for item, _ in found.final])
        _keep_unclear(batch, found.unclear)
        _fail_bad_input(batch, job, [item.question_id for item in found.bad_input])
        _give_back(batch, job, found.not_run)
        reservations.trim(job, batch=batch.id)
        BatchItem.objects.filter(batch=batch, question_id__in=ids).update(is_settled=True)
        EnrichmentJob.objects.filter(id=job.id).update(heard_at=db_now())
    return len(ids)


def _sort(batch: Batch, items: Sequence[ProviderItem]) -> _Sorted:
    ours = {
        item.external_id: item
        for item in BatchItem.objects.filter(
            batch=batch,
            is_settled=False,
            external_id__in=[item.external_id for item in items if item.external_id],
        )
    }
    found = _Sorted()
    for item in items:
        own = ours.pop(item.external_id, None)
        if own is None:
            if item.external_id and item.state is not ItemState.PENDING:
                found.others.append(item)
        elif item.state is ItemState.FINAL:
            (found.final if item.is_known else found.unclear).append((own, item))
        elif item.state is ItemState.BAD_INPUT:
            found.bad_input.append(own)
        elif item.state is not ItemState.PENDING:
            found.not_run.append((own, item))
        else:
            ours[item.external_id] = own
    return found


def _keep_contradictions(batch: Batch, found: _Sorted) -> None:
    """Ended items under the external id of another item, or with another outcome than the one that was written down: the
    first answer stands, the other is kept as it came, and the job's story says so."""
    if not found.others:
        return
    first = {own.external_id: (item.provider_id, item.verdict) for own, item in found.final + found.unclear}
    known = BatchItem.objects.filter(
        batch=batch, other__isnull=True, external_id__in=[item.external_id for item in found.others]
    )
    by_id = {own.external_id: own for own in known}
    settled = {own.question_id: own.external_id for own in known if own.is_settled}
    for answer in Answer.objects.filter(batch=batch, question_id__in=settled).order_by("-id"):
        first[settled[answer.question_id]] = (answer.provider_id, Verdict(answer.verdict))
    for item in found.others:
        stands = first.get(item.external_id)
        if item.external_id not in by_id or stands is None:
            continue
        if stands == (item.provider_id, item.verdict or stands[1]):
            continue
        own = by_id.pop(item.external_id)
        BatchItem.objects.filter(id=own.id).update(other=dict(item.raw))
        tell(
            batch.job_id,
            f"Icypeas answered a row of batch {batch.number} twice and not alike: {stands[0]} stands, "
            f"{item.provider_id} is on its receipt. The second may have been charged, too.",
            icon="triangle-alert",
            tone="warn",
        )


def _write_answers(batch: Batch, job: EnrichmentJob, found: _Sorted) -> Decimal:
    """Store the answers and point the questions at them; credits charged."""
    operation = operations.get(job.operation)
    charged = Decimal(0)
    answers = []
    now = db_now()  # once: it is a question to the database
    for own, item in found.final:
        is_paid = job.charged_when_empty if item.is_charged is None else item.is_charged
        credits = batch.price if is_paid else Decimal(0)
        charged += credits
        answers.append(_answer(batch, own, item, now, credits=credits, good_verdicts=operation.good_verdicts))
    ids = [answer.question_id for answer in Answer.objects.bulk_create(answers)]
    newest = Answer.objects.filter(question=OuterRef("id"), batch=batch).order_by("-id").values("id")[:1]
    Question.objects.filter(id__in=ids).update(latest_answer_id=Subquery(newest), busy_batch=None)
    return charged


def _answer(
    batch: Batch,
    own: BatchItem,
    item: ProviderItem,
    now: datetime,
    *,
    credits: Decimal,
    good_verdicts: Sequence[str],
) -> Answer:
    verdict = item.verdict.value if item.verdict else "unknown"
    return Answer(
        question_id=own.question_id,
        job_id=batch.job_id,
        batch=batch,
        verdict=verdict,
        is_good=verdict in good_verdicts,
        result=dict(item.result),
        raw=dict(item.raw),
        raw_status=item.raw_status[:40],
        provider_id=item.provider_id[:128],
        credits=credits,
        answered_at=now,
    )


def _keep_unclear(batch: Batch, unclear: list[tuple[BatchItem, ProviderItem]]) -> None:
    """Items with an unknown status: what came is kept for the receipt and reused by nobody, the rows are left to a
    person, and their question stays with the batch so that no machine asks it again."""
    for own, item in unclear:
        answer = _answer(batch, own, item, db_now(), credits=Decimal(0), good_verdicts=())
        answer.save()
        rows = EnrichmentRow.objects.filter(
            job_id=batch.job_id, question_id=own.question_id, state__in=OPEN_ROWS
        )
        move_rows(
            batch.job_id,
            rows,
            RowState.UNCERTAIN,
            answer=answer,
            reason_code=UNKNOWN_STATUS,
            reason=f"{UNKNOWN_STATUS_TEXT} Status: {item.raw_status[:40]}.",
        )


def leave_in_doubt(job: EnrichmentJob) -> None:
    """Rows of a locked job whose question another job asked without a clear outcome: left to a person, nothing reserved."""
    rows = EnrichmentRow.objects.filter(
        job=job, state=RowState.WAITING, question__busy_batch__state=BatchState.UNCERTAIN
    )
    _leave_to_the_other_job(job, rows)


def _leave_to_the_other_job(job: EnrichmentJob, rows: QuerySet[EnrichmentRow]) -> None:
    """Rows that another job's batch decides: they cost this one nothing."""
    move_rows(
        job.id,
        rows,
        RowState.UNCERTAIN,
        reason_code=ASKED_ELSEWHERE,
        reason=ASKED_ELSEWHERE_TEXT,
        is_lead=False,
    )
    reservations.trim(job, note=ASKED_ELSEWHERE)


def close(batch: Batch) -> None:
    """End a batch whose items are all settled; one that still holds a question has an unclear end."""
    is_unclear = Question.objects.filter(busy_batch=batch).exists()
    Batch.objects.filter(id=batch.id, fence=batch.fence).update(
        state=BatchState.UNCERTAIN if is_unclear else BatchState.DONE,
        done_at=db_now(),
        lease_until=None,
        next_at=None,
    )


def _answer_rows(job: EnrichmentJob, batch: Batch, question_ids: list[int]) -> None:
    """Give the new answers to every open row of one job that asked; another job's reservation comes back."""
    if not question_ids:
        return
    rows = EnrichmentRow.objects.filter(job=job, question_id__in=question_ids, state__in=OPEN_ROWS)
    answer = Subquery(Question.objects.filter(id=OuterRef("question_id")).values("latest_answer_id")[:1])
    if job.id == batch.job_id:
        good = Question.objects.filter(id__in=question_ids, latest_answer__is_good=True).values("id")
        move_rows(job.id, rows.filter(is_lead=True, question_id__in=good), RowState.FOUND, answer_id=answer)
        move_rows(job.id, rows.filter(is_lead=True), RowState.NOT_FOUND, answer_id=answer)
        move_rows(job.id, rows, RowState.CACHED, answer_id=answer)
    else:
        take_known(job, question_ids)
        EnrichmentJob.objects.filter(id=job.id).update(next_due_at=db_now())


def take_known(job: EnrichmentJob, question_ids: list[int]) -> None:
    """Give a locked job the newest answers that others paid for: its open rows are cached and their reservation comes back."""
    rows = EnrichmentRow.objects.filter(
        Q(state__in=OPEN_ROWS) | LEFT_TO_ANOTHER_JOB, job=job, question_id__in=question_ids
    )
    answer = Subquery(Question.objects.filter(id=OuterRef("question_id")).values("latest_answer_id")[:1])
    move_rows(job.id, rows, RowState.CACHED, answer_id=answer, is_lead=False, reason_code="", reason="")
    reservations.trim(job, note="answered by another job")


def _fail_bad_input(batch: Batch, job: EnrichmentJob, question_ids: list[int]) -> None:
    """Rows that Icypeas did not accept: never ran, never charged."""
    if not question_ids:
        return
    rows = EnrichmentRow.objects.filter(job=job, question_id__in=question_ids, state__in=OPEN_ROWS)
    move_rows(job.id, rows, RowState.FAILED, reason_code=BAD_INPUT, reason=BAD_INPUT_TEXT)
    Question.objects.filter(id__in=question_ids, busy_batch=batch).update(busy_batch=None)


def _give_back(batch: Batch, job: EnrichmentJob, not_run: list[tuple[BatchItem, ProviderItem]]) -> None:
    """Rows that never ran wait again, and the job pauses until a person resumes it."""
    if not not_run:
        return
    ids = [own.question_id for own, _ in not_run]
    rows = EnrichmentRow.objects.filter(job=job, question_id__in=ids, state=RowState.IN_FLIGHT)
    count = return_rows(job, rows)
    Question.objects.filter(id__in=ids, busy_batch=batch).update(busy_batch=None)
    if any(item.state is ItemState.NO_CREDITS for _, item in not_run):
        left = "1 row was" if count == 1 else f"{count:,} rows were"
        text = f"Paused: credits ran out. {left} not run and not charged. Buy credits at Icypeas, then press Resume."
        pause(job, PauseReason.CREDITS, text)
        # After the commit: theirs is another lock, and what they ask now would end like this.
        transaction.on_commit(
            lambda: pause_fellows(
                job,
                PauseReason.CREDITS,
                "Paused: credits ran out. Buy credits at Icypeas, then press Resume.",
            )
        )
    else:
        text = f"Paused: {count:,} rows were aborted at Icypeas before they ran. Press Resume to send them again."
        pause(job, PauseReason.PERSON, text)


def leave_uncertain(batch: Batch, *, code: str, text: str, items: QuerySet[BatchItem] | None = None) -> int:
    """Nobody can say what became of the batch's unsettled questions, or of those of `items`: rows that wait for them, in
    any job, are left to a person and never sent again by a machine. The payer's reservation stays open, the others'
    comes back. How many rows of the batch's job. Call inside a transaction."""
    if items is None:
        items = BatchItem.objects.filter(batch=batch, is_settled=False)
    questions = items.values("question_id")
    open_rows = EnrichmentRow.objects.filter(
        question_id__in=questions, state__in=OPEN_ROWS, job__state__in=WORKED_ON
    )
    jobs = lock_jobs({batch.job_id, *open_rows.values_list("job_id", flat=True).distinct()})
    count = 0
    for job in jobs.values():
        rows = open_rows.filter(job=job)
        if job.id == batch.job_id:
            count = move_rows(job.id, rows, RowState.UNCERTAIN, reason_code=code, reason=text)
        else:
            _leave_to_the_other_job(job, rows)
    EnrichmentJob.objects.filter(id__in=jobs).update(next_due_at=db_now())
    tell(
        batch.job_id,
        f"{count:,} rows of batch {batch.number} are uncertain: {text}",
        icon="circle-question-mark",
        tone="warn",
    )
    return count


def unsettled(batch: Batch) -> int:
    return BatchItem.objects.filter(batch=batch, is_settled=False).count()

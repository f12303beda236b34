"""From queued to running: rows become questions, and what is known already is answered."""

from __future__ import annotations

from array import array

from django.db import connection, transaction
from django.db.models import Max, Min, OuterRef, QuerySet, Subquery

from enrichment.choices import JobState, RowState
from enrichment.models import BatchItem, EnrichmentJob, EnrichmentRow, Question
from enrichment.services import answers, reservations
from enrichment.services.transitions import lock_job, move_rows, tell
from keys.clock import db_now

CHUNK = 5_000


def prepare(job: EnrichmentJob) -> None:
    """Turn rows into questions: link each to its normal form, take known answers, choose the rows that stand for
    their question, and give back what the reservation held for more. May be repeated after a crash."""
    waiting = EnrichmentRow.objects.filter(job=job, state=RowState.WAITING)
    last = waiting.aggregate(last=Max("position"))["last"] or 0
    for start in range(0, last + 1, CHUNK):
        chunk = waiting.filter(position__gt=start, position__lte=start + CHUNK, question__isnull=True)
        _link(job, chunk)
    with transaction.atomic():
        locked = lock_job(job.id)
        if locked.state != JobState.QUEUED:
            return
        known = waiting.filter(question__latest_answer__answered_at__gte=locked.fresh_after)
        answer = Subquery(Question.objects.filter(id=OuterRef("question_id")).values("latest_answer_id")[:1])
        cached = move_rows(job.id, known, RowState.CACHED, answer_id=answer)
        answers.leave_in_doubt(locked)
        leads = _choose_leads(locked, waiting)
        locked.state, locked.prepared_at = JobState.RUNNING, db_now()
        if locked.is_sampling:
            _choose_sample(locked, leads)
        locked.save(update_fields=["state", "prepared_at", "sampled_at"])
        reservations.trim(locked, note="already known at the start")
        if cached:
            tell(job.id, f"{cached:,} rows were already known and cost nothing", icon="database")
    if locked.rows_total > CHUNK:
        _tell_the_planner()


def _tell_the_planner() -> None:
    """PostgreSQL knows nothing of rows that were just written until it analyses its tables, minutes later; meanwhile it
    sorts the whole list for each batch. Without the right to do so it warns and goes on."""
    if connection.vendor == "postgresql":
        tables = ", ".join(model._meta.db_table for model in (EnrichmentRow, Question, BatchItem))
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {tables}")


def _choose_leads(job: EnrichmentJob, waiting: QuerySet[EnrichmentRow]) -> int:
    """Mark the first row of each question as the one that stands for it; how many there are. Where a row of the job that
    is at Icypeas, or may be, stands for a question already, no other does.

    The ids come here and go back in chunks: as one statement, on a table that was just filled, it takes a time that grows
    squared on both databases, which know nothing of its size yet.
    """
    waiting.filter(is_lead=True).update(is_lead=False)  # a row that is sent again, beside a corrected one
    sent = (RowState.IN_FLIGHT, RowState.UNCERTAIN)
    stands = EnrichmentRow.objects.filter(job=job, is_lead=True, state__in=sent, question__isnull=False)
    free = waiting.exclude(question_id__in=stands.values("question_id")) if stands.exists() else waiting
    groups = free.order_by().values("question_id").annotate(first=Min("id"))
    firsts = array("q", groups.values_list("first", flat=True).iterator())
    chunks = (firsts[start : start + CHUNK].tolist() for start in range(0, len(firsts), CHUNK))
    return sum(waiting.filter(id__in=chunk).update(is_lead=True) for chunk in chunks)


def _choose_sample(job: EnrichmentJob, leads: int) -> None:
    """Choose the sample's rows by lot; a list that is no longer than its sample needs none."""
    if leads <= job.sample_rows:
        job.sampled_at = db_now()
        return
    rows = EnrichmentRow.objects.filter(job=job, is_lead=True, state=RowState.WAITING)
    chosen = list(rows.order_by("?").values_list("id", flat=True)[: job.sample_rows])
    EnrichmentRow.objects.filter(id__in=chosen).update(in_sample=True)


def _link(job: EnrichmentJob, rows: object) -> None:
    """Upsert the questions of a chunk of rows and point the rows at them."""
    assert isinstance(rows, type(EnrichmentRow.objects.none()))
    by_digest = dict(rows.values_list("digest", "inputs"))
    if not by_digest:
        return
    with transaction.atomic():
        Question.objects.bulk_create(
            [
                Question(realm=job.realm, operation=job.operation, digest=digest, inputs=inputs)
                # Sorted, so that two jobs that insert the same questions never wait for each other in a circle.
                for digest, inputs in sorted(by_digest.items(), key=lambda pair: pair[0])
            ],
            ignore_conflicts=True,
            batch_size=1_000,
        )
        same = Question.objects.filter(realm=job.realm, operation=job.operation, digest=OuterRef("digest"))
        rows.update(question_id=Subquery(same.values("id")[:1]))

"""From queued to running: rows become questions, and what is known already is answered."""

from __future__ import annotations

from array import array

from django.db import connection, transaction
from django.db.models import CharField, Count, Max, Min, OuterRef, QuerySet, Subquery, Value

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
        _link(job, waiting.filter(position__gt=start, position__lte=start + CHUNK, question__isnull=True))
    with transaction.atomic():
        locked = lock_job(job.id)
        if locked.state != JobState.QUEUED:
            return
        known = waiting.filter(question__latest_answer__answered_at__gte=locked.fresh_after)
        answer = Subquery(Question.objects.filter(id=OuterRef("question_id")).values("latest_answer_id")[:1])
        cached = move_rows(job.id, known, RowState.CACHED, answer_id=answer, is_lead=False)
        answers.leave_in_doubt(locked)
        _choose_leads(locked, waiting)
        locked.state, locked.prepared_at = JobState.RUNNING, db_now()
        if locked.is_sampling:
            _choose_sample(locked)
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


def _choose_leads(job: EnrichmentJob, waiting: QuerySet[EnrichmentRow]) -> None:
    """Leave the first row of each question as the one that stands for it. Where a row of the job that is at Icypeas, or may
    be, stands for a question already, no other does.

    A new job's rows are marked when they are linked, so that a list without duplicates is written once; the ids of the
    others come here and go back in chunks: as one statement, on a table that was just filled, it takes a time that grows
    squared on both databases, which know nothing of its size yet.
    """
    waiting.filter(is_lead=False).update(is_lead=True)  # rows that are sent again
    sent = (RowState.IN_FLIGHT, RowState.UNCERTAIN)
    stands = EnrichmentRow.objects.filter(job=job, is_lead=True, state__in=sent, question__isnull=False)
    if stands.exists():
        waiting.filter(question_id__in=stands.values("question_id")).update(is_lead=False)
    leads = waiting.filter(is_lead=True)
    groups = leads.order_by().values("question_id").annotate(first=Min("id"), rows=Count("id"))
    several = array("q", groups.filter(rows__gt=1).values_list("question_id", flat=True).iterator())
    for start in range(0, len(several), CHUNK):
        same = leads.filter(question_id__in=several[start : start + CHUNK].tolist())
        firsts = same.order_by().values("question_id").annotate(first=Min("id"))
        same.exclude(id__in=list(firsts.values_list("first", flat=True))).update(is_lead=False)


def _choose_sample(job: EnrichmentJob) -> None:
    """Choose the sample's rows by lot; a list that is no longer than its sample needs none."""
    rows = EnrichmentRow.objects.filter(job=job, is_lead=True, state=RowState.WAITING)
    if rows.count() <= job.sample_rows:
        job.sampled_at = db_now()
        return
    chosen = list(rows.order_by("?").values_list("id", flat=True)[: job.sample_rows])
    EnrichmentRow.objects.filter(id__in=chosen).update(in_sample=True)


def _link(job: EnrichmentJob, rows: QuerySet[EnrichmentRow]) -> None:
    """Make the questions of a chunk of rows that are not there yet, and point the rows at them."""
    # Sorted, so that two jobs that make the same questions never wait for each other in a circle.
    asked = rows.order_by("digest").values_list(
        Value(job.realm, CharField()), Value(job.operation, CharField()), "digest", "inputs"
    )
    select, parameters = asked.query.sql_with_params()
    table = Question._meta.db_table
    with transaction.atomic():
        with connection.cursor() as cursor:
            # Inside the database: the rows need not travel here and back, which takes two to four times as long.
            cursor.execute(
                f"INSERT INTO {table} (realm, operation, digest, inputs) {select} ON CONFLICT DO NOTHING",
                parameters,
            )
        same = Question.objects.filter(realm=job.realm, operation=job.operation, digest=OuterRef("digest"))
        # In a later attempt another row may stand for the question, and may be answered or decided at any moment from now on.
        rows.update(question_id=Subquery(same.values("id")[:1]), is_lead=job.attempt == 1)

"""Rows of a job: filtered pages and streams, receipts, and what they say together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Count, Max, Min, Q, QuerySet

from enrichment import csv_export, operations
from enrichment.choices import ANSWERED_ROWS, RowState
from enrichment.models import Batch, BatchItem, EnrichmentJob, EnrichmentRow, Question
from keys.clock import db_now

ROWS_A_PAGE = 50
FORMULA_ROWS = 5_000  # above, counting cells takes longer than a page should


@dataclass(frozen=True)
class RowFilter:
    """Filter of the result table; it is the address. `state` one of the eight, `reason` a code, `search` a piece of text."""

    state: str = ""
    certainty: str = ""
    reason: str = ""
    warning: str = ""
    search: str = ""

    @property
    def is_set(self) -> bool:
        return any((self.state, self.certainty, self.reason, self.warning, self.search))


@dataclass(frozen=True)
class RowPage:
    """A keyset page: `after`/`before` are positions for the next and the previous page, None at the ends."""

    rows: list[EnrichmentRow]
    total: int
    after: int | None
    before: int | None


def _filtered(job: EnrichmentJob, wanted: RowFilter) -> QuerySet[EnrichmentRow]:
    rows = job.rows.all()  # each row knows this job without asking for it
    if wanted.state:
        rows = rows.filter(state=wanted.state)
    if wanted.certainty:
        rows = rows.filter(answer__result__certainty=wanted.certainty)
    if wanted.reason:
        rows = rows.filter(reason_code=wanted.reason)
    if wanted.warning:
        rows = rows.filter(warning=wanted.warning)
    if wanted.search:
        rows = rows.filter(_in_cells(wanted.search) | Q(answer__result__email__icontains=wanted.search))
    return rows


def _in_cells(text: str) -> Q:
    """Rows with a cell that holds `text`, without case. Cells are a JSON array, so the text is looked for as JSON spells it."""
    if connection.vendor != "sqlite":
        return Q(cells__icontains=json.dumps(text, ensure_ascii=False)[1:-1])
    # SQLite has it in plain ASCII and knows the case of ASCII letters only: every spelling of each letter is named.
    spellings = (
        sorted({json.dumps(form)[1:-1] for form in (char, char.lower(), char.upper())}) for char in text
    )
    return Q(cells__regex="".join(f"(?:{'|'.join(map(re.escape, forms))})" for forms in spellings))


def list_rows(
    job: EnrichmentJob,
    wanted: RowFilter,
    *,
    after: int | None = None,
    before: int | None = None,
    limit: int = ROWS_A_PAGE,
) -> RowPage:
    """One page of results by position. The total comes from the counters where the filter is a state or nothing."""
    rows = _filtered(job, wanted).select_related("answer", "question")
    if before is not None:
        page = list(rows.filter(position__lt=before).order_by("-position")[: limit + 1])
        has_more_before = len(page) > limit
        page = list(reversed(page[:limit]))
        has_more_after = bool(page) and rows.filter(position__gt=page[-1].position).exists()
    else:
        page = list(rows.filter(position__gt=after or 0).order_by("position")[: limit + 1])
        has_more_after = len(page) > limit
        page = page[:limit]
        has_more_before = bool(after and page) and rows.filter(position__lt=page[0].position).exists()
    return RowPage(
        rows=page,
        total=count_rows(job, wanted),
        after=page[-1].position if page and has_more_after else None,
        before=page[0].position if page and has_more_before else None,
    )


def count_rows(job: EnrichmentJob, wanted: RowFilter) -> int:
    if wanted == RowFilter(state=wanted.state):
        return job.counts[wanted.state] if wanted.state else job.rows_total
    return _filtered(job, wanted).count()


def stream_rows(
    job: EnrichmentJob, wanted: RowFilter | None = None, chunk: int = 2_000
) -> Iterator[EnrichmentRow]:
    """All rows by position, a chunk at a time: memory does not grow with the list."""
    position = 0
    rows = _filtered(job, wanted or RowFilter()).select_related("answer")
    while True:
        page = list(rows.filter(position__gt=position).order_by("position")[:chunk])
        yield from page
        if len(page) < chunk:
            return
        position = page[-1].position


@dataclass(frozen=True)
class Receipt:
    """One row with everything that it cost and why."""

    row: EnrichmentRow
    asked: list[tuple[str, str]]
    emails: list[dict[str, str]]
    own_columns: list[tuple[str, str]]
    batch: Batch | None
    batches: int
    credits: Decimal | None
    paid_by: EnrichmentJob | None
    warning_text: str = ""
    extra: list[tuple[str, str]] = field(default_factory=list)
    second: Mapping[str, Any] | None = None  # another answer under the same id, as it came
    provider_id: str = ""  # the answer's name at Icypeas; leads have none
    continues_row: int | None = None  # the row of the job that this one goes on with


def get_receipt(job: EnrichmentJob, position: int) -> Receipt | None:
    """The receipt of one row, or None when there is no such row."""
    row = (
        job.rows.filter(position=position)
        .select_related("answer", "answer__batch", "answer__job", "question")
        .first()
    )
    if row is None:
        return None
    operation = operations.get(job.operation)
    labels = {each.name: each.label for each in operation.fields} | dict(operation.asked_labels)
    batch = row.answer.batch if row.answer and row.answer.job_id == job.id else None
    if batch is None and row.question_id and row.state in (RowState.IN_FLIGHT, RowState.UNCERTAIN):
        item = (
            BatchItem.objects.filter(question_id=row.question_id, batch__job=job)
            .select_related("batch")
            .last()
        )
        batch = item.batch if item else None
    header = job.upload.header if job.upload else list(row.inputs)
    mapped = set(job.mapping.values())
    result = row.answer.result if row.answer else {}
    return Receipt(
        row=row,
        asked=[(labels.get(name, name), value) for name, value in row.inputs.items() if value],
        emails=[entry for entry in result.get("all_emails", []) if isinstance(entry, dict)],
        own_columns=[
            (name, cell)
            for index, (name, cell) in enumerate(zip(header, row.cells, strict=False))
            if index not in mapped and cell
        ],
        batch=batch,
        batches=Batch.objects.filter(job=job).count(),
        credits=row.credits,
        paid_by=row.answer.job if row.answer and row.answer.job_id != job.id else None,
        warning_text=job.findings.get("warnings", {}).get(row.warning, {}).get("text", ""),
        second=_second_answer(row),
        provider_id=_provider_id(row),
        continues_row=job.continued_rows[position - 1] if position <= len(job.continued_rows) else None,
    )


def _provider_id(row: EnrichmentRow) -> str:
    """What Icypeas calls the row's answer; "" where it has no name there and stands under our own."""
    answer = row.answer
    if (
        answer is None
        or BatchItem.objects.filter(batch=answer.batch_id, external_id=answer.provider_id).exists()
    ):
        return ""
    return answer.provider_id


def _second_answer(row: EnrichmentRow) -> Mapping[str, Any] | None:
    """What Icypeas answered besides, where it answered the row's question twice and not alike."""
    items = BatchItem.objects.filter(question=row.question, batch__job=row.job_id, other__isnull=False)
    return items.order_by("id").values_list("other", flat=True).last()


def neighbours(job: EnrichmentJob, wanted: RowFilter, position: int) -> tuple[int | None, int | None]:
    """Positions of the previous and the next row within the filter."""
    rows = _filtered(job, wanted)
    found = rows.aggregate(
        previous=Max("position", filter=Q(position__lt=position)),
        following=Min("position", filter=Q(position__gt=position)),
    )
    return found["previous"], found["following"]


def certainties(job: EnrichmentJob) -> list[str]:
    """Certainties that occur in the job's answers, for the filter."""
    values = (
        EnrichmentRow.objects.filter(job=job, answer__isnull=False)
        .order_by()
        .values_list("answer__result__certainty", flat=True)
        .distinct()[:12]
    )
    return sorted(value for value in values if value)


def failure_reasons(job: EnrichmentJob) -> list[Mapping[str, Any]]:
    """Failed and uncertain rows by reason: code, sentence, rows, first position."""
    return [
        *EnrichmentRow.objects.filter(job=job, state__in=(RowState.FAILED, RowState.UNCERTAIN))
        .order_by()
        .values("state", "reason_code", "reason")
        .annotate(rows=Count("id"), first=Min("position"))
        .order_by("-rows")
    ]


def costs_of_asking(
    job: EnrichmentJob, rows: QuerySet[EnrichmentRow], *, fresh_after: datetime | None
) -> dict[str, Decimal]:
    """The most that asking `rows` of a job can cost, by reason code: each question once, answers that are known since
    `fresh_after` for nothing (None: none is fresh)."""
    known = Question.objects.filter(
        realm=job.realm, operation=job.operation, latest_answer__answered_at__gte=fresh_after or db_now()
    )
    questions = rows.order_by().values_list("reason_code")
    asked = questions.annotate(n=Count("digest", distinct=True, filter=~Q(digest__in=known.values("digest"))))
    return {code: count * job.price for code, count in asked}


def verdict_counts(job: EnrichmentJob) -> dict[str, int]:
    """Rows that have an answer, by its verdict; known answers and duplicates count with theirs."""
    answered = EnrichmentRow.objects.filter(job=job, state__in=ANSWERED_ROWS, answer__isnull=False)
    return dict(answered.order_by().values_list("answer__verdict").annotate(Count("id")))


def count_formula_cells(job: EnrichmentJob) -> int | None:
    """Original cells that a spreadsheet could take for a formula; None for a list too long to read for a page."""
    if job.rows_total > FORMULA_ROWS:
        return None
    rows = EnrichmentRow.objects.filter(job=job).order_by().values_list("cells", flat=True)
    return sum(csv_export.count_formula_cells(cells) for cells in rows)


def lead_position(row: EnrichmentRow) -> int | None:
    """The row that was asked in place of this duplicate, within its job."""
    if row.is_lead or row.question_id is None:
        return None
    leads = EnrichmentRow.objects.filter(job_id=row.job_id, question_id=row.question_id, is_lead=True)
    return leads.values_list("position", flat=True).first()

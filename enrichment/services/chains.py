"""A finished job goes on as a new one: its rows, with what was found, are the list of the next operation."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import QuerySet

from enrichment import column_mapping, csv_export, operations
from enrichment.choices import ANSWERED_ROWS
from enrichment.csv_import import Layout
from enrichment.models import EnrichmentJob, EnrichmentRow
from enrichment.operations.base import Operation
from enrichment.services import exporting, submission, uploads
from people import audit


@dataclass(frozen=True)
class Offer:
    """An operation that can go on with a job's rows, and what it would ask: labels of inputs with the columns that feed them."""

    operation: Operation
    inputs: tuple[tuple[str, str], ...]

    @property
    def words(self) -> str:
        """`Email from icypeas_email`."""
        return ", ".join(f"{label} from {column}" for label, column in self.inputs)


def offers(job: EnrichmentJob) -> list[Offer]:
    """What can be done with the rows of a job, in the order of the picker."""
    if job.upload is None:
        return []
    header = _header(job)
    found = []
    for operation in operations.ASKED.values():
        mapping = _mapping(job, operation)
        if operation.name == job.operation or not _suffices(operation, mapping):
            continue
        labels = {field.name: field.label for field in operation.fields}
        found.append(
            Offer(operation, tuple((labels[name], header[column]) for name, column in mapping.items()))
        )
    return found


def good_rows(job: EnrichmentJob) -> QuerySet[EnrichmentRow]:
    """Rows whose answer is what was hoped for."""
    return EnrichmentRow.objects.filter(job=job, state__in=ANSWERED_ROWS, answer__is_good=True)


def go_on(actor: audit.Actor, job: EnrichmentJob, operation: str, *, only_good: bool) -> EnrichmentJob:
    """A checked draft of `operation` over the job's rows, linked row by row. Raises `SubmissionError` and `UploadError`."""
    target = operations.ASKED.get(operation)
    if target is None or all(offer.operation.name != operation for offer in offers(job)):
        raise submission.SubmissionError(
            "The rows of this job do not hold what that needs.", field="operation"
        )
    rows = good_rows(job) if only_good else EnrichmentRow.objects.filter(job=job)
    positions = list(rows.order_by("position").values_list("position", flat=True))
    if not positions:
        raise submission.SubmissionError("No row of this job has an answer to go on with.", field="rows")
    assert job.upload is not None
    layout = Layout.from_json(job.upload.layout)
    lines = csv_export.write(_export_rows(job, rows), layout, operations.get(job.operation), csv_export.CRM)
    draft = uploads.create_draft(
        actor,
        operation=operation,
        stream=io.BytesIO(b"".join(lines)),
        file_name=exporting.file_name(job, csv_export.RAW),
        mapping=_mapping(job, target),
        has_header=True,
        encoding="utf-8",
        delimiter=",",
        name=f"{job.name}: {target.label}",
    )
    EnrichmentJob.objects.filter(id=draft.id).update(continues=job, continued_rows=positions)
    submission.check(draft)
    draft.refresh_from_db()
    return draft


def _export_rows(job: EnrichmentJob, rows: QuerySet[EnrichmentRow]) -> Iterator[csv_export.ExportRow]:
    ordered = rows.select_related("answer", "job").order_by("position")
    return (exporting.export_row(job, row) for row in ordered.iterator(chunk_size=2_000))


def _header(job: EnrichmentJob) -> list[str]:
    """The columns of the next list: the job's own, and behind them what it found."""
    assert job.upload is not None
    raw = Layout.from_json(job.upload.layout).raw_header
    return [*raw, *csv_export.columns(operations.get(job.operation), raw)]


def _mapping(job: EnrichmentJob, target: Operation) -> dict[str, int]:
    """What was found feeds the input of the same name; what it does not feed, the column that fed it before, or a
    column that looks like it."""
    source = operations.get(job.operation)
    header = _header(job)
    assert job.upload is not None
    width = len(header) - len(csv_export.columns(source))
    first = width + 2  # behind status and reason
    found = {column.name: first + index for index, column in enumerate(source.result_columns)}
    guesses = column_mapping.recognise(target, header[:width], [])
    mapping: dict[str, int] = {}
    for field in target.fields:
        guess = guesses[field.name]
        column = found.get(field.name, job.mapping.get(field.name, guess.column))
        if column is not None and column not in mapping.values():
            mapping[field.name] = column
    if "first_name" in mapping and "last_name" in mapping:
        mapping.pop("full_name", None)
    return mapping


def _suffices(operation: Operation, mapping: dict[str, int]) -> bool:
    return all(any(name in mapping for name in group) for group in operation.needs)

"""The list goes home: exactly the uploaded rows, order and columns, ours appended."""

from __future__ import annotations

from collections.abc import Iterator

from enrichment import csv_export, operations, selectors
from enrichment.choices import JobState, RowState
from enrichment.csv_import import Layout
from enrichment.models import EnrichmentJob, EnrichmentRow
from people import audit

WAITING_TEXT = {
    JobState.PAUSED: "The job is paused; this row waits to be sent.",
    JobState.DRAFT: "The job was not started.",
}


def export_row(job: EnrichmentJob, row: EnrichmentRow) -> csv_export.ExportRow:
    """One row with our columns' values."""
    # An uncertain row may hold what came with an unknown status: it is on the receipt and not delivered.
    answer = None if row.state == RowState.UNCERTAIN else row.answer
    status, reason = row.state, row.reason
    if answer is not None:
        status = answer.verdict
    elif row.state == RowState.WAITING:
        reason = WAITING_TEXT.get(JobState(job.state), "This row waits to be sent.")
    elif row.state == RowState.IN_FLIGHT:
        status, reason = "waiting", "This row was sent and has no answer yet."
    return csv_export.ExportRow(
        cells=row.cells,
        status=status,
        reason=reason,
        result=answer.result if answer else {},
        is_cached=row.state == RowState.CACHED,
        credits=row.credits,
        answered_at=answer.answered_at if answer else None,
    )


def export(job: EnrichmentJob, preset: str, wanted: selectors.RowFilter | None = None) -> Iterator[bytes]:
    """The export as chunks of bytes; rows stream from the database."""
    assert job.upload is not None
    rows = (export_row(job, row) for row in selectors.stream_rows(job, wanted))
    return csv_export.write(rows, Layout.from_json(job.upload.layout), operations.get(job.operation), preset)


def hand_out(
    actor: audit.Actor, job: EnrichmentJob, preset: str, wanted: selectors.RowFilter | None = None
) -> Iterator[bytes]:
    """The export for a person; who took which rows home stands in the audit log."""
    rows = selectors.count_rows(job, wanted or selectors.RowFilter())
    audit.record(actor, "job.exported", job, detail={"preset": preset, "rows": rows})
    return export(job, preset, wanted)


def file_name(job: EnrichmentJob, preset: str, wanted: selectors.RowFilter | None = None) -> str:
    """ "list-418-enriched.csv"; PARTIAL while rows are open or a filter is set."""
    assert job.upload is not None
    stem = job.upload.name.rsplit("/", 1)[-1].rsplit(".", 1)[0] or "list"
    is_partial = job.rows_open or (wanted and wanted.is_set)
    return f"{stem}-{job.id}-enriched{'-PARTIAL' if is_partial else ''}{'' if preset == 'raw' else '-' + preset}.csv"

"""From an uploaded file to checked rows: store it, read it, check every row locally. Nothing is sent here."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, BinaryIO, cast

from django.conf import settings
from django.core.files import File
from django.db import transaction
from django.db.models import F, Q

from enrichment import column_mapping, csv_import, operations
from enrichment.choices import JobState, RowState, Source
from enrichment.csv_import import Layout, Limits, UploadError
from enrichment.models import EnrichmentJob, EnrichmentRow, Upload
from enrichment.operations.base import Checked, Operation, digest
from enrichment.services.transitions import move_rows
from keys.clock import db_now
from people import audit

CHUNK = 2_000
SAMPLE_ROWS = 200
EXAMPLES = 3
CHECK_LEASE = timedelta(seconds=60)


def limits() -> Limits:
    """What an upload may be, from the settings."""
    return Limits(max_bytes=settings.MAX_UPLOAD_BYTES)


def create_draft(
    actor: audit.Actor,
    *,
    operation: str,
    stream: BinaryIO,
    file_name: str,
    source: str = Source.BROWSER,
    encoding: str | None = None,
    delimiter: str | None = None,
    has_header: bool | None = None,
    mapping: Mapping[str, int] | None = None,
    name: str = "",
) -> EnrichmentJob:
    """Keep the upload and make a draft job with recognised columns. Its rows are checked by `check_rows`, here when the
    list is small and in a worker when it is large. Raises `UploadError`."""
    layout, found = _read_layout(stream, encoding=encoding, delimiter=delimiter, has_header=has_header)
    chosen = operations.get(operation)
    if mapping is None:
        mapping = recognise(chosen, stream, layout)
    assert actor.user is not None
    stream.seek(0)
    with transaction.atomic():
        upload = Upload(
            name=file_name[:200],
            sha256=_sha256(stream),
            size=stream.seek(0, 2),
            layout=layout.as_json(),
            header=layout.header,
            blank_lines=found.blank_lines,
            first_wide_row=found.first_wide_row,
            created_by=actor.user,
        )
        stream.seek(0)
        # A name of our own: what a person calls a file is no path.
        upload.file.save(f"{secrets.token_hex(12)}.csv", File(stream), save=False)
        upload.save()
        job = EnrichmentJob.objects.create(
            name=" ".join(name.split())[:200] or _job_name(file_name),
            operation=operation,
            source=source,
            created_by=actor.user,
            team=actor.user.team,
            upload=upload,
            mapping=dict(mapping),
            freshness_days=settings.FRESHNESS_DAYS,
            start_token=secrets.token_hex(16),
        )
    return job


def _read_layout(
    stream: BinaryIO, *, encoding: str | None, delimiter: str | None, has_header: bool | None
) -> tuple[Layout, csv_import.Inspection]:
    layout = csv_import.sniff(
        stream, encoding=encoding, delimiter=delimiter, has_header=has_header, limits=limits()
    )
    found = csv_import.inspect(stream, layout, limits=limits())
    return layout.widened(found.widest), found


def _sha256(stream: BinaryIO) -> str:
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # seekable and readable is enough


def _job_name(file_name: str) -> str:
    stem = file_name.rsplit("/", 1)[-1].rsplit(".", 1)[0].replace("_", " ").strip()
    return (stem or file_name or "List")[:200]


def is_small(job: EnrichmentJob) -> bool:
    """Whether the list is checked at once, while its person waits."""
    return job.upload is None or job.upload.size <= settings.IMPORT_INLINE_BYTES


def _rows(job: EnrichmentJob) -> Iterator[list[str]]:
    assert job.upload is not None
    with job.upload.file.open("rb") as file:
        yield from csv_import.read_rows(
            cast(BinaryIO, file), Layout.from_json(job.upload.layout), limits=limits()
        )


def sample(job: EnrichmentJob) -> list[list[str]]:
    """The first rows of the upload, for recognising columns and showing values."""
    return [cells for cells, _ in zip(_rows(job), range(SAMPLE_ROWS), strict=False)]


def recognise(operation: Operation, stream: BinaryIO, layout: Layout) -> dict[str, int]:
    """Field → column index, as far as header and values tell."""
    rows = [cells for cells, _ in zip(csv_import.read_rows(stream, layout), range(SAMPLE_ROWS), strict=False)]
    guesses = column_mapping.recognise(operation, layout.header, rows)
    return {name: guess.column for name, guess in guesses.items() if guess.column is not None}


def reread(
    job: EnrichmentJob, *, encoding: str | None, delimiter: str | None, has_header: bool | None
) -> None:
    """A person corrected how the file is read: recognise its columns anew. Raises `UploadError`."""
    assert job.upload is not None
    with job.upload.file.open("rb") as file:
        stream = cast(BinaryIO, file)
        layout, found = _read_layout(stream, encoding=encoding, delimiter=delimiter, has_header=has_header)
        mapping = recognise(operations.get(job.operation), stream, layout)
    with transaction.atomic():
        Upload.objects.filter(id=job.upload.id).update(
            layout=layout.as_json(),
            header=layout.header,
            blank_lines=found.blank_lines,
            first_wide_row=found.first_wide_row,
        )
        # Other lines may be rows now: what was put in the place of one would meet another.
        EnrichmentJob.objects.filter(id=job.id, state=JobState.DRAFT).update(corrections={})
        change_mapping(job, mapping)


def change_mapping(
    job: EnrichmentJob, mapping: Mapping[str, int], skip_codes: list[str] | None = None
) -> None:
    """Check the draft anew with other columns; rows whose warning is in `skip_codes` are skipped.
    The caller then runs or wakes `check_rows`."""
    EnrichmentJob.objects.filter(id=job.id, state=JobState.DRAFT).update(
        mapping=dict(mapping),
        skip_codes=skip_codes or [],
        is_checked=False,
        check_error="",
        check_generation=F("check_generation") + 1,
        dispatched_at=None,
        next_due_at=db_now(),
    )


def correct_row(job: EnrichmentJob, row: EnrichmentRow, told: Mapping[str, str], outcome: Checked) -> None:
    """Put `told` in the place of a skipped row's cells of a locked, checked draft: from now on it will be asked."""
    code = row.reason_code
    tally = _Tally(**{kind: job.findings.get(kind, {}) for kind in ("skipped", "warnings")})
    warning = outcome.warnings[0] if outcome.warnings else None
    if warning:
        tally.add(tally.warnings, warning.code, warning.text, row.position, next(filter(None, told.values())))
    move_rows(
        job.id,
        EnrichmentRow.objects.filter(id=row.id),
        RowState.WAITING,
        told=dict(told),
        inputs=dict(outcome.inputs),
        digest=digest(outcome.inputs),
        warning=warning.code if warning else "",
        reason_code="",
        reason="",
    )
    left = EnrichmentRow.objects.filter(job=job, state=RowState.SKIPPED, reason_code=code).order_by(
        "position"
    )
    tally.take(tally.skipped, code, list(left.values_list("position", flat=True)[:EXAMPLES]))
    EnrichmentJob.objects.filter(id=job.id).update(
        corrections={**job.corrections, str(row.position): dict(told)},
        findings={"skipped": tally.skipped, "warnings": tally.warnings},
    )


@dataclass
class _Tally:
    """Findings by code: a sentence, how many rows, and the first few positions."""

    skipped: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: dict[str, dict[str, Any]] = field(default_factory=dict)

    @staticmethod
    def take(out_of: dict[str, dict[str, Any]], code: str, first: list[int]) -> None:
        """One row less, with the positions of the `first` that are left; the code goes with the last."""
        if first:
            out_of[code]["rows"] -= 1
            out_of[code]["examples"] = [[position, ""] for position in first]
        else:
            out_of.pop(code)

    @staticmethod
    def add(into: dict[str, dict[str, Any]], code: str, text: str, position: int, value: str) -> None:
        entry = into.setdefault(code, {"text": text, "rows": 0, "examples": []})
        entry["rows"] += 1
        if len(entry["examples"]) < EXAMPLES:
            entry["examples"].append([position, value[:60]])


def check_rows(job_id: int) -> None:
    """Read and check the whole list of a draft, in chunks; what it finds is stored with the job.

    Starts over when it was cut off. A newer check (other columns, another worker) makes this one end. Bad rows are skipped with their
    reason; a file that cannot be read ends with `check_error`.
    """
    drafts = EnrichmentJob.objects.filter(id=job_id, state=JobState.DRAFT, is_checked=False)
    with transaction.atomic():
        # A number of its own: if the same check runs elsewhere, that one ends instead of writing the same rows.
        if not drafts.update(check_generation=F("check_generation") + 1, dispatched_at=db_now()):
            return
        # Under the same lock: an older check that came to this later would delete what the newer one has written.
        _forget_rows(job_id)
        job = EnrichmentJob.objects.select_related("upload").get(id=job_id)
    mine = drafts.filter(check_generation=job.check_generation)
    tally = _Tally()
    operation = operations.get(job.operation)
    skipped = total = 0
    try:
        for chunk in _chunks(_checked_rows(job, operation, tally)):
            with transaction.atomic():
                skipped += sum(row.state == RowState.SKIPPED for row in chunk)
                total += len(chunk)
                if not mine.update(
                    rows_total=total,
                    rows_skipped=skipped,
                    rows_waiting=total - skipped,
                    dispatched_at=db_now(),
                ):
                    return
                EnrichmentRow.objects.bulk_create(chunk)
    except UploadError as error:
        mine.update(check_error=error.message[:500], is_checked=True, next_due_at=None, dispatched_at=None)
        return
    mine.update(
        is_checked=True,
        findings={"skipped": tally.skipped, "warnings": tally.warnings},
        next_due_at=None,
        dispatched_at=None,
    )


def _forget_rows(job_id: int) -> None:
    EnrichmentRow.objects.filter(job_id=job_id).delete()
    EnrichmentJob.objects.filter(id=job_id).update(rows_total=0, rows_skipped=0, rows_waiting=0, findings={})


def _checked_rows(job: EnrichmentJob, operation: Operation, tally: _Tally) -> Iterator[EnrichmentRow]:
    for position, cells in enumerate(_rows(job), start=1):
        corrected = job.corrections.get(str(position))
        told = corrected or column_mapping.apply(job.mapping, cells)
        outcome = operation.check(told)
        row = EnrichmentRow(job_id=job.id, position=position, cells=cells, told=corrected)
        value = next((text for text in told.values() if text), "")
        if isinstance(outcome, Checked):
            row.inputs = dict(outcome.inputs)
            row.digest = digest(outcome.inputs)
            for warning in outcome.warnings[:1]:
                row.warning = warning.code
                if warning.code in job.skip_codes and not corrected:
                    row.state, row.reason_code, row.reason = (
                        RowState.SKIPPED,
                        warning.code,
                        warning.text[:300],
                    )
                    tally.add(tally.skipped, warning.code, warning.text, position, value)
                else:
                    tally.add(tally.warnings, warning.code, warning.text, position, value)
        else:
            row.state, row.reason_code, row.reason = RowState.SKIPPED, outcome.code, outcome.text[:300]
            tally.add(tally.skipped, outcome.code, outcome.text, position, value)
        yield row


def _chunks(rows: Iterator[EnrichmentRow]) -> Iterator[list[EnrichmentRow]]:
    chunk: list[EnrichmentRow] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def due_checks() -> list[int]:
    """Drafts whose check was not begun, or whose worker is gone."""
    now = db_now()
    due = Q(dispatched_at__isnull=True, next_due_at__lte=now) | Q(dispatched_at__lt=now - CHECK_LEASE)
    drafts = EnrichmentJob.objects.filter(due, state=JobState.DRAFT, is_checked=False, upload__isnull=False)
    return list(drafts.values_list("id", flat=True))

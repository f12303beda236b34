"""Rows out: the uploaded list as it was, and our columns behind it.

Presets:

- `raw`: the original cells character for character, with the upload's delimiter and line end; UTF-8, with a
  byte order mark if the upload had one.
- `excel`: as raw, always with a byte order mark, and an apostrophe before each cell that a spreadsheet could
  take for a formula.
- `crm`: comma, CRLF, UTF-8 without a byte order mark, no apostrophes.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from enrichment.csv_import import QUOTE, Layout
from enrichment.operations.base import Operation, result_text

RAW = "raw"
EXCEL = "excel"
CRM = "crm"
PRESETS = (RAW, EXCEL, CRM)

# What `icypeas_status` can say. The last four come with a reason.
STATUSES = (
    "found",
    "not_found",
    "deliverable",
    "risky",
    "undeliverable",
    "unknown",
    "skipped",
    "failed",
    "uncertain",
    "waiting",
)
_FORMULA_STARTS = tuple("=+-@\t\r\0")
_ROWS_PER_CHUNK = 500


@dataclass(frozen=True)
class ExportRow:
    """One row of the upload and what became of it. `cells` may be shorter than the header, never longer.

    `result` has the operation's result columns by name; `credits` and `answered_at` are None while unknown.
    """

    cells: Sequence[str]
    status: str
    reason: str = ""
    result: Mapping[str, Any] | None = None
    is_cached: bool = False
    credits: Decimal | None = None
    answered_at: datetime | None = None


def columns(operation: Operation, header: Iterable[str] = ()) -> list[str]:
    """The names of the columns that we append, in order. A name that `header` has already (in any letter case)
    gets `_2`, or the next number that is free."""
    taken = {name.strip().casefold() for name in header}
    names = []
    for name in (
        "icypeas_status",
        "icypeas_reason",
        *(f"icypeas_{column.name}" for column in operation.result_columns),
        "icypeas_cached",
        "icypeas_credits",
        "icypeas_answered_at",
    ):
        unique, number = name, 1
        while unique in taken:
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique)
        names.append(unique)
    return names


def write(
    rows: Iterable[ExportRow], layout: Layout, operation: Operation, preset: str = RAW
) -> Iterator[bytes]:
    """The export as chunks of bytes. `layout` is the upload's, widened; `rows` are read as they are needed.

    Raises `ValueError` for an unknown preset or status, and for a row wider than the header: its cells would end up
    in our columns.
    """
    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}: {', '.join(PRESETS)}")
    delimiter, newline = (",", "\r\n") if preset == CRM else (layout.delimiter, layout.newline)
    to_line = _line_writer(delimiter, newline, escape_formulas=preset == EXCEL)
    lines = [to_line([*layout.raw_header, *columns(operation, layout.raw_header)])]
    if preset == EXCEL or (preset == RAW and layout.has_bom):
        yield codecs.BOM_UTF8
    for row in rows:
        lines.append(to_line(_cells(row, layout.width, operation)))
        if len(lines) >= _ROWS_PER_CHUNK:
            yield "".join(lines).encode()
            lines.clear()
    yield "".join(lines).encode()


def count_formula_cells(cells: Iterable[str]) -> int:
    """In how many of these cells the preset `excel` puts an apostrophe."""
    return sum(cell.startswith(_FORMULA_STARTS) for cell in cells)


def own_cells(row: ExportRow, operation: Operation) -> list[str]:
    """The cells under `columns(operation)`."""
    if row.status not in STATUSES:
        raise ValueError(f"there is no status {row.status!r}")
    result = row.result or {}
    return [
        row.status,
        row.reason,
        *(result_text(result.get(column.name)) for column in operation.result_columns),
        "yes" if row.is_cached else "no",
        credits_text(row.credits),
        "" if row.answered_at is None else row.answered_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    ]


def credits_text(credits: Decimal | None) -> str:
    """A number of credits without exponent and without trailing zeros: `1`, `0.1`, `0`; "" when unknown."""
    if credits is None:
        return ""
    plain = f"{credits:f}"
    return (plain.rstrip("0").rstrip(".") if "." in plain else plain) or "0"


def _cells(row: ExportRow, width: int, operation: Operation) -> list[str]:
    if len(row.cells) > width:
        raise ValueError(f"a row has {len(row.cells)} cells and the header {width}")
    return [*row.cells, *[""] * (width - len(row.cells)), *own_cells(row, operation)]


def _line_writer(delimiter: str, newline: str, *, escape_formulas: bool) -> Callable[[Sequence[str]], str]:
    """Cells to one line. Not csv.writer, which leaves a lone `\\r` bare where lines end in `\\n`, up to Python 3.12."""
    needs_quotes = re.compile(f"[\r\n{QUOTE}{re.escape(delimiter)}]").search

    def to_line(cells: Sequence[str]) -> str:
        if escape_formulas:
            cells = ["'" + cell if cell.startswith(_FORMULA_STARTS) else cell for cell in cells]
        quoted = [
            QUOTE + cell.replace(QUOTE, QUOTE * 2) + QUOTE if needs_quotes(cell) else cell for cell in cells
        ]
        return delimiter.join(quoted) + newline

    return to_line

"""Tables as CSV for pages and the terminal, in chunks; cells that a spreadsheet would take for a formula get an apostrophe."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

_FORMULA_STARTS = tuple("=+-@\t\r")
_AT_ONCE = 500


def write(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The header and the rows, some hundred lines at a time."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    for number, row in enumerate(rows, 1):
        writer.writerow(["'" + cell if cell.startswith(_FORMULA_STARTS) else cell for cell in row])
        if number % _AT_ONCE == 0:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()

"""The audit log as CSV, for the page and the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

from django.db.models import QuerySet

from people.models import AuditEntry

COLUMNS = (
    "id",
    "at",
    "who",
    "email",
    "via",
    "action",
    "object",
    "object id",
    "what",
    "why",
    "detail",
    "seal",
)
_FORMULA_STARTS = tuple("=+-@\t\r")
_AT_ONCE = 500


def write(entries: QuerySet[AuditEntry]) -> Iterator[str]:
    """CSV in chunks; cells that a spreadsheet would take for a formula get an apostrophe."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    found = entries.select_related("actor", "seal").iterator(chunk_size=_AT_ONCE)
    for number, entry in enumerate(found, 1):
        writer.writerow(["'" + cell if cell.startswith(_FORMULA_STARTS) else cell for cell in _cells(entry)])
        if number % _AT_ONCE == 0:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def _cells(entry: AuditEntry) -> list[str]:
    return [
        str(entry.id),
        entry.at.isoformat(),
        entry.actor.name if entry.actor else "",
        entry.actor.email if entry.actor else "",
        entry.via,
        entry.action,
        entry.object_type,
        str(entry.object_id or ""),
        entry.object_text,
        entry.reason,
        json.dumps(entry.detail, ensure_ascii=False, sort_keys=True),
        entry.seal.digest if hasattr(entry, "seal") else "",
    ]

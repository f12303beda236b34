"""The audit log as CSV, for the page and the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator

from django.db.models import QuerySet

from people import csv_out
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
_AT_ONCE = 500


def write(entries: QuerySet[AuditEntry]) -> Iterator[str]:
    """CSV in chunks, in the order of the entries."""
    found = entries.select_related("actor", "seal").iterator(chunk_size=_AT_ONCE)
    return csv_out.write(COLUMNS, map(_cells, found))


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

"""Webhooks: what was asked for at the submit, delivered when its search or bulk has ended.

Signed as the vendor signs: HMAC-SHA1 with the API secret over path and time stamp, both in the body. There are no retries:
the vendor states none. Switches deliver twice, out of order, late, or not at all.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import random
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from .wire import format_item

TIMEOUT_S: Final = 5.0
ITEM, BULK_DONE = "item", "bulk_done"
_CERTAINTIES: Final = {
    "verySure": ("ultra_sure", "very_sure"),
    "sure": ("sure",),
    "probable": ("probable",),
    "undeliverable": ("undeliverable",),
}


@dataclass(frozen=True)
class Wish:
    """A call that was asked for: its address, and the search or file that it tells of."""

    url: str
    kind: str
    subject: str
    includes_results: bool = False


def note(db: sqlite3.Connection, account_id: int, wishes: Sequence[Wish]) -> None:
    """Write wishes into the open transaction."""
    db.executemany(
        "INSERT INTO hooks (account_id, url, kind, subject, includes_results) VALUES (?, ?, ?, ?, ?)",
        [(account_id, wish.url, wish.kind, wish.subject, int(wish.includes_results)) for wish in wishes],
    )


def due(db: sqlite3.Connection, before_ms: int, limit: int) -> list[sqlite3.Row]:
    """Wishes whose subject had ended before wall time `before_ms`, oldest first."""
    return db.execute(
        "SELECT h.*, a.user_id FROM hooks h JOIN accounts a ON a.id = h.account_id WHERE h.is_sent = 0 AND ("
        " (h.kind = 'item' AND EXISTS (SELECT 1 FROM searches s WHERE s.id = h.subject AND s.status IS NOT NULL"
        "   AND s.modified_ms <= ?))"
        " OR (h.kind = 'bulk_done' AND EXISTS (SELECT 1 FROM files f WHERE f.id = h.subject AND f.modified_ms <= ?"
        "   AND f.done + f.bad_input + f.credits_missing + f.aborted = f.total)))"
        " ORDER BY h.id LIMIT ?",
        (before_ms, before_ms, limit),
    ).fetchall()


def mark_sent(db: sqlite3.Connection, ids: Sequence[int]) -> None:
    db.executemany("UPDATE hooks SET is_sent = 1 WHERE id = ?", [(number,) for number in ids])


def payload(db: sqlite3.Connection, hook: sqlite3.Row, now_ms: int) -> dict[str, Any]:
    """The `data` of a call."""
    user_id = hook["user_id"]
    if hook["kind"] == ITEM:
        row = db.execute("SELECT * FROM searches WHERE id = ?", (hook["subject"],)).fetchone()
        return format_item(row, user_id, now_ms)
    file = db.execute("SELECT * FROM files WHERE id = ?", (hook["subject"],)).fetchone()
    rows = db.execute(
        "SELECT * FROM searches WHERE file_id = ? ORDER BY position", (hook["subject"],)
    ).fetchall()
    items = [format_item(row, user_id, now_ms) for row in rows]
    data = {
        "file": file["id"],
        "total": file["total"],
        "done": file["done"],
        "found": file["found"],
        "aborted": file["aborted"],
        "insufficientCredits": file["credits_missing"],
        "certainties": _count_certainties(items),
    }
    return {**data, "results": items} if hook["includes_results"] else data


def _count_certainties(items: Sequence[dict[str, Any]]) -> dict[str, int]:
    counts = dict.fromkeys(_CERTAINTIES, 0)
    for item in items:
        emails = (item.get("results") or {}).get("emails") or []
        best = emails[0]["certainty"].lower() if emails else ""
        for name, words in _CERTAINTIES.items():
            counts[name] += best in words
    return counts


def sign(api_secret: str, path: str, timestamp: str) -> str:
    """Lower-case hex HMAC-SHA1 over path and time stamp in lower case; no method, unlike requests."""
    text = f"{path}{timestamp}".lower()
    return hmac.new(api_secret.encode(), text.encode(), hashlib.sha1).hexdigest()


def envelope(api_secret: str, url: str, data: dict[str, Any]) -> bytes:
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    signature = sign(api_secret, urlsplit(url).path or "/", stamp)
    return json.dumps({"signature": signature, "timestamp": stamp, "data": data}).encode()


def deliver(url: str, body: bytes) -> int:
    """POST the body; the HTTP status, 0 when nobody answered."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return 0


def arrange(hooks: Sequence[sqlite3.Row], *, is_duplicated: bool, is_shuffled: bool) -> list[sqlite3.Row]:
    """The order of delivery."""
    wanted = [hook for hook in hooks for _ in range(2 if is_duplicated else 1)]
    if is_shuffled:
        random.Random(len(wanted)).shuffle(wanted)
    return wanted

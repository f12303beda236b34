"""Answers on their way out: JSON replies, and rows in the vendor's layout."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .catalogue import IN_PROGRESS, NONE, SCHEDULED
from .listing import Page


@dataclass(frozen=True)
class Reply:
    """One HTTP answer. `is_accepted` means that the call did what it was asked to."""

    status: int
    body: bytes
    is_accepted: bool = False
    content_type: str = "application/json; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


def make_reply(status: int, content: dict[str, Any], **headers: str) -> Reply:
    is_accepted = status == 200 and content.get("success") is not False
    return Reply(status, json.dumps(content).encode(), is_accepted, headers=headers)


def refuse(errors: list[dict[str, str]]) -> Reply:
    """A refusal as the vendor sends it: dressed as HTTP 200."""
    return make_reply(200, {"success": False, "validationErrors": errors})


def format_ms(ms: int) -> str:
    """Milliseconds since 1970 as ISO 8601 in UTC with milliseconds and `Z`."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_item(row: sqlite3.Row, user_id: str, now_ms: int) -> dict[str, Any]:
    """A search as it stands at sandbox time `now_ms`; what has not ended has empty results."""
    item: dict[str, Any] = {
        "_id": row["id"],
        "name": row["name"],
        "user": user_id,
        "status": row["status"] or _pending_status(row, now_ms),
        "order": row["position"],
        "results": {},
        "userData": {"externalId": row["external_id"], "webhookUrl": row["webhook_url"]},
        "system": {"createdAt": format_ms(row["created_ms"]), "modifiedAt": format_ms(row["modified_ms"])},
    }
    if row["file_id"] is not None:
        item["file"] = row["file_id"]
    if row["status"] is not None:
        if row["results"] is None:
            del item["results"]
        else:
            item["results"] = json.loads(row["results"])
    return item


def _pending_status(row: sqlite3.Row, now_ms: int) -> str:
    if now_ms < row["scheduled_at_ms"]:
        return NONE
    return SCHEDULED if now_ms < row["started_at_ms"] else IN_PROGRESS


def format_file(row: sqlite3.Row) -> dict[str, Any]:
    in_progress = row["total"] - row["done"] - row["bad_input"] - row["credits_missing"] - row["aborted"]
    return {
        "file": row["id"],
        "name": row["name"],
        "task": row["task"],
        "total": row["total"],
        "done": row["done"],
        "found": row["found"],
        "in-progress": in_progress,
        "bad-input": row["bad_input"],
        "credits-missing": row["credits_missing"],
        "aborted": row["aborted"],
        "finished": in_progress == 0,
        "generationInProgress": False,
        "exported": False,
        "system": {"createdAt": format_ms(row["created_ms"]), "modifiedAt": format_ms(row["modified_ms"])},
    }


def format_sorts(page: Page) -> list[list[int]]:
    """The sort keys of a page's first and last row; nothing for an empty page."""
    if not page.rows:
        return []
    return [[row[column] for column in page.order.columns] for row in (page.rows[0], page.rows[-1])]

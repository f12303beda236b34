"""Accepted searches on their way into the memory: what they will find and when is settled here."""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

from .catalogue import Task
from .outcomes import Outcome, decide
from .schedule import Timing, time_bulk_row, time_single

INDIVIDUAL: Final = "__icypeas__individual"


@dataclass(frozen=True)
class NewSearch:
    """One row for table `searches`; the fields are its columns.

    `needed_micro` is what the account must hold for the search to run, `charge_micro` what it will cost then.
    """

    id: str
    file_id: str | None
    name: str
    task: str
    position: int
    sort_key: int
    inputs: str
    external_id: str
    webhook_url: str
    created_ms: int
    modified_ms: int
    accepted_at_ms: int
    scheduled_at_ms: int
    started_at_ms: int
    ready_at_ms: int | None
    planned_status: str
    results: str | None
    needed_micro: int
    charge_micro: int


def new_id() -> str:
    """Twenty characters of A-Z, a-z, 0-9, `_` and `-`."""
    return secrets.token_urlsafe(15)


def prepare_single(
    task: Task, cells: Sequence[str], *, external_id: str, webhook_url: str, now_ms: int, wall: int
) -> NewSearch:
    """A single search that is accepted at sandbox time `now_ms` and wall time `wall`."""
    outcome = decide(task, cells)
    timing = time_single(outcome.fraction, is_slow=outcome.is_slow, is_stuck=outcome.is_stuck)
    return _prepare(
        task,
        cells,
        outcome,
        timing,
        file_id=None,
        name=INDIVIDUAL,
        position=0,
        sort_key=0,
        external_id=external_id,
        webhook_url=webhook_url,
        now_ms=now_ms,
        wall=wall,
    )


def prepare_bulk(
    task: Task,
    rows: Sequence[Sequence[str]],
    *,
    file_id: str,
    name: str,
    external_ids: Sequence[str],
    webhook_url: str,
    is_shuffled: bool,
    now_ms: int,
    wall: int,
) -> list[NewSearch]:
    """The rows of a bulk that is accepted at sandbox time `now_ms` and wall time `wall`."""
    searches = []
    for position, (cells, external_id) in enumerate(zip(rows, external_ids, strict=True)):
        outcome = decide(task, cells)
        timing = time_bulk_row(
            position, len(rows), outcome.fraction, is_slow=outcome.is_slow, is_stuck=outcome.is_stuck
        )
        search = _prepare(
            task,
            cells,
            outcome,
            timing,
            file_id=file_id,
            name=name,
            position=position,
            sort_key=_shuffle_key(name, position) if is_shuffled else position,
            external_id=external_id,
            webhook_url=webhook_url,
            now_ms=now_ms,
            wall=wall,
        )
        searches.append(search)
    return searches


def _prepare(
    task: Task,
    cells: Sequence[str],
    outcome: Outcome,
    timing: Timing,
    *,
    file_id: str | None,
    name: str,
    position: int,
    sort_key: int,
    external_id: str,
    webhook_url: str,
    now_ms: int,
    wall: int,
) -> NewSearch:
    return NewSearch(
        id=new_id(),
        file_id=file_id,
        name=name,
        task=task.name,
        position=position,
        sort_key=sort_key,
        inputs=json.dumps(list(cells)),
        external_id=external_id,
        webhook_url=webhook_url,
        created_ms=wall,
        modified_ms=wall,
        accepted_at_ms=now_ms,
        scheduled_at_ms=now_ms + timing.scheduled_ms,
        started_at_ms=now_ms + timing.started_ms,
        ready_at_ms=None if timing.ready_ms is None else now_ms + timing.ready_ms,
        planned_status=outcome.status,
        results=None if outcome.results is None else json.dumps(outcome.results),
        needed_micro=task.price_micro if outcome.needs_funds else 0,
        charge_micro=task.price_micro if outcome.is_charged else 0,
    )


def insert(db: sqlite3.Connection, account_id: int, searches: Sequence[NewSearch]) -> None:
    """Write the searches of one account into the open transaction."""
    columns = [field.name for field in fields(NewSearch)]
    db.executemany(
        f"INSERT INTO searches (account_id, {', '.join(columns)}) VALUES (?{', ?' * len(columns)})",
        [(account_id, *(getattr(search, column) for column in columns)) for search in searches],
    )


def _shuffle_key(name: str, position: int) -> int:
    """A number that scatters the rows of a bulk, the same each time for the same name."""
    digest = hashlib.blake2b(f"{name}\x1f{position}".encode(), digest_size=6).digest()
    return int.from_bytes(digest)

"""Pages of long listings, read onwards and backwards from the sort key of a row."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Order:
    """How a listing is sorted: columns that make a unique key together, all rising or all falling."""

    columns: tuple[str, ...]
    is_falling: bool = False


@dataclass(frozen=True)
class Cursor:
    """Where a page begins: after (`is_forward`) or before the row with this sort key."""

    key: tuple[int, ...]
    is_forward: bool


@dataclass(frozen=True)
class Page:
    """Rows of one page in listing order, their sort key's columns, and how many rows the whole listing has."""

    rows: list[sqlite3.Row]
    order: Order
    total: int


FILE_ORDER: Final = Order(("created_ms",), is_falling=True)
SINGLES_ORDER: Final = Order(("created_ms", "seq"), is_falling=True)
FILE_ROWS_ORDER: Final = Order(("sort_key", "position"))
BULK_ROWS_ORDER: Final = Order(("created_ms", "position", "seq"))


def select_page(
    db: sqlite3.Connection,
    table: str,
    where: str,
    values: Sequence[Any],
    order: Order,
    limit: int,
    cursor: Cursor | None,
) -> Page:
    """One page of a table's rows that meet `where`, a condition of ours with `?` for each of `values`."""
    total = int(db.execute(f"SELECT COUNT(*) FROM {table} WHERE {where}", values).fetchone()[0])
    # Reading backwards turns comparison and direction round; the rows are turned back below.
    is_backward = cursor is not None and not cursor.is_forward
    is_falling = order.is_falling != is_backward
    columns = ", ".join(order.columns)
    bounds: tuple[int, ...] = ()
    if cursor is not None:
        where += f" AND ({columns}) {'<' if is_falling else '>'} ({', '.join('?' * len(cursor.key))})"
        bounds = cursor.key
    direction = " DESC" if is_falling else ""
    rows = db.execute(
        f"SELECT * FROM {table} WHERE {where}"
        f" ORDER BY {', '.join(column + direction for column in order.columns)} LIMIT ?",
        [*values, *bounds, limit],
    ).fetchall()
    return Page(rows[::-1] if is_backward else rows, order, total)

"""The sandbox's memory: one SQLite file that survives restarts and kills.

Every public method works under one lock, and writes in one transaction. Tables and units: `schema`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from . import hooks, intake
from .accounts import Account
from .catalogue import Task, to_micro
from .clock import Clock, ClockReading, wall_ms
from .listing import (
    BULK_ROWS_ORDER,
    FILE_ORDER,
    FILE_ROWS_ORDER,
    SINGLES_ORDER,
    Cursor,
    Page,
    select_page,
)
from .schema import SCHEMA, TABLES
from .settling import settle_rows

_SETTLED_AT_ONCE: Final = 500


class OutOfCreditsError(Exception):
    """The account cannot pay for every row of the bulk; nothing was created."""


class Store:
    """Accounts, bulks, searches and charges. `is_broke` makes every account look empty."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "sandbox.sqlite3"
        # Made before SQLite does, so that the file and its companions are never open to others.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(SCHEMA)
        self.is_broke = False

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # Clock and accounts

    def read_clock(self) -> ClockReading | None:
        with self._lock:
            row = self._db.execute("SELECT value FROM meta WHERE name = 'clock'").fetchone()
        return ClockReading(**json.loads(row["value"])) if row else None

    def save_clock(self, clock: Clock) -> None:
        reading = clock.reading()
        value = json.dumps(
            {"sandbox_ms": reading.sandbox_ms, "wall_ms": reading.wall_ms, "speed": reading.speed}
        )
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('clock', ?)", (value,))

    def open_accounts(self, accounts: Sequence[Account]) -> None:
        """Add new accounts with their first credits; known ones keep their balance and get the secret's new hash."""
        with self._transaction() as db:
            for account in accounts:
                micro = to_micro(account.credits)
                db.execute(
                    "INSERT INTO accounts (user_id, secret_hash, email, granted_micro, balance_micro)"
                    " VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT (user_id) DO UPDATE SET secret_hash = excluded.secret_hash, email = excluded.email",
                    (account.user_id, account.secret_hash, account.email, micro, micro),
                )

    def reset(self, accounts: Sequence[Account]) -> None:
        """Forget every bulk, search and charge, and give the accounts their first credits again."""
        with self._lock:
            self._db.executescript("".join(f"DROP TABLE {table};" for table in TABLES) + SCHEMA)
            self.open_accounts(accounts)

    def list_accounts(self) -> list[sqlite3.Row]:
        """Accounts with what they were given, hold and were charged, in millionths of a credit."""
        with self._lock:
            return self._db.execute(
                "SELECT a.user_id, a.email, a.granted_micro, a.balance_micro,"
                " (SELECT COALESCE(SUM(c.credits_micro), 0) FROM charges c WHERE c.account_id = a.id) AS charged_micro"
                " FROM accounts a ORDER BY a.id"
            ).fetchall()

    def read_balance(self, user_id: str) -> int:
        """Millionths of a credit that the account can spend."""
        with self._lock:
            return self._balance(self._account_id(user_id))

    def set_balance(self, user_id: str, micro: int) -> None:
        """Make the balance what is wanted, as a purchase or a correction would."""
        with self._transaction() as db:
            db.execute(
                "UPDATE accounts SET granted_micro = granted_micro + ? - balance_micro, balance_micro = ?"
                " WHERE user_id = ?",
                (micro, micro, user_id),
            )

    def _account_id(self, user_id: str) -> int:
        row = self._db.execute("SELECT id FROM accounts WHERE user_id = ?", (user_id,)).fetchone()
        return int(row["id"])

    def _balance(self, account_id: int) -> int:
        if self.is_broke:
            return 0
        row = self._db.execute("SELECT balance_micro FROM accounts WHERE id = ?", (account_id,)).fetchone()
        return int(row["balance_micro"])

    def _balances(self, rows: Sequence[sqlite3.Row]) -> dict[int, int]:
        return {account_id: self._balance(account_id) for account_id in {row["account_id"] for row in rows}}

    # Submitting

    def add_single(
        self,
        user_id: str,
        task: Task,
        cells: Sequence[str],
        *,
        external_id: str,
        webhook_url: str,
        now_ms: int,
    ) -> str:
        """Accept one search at sandbox time `now_ms`; its id."""
        search = intake.prepare_single(
            task, cells, external_id=external_id, webhook_url=webhook_url, now_ms=now_ms, wall=wall_ms()
        )
        with self._transaction() as db:
            intake.insert(db, self._account_id(user_id), [search])
        return search.id

    def add_bulk(
        self,
        user_id: str,
        task: Task,
        rows: Sequence[Sequence[str]],
        *,
        name: str,
        external_ids: Sequence[str],
        webhook_url: str,
        is_shuffled: bool,
        needed_micro: int,
        now_ms: int,
        wall: int | None = None,
    ) -> str:
        """Accept a bulk at sandbox time `now_ms`; its file id. `wall` is another wall time than now.

        Raises OutOfCreditsError, creating nothing, when the account holds less than `needed_micro`.
        """
        file_id = intake.new_id()
        created = wall_ms() if wall is None else wall
        searches = intake.prepare_bulk(
            task,
            rows,
            file_id=file_id,
            name=name,
            external_ids=external_ids,
            webhook_url=webhook_url,
            is_shuffled=is_shuffled,
            now_ms=now_ms,
            wall=created,
        )
        with self._transaction() as db:
            account_id = self._account_id(user_id)
            if self._balance(account_id) < needed_micro:
                raise OutOfCreditsError
            # The listing's sort key is the time alone, as the vendor's is: so no two bulks may share it.
            while db.execute(
                "SELECT 1 FROM files WHERE account_id = ? AND created_ms = ?", (account_id, created)
            ).fetchone():
                created += 1
            db.execute(
                "INSERT INTO files (id, account_id, name, task, total, created_ms, modified_ms, accepted_at_ms)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (file_id, account_id, name, task.name, len(rows), created, created, now_ms),
            )
            intake.insert(db, account_id, searches)
        return file_id

    def wish(self, user_id: str, wishes: Sequence[hooks.Wish]) -> None:
        """Note calls that are wanted when something ends."""
        if wishes:
            with self._transaction() as db:
                hooks.note(db, self._account_id(user_id), wishes)

    def take_hooks(self, before_ms: int, limit: int) -> list[tuple[sqlite3.Row, dict[str, Any]]]:
        """Calls that are due with their data; each is handed out once."""
        with self._transaction() as db:
            found = hooks.due(db, before_ms, limit)
            hooks.mark_sent(db, [row["id"] for row in found])
            return [(row, hooks.payload(db, row, before_ms)) for row in found]

    def search_ids(self, file_id: str) -> list[str]:
        """Ids of a bulk's rows in their order."""
        with self._lock:
            rows = self._db.execute("SELECT id FROM searches WHERE file_id = ? ORDER BY position", (file_id,))
            return [row["id"] for row in rows]

    def charge_directly(
        self, user_id: str, kind: str, costs: Sequence[tuple[str, str, int]]
    ) -> frozenset[str]:
        """Book what rows cost that are answered in their call, in their order: (search id, input, millionths).

        The ids of those that the account could not pay for; nothing is booked for them.
        """
        unpaid = set()
        with self._transaction() as db:
            account_id = self._account_id(user_id)
            for search_id, text, micro in costs:
                if not micro:
                    continue
                if self._balance(account_id) < micro:
                    unpaid.add(search_id)
                    continue
                db.execute(
                    "INSERT INTO charges (at_ms, account_id, kind, search_id, external_id, input, credits_micro)"
                    " VALUES (?, ?, ?, ?, '', ?, ?)",
                    (wall_ms(), account_id, kind, search_id, text, micro),
                )
                db.execute(
                    "UPDATE accounts SET balance_micro = balance_micro - ? WHERE id = ?", (micro, account_id)
                )
        return frozenset(unpaid)

    # Settling

    def settle(self, now_ms: int) -> int:
        """Give every search that is ready at sandbox time `now_ms` its last status and book what it costs.

        The number of searches that ended. The lock is released between slices, so that others are served.
        """
        ended = 0
        while True:
            with self._lock:
                slice_ = self._due(now_ms)
                if not slice_:
                    return ended
                with self._transaction() as db:
                    settle_rows(db, slice_, self._balances(slice_), wall=wall_ms())
            ended += len(slice_)
            if len(slice_) < _SETTLED_AT_ONCE:
                return ended

    def _due(self, now_ms: int) -> list[sqlite3.Row]:
        return self._db.execute(
            "SELECT * FROM searches WHERE status IS NULL AND ready_at_ms <= ? ORDER BY ready_at_ms, seq LIMIT ?",
            (now_ms, _SETTLED_AT_ONCE),
        ).fetchall()

    def add_history(
        self,
        user_id: str,
        task: Task,
        rows: Sequence[Sequence[str]],
        *,
        name: str,
        external_ids: Sequence[str],
        is_shuffled: bool,
        now_ms: int,
        wall: int,
    ) -> str:
        """Write a finished bulk as if it had been accepted at wall time `wall`, charges included; its file id."""
        with self._lock:
            file_id = self.add_bulk(
                user_id,
                task,
                rows,
                name=name,
                external_ids=external_ids,
                webhook_url="",
                is_shuffled=is_shuffled,
                needed_micro=0,
                now_ms=now_ms,
                wall=wall,
            )
            self._settle_file(file_id, accepted_at_ms=now_ms, wall=wall)
        return file_id

    def _settle_file(self, file_id: str, *, accepted_at_ms: int, wall: int) -> None:
        with self._transaction() as db:
            rows = db.execute(
                "SELECT * FROM searches WHERE file_id = ? AND status IS NULL ORDER BY ready_at_ms, seq",
                (file_id,),
            ).fetchall()
            settle_rows(db, rows, self._balances(rows), wall=wall, accepted_at_ms=accepted_at_ms)

    # Reading

    def read_search(self, user_id: str, search_id: str, *, visible_ms: int) -> sqlite3.Row | None:
        """One search; None when it is unknown, another account's, or accepted after sandbox time `visible_ms`."""
        with self._lock:
            row: sqlite3.Row | None = self._db.execute(
                "SELECT * FROM searches WHERE id = ? AND account_id = ? AND accepted_at_ms <= ?",
                (search_id, self._account_id(user_id), visible_ms),
            ).fetchone()
            return row

    def read_file(self, user_id: str, file_id: str) -> sqlite3.Row | None:
        with self._lock:
            row: sqlite3.Row | None = self._db.execute(
                "SELECT * FROM files WHERE id = ? AND account_id = ?", (file_id, self._account_id(user_id))
            ).fetchone()
            return row

    def find_file(self, user_id: str, name: str) -> str | None:
        """The id of the newest bulk of that name."""
        with self._lock:
            row = self._db.execute(
                "SELECT id FROM files WHERE account_id = ? AND name = ? ORDER BY created_ms DESC",
                (self._account_id(user_id), name),
            ).fetchone()
            return row["id"] if row else None

    def list_singles(
        self, user_id: str, *, task: str | None, limit: int, cursor: Cursor | None, visible_ms: int
    ) -> Page:
        """Single searches, newest first."""
        with self._lock:
            where, values = "file_id IS NULL AND account_id = ?", [self._account_id(user_id)]
            return select_page(
                self._db,
                "searches",
                f"{where} AND accepted_at_ms <= ?" + (" AND task = ?" if task else ""),
                [*values, visible_ms, *([task] if task else [])],
                SINGLES_ORDER,
                limit,
                cursor,
            )

    def list_bulk_rows(self, user_id: str, *, limit: int, cursor: Cursor | None, visible_ms: int) -> Page:
        """Rows of every bulk, oldest bulk first."""
        with self._lock:
            return select_page(
                self._db,
                "searches",
                "file_id IS NOT NULL AND account_id = ? AND accepted_at_ms <= ?",
                [self._account_id(user_id), visible_ms],
                BULK_ROWS_ORDER,
                limit,
                cursor,
            )

    def list_file_rows(self, file_id: str, *, limit: int, cursor: Cursor | None) -> Page:
        """Rows of one bulk in its own, stable order: the rows' or a shuffled one."""
        with self._lock:
            return select_page(
                self._db,
                "searches",
                "file_id = ? AND file_id IS NOT NULL",
                [file_id],
                FILE_ROWS_ORDER,
                limit,
                cursor,
            )

    def list_files(
        self,
        user_id: str,
        *,
        file_id: str | None,
        is_finished: bool | None,
        limit: int,
        cursor: Cursor | None,
        visible_ms: int,
    ) -> Page:
        """Bulks, newest first."""
        where = "account_id = ? AND accepted_at_ms <= ?"
        if file_id is not None:
            where += " AND id = ?"
        if is_finished is not None:
            where += " AND done + bad_input + credits_missing + aborted" + (
                " = total" if is_finished else " < total"
            )
        with self._lock:
            values = [self._account_id(user_id), visible_ms, *([] if file_id is None else [file_id])]
            return select_page(self._db, "files", where, values, FILE_ORDER, limit, cursor)

    def list_charges(self, *, after: int, limit: int) -> list[sqlite3.Row]:
        """Charges with ids above `after`, in the order in which they were booked."""
        with self._lock:
            return self._db.execute(
                "SELECT c.*, a.user_id FROM charges c JOIN accounts a ON a.id = c.account_id"
                " WHERE c.id > ? ORDER BY c.id LIMIT ?",
                (after, limit),
            ).fetchall()

    def costs_of_file(self, file_id: str) -> dict[str, int]:
        """Millionths of a credit that were charged, by search id."""
        with self._lock:
            rows = self._db.execute(
                "SELECT search_id, credits_micro FROM charges WHERE file_id = ?", (file_id,)
            ).fetchall()
        return {row["search_id"]: row["credits_micro"] for row in rows}

    def list_all_files(self) -> list[sqlite3.Row]:
        """Bulks of every account, oldest first, each with its `user_id`."""
        with self._lock:
            return self._db.execute(
                "SELECT f.*, a.user_id FROM files f JOIN accounts a ON a.id = f.account_id ORDER BY f.created_ms"
            ).fetchall()

    def count_singles(self) -> int:
        with self._lock:
            row = self._db.execute("SELECT COUNT(*) FROM searches WHERE file_id IS NULL").fetchone()
            return int(row[0])

"""The end of searches: their last status, their charge, and their bulk's counters."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from .catalogue import ABORTED, BAD_INPUT, DEBITED, FOUND, INSUFFICIENT_FUNDS


def settle_rows(
    db: sqlite3.Connection,
    rows: Sequence[sqlite3.Row],
    balances: dict[int, int],
    *,
    wall: int,
    accepted_at_ms: int | None = None,
) -> None:
    """End these searches at wall time `wall` and book what they cost, inside the open transaction.

    `balances` holds what each of their accounts can spend; a search that cannot be paid for ends unpaid. With
    `accepted_at_ms`, the sandbox time at which they were accepted, `wall` is that moment and each ends in its time.
    """
    spent: dict[int, int] = {}
    counters: dict[str, dict[str, int]] = {}
    updates, charges = [], []
    for row in rows:
        account_id = row["account_id"]
        moment = wall
        if accepted_at_ms is not None and row["ready_at_ms"] is not None:
            moment = wall + row["ready_at_ms"] - accepted_at_ms
        status, results, charge = row["planned_status"], row["results"], row["charge_micro"]
        if balances[account_id] < row["needed_micro"]:
            status, results, charge = INSUFFICIENT_FUNDS, "{}", 0
        updates.append((status, results, moment, row["seq"]))
        if charge:
            balances[account_id] -= charge
            spent[account_id] = spent.get(account_id, 0) + charge
            charges.append(
                (
                    moment,
                    account_id,
                    row["task"],
                    row["file_id"],
                    row["id"],
                    row["external_id"],
                    row["inputs"],
                    charge,
                )
            )
        if row["file_id"] is not None:
            _count(counters.setdefault(row["file_id"], {"modified_ms": moment}), status, moment)
    db.executemany("UPDATE searches SET status = ?, results = ?, modified_ms = ? WHERE seq = ?", updates)
    db.executemany(
        "INSERT INTO charges (at_ms, account_id, kind, file_id, search_id, external_id, input, credits_micro)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        charges,
    )
    for account_id, micro in spent.items():
        db.execute("UPDATE accounts SET balance_micro = balance_micro - ? WHERE id = ?", (micro, account_id))
    for file_id, counts in counters.items():
        db.execute(
            "UPDATE files SET done = done + :done, found = found + :found, bad_input = bad_input + :bad_input,"
            " credits_missing = credits_missing + :credits_missing, aborted = aborted + :aborted,"
            " modified_ms = MAX(modified_ms, :modified_ms) WHERE id = :id",
            {
                "done": 0,
                "found": 0,
                "bad_input": 0,
                "credits_missing": 0,
                "aborted": 0,
                **counts,
                "id": file_id,
            },
        )


def _count(counts: dict[str, int], status: str, moment: int) -> None:
    """Count one ended row of a bulk. Bad, unpaid and aborted rows stand outside `done`, as in the vendor's sample."""
    column = {BAD_INPUT: "bad_input", INSUFFICIENT_FUNDS: "credits_missing", ABORTED: "aborted"}.get(
        status, "done"
    )
    counts[column] = counts.get(column, 0) + 1
    if status in (FOUND, DEBITED):
        counts["found"] = counts.get("found", 0) + 1
    counts["modified_ms"] = max(counts["modified_ms"], moment)

"""Tables of the sandbox's memory.

Times ending in `_ms` are wall time, those ending in `_at_ms` in `searches` and `files` are sandbox time (see
`clock`); money is in millionths of a credit. The schema itself keeps that a search is charged at most once and
that charges are never changed or removed.
"""

from __future__ import annotations

from typing import Final

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS accounts (
    id INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    secret_hash TEXT NOT NULL,
    email TEXT NOT NULL,
    granted_micro INTEGER NOT NULL,
    balance_micro INTEGER NOT NULL CHECK (balance_micro >= 0)
);
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY,
    account_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    task TEXT NOT NULL,
    total INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    found INTEGER NOT NULL DEFAULT 0,
    bad_input INTEGER NOT NULL DEFAULT 0,
    credits_missing INTEGER NOT NULL DEFAULT 0,
    aborted INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    UNIQUE (account_id, created_ms)
);
CREATE INDEX IF NOT EXISTS files_by_name ON files (account_id, name);
CREATE TABLE IF NOT EXISTS searches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    account_id INTEGER NOT NULL,
    file_id TEXT,
    name TEXT NOT NULL,
    task TEXT NOT NULL,
    position INTEGER NOT NULL,
    sort_key INTEGER NOT NULL,
    inputs TEXT NOT NULL,
    external_id TEXT NOT NULL,
    webhook_url TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    scheduled_at_ms INTEGER NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ready_at_ms INTEGER,
    planned_status TEXT NOT NULL,
    results TEXT,
    needed_micro INTEGER NOT NULL,
    charge_micro INTEGER NOT NULL,
    status TEXT
);
CREATE INDEX IF NOT EXISTS searches_due ON searches (ready_at_ms) WHERE status IS NULL;
CREATE INDEX IF NOT EXISTS searches_of_file ON searches (file_id, sort_key, position) WHERE file_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS singles ON searches (account_id, created_ms, seq) WHERE file_id IS NULL;
CREATE INDEX IF NOT EXISTS bulk_rows ON searches (account_id, created_ms, position, seq) WHERE file_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS charges (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    account_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    file_id TEXT,
    search_id TEXT NOT NULL UNIQUE,
    external_id TEXT NOT NULL,
    input TEXT NOT NULL,
    credits_micro INTEGER NOT NULL CHECK (credits_micro > 0)
);
CREATE INDEX IF NOT EXISTS charges_of_account ON charges (account_id);
CREATE INDEX IF NOT EXISTS charges_of_file ON charges (file_id);
CREATE TABLE IF NOT EXISTS hooks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER NOT NULL,
    url TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    includes_results INTEGER NOT NULL,
    is_sent INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS hooks_open ON hooks (id) WHERE is_sent = 0;
CREATE TRIGGER IF NOT EXISTS charges_stay BEFORE UPDATE ON charges
    BEGIN SELECT RAISE(ABORT, 'charges are append-only'); END;
CREATE TRIGGER IF NOT EXISTS charges_remain BEFORE DELETE ON charges
    BEGIN SELECT RAISE(ABORT, 'charges are append-only'); END;
"""
# In the order in which they can be dropped.
TABLES: Final = ("hooks", "charges", "searches", "files", "accounts")

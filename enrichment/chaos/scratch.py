"""A scratch installation: own database, broker and sandbox, all gone afterwards; the configured ones are never touched.

A command starts itself a second time inside of it, so that it works with the product's own models and services.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from config.env import BASE_DIR
from enrichment.chaos.scene import end_processes

INSIDE: Final = "CHAOS_FOLDER"  # names the folder of the installation that a command runs in
NOT_INHERITED = (
    "ICYPEAS_",
    "FINGERPRINT_PEPPER",
    "VAULT_",
    "AWS_",
    "DATABASE_URL",
    "CELERY_",
    "ENVIRONMENTS",
    "SECRETS_DIR",
)


def run_inside(
    options: Mapping[str, Any],
    more: Sequence[str] = (),
    *,
    is_read: bool = False,
    environment: Mapping[str, str] | None = None,
) -> bytes:
    """This command again, inside a scratch installation; its output when it is to be read. Exits with its status when it fails."""
    with scratch_environment(options) as scratch:
        command = [sys.executable, *sys.argv, *more, *(["--json"] if is_read else [])]
        inside = subprocess.Popen(
            command,
            cwd=BASE_DIR,
            env=scratch | dict(environment or {}),
            stdout=subprocess.PIPE if is_read else None,
        )
        try:
            output, _ = inside.communicate()
        finally:  # interrupted, or killed itself: the processes of the scene end before their folder goes
            inside.terminate()
            inside.wait()
            end_processes(Path(scratch[INSIDE]))
    if inside.returncode:
        sys.exit(inside.returncode)
    return output or b""


@contextmanager
def scratch_environment(options: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The environment of an installation of its own, which is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="enrichment-desk-chaos-"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    environment = {
        **kept,
        INSIDE: str(folder),
        "DATA_DIR": str(folder / "var"),
        "DJANGO_SETTINGS_MODULE": "config.settings.local",
        "PROCESS_ROLE": "cli",
        "LOG_LEVEL": "WARNING",
        "BATCH_ROWS": str(options["batch_rows"]),
        "CELERY_BROKER_URL": options["broker_url"] or "embedded://",
        "ICYPEAS_BASE_URL": f"http://127.0.0.1:{free_port()}/api",
        "ICYPEAS_RATE_FACTOR": str(options["speed"]),
    }
    try:
        with scratch_database(options["database_url"]) as database_url:
            yield environment | ({"DATABASE_URL": database_url} if database_url else {})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch_database(server_url: str) -> Iterator[str]:
    """The URL of a new database on a PostgreSQL server, dropped afterwards; an empty text without a server."""
    if not server_url:
        yield ""
        return
    url = urlunsplit(urlsplit(server_url)._replace(path=f"/chaos_{secrets.token_hex(6)}"))
    order_server(url, 'CREATE DATABASE "{name}"')
    try:
        yield url
    finally:
        drop_database(url)


def drop_database(url: str) -> None:
    order_server(url, 'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def order_server(url: str, order: str) -> None:
    """Tell the server of the database `url` something about that database."""
    import psycopg  # only here: an installation on SQLite need not reach a server's library

    parts = urlsplit(url)
    admin = urlunsplit(parts._replace(scheme="postgresql", path="/postgres"))
    with psycopg.connect(admin, autocommit=True) as server:
        server.execute(order.format(name=parts.path.lstrip("/")).encode())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write_account(folder: Path, secret: str) -> None:
    account = {"secret": secret, "user_id": "chaos", "email": "chaos@desk.example", "credits": "1000000"}
    path = folder / "accounts.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"accounts": [account]}))

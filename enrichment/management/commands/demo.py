"""Everything on one machine: database, sandbox, web, worker and scheduler, with invented people and jobs.

The demo uses the embedded database and broker under DATA_DIR whatever else is configured, and sends to the
sandbox only. Its provider secret is drawn at the first start and reaches two processes: the sandbox (by a file)
and the worker (by its environment).
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import secrets
import shutil
import sqlite3
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from config import process_runner
from config.env import BASE_DIR
from config.process_runner import Runner, Service, ServiceError, StopRequestedError

SPEED = 10  # the sandbox's clock and limits, and so ours
SANDBOX_USER_ID = "sandbox-demo"
SANDBOX_CREDITS = "100000"
STARTED, SEEDED = "started", "seeded"

# What an installation writes into DATA_DIR. `--reset` removes these and nothing else that may lie there.
OWN_NAMES = (
    *("db.sqlite3", "db.sqlite3-wal", "db.sqlite3-shm", "db.sqlite3-journal", "secret-key"),
    *("files", "static", "broker", "worker", "sandbox", "run"),
    *("beat-schedule", "beat-schedule.db", "beat-schedule.dat", "beat-schedule.dir", "beat-schedule.bak"),
)

# Names that must not come in from the terminal: other services, and above all real secrets.
NOT_INHERITED = (
    "ICYPEAS_",
    "FINGERPRINT_PEPPER",
    "VAULT_",
    "AWS_",
    "SANDBOX_ACCOUNTS_FILE",
    "WORKER_NAME",
    "ENVIRONMENTS",
)


class Command(BaseCommand):
    help = "Start everything on this machine with demo data; Ctrl-C ends it. The second start keeps the data."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="of the web pages (default: 8000)")
        parser.add_argument("--sandbox-port", type=int, default=8100, help="of the sandbox (default: 8100)")
        parser.add_argument(
            "--reset", action="store_true", help="forget what earlier demos left, and start over"
        )
        parser.add_argument(
            "--end-with-parent", action="store_true", help="end when the process that started this one ends"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        port, sandbox_port, data_dir = options["port"], options["sandbox_port"], Path(settings.DATA_DIR)
        os.umask(0o077)  # for every process that follows
        lock = _take_lock(data_dir)
        try:
            _refuse_taken_ports(port, sandbox_port)
            _refuse_foreign_data(data_dir)
            if options["reset"] or _state(data_dir) == STARTED:
                _clear(data_dir)
            self._run(data_dir, port, sandbox_port, end_with_parent=options["end_with_parent"])
        except StopRequestedError:
            self.stdout.write("Everything has ended. The data stays; RESET=1 starts over.")
        except KeyboardInterrupt:
            raise CommandError("Stopped before anything was started.", returncode=130) from None
        except ServiceError as error:
            raise CommandError(f"{error} Everything else has been ended too.") from None
        finally:
            os.close(lock)

    def _run(self, data_dir: Path, port: int, sandbox_port: int, *, end_with_parent: bool) -> None:
        for name in ("run", "static"):
            (data_dir / name).mkdir(mode=0o700, exist_ok=True)
        secret = _sandbox_secret(data_dir)
        base = _base_environment(os.environ, data_dir, port, sandbox_port)
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        with Runner(colour=colour, end_with_parent=end_with_parent) as runner:
            python, manage = sys.executable, str(BASE_DIR / "manage.py")
            migrate = [python, manage, "migrate", "--verbosity", "0"]
            runner.run_to_end(Service("migrate", migrate, {**base, "PROCESS_ROLE": "cli"}))
            runner.start(_sandbox(base, data_dir, sandbox_port))
            if _state(data_dir) != SEEDED:
                _set_state(data_dir, STARTED)
                runner.run_to_end(
                    Service("seed", [python, manage, "seed_demo"], {**base, "PROCESS_ROLE": "cli"})
                )
                _set_state(data_dir, SEEDED)
            runner.start(_worker(base, data_dir, secret), _scheduler(base, data_dir), _web(base, port))
            runner.say(_welcome(port, sandbox_port, _log_ins(data_dir)))
            runner.wait()


def _sandbox(base: Mapping[str, str], data_dir: Path, port: int) -> Service:
    command = [sys.executable, "-m", "enrichment.providers.icypeas.sandbox", "--port", str(port)]
    command += ["--state", str(data_dir / "sandbox"), "--speed", str(SPEED)]
    command += ["--accounts", str(_accounts_file(data_dir))]
    return Service("sandbox", command, base, _answers(port))


def _web(base: Mapping[str, str], port: int) -> Service:
    command = [sys.executable, "-m", "gunicorn", "config.wsgi:application", "--bind", f"127.0.0.1:{port}"]
    command += ["--worker-class", "gthread", "--workers", "1", "--threads", "8", "--log-level", "warning"]
    command += ["--graceful-timeout", "5", "--no-control-socket"]
    return Service("web", command, {**base, "PROCESS_ROLE": "web"}, _answers(port))


def _worker(base: Mapping[str, str], data_dir: Path, secret: str) -> Service:
    ready = _ready_file(data_dir, "worker")
    # Root is common in containers, and nothing here is unpickled.
    command = [sys.executable, "-W", "ignore:You're running the worker"]
    command += ["-m", "celery", "-A", "config.celery", "--quiet", "worker", "-Q", "urgent,work"]
    command += ["--concurrency", "3", "--pool", "prefork"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    environment = {**base, "PROCESS_ROLE": "worker", "ICYPEAS_API_KEY": secret, "READY_FILE": str(ready)}
    return Service("worker", command, environment, process_runner.wait_for_file(ready))


def _scheduler(base: Mapping[str, str], data_dir: Path) -> Service:
    ready = _ready_file(data_dir, "scheduler")
    command = [sys.executable, "-m", "celery", "-A", "config.celery", "--quiet", "beat"]
    environment = {**base, "PROCESS_ROLE": "scheduler", "READY_FILE": str(ready)}
    return Service("scheduler", command, environment, process_runner.wait_for_file(ready))


def _base_environment(
    inherited: Mapping[str, str], data_dir: Path, port: int, sandbox_port: int
) -> dict[str, str]:
    """What every process of the demo gets. No secret of the person who started it, and none of the demo's own."""
    kept = {name: value for name, value in inherited.items() if not name.startswith(NOT_INHERITED)}
    return {
        **kept,
        "PYTHONUNBUFFERED": "1",
        "LOG_LEVEL": inherited.get("LOG_LEVEL", "WARNING"),  # the sweep alone would fill the terminal
        "DJANGO_SETTINGS_MODULE": os.environ["DJANGO_SETTINGS_MODULE"],
        "DATA_DIR": str(data_dir),
        "DATABASE_URL": f"sqlite:///{quote(str(data_dir / 'db.sqlite3'))}",
        "CELERY_BROKER_URL": "embedded://",
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "ICYPEAS_BASE_URL": f"http://127.0.0.1:{sandbox_port}/api",
        "ICYPEAS_RATE_FACTOR": str(SPEED),
        "SECRETS_DIR": str(_secrets_dir(data_dir)),
    }


def _take_lock(data_dir: Path) -> int:
    """Two demos in one folder would share a database and end each other's jobs; returns the descriptor to close."""
    descriptor = os.open(data_dir / "demo.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise CommandError(
            f"A demo already runs with the data in {data_dir}: end it with Ctrl-C, or choose another folder with DATA_DIR=…"
        ) from None
    return descriptor


def _refuse_taken_ports(port: int, sandbox_port: int) -> None:
    if port == sandbox_port:
        raise CommandError(f"PORT and SANDBOX_PORT are both {port}: choose two different ones.")
    for variable, number in (("PORT", port), ("SANDBOX_PORT", sandbox_port)):
        if not 1 <= number <= 65535:
            raise CommandError(f"{variable} is {number}: choose a number from 1024 to 65535.")
        if process_runner.is_port_taken(number):
            raise CommandError(
                f"Port {number} is taken by another program: end that one, "
                f"or choose another port, for example {variable}={_free_port_above(number)} in front of the command."
            )


def _free_port_above(number: int) -> int:
    candidates = range(number + 1, min(number + 50, 65536))
    return next((port for port in candidates if not process_runner.is_port_taken(port)), number + 1)


def _refuse_foreign_data(data_dir: Path) -> None:
    """Demo people have passwords that are printed: they must not appear among real ones."""
    database = data_dir / "db.sqlite3"
    if _state(data_dir) or not database.exists():
        return
    table = get_user_model()._meta.db_table
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            has_people = connection.execute(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone() is not None
    except sqlite3.Error:
        return  # no such table yet: nobody is in there
    if has_people:
        raise CommandError(
            f"{data_dir} holds an installation with people that the demo did not make: "
            "choose another folder, for example DATA_DIR=var/demo in front of the command."
        )


def _state(data_dir: Path) -> str:
    """How far the demo in this folder came: nothing, STARTED (its data is incomplete) or SEEDED."""
    path = data_dir / "demo-state"
    return path.read_text().strip() if path.exists() else ""


def _set_state(data_dir: Path, state: str) -> None:
    (data_dir / "demo-state").write_text(state + "\n")


def _clear(data_dir: Path) -> None:
    if not _state(data_dir):
        return  # no demo was ever here; what lies here is somebody else's
    for name in OWN_NAMES:
        path = data_dir / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    # Last: a reset that was cut short is then done again.
    (data_dir / "demo-state").unlink()


def _sandbox_secret(data_dir: Path) -> str:
    """The secret of the sandbox account, drawn at the first start; only this user can read its files."""
    for folder in (data_dir / "worker", _secrets_dir(data_dir)):
        folder.mkdir(mode=0o700, exist_ok=True)
    path = _secrets_dir(data_dir) / "sandbox"
    if not path.exists():
        _write_private(path, secrets.token_hex(24))
    secret = path.read_text().strip()
    account = {
        "secret": secret,
        "user_id": SANDBOX_USER_ID,
        "email": "revops@northwind.example",
        "credits": SANDBOX_CREDITS,
    }
    _write_private(_accounts_file(data_dir), json.dumps({"accounts": [account]}))
    return secret


def _write_private(path: Path, content: str) -> None:
    hidden = path.with_name(f".{path.name}.new")
    hidden.unlink(missing_ok=True)
    with os.fdopen(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    hidden.replace(path)


def _secrets_dir(data_dir: Path) -> Path:
    return data_dir / "worker" / "secrets"


def _accounts_file(data_dir: Path) -> Path:
    return data_dir / "worker" / "sandbox-accounts.json"


def _ready_file(data_dir: Path, name: str) -> Path:
    return data_dir / "run" / f"{name}.ready"


def _answers(port: int) -> Callable[[], bool]:
    """A readiness check: /healthz on this machine answers 200. No proxy of the environment takes part."""

    def is_ready() -> bool:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=2)) as connection:
            try:
                connection.request("GET", "/healthz")
                return connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                return False

    return is_ready


def _log_ins(data_dir: Path) -> list[dict[str, str]]:
    """What the seed left: [{"name", "email", "password", "role"}]."""
    path = data_dir / "worker" / "demo-logins.json"
    log_ins: list[dict[str, str]] = json.loads(path.read_text()) if path.exists() else []
    return log_ins


def _welcome(port: int, sandbox_port: int, log_ins: list[dict[str, str]]) -> str:
    columns = ("role", "name", "email", "password")
    widths = {column: max((len(entry[column]) for entry in log_ins), default=0) for column in columns}
    table = [
        "  " + "   ".join(entry[column].ljust(widths[column]) for column in columns) for entry in log_ins
    ]
    return "\n".join(
        [
            "",
            f"  Enrichment desk   http://127.0.0.1:{port}/",
            f"  Sandbox           http://127.0.0.1:{sandbox_port}/control/  (invented answers, {SPEED} times as fast)",
            "",
            *table,
            "",
            "  Ctrl-C ends everything and keeps the data; RESET=1 starts over.",
            "",
        ]
    )

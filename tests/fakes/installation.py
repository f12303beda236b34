"""A fresh installation of its own: database, broker and real worker processes, driven by the commands alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis

ROOT = Path(__file__).resolve().parents[2]
OURS = ("ICYPEAS_", "TEST_", "DATA_DIR", "DATABASE_URL", "CELERY_", "DJANGO_", "PROCESS_ROLE")


@dataclass
class Installation:
    """Processes of one installation. `secret` reaches workers only, by their environment."""

    folder: Path
    environment: dict[str, str]
    secret: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def manage(self, *arguments: str, with_secret: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; the caller looks at its status."""
        environment = {**self.environment, **({"ICYPEAS_API_KEY": self.secret} if with_secret else {})}
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )

    def make_person_and_key(self) -> None:
        """One operator, and one sandbox key `sandbox_training_revops` that a free call has proved."""
        person = {"email": "ana@x.example", "name": "Ana Duarte", "role": "operator", "team": "RevOps"}
        key = {"environment": "sandbox", "system": "training", "label": "revops", "owner": person["email"]}
        key |= {"purpose": "tests", "scopes": "all", "secret": "env:ICYPEAS_API_KEY"}
        for command, values in (("person", person), ("key", key)):
            options = [word for name, value in values.items() for word in (f"--{name}", value)]
            made = self.manage(command, "create", *options)
            assert made.returncode == 0, made.stderr
        tested = self.manage("key", "test", "sandbox_training_revops", with_secret=True)
        assert tested.returncode == 0, tested.stdout

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the installation's own database, read by `manage.py shell` in no case: straight from the file or server."""
        url = self.environment.get("DATABASE_URL", "")
        if url:
            with psycopg.connect(url, autocommit=True) as connection:
                return connection.execute(sql).fetchall()  # type: ignore[arg-type]
        import sqlite3  # only here: the other half of the tests has no such file

        with sqlite3.connect(self.folder / "var" / "db.sqlite3", timeout=20) as database:
            return database.execute(sql).fetchall()

    def start_worker(self, app: str = "config.celery") -> subprocess.Popen[bytes]:
        worker = ["worker", "-Q", "urgent,work", "--concurrency", "2", "--loglevel", "INFO"]
        return self._celery(worker, {"PROCESS_ROLE": "worker", "ICYPEAS_API_KEY": self.secret}, app=app)

    def start_scheduler(
        self, name: str = "beat-schedule", app: str = "config.celery"
    ) -> subprocess.Popen[bytes]:
        """A scheduler that keeps its times in a file of its own name, as one on another host would."""
        schedule = ["--schedule", str(self.folder / name)]
        return self._celery(["beat", "--loglevel", "INFO", *schedule], {"PROCESS_ROLE": "scheduler"}, app=app)

    def _celery(
        self, command: list[str], more: dict[str, str], *, app: str = "config.celery"
    ) -> subprocess.Popen[bytes]:
        with (self.folder / "processes.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", app, *command],
                cwd=ROOT,
                env={**self.environment, **more},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL the process and all of its children: nobody may say goodbye."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def files_with(self, text: str) -> list[str]:
        """Files of the installation (database, broker, uploads, logs) that hold `text`."""
        return [
            str(path)
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != "accounts.json" and text.encode() in path.read_bytes()
        ]


@contextmanager
def run_installation(folder: Path, *, base_url: str, secret: str, factor: int) -> Iterator[Installation]:
    """An empty, migrated installation on the services that this test run uses; every process is gone afterwards."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    environment |= {
        "DATA_DIR": str(folder / "var"),
        "DJANGO_SETTINGS_MODULE": "config.settings.local",
        "ICYPEAS_BASE_URL": base_url,
        "ICYPEAS_RATE_FACTOR": str(factor),
    }
    server, database = os.environ.get("TEST_DATABASE_URL", ""), ""
    if server:
        parts = urlsplit(server)
        database = f"desk_{uuid.uuid4().hex[:12]}"
        admin = urlunsplit(parts._replace(scheme="postgresql", path="/postgres"))
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}")  # type: ignore[call-overload]
        environment["DATABASE_URL"] = urlunsplit(parts._replace(scheme="postgresql", path=f"/{database}"))
    if os.environ.get("TEST_REDIS_URL"):
        # A database of its own on the server: another run's messages are not ours.
        environment["CELERY_BROKER_URL"] = os.environ["TEST_REDIS_URL"].rsplit("/", 1)[0] + "/9"
        with redis.Redis.from_url(environment["CELERY_BROKER_URL"]) as broker:
            broker.flushdb()  # what an earlier installation left there would be delivered to this one
    installation = Installation(folder, environment, secret)
    try:
        migrated = installation.manage("migrate", "-v0")
        assert migrated.returncode == 0, migrated.stderr
        yield installation
    finally:
        for process in installation.processes:
            installation.kill(process)
        if database:
            with psycopg.connect(admin, autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {database} WITH (FORCE)")  # type: ignore[call-overload]

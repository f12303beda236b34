"""Fixtures that every layer shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.app.task import Task
from django.db import connection
from django.test import Client
from django.utils import timezone

from enrichment.services import processing
from people.models import User
from tests import factories
from tests.fakes.engine import CLOCKS, SPEED, Engine
from tests.fakes.sandbox_process import CANARY, SECRET, SandboxProcess, run_sandbox


def pytest_make_parametrize_id(val: object) -> str | None:
    """Names of tests are written to reports, so a value with the secret of this run has another one."""
    return val.replace(CANARY, "…") if isinstance(val, str) and CANARY in val else None


@pytest.fixture(autouse=True)
def no_zone_of_another_test() -> Iterator[None]:
    """A request leaves its viewer's time zone to its thread, where the next one finds it: a test would know another day."""
    yield
    timezone.deactivate()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Tests with real transactions end with emptied tables, which the audit log forbids: its guard against that sleeps, and
    is woken by the test that is about it."""
    with django_db_blocker.unblock():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                for table in ("entry", "seal"):
                    cursor.execute(
                        f"ALTER TABLE people_audit{table} DISABLE TRIGGER audit_{table}_kept_whole"
                    )


@pytest.fixture(scope="session")
def shared_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """One sandbox process for the whole run; use `sandbox`, which starts it over for each test."""
    with run_sandbox(tmp_path_factory.mktemp("sandbox"), "--speed", str(SPEED)) as process:
        yield process


@pytest.fixture
def sandbox(shared_sandbox: SandboxProcess) -> SandboxProcess:
    """A sandbox with the accounts of `sandbox_process.ACCOUNTS`, no history, no faults, `SPEED` times as fast."""
    shared_sandbox.order("/control/reset", {})
    return shared_sandbox


@pytest.fixture
def wakes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, str]]:
    """Messages that would have gone to the broker, as (task, id, queue)."""
    sent: list[tuple[str, int, str]] = []

    def note(task: Task, args: tuple[int, ...] = (), **options: Any) -> None:
        sent.append((task.name.rpartition(".")[2], args[0] if args else 0, options["queue"]))

    monkeypatch.setattr(Task, "apply_async", note)
    return sent


@pytest.fixture
def engine(
    transactional_db: None,
    sandbox: SandboxProcess,
    wakes: list[tuple[str, int, str]],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Engine:
    """This process as a worker for the sandbox, with short clocks, an operator and a key with 1,000 credits."""
    settings.PROCESS_ROLE = "worker"
    settings.ICYPEAS_BASE_URL = f"{sandbox.url}/api"
    settings.ICYPEAS_RATE_FACTOR = float(SPEED)
    for name, seconds in CLOCKS.items():
        setattr(settings, name, seconds)
    monkeypatch.setattr(processing, "TICK_S", 0.02)
    monkeypatch.setenv("ICYPEAS_API_KEY", SECRET)
    person = factories.make_user("ops@desk.example", name="Ira Quist")
    account = factories.make_account("Sandbox", balance=1000)
    key = factories.make_key("sandbox_lists_ops", owner=person, account=account)
    return Engine(sandbox, person, account, key, wakes)


@pytest.fixture
def as_person(client: Client) -> Callable[[User], Client]:
    """Log the test client in: `as_person(user).get(…)`."""

    def enter(user: User) -> Client:
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return enter

"""`manage.py doctor`: what is wrong is named with what to do, and no secret is among it."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from enrichment.choices import JobState
from enrichment.models import EnrichmentJob
from keys import presence
from keys.clock import db_now
from keys.models import Presence, Worker
from keys.services import worker_seen
from tests import factories

pytestmark = pytest.mark.django_db


def examine() -> tuple[list[dict[str, str]], bool]:
    """What `doctor --json` says, and whether it found nothing wrong."""
    out = io.StringIO()
    is_well = True
    try:
        call_command("doctor", "--json", stdout=out)
    except SystemExit:
        is_well = False
    return [json.loads(line) for line in out.getvalue().splitlines()], is_well


def found(area: str, state: str) -> list[str]:
    return [each["text"] for each in examine()[0] if (each["area"], each["state"]) == (area, state)]


@pytest.fixture
def healthy(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An installation with people, a worker, and a key whose secret that worker finds."""
    settings.PROCESS_ROLE = "worker"
    monkeypatch.setenv("ICYPEAS_API_KEY", "canary-of-the-doctor-1234567890")
    key = factories.make_key()
    factories.make_user(role="key_admin")
    worker_seen()
    presence.report()
    return key


def test_nothing_is_wrong_with_a_healthy_installation(healthy: Any) -> None:
    said, is_well = examine()

    assert is_well
    assert {each["state"] for each in said} <= {"ok", "warn"}
    assert found("secrets", "ok") == ["1 of 1 usable key records have one at every worker."]


def test_a_secret_that_a_worker_misses_is_wrong_and_none_is_shown(healthy: Any) -> None:
    Presence.objects.update(fingerprint="", problem="ICYPEAS_API_KEY is not set.")

    said, is_well = examine()

    assert not is_well
    assert any(healthy.name in text and "not set" in text for text in found("secrets", "bad"))
    assert "canary-of-the-doctor" not in json.dumps(said)


def test_no_worker_and_a_job_that_nobody_woke_are_wrong(healthy: Any) -> None:
    Worker.objects.update(seen_at=db_now() - timedelta(minutes=10))
    job = factories.make_job(1)
    EnrichmentJob.objects.filter(id=job.id).update(
        state=JobState.QUEUED, dispatched_at=None, next_due_at=db_now() - timedelta(minutes=5)
    )

    assert "None was seen" in found("workers", "bad")[0]
    assert f"#{job.id} is due since" in found("scheduler", "bad")[0]


def test_workers_of_different_releases_are_worth_a_look(healthy: Any) -> None:
    Worker.objects.create(name="other-2", release="v2", seen_at=db_now())

    assert found("workers", "warn") == [
        "They run different releases: unnamed, v2.",
        *found("workers", "warn")[1:],
    ]


def test_a_broker_that_is_away_is_wrong_and_its_password_is_not_told(healthy: Any, settings: Any) -> None:
    settings.CELERY_BROKER_URL = "redis://:pass-of-redis@127.0.0.1:1/0"

    said, is_well = examine()

    assert not is_well
    assert any(each["area"] == "broker" and each["state"] == "bad" for each in said)
    assert "pass-of-redis" not in json.dumps(said)


def test_migrations_that_are_not_applied_are_wrong(healthy: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'keys'")

    assert "are not applied" in found("database", "bad")[0]

"""`manage.py enrich --sample`: a few rows first, then a person goes on or leaves it."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from enrichment import selectors
from enrichment.models import EnrichmentJob
from enrichment.services import processing
from keys import presence
from keys.models import Call, KeyRecord
from tests.fakes.engine import Engine, paid_inputs

ROWS = 40


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "list.csv"
    path.write_text("email\n" + "".join(f"ann{n}@sbx-found.example\n" for n in range(ROWS)))
    return path


def enrich(engine: Engine, source: Path, *more: str) -> int:
    """The exit status."""
    with pytest.raises(SystemExit) as ended:
        call_command(
            "enrich", str(source), "--operation", "email-verification", "--key", engine.key.name, *more
        )
    return int(ended.value.code or 0)


def answers(monkeypatch: pytest.MonkeyPatch, *said: str) -> None:
    waiting = iter(said)
    monkeypatch.setattr("builtins.input", lambda *_: next(waiting))
    monkeypatch.setattr(processing, "TICK_S", 0.02)


def rows_of(source: Path) -> list[dict[str, str]]:
    with source.with_name("list-enriched.csv").open() as file:
        return list(csv.DictReader(file))


def test_sample_goes_on_when_the_person_says_so(
    engine: Engine, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, "y", "y")

    assert enrich(engine, source, "--sample") == 0

    job = EnrichmentJob.objects.get()
    assert (job.state, job.sample_asked, job.rows_found + job.rows_not_found) == ("completed", 10, ROWS)
    assert set(paid_inputs(engine.sandbox).values()) == {1}
    assert len(rows_of(source)) == ROWS


def test_sample_that_is_left_stays_paused_and_the_same_command_goes_on(
    engine: Engine, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, "n")
    assert enrich(engine, source, "--sample", "--yes") != 0
    job = EnrichmentJob.objects.get()
    assert (job.state, job.pause_reason, job.rows_waiting) == ("paused", "sample", ROWS - 10)
    assert len(paid_inputs(engine.sandbox)) == 10
    assert sum(row["icypeas_status"] == "waiting" for row in rows_of(source)) == ROWS - 10

    assert enrich(engine, source, "--yes") == 0

    job.refresh_from_db()
    assert (job.state, job.rows_open) == ("completed", 0)
    assert set(paid_inputs(engine.sandbox).values()) == {1}


def refusal(engine: Engine, source: Path, *more: str) -> CommandError:
    with pytest.raises(CommandError) as refused:
        call_command(
            "enrich", str(source), "--operation", "email-verification", "--key", engine.key.name, *more
        )
    return refused.value


def test_refusal_is_one_call_of_the_key(engine: Engine, source: Path) -> None:
    KeyRecord.objects.filter(id=engine.key.id).update(scopes=["leads:search"])

    assert "does not have the scope email-verification:bulk" in str(refusal(engine, source, "--yes"))

    call = Call.objects.get()
    assert (call.outcome, call.job) == ("policy_scope", EnrichmentJob.objects.get().id)


def test_paused_run_goes_on_only_within_the_limit_that_is_given(
    engine: Engine, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, "n")
    enrich(engine, source, "--sample", "--yes")

    error = refusal(engine, source, "--yes", "--max-credits", "3.9")

    assert error.returncode == 1
    assert "can cost 4 credits, and the limit given is 3.9" in str(error)
    assert EnrichmentJob.objects.filter(state="paused").count() == 1
    assert len(paid_inputs(engine.sandbox)) == 10
    assert enrich(engine, source, "--yes", "--max-credits", "4") == 0


def test_paused_run_that_cannot_reserve_the_rest_says_so_and_stays_paused(
    engine: Engine, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, "n")
    enrich(engine, source, "--sample", "--yes")
    KeyRecord.objects.filter(id=engine.key.id).update(daily_cap=Decimal("1.5"))

    error = refusal(engine, source, "--yes")

    assert error.returncode == 1
    assert "daily cap" in str(error)
    assert "stays paused" in str(error)
    assert Call.objects.filter(outcome="policy_budget").count() == 1
    assert not EnrichmentJob.objects.filter(state="draft").exists()
    assert len(paid_inputs(engine.sandbox)) == 10


def test_run_at_a_terminal_works_for_its_length_and_is_no_worker_that_reports(
    engine: Engine, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, bool, int, str]] = []
    step = processing.step

    def watched(job_id: int, **more: Any) -> float | None:
        seen.append(
            (
                selectors.progress(EnrichmentJob.objects.get(id=job_id)).has_worker,
                selectors.has_live_worker(),
                presence.living_workers().count(),
                presence.standing(engine.key.secret_ref).text,
            )
        )
        return step(job_id, **more)

    monkeypatch.setattr(processing, "step", watched)

    assert enrich(engine, source, "--yes") == 0

    assert set(seen) == {(True, False, 0, "no worker is running")}
    assert not selectors.has_live_worker()

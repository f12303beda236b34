"""Each named fault profile ends in the state that its table names, over real HTTP against a sandbox process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from enrichment.choices import RowState
from enrichment.providers import factory
from enrichment.providers.base import Provider
from enrichment.providers.icypeas.client import IcypeasClient
from enrichment.providers.icypeas.provider import IcypeasProvider
from enrichment.services import submission
from keys import ledger
from keys.models import Call
from people.audit import Actor
from tests.fakes.engine import Engine, paid_credits, paid_inputs
from tests.integration.enrichment.fault_profiles import PROFILES, SUBMIT, Profile

DEADLINE_S = 1.5  # instead of 25 and 45: silence and drips last longer than this
DOCS = Path(__file__).parents[3] / "docs" / "reliability.md"


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*, base_url: str, secret: str, **more: Any) -> Provider:
        return IcypeasProvider(
            IcypeasClient(base_url, secret, **more, total_s=DEADLINE_S, bulk_total_s=DEADLINE_S)
        )

    monkeypatch.setattr(factory, "make_provider", make)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_profile_ends_as_its_table_says(
    engine: Engine, short_deadline: None, profile: Profile, settings: Any
) -> None:
    if "visibility_lag_s" in profile.switches:
        settings.SETTLE_S = 5.0  # counted from before the send, the lag from its arrival
    arm(engine, profile)

    job = engine.run(engine.start(profile.lines))

    state = f"{job.state}: {job.pause_reason}" if job.pause_reason else job.state
    counts = {name: count for name, count in job.counts.items() if count}
    assert (state, counts) == (profile.job, dict(profile.rows))
    assert engine.sent(SUBMIT) == profile.submits
    charges = engine.sandbox.charges()
    assert len(charges) == profile.charged
    assert set(paid_inputs(engine.sandbox).values()) <= {1}
    sums = ledger.job_sums(job.id)
    assert sums.charged + job.price * counts.get(RowState.UNCERTAIN, 0) >= paid_credits(engine.sandbox)
    if job.state == "paused":
        mend_and_resume(engine, job.id)


def arm(engine: Engine, profile: Profile) -> None:
    for fault in profile.faults:
        engine.sandbox.order("/control/faults", dict(fault))
    if profile.switches:
        engine.switch(**profile.switches)
    if profile.credits:
        engine.credits(profile.credits)


def mend_and_resume(engine: Engine, job_id: int) -> None:
    """Once the trouble is over, a person resumes and every row is paid once."""
    engine.sandbox.order("/control/faults", {"clear": True})
    engine.switch(key_revoked=False)
    engine.credits("50")
    job = engine.run(submission.resume_job(Actor(engine.person), job_id))
    assert (job.state, job.rows_answered) == ("completed", 4)
    assert set(paid_inputs(engine.sandbox).values()) == {1}


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/api", "http://icypeas..example/api"])
def test_nothing_listens_there_and_later_somebody_does(engine: Engine, settings: Any, address: str) -> None:
    real = settings.ICYPEAS_BASE_URL
    settings.ICYPEAS_BASE_URL = address
    job = engine.start(4)
    for _ in range(4):
        engine.step(job)
    assert (job.state, job.rows_waiting) == ("running", 4)
    assert set(Call.objects.filter(route="bulk-search").values_list("outcome", flat=True)) == {"not_sent"}

    settings.ICYPEAS_BASE_URL = real
    job = engine.run(job)

    assert (job.state, job.rows_answered) == ("completed", 4)
    assert set(paid_inputs(engine.sandbox).values()) == {1}


def test_the_docs_name_each_profile_with_its_end() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| (\d+) \|$", DOCS.read_text(), re.M)

    assert rows == [line(profile) for profile in PROFILES]


def line(profile: Profile) -> tuple[str, str, str, str]:
    """A profile as the docs' table has it."""
    rows = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in profile.rows.items())
    return profile.name, profile.job, rows, str(profile.charged)

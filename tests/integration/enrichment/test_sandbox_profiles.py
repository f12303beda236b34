"""Each profile that a person can choose on the sandbox's page, through a real job."""

from __future__ import annotations

from typing import Any

import pytest

from enrichment.choices import PauseReason
from enrichment.models import EnrichmentJob
from enrichment.providers.icypeas.sandbox.switches import PROFILES
from enrichment.services import submission
from keys import ledger
from people.audit import Actor
from tests.fakes.engine import Engine, assert_paid_once, paid_credits

PAUSES = {
    "out-of-credits": PauseReason.CREDITS,
    "key-revoked": PauseReason.KEY,
    "api-off": PauseReason.KEY,
    "unpaid": PauseReason.KEY,
    "keys-retired": PauseReason.PROVIDER,
    "keys-forbidden": PauseReason.PROVIDER,
}


def choose(engine: Engine, profile: str) -> None:
    engine.sandbox.order("/control/profile", {"profile": profile})


def refused(engine: Engine, status: str) -> int:
    return sum(counts.get(status, 0) for counts in engine.sandbox.state()["requests"].values())


@pytest.mark.timeout(300)  # above the 240 s that the job may take
@pytest.mark.parametrize("profile", PROFILES)
def test_list_ends_or_waits_as_the_profile_says(engine: Engine, settings: Any, profile: str) -> None:
    settings.BATCH_ROWS = 20
    choose(engine, profile)
    if profile == "rate-limited":
        # This process is too slow to meet the limits at the shared sandbox's pace.
        engine.switch(speed=4.0)
        settings.BATCH_ROWS = 5

    job = engine.run(engine.start(60), seconds=240)

    if profile in PAUSES:
        assert (job.state, job.pause_reason) == ("paused", PAUSES[profile])
        assert job.rows_waiting == 60
        assert paid_credits(engine.sandbox) == 0
        choose(engine, "normal")
        engine.sandbox.order(
            "/control/credits", {"user_id": next(iter(engine.sandbox.state()["accounts"])), "credits": "50"}
        )
        resume(engine, job)
    assert (job.state, job.rows_open, job.rows_uncertain) == ("completed", 0, 0)
    assert_paid_once(engine.sandbox, times=60)
    assert paid_credits(engine.sandbox) == ledger.job_sums(job.id).charged
    assert (refused(engine, "429") > 0) == (profile == "rate-limited")


def resume(engine: Engine, job: EnrichmentJob) -> None:
    submission.resume_job(Actor(engine.person), job.id)
    engine.run(job)

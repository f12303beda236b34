"""After pause or cancel nothing new is sent, and the end costs no more than the figures said before the click."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from enrichment import selectors
from enrichment.models import EnrichmentJob
from enrichment.services import submission
from keys import ledger
from people.audit import Actor
from tests.fakes.engine import Engine, paid_credits

OUTCOMES = ("found", "notfound", "badinput")


def lines(chance: random.Random, stem: str) -> list[str]:
    return [f"{stem}{n}@sbx-{chance.choice(OUTCOMES)}.example" for n in range(chance.randint(25, 40))]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("stop", [submission.pause_job, submission.cancel_job])
def test_final_charge_is_never_above_the_figures_before_the_click(
    engine: Engine, settings: Any, stop: Callable[..., EnrichmentJob], seed: int
) -> None:
    chance = random.Random(seed)
    settings.BATCH_ROWS = chance.randint(2, 5)
    job = engine.start(lines(chance, "s"))
    for _ in range(chance.randint(1, 9)):
        engine.step(job)
    assert not job.is_finished
    shown = selectors.progress(job)
    sent = engine.sent()

    stop(Actor(engine.person), job.id)
    job = engine.run(job)

    assert engine.sent() == sent
    assert job.state in ("paused", "cancelled", "completed")
    assert job.rows_in_flight == 0
    charged = ledger.job_sums(job.id).charged
    assert charged <= shown.money.charged + shown.at_risk
    assert charged == paid_credits(engine.sandbox)
    # Answers of rows that were with Icypeas came back.
    assert job.rows_answered + job.rows_failed >= shown.answered + job.rows_failed

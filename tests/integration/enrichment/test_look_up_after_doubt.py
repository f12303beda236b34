"""The look-up after a lost answer when the listing lags, fails, or says "not there": nothing is ever paid twice, and
once the truth is listed, looking again leaves nothing uncertain and no credit astray."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings

from enrichment.choices import BatchState
from enrichment.models import Batch, EnrichmentJob
from enrichment.providers import factory
from enrichment.providers.base import FilePage, ItemPage, Provider
from enrichment.services import decisions, submission
from keys import ledger
from people.audit import Actor
from tests.fakes.engine import SPEED, Engine, assert_paid_once, paid_credits, story

pytestmark = pytest.mark.parametrize("mode", ["list", "look-up"])

SETTLE_S = 120  # of the product's clocks, by which the lags below are meant
ROUTES = {"list": "/bulk-search", "look-up": "/email-verification"}
LISTINGS = {"list": "/search-files/read", "look-up": "/bulk-single-searchs/read"}


def begin(engine: Engine, mode: str) -> EnrichmentJob:
    """A job whose only call is accepted and loses its answer."""
    engine.fault(ROUTES[mode], "reset_after_accept")
    if mode == "list":
        return engine.start(3)
    return submission.look_up(
        Actor(engine.person),
        operation="email-verification",
        told={"email": "ann@sbx-found.example"},
        key=engine.key,
        purpose="",
        freshness_days=90,
        token=submission.new_token(),
    )


def let_listings_lag(engine: Engine, lag_s: float) -> None:
    engine.switch(visibility_lag_s=lag_s * settings.SETTLE_S / SETTLE_S * SPEED)


def look_again(engine: Engine, job: EnrichmentJob) -> EnrichmentJob:
    chosen = [
        decisions.Chosen(batch.id, batch.fence) for batch in decisions.uncertain_batches().filter(job=job)
    ]
    submission.decide(Actor(engine.person), job.id, decisions.Act.LOOK_AGAIN, chosen, reason="listed by now")
    job.refresh_from_db()
    return engine.run(job)


def must_be_settled(engine: Engine, job: EnrichmentJob, mode: str) -> None:
    assert (job.state, job.rows_uncertain, job.rows_open) == ("completed", 0, 0), story(job)
    assert engine.sent(ROUTES[mode]) == 1
    assert_paid_once(engine.sandbox, times=job.rows_total)
    sums = ledger.job_sums(job.id)
    assert (sums.charged, sums.open) == (paid_credits(engine.sandbox), 0)


@pytest.mark.parametrize("lag_s", [0, 6, 120])
def test_lag_within_the_settle_time_is_waited_for(
    engine: Engine, mode: str, lag_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The settle time is counted from before the send, the lag from its arrival: on a busy machine time lies between them.
    # The second look makes up for it, and comes too early where nobody waits for the settle time.
    monkeypatch.setattr(settings, "SETTLE_S", 3.0)
    monkeypatch.setattr(settings, "SECOND_LOOK_S", 1.5)
    let_listings_lag(engine, lag_s)

    job = engine.run(begin(engine, mode))

    must_be_settled(engine, job, mode)


def test_lag_beyond_every_look_is_left_to_a_person_whose_look_finds_it(engine: Engine, mode: str) -> None:
    let_listings_lag(engine, 100 * SETTLE_S)

    job = engine.run(begin(engine, mode))

    assert (job.state, job.rows_uncertain) == ("completed", job.rows_total)
    assert ledger.job_sums(job.id).open == job.rows_total * job.price == paid_credits(engine.sandbox)
    let_listings_lag(engine, 0)
    must_be_settled(engine, look_again(engine, job), mode)


def test_listing_that_always_fails_decides_nothing(engine: Engine, mode: str) -> None:
    job = begin(engine, mode)
    engine.sandbox.order("/control/faults", {"route": LISTINGS[mode], "kind": "status", "times": None})
    while not Batch.objects.filter(state=BatchState.DOUBT).exists():
        engine.step(job)
    until = time.monotonic() + 4 * (settings.SETTLE_S + settings.SECOND_LOOK_S)
    while time.monotonic() < until:
        engine.step(job)
    assert Batch.objects.get().state == BatchState.DOUBT, story(job)
    assert job.rows_uncertain == 0

    engine.sandbox.order("/control/faults", {"clear": True})

    must_be_settled(engine, engine.run(job), mode)


def test_listing_that_lies_is_left_to_a_person_and_pays_nothing_twice(
    engine: Engine, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = factory.make_provider
    monkeypatch.setattr(factory, "make_provider", denying(real))

    job = engine.run(begin(engine, mode))

    assert (job.state, job.rows_uncertain) == ("completed", job.rows_total)
    assert engine.sent(ROUTES[mode]) == 1
    monkeypatch.setattr(factory, "make_provider", real)
    must_be_settled(engine, look_again(engine, job), mode)


def denying(make: Callable[..., Provider]) -> Callable[..., Provider]:
    """Providers whose listings say that nothing is there."""

    def made(**options: Any) -> Provider:
        real = make(**options)
        list_files, read_singles = real.list_files, real.read_single_items

        def no_files(*args: Any, **more: Any) -> FilePage:
            return replace(list_files(*args, **more), files=[], cursor=None)

        def no_items(*args: Any, **more: Any) -> ItemPage:
            return replace(read_singles(*args, **more), items=[], cursor=None)

        real.list_files, real.read_single_items = no_files, no_items  # type: ignore[method-assign]
        return real

    return made

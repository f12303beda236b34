"""Calls that bring their answers themselves and that no listing knows: small, never looked up, a person or a limit decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from enrichment import operations
from enrichment.models import Batch, BatchItem, EnrichmentJob
from enrichment.operations.email_verification import EMAIL_VERIFICATION
from enrichment.providers import factory
from enrichment.providers.base import (
    BulkRequest,
    ItemState,
    KeyRejectedError,
    NotSentError,
    ProviderItem,
    UncertainOutcomeError,
    Verdict,
)
from enrichment.services import decisions, processing, send_path, submission
from keys import ledger
from keys.clock import db_now
from people.audit import Actor
from tests.fakes.engine import Engine


@dataclass
class DirectProvider:
    """Answers in the call and keeps its own list of what was paid. `troubles` are raised first, one a call; `is_paid`
    says whether a call that breaks was paid all the same."""

    troubles: list[Exception] = field(default_factory=list)
    leaves_out: int = 0
    takes_s: float = 0.0
    most_at_once: int = 0
    calls: list[list[str]] = field(default_factory=list)
    _running: list[str] = field(default_factory=list)

    def ask(self, request: BulkRequest) -> Sequence[ProviderItem]:
        self.calls.append([row["email"] for row in request.rows])
        if self.troubles:
            raise self.troubles.pop(0)
        self._running.append(request.name)
        self.most_at_once = max(self.most_at_once, len(self._running))
        time.sleep(self.takes_s)
        self._running.remove(request.name)
        items = [
            ProviderItem(
                provider_id=f"p-{ours}",
                external_id=ours,
                state=ItemState.FINAL,
                raw_status="FOUND",
                verdict=Verdict.DELIVERABLE,
                result={"email": row["email"]},
                is_charged=True,
            )
            for ours, row in zip(request.external_ids, request.rows, strict=True)
        ]
        return items[: len(items) - self.leaves_out]

    def close(self) -> None:
        pass


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch, settings: Any) -> DirectProvider:
    """Verification as if its route answered at once, four rows a call, one after the other."""
    settings.DIRECT_AT_ONCE = 1
    direct = DirectProvider()
    monkeypatch.setattr(factory, "make_provider", lambda **_: direct)
    operation = replace(EMAIL_VERIFICATION, direct_rows=4)
    monkeypatch.setattr(operations, "OPERATIONS", {operation.name: operation})
    return direct


def test_answers_come_in_the_call_a_few_rows_at_a_time(engine: Engine, provider: DirectProvider) -> None:
    job = engine.run(engine.start(9))

    assert (job.state, job.rows_found) == ("completed", 9)
    assert [len(call) for call in provider.calls] == [4, 4, 1]
    assert ledger.job_sums(job.id).charged == 9 * job.price


def test_calls_of_a_list_wait_for_their_answers_side_by_side(
    engine: Engine, provider: DirectProvider, settings: Any
) -> None:
    settings.DIRECT_AT_ONCE = 5
    provider.takes_s = 1.5
    job = engine.start(60)
    started = time.monotonic()

    engine.run(job)

    assert (job.state, job.rows_found) == ("completed", 60)
    assert provider.most_at_once == 5
    assert time.monotonic() - started < 0.6 * 15 * provider.takes_s
    assert sorted(address for call in provider.calls for address in call) == sorted(
        row.cells[0] for row in job.rows.all()
    )
    assert ledger.job_sums(job.id).charged == 60 * job.price


def test_refusal_of_the_key_ends_what_goes_side_by_side(
    engine: Engine, provider: DirectProvider, settings: Any
) -> None:
    settings.DIRECT_AT_ONCE = 3
    provider.takes_s = 0.05
    job = engine.start(200)
    provider.troubles = [KeyRejectedError("no"), KeyRejectedError("no"), KeyRejectedError("no")]

    engine.run(job)

    assert (job.state, job.pause_reason) == ("paused", "key")
    assert len(provider.calls) <= 6
    assert job.rows_waiting + job.rows_found == 200


def test_person_is_served_while_calls_go_side_by_side(
    engine: Engine, provider: DirectProvider, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DIRECT_AT_ONCE = 2
    provider.takes_s = 1.0
    served: list[int] = []
    monkeypatch.setattr(processing, "_serve_people_first", served.append)
    job = engine.start(16)

    engine.run(job)

    assert len(served) >= 4  # a few times in each second, and not once a round


def test_call_risks_no_more_than_the_set_credits(
    engine: Engine, provider: DirectProvider, settings: Any
) -> None:
    settings.DIRECT_CREDITS = Decimal("0.2")

    engine.run(engine.start(5))

    assert [len(call) for call in provider.calls] == [2, 2, 1]


def test_lost_call_is_left_to_a_person_and_the_rest_goes_on(engine: Engine, provider: DirectProvider) -> None:
    provider.troubles = [UncertainOutcomeError("timed out")]

    job = engine.run(engine.start(9))

    assert (job.state, job.rows_uncertain, job.rows_found) == ("completed", 4, 5)
    assert len(provider.calls) == 3
    assert ledger.job_sums(job.id).open == 4 * job.price


def test_lost_call_is_paid_again_within_the_limit_set_before(
    engine: Engine, provider: DirectProvider
) -> None:
    provider.troubles = [UncertainOutcomeError("timed out"), UncertainOutcomeError("timed out")]

    job = engine.run(engine.start(9, pay_again_limit=Decimal("0.5")))

    # The first lost call (0.4) is within the limit, the second is not.
    assert (job.state, job.rows_uncertain, job.rows_found) == ("completed", 4, 5)
    assert job.paid_again == Decimal("0.4")
    sums = ledger.job_sums(job.id)
    assert (sums.charged, sums.open) == (Decimal("0.9"), Decimal("0.4"))
    assert len(provider.calls) == 4


def test_worker_that_dies_in_the_call_leaves_it_to_a_person(
    engine: Engine, provider: DirectProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.troubles = [KeyboardInterrupt()]  # type: ignore[list-item]  # what a process that ends looks like
    job = engine.start(4)
    processing.step(job.id)
    with pytest.raises(KeyboardInterrupt):
        processing.step(job.id)
    Batch.objects.filter(job=job).update(lease_until=db_now() - timedelta(seconds=1))

    job = engine.run(job)

    assert (job.state, job.rows_uncertain) == ("completed", 4)
    assert len(provider.calls) == 1


def test_call_that_never_left_is_sent_again(engine: Engine, provider: DirectProvider) -> None:
    provider.troubles = [NotSentError("no connection")]

    job = engine.run(engine.start(4))

    assert (job.state, job.rows_found) == ("completed", 4)
    assert ledger.job_sums(job.id).charged == 4 * job.price


def test_row_that_the_answer_leaves_out_is_uncertain(engine: Engine, provider: DirectProvider) -> None:
    provider.leaves_out = 1

    job = engine.run(engine.start(4))

    assert (job.state, job.rows_found, job.rows_uncertain) == ("completed", 3, 1)


@pytest.mark.parametrize("decide", [decisions.accept_as_paid, decisions.send_again])
def test_person_decides_about_a_lost_call(
    engine: Engine, provider: DirectProvider, decide: Callable[..., Any]
) -> None:
    provider.troubles = [UncertainOutcomeError("timed out")]
    job = engine.run(engine.start(4))
    batch = Batch.objects.get(job=job, state="uncertain")
    chosen = [decisions.Chosen(batch.id, batch.fence)]

    with pytest.raises(decisions.DecisionError, match="cannot be looked up"):
        decisions.look_again(Actor(engine.person), job.id, chosen, reason="Try")
    decide(Actor(engine.person), job.id, chosen, reason="Asked Icypeas")
    job = engine.run(EnrichmentJob.objects.get(id=job.id))

    assert job.rows_uncertain == 0
    assert ledger.job_sums(job.id).charged == (8 if decide is decisions.send_again else 4) * job.price


def test_ids_of_searches_that_still_run_are_kept_with_the_way_they_are_read_or_not_at_all(
    engine: Engine, provider: DirectProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else, after the end of a worker in between, searches that can be read would be paid again."""
    ask, sent = provider.ask, send_path._sent

    def still_running(request: BulkRequest) -> Sequence[ProviderItem]:
        return [replace(item, state=ItemState.PENDING, verdict=None) for item in ask(request)[:2]]

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(provider, "ask", still_running)
    monkeypatch.setattr(send_path, "_sent", die)
    job = engine.start(3)
    with pytest.raises(KeyboardInterrupt):
        engine.run(job)
    monkeypatch.setattr(send_path, "_sent", sent)

    batch = Batch.objects.get(job=job)
    assert (batch.state, batch.mode) == ("sending", "direct")
    assert set(BatchItem.objects.filter(batch=batch).values_list("provider_id", flat=True)) == {""}
    assert not job.rows.filter(state="uncertain").exists()


def test_lost_call_of_a_job_whose_key_was_refused_keeps_no_other_job_waiting(
    engine: Engine, provider: DirectProvider
) -> None:
    provider.troubles = [UncertainOutcomeError("timed out"), KeyRejectedError("no")]
    job = engine.run(engine.start(8))
    assert (job.state, job.pause_reason, job.rows_uncertain) == ("paused", "key", 4)

    other = engine.run(engine.start(8, is_again=True))

    assert (other.state, other.rows_uncertain, other.rows_found) == ("completed", 4, 4)
    assert [len(call) for call in provider.calls] == [4, 4, 4]


def test_lost_call_of_a_job_whose_key_was_refused_is_paid_again_on_resume_within_its_limit(
    engine: Engine, provider: DirectProvider
) -> None:
    provider.troubles = [UncertainOutcomeError("timed out"), KeyRejectedError("no")]
    job = engine.run(engine.start(8, pay_again_limit=Decimal("0.4")))
    assert (job.state, job.rows_uncertain) == ("paused", 0)

    submission.resume_job(Actor(engine.person), job.id)
    engine.run(job)

    assert (job.state, job.rows_found, job.paid_again) == ("completed", 8, Decimal("0.4"))


def test_answer_that_fits_no_row_is_kept_for_the_person_who_decides(
    engine: Engine, provider: DirectProvider, client: Client
) -> None:
    provider.troubles = [
        UncertainOutcomeError(
            "scrape: accepted, but the answers do not fit the 4 rows.", answer={"data": [{"x": "<b>"}]}
        )
    ]
    job = engine.run(engine.start(4))
    client.force_login(engine.person)

    page = client.get(f"/jobs/{job.id}/uncertain/").content.decode()

    assert "What Icypeas answered" in page
    assert "&quot;x&quot;: &quot;&lt;b&gt;&quot;" in page
    assert (
        "Such a call cannot be looked up."
        in job.events.get(text__startswith="Batch 1 got no clear answer").text
    )
    assert "fit the 4 rows. Such" in job.events.get(text__startswith="Batch 1 got").text
    assert "look_again" not in page  # nothing lists such a call

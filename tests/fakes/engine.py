"""The engine in this process against a sandbox process: people and key, slices, and books that must always fit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.db.models import Count

from enrichment.choices import ACTIVE, ANSWERED_ROWS, JobState, RowState
from enrichment.models import EnrichmentJob, EnrichmentRow
from enrichment.services import exporting, processing
from keys import ledger
from keys.models import Account, Call, KeyRecord
from people.models import User
from tests import factories
from tests.fakes.sandbox_process import USER_ID, SandboxProcess

SPEED = 200  # the shared sandbox's clock and limits

# The app's clocks meanwhile (seconds).
CLOCKS = {
    "SLICE_S": 20.0,
    "LEASE_S": 3.0,
    "HEARTBEAT_S": 0.5,
    "SETTLE_S": 0.3,
    "SECOND_LOOK_S": 0.1,
    "FILE_FIRST_LOOK_S": 0.04,
    "FILE_LOOK_S": 0.06,
    "SINGLE_FIRST_LOOK_S": 0.05,
    "SINGLE_LOOK_S": 0.06,
    "SINGLE_LOOK_MOST_S": 0.6,
    "RETRY_S": 0.05,
    "BREAKER_FIRST_S": 0.2,
    "BREAKER_MOST_S": 1.0,
}


@dataclass
class Engine:
    """One operator with a key that pays on the sandbox's first account. `wakes` are the messages that were sent."""

    sandbox: SandboxProcess
    person: User
    account: Account
    key: KeyRecord
    wakes: list[tuple[str, int, str]] = field(default_factory=list)

    def draft(self, rows: int | Iterable[str] = 3, **more: Any) -> EnrichmentJob:
        lines = rows if isinstance(rows, int) else list(rows)
        return factories.make_job(lines, **{"created_by": self.person, **more})

    def start(self, rows: int | Iterable[str] = 3, **order: Any) -> EnrichmentJob:
        """A started list of e-mail addresses."""
        return self.begin(self.draft(rows), **order)

    def begin(self, job: EnrichmentJob, **order: Any) -> EnrichmentJob:
        return factories.start(job, order.pop("key", self.key), **order)

    def run(self, job: EnrichmentJob, *, seconds: float = 60) -> EnrichmentJob:
        """Work until nothing is due; the books are compared after each step."""
        until = time.monotonic() + seconds
        while True:
            processing.run_slice(job.id, should_stop=lambda: books_fit(job))
            job.refresh_from_db()
            books_fit(job)
            if job.next_due_at is None or job.is_finished:
                return job
            assert time.monotonic() < until, story(job)
            time.sleep(0.02)

    def run_all(self, jobs: list[EnrichmentJob], *, seconds: float = 60) -> None:
        """Work on several jobs in turns until nothing is due: one may wait for another's batch."""
        until = time.monotonic() + seconds
        while any([self.step(job) is not None for job in jobs]):  # noqa: C419  every job gets its step
            assert time.monotonic() < until, [story(job) for job in jobs]

    def step(self, job: EnrichmentJob) -> float | None:
        """One step; seconds until the next is due."""
        due_in = processing._safe_step(job.id)
        job.refresh_from_db()
        books_fit(job)
        return due_in

    def fault(self, route: str, kind: str, **more: Any) -> None:
        self.sandbox.order("/control/faults", {"route": route, "kind": kind, **more})

    def switch(self, **switches: Any) -> None:
        self.sandbox.order("/control/settings", switches)

    def credits(self, credits: str) -> None:
        self.sandbox.order("/control/credits", {"user_id": USER_ID, "credits": credits})

    def sent(self, route: str = "/bulk-search") -> int:
        """How often the sandbox was called on a route."""
        return int(self.sandbox.state()["requests"].get(route, {}).get("total", 0))


def books_fit(job: EnrichmentJob) -> bool:
    """Counters equal the rows, and reserved = charged + released + open, with open what the open rows hold. False."""
    now = EnrichmentJob.objects.get(id=job.id)
    rows = EnrichmentRow.objects.filter(job=job).order_by()
    by_state = dict(rows.values_list("state").annotate(Count("id")))
    assert now.counts == {state.value: by_state.get(state.value, 0) for state in RowState}, story(job)
    assert sum(now.counts.values()) == now.rows_total
    assert now.useful_results == rows.filter(state__in=ANSWERED_ROWS, answer__is_good=True).count()
    money = ledger.job_sums(job.id)
    assert money.reserved == money.charged + money.released + money.open
    if now.state in ACTIVE and now.prepared_at is None and now.state != JobState.CANCELLING:
        # Rows that a person lets be sent again meanwhile stand for their question beside those that are not linked yet.
        leads = dict(rows.filter(is_lead=True).values_list("state").annotate(Count("id")))
        asks = rows.filter(state=RowState.WAITING, is_lead=False).values("digest").distinct().count()
        at_risk = leads.get(RowState.UNCERTAIN, 0) + leads.get(RowState.IN_FLIGHT, 0)
        most = asks + at_risk + leads.get(RowState.WAITING, 0)
        assert at_risk * now.price <= money.open <= most * now.price, story(job)
    else:
        leads = rows.filter(is_lead=True)
        holding = leads.filter(state__in=(RowState.IN_FLIGHT, RowState.UNCERTAIN)).count()
        may_be_sent = leads.filter(state=RowState.WAITING, **({"in_sample": True} if now.is_sampling else {}))
        if now.holds_reservation:
            holding += may_be_sent.count()
        assert money.open == holding * now.price, story(job)
    return False


def story(job: EnrichmentJob) -> str:
    """What happened to a job, for the message of a failing test."""
    now = EnrichmentJob.objects.get(id=job.id)
    events = [event.text for event in now.events.order_by("id")]
    calls = Counter(Call.objects.filter(job=job.id).values_list("route", "outcome"))
    return f"{now.state} {now.pause_reason} {now.state_text!r} {now.counts} {events} {dict(calls)}"


def paid_inputs(sandbox: SandboxProcess) -> Counter[tuple[str, ...]]:
    """How often the sandbox's own ledger was charged for each input."""
    return Counter(tuple(charge["input"]) for charge in sandbox.charges())


def paid_credits(sandbox: SandboxProcess) -> Decimal:
    return sum((Decimal(charge["credits"]) for charge in sandbox.charges()), Decimal(0))


def assert_paid_once(sandbox: SandboxProcess, *, times: int) -> None:
    """The sandbox charged `times` different inputs, each under one external id, none twice."""
    charges = sandbox.charges()
    inputs = paid_inputs(sandbox)
    assert len(inputs) == times
    assert set(inputs.values()) <= {1}, [text for text, count in inputs.items() if count > 1]
    assert len({charge["external_id"] for charge in charges}) == len(charges)


def exported(job: EnrichmentJob, preset: str = "raw") -> bytes:
    return b"".join(exporting.export(EnrichmentJob.objects.get(id=job.id), preset))

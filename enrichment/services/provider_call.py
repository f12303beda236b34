"""One call to Icypeas: through the gate, with the secret of its key, recorded. The only module that makes a provider client,
and so the only way there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from enrichment import operations
from enrichment.choices import Source
from enrichment.models import Batch, EnrichmentJob
from enrichment.providers import factory
from enrichment.providers.base import NotSentError, Provider, ProviderError, RateLimitedError
from enrichment.providers.icypeas.routes import ROUTES, interval_s
from enrichment.services.consequences import outcome_of
from keys import gate, limiter
from keys.choices import Outcome
from keys.clock import db_now
from keys.use import operation_words

log = logging.getLogger(__name__)

T = TypeVar("T")

RECORD_PAUSES_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
FILES, ITEMS, BALANCE = "files-read", "items-read", "subscription-information"


def call(
    errand: gate.Errand,
    work: Callable[[Provider], T],
    *,
    between: Callable[[gate.Permit], None] | None = None,
    max_wait_s: float = 3.0,
) -> T:
    """Through the gate, one call, recorded. `between` commits the intent after the gate and before the send. A slot of the
    limiter that is more than `max_wait_s` away is not taken.

    Raises `GateRefusedError`, `BusyError`, the provider's errors, and whatever `between` raises (then nothing was sent).
    """
    permit = gate.admit(errand, max_wait_s=min(max_wait_s, settings.LEASE_S / 3))
    started = time.monotonic()
    if between is not None:
        between(permit)
    intent_at, started = started, time.monotonic()
    try:
        if started - intent_at > settings.LEASE_S / 2:
            # A process that stood still in between: others may have looked for this call already, in vain.
            raise NotSentError("The worker stood still before it sent this; nothing left this machine.")
        with closing(_provider(permit)) as provider:
            answer = work(provider)
    except ProviderError as error:
        gate.record(
            permit, outcome_of(error), status=error.status, message=error.message, duration_ms=_ms(started)
        )
        if isinstance(error, RateLimitedError):
            limiter.hold_back(
                account_id=permit.account.id,
                route=errand.route,
                seconds=error.retry_after_s / max(settings.ICYPEAS_RATE_FACTOR, 1),
            )
        raise
    try:
        persist(partial(gate.record, permit, Outcome.OK, duration_ms=_ms(started)))
    except DatabaseError as fault:  # the answer counts for more than its line among the calls
        log.error("a call of %s is not among the calls: %s", permit.key.name, type(fault).__name__)
    return answer


def persist(record: Callable[[], None]) -> None:
    """Write down what a call brought. An answer that nothing looks up exists only here, so a database that is busy, or was
    restarted, is tried again for as long as it takes such a thing to pass."""
    for pause_s in (*RECORD_PAUSES_S, None):
        try:
            return record()
        except (OperationalError, InterfaceError) as error:
            if pause_s is None or connection.in_atomic_block:
                raise
            log.warning("what a call brought is not written down yet: %s", type(error).__name__)
            connection.close()
            time.sleep(pause_s)


def _provider(permit: gate.Permit) -> Provider:
    try:
        return factory.make_provider(
            base_url=settings.ICYPEAS_BASE_URL,
            secret=permit.resolved.secret.reveal(),
            user_id=permit.account.user_id,
            api_secret=permit.api_secret.secret.reveal() if permit.api_secret else None,
        )
    except ValueError as error:  # an address of Icypeas that is none: whoever set it can mend it
        reason = str(error)
    raise NotSentError(reason)


def _ms(started: float) -> int:
    return int((time.monotonic() - started) * 1000)


def slot_s(route: str) -> float:
    """Seconds between two calls of a route."""
    return interval_s(ROUTES[route]) / settings.ICYPEAS_RATE_FACTOR


def keep_look(batch: Batch) -> None:
    """What is sent for a person now is looked for in a moment, and its slot of reading is to be free then."""
    keep_slot(batch.account_id, db_now() + timedelta(seconds=settings.SINGLE_FIRST_LOOK_S))


def keep_slot(account_id: int, at: datetime) -> None:
    """No list may take the slot of reading at `at`."""
    limiter.keep_slot(account_id=account_id, route=ITEMS, at=at, interval_s=slot_s(ITEMS))


def read_ahead_s() -> float:
    """How far ahead of its time a list may take a slot of reading. Whatever is sent for a person now is looked for
    `SINGLE_FIRST_LOOK_S` later, and must not meet a slot that was taken before it could keep one."""
    return max(settings.SINGLE_FIRST_LOOK_S - slot_s(ITEMS), 0.0)


def person_waits_s() -> float:
    """How long a look for a person may wait for its slot: another person's may have just gone."""
    return max(3.0, 2 * slot_s(ITEMS))


def job_text(job: EnrichmentJob) -> str:
    """How calls name the job. A look-up is named after whom it asks for, and calls and their sums outlive every row: they
    are told what was done."""
    return operation_words(job.operation, 1) if job.source == Source.LOOKUP else job.name


def errand_for(
    job: EnrichmentJob, *, route: str, scope: str, rows: int = 0, is_for_person: bool = False
) -> gate.Errand:
    """What the gate must know about a call for this job."""
    operation = operations.get(job.operation)
    assert job.key_id is not None
    return gate.Errand(
        key_id=job.key_id,
        environment=job.environment,
        scope=scope,
        route=route,
        interval_s=slot_s(route),
        job=job.id,
        job_text=job_text(job),
        person=job.created_by.name,
        operation=operation.name,
        rows=rows,
        is_for_person=is_for_person,
        catch_up=ROUTES[route].catch_up,
    )

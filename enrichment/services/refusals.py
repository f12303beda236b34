"""What our own policy refuses before anything comes to the gate: at a start, a retry, a resumption, a decision.

The gate writes its refusals down as calls. These are made inside the transaction that they end, so they are written after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from enrichment import operations
from enrichment.choices import Mode
from enrichment.models import EnrichmentJob
from enrichment.operations.base import Operation
from enrichment.selectors import KeyChoice
from enrichment.services.provider_call import job_text
from keys import gate, ledger
from keys.choices import Outcome
from keys.models import KeyRecord
from people.models import User


class OrderError(Exception):
    """What a person asked for was not done, and nothing was changed: the message says why and what to do. `outcome` is the
    policy that refused it, None when something else was in the way."""

    def __init__(self, message: str, *, outcome: Outcome | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.outcome = outcome


def outcome_of(error: ledger.ReservationError) -> Outcome | None:
    """A cap and a budget are policy; a balance that is too small is not."""
    return Outcome.POLICY_BUDGET if error.limit in ("cap", "budget") else None


@contextmanager
def noted(job_id: int, key: KeyRecord | None = None, *, is_read: bool = False) -> Iterator[None]:
    """Write down what the policy refuses inside. `key` is the one that was asked for, else the job's own; `is_read`: only
    results were to be read. Goes around the outermost transaction, which takes back all else that was written."""
    try:
        yield
    except OrderError as error:
        if error.outcome is not None:
            job = EnrichmentJob.objects.select_related("key", "created_by").get(id=job_id)
            note(job, key or job.key, error.outcome, error.message, is_read=is_read)
        raise


def nameless(operation: Operation, mode: Mode, person: User) -> EnrichmentJob:
    """What was asked for and never became a job: it has no number and no name."""
    return EnrichmentJob(operation=operation.name, mode=mode, created_by=person)


def note_choice(choices: Sequence[KeyChoice], told: str, job: EnrichmentJob) -> None:
    """Write down that a form was sent with a key that its page would not offer now: the page is older, or was passed by.
    `told` is the key's number as it was sent."""
    for choice in choices:
        if choice.outcome is not None and str(choice.key.id) == told:
            note(job, choice.key, choice.outcome, choice.refusal)


def note(
    job: EnrichmentJob, key: KeyRecord | None, outcome: Outcome, message: str, *, is_read: bool = False
) -> None:
    """Write one refusal down as a call of the key, under the person whose job it is. No worker had a part in it."""
    assert key is not None
    operation = operations.get(job.operation)
    is_single = job.mode == Mode.SINGLE
    if is_read:
        scope, route = gate.ACCOUNT_READ, "items-read" if is_single else "files-read"
    else:
        scope = operation.scope(job.mode)
        route = operation.single_route if is_single else operation.bulk_route
    errand = gate.Errand(
        key_id=key.id,
        environment=job.environment or key.environment,
        scope=scope,
        route=route,
        interval_s=0,  # it never comes to the limiter
        job=job.id,
        job_text=job_text(job),
        person=job.created_by.name,
        operation=operation.name,
    )
    gate.note_refusal(errand, outcome, message)

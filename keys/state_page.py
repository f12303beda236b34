"""What the page of a change of state says before anything happens: what follows, what stops, what stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from keys import ledger, presence, selectors
from keys.lifecycle import MOVES, Step
from keys.models import KeyRecord

DONE = {
    Step.ACTIVATE: "{name} is active. Calls may go out from now on.",
    Step.QUARANTINE: "{name} is in quarantine. It lets nothing out from the next call on.",
    Step.RELEASE: "{name} is active again. Jobs that it paused go on when somebody presses Resume.",
    Step.REVOKE: "{name} is revoked for good.",
}


@dataclass(frozen=True)
class Held:
    """A job under way, known here by its number, with what it has reserved and not spent yet."""

    job: int
    credits: Decimal
    url: str


@dataclass(frozen=True)
class Page:
    """`missing` keeps the step from being done; `same_secret` are other records that go on using the key's secret."""

    jobs: Sequence[Held]
    credits: Decimal
    missing: Sequence[str]
    same_secret: Sequence[KeyRecord]
    siblings: int


def page(key: KeyRecord, step: Step) -> Page:
    """What a person should know before the step."""
    held = ledger.open_jobs(key)
    return Page(
        jobs=[Held(job, credits, f"/jobs/{job}/") for job, credits in held.items()],
        credits=sum(held.values(), Decimal(0)),
        missing=selectors.missing_for_activation(key) if MOVES[step].is_complete else (),
        same_secret=presence.sharing(key),
        siblings=KeyRecord.objects.filter(account_id=key.account_id).exclude(id=key.id).count(),
    )

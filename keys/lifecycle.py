"""How a key record moves between its states, written once: service, pages and terminal read this table.

    draft → active → rotating → active
    active, rotating → quarantined → active
    whatever is not revoked → revoked, for good

*Expired* is no move: a record whose last day is over lets nothing out and is shown so, until it is renewed.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import models

from keys.choices import KeyState


class Step(models.TextChoices):
    """What a person, or a guided rotation or leak response, does to a record's state."""

    ACTIVATE = "activate", "Activate"
    QUARANTINE = "quarantine", "Quarantine"
    RELEASE = "release", "Release from quarantine"
    REVOKE = "revoke", "Revoke"
    BEGIN_ROTATION = "begin-rotation", "Begin a rotation"
    END_ROTATION = "end-rotation", "End a rotation"


@dataclass(frozen=True)
class Move:
    """One line of the table. `is_complete`: only when nothing is missing that an active record needs. `action` is what
    the audit log says. `is_offered`: a person may do it by itself, outside a guided rotation."""

    before: tuple[KeyState, ...]
    after: KeyState
    action: str
    is_complete: bool = False
    is_offered: bool = True


MOVES: dict[Step, Move] = {
    Step.ACTIVATE: Move((KeyState.DRAFT,), KeyState.ACTIVE, "key.activated", is_complete=True),
    Step.QUARANTINE: Move((KeyState.ACTIVE, KeyState.ROTATING), KeyState.QUARANTINED, "key.quarantined"),
    Step.RELEASE: Move((KeyState.QUARANTINED,), KeyState.ACTIVE, "key.released", is_complete=True),
    Step.REVOKE: Move(
        (KeyState.DRAFT, KeyState.ACTIVE, KeyState.ROTATING, KeyState.QUARANTINED, KeyState.EXPIRED),
        KeyState.REVOKED,
        "key.revoked",
    ),
    Step.BEGIN_ROTATION: Move(
        (KeyState.ACTIVE,), KeyState.ROTATING, "key.rotation_begun", is_complete=True, is_offered=False
    ),
    Step.END_ROTATION: Move((KeyState.ROTATING,), KeyState.ACTIVE, "key.rotation_ended", is_offered=False),
}
# Nothing leads out of these: the record is for reading.
FINAL = tuple(state for state in KeyState if not any(state in move.before for move in MOVES.values()))


def offered(state: str) -> list[Step]:
    """What a person may do to a record in this state."""
    return [step for step, move in MOVES.items() if move.is_offered and state in move.before]

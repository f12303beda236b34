"""Step-up: who changes keys, roles or budgets has proved within `STEP_UP_S` that they are still the person who logged in.

A log-in is a proof, and so is the password given again. Its moment stands in the session.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate
from django.http import HttpRequest

FIELD = "proof_password"
PROVED_AT = "proved_at"


@dataclass(frozen=True)
class Asked:
    """Why a form is shown again: the last proof is too old. `is_wrong`: a password came and did not match."""

    minutes: int
    has_password: bool
    is_wrong: bool = False
    is_locked: bool = False


def note(request: HttpRequest) -> None:
    """This person has just proved who they are."""
    request.session[PROVED_AT] = int(time.time())


def note_log_in(sender: object, request: HttpRequest | None, **more: Any) -> None:
    """Django tells of each log-in, whatever it was made with."""
    if request is not None:
        note(request)


def is_fresh(request: HttpRequest) -> bool:
    age = time.time() - float(request.session.get(PROVED_AT, 0))
    return bool(0 <= age <= settings.STEP_UP_S)


def check(request: HttpRequest, password: str) -> bool:
    """Whether that is the person's password; then the proof is fresh. Wrong ones count like wrong log-ins."""
    person = request.user
    assert person.is_authenticated
    if authenticate(request, username=person.email, password=password) != person:
        return False
    request.session.cycle_key()
    note(request)
    return True


def asked(request: HttpRequest, *, is_wrong: bool = False) -> Asked:
    assert request.user.is_authenticated
    return Asked(
        minutes=settings.STEP_UP_S // 60,
        has_password=request.user.has_usable_password(),
        is_wrong=is_wrong,
        is_locked=bool(getattr(request, "axes_locked_out", False)),
    )

"""What an error of a call leads to: its outcome among the calls, and why a job pauses for it."""

from __future__ import annotations

from enrichment.choices import PauseReason
from enrichment.providers.base import (
    ACCOUNT_STATUSES,
    KeyRejectedError,
    NotSentError,
    OutOfCreditsError,
    ProviderError,
    RateLimitedError,
    ReadFailedError,
    RefusedError,
    UncertainOutcomeError,
    UnpaidError,
)
from keys import gate
from keys.choices import Outcome


def outcome_of(error: ProviderError) -> Outcome:
    """The call's outcome for an error of the tree."""
    for kind, outcome in (
        (NotSentError, Outcome.NOT_SENT),
        (RateLimitedError, Outcome.VENDOR_429),
        (UncertainOutcomeError, Outcome.UNCERTAIN),
        (KeyRejectedError, Outcome.VENDOR_401),
        (UnpaidError, Outcome.UNPAID),
        (OutOfCreditsError, Outcome.OUT_OF_CREDITS),
    ):
        if isinstance(error, kind):
            return outcome
    if error.status == 402:
        return Outcome.UNPAID
    if isinstance(error, ReadFailedError):
        return Outcome.VENDOR_5XX if error.status and error.status >= 500 else Outcome.READ_FAILED
    return Outcome.VENDOR_403 if error.status == 403 else Outcome.VENDOR_REJECTED


def pause_reason(error: gate.GateRefusedError) -> PauseReason:
    """A missing scope or a cap stops sending only; without the key itself nothing can be read either."""
    is_about_sending = error.outcome in (Outcome.POLICY_SCOPE, Outcome.POLICY_BUDGET)
    return PauseReason.POLICY if is_about_sending else PauseReason.KEY


def is_about_account(error: RefusedError) -> bool:
    """Whether a refusal would meet any other call of the account as well."""
    is_known = isinstance(error, (KeyRejectedError, UnpaidError, OutOfCreditsError))
    return is_known or error.status in ACCOUNT_STATUSES


def pause_for(error: RefusedError, *, is_read: bool = False) -> tuple[PauseReason, str]:
    """Why a job pauses after a refusal, and what its page says. What a refused read was about may have been paid."""
    if isinstance(error, KeyRejectedError):
        hint = (
            "the key is unknown, or the account's user id is needed"
            if error.needs_user_id
            else "the key is wrong or API access is off"
        )
        return (
            PauseReason.KEY,
            f"Paused: Icypeas refused the key (401): {hint}. A key admin can test it; then press Resume.",
        )
    if isinstance(error, UnpaidError):
        return (
            PauseReason.KEY,
            "Paused: the Icypeas subscription is unpaid. Pay it at Icypeas, then press Resume.",
        )
    if isinstance(error, OutOfCreditsError):
        return (
            PauseReason.CREDITS,
            "Paused: Icypeas says the credits do not suffice. Buy credits at Icypeas, then press Resume.",
        )
    said = error.message.rstrip(".")
    if is_read:
        return (
            PauseReason.PROVIDER,
            f"Paused: Icypeas refused to tell what became of it: {said}. What was sent before may cost.",
        )
    return PauseReason.PROVIDER, f"Paused: Icypeas refused the call: {said}. Nothing was charged for it."

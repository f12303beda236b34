"""What our own rules refused: nothing left this machine."""

from __future__ import annotations

from keys.causes.facts import POLICY, Cause, Facts
from keys.scopes import SCOPES
from people.models import AuditEntry
from people.rights import Right
from people.selectors import who_can


def scope_missing(facts: Facts) -> Cause:
    scope, lost = facts.call.scope, facts.lost
    text = f"The key may not {SCOPES.get(scope, scope)}: the scope {scope} is not granted."
    title = f"The scope {scope} is missing"
    if lost is not None:
        reason = f": {lost.reason}" if lost.reason else ""
        text += f" {lost.actor or lost.via} took it away on {lost.at:%d %b %H:%M} UTC{reason}."
        title = f"The scope {scope} was lost"
        if facts.moved is not None:
            title += " in a rotation"
            text += " The secret's reference changed with it, so it may have been left out by mistake."
    return Cause(
        title,
        POLICY,
        text,
        [
            f"Grant {scope} to the key if its purpose covers it, or choose a key that has it.",
            "Then press Resume.",
        ],
        facts.admins,
        "Rotating the key: scopes are this app's own.",
    )


def removed(entry: AuditEntry, scope: str) -> bool:
    """Whether this change of a key took the scope away."""
    change = entry.detail.get("scopes")
    if not isinstance(change, list) or len(change) != 2:
        return False
    before, after = (str(part).split(", ") for part in change)
    return scope in before and scope not in after


def wrong_environment(facts: Facts) -> Cause:
    return Cause(
        "The key belongs to another environment",
        POLICY,
        facts.call.message,
        [
            "Choose a key of the environment that the work belongs to.",
            "Or start workers that serve that environment.",
        ],
        facts.admins,
        "Moving the secret: a sandbox secret never goes to the real Icypeas.",
    )


def used_up(facts: Facts) -> Cause:
    return Cause(
        "A cap or a budget is used up",
        POLICY,
        facts.call.message,
        ["Wait for the next day or month, or have the cap or the budget raised.", "Then press Resume."],
        f"{facts.admins} for caps, {who_can(Right.SET_BUDGETS)} for budgets",
        "Another key of the same team: the budget is the team's.",
    )


def not_usable(facts: Facts) -> Cause:
    return Cause(
        "The key record lets nothing out",
        POLICY,
        facts.call.message,
        ["Look at the state of the record and at its history.", "Complete, renew or replace it."],
        facts.admins,
    )

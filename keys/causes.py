"""The causes of failed calls: what most likely happened, what to do, who can, and what will not help.

The first question is always whether the secret got to the workers as it should: most refused keys are a value that was
placed wrongly, and rotating a good key only adds a second trouble.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from keys import presence
from keys.choices import Outcome
from keys.models import Call, KeyRecord
from keys.scopes import SCOPES
from people.models import AuditEntry
from people.rights import Right
from people.selectors import who_can

CONFIGURATION = "Our configuration"
POLICY = "Our own rules"
VENDOR = "Icypeas"
NETWORK = "The network"
# Words with which a provider says that a way in is closed for good, or that a rule of the organisation forbids it.
_CLOSED = re.compile(
    r"retire|deprecat|no longer|sunset|discontinu|policy|organi[sz]ation|forbidden by", re.IGNORECASE
)


@dataclass(frozen=True)
class Cause:
    """What most likely happened, and what follows from it. `will_not_help` is "" where nothing tempts."""

    title: str
    source: str
    text: str
    steps: Sequence[str]
    who: str
    will_not_help: str = ""
    is_retryable: bool = True


@dataclass(frozen=True)
class Facts:
    """What is known around a failed call. `others_good` is the last good call of another key of the account since."""

    call: Call
    key: KeyRecord
    standing: presence.Standing
    last_good: Call | None
    others_good: Call | None
    first_bad: Call
    count: int
    changes: Sequence[AuditEntry]
    placed: (
        presence.Sight | None
    )  # the newest change of the secret between the last good call and the first bad one
    admins: str = field(default="")


def _injection(facts: Facts) -> Cause | None:
    """What is wrong with how the secret got to the workers, or None. Always looked at first."""
    standing, reference = facts.standing, facts.key.secret_ref
    after = (
        f" It began right after release {facts.placed.release}."
        if facts.placed and facts.placed.release
        else ""
    )
    if standing.missing:
        names = _names([sight.worker for sight in standing.missing])
        return Cause(
            f"{len(standing.missing)} of {standing.workers} workers have no secret"
            if standing.seen
            else "No worker has the secret",
            CONFIGURATION,
            f"{names} find nothing usable at {reference}: {standing.missing[0].problem}{after}",
            [
                f"Place the secret at {reference} where {names} can read it.",
                "Restart those workers: what stands in an environment cannot change in a living process.",
                "Wait until presence says that all workers see the same fingerprint, then test the key.",
            ],
            facts.admins,
            "Rotating the key: it is good, it is only not where the workers look.",
        )
    if len(standing.fingerprints) > 1:
        return Cause(
            "The workers hold different secrets",
            CONFIGURATION,
            f"{len(standing.fingerprints)} different secrets stand at {reference}, so it depends on the worker whether a call is let in.{after}",
            [
                "Compare the fingerprints on the key's page with the secret that is right.",
                f"Place that one at {reference} on every host, and restart the workers.",
                "Test the key.",
            ],
            facts.admins,
            "Rotating the key before all workers hold the same one.",
        )
    if odd := [warning for warning in standing.warnings if "may be" in warning]:
        return Cause(
            "The secret does not look like a key",
            CONFIGURATION,
            f"What stands at {reference}: {' '.join(odd)}{after}",
            [
                f"Place the whole key at {reference}: copy it anew from Icypeas, without a line break.",
                "Restart the workers, wait until presence says nothing of its shape, then test the key.",
            ],
            facts.admins,
            "Rotating the key: a good one was placed badly.",
        )
    return None


def _refused_key(facts: Facts) -> Cause:
    call, key = facts.call, facts.key
    injected = _injection(facts)
    if injected is not None:
        return injected
    if "user id" in call.message.lower() or "usernotfound" in call.message.lower().replace("_", ""):
        return Cause(
            "Icypeas wants the account's user id, or does not know the key",
            CONFIGURATION,
            f"The answer names the user. {'No user id is entered for' if not key.account.user_id else 'Another user id may be entered for'} the account {key.account.name}.",
            [
                "Look up the user id on the API page of Icypeas.",
                f'Enter it: manage.py account set "{key.account.name}" --user-id …',
                "Test the key.",
            ],
            facts.admins,
            "Rotating the key: the answer is about the user.",
        )
    if facts.placed is not None:
        release = f" with release {facts.placed.release}" if facts.placed.release else ""
        return Cause(
            "Another secret was placed, and Icypeas does not take it",
            CONFIGURATION,
            f"Since {facts.placed.changed_at:%d %b %H:%M} UTC another secret stands at {key.secret_ref}{release}; with the one before, calls went well. "
            "It may be cut off, of another account, or from the wrong variable.",
            [
                "Compare its length and its fingerprint with the secret that is right.",
                f"Place the right one at {key.secret_ref} and restart the workers.",
                "Test the key.",
            ],
            facts.admins,
            "Rotating the key: the value that was placed is wrong, not the key.",
        )
    changed = next((entry for entry in facts.changes if "secret reference" in entry.detail), None)
    if changed is not None:
        return Cause(
            "The record points to another place since a change",
            CONFIGURATION,
            f"{changed.actor or changed.via} changed the reference on {changed.at:%d %b %H:%M} UTC; with the one before, calls went well.",
            [
                "Look at the history of the key.",
                "Correct the reference, or place the secret there.",
                "Test the key.",
            ],
            facts.admins,
            "Rotating the key.",
        )
    if facts.others_good is not None:
        return Cause(
            "This secret is not the account's any more",
            CONFIGURATION,
            f"{facts.others_good.key} is let in to the same account with {'the same secret, so it may have passed' if facts.others_good.fingerprint == call.fingerprint else 'another secret'}. "
            "An account has one key: regenerating it at Icypeas ends every older one at once.",
            [
                f"Place the account's present key at {key.secret_ref} and restart the workers.",
                "Test the key.",
            ],
            facts.admins,
            "Another regeneration: it would end the key that works.",
        )
    return Cause(
        "Icypeas lets no key of this account in",
        VENDOR,
        "No key of the account was let in since. API access may be switched off in the account, or its key was regenerated there and placed nowhere here.",
        [
            "Log in at Icypeas and look whether API access is switched on.",
            "Compare the key there with ours by placing it anew, without spaces, quotes or the word Bearer.",
            "Test the key.",
        ],
        f"Whoever owns the account {key.account.name} at Icypeas; {facts.admins} can place the secret",
        "Rotating the key while API access is off: the new one would be refused, too.",
    )


def _forbidden(facts: Facts) -> Cause:
    call = facts.call
    if _CLOSED.search(call.message):
        return Cause(
            "Icypeas closed this way in",
            VENDOR,
            f"The notice of {call.at:%d %b %Y} reads: “{call.message}”. A provider may retire keys, and a rule of the organisation may forbid them.",
            [
                "Read the notice at Icypeas and ask its support which way in is open.",
                "Pause the workloads of this key until then.",
            ],
            f"Whoever owns the account {facts.key.account.name} at Icypeas",
            "Trying again, rotating the key, or making another: the way in is closed for all of them.",
            is_retryable=False,
        )
    return Cause(
        "Icypeas knows the key and forbids the call",
        VENDOR,
        "The plan may not hold this operation, or the account is restricted.",
        [
            "Look at the plan and the notices in the account at Icypeas.",
            "Ask its support when nothing is told there.",
        ],
        f"Whoever owns the account {facts.key.account.name} at Icypeas",
        "Rotating the key: it was known.",
    )


def _unpaid(facts: Facts) -> Cause:
    return Cause(
        "The subscription is unpaid",
        VENDOR,
        "Icypeas knows the key and waits for a payment.",
        ["Pay the open invoice at Icypeas.", "Then press Resume on the jobs that wait."],
        f"Whoever pays for the account {facts.key.account.name}",
        "Rotating the key: it was known.",
    )


def _out_of_credits(facts: Facts) -> Cause:
    return Cause(
        "The credits do not suffice",
        VENDOR,
        f"The account {facts.key.account.name} holds less than the call can cost.",
        [
            "Buy credits at Icypeas.",
            "Then press Resume on the jobs that wait: no row is lost, and none is paid twice.",
        ],
        f"Whoever pays for the account {facts.key.account.name}",
        "Another key of the same account: they share one balance.",
    )


def _too_many(facts: Facts) -> Cause:
    return Cause(
        "Too many calls for this route",
        VENDOR,
        "Somebody else uses the account beside this app, or its limits were lowered. Nothing was created.",
        [
            "Nothing: the route waits and goes on by itself.",
            "When it keeps happening, find who else uses the account.",
        ],
        facts.admins,
        "Another key of the same account: they share the limits.",
    )


def _no_connection(facts: Facts) -> Cause:
    return Cause(
        "Icypeas could not be reached",
        NETWORK,
        "No connection opened, so nothing was sent and nothing is charged.",
        [
            "Look at ICYPEAS_BASE_URL, the name service, the firewall and the proxy of the workers' hosts.",
            "The rows wait and go on by themselves.",
        ],
        "Whoever runs the workers' hosts",
        "Rotating the key: it never left.",
    )


def _unclear(facts: Facts) -> Cause:
    return Cause(
        "The answer never came, or could not be read",
        NETWORK,
        "The call may have arrived. What it was about is looked up, and never sent again by itself.",
        [
            "Nothing: what can be settled is settled by itself.",
            "What cannot waits on the job's page for a person.",
        ],
        who_can(Right.SPEND),
        "Starting the list again: what is known is not asked again, and what is unclear is not sent.",
    )


def _vendor_trouble(facts: Facts) -> Cause:
    return Cause(
        "Icypeas has trouble of its own",
        VENDOR,
        "A free call failed at their end.",
        ["Nothing: it is read again, at growing distances."],
        "Nobody here",
        "Rotating the key.",
    )


def _rejected(facts: Facts) -> Cause:
    return Cause(
        "Icypeas did not take the input",
        CONFIGURATION,
        "The request was understood and refused; nothing was created and nothing is charged.",
        [
            "Look at the rows that failed and correct them.",
            "Report it when they look right: a field may have changed.",
        ],
        who_can(Right.SPEND),
        "Sending the same again.",
    )


def _scope(facts: Facts) -> Cause:
    scope = facts.call.scope
    lost = next((entry for entry in facts.changes if _removed(entry, scope)), None)
    text = f"The key may not {SCOPES.get(scope, scope)}: the scope {scope} is not granted."
    if lost is not None:
        text += f" {lost.actor or lost.via} took it away on {lost.at:%d %b %H:%M} UTC{f': {lost.reason}' if lost.reason else ''}."
    return Cause(
        f"The scope {scope} {'was lost' if lost else 'is missing'}",
        POLICY,
        text,
        [
            f"Grant {scope} to the key if its purpose covers it, or choose a key that has it.",
            "Then press Resume.",
        ],
        facts.admins,
        "Rotating the key: scopes are this app's own.",
    )


def _removed(entry: AuditEntry, scope: str) -> bool:
    change = entry.detail.get("scopes")
    if not isinstance(change, list) or len(change) != 2:
        return False
    before, after = (str(part).split(", ") for part in change)
    return scope in before and scope not in after


def _environment(facts: Facts) -> Cause:
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


def _budget(facts: Facts) -> Cause:
    return Cause(
        "A cap or a budget is used up",
        POLICY,
        facts.call.message,
        ["Wait for the next day or month, or have the cap or the budget raised.", "Then press Resume."],
        f"{facts.admins} for caps, {who_can(Right.SET_BUDGETS)} for budgets",
        "Another key of the same team: the budget is the team's.",
    )


def _state(facts: Facts) -> Cause:
    return Cause(
        "The key record lets nothing out",
        POLICY,
        facts.call.message,
        ["Look at the state of the record and at its history.", "Complete, renew or replace it."],
        facts.admins,
    )


def _missing_secret(facts: Facts) -> Cause:
    injected = _injection(facts)
    if injected is not None:
        return injected
    return Cause(
        "A worker found no secret",
        CONFIGURATION,
        f"{facts.call.worker or 'A worker'} found nothing usable at {facts.key.secret_ref}: {facts.call.message} "
        "By now every worker sees one.",
        ["Press Resume on the jobs that wait."],
        facts.admins,
        "Rotating the key: it never left.",
    )


CAUSES: dict[Outcome, Callable[[Facts], Cause]] = {
    Outcome.VENDOR_401: _refused_key,
    Outcome.VENDOR_403: _forbidden,
    Outcome.UNPAID: _unpaid,
    Outcome.OUT_OF_CREDITS: _out_of_credits,
    Outcome.VENDOR_429: _too_many,
    Outcome.NOT_SENT: _no_connection,
    Outcome.UNCERTAIN: _unclear,
    Outcome.VENDOR_5XX: _vendor_trouble,
    Outcome.READ_FAILED: _vendor_trouble,
    Outcome.VENDOR_REJECTED: _rejected,
    Outcome.POLICY_SCOPE: _scope,
    Outcome.POLICY_ENVIRONMENT: _environment,
    Outcome.POLICY_BUDGET: _budget,
    Outcome.POLICY_STATE: _state,
    Outcome.SECRET_MISSING: _missing_secret,
}


def _names(workers: Sequence[str]) -> str:
    return workers[0] if len(workers) == 1 else f"{', '.join(workers[:-1])} and {workers[-1]}"

"""Why a call failed: the facts around it, the likeliest cause among `causes`, the evidence, and what it rules out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from keys import presence
from keys.causes import CAUSES, CONFIGURATION, NETWORK, POLICY, VENDOR, Cause, Facts
from keys.choices import POLICY_OUTCOMES, Outcome
from keys.models import Call, KeyRecord
from people.models import AuditEntry
from people.rights import Right
from people.selectors import who_can

SOURCES = {
    CONFIGURATION: ("wrench", "not Icypeas, not our rules, not the network"),
    POLICY: ("shield", "no request was made, and nothing was charged"),
    VENDOR: ("cloud", "the request arrived there"),
    NETWORK: ("unplug", "between our workers and Icypeas"),
}


@dataclass(frozen=True)
class Evidence:
    """A question with its answer. `state` is ok, bad, warn or quiet; `at` is when it was seen."""

    question: str
    answer: str
    state: str
    at: datetime | None = None


@dataclass(frozen=True)
class Explanation:
    """Everything that the page of a failed call says."""

    call: Call
    cause: Cause
    happened: str
    first_at: datetime
    calls: int
    evidence: Sequence[Evidence]
    ruled_out: Sequence[tuple[str, str]]

    @property
    def source_icon(self) -> str:
        return SOURCES[self.cause.source][0]

    @property
    def source_note(self) -> str:
        return SOURCES[self.cause.source][1]


def explain(call: Call) -> Explanation:
    """Explain a call that failed. Raises `ValueError` for one that did not."""
    if call.outcome == Outcome.OK:
        raise ValueError("this call went well")
    facts = _gather(call)
    cause = CAUSES[Outcome(call.outcome)](facts)
    return Explanation(
        call=call,
        cause=cause,
        happened=_happened(facts),
        first_at=facts.first_bad.at,
        calls=facts.count,
        evidence=_evidence(facts),
        ruled_out=_ruled_out(facts, cause),
    )


def _gather(call: Call) -> Facts:
    key = call.key
    good = Call.objects.filter(outcome=Outcome.OK)
    last_good = good.filter(key=key, id__lt=call.id).order_by("-id").first()
    since = Call.objects.filter(key=key, outcome=call.outcome, id__lte=call.id)
    if last_good is not None:
        since = since.filter(id__gt=last_good.id)
    first_bad = since.order_by("id").first() or call
    others = good.filter(account_id=call.account_id, at__gte=first_bad.at).exclude(key=key)
    changes = AuditEntry.objects.filter(
        object_type="keyrecord", object_id=key.id, action="key.changed", at__lte=first_bad.at
    )
    if last_good is not None:
        changes = changes.filter(at__gte=last_good.at)
    standing = presence.standing(key.secret_ref)
    placed = [
        sight
        for sight in standing.sights
        if last_good is not None and last_good.at < sight.changed_at <= call.at
    ]
    return Facts(
        call=call,
        key=key,
        standing=standing,
        last_good=last_good,
        others_good=others.order_by("-id").first(),
        first_bad=first_bad,
        count=since.count(),
        changes=list(changes.select_related("actor").order_by("-id")[:3]),
        placed=max(placed, key=lambda sight: sight.changed_at, default=None),
        admins=who_can(Right.MANAGE_KEYS),
    )


def _happened(facts: Facts) -> str:
    call = facts.call
    if call.outcome in POLICY_OUTCOMES:
        return f"We refused the call before it was sent: {call.message}"
    said = f"HTTP {call.status}" if call.status else Outcome(call.outcome).label
    times = "once" if facts.count == 1 else f"{facts.count:,} times in a row"
    return f"{said}, {times}. {call.message}".strip()


# --- evidence ----------------------------------------------------------------------------------------------------------


def _evidence(facts: Facts) -> list[Evidence]:
    standing, good, others = facts.standing, facts.last_good, facts.others_good
    found = [
        Evidence("Does the secret reach every worker?", standing.text.capitalize(), standing.tone),
        Evidence(
            "Last good call with this key",
            f"{good.worker}, {good.route}" if good else "none was recorded",
            "ok" if good else "warn",
            good.at if good else None,
        ),
        Evidence(
            "Do other keys of the account work?",
            f"Yes, {others.key} since then" if others else "No other key was let in since then",
            "ok" if others else "quiet",
            others.at if others else None,
        ),
    ]
    if standing.warnings:
        found.append(Evidence("Shape of the secret", " ".join(standing.warnings), "warn"))
    if facts.placed is not None:
        release = f", release {facts.placed.release}" if facts.placed.release else ""
        found.append(
            Evidence(
                "What changed before?",
                f"the secret at {facts.key.secret_ref}{release}",
                "warn",
                facts.placed.changed_at,
            )
        )
    for entry in facts.changes:
        fields = ", ".join(entry.detail) or "the record"
        found.append(
            Evidence("What changed before?", f"{entry.actor or entry.via}: {fields}", "warn", entry.at)
        )
    if facts.placed is None and not facts.changes:
        found.append(Evidence("What changed before?", "nothing that this app knows of", "quiet"))
    return found


def _ruled_out(facts: Facts, cause: Cause) -> list[tuple[str, str]]:
    """Other causes that the facts speak against, for refused keys alone."""
    if facts.call.outcome not in (Outcome.VENDOR_401, Outcome.VENDOR_403):
        return []
    found = [("Missing scope, wrong environment, cap", "our own rules let the call out")]
    if facts.standing.is_uniform:
        found.append(("Secret not everywhere", facts.standing.text))
    if facts.placed is None and facts.last_good is not None:
        found.append(("Wrong value after a deployment", "the same secret was let in before"))
    if facts.others_good is not None:
        found.append(("API access switched off", "another key of the account is let in"))
    if not any("Bearer" in warning for warning in facts.standing.warnings):
        found.append(("The word Bearer before the key", "it is taken off, and none was there"))
    return found


def failed_calls(key: KeyRecord, job: int | None = None) -> Call | None:
    """The last call of a key that failed, of one job when it is told."""
    calls = Call.objects.select_related("key__account").filter(key=key).exclude(outcome=Outcome.OK)
    if job is not None:
        calls = calls.filter(job=job)
    return calls.order_by("-id").first()

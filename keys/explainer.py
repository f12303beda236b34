"""Why a call failed: the facts around it, the likeliest cause among `causes`, the evidence, and what it rules out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Case, Q, QuerySet, When

from keys import ledger, presence
from keys.causes import CAUSES
from keys.causes.facts import CONFIGURATION, NETWORK, POLICY, VENDOR, Cause, Facts
from keys.causes.rules import removed
from keys.choices import POLICY_OUTCOMES, Outcome
from keys.gate import NO_API_SECRET
from keys.models import Call, KeyRecord
from keys.secrets import is_odd
from people.models import AuditEntry
from people.rights import Right
from people.selectors import who_can

LAST = 2**62
REFERENCE = "secret reference"  # as the audit log calls the field
ROTATION = timedelta(days=1)  # changes so near to each other belong to one rotation
AT_ONCE = timedelta(minutes=1)  # a job stops so soon after the call that it stops for
# What one job is told stops the other jobs of its key, or of its account.
TOLD_TO_KEY = (Outcome.VENDOR_401,)
TOLD_TO_ACCOUNT = (
    Outcome.UNPAID,
    Outcome.OUT_OF_CREDITS,
    Outcome.VENDOR_403,
    Outcome.VENDOR_REJECTED,
)
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
    number = call.id if call.id is not None else LAST  # a refusal of single rows is no call of its own
    # A scope or a cap refuses some calls and lets others out: of those only the same scope tells when it was well.
    good = Call.objects.filter(outcome=Outcome.OK)
    mine = good.filter(key=key)
    of_this_kind = mine.filter(scope=call.scope) if call.outcome == Outcome.POLICY_SCOPE else mine
    last_good = of_this_kind.filter(id__lt=number).order_by("-id").first()
    since = Call.objects.filter(key=key, outcome=call.outcome, id__lte=number)
    if last_good is not None:
        since = since.filter(id__gt=last_good.id)
    first_bad = since.order_by("id").first() or call
    others = good.filter(account_id=call.account_id, at__gte=first_bad.at).exclude(key=key)
    changed = AuditEntry.objects.filter(
        object_type="keyrecord", object_id=key.id, action="key.changed", at__lte=call.at
    ).select_related("actor")
    changes = changed.filter(at__lte=first_bad.at)
    if last_good is not None:
        changes = changes.filter(at__gte=last_good.at)
    recent = list(changes.order_by("-id")[:3])
    lost = _lost(changed, call)
    lacks_api_secret = call.outcome == Outcome.SECRET_MISSING and call.message.startswith(NO_API_SECRET)
    standing = presence.standing(key.account.api_secret_ref if lacks_api_secret else key.secret_ref)
    known = [call.fingerprint] if call.fingerprint else [] if lacks_api_secret else standing.fingerprints
    return Facts(
        call=call,
        key=key,
        standing=standing,
        last_good=last_good,
        others_good=others.select_related("key").order_by("-id").first(),
        first_bad=first_bad,
        count=since.count(),
        changes=recent or ([lost] if lost else []),
        placed=None if lacks_api_secret else _placed(standing, last_good, first_bad),
        admins=who_can(Right.MANAGE_KEYS),
        good_since=of_this_kind.filter(id__gt=number).order_by("id").first(),
        was_good=_was_good(mine, call, last_good),
        strangers=presence.strangers(key, known),
        is_api_secret=presence.is_api_secret(key, known),
        lacks_api_secret=lacks_api_secret,
        lost=lost,
        moved=_moved(changed, lost) if lost else next((e for e in recent if REFERENCE in e.detail), None),
    )


def _placed(standing: presence.Standing, last_good: Call | None, first_bad: Call) -> presence.Sight | None:
    """The newest change of what stands at the reference, between the last good call and the first bad one. Workers report at
    intervals, so a change may be seen a moment after the call that met it."""
    if last_good is None:
        return None
    until = first_bad.at + timedelta(seconds=2 * presence.REPORT_EVERY_S)
    placed = [
        sight
        for sight in standing.sights
        if last_good.at < sight.changed_at <= until
        and (not sight.fingerprint or sight.fingerprint != last_good.fingerprint)
    ]
    return max(placed, key=lambda sight: sight.changed_at, default=None)


def _was_good(mine: QuerySet[Call], call: Call, last_good: Call | None) -> Call | None:
    """The last good call with this call's secret, before another secret was let in."""
    if last_good is None or not call.fingerprint or last_good.fingerprint == call.fingerprint:
        return None
    earlier = mine.filter(id__lt=last_good.id, fingerprint=call.fingerprint)
    return earlier.order_by("-id").first()


def _lost(changed: QuerySet[AuditEntry], call: Call) -> AuditEntry | None:
    """The last change that took away the scope that a call lacked."""
    if call.outcome != Outcome.POLICY_SCOPE:
        return None
    of_scopes = changed.filter(detail__has_key="scopes").order_by("-id")[:50]
    return next((entry for entry in of_scopes if removed(entry, call.scope)), None)


def _moved(changed: QuerySet[AuditEntry], lost: AuditEntry) -> AuditEntry | None:
    """The change of the reference that the loss of a scope belongs to: the same one, or one within a day."""
    around = changed.filter(at__range=(lost.at - ROTATION, lost.at + ROTATION), detail__has_key=REFERENCE)
    return around.order_by("-id").first()


def _happened(facts: Facts) -> str:
    call = facts.call
    if call.outcome in POLICY_OUTCOMES:
        return f"We refused the call before it was sent: {call.message}"
    said = f"HTTP {call.status}" if call.status else Outcome(call.outcome).label
    if not facts.count:  # no call failed: what the job was told says it all
        return call.message
    times = "once" if facts.count == 1 else f"{facts.count:,} times in a row"
    return f"{said}, {times}. {call.message}".strip()


# --- evidence ----------------------------------------------------------------------------------------------------------


def _evidence(facts: Facts) -> list[Evidence]:
    """The questions in the order in which they narrow it down: how the secret got to the workers first."""
    standing, good, others, since = facts.standing, facts.last_good, facts.others_good, facts.good_since
    secret = "API secret" if facts.lacks_api_secret else "secret"
    found = [Evidence(f"Does the {secret} reach every worker?", standing.text.capitalize(), standing.tone)]
    if facts.call.fingerprint and good is not None and good.fingerprint:
        answer, state = ("Yes", "ok") if facts.is_same_secret else (f"No: {good.fingerprint} before", "warn")
        found.append(Evidence("Same secret as in the last good call?", answer, state, good.at))
    if standing.warnings:
        found.append(Evidence(f"Shape of the {secret}", " ".join(standing.warnings), "warn"))
    found += [
        Evidence(
            "Last good call with this key",
            f"{good.worker}, {good.route}" if good else "none was recorded",
            "ok" if good else "warn",
            good.at if good else None,
        ),
        Evidence(
            "Has it worked since?",
            f"Yes, {since.worker}, {since.route}" if since else "No",
            "ok" if since else "quiet",
            since.at if since else None,
        ),
        Evidence(
            "Do other keys of the account work?",
            f"Yes, {others.key} since then" if others else "No other key was let in since then",
            "ok" if others else "quiet",
            others.at if others else None,
        ),
    ]
    return found + _balance(facts) + _changes(facts)


def _balance(facts: Facts) -> list[Evidence]:
    """What the account held when it was last read, where credits are what is said to be missing."""
    account = facts.key.account
    if facts.call.outcome != Outcome.OUT_OF_CREDITS:
        return []
    question = "What does the account hold?"
    if account.balance is None:
        return [Evidence(question, "its balance was never read", "quiet")]
    answer = f"{ledger.words(account.balance)} credits, as last read"
    return [Evidence(question, answer, "warn" if account.balance else "bad", account.balance_asked_at)]


def _changes(facts: Facts) -> list[Evidence]:
    """What changed between the last good call and the first bad one: secret, release, record."""
    found = []
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
    return found or [Evidence("What changed before?", "nothing that this app knows of", "quiet")]


def _ruled_out(facts: Facts, cause: Cause) -> list[tuple[str, str]]:
    """Other causes that the facts speak against, for refused keys alone."""
    if facts.call.outcome not in (Outcome.VENDOR_401, Outcome.VENDOR_403):
        return []
    found = [("Missing scope, wrong environment, cap", "our own rules let the call out")]
    if facts.standing.is_uniform:
        found.append(("Secret not everywhere", facts.standing.text))
        if not any(is_odd(warning) for warning in facts.standing.warnings) and not facts.standing.shorter_by:
            found.append(
                ("Truncated key", "it is not shorter than the one before it, and has the shape of a key")
            )
    if facts.is_same_secret:
        found.append(("Wrong value after a deployment", "the same secret was let in before"))
    if facts.call.fingerprint and not facts.strangers and not facts.is_api_secret:
        found.append(("Wrong variable", "no other record holds the same secret for another account"))
    if facts.others_good is not None:
        found.append(("API access switched off", "another key of the account is let in"))
    found.append(("The word Bearer before the key", "it is always taken off before a call"))
    return [(title, because) for title, because in found if title != cause.title]


def explain_pause(key: KeyRecord, outcome: Outcome, *, message: str, at: datetime) -> Explanation:
    """Explain what holds a job up though no call of it failed: Icypeas may take a list and leave its rows undone."""
    return explain(
        Call(key=key, account=key.account, outcome=outcome, message=message[:300], at=at, route="answers")
    )


def failed_calls(key: KeyRecord, job: int | None = None) -> Call | None:
    """The last call of a key that failed, of one job when it is told."""
    calls = Call.objects.select_related("key__account").filter(key=key).exclude(outcome=Outcome.OK)
    if job is not None:
        calls = calls.filter(job=job)
    return calls.order_by("-id").first()


def call_that_stopped(job: int, key: KeyRecord, outcomes: Sequence[Outcome], *, at: datetime) -> Call | None:
    """The call with one of `outcomes` that stopped a job of this key at that moment: its own, else one that another job made
    and that was told to this one. None when no call near it fits."""
    siblings = KeyRecord.objects.filter(account=key.account_id)
    told = Q(key=key, outcome__in=TOLD_TO_KEY) | Q(key__in=siblings, outcome__in=TOLD_TO_ACCOUNT)
    calls = Call.objects.select_related("key__account").exclude(outcome=Outcome.OK)
    calls = calls.filter(Q(job=job) | told, outcome__in=outcomes, at__range=(at - AT_ONCE, at))
    own_first = Case(When(job=job, then=0), default=1)
    return calls.order_by(own_first, "-id").first()

"""What a person should look at: findings of a key record, in words and as a condition of the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Case, Q, QuerySet, When
from django.utils import timezone

from keys import presence
from keys.choices import USABLE_STATES, KeyState, Outcome
from keys.models import KeyRecord

UNUSED_AFTER = timedelta(days=30)
DUE_SOON = timedelta(days=14)
# Outcomes of the last call that say the secret or the account is the trouble.
KEY_TROUBLE = (Outcome.VENDOR_401, Outcome.VENDOR_403, Outcome.UNPAID)


@dataclass(frozen=True)
class Finding:
    """Something about a key that a person should look at: what, the evidence, and when it is due."""

    code: str
    tone: str  # warn or bad
    title: str
    evidence: str
    due: date | None = None


def _is_ownerless() -> Q:
    return (Q(owner__isnull=True) | Q(owner__is_active=False)) & ~Q(state=KeyState.REVOKED)


def with_severity(keys: QuerySet[KeyRecord]) -> QuerySet[Any]:
    """Annotate `severity`: 2 for a record with a bad finding, 1 for one with a warning, 0 without. It says in SQL what
    `findings_of` says in words; a test holds the two together."""
    today = timezone.localdate()
    soon = today + DUE_SOON
    usable = Q(state__in=USABLE_STATES)
    ill_placed = Q(is_secret_missing=True) | Q(do_secrets_differ=True) | Q(is_shared_across=True)
    bad = _is_ownerless() | (
        usable
        & (
            Q(rotate_by__lt=today)
            | Q(expires_at__lt=today)
            | Q(last_used_outcome__in=KEY_TROUBLE)
            | ill_placed
        )
    )
    without_deputy = Q(deputy__isnull=True) & ~Q(environment__in=settings.RELAXED_ENVIRONMENTS)
    warn = usable & (Q(rotate_by__lte=soon) | Q(expires_at__lte=soon) | without_deputy | is_unused())
    seen: QuerySet[KeyRecord] = presence.with_sight(keys)
    return seen.annotate(severity=Case(When(bad, then=2), When(warn, then=1), default=0))


def is_unused() -> Q:
    """Not used for `UNUSED_AFTER`, or never in so long a life."""
    long_ago = timezone.now() - UNUSED_AFTER
    return Q(last_used_at__lt=long_ago) | Q(last_used_at__isnull=True, created_at__lt=long_ago)


def findings_of(key: KeyRecord) -> list[Finding]:
    """What the record itself tells: owner, refused secret, rotation, expiry, deputy. Worst first."""
    found: list[Finding] = []
    today = timezone.localdate()
    if key.owner is None and key.state != KeyState.REVOKED:
        found.append(Finding("owner", "bad", "No owner", "Nobody answers for this key."))
    elif key.owner is not None and not key.owner.is_active and key.state != KeyState.REVOKED:
        found.append(Finding("owner", "bad", "Owner disabled", f"{key.owner.name} cannot log in any more."))
    if key.state in USABLE_STATES:
        if key.last_used_outcome in KEY_TROUBLE:
            said = Outcome(key.last_used_outcome).label
            found.append(
                Finding(
                    "outcome", "bad", f"Last call: {said}", "Jobs with this key pause until it is mended."
                )
            )
        found += _sight_findings(key)
        found += _date_findings(key, today)
        idle_since = key.last_used_at or key.created_at
        if idle_since < timezone.now() - UNUSED_AFTER:
            days = (timezone.now() - idle_since).days
            evidence = (
                f"Last used on {words_of_day(key.last_used_at.date())}."
                if key.last_used_at
                else "Never used through this app."
            )
            found.append(
                Finding(
                    "unused", "warn", f"Not used for {_days(days)}", f"{evidence} Revoke what nobody needs."
                )
            )
        if key.deputy is None and key.environment not in settings.RELAXED_ENVIRONMENTS:
            found.append(Finding("deputy", "warn", "No deputy", "Nobody stands in for the owner."))
    return sorted(found, key=lambda finding: finding.tone != "bad")


def _sight_findings(key: KeyRecord) -> list[Finding]:
    """What the workers find at the record's reference; read with the record, or for it alone."""
    seen: Any = key
    if not hasattr(key, "is_secret_missing"):
        seen = presence.with_sight(KeyRecord.objects.filter(id=key.id)).get()
    found = []
    if seen.is_secret_missing:
        standing = presence.standing(key.secret_ref)
        who = (
            "No worker finds"
            if not standing.seen
            else f"{len(standing.missing)} of {standing.workers} workers do not find"
        )
        evidence = f"{who} a secret at {key.secret_ref}."
        found.append(Finding("secret", "bad", "Secret not found", evidence))
    if seen.do_secrets_differ:
        evidence = f"It depends on the worker which secret stands at {key.secret_ref}."
        found.append(Finding("fingerprint", "bad", "The workers hold different secrets", evidence))
    if seen.is_shared_across:
        names = ", ".join(
            other.name for other in presence.sharing(key) if other.environment != key.environment
        )
        evidence = f"{names} holds the same secret: what leaks there opens this."
        found.append(Finding("sharing", "bad", "Secret shared across environments", evidence))
    return found


def _date_findings(key: KeyRecord, today: date) -> list[Finding]:
    """Rotation and expiry of a usable record."""
    found = []
    days = (key.rotate_by - today).days
    if days < 0:
        found.append(
            Finding(
                "rotation",
                "bad",
                f"Rotation is {_days(-days)} late",
                f"It was due on {words_of_day(key.rotate_by)}.",
                key.rotate_by,
            )
        )
    elif days <= DUE_SOON.days:
        title = "Rotation is due today" if days == 0 else f"Rotation is due in {_days(days)}"
        found.append(
            Finding("rotation", "warn", title, f"Due on {words_of_day(key.rotate_by)}.", key.rotate_by)
        )
    if key.expires_at is not None:
        left = (key.expires_at - today).days
        if left < 0:
            evidence = f"Its last day was {words_of_day(key.expires_at)}; it lets nothing out."
            found.append(Finding("expiry", "bad", f"Expired {_days(-left)} ago", evidence, key.expires_at))
        elif left <= DUE_SOON.days:
            evidence = f"Its last day is {words_of_day(key.expires_at)}; it lets nothing out from then on."
            title = "Expires today" if left == 0 else f"Expires in {_days(left)}"
            found.append(Finding("expiry", "warn", title, evidence, key.expires_at))
    return found


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def words_of_day(day: date) -> str:
    return f"{day.day} {day:%b %Y}"


def count_findings() -> int:
    """Key records with a finding: the number beside Keys in the navigation."""
    return with_severity(KeyRecord.objects.order_by()).filter(Q(severity__gt=0)).count()

"""Reminders before a key must be rotated, before it expires, and before a finding is due: 30, 14, 7 and 1 days ahead, and once
when the day is past."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

from django.db.models import Q
from django.urls import reverse

from keys import finding_rules, findings
from keys.choices import USABLE_STATES, KeyState, Tone
from keys.clock import db_now
from keys.finding_rules import words_of_day, words_of_days
from keys.models import Finding, KeyRecord
from people import chores, notices
from people.models import User
from people.rights import Right
from people.selectors import everyone_with

THRESHOLDS = (1, 7, 14, 30)  # days ahead
EVERY = timedelta(hours=1)


def sweep(now: datetime | None = None) -> bool:
    """Remind of what is near, if nobody did within the last hour; and let old notices go."""
    now = now or db_now()
    if not chores.claim("reminders", every=EVERY, now=now):
        return False
    remind(now)
    notices.forget(now)
    return True


def remind(now: datetime | None = None) -> int:
    """Tell owner and deputy of each record with a near or past day, its own or that of a finding; how many notices.

    A person hears once of each threshold of each date: a date that was changed begins anew, and whoever comes back after
    some days hears of the nearest threshold alone.
    """
    today = (now or db_now()).astimezone(UTC).date()
    horizon = today + timedelta(days=max(THRESHOLDS))
    near = Q(state__in=USABLE_STATES) & (Q(rotate_by__lte=horizon) | Q(expires_at__lte=horizon))
    keys = KeyRecord.objects.filter(near | Q(state=KeyState.EXPIRED, expires_at__lte=horizon))
    found = list(keys.select_related("owner", "deputy").order_by("id"))
    # One that is excepted is reminded of by nobody until the exception is over: then it begins anew.
    open_ones = findings.counted().exclude(code__in=findings.REMINDED).filter(due__lte=horizon)
    due = list(open_ones.select_related("key__owner", "key__deputy"))
    admins = list(everyone_with(Right.MANAGE_KEYS)) if found or due else []
    news = [news for key in found for news in _of(key, today, admins)]
    return notices.tell([*news, *(_of_finding(finding, today, admins) for finding in due)])


def _of(key: KeyRecord, today: date, admins: Sequence[User]) -> Iterator[notices.News]:
    if key.state in USABLE_STATES and (at := threshold(key.rotate_by, today)) is not None:
        days = (key.rotate_by - today).days
        said = (
            f"must be rotated {_ahead(days)}"
            if days >= 0
            else f"is {words_of_days(-days)} late to be rotated"
        )
        text = f"{'Due on' if days >= 0 else 'It was due on'} {words_of_day(key.rotate_by)}."
        yield _news(key, "rotation", key.rotate_by, at, said, text, admins)
    if key.expires_at and (at := threshold(key.expires_at, today)) is not None:
        days = (key.expires_at - today).days
        said = f"expires {_ahead(days)}" if days >= 0 else "has expired"
        last = f"last day {'is' if days >= 0 else 'was'} {words_of_day(key.expires_at)}"
        text = f"Its {last}; after it, it lets nothing out. Renew it, or revoke it when nobody needs it."
        yield _news(key, "expiry", key.expires_at, at, said, text, admins)


def threshold(day: date, today: date) -> int | None:
    """The nearest threshold that was reached: -1 when the day is past, None when it is far."""
    left = (day - today).days
    return -1 if left < 0 else next((at for at in THRESHOLDS if left <= at), None)


def _of_finding(finding: Finding, today: date, admins: Sequence[User]) -> notices.News:
    """Once for each threshold and each time that the finding began. Who was just told that a bad one began, with its date,
    does not hear of the same date again in the same hour."""
    key, days = finding.key, (finding.due - today).days
    at = threshold(finding.due, today)
    people = _people(key, admins)
    if finding.tone == Tone.BAD and at == threshold(finding.due, finding.opened_at.astimezone(UTC).date()):
        told = finding_rules.responsible(key, admins)
        people = [person for person in people if person not in told]
    left = f"due {_ahead(days)}" if days >= 0 else f"{words_of_days(-days)} late"
    return notices.News(
        people,
        kind="due",
        dedupe=f"due:{finding.id}:{finding.times}:{finding.due}:{_name_of(at)}",
        title=f"{key.name}: {finding.title}, {left}",
        text=f"{finding.evidence} Due {words_of_day(finding.due)}.",
        url=reverse("keys:key_detail", args=[key.name]),
    )


def _people(key: KeyRecord, admins: Sequence[User]) -> list[User]:
    """Owner and deputy; where the owner is gone or disabled, the key admins in the owner's place."""
    owners = [key.owner] if key.owner is not None and key.owner.is_active else list(admins)
    return [*owners, *([key.deputy] if key.deputy else [])]


def _name_of(at: int | None) -> str:
    """A threshold as the name of an occasion."""
    return "past" if at is not None and at < 0 else str(at)


def _news(
    key: KeyRecord, kind: str, day: date, at: int, said: str, text: str, admins: Sequence[User]
) -> notices.News:
    return notices.News(
        _people(key, admins),
        kind=kind,
        dedupe=f"{kind}:{key.id}:{day}:{_name_of(at)}",
        title=f"{key.name} {said}",
        text=text,
        url=reverse("keys:key_detail", args=[key.name]),
    )


def _ahead(days: int) -> str:
    return "today" if days == 0 else f"in {words_of_days(days)}"

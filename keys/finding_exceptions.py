"""Dated exceptions: a finding rests until a day, with a reason, and counts again after it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from django.db import transaction
from django.utils import timezone

from keys import findings
from keys.clock import db_now
from keys.finding_rules import words_of_day
from keys.models import Finding, KeyRecord
from people import audit

EXCEPTED_AT_MOST = timedelta(days=180)
FIELDS = ("excepted_until", "excepted_by", "excepted_at", "exception_reason")


class FindingError(Exception):
    """An exception cannot be made as asked. `fields` maps a field's name to its sentence."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(" ".join(fields.values()))
        self.fields = fields


def last_day_of_exception(now: datetime | None = None) -> date:
    return (now or timezone.now()).astimezone(UTC).date() + EXCEPTED_AT_MOST


def except_finding(actor: audit.Actor, finding: Finding, *, until: date, reason: str) -> Finding:
    """Let a finding rest until that day, its last. Raises `FindingError`."""
    found = {}
    today = timezone.now().astimezone(UTC).date()
    if until <= today:
        found["until"] = "Choose a day to come: the finding counts again after it."
    elif until > last_day_of_exception():
        found["until"] = (
            f"An exception lasts {EXCEPTED_AT_MOST.days} days at most: {words_of_day(last_day_of_exception())} or earlier."
        )
    if not reason.strip():
        found["reason"] = "Say why this may rest: the history keeps it."
    if found:
        raise FindingError(found)
    with transaction.atomic():
        finding = _held(finding)
        finding.excepted_until, finding.exception_reason = until, " ".join(reason.split())[:500]
        finding.excepted_by, finding.excepted_at = actor.user, db_now()
        finding.save(update_fields=FIELDS)
        findings.store_severity([finding.key_id])
        detail = {"finding": finding.title, "until": words_of_day(until)}
        audit.record(actor, "key.exception_made", finding.key, reason=reason.strip(), detail=detail)
    return finding


def end_exception(actor: audit.Actor, finding: Finding, *, reason: str) -> Finding:
    """Have a finding count again before its exception is over. Raises `FindingError`."""
    if not reason.strip():
        raise FindingError({"reason": "Say why: the history keeps it."})
    with transaction.atomic():
        finding = _held(finding)
        if finding.excepted_until is None:
            raise FindingError({"": "The exception is over already."})
        detail = {"finding": finding.title, "would have lasted until": words_of_day(finding.excepted_until)}
        finding.excepted_until = finding.excepted_by = finding.excepted_at = None
        finding.exception_reason = ""
        finding.save(update_fields=FIELDS)
        findings.store_severity([finding.key_id])
        audit.record(actor, "key.exception_ended", finding.key, reason=reason.strip(), detail=detail)
    return finding


def _held(finding: Finding) -> Finding:
    """The finding as it is now, its record's row held. Raises `FindingError` when it is over."""
    KeyRecord.objects.select_for_update(no_key=True).get(id=finding.key_id)
    finding = Finding.objects.select_related("key").get(id=finding.id)
    if finding.closed_at is not None:
        raise FindingError({"": "This is over: nothing is left to except."})
    return finding

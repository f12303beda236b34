"""One mail a person and day with the notices that were not mailed yet. A worker sends it."""

from __future__ import annotations

import logging
import smtplib
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction
from django.utils import timezone

from people.models import Digest, Notice, User

RETRY = timedelta(minutes=15)  # after a refusal; also how long a send may take before another may try
FRESH = timedelta(days=7)  # older notices are not mailed any more: they came before mail was set up
SHOWN = 40
# What a server said no to for certain. All else after the connection stood may have been delivered.
REFUSALS = (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused, smtplib.SMTPNotSupportedError)

log = logging.getLogger(__name__)


def is_on() -> bool:
    """Whether this installation sends mail."""
    return bool(settings.HAS_EMAIL)


def due_people(now: datetime | None = None) -> list[int]:
    """Ids of people whose digest is to be sent now: something to mail, their hour has come, none was sent on their day."""
    if not is_on():
        return []
    now = now or timezone.now()
    waiting = Notice.objects.filter(mailed_at__isnull=True, at__gte=now - FRESH)
    people = User.objects.filter(is_active=True, id__in=waiting.values("person")).order_by("id")
    hours = {person.id: _local(person, now) for person in people}
    due = {number: here.date() for number, here in hours.items() if here.hour >= settings.DIGEST_HOUR}
    settled = {
        (digest.person_id, digest.day)
        for digest in Digest.objects.filter(person__in=due, day__in=set(due.values()))
        if digest.sent_at or digest.next_try_at > now
    }
    return [number for number, day in due.items() if (number, day) not in settled]


def send(person_id: int, now: datetime | None = None) -> bool:
    """Send the digest of one person, if it is still due; whether a mail went out.

    The notices and the digest are marked as mailed **before** the mail is sent, and the mark is taken back when the server
    could not be reached or said no. So it errs towards silence: a worker that dies in between, or an answer that is lost,
    costs one mail (its notices still stand in the app), and no mail that was delivered is ever delivered again.
    """
    now = now or timezone.now()
    person = User.objects.filter(id=person_id, is_active=True).first()
    if person is None or not is_on():
        return False
    digest, notices = _claim(person, now)
    if digest is None:
        return False
    connection = get_connection()
    try:
        connection.open()
    except (OSError, smtplib.SMTPException) as error:
        _take_back(digest, notices, error)
        return False
    try:
        _message(person, digest, notices, connection).send()
    except REFUSALS as error:
        _take_back(digest, notices, error)
        return False
    except (OSError, smtplib.SMTPException) as error:
        problem = f"{type(error).__name__}: it may have arrived, so it is not sent again"
        Digest.objects.filter(id=digest.id).update(problem=problem[:200])
        log.warning("digest %s: %s", digest.id, problem)
        return False
    finally:
        try:
            connection.close()
        except (OSError, smtplib.SMTPException):
            log.debug("digest %s: the connection did not close", digest.id)
    return True


def _claim(person: User, now: datetime) -> tuple[Digest | None, list[Notice]]:
    """This day's digest with what belongs into it, marked as sent; None when another has it or nothing is to be told."""
    day = _local(person, now).date()
    Digest.objects.get_or_create(person=person, day=day, defaults={"next_try_at": now})
    with transaction.atomic():
        digest = Digest.objects.select_for_update().get(person=person, day=day)
        if digest.sent_at or digest.next_try_at > now:
            return None, []
        waiting = Notice.objects.filter(person=person, mailed_at__isnull=True, at__gte=now - FRESH)
        notices = list(waiting.order_by("-id"))
        if not notices:
            return None, []
        Notice.objects.filter(id__in=[notice.id for notice in notices]).update(mailed_at=now)
        digest.sent_at, digest.next_try_at = now, now + RETRY
        digest.tries += 1
        digest.problem = ""
        digest.save()
    return digest, notices


def _take_back(digest: Digest, notices: list[Notice], error: Exception) -> None:
    """It was not delivered: the sweep finds it due again after `RETRY`."""
    # The server's words may hold an address, so only the kind of the error is kept.
    with transaction.atomic():
        Notice.objects.filter(id__in=[notice.id for notice in notices]).update(mailed_at=None)
        Digest.objects.filter(id=digest.id).update(sent_at=None, problem=type(error).__name__)
    log.warning("digest %s was not taken (%s), try %s", digest.id, type(error).__name__, digest.tries)


def _message(
    person: User, digest: Digest, notices: list[Notice], connection: BaseEmailBackend
) -> EmailMessage:
    count = len(notices)
    here = settings.PUBLIC_URL
    parts = []
    for notice in notices[:SHOWN]:
        lines = [notice.title, notice.text, f"{here}{notice.url}" if here and notice.url else ""]
        parts.append("\n".join(line for line in lines if line))
    if count > SHOWN:
        parts.append(f"And {count - SHOWN} more.")
    end = f"All notices: {here}/notices/" if here else "All notices are in the app, behind the bell."
    body = "\n\n".join([f"Hello {person.name},", *parts, end])
    return EmailMessage(
        subject=f"Enrichment desk: {count} notice{'' if count == 1 else 's'}, {_words(digest.day)}",
        body=body + "\n",
        to=[person.email],
        connection=connection,
        headers={"Auto-Submitted": "auto-generated"},
    )


def _local(person: User, now: datetime) -> datetime:
    try:
        return now.astimezone(ZoneInfo(person.time_zone))
    except (ZoneInfoNotFoundError, ValueError):
        return now


def _words(day: date) -> str:
    return f"{day.day} {day:%b %Y}"

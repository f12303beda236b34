"""Calls as they are written down: the call, and in the same transaction the sums that pages read.

`CallHour` and `JobUse` answer what a key did, who used it and when, at any number of calls; calls themselves are read by
index, a page at a time, and are removed when they are old.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import F

from keys.choices import POLICY_OUTCOMES, Outcome
from keys.clock import db_now
from keys.models import Call, CallHour, JobUse, KeyRecord
from keys.scopes import ACCOUNT_READ

AT_ONCE = 1000  # calls removed in one statement: no lock is held for long
CHUNKS = 5  # of one sweep


def write(call: Call) -> Call:
    """Write a call down and add it to the sums. The only way in which calls come into the database."""
    refused = int(call.outcome in POLICY_OUTCOMES)
    with transaction.atomic():
        call.save(force_insert=True)
        _add(
            CallHour(
                key_id=call.key_id,
                hour=hour_of(call.at),
                scope=call.scope,
                outcome=call.outcome,
                last_at=call.at,
            ),
            unique=("key_id", "hour", "scope", "outcome"),
            calls=F("calls") + 1,
            rows=F("rows") + call.rows,
            last_at=call.at,
            last_job=call.job,
            last_by=call.person,
        )
        _add(
            JobUse(
                key_id=call.key_id, job=call.job or 0, person=call.person, first_at=call.at, last_at=call.at
            ),
            unique=("key_id", "job", "person"),
            calls=F("calls") + 1 - refused,
            refused=F("refused") + refused,
            rows=F("rows") + rows_sent(call),
            last_at=call.at,
            job_text=call.job_text,
        )
    return call


def _add(empty: models.Model, *, unique: tuple[str, ...], **changes: Any) -> None:
    """Change the row that is `unique` as `empty` is; where there is none yet, `empty` becomes it first. Two that find none
    at once wait for each other at the insert, and only one does it."""
    manager = type(empty)._default_manager
    same = manager.filter(**{name: getattr(empty, name) for name in unique})
    if not same.update(**changes):
        manager.bulk_create([empty], ignore_conflicts=True)
        same.update(**changes)


def hour_of(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def rows_sent(call: Call) -> int:
    """Rows that a paid call carried to Icypeas; reading answers carries them back, and is not counted again."""
    return call.rows if call.outcome == Outcome.OK and call.scope != ACCOUNT_READ else 0


def kept_since() -> datetime | None:
    """Calls before that moment are removed; None when they are kept for ever."""
    days = settings.CALLS_KEPT_DAYS
    return db_now() - timedelta(days=days) if days else None


def forget_old() -> int:
    """Remove calls that are older than `CALLS_KEPT_DAYS`, in small chunks; how many. The sums stay.

    Walks from the oldest number on, since calls are written as they happen: with nothing to remove it reads one row.
    """
    since = kept_since()
    removed = 0
    for _ in range(CHUNKS if since else 0):
        oldest = Call.objects.order_by("id").values_list("id", "at")
        first = oldest.first()
        if first is None or since is None or first[1] >= since:
            break
        old = [number for number, at in oldest[:AT_ONCE] if at < since]
        removed += Call.objects.filter(id__in=old).delete()[0]
    return removed


def is_forgotten(key: KeyRecord, number: int) -> bool:
    """Whether a call of that number may have been removed: the key was used, and what is left is younger."""
    if not settings.CALLS_KEPT_DAYS or not JobUse.objects.filter(key=key).exists():
        return False
    oldest = Call.objects.order_by("id").values_list("id", flat=True).first()
    return oldest is None or 0 < number < oldest

"""The database's clock: leases, slots and settle times are judged by it, never by a worker's own."""

from __future__ import annotations

from datetime import UTC, date, datetime

from django.db import connection
from django.utils import timezone


def db_now() -> datetime:
    """Now, by the database. SQLite lives in this process's machine, so its clock is ours."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    assert isinstance(now, datetime)
    return now


def utc_today() -> date:
    """The day in UTC: dates of records (the last day, the day to rotate by) mean this one, whoever looks from wherever. A page
    is drawn in its viewer's zone, and must not say of a key what the gate does not."""
    return timezone.now().astimezone(UTC).date()


def db_now_us() -> int:
    """Microseconds since 1970 by the database."""
    return int(db_now().timestamp() * 1_000_000)

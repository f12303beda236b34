"""One breaker per account, in the database, for paid calls: it opens when Icypeas stops answering clearly.

Each paid call without a clear answer leaves rows that somebody must look for, so after `FAILURES` in a row nothing paid
is sent. Then one call at a time may try, at distances that double; a clear answer, a refusal too, closes it. Reads are
free and go on: they are how doubts are settled.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import F

from keys.choices import Outcome
from keys.clock import db_now
from keys.limiter import BusyError
from keys.models import Breaker

FAILURES = 5
UNCLEAR = (Outcome.UNCERTAIN, Outcome.VENDOR_5XX)
# Not a word about Icypeas: nothing reached it, or it asked us to wait.
NEUTRAL = (Outcome.NOT_SENT, Outcome.VENDOR_429)


def opened(account_id: int) -> Breaker | None:
    """The account's breaker while it is open."""
    return Breaker.objects.filter(
        account_id=account_id, unclear__gte=FAILURES, next_try_at__isnull=False
    ).first()


def pass_through(account_id: int) -> None:
    """Let a paid call by, or raise `BusyError`. Of those that come when a try is due, one passes; the next may follow when
    its outcome is known, or when its worker must be dead."""
    breaker = opened(account_id)
    if breaker is None or breaker.next_try_at is None:
        return
    now = db_now()
    wait = breaker.next_try_at - now
    if wait > timedelta(0):
        raise BusyError(wait.total_seconds())
    # A call may last nearly as long as a lease: until then nobody knows what became of this one.
    distance = max(_distance(breaker.unclear), timedelta(seconds=settings.LEASE_S))
    due = Breaker.objects.filter(id=breaker.id, next_try_at=breaker.next_try_at)
    if not due.update(next_try_at=now + distance):
        raise BusyError(distance.total_seconds())


def learn(account_id: int, outcome: Outcome) -> None:
    """What became of a paid call."""
    if outcome in NEUTRAL:
        return
    breakers = Breaker.objects.filter(account_id=account_id)
    if outcome not in UNCLEAR:
        breakers.exclude(unclear=0).update(unclear=0, next_try_at=None)
        return
    Breaker.objects.get_or_create(account_id=account_id)
    breakers.update(unclear=F("unclear") + 1)
    unclear = breakers.values_list("unclear", flat=True).get()
    if unclear >= FAILURES:
        breakers.update(next_try_at=db_now() + _distance(unclear))


def _distance(unclear: int) -> timedelta:
    """Doubles with each unclear try, from BREAKER_FIRST_S to BREAKER_MOST_S."""
    doubled = settings.BREAKER_FIRST_S * 2 ** min(unclear - FAILURES, 10)
    return timedelta(seconds=min(doubled, settings.BREAKER_MOST_S))

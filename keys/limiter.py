"""One limiter per account and route, in the database, shared by every process.

GCRA: each call takes the next free slot, slots are `interval_s` apart. A slot that is taken and not used is lost, which
only makes us slower than allowed. One that nobody took in time is lost, too, but for the last `catch_up` of them: a machine
that was busy for a moment takes them late.

People come before lists: whoever will look for a person's answer keeps the slot of that moment (`keep_slot`), and a
call for a list that would push the slot back is turned away. After a person's slot the next one is open to whoever is
first, so that people who never stop asking slow a list down to half its pace and no further.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from keys.clock import db_now_us
from keys.models import RateSlot

_CONTENDERS = 1_000  # far above the number of processes: running out means a defect, not bad luck


class BusyError(Exception):
    """Not now: the next free slot, or the next try of an open breaker, is `wait_s` away."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"the next call may go in {wait_s:.1f} s")
        self.wait_s = wait_s


def take_slot(
    *,
    account_id: int,
    route: str,
    interval_s: float,
    max_wait_s: float,
    catch_up: int = 0,
    for_person: bool = False,
) -> float:
    """Take the next slot of the route; seconds to wait until it comes (0 when it is now). In any stretch of time there are at
    most `catch_up` calls more than slots.

    Raises `BusyError`, taking nothing, when it is more than `max_wait_s` away, or kept for a person and this call is for
    none. Must not run inside a transaction: the slot has to be taken for everybody at once.
    """
    interval_us = int(interval_s * 1_000_000)
    slot, _ = RateSlot.objects.get_or_create(account_id=account_id, route=route)
    for _attempt in range(_CONTENDERS):
        now = db_now_us()
        start = max(slot.next_free_us, now - catch_up * interval_us)
        if not for_person and _is_kept(slot, start, now, interval_us):
            # Behind the person's slot; who is late for it may come at any moment.
            behind = interval_us if now <= slot.kept_us else interval_us // 4
            raise BusyError((max(slot.kept_us, start, now) + behind - now) / 1_000_000)
        wait_s = max(start - now, 0) / 1_000_000
        if wait_s > max_wait_s:
            raise BusyError(wait_s)
        # A person's look covers everybody whose answer is due; who waits for more keeps a slot anew.
        taken = {"kept_us": 0, "person_us": start} if for_person else {}
        if _as_read(slot).update(next_free_us=start + interval_us, **taken):
            return wait_s
        slot.refresh_from_db()
    raise RuntimeError(f"no slot of {route} after {_CONTENDERS} tries")


def keep_slot(*, account_id: int, route: str, at: datetime, interval_s: float) -> None:
    """From `at` on a person's call will come: no call for a list may take a slot that would make it wait. An earlier
    moment that is kept already stays."""
    at_us, interval_us = int(at.timestamp() * 1_000_000), int(interval_s * 1_000_000)
    slot, _ = RateSlot.objects.get_or_create(account_id=account_id, route=route)
    for _attempt in range(_CONTENDERS):
        is_alive = slot.kept_us and db_now_us() <= _kept_until(slot, interval_us)
        if is_alive and slot.kept_us <= at_us:
            return
        if _as_read(slot).update(kept_us=at_us):
            return
        slot.refresh_from_db()
    raise RuntimeError(f"no slot of {route} kept after {_CONTENDERS} tries")


def _is_kept(slot: RateSlot, start: int, now: int, interval_us: int) -> bool:
    """Whether a slot at `start` belongs to a person, or would make one wait. Nobody who comes late keeps it for long."""
    if not slot.kept_us or now > _kept_until(slot, interval_us):
        return False
    is_lists_turn = start < slot.person_us + 2 * interval_us
    return not is_lists_turn and start + interval_us > max(slot.kept_us, now)


def _kept_until(slot: RateSlot, interval_us: int) -> int:
    """A busy machine may be late by one slot; whoever is later than that has died."""
    return max(slot.kept_us, slot.next_free_us) + 2 * interval_us


def _as_read(slot: RateSlot) -> QuerySet[RateSlot]:
    """The slot, if nobody has changed it since it was read."""
    return RateSlot.objects.filter(
        id=slot.id, next_free_us=slot.next_free_us, kept_us=slot.kept_us, person_us=slot.person_us
    )


def hold_back(*, account_id: int, route: str, seconds: float) -> None:
    """After a 429: no slot of this route for `seconds`, for anybody."""
    until = db_now_us() + int(seconds * 1_000_000)
    RateSlot.objects.filter(account_id=account_id, route=route, next_free_us__lt=until).update(
        next_free_us=until
    )

"""One limiter per account and route, in the database, shared by every process.

GCRA with a burst of one: each call takes the next free slot, slots are `interval_s` apart. A slot that is
taken and not used is lost, which only makes us slower than allowed.
"""

from __future__ import annotations

from keys.clock import db_now_us
from keys.models import RateSlot

_CONTENDERS = 1_000  # far above the number of processes: running out means a defect, not bad luck


class BusyError(Exception):
    """Not now: the next free slot, or the next try of an open breaker, is `wait_s` away."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"the next call may go in {wait_s:.1f} s")
        self.wait_s = wait_s


def take_slot(*, account_id: int, route: str, interval_s: float, max_wait_s: float) -> float:
    """Take the next slot of the route; seconds to wait until it comes (0 when it is now).

    Raises `BusyError`, taking nothing, when it is more than `max_wait_s` away. Must not run inside a
    transaction: the slot has to be taken for everybody at once.
    """
    slot, _ = RateSlot.objects.get_or_create(account_id=account_id, route=route)
    for _attempt in range(_CONTENDERS):
        now = db_now_us()
        start = max(slot.next_free_us, now)
        wait_s = (start - now) / 1_000_000
        if wait_s > max_wait_s:
            raise BusyError(wait_s)
        changed = RateSlot.objects.filter(id=slot.id, next_free_us=slot.next_free_us).update(
            next_free_us=start + int(interval_s * 1_000_000)
        )
        if changed:
            return wait_s
        slot.refresh_from_db(fields=["next_free_us"])
    raise RuntimeError(f"no slot of {route} after {_CONTENDERS} tries")


def wait_for(*, account_id: int, route: str) -> float:
    """Seconds until the route's next free slot; takes nothing."""
    free_us = (
        RateSlot.objects.filter(account_id=account_id, route=route)
        .values_list("next_free_us", flat=True)
        .first()
    )
    return max((free_us or 0) - db_now_us(), 0) / 1_000_000


def hold_back(*, account_id: int, route: str, seconds: float) -> None:
    """After a 429: no slot of this route for `seconds`, for anybody."""
    until = db_now_us() + int(seconds * 1_000_000)
    RateSlot.objects.filter(account_id=account_id, route=route, next_free_us__lt=until).update(
        next_free_us=until
    )

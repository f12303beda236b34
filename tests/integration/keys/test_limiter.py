from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from keys import limiter
from keys.clock import db_now_us
from keys.models import Account, RateSlot
from tests import factories


class Clock:
    """The limiter's time in these tests: it stands still unless a test sleeps, so that no machine is too slow for them."""

    def __init__(self) -> None:
        self.now_us = 1_800_000_000_000_000

    def sleep(self, seconds: float) -> None:
        self.now_us += round(seconds * 1_000_000)

    def after(self, seconds: float) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
            microseconds=self.now_us + round(seconds * 1_000_000)
        )


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(limiter, "db_now_us", lambda: clock.now_us)
    return clock


def take(
    account: Account,
    *,
    route: str = "bulk-search",
    interval_s: float = 1.0,
    max_wait_s: float = 60,
    catch_up: int = 0,
    for_person: bool = False,
) -> float:
    return limiter.take_slot(
        account_id=account.id,
        route=route,
        interval_s=interval_s,
        max_wait_s=max_wait_s,
        catch_up=catch_up,
        for_person=for_person,
    )


@pytest.mark.django_db
def test_first_call_goes_at_once_and_the_next_waits_its_distance() -> None:
    account = factories.make_account()

    waits = [take(account) for _ in range(3)]

    assert waits == [0, 1, 2]


@pytest.mark.django_db
def test_no_burst_is_saved_up_while_nobody_calls(clock: Clock) -> None:
    account = factories.make_account()
    take(account, interval_s=0.05)
    clock.sleep(0.3)

    waits = [take(account, interval_s=0.05) for _ in range(3)]

    assert waits == [0, 0.05, 0.1]


@pytest.mark.django_db
def test_late_slots_are_taken_at_once_and_no_more_than_so_many(clock: Clock) -> None:
    account = factories.make_account()
    take(account, interval_s=0.2, catch_up=2)
    clock.sleep(1.1)  # five slots went by

    waits = [take(account, interval_s=0.2, catch_up=2) for _ in range(4)]

    assert waits == [0, 0, 0, 0.2]  # the one of now, and two late ones


@pytest.mark.django_db
def test_with_late_slots_a_stretch_of_time_has_so_many_calls_more_and_not_one_besides(
    clock: Clock,
) -> None:
    account = factories.make_account()
    interval_s, catch_up = 0.02, 2
    busy = random.Random(7)
    moments: list[int] = []

    for _ in range(120):
        wait_s = take(account, interval_s=interval_s, catch_up=catch_up)
        clock.sleep(wait_s)
        moments.append(clock.now_us)
        clock.sleep(busy.choice((0.0, 0.0, 0.0, 0.1)))

    more = [
        later - (end - begin) / (interval_s * 1_000_000)
        for first, begin in enumerate(moments)
        for later, end in enumerate(moments[first:])
    ]
    assert max(more) == catch_up


@pytest.mark.django_db
def test_list_that_takes_late_slots_makes_no_person_wait(clock: Clock) -> None:
    account = factories.make_account()
    take(account, interval_s=0.2, catch_up=2)
    clock.sleep(0.7)
    keep(account, clock.after(0), interval_s=0.2)  # somebody's look is due now

    assert take(account, interval_s=0.2, catch_up=2) == 0  # ends in the past, so it is in nobody's way
    assert take(account, interval_s=0.2, catch_up=2, for_person=True) == 0


@pytest.mark.django_db
def test_routes_and_accounts_have_slots_of_their_own() -> None:
    account, other = factories.make_account(), factories.make_account()
    take(account)

    assert take(account, route="files-read") == 0
    assert take(other) == 0


@pytest.mark.django_db
def test_far_slot_is_not_taken() -> None:
    account = factories.make_account()
    take(account, interval_s=10)

    with pytest.raises(limiter.BusyError) as told:
        take(account, max_wait_s=3)

    assert told.value.wait_s == 10
    assert take(account, max_wait_s=60) == 10


@pytest.mark.django_db
def test_route_that_was_held_back_is_free_for_nobody_until_then() -> None:
    account = factories.make_account()
    take(account, interval_s=0.001)
    take(account, route="files-read", interval_s=0.001)

    limiter.hold_back(account_id=account.id, route="bulk-search", seconds=5)

    assert take(account) == 5
    assert take(account, route="files-read") == 0.001


@pytest.mark.django_db
def test_holding_back_never_brings_a_slot_nearer() -> None:
    account = factories.make_account()
    take(account, interval_s=30)

    limiter.hold_back(account_id=account.id, route="bulk-search", seconds=5)

    assert take(account) == 30


def keep(account: Account, at: datetime, *, interval_s: float = 1.0) -> None:
    limiter.keep_slot(account_id=account.id, route="bulk-search", at=at, interval_s=interval_s)


@pytest.mark.django_db
def test_slot_that_is_kept_for_a_person_is_free_at_its_moment(clock: Clock) -> None:
    account = factories.make_account()
    keep(account, clock.after(0.4), interval_s=0.3)

    assert take(account, interval_s=0.3) == 0  # ends before
    with pytest.raises(limiter.BusyError) as told:
        take(account, interval_s=0.3)
    clock.sleep(0.4)

    assert told.value.wait_s == pytest.approx(0.7, abs=0.00001)  # behind the person's slot
    assert take(account, interval_s=0.3, for_person=True) == 0


@pytest.mark.django_db
def test_person_who_does_not_come_keeps_a_slot_for_two_distances_only(clock: Clock) -> None:
    account = factories.make_account()
    keep(account, clock.after(0), interval_s=0.2)

    with pytest.raises(limiter.BusyError) as told:
        take(account, interval_s=0.2)
    assert told.value.wait_s == 0.2
    clock.sleep(0.3)
    with pytest.raises(limiter.BusyError) as told:  # late, not dead
        take(account, interval_s=0.2)
    assert told.value.wait_s == 0.05  # who is late may come at any moment
    clock.sleep(0.15)

    assert take(account, interval_s=0.2) == 0


@pytest.mark.parametrize("catch_up", [0, 2])
@pytest.mark.django_db
def test_call_that_is_turned_away_for_a_person_always_has_a_while_to_wait(
    clock: Clock, catch_up: int
) -> None:
    """Also with late slots to take, whose end is past: a list that asked again at once would spin."""
    account = factories.make_account()
    take(account, interval_s=0.2)
    keep(account, clock.after(0.1), interval_s=0.2)
    waits: dict[bool, list[float]] = {False: [], True: []}

    for step in range(100):  # until long after nobody expects the person any more
        try:
            take(account, interval_s=0.2, catch_up=catch_up)
        except limiter.BusyError as busy:
            waits[step > 10].append(busy.wait_s)
        clock.sleep(0.01)

    assert len(waits[False]) == 11  # up to the person's moment
    assert len(waits[True]) > 20  # the person is late
    assert min(waits[False] + waits[True]) > 0


@pytest.mark.django_db
def test_earlier_of_two_kept_moments_stays_and_a_look_ends_both(clock: Clock) -> None:
    account = factories.make_account()
    keep(account, clock.after(5))
    keep(account, clock.after(2))
    keep(account, clock.after(4))

    assert RateSlot.objects.get().kept_us == clock.now_us + 2_000_000
    take(account, for_person=True)
    assert RateSlot.objects.get().kept_us == 0


@pytest.mark.django_db
def test_lists_have_every_other_slot_while_people_never_stop_asking(clock: Clock) -> None:
    account = factories.make_account()
    served: list[str] = []

    while len(served) < 10:
        keep(account, clock.after(0), interval_s=0.05)
        for who, is_person in (("list", False), ("person", True)):
            try:
                clock.sleep(take(account, interval_s=0.05, for_person=is_person))
            except limiter.BusyError:
                continue
            served.append(who)

    assert served[:10] == ["person", "list"] * 5


@pytest.mark.django_db(transaction=True)
def test_calls_of_several_processes_never_come_closer_than_the_distance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limiter, "db_now_us", db_now_us)  # the real one: time goes on while they contend
    account = factories.make_account()
    take(account, interval_s=0.02)  # the slot is there, so that all start alike
    moments: list[float] = []

    def work() -> None:
        try:
            for _ in range(8):
                wait_s = take(account, interval_s=0.02)
                moments.append(time.time() + wait_s)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(moments) == 32
    assert max(moments) - min(moments) > 31 * 0.02 * 0.9
    assert RateSlot.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_first_calls_at_the_same_instant_share_one_slot() -> None:
    account = factories.make_account()
    barrier, waits = threading.Barrier(4), list[float]()

    def work() -> None:
        try:
            barrier.wait(10)
            waits.append(take(account, interval_s=1.0))
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert RateSlot.objects.count() == 1
    assert sorted(waits) == [0, 1, 2, 3]

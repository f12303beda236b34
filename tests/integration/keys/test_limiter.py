from __future__ import annotations

import random
import threading
import time
from datetime import timedelta

import pytest
from django.db import connection

from keys import limiter
from keys.clock import db_now
from keys.models import Account, RateSlot
from tests import factories


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

    assert waits[0] == 0
    assert waits[1] == pytest.approx(1, abs=0.2)
    assert waits[2] == pytest.approx(2, abs=0.2)


@pytest.mark.django_db
def test_no_burst_is_saved_up_while_nobody_calls() -> None:
    account = factories.make_account()
    take(account, interval_s=0.05)
    time.sleep(0.3)

    waits = [take(account, interval_s=0.05) for _ in range(3)]

    assert waits[0] == 0
    assert waits[2] > 0.05


@pytest.mark.django_db
def test_late_slots_are_taken_at_once_and_no_more_than_so_many() -> None:
    account = factories.make_account()
    take(account, interval_s=0.2, catch_up=2)
    time.sleep(1.1)  # five slots went by

    waits = [take(account, interval_s=0.2, catch_up=2) for _ in range(4)]

    assert waits[:3] == [0, 0, 0]  # the one of now, and two late ones
    assert waits[3] == pytest.approx(0.2, abs=0.15)


@pytest.mark.django_db
def test_with_late_slots_a_stretch_of_time_has_so_many_calls_more_and_not_one_besides() -> None:
    account = factories.make_account()
    interval_s, catch_up = 0.02, 2
    busy = random.Random(7)
    moments: list[float] = []

    for _ in range(120):
        wait_s = take(account, interval_s=interval_s, catch_up=catch_up)
        moments.append(time.time() + wait_s)
        time.sleep(wait_s + busy.choice((0.0, 0.0, 0.0, 0.1)))

    for first, begin in enumerate(moments):
        for later, end in enumerate(moments[first:]):
            assert later <= (end - begin + 0.005) / interval_s + catch_up  # 5 ms: two clocks


@pytest.mark.django_db
def test_list_that_takes_late_slots_makes_no_person_wait() -> None:
    account = factories.make_account()
    take(account, interval_s=0.2, catch_up=2)
    time.sleep(0.7)
    keep(account, 0.0, interval_s=0.2)  # somebody's look is due now

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

    assert told.value.wait_s == pytest.approx(10, abs=0.5)
    assert take(account, max_wait_s=60) == pytest.approx(10, abs=0.5)


@pytest.mark.django_db
def test_route_that_was_held_back_is_free_for_nobody_until_then() -> None:
    account = factories.make_account()
    take(account, interval_s=0.001)
    take(account, route="files-read", interval_s=0.001)

    limiter.hold_back(account_id=account.id, route="bulk-search", seconds=5)

    assert take(account) == pytest.approx(5, abs=0.3)
    assert take(account, route="files-read") < 1


@pytest.mark.django_db
def test_holding_back_never_brings_a_slot_nearer() -> None:
    account = factories.make_account()
    take(account, interval_s=30)

    limiter.hold_back(account_id=account.id, route="bulk-search", seconds=5)

    assert take(account) == pytest.approx(30, abs=0.5)


def keep(account: Account, in_s: float, *, interval_s: float = 1.0) -> None:
    at = db_now() + timedelta(seconds=in_s)
    limiter.keep_slot(account_id=account.id, route="bulk-search", at=at, interval_s=interval_s)


@pytest.mark.django_db
def test_slot_that_is_kept_for_a_person_is_free_at_its_moment() -> None:
    account = factories.make_account()
    keep(account, 0.4, interval_s=0.3)

    assert take(account, interval_s=0.3) == 0  # ends before
    with pytest.raises(limiter.BusyError) as told:
        take(account, interval_s=0.3)
    time.sleep(0.4)

    assert told.value.wait_s == pytest.approx(0.7, abs=0.05)  # behind the person's slot
    assert take(account, interval_s=0.3, for_person=True) == 0


@pytest.mark.django_db
def test_person_who_does_not_come_keeps_a_slot_for_two_distances_only() -> None:
    account = factories.make_account()
    keep(account, 0.0, interval_s=0.2)

    with pytest.raises(limiter.BusyError) as told:
        take(account, interval_s=0.2)
    assert told.value.wait_s <= 0.2
    time.sleep(0.3)
    with pytest.raises(limiter.BusyError):  # late, not dead
        take(account, interval_s=0.2)
    time.sleep(0.15)

    assert take(account, interval_s=0.2) == 0


@pytest.mark.django_db
def test_earlier_of_two_kept_moments_stays_and_a_look_ends_both() -> None:
    account = factories.make_account()
    keep(account, 5)
    keep(account, 2)
    keep(account, 4)

    kept_us = RateSlot.objects.get().kept_us
    assert kept_us / 1_000_000 == pytest.approx(time.time() + 2, abs=0.3)
    take(account, for_person=True)
    assert RateSlot.objects.get().kept_us == 0


@pytest.mark.django_db
def test_lists_have_every_other_slot_while_people_never_stop_asking() -> None:
    account = factories.make_account()
    served: list[str] = []

    while len(served) < 10:
        keep(account, 0.0, interval_s=0.05)
        for who, is_person in (("list", False), ("person", True)):
            try:
                time.sleep(take(account, interval_s=0.05, for_person=is_person))
            except limiter.BusyError:
                continue
            served.append(who)

    assert served.count("list") == 5


@pytest.mark.django_db(transaction=True)
def test_calls_of_several_processes_never_come_closer_than_the_distance() -> None:
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
    assert [round(wait) for wait in sorted(waits)] == [0, 1, 2, 3]

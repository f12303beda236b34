from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from keys import breaker
from keys.choices import Outcome
from keys.clock import db_now
from keys.limiter import BusyError
from keys.models import Account, Breaker
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def account(settings: Any) -> Account:
    settings.BREAKER_FIRST_S = 30.0
    settings.BREAKER_MOST_S = 900.0
    return factories.make_account()


def learn(account: Account, outcome: Outcome, times: int = 1) -> None:
    for _ in range(times):
        breaker.learn(account.id, outcome)


def wait_of(account: Account) -> float:
    """Seconds that a paid call must wait; 0 when it may go."""
    try:
        breaker.pass_through(account.id)
    except BusyError as busy:
        return busy.wait_s
    return 0


def make_due(account: Account) -> None:
    Breaker.objects.filter(account=account).update(next_try_at=db_now() - timedelta(seconds=1))


def test_four_unclear_answers_stop_nothing(account: Account) -> None:
    learn(account, Outcome.UNCERTAIN, 4)

    assert wait_of(account) == 0
    assert breaker.opened(account.id) is None


@pytest.mark.parametrize("outcome", [Outcome.UNCERTAIN, Outcome.VENDOR_5XX])
def test_fifth_unclear_answer_stops_paid_calls_of_this_account(account: Account, outcome: Outcome) -> None:
    learn(account, outcome, 5)

    assert wait_of(account) == pytest.approx(30, abs=5)
    assert wait_of(factories.make_account()) == 0


def test_one_call_passes_when_a_try_is_due_and_none_beside_it_while_it_may_last(
    account: Account, settings: Any
) -> None:
    """A submit may take 45 s: after the 30 s of the first distance it can still be on its way."""
    settings.LEASE_S = 60.0
    learn(account, Outcome.UNCERTAIN, 5)
    make_due(account)

    waits = [wait_of(account) for _ in range(3)]

    assert waits[0] == 0
    assert waits[1:] == [pytest.approx(60, abs=5)] * 2


def test_distance_counts_from_the_end_of_a_try(account: Account, settings: Any) -> None:
    settings.LEASE_S = 60.0
    learn(account, Outcome.UNCERTAIN, 5)
    make_due(account)
    assert wait_of(account) == 0

    learn(account, Outcome.UNCERTAIN)

    assert wait_of(account) == pytest.approx(60, abs=5)  # doubled from 30


def test_distance_of_tries_doubles_up_to_the_most(account: Account) -> None:
    learn(account, Outcome.UNCERTAIN, 5)
    waits = []
    for _ in range(7):
        learn(account, Outcome.UNCERTAIN)
        waits.append(wait_of(account))

    assert waits == [pytest.approx(wait, abs=5) for wait in (60, 120, 240, 480, 900, 900, 900)]


@pytest.mark.parametrize("clear", [Outcome.OK, Outcome.VENDOR_REJECTED, Outcome.OUT_OF_CREDITS])
def test_clear_answer_closes_it_and_the_count_begins_anew(account: Account, clear: Outcome) -> None:
    learn(account, Outcome.UNCERTAIN, 6)
    learn(account, clear)
    assert wait_of(account) == 0

    learn(account, Outcome.UNCERTAIN, 4)

    assert wait_of(account) == 0


def test_call_that_reached_nobody_says_nothing_about_icypeas(account: Account) -> None:
    learn(account, Outcome.UNCERTAIN, 4)
    learn(account, Outcome.NOT_SENT)
    learn(account, Outcome.VENDOR_429)
    learn(account, Outcome.UNCERTAIN)

    assert wait_of(account) > 0

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keys import ledger
from keys.choices import EntryKind
from keys.models import Account, KeyRecord, LedgerEntry
from keys.services import store_balance
from tests import factories


def reserve(key: KeyRecord, job: int, credits: str) -> None:
    ledger.reserve(key=key, operation="email-search", job=job, credits=Decimal(credits))


def charge(key: KeyRecord, job: int, credits: str) -> None:
    ledger.charge(key=key, operation="email-search", job=job, credits=Decimal(credits))


def release(key: KeyRecord, job: int, credits: str) -> None:
    ledger.release(key=key, operation="email-search", job=job, credits=Decimal(credits))


def left(key: KeyRecord) -> Decimal | None:
    return ledger.available(Account.objects.get(id=key.account_id)).credits


@pytest.fixture
def key(db: None) -> KeyRecord:
    """A key on an account whose balance was read as 100 credits."""
    return factories.make_key(account=factories.make_account("Main", balance=100))


def test_reservation_lowers_what_is_available_and_a_release_gives_it_back(key: KeyRecord) -> None:
    reserve(key, 1, "30")
    assert left(key) == 70

    release(key, 1, "10.5")

    assert left(key) == Decimal("80.5")
    assert ledger.job_sums(1) == ledger.JobSums(Decimal(30), Decimal(0), Decimal("10.5"))


def test_charge_stays_off_what_is_available_until_a_later_reading(key: KeyRecord) -> None:
    reserve(key, 1, "30")
    charge(key, 1, "30")
    assert left(key) == 70

    store_balance(key.account, credits=Decimal(70), asked_at=timezone.now())

    assert left(key) == 70


def test_charge_is_not_believed_to_be_in_a_reading_that_was_asked_for_before_it(key: KeyRecord) -> None:
    asked_at = timezone.now()
    reserve(key, 1, "30")
    charge(key, 1, "30")

    store_balance(key.account, credits=Decimal(100), asked_at=asked_at)

    assert left(key) == 70


def test_nothing_is_known_to_be_available_before_the_first_reading(db: None) -> None:
    key = factories.make_key()
    reserve(key, 1, "5")

    found = ledger.available(key.account)

    assert (found.credits, found.reserved, found.unseen_charges) == (None, 5, 0)


def test_reservation_beyond_what_is_available_is_refused_with_what_fits(key: KeyRecord) -> None:
    reserve(key, 1, "80")

    with pytest.raises(
        ledger.ReservationError, match=r"can cost 20\.1 credits and 20 are available on Main"
    ) as told:
        reserve(key, 2, "20.1")

    assert (told.value.limit, told.value.fits) == ("balance", 20)
    assert LedgerEntry.objects.count() == 1


def test_keys_of_one_account_share_its_balance(key: KeyRecord) -> None:
    reserve(key, 1, "80")
    other = factories.make_key(account=key.account)

    with pytest.raises(ledger.ReservationError):
        reserve(other, 2, "30")


def test_daily_cap_counts_reserved_less_released_of_jobs_that_started_today(key: KeyRecord) -> None:
    key.daily_cap = Decimal(50)
    key.save()
    reserve(key, 1, "50")
    release(key, 1, "20")
    charge(key, 1, "30")

    with pytest.raises(ledger.ReservationError, match="daily cap") as told:
        reserve(key, 2, "20.5")

    assert (told.value.limit, told.value.fits) == ("cap", 20)
    reserve(key, 2, "20")


def test_daily_cap_forgets_yesterday_in_the_zone_of_the_key(key: KeyRecord) -> None:
    key.daily_cap = Decimal(50)
    reserve(key, 1, "50")
    LedgerEntry.objects.update(at=timezone.now() - timedelta(days=1, hours=1))

    assert ledger.committed_today(key) == 0
    reserve(key, 2, "50")
    assert ledger.committed_today(key) == 50


def test_nothing_is_written_for_no_credits_at_all(key: KeyRecord) -> None:
    charge(key, 1, "0")
    release(key, 1, "0")

    assert not LedgerEntry.objects.exists()


def test_entry_is_never_changed_and_never_negative(key: KeyRecord) -> None:
    reserve(key, 1, "5")
    entry = LedgerEntry.objects.get()

    with pytest.raises(TypeError, match="append-only"):
        entry.save()
    with pytest.raises(IntegrityError), transaction.atomic():
        release(key, 1, "-1")


def test_sums_of_several_jobs_are_those_of_each(key: KeyRecord) -> None:
    for job in (1, 2):
        reserve(key, job, "10")
    charge(key, 1, "4")
    release(key, 2, "3")

    found = ledger.sums_by_job([1, 2, 3])

    assert found == {job: ledger.job_sums(job) for job in (1, 2)}


@pytest.mark.parametrize(
    ("credits", "text"),
    [("12400", "12,400"), ("271.20", "271.2"), ("0", "0"), ("1E+3", "1,000"), ("0.100", "0.1")],
)
def test_credits_are_said_without_noise(credits: str, text: str) -> None:
    assert ledger.words(Decimal(credits)) == text


MOVES = st.lists(
    st.tuples(st.sampled_from([reserve, charge, release]), st.integers(1, 3), st.integers(1, 400)),
    max_size=25,
)


@given(moves=MOVES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_books_fit_and_nobody_spends_more_than_there_is_whatever_jobs_do(
    key: KeyRecord, moves: list[tuple[Any, int, int]]
) -> None:
    LedgerEntry.objects.all().delete()
    for move, job, tenths in moves:
        credits = Decimal(tenths) / 10
        if move is reserve:
            try:
                reserve(key, job, str(credits))
            except ledger.ReservationError:
                continue
        else:
            move(key, job, str(min(credits, ledger.job_sums(job).open)))
        available = left(key)
        assert available is not None
        assert available >= 0
        kinds = {kind: Decimal(0) for kind in EntryKind}
        for entry in LedgerEntry.objects.all():
            kinds[EntryKind(entry.kind)] += entry.credits
        assert available == 100 - kinds[EntryKind.RESERVED] + kinds[EntryKind.RELEASED]
        sums = [ledger.job_sums(number) for number in (1, 2, 3)]
        assert all(one.reserved == one.charged + one.released + one.open and one.open >= 0 for one in sums)


@pytest.mark.django_db(transaction=True)
def test_reservations_at_the_same_instant_never_exceed_the_balance() -> None:
    key = factories.make_key(account=factories.make_account(balance=100))
    barrier = threading.Barrier(6)
    refused: list[int] = []

    def work(job: int) -> None:
        try:
            barrier.wait(10)
            reserve(key, job, "30")
        except ledger.ReservationError:
            refused.append(job)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(job,)) for job in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(refused) == 3
    assert left(key) == 10


@pytest.mark.django_db(transaction=True)
def test_available_never_jumps_up_while_charges_are_booked() -> None:
    key = factories.make_key(account=factories.make_account(balance=100))
    reserve(key, 1, "50")
    over = threading.Event()

    def work() -> None:
        try:
            for _ in range(40):
                charge(key, 1, "1")
        finally:
            over.set()
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    seen: set[Decimal | None] = {left(key)}
    while not over.is_set():
        seen.add(left(key))
    thread.join()

    assert seen == {Decimal(50)}


def test_sums_of_many_small_amounts_are_exact(key: KeyRecord) -> None:
    """SQLite adds decimals as floats; a difference of 1e-13 would be released, and shown."""

    tenth, many = Decimal("0.1"), 3_000
    LedgerEntry.objects.bulk_create(
        LedgerEntry(
            at=timezone.now(), kind=kind, credits=tenth, account=key.account, key=key, team=key.team, job=7
        )
        for kind in ("reserved", "charged", "released")
        for _ in range(many)
    )
    sums = ledger.JobSums(many * tenth, many * tenth, many * tenth)

    assert ledger.job_sums(7) == sums
    assert ledger.sums_by_job([7]) == {7: sums}
    assert ledger.job_sums(7).open == -300
    assert ledger.committed_today(key) == 0
    assert str(ledger.job_sums(7).charged.normalize()) == "3E+2"

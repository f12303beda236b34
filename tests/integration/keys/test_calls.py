"""Calls, the sums that are kept beside them, and how old ones leave."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, connections
from django.db.models import Sum
from django.test import Client
from django.utils import timezone

from enrichment import tasks
from enrichment.scale import fill
from keys import calls, ledger
from keys.models import Call, CallHour, JobUse, KeyRecord, LedgerEntry
from tests import factories
from tests.fakes import sums
from tests.fakes.engine import Engine

NOW = datetime(2026, 11, 24, 10, 59, 30, tzinfo=UTC)


@pytest.fixture
def key(db: None) -> KeyRecord:
    return factories.make_key("sandbox_training_revops")


def call(key: KeyRecord, **more: Any) -> Call:
    usual = {
        "account": key.account,
        "key": key,
        "route": "bulk-search",
        "scope": "email-search:bulk",
        "worker": "worker-1",
        "outcome": "ok",
        "at": timezone.now(),
        "rows": 10,
        "job": 7,
        "job_text": "Spring list",
        "person": "Ana Duarte",
    }
    return calls.write(Call(**{**usual, **more}))


def various(key: KeyRecord, other: KeyRecord) -> None:
    """Calls of every kind, over the turn of an hour."""
    call(key, at=NOW)
    call(key, at=NOW + timedelta(seconds=29), rows=5, job=8)
    call(key, at=NOW + timedelta(seconds=31))
    call(key, at=NOW + timedelta(seconds=40), outcome="vendor_429")
    call(key, at=NOW + timedelta(seconds=41), scope="account:read", rows=100)
    call(
        key, at=NOW + timedelta(seconds=42), scope="leads:search", outcome="policy_scope", person="Jonas Vik"
    )
    call(
        other, at=NOW + timedelta(seconds=43), job=None, job_text="", person="", rows=0, scope="account:read"
    )


# --- sums ----------------------------------------------------------------------------------------------------------------


def test_sums_say_what_the_calls_say(key: KeyRecord) -> None:
    various(key, factories.make_key())

    sums.assert_sums_fit()
    hours = CallHour.objects.filter(key=key, scope="email-search:bulk", outcome="ok").order_by("hour")
    assert [(hour.hour.hour, hour.calls, hour.rows) for hour in hours] == [(10, 2, 15), (11, 1, 10)]
    use = JobUse.objects.get(key=key, job=7, person="Ana Duarte")
    assert (use.calls, use.rows, use.refused) == (4, 20, 0)
    assert JobUse.objects.get(person="Jonas Vik").refused == 1


def test_sums_and_calls_fit_after_a_job(engine: Engine, settings: Any) -> None:
    settings.BATCH_ROWS = 5
    job = engine.run(engine.start(12))

    assert job.state == "completed"
    assert Call.objects.filter(job=job.id).count() > 4
    sums.assert_sums_fit()
    assert JobUse.objects.get(job=job.id).rows == 12


@pytest.mark.django_db(transaction=True)
def test_calls_of_several_workers_in_the_same_instant_are_all_counted() -> None:
    key = factories.make_key()
    at, start = timezone.now(), threading.Barrier(6)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            start.wait()
            for _ in range(5):
                call(key, at=at)
        except BaseException as error:
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert CallHour.objects.get().calls == 30
    assert JobUse.objects.get().calls == 30


@pytest.mark.django_db
def test_a_call_that_cannot_be_summed_is_not_written(key: KeyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "rows_sent", lambda call: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        call(key)

    assert not Call.objects.exists()
    assert not CallHour.objects.exists()


def test_migration_makes_the_same_sums_of_calls_that_are_there(key: KeyRecord) -> None:
    various(key, factories.make_key())
    CallHour.objects.all().delete()
    JobUse.objects.all().delete()

    import_module("keys.migrations.0010_fill_sums_of_calls").fill(apps, connection.schema_editor())

    sums.assert_sums_fit()


def test_migration_takes_what_was_looked_up_out_of_calls_and_sums(key: KeyRecord) -> None:
    form, listed = (factories.make_job(1, source=source) for source in ("lookup", "browser"))
    for job in (form, listed):
        call(key, job=job.id, job_text="ann1@company1.example")

    import_module("keys.migrations.0012_look_ups_without_inputs").rename(apps, connection.schema_editor())

    for model in (Call, JobUse):
        texts = dict(model.objects.values_list("job", "job_text"))
        assert texts == {form.id: "verify 1 email", listed.id: "ann1@company1.example"}


@pytest.mark.django_db(transaction=True)
def test_benchmark_fills_in_the_same_sums() -> None:
    try:
        filled = fill.fill(
            keys=30, calls=3000, tell=lambda what: None, password="a-long-password-for-a-benchmark"
        )
        heavy = Call.objects.filter(key__name=filled.heavy).count()

        sums.assert_sums_fit()
        assert heavy == 300
        assert not Call.objects.filter(key__name=filled.unused).exists()
        held = sum(sum(ledger.open_jobs(key).values()) for key in KeyRecord.objects.all())
        sent = ledger.JobSums(
            **{
                kind: LedgerEntry.objects.filter(kind=kind).aggregate(n=Sum("credits"))["n"]
                for kind in ("reserved", "charged", "released")
            }
        )
        assert held == sent.open
    finally:
        with connection.cursor() as cursor:
            for table in ("bench_key", "bench_size", "bench_open"):
                cursor.execute(f"DROP TABLE IF EXISTS {table}")


# --- retention -----------------------------------------------------------------------------------------------------------


def test_old_calls_leave_in_chunks_and_their_sums_stay(
    key: KeyRecord, settings: Any, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    settings.CALLS_KEPT_DAYS = 30
    monkeypatch.setattr(calls, "AT_ONCE", 3)
    monkeypatch.setattr(calls, "CHUNKS", 2)
    for days in (40, 39, 38, 37, 36, 35, 34, 31, 29, 1):
        call(key, at=timezone.now() - timedelta(days=days))
    before = sums.kept_hours(), sums.kept_jobs()

    assert [calls.forget_old(), calls.forget_old()] == [6, 2]

    assert Call.objects.count() == 2
    assert (sums.kept_hours(), sums.kept_jobs()) == before
    with django_assert_num_queries(
        2 if connection.vendor == "postgresql" else 1
    ):  # the clock, and the oldest call
        assert calls.forget_old() == 0


def test_calls_are_kept_for_ever_when_told_so(key: KeyRecord, settings: Any) -> None:
    settings.CALLS_KEPT_DAYS = 0
    call(key, at=timezone.now() - timedelta(days=4000))

    assert calls.forget_old() == 0
    assert Call.objects.count() == 1


def test_sweep_removes_old_calls(key: KeyRecord, settings: Any, wakes: list[Any]) -> None:
    settings.CALLS_KEPT_DAYS = 30
    call(key, at=timezone.now() - timedelta(days=31))

    tasks.sweep_due()

    assert not Call.objects.exists()


def test_page_of_a_call_that_was_removed_says_so(client: Client, key: KeyRecord, settings: Any) -> None:
    settings.CALLS_KEPT_DAYS = 30
    old = call(key, at=timezone.now() - timedelta(days=31), outcome="vendor_401")
    young = call(key, outcome="vendor_401")
    client.force_login(factories.make_user(role="key_admin"))
    calls.forget_old()

    gone = client.get(f"/keys/{key.name}/calls/{old.id}/")

    assert gone.status_code == 410
    assert "This call is no longer kept" in gone.content.decode()
    assert client.get(f"/keys/{key.name}/calls/{young.id}/").status_code == 200
    assert client.get(f"/keys/{key.name}/calls/{young.id + 1}/").status_code == 404
    settings.CALLS_KEPT_DAYS = 0
    assert client.get(f"/keys/{key.name}/calls/{old.id}/").status_code == 404

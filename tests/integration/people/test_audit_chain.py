"""The chain over the audit log: it holds, and whatever is changed behind our back shows."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.db.models import ProtectedError
from django.test import Client
from django.utils import timezone

from people import audit, seals
from people.audit import Actor
from people.models import AuditEntry, AuditSeal
from tests.factories import make_key, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def log() -> list[AuditEntry]:
    """Five sealed entries."""
    key = make_key()
    entries = [audit.record(Actor(None, "test"), "key.changed", key, reason=f"number {n}") for n in range(5)]
    seals.seal_new()
    return entries


def behind_our_back(sql: str, *values: Any) -> None:
    """What somebody with the database's own client could do, past triggers."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = replica")
        cursor.execute(sql, values)
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = DEFAULT")


def test_every_entry_is_sealed_once_and_the_chain_holds(log: list[AuditEntry]) -> None:
    assert seals.seal_new() == 0

    verdict = seals.verify()

    assert verdict.faults == []
    assert verdict.seals == AuditEntry.objects.count() == AuditSeal.objects.count()
    assert len(verdict.head) == 64


@pytest.mark.parametrize(
    ("column", "value"),
    [("reason", "another"), ("action", "key.viewed"), ("object_text", "x"), ("via", "browser")],
)
def test_changed_entry_shows(log: list[AuditEntry], column: str, value: str) -> None:
    behind_our_back(f"UPDATE people_auditentry SET {column} = %s WHERE id = %s", value, log[2].id)

    assert [fault.entry for fault in seals.verify().faults] == [log[2].id]


def test_removed_entry_shows_at_the_next(log: list[AuditEntry]) -> None:
    behind_our_back("DELETE FROM people_auditseal WHERE entry_id = %s", log[2].id)
    behind_our_back("DELETE FROM people_auditentry WHERE id = %s", log[2].id)

    assert [fault.entry for fault in seals.verify().faults] == [log[3].id]


def test_cut_off_end_shows_against_what_was_noted(log: list[AuditEntry]) -> None:
    before = seals.verify()
    noted = f"{before.seals}:{before.head}"
    assert seals.holds(noted)
    behind_our_back("DELETE FROM people_auditseal WHERE entry_id = %s", log[4].id)
    behind_our_back("DELETE FROM people_auditentry WHERE id = %s", log[4].id)

    assert seals.verify().faults == []
    assert not seals.holds(noted)
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("audit", "verify", "--expect", noted, stdout=out)
    assert "does not hold" in out.getvalue()


def test_old_entry_without_a_seal_is_a_fault(log: list[AuditEntry]) -> None:
    entry = audit.record(Actor(None), "key.changed", make_key("sandbox_other_ops"))
    assert seals.verify().faults == []
    behind_our_back(
        "UPDATE people_auditentry SET at = %s WHERE id = %s", timezone.now() - timedelta(hours=1), entry.id
    )

    assert [(fault.entry, fault.text) for fault in seals.verify().faults] == [(entry.id, "has no seal")]


@pytest.mark.parametrize("table", ["people_auditentry", "people_auditseal"])
@pytest.mark.parametrize(
    "order",
    [
        "UPDATE {} SET id = id",
        "DELETE FROM {}",
        "TRUNCATE {} CASCADE",
        "TRUNCATE people_user CASCADE",
    ],
)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite knows no roles")
def test_application_s_own_role_cannot_change_the_log(log: list[AuditEntry], table: str, order: str) -> None:
    kind = table.removeprefix("people_audit")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER audit_{kind}_kept_whole")  # it sleeps in tests
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(order.format(table))


@pytest.mark.parametrize(
    "attempt",
    [
        lambda entry: entry.save(),
        lambda entry: entry.delete(),
        lambda entry: entry.seal.save(),
        lambda entry: entry.seal.delete(),
        lambda entry: AuditEntry.objects.filter(id=entry.id).update(reason="x"),
        lambda entry: AuditEntry.objects.all().delete(),
        lambda entry: AuditEntry.objects.bulk_update([entry], ["reason"]),
        lambda entry: AuditEntry.objects.update_or_create(id=entry.id, defaults={"reason": "x"}),
        lambda entry: AuditEntry._base_manager.filter(id=entry.id).update(reason="x"),
        lambda entry: AuditSeal.objects.update(digest="0" * 64),
        lambda entry: AuditSeal.objects.all().delete(),
    ],
)
def test_code_of_ours_cannot_change_the_log(
    log: list[AuditEntry], attempt: Callable[[AuditEntry], Any]
) -> None:
    with pytest.raises(TypeError, match="append-only"):
        attempt(AuditEntry.objects.get(id=log[2].id))

    assert seals.verify().faults == []
    assert AuditEntry.objects.get(id=log[2].id).reason == "number 2"


def test_person_with_a_history_cannot_be_deleted_with_it() -> None:
    person = make_user()
    audit.record(Actor(person), "key.changed", make_key())

    with pytest.raises(ProtectedError):
        person.delete()


def test_entry_changed_before_its_seal_is_caught_by_the_role_alone(log: list[AuditEntry]) -> None:
    """The window of some seconds in which the chain cannot tell; on PostgreSQL the triggers close it."""
    entry = audit.record(Actor(None), "key.changed", make_key("sandbox_window_ops"), reason="true")
    if connection.vendor == "postgresql":
        with (
            pytest.raises(DatabaseError, match="append-only"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute("UPDATE people_auditentry SET reason = 'false' WHERE id = %s", [entry.id])
        return
    behind_our_back("UPDATE people_auditentry SET reason = 'false' WHERE id = %s", entry.id)
    seals.seal_new()
    assert seals.verify().faults == []  # said in the threat model


def test_resealed_chain_shows_against_what_was_noted(log: list[AuditEntry]) -> None:
    """Whoever may write everything can seal anew from the changed entry on: then only the noted head tells."""
    noted = seals.verify().head
    behind_our_back("UPDATE people_auditentry SET reason = 'another' WHERE id = %s", log[1].id)
    before = seals.FIRST
    for seal in AuditSeal.objects.select_related("entry").order_by("id"):
        before = seals.digest(seal.entry, before)
        behind_our_back("UPDATE people_auditseal SET digest = %s WHERE id = %s", before, seal.id)

    assert seals.verify().faults == []
    assert not seals.holds(noted)


def test_head_of_each_sealing_stands_in_the_log(
    caplog: pytest.LogCaptureFixture, log: list[AuditEntry]
) -> None:
    caplog.set_level(logging.INFO, "people.seals")
    audit.record(Actor(None), "key.changed", make_key("sandbox_head_ops"))
    seals.seal_new()

    head = seals.verify().head

    assert f"head {head}" in caplog.text
    assert seals.holds(head)
    assert not seals.holds("f" * 64)


@pytest.mark.django_db(transaction=True)
def test_many_writers_and_sealers_at_once_make_one_chain() -> None:
    key = make_key()

    def write() -> None:
        for number in range(10):
            with transaction.atomic():
                audit.record(Actor(None), "key.changed", key, reason=f"number {number}")

    def seal() -> None:
        for _ in range(15):
            seals.seal_new()

    def alone(work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(alone, work) for work in (write, seal, write, seal, write, seal)]:
            done.result()
    seals.seal_new()

    verdict = seals.verify()
    assert verdict.faults == []
    assert (verdict.seals, verdict.waiting) == (AuditEntry.objects.count(), 0)
    assert verdict.seals == 30


def test_terminal_says_that_all_is_well_and_what_to_note(log: list[AuditEntry]) -> None:
    out = io.StringIO()
    call_command("audit", "verify", stdout=out)

    assert out.getvalue().startswith("ok")
    assert seals.holds(out.getvalue().split()[-1])


def verified() -> tuple[str, int]:
    """What the check prints, and its exit status."""
    out = io.StringIO()
    try:
        call_command("audit", "verify", stdout=out)
    except SystemExit as end:
        return out.getvalue(), int(str(end))
    return out.getvalue(), 0


def test_terminal_tells_of_an_entry_whose_seal_was_taken_away_before_it_seals_it(
    log: list[AuditEntry],
) -> None:
    hour_ago = timezone.now() - timedelta(hours=1)
    behind_our_back("DELETE FROM people_auditseal WHERE entry_id IN (%s, %s)", log[3].id, log[4].id)
    behind_our_back(
        "UPDATE people_auditentry SET reason = 'another', at = %s WHERE id = %s", hour_ago, log[4].id
    )

    said, status = verified()

    assert status == 1
    assert f"NOT OK  entry {log[4].id} has no seal" in said
    assert "2 without a seal, sealed now" in said
    assert seals.holds(said.split()[-1])
    assert verified()[1] == 0


def test_terminal_seals_all_that_waits_however_much(
    log: list[AuditEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seals, "AT_ONCE", 2)
    for number in range(5):
        audit.record(Actor(None), "key.changed", make_key(f"sandbox_late{number}_ops"))

    said, status = verified()

    assert (status, AuditEntry.objects.filter(seal=None).count()) == (0, 0)
    assert said.split()[-1].partition(":")[0] == str(AuditEntry.objects.count())


def test_export_has_every_entry_with_its_seal_and_no_formula(client: Client, log: list[AuditEntry]) -> None:
    manager = make_user(role="manager")
    audit.record(Actor(manager), "key.changed", make_key("sandbox_f_ops"), reason="=HYPERLINK(1)")
    client.force_login(manager)

    answer = client.get("/activity/activity.csv?action=key.")

    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert [row["why"] for row in rows][:5] == [f"number {n}" for n in range(5)]
    assert rows[-1]["why"] == "'=HYPERLINK(1)"
    assert len(rows[0]["seal"]) == 64
    assert AuditEntry.objects.filter(action="person.took_activity", actor=manager).count() == 1
    out = io.StringIO()
    call_command("audit", "export", stdout=out)
    assert out.getvalue().count("number ") == 5
    taken = AuditEntry.objects.get(action="person.took_activity", via__startswith="terminal")
    assert (taken.actor, taken.detail) == (None, {"entries": taken.id - log[0].id})


def test_activity_is_narrowed_by_person_and_days(client: Client, log: list[AuditEntry]) -> None:
    manager = make_user(role="manager", name="Leo Brandt")
    mine = audit.record(Actor(manager), "key.changed", make_key("sandbox_m_ops"))
    client.force_login(manager)
    today = timezone.localdate()

    def shown(query: str) -> list[int]:
        return [entry.id for entry in client.get(f"/activity/?{query}").context["entries"]]

    assert shown(f"person={manager.id}") == [mine.id]
    assert len(shown(f"since={today}")) == AuditEntry.objects.count()
    assert shown(f"until={today - timedelta(days=1)}") == []
    assert shown("since=yesterday") == shown("")
    assert shown(f"since={today}&until={today - timedelta(days=7)}") == shown(
        f"since={today - timedelta(days=7)}"
    )
    page = client.get(f"/activity/?person={manager.id}").content.decode()
    assert f"person={manager.id}" in page
    assert "activity.csv" in page


def test_people_page_shows_the_matrix_to_everybody(client: Client) -> None:
    client.force_login(make_user(role="viewer", name="Tom Aldous"))

    page = client.get("/people/").content.decode()

    assert "Tom Aldous" in page
    assert "Make and change key records" in page
    assert page.count("rights-cell") > 50

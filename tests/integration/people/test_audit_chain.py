"""The chain over the audit log: it holds, and whatever is changed behind our back shows."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
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
@pytest.mark.parametrize("order", ["UPDATE {} SET id = id", "DELETE FROM {}"])
def test_application_s_own_role_cannot_change_the_log(log: list[AuditEntry], table: str, order: str) -> None:
    if connection.vendor != "postgresql":
        # SQLite has no roles; there the model refuses, and the chain tells what else happens.
        with pytest.raises(TypeError):
            log[0].save()
        return
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(order.format(table))


def test_terminal_says_that_all_is_well_and_what_to_note(log: list[AuditEntry]) -> None:
    out = io.StringIO()
    call_command("audit", "verify", stdout=out)

    assert out.getvalue().startswith("ok")
    assert seals.holds(out.getvalue().split()[-1])


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
    page = client.get(f"/activity/?person={manager.id}").content.decode()
    assert f"person={manager.id}" in page
    assert "activity.csv" in page


def test_people_page_shows_the_matrix_to_everybody(client: Client) -> None:
    client.force_login(make_user(role="viewer", name="Tom Aldous"))

    page = client.get("/people/").content.decode()

    assert "Tom Aldous" in page
    assert "Make and change key records" in page
    assert page.count("rights-cell") > 50

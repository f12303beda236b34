"""A record gets another name and keeps everything else; the old name leads to it for good."""

from __future__ import annotations

import threading
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import Client

from keys.models import FormerName, KeyRecord
from keys.services import KeyRecordError, KeySpec, create_key, rename_key
from people.audit import Actor
from people.models import AuditEntry, User
from tests.factories import make_key, make_user

pytestmark = pytest.mark.django_db
NOBODY = Actor(None)
OLD, NEW = "/keys/sandbox_training_revops/", "/keys/sandbox_lessons_ops/"


@pytest.fixture
def admin(client: Client) -> User:
    person = make_user(name="Mira Okafor", role="key_admin")
    client.force_login(person)
    return person


@pytest.fixture
def key() -> KeyRecord:
    return make_key(
        "sandbox_training_revops", system="training", label="revops", secret_ref="env:ICYPEAS_KEY_T"
    )


def rename(key: KeyRecord, system: str = "lessons", label: str = "ops") -> KeyRecord:
    return rename_key(NOBODY, key, system=system, label=label, reason="a better name")


def make(system: str, label: str) -> KeyRecord:
    spec = KeySpec("sandbox", system, label, make_user(), "Training", ["leads:search"], "env:ICYPEAS_KEY_X")
    return create_key(NOBODY, spec)


def test_rename_changes_the_name_and_keeps_the_secret_s_reference(
    client: Client, admin: User, key: KeyRecord
) -> None:
    answer = client.post(f"{OLD}rename/", {"system": "lessons", "label": "ops", "reason": "a better name"})

    assert (answer.status_code, answer["Location"]) == (303, NEW)
    key.refresh_from_db()
    assert (key.name, key.system, key.label) == ("sandbox_lessons_ops", "lessons", "ops")
    assert (key.environment, key.secret_ref) == ("sandbox", "env:ICYPEAS_KEY_T")
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.reason, entry.object_text) == (
        "key.renamed",
        "a better name",
        "sandbox_lessons_ops",
    )
    page = client.get(NEW).content.decode()
    assert "Renamed, before sandbox_training_revops" in page
    assert "Named before" in page


@pytest.mark.parametrize("rest", ["", "edit/", "rename/", "quarantine/", "test/", "?x=1", "edit/?x=1#y"])
def test_old_address_leads_to_the_same_page_of_the_new_name(
    client: Client, admin: User, key: KeyRecord, rest: str
) -> None:
    rename(key)

    answer = client.get(OLD + rest)

    assert (answer.status_code, answer["Location"]) == (308, NEW + rest.partition("#")[0])
    assert answer["Cache-Control"] == "no-store"


def test_form_that_was_opened_before_the_rename_is_carried_out(
    client: Client, admin: User, key: KeyRecord
) -> None:
    rename(key)

    client.post(f"{OLD}quarantine/", {"reason": "odd calls"}, follow=True)

    key.refresh_from_db()
    assert key.state == "quarantined"


def test_old_address_tells_nothing_to_who_may_not_see_keys(client: Client, key: KeyRecord) -> None:
    rename(key)

    assert client.get(OLD)["Location"].startswith("/login/")
    client.force_login(make_user(role=None))
    assert client.get(OLD).status_code == 403


def test_unknown_name_and_unknown_call_are_not_found(client: Client, admin: User, key: KeyRecord) -> None:
    rename(key)

    assert client.get("/keys/sandbox_no_such/").status_code == 404
    assert client.get(f"{OLD}calls/1/", follow=True).status_code == 404


def test_names_in_a_row_all_lead_to_the_last(client: Client, admin: User, key: KeyRecord) -> None:
    rename(key)
    rename(key, "academy", "ops")

    assert client.get(OLD)["Location"] == client.get(NEW)["Location"] == "/keys/sandbox_academy_ops/"


def test_record_may_go_back_to_a_name_of_its_own(client: Client, admin: User, key: KeyRecord) -> None:
    rename(key)
    key = rename(key, "training", "revops")

    assert client.get(OLD).status_code == 200
    assert client.get(NEW)["Location"] == OLD
    assert list(FormerName.objects.values_list("name", flat=True)) == ["sandbox_lessons_ops"]


def test_old_name_stays_reserved(key: KeyRecord) -> None:
    rename(key)
    other = make_key("sandbox_other_ops")

    with pytest.raises(KeyRecordError, match="was the name of sandbox_lessons_ops until"):
        make("training", "revops")
    with pytest.raises(KeyRecordError, match="was the name of sandbox_lessons_ops until"):
        rename(other, "training", "revops")


@pytest.mark.parametrize(
    ("told", "field", "said"),
    [
        ({"system": "other"}, "label", "There is a key named sandbox_other_ops already."),
        ({"system": "training", "label": "revops"}, "label", "is its name already"),
        ({"system": "Lessons"}, "system", "small letters"),
        ({"label": ""}, "label", "required"),
        ({"reason": ""}, "reason", "Say why"),
    ],
)
def test_rename_is_refused_at_the_field(
    client: Client, admin: User, key: KeyRecord, told: dict[str, str], field: str, said: str
) -> None:
    make_key("sandbox_other_ops")

    answer = client.post(f"{OLD}rename/", {"system": "lessons", "label": "ops", "reason": "better", **told})

    assert answer.status_code == 422
    assert said in " ".join(answer.context["form"].errors[field])
    key.refresh_from_db()
    assert key.name == "sandbox_training_revops"
    assert not FormerName.objects.exists()


def test_environment_of_a_record_is_changed_by_no_form(client: Client, admin: User, key: KeyRecord) -> None:
    told = {"system": "lessons", "label": "ops", "reason": "better", "environment": "prod"}

    client.post(f"{OLD}rename/", told)

    key.refresh_from_db()
    assert (key.name, key.environment) == ("sandbox_lessons_ops", "sandbox")


def test_name_is_shown_as_it_forms(client: Client, admin: User, key: KeyRecord) -> None:
    make_key("sandbox_other_ops")

    def shown(system: str, label: str) -> str:
        query = {"environment": "prod", "system": system, "label": label, "renames": key.id}
        return client.get("/keys/name-preview/", query, headers={"HX-Request": "true"}).content.decode()

    assert "sandbox_training_revops stays reserved and leads here" in shown("lessons", "ops")
    assert "There is a key named sandbox_other_ops already." in shown("other", "ops")
    assert "is its name already" in shown("training", "revops")


def test_list_finds_a_record_by_a_name_that_it_had(client: Client, admin: User, key: KeyRecord) -> None:
    rename(key)

    answer = client.get("/keys/?q=training_rev")

    assert [line.key.name for line in answer.context["page"].lines] == ["sandbox_lessons_ops"]


def test_activity_line_from_before_still_leads_to_the_record(
    client: Client, admin: User, key: KeyRecord
) -> None:
    from people import audit  # the log of before the rename

    audit.record(NOBODY, "key.changed", key, reason="x")
    rename(key)

    page = client.get("/activity/").content.decode()

    assert f'href="{OLD}"' in page
    assert client.get(OLD, follow=True).status_code == 200


def test_terminal_understands_the_old_name_and_says_so(key: KeyRecord) -> None:
    out, errors = StringIO(), StringIO()
    call_command(
        "key", "rename", key.name, "--system", "lessons", "--label", "ops", "--reason", "better", stdout=out
    )
    assert out.getvalue().splitlines()[-1] == "sandbox_lessons_ops"

    call_command("key", "show", "sandbox_training_revops", stdout=out, stderr=errors)

    assert errors.getvalue().strip() == "sandbox_training_revops is now named sandbox_lessons_ops."
    assert "Named before" in out.getvalue()
    with pytest.raises(CommandError, match="no key record"):
        call_command("key", "show", "sandbox_no_such")


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite lets one transaction write at a time")
def test_name_goes_to_one_record_when_two_want_it_at_once() -> None:
    """A new record takes the name that another is just giving up, again and again: never both."""
    for round in range(8):
        key = make_key(f"sandbox_race{round}_ops", system=f"race{round}", label="ops")
        gate = threading.Barrier(2)
        outcomes: list[str] = []

        def run(act: Any, gate: threading.Barrier = gate, outcomes: list[str] = outcomes) -> None:
            gate.wait()
            try:
                act()
            except KeyRecordError as error:
                outcomes.append(str(error))
            finally:
                connections.close_all()

        threads = [
            threading.Thread(
                target=run, args=(lambda key=key, round=round: rename(key, f"new{round}", "ops"),)
            ),
            threading.Thread(target=run, args=(lambda round=round: make(f"race{round}", "ops"),)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        names = list(KeyRecord.objects.filter(name__contains=f"{round}_ops").values_list("name", flat=True))
        assert names == [f"sandbox_new{round}_ops"], outcomes
        assert len(outcomes) == 1

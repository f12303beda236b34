"""Roles, teams and log-ins of people, from the page and the terminal, and who may not lose what."""

from __future__ import annotations

import threading
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import Client

from people import services
from people.audit import Actor
from people.models import AuditEntry, Team, User
from tests.factories import make_job, make_key, make_team, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def manager(client: Client) -> User:
    person = make_user("leo@desk.example", name="Leo Brandt", role="manager")
    client.force_login(person)
    return person


@pytest.fixture
def ana() -> User:
    return make_user("ana@desk.example", name="Ana Duarte", role="operator", team=make_team("RevOps"))


def fresh(person: User) -> User:
    return User.objects.get(id=person.id)


def test_roles_and_team_are_changed_with_a_reason(client: Client, manager: User, ana: User) -> None:
    growth = make_team("Growth")
    told = {"roles": ["auditor", "operator"], "team": growth.id, "reason": "reviews from now on"}

    answer = client.post(f"/people/{ana.id}/", told)

    assert (answer.status_code, answer["Location"]) == (303, "/people/")
    assert (sorted(fresh(ana).roles), fresh(ana).team) == (["auditor", "operator"], growth)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.reason, entry.actor) == ("person.changed", "reviews from now on", manager)
    assert entry.detail == {"roles": ["operator", "auditor, operator"], "team": ["RevOps", "Growth"]}
    assert "reviews from now on" in client.get(f"/people/{ana.id}/").content.decode()


@pytest.mark.parametrize(
    ("told", "field"),
    [({"reason": ""}, "reason"), ({"roles": ["king"]}, "roles"), ({"team": "999999"}, "team")],
)
def test_change_is_refused_at_the_field(
    client: Client, manager: User, ana: User, told: dict[str, Any], field: str
) -> None:
    answer = client.post(f"/people/{ana.id}/", {"roles": ["auditor"], "reason": "x", **told})

    assert answer.status_code == 422
    assert field in answer.context["form"].errors
    assert fresh(ana).roles == ["operator"]


def test_new_rights_hold_from_the_next_page_on(client: Client, manager: User, ana: User) -> None:
    browser = Client()
    browser.force_login(ana)
    assert browser.get("/activity/").status_code == 403

    client.post(f"/people/{ana.id}/", {"roles": ["auditor"], "reason": "reviews"})

    assert browser.get("/activity/").status_code == 200


def test_nobody_takes_their_own_last_right_to_manage_people(client: Client, manager: User) -> None:
    make_user(role="manager")

    answer = client.post(f"/people/{manager.id}/", {"roles": ["auditor"], "reason": "enough"})

    assert answer.status_code == 422
    assert "You cannot take away your own right" in answer.content.decode()
    assert fresh(manager).roles == ["manager"]
    more = client.post(f"/people/{manager.id}/", {"roles": ["manager", "operator"], "reason": "uploads too"})
    assert more.status_code == 303


def test_last_person_who_manages_people_keeps_the_role_and_the_log_in(manager: User) -> None:
    make_user(role="manager", is_active=False)
    nobody = Actor(None)

    with pytest.raises(services.PersonError, match="the last person who can"):
        services.change_person(nobody, manager, roles=["auditor"], team=None, reason="x")
    with pytest.raises(services.PersonError, match="the last person who can"):
        services.disable_person(nobody, manager, reason="x")

    assert (fresh(manager).roles, fresh(manager).is_active) == (["manager"], True)
    make_user(role="manager")
    services.disable_person(nobody, manager, reason="there is another one now")


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite lets one transaction write at a time")
def test_two_managers_who_disable_each_other_at_once_leave_one() -> None:
    people = [make_user(role="manager") for _ in range(2)]
    gate, outcomes = threading.Barrier(2), []

    def disable(actor: User, other: User) -> None:
        gate.wait()
        try:
            services.disable_person(Actor(actor), other, reason="x")
        except services.PersonError as error:
            outcomes.append(str(error))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=disable, args=(people[n], people[1 - n])) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert User.objects.filter(is_active=True).count() == 1
    assert len(outcomes) == 1


def test_disabled_person_s_open_session_ends_at_once(client: Client, manager: User, ana: User) -> None:
    browser = Client()
    browser.force_login(ana)
    assert browser.get("/").status_code == 200

    answer = client.post(f"/people/{ana.id}/access/", {"act": "disable", "reason": "left"})

    assert answer.status_code == 303
    assert browser.get("/")["Location"].startswith("/login/")
    assert browser.get("/jobs/", headers={"HX-Request": "true"}).status_code == 401
    assert AuditEntry.objects.get().action == "person.disabled"
    client.post(f"/people/{ana.id}/access/", {"act": "enable", "reason": "came back"})
    assert (fresh(ana).is_active, fresh(ana).roles) == (True, ["operator"])


def test_what_follows_is_said_before(client: Client, manager: User, ana: User) -> None:
    make_key("sandbox_a_ops", owner=ana)
    make_key("sandbox_b_ops", owner=ana, state="revoked")
    make_key("sandbox_c_ops", deputy=ana)
    job = make_job(2, created_by=ana, state="paused")

    page = client.get(f"/people/{ana.id}/access/").content.decode()

    assert "1 of their jobs is under way and goes on" in page
    assert f'href="/jobs/{job.id}/"' in page
    assert "The 1 key record that they own stays active and gets a finding" in page
    assert f'href="/keys/?person={ana.id}"' in page


def test_lonely_rights_are_named(client: Client, manager: User) -> None:
    mira = make_user(name="Mira Okafor", role="key_admin")

    page = client.get(f"/people/{mira.id}/access/").content.decode()

    assert "Nobody else can make and change key records." in page


def test_second_press_of_the_same_button_undoes_nothing(client: Client, manager: User, ana: User) -> None:
    for _ in range(2):
        client.post(f"/people/{ana.id}/access/", {"act": "disable", "reason": "left"})

    assert not fresh(ana).is_active
    assert AuditEntry.objects.count() == 1


def test_nobody_disables_themselves(client: Client, manager: User) -> None:
    make_user(role="manager")

    answer = client.post(f"/people/{manager.id}/access/", {"act": "disable", "reason": "x"})

    assert answer.status_code == 422
    assert "You cannot disable yourself" in answer.content.decode()


@pytest.mark.parametrize("role", ["viewer", "operator", "key_admin", "auditor"])
def test_others_see_the_controls_disabled_with_who_may(
    client: Client, manager: User, ana: User, role: str
) -> None:
    client.force_login(make_user(role=role))

    page = client.get("/people/").content.decode()

    assert "Leo Brandt can change roles and teams" in page
    assert f'href="/people/{ana.id}/' not in page
    answers = [client.get(f"/people/{ana.id}/"), client.post(f"/people/{ana.id}/access/", {"reason": "x"})]
    assert [answer.status_code for answer in answers] == [403, 403]
    assert "Leo Brandt can." in answers[0].content.decode()
    assert fresh(ana).is_active


def test_unknown_person_is_not_found(client: Client, manager: User) -> None:
    assert client.get("/people/999999/").status_code == 404
    assert client.get("/people/999999/access/").status_code == 404


# --- the terminal -------------------------------------------------------------------------------------------------------


def terminal(*words: str) -> str:
    out = StringIO()
    call_command("person", *words, stdout=out)
    return out.getvalue()


def test_terminal_changes_roles_and_log_ins(ana: User) -> None:
    said = terminal(
        "roles",
        "--email",
        ana.email,
        "--role",
        "viewer",
        "--role",
        "auditor",
        "--team",
        "New",
        "--reason",
        "x",
    )
    assert "Auditor, Viewer, team New." in said or "Viewer, Auditor, team New." in said
    assert "is disabled" in terminal("disable", "--email", ana.email, "--reason", "left")
    assert not fresh(ana).is_active
    assert "can log in again" in terminal("enable", "--email", ana.email, "--reason", "back")
    assert AuditEntry.objects.filter(via__startswith="terminal").count() == 4  # the new team is one
    with pytest.raises(CommandError, match="can log in already"):
        terminal("enable", "--email", ana.email, "--reason", "back")


def test_terminal_changes_the_team_alone(ana: User) -> None:
    terminal("roles", "--email", ana.email, "--team", "", "--reason", "x")

    assert (fresh(ana).team, fresh(ana).roles) == (None, ["operator"])


def test_terminal_keeps_the_last_manager(manager: User) -> None:
    with pytest.raises(CommandError, match="the last person who can"):
        terminal("disable", "--email", manager.email, "--reason", "x")


def test_team_that_was_made_for_a_refused_change_goes_with_it(manager: User) -> None:
    with pytest.raises(CommandError):
        terminal("roles", "--email", manager.email, "--role", "viewer", "--team", "New", "--reason", "x")

    assert not Team.objects.exists()

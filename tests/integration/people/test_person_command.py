"""`manage.py person`."""

from __future__ import annotations

import getpass
import io

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from people.models import AuditEntry, Team, User
from tests.factories import make_team, make_user

pytestmark = pytest.mark.django_db
PASSWORD = "plenty of words 9"


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("person", *arguments, stdout=out)
    return out.getvalue()


def create(*more: str) -> str:
    return run("create", "--email=Ana@Desk.example", "--name=Ana Duarte", "--role=operator", *more)


def test_person_create_makes_a_person_who_can_log_in(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEW_PASSWORD", PASSWORD)

    said = create("--role=manager", "--team=RevOps", "--password-env=NEW_PASSWORD")

    person = User.objects.get(email="ana@desk.example")
    assert (person.name, sorted(person.roles), str(person.team)) == (
        "Ana Duarte",
        ["manager", "operator"],
        "RevOps",
    )
    assert PASSWORD not in said
    assert client.post("/login/", {"username": person.email, "password": PASSWORD}).status_code == 303


def test_person_create_says_how_to_set_a_password_when_none_is_given() -> None:
    said = create()

    assert not User.objects.get().has_usable_password()
    assert "manage.py person password --email ana@desk.example" in said


def test_person_create_uses_the_team_that_is_there() -> None:
    team = make_team("RevOps")

    create("--team=revops")

    assert User.objects.get().team == team
    assert Team.objects.count() == 1


def test_person_create_tells_of_a_new_team_and_why() -> None:
    create("--team=RevOps", "--reason=joined in May")

    told = AuditEntry.objects.order_by("id").values_list("action", "object_text", "reason")
    assert list(told) == [
        ("team.created", "RevOps", "joined in May"),
        ("person.created", "Ana Duarte", "joined in May"),
    ]


def test_person_create_leaves_the_terminal_in_the_audit_log() -> None:
    create()

    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor) == ("person.created", None)
    assert entry.via.startswith(f"terminal, {getpass.getuser()}, ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--email=ana", "--name=Ana", "--role=operator"], "not an e-mail address"),
        (["--email=ana@desk.example", "--name= ", "--role=operator"], "needs a name"),
        (["--email=ana@desk.example", "--name=Ana", "--role=boss"], "Unknown role boss"),
        (["--email=taken@desk.example", "--name=Ana", "--role=operator"], "already"),
        (["--email=ana@desk.example", "--name=Ana", "--role=operator", "--password-env=NOT_SET"], "NOT_SET"),
        (
            ["--email=ana@desk.example", "--name=Ana", "--role=operator", "--password-env=SHORT"],
            "at least 12",
        ),
    ],
)
def test_person_create_is_refused_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setenv("SHORT", "short1")
    make_user("taken@desk.example")

    with pytest.raises(CommandError, match=said) as caught:
        run("create", *arguments, "--team=New team")

    assert caught.value.returncode == 1
    assert "short1" not in str(caught.value)
    assert User.objects.count() == 1
    assert not Team.objects.exists()


def test_person_password_ends_open_sessions(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    person = make_user("ana@desk.example", password="the one before 1")
    client.force_login(person)
    monkeypatch.setenv("NEW_PASSWORD", PASSWORD)

    said = run("password", "--email=ana@desk.example", "--password-env=NEW_PASSWORD")

    person.refresh_from_db()
    assert person.check_password(PASSWORD)
    assert PASSWORD not in said
    assert client.get("/help/").status_code == 302
    assert AuditEntry.objects.get().action == "person.password_set"


def test_person_password_of_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEW_PASSWORD", PASSWORD)

    with pytest.raises(CommandError, match="no person"):
        run("password", "--email=ana@desk.example", "--password-env=NEW_PASSWORD")


def test_person_list_shows_everybody_with_roles() -> None:
    make_user("ana@desk.example", name="Ana Duarte", role="operator", team=make_team("RevOps"))
    make_user("left@desk.example", name="Jo Lind", is_active=False)

    said = run("list")

    assert "Ana Duarte" in said
    assert "Operator" in said
    assert "no, disabled" in said


def test_person_list_says_how_to_begin_when_there_is_nobody() -> None:
    assert "person create --help" in run("list")

"""The password again before keys, roles and budgets: who is asked, who is not, and that nothing that was typed is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axes.models import AccessAttempt
from axes.utils import reset
from django.test import Client
from django.urls import reverse

from keys.models import Budget, KeyRecord
from keys.services import version_of
from people import proof
from people.models import User
from tests.factories import make_key, make_team, make_user

pytestmark = pytest.mark.django_db
PASSWORD = "plenty of words 9"
KEY = "/keys/sandbox_training_revops/"


@pytest.fixture
def admin(client: Client) -> Iterator[User]:
    """A key admin and manager whose log-in was an hour ago."""
    person = make_user("mira@desk.example", name="Mira Okafor", role="key_admin", password=PASSWORD)
    person.role_grants.create(role="manager")
    client.force_login(person)
    grow_old(client)
    yield person
    reset()


def grow_old(client: Client, seconds: int = 3600) -> None:
    session = client.session
    session[proof.PROVED_AT] -= seconds
    session.save()


def pages(person: User) -> list[str]:
    return [
        "/keys/new/",
        f"{KEY}edit/",
        f"{KEY}rename/",
        f"{KEY}renew/",
        f"{KEY}quarantine/",
        f"{KEY}revoke/",
        "/keys/owner/?all=yes",
        "/spend/budget/",
        f"/people/{person.id}/",
        f"/people/{person.id}/access/",
    ]


def test_page_that_changes_something_asks_for_the_password_and_leads_back(
    client: Client, admin: User
) -> None:
    make_key("sandbox_training_revops")

    for path in pages(make_user()):
        grow_old(client)
        asked = client.get(path)
        assert asked.status_code == 303
        assert asked["Location"].startswith("/confirm/?next=%2F")
        page = client.get(asked["Location"])
        back = client.post(asked["Location"], {proof.FIELD: PASSWORD, "next": page.context["next"]})
        assert (back.status_code, back["Location"]) == (303, path)
        assert client.get(path).status_code == 200


def test_log_in_counts_and_so_does_a_proof_within_the_time(
    client: Client, admin: User, settings: Any
) -> None:
    client.post("/logout/")
    client.post("/login/", {"username": admin.email, "password": PASSWORD})
    assert client.get("/keys/new/").status_code == 200

    settings.STEP_UP_S = 60
    grow_old(client, 50)
    assert client.get("/keys/new/").status_code == 200
    grow_old(client, 20)
    assert client.get("/keys/new/").status_code == 303


def test_reading_never_asks(client: Client, admin: User) -> None:
    make_key("sandbox_training_revops")

    for path in ("/keys/", KEY, "/people/", "/activity/", "/spend/", "/keys/keys.csv"):
        assert client.get(path).status_code == 200, path


def test_form_that_comes_too_late_changes_nothing_and_comes_back_as_it_was_typed(
    client: Client, admin: User
) -> None:
    key = make_key("sandbox_training_revops", purpose="Training")
    form = {
        "owner": key.owner_id,
        "account": key.account_id,
        "purpose": "Something that took ten minutes to write",
        "scopes": ["leads:search"],
        "secret_ref": "env:ICYPEAS_KEY_T",
        "rotation_days": 90,
        "rotate_by": key.rotate_by.isoformat(),
        "hours_days": ["2"],
        "time_zone": "UTC",
        "reason": "the quarterly review",
        "version": version_of(key),
    }

    late = client.post(f"{KEY}edit/", form)

    key.refresh_from_db()
    assert (late.status_code, key.purpose) == (422, "Training")
    page = late.content.decode()
    assert "Something that took ten minutes to write" in page
    assert "the quarterly review" in page
    assert "nothing that you typed is lost" in page
    assert [
        box.value for _, boxes in late.context["form"].scope_groups() for box in boxes if box.is_checked
    ] == ["leads:search"]
    assert late.context["form"]["hours_days"].value() == ["2"]
    assert 'name="proof_password"' in page

    done = client.post(f"{KEY}edit/", {**form, proof.FIELD: PASSWORD})

    key.refresh_from_db()
    assert (done.status_code, key.purpose) == (303, "Something that took ten minutes to write")
    assert client.get(f"{KEY}edit/").status_code == 200


@pytest.mark.parametrize(
    ("path", "told", "kept"),
    [
        (
            "/keys/new/",
            {"environment": "sandbox", "system": "crm_sync", "label": "revops", "purpose": "Kept words"},
            ["crm_sync", "Kept words"],
        ),
        (
            f"{KEY}rename/",
            {"system": "lessons", "label": "ops", "reason": "Kept words"},
            ["lessons", "Kept words"],
        ),
        (f"{KEY}renew/", {"expires_at": "2031-05-04", "reason": "Kept words"}, ["2031-05-04", "Kept words"]),
        (f"{KEY}quarantine/", {"reason": "Kept words"}, ["Kept words"]),
        ("/keys/owner/", {"keys": "1", "reason": "Kept words", "words": "All that matched"}, ["Kept words"]),
        ("/spend/budget/", {"credits": "731", "reason": "Kept words"}, ["731", "Kept words"]),
        ("/people/PERSON/", {"roles": ["auditor"], "reason": "Kept words"}, ["Kept words"]),
        ("/people/PERSON/access/", {"act": "disable", "reason": "Kept words"}, ["Kept words"]),
    ],
    ids=["new", "rename", "renew", "quarantine", "owner", "budget", "roles", "access"],
)
def test_every_late_form_is_shown_again_and_changes_nothing(
    client: Client, admin: User, path: str, told: dict[str, Any], kept: list[str]
) -> None:
    key = make_key("sandbox_training_revops")
    other = make_user(role="operator")
    told = {**told, "keys": str(key.id)} if "keys" in told else told

    late = client.post(path.replace("PERSON", str(other.id)), told)

    page = late.content.decode()
    assert late.status_code == 422
    assert 'name="proof_password"' in page
    for words in kept:
        assert words in page
    key.refresh_from_db()
    other = User.objects.get(id=other.id)
    assert (key.name, key.state, KeyRecord.objects.count()) == ("sandbox_training_revops", "active", 1)
    assert (other.is_active, other.roles, Budget.objects.count()) == (True, ["operator"], 0)


def test_pasted_secret_is_not_shown_again_by_a_late_form(client: Client, admin: User) -> None:
    late = client.post("/keys/new/", {"secret_ref": "sk-canary-4711-secret", "purpose": "Kept"})

    assert "canary" not in late.content.decode()
    assert "Kept" in late.content.decode()


def test_wrong_password_keeps_the_form_and_counts_like_a_wrong_log_in(client: Client, admin: User) -> None:
    make_key("sandbox_training_revops")

    for _ in range(4):
        answer = client.post(f"{KEY}quarantine/", {"reason": "odd calls", proof.FIELD: "wrong"})
        assert answer.status_code == 422
        assert "That is not your password." in answer.content.decode()
    assert AccessAttempt.objects.get(username=admin.email).failures_since_start == 4

    locked = client.post(f"{KEY}quarantine/", {"reason": "odd calls", proof.FIELD: "wrong"})
    assert locked.status_code == 429
    assert "Too many tries." in locked.content.decode()
    assert "odd calls" in locked.content.decode()
    right = client.post(f"{KEY}quarantine/", {"reason": "odd calls", proof.FIELD: PASSWORD})
    assert right.status_code == 429
    assert KeyRecord.objects.get().state == "active"


def test_password_of_somebody_else_is_no_proof(client: Client, admin: User) -> None:
    make_user("leo@desk.example", password="other words 77")

    assert client.post("/confirm/", {proof.FIELD: "other words 77", "next": "/keys/new/"}).status_code == 422
    assert client.get("/keys/new/").status_code == 303


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_confirmation_never_leads_to_another_site(client: Client, admin: User, target: str) -> None:
    answer = client.post("/confirm/", {proof.FIELD: PASSWORD, "next": target})

    assert answer["Location"] == reverse("enrichment:overview")


def test_htmx_is_led_to_the_confirmation_and_back_to_the_page(client: Client, admin: User) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": f"http://testserver{KEY}?x=1"}

    answer = client.post(f"{KEY}quarantine/", {"reason": "x"}, headers=headers)

    assert answer["HX-Redirect"] == "/confirm/?next=%2Fkeys%2Fsandbox_training_revops%2F%3Fx%3D1"


def test_person_without_a_password_is_told_to_log_in_again(client: Client, admin: User) -> None:
    make_key("sandbox_training_revops")
    admin.set_unusable_password()
    admin.save()
    client.force_login(admin)
    grow_old(client)

    page = client.get(f"/confirm/?next={KEY}").content.decode()
    late = client.post(f"{KEY}quarantine/", {"reason": "odd calls"}).content.decode()

    assert "Log out and log in again; that counts." in page
    assert "Log in again first." in late
    assert "odd calls" in late
    assert 'name="proof_password"' not in page + late


def test_right_is_asked_for_before_the_password(client: Client, admin: User) -> None:
    make_key("sandbox_training_revops", team=make_team())
    client.force_login(make_user(role="viewer"))
    grow_old(client)

    assert client.get(f"{KEY}edit/").status_code == 403
    assert client.post(f"{KEY}edit/", {}).status_code == 403

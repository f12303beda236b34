"""Log-in, log-out, lock-out and theme."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axes.models import AccessAttempt
from axes.utils import reset
from django.test import Client

from people.models import User
from tests.factories import make_user

pytestmark = pytest.mark.django_db
PASSWORD = "plenty of words 9"


@pytest.fixture
def person() -> Iterator[User]:
    yield make_user("ana@desk.example", name="Ana Duarte", password=PASSWORD)
    reset()


@pytest.mark.parametrize("email", ["ana@desk.example", "Ana@Desk.Example", " ana@desk.example "])
def test_log_in_opens_a_session_however_the_address_is_typed(
    client: Client, person: User, email: str
) -> None:
    answer = client.post("/login/", {"username": email, "password": PASSWORD})

    assert (answer.status_code, answer["Location"]) == (303, "/")
    assert client.session["_auth_user_id"] == str(person.id)


def test_log_in_page_says_who_can_help(client: Client) -> None:
    make_user(name="Mira Okafor", role="key_admin")

    answer = client.get("/login/")

    assert answer.status_code == 200
    assert "Mira Okafor can help." in answer.content.decode()


@pytest.mark.parametrize(
    ("email", "password"), [("ana@desk.example", "wrong"), ("nobody@desk.example", PASSWORD), ("", "")]
)
def test_refused_log_in_does_not_tell_what_was_wrong(
    client: Client, person: User, email: str, password: str
) -> None:
    answer = client.post("/login/", {"username": email, "password": password})

    assert answer.status_code == 422
    assert "Check the address and the password." in answer.content.decode()
    assert "_auth_user_id" not in client.session
    assert not password or password not in answer.content.decode()


def test_disabled_person_cannot_log_in(client: Client) -> None:
    make_user("left@desk.example", password=PASSWORD, is_active=False)

    answer = client.post("/login/", {"username": "left@desk.example", "password": PASSWORD})

    assert answer.status_code == 422
    assert "That did not match." in answer.content.decode()


def test_log_in_leads_where_the_person_wanted_to_go(client: Client, person: User) -> None:
    answer = client.post("/login/?next=/keys/?view=mine", {"username": person.email, "password": PASSWORD})

    assert answer["Location"] == "/keys/?view=mine"


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "\\\\evil.example"]
)
def test_log_in_never_leads_to_another_site(client: Client, person: User, target: str) -> None:
    answer = client.post("/login/", {"username": person.email, "password": PASSWORD, "next": target})

    assert answer["Location"] == "/"


def test_log_in_page_leads_on_when_there_is_a_session(client: Client, person: User) -> None:
    client.force_login(person)

    answer = client.get("/login/?next=/help/")

    assert (answer.status_code, answer["Location"]) == (303, "/help/")


def test_fifth_wrong_password_locks_the_address_for_a_while(client: Client, person: User) -> None:
    answers = [client.post("/login/", {"username": person.email, "password": "wrong"}) for _ in range(5)]

    assert [answer.status_code for answer in answers] == [422, 422, 422, 422, 429]
    assert answers[-1]["Retry-After"] == "900"
    assert "Too many tries." in answers[-1].content.decode()
    right = client.post("/login/", {"username": person.email, "password": PASSWORD})
    assert right.status_code == 429
    assert "_auth_user_id" not in client.session


def test_capitals_do_not_start_a_new_count_of_tries(client: Client, person: User) -> None:
    for number in range(5):
        email = person.email[:number].upper() + person.email[number:]
        answer = client.post("/login/", {"username": email, "password": "wrong"})

    assert answer.status_code == 429
    assert AccessAttempt.objects.count() == 1


def test_lock_of_one_address_does_not_hold_another(client: Client, person: User) -> None:
    for _ in range(5):
        client.post("/login/", {"username": "other@desk.example", "password": "wrong"})

    assert client.post("/login/", {"username": person.email, "password": PASSWORD}).status_code == 303


def test_log_in_refuses_other_methods(client: Client) -> None:
    assert client.put("/login/").status_code == 405


def test_log_in_needs_the_token_of_its_form(person: User) -> None:
    answer = Client(enforce_csrf_checks=True).post(
        "/login/", {"username": person.email, "password": PASSWORD}
    )

    assert answer.status_code == 403


def test_log_out_ends_the_session(client: Client, person: User) -> None:
    client.force_login(person)

    answer = client.post("/logout/")

    assert (answer.status_code, answer["Location"]) == (303, "/login/")
    assert "_auth_user_id" not in client.session


def test_log_out_refuses_a_link(client: Client, person: User) -> None:
    client.force_login(person)

    assert client.get("/logout/").status_code == 405
    assert "_auth_user_id" in client.session


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_theme_is_kept_in_a_cookie_for_a_year(client: Client, person: User, theme: str) -> None:
    client.force_login(person)

    answer = client.post("/theme/", {"theme": theme, "next": "/help/"})

    cookie = answer.cookies["theme"]
    assert (answer.status_code, answer["Location"]) == (303, "/help/")
    assert (cookie.value, cookie["samesite"], cookie["max-age"]) == (theme, "Lax", 365 * 24 * 3600)
    assert f'data-theme="{theme}"' in client.get("/help/").content.decode()


@pytest.mark.parametrize("theme", ["system", "", "neon"])
def test_other_theme_follows_the_system_again(client: Client, person: User, theme: str) -> None:
    client.force_login(person)
    client.cookies["theme"] = "dark"

    answer = client.post("/theme/", {"theme": theme})

    assert answer["Location"] == "/"
    assert answer.cookies["theme"].value == ""
    assert "data-theme" not in client.get("/help/").content.decode().split("<head>")[0]


def test_theme_never_leads_to_another_site(client: Client) -> None:
    assert client.post("/theme/", {"theme": "dark", "next": "https://evil.example/"})["Location"] == "/"


def test_theme_refuses_a_link(client: Client) -> None:
    assert client.get("/theme/?theme=dark").status_code == 405

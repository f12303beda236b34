"""The audit log as a page, and the help page."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from people import audit
from people.audit import Actor
from people.models import AuditEntry, User
from tests.factories import make_job, make_key, make_user

pytestmark = pytest.mark.django_db
URL = "/activity/"


@pytest.fixture
def manager(client: Client) -> User:
    """A manager, logged in."""
    person = make_user(name="Leo Brandt", role="manager")
    client.force_login(person)
    return person


def note(actor: User | None = None, action: str = "key.changed", obj: Any = None, **more: Any) -> AuditEntry:
    return audit.record(Actor(actor), action, obj or make_key(), **more)


def actions(answer: Any) -> list[int]:
    return [entry.id for entry in answer.context["entries"]]


@pytest.mark.parametrize(
    ("role", "status"),
    [("viewer", 403), ("operator", 403), ("key_admin", 200), ("manager", 200), ("auditor", 200)],
)
def test_activity_opens_for_those_who_review(client: Client, role: str, status: int) -> None:
    client.force_login(make_user(role=role))

    assert client.get(URL).status_code == status


def test_activity_leads_anonymous_people_to_the_log_in(client: Client) -> None:
    assert client.get(URL)["Location"] == "/login/?next=/activity/"


def test_activity_refuses_a_post(client: Client, manager: User) -> None:
    assert client.post(URL).status_code == 405


def test_activity_says_what_comes_when_nothing_happened(client: Client, manager: User) -> None:
    assert "Nothing has been changed yet" in client.get(URL).content.decode()


def test_activity_tells_who_what_when_and_why(client: Client, manager: User) -> None:
    key = make_key("sandbox_training_revops")
    note(
        manager,
        obj=key,
        reason="unused since June",
        detail={"scopes": ["a:b, c:d", "a:b"], "purpose": ["", "New"]},
    )

    text = client.get(URL).content.decode()

    for said in ("Key changed", "Leo Brandt", "unused since June", "removed c:d", "nothing → New"):
        assert said in text
    assert '<a href="/keys/sandbox_training_revops/" class="mono">' in text


def test_activity_names_the_terminal_when_nobody_was_logged_in(client: Client, manager: User) -> None:
    audit.record(Actor(None, "terminal, root, host-1"), "person.created", manager)

    assert "Terminal, root, host-1" in client.get(URL).content.decode()


def test_activity_escapes_what_people_wrote(client: Client, manager: User) -> None:
    note(manager, reason="<script>alert(1)</script>", detail={"<b>": "<i>"})

    text = client.get(URL).content.decode()

    assert "<script>alert" not in text
    assert "<i>" not in text


def test_activity_finds_by_object_person_and_reason(client: Client, manager: User) -> None:
    ana = make_user(name="Ana Duarte")
    by_object = note(obj=make_key("sandbox_training_revops"))
    by_person = note(ana)
    by_reason = note(reason="quarterly review")

    assert actions(client.get(f"{URL}?q=TRAINING")) == [by_object.id]
    assert actions(client.get(f"{URL}?q=duarte")) == [by_person.id]
    assert actions(client.get(f"{URL}?q=quarterly")) == [by_reason.id]
    assert "Nothing matches" in client.get(f"{URL}?q=nothing-like-it").content.decode()


def test_activity_finds_what_was_done_as_the_page_writes_it(client: Client, manager: User) -> None:
    note()
    corrected = note(action="job.row_corrected")

    assert actions(client.get(f"{URL}?q=Job+row+corr")) == [corrected.id]


def test_activity_names_the_number_of_a_job_once(client: Client, manager: User) -> None:
    job = make_job(2)
    note(action="job.paused", obj=job)

    text = client.get(f"{URL}?action=job.paused").content.decode()

    assert f'<a href="/jobs/{job.id}/">#{job.id} {job.name}</a>' in text
    assert f">#{job.id}</a>" not in text


def test_activity_shows_one_area(client: Client, manager: User) -> None:
    person = note(action="person.created", obj=manager)
    note()

    answer = client.get(f"{URL}?action=person.")

    assert actions(answer) == [person.id]
    assert "<strong>People</strong>" in answer.content.decode()


def test_activity_pages_show_every_entry_once_newest_first(client: Client, manager: User) -> None:
    key = make_key()
    made = [note(obj=key).id for _ in range(120)]

    seen, address = [], URL
    while address:
        answer = client.get(address)
        seen += actions(answer)
        address = URL + answer.context["older"] if answer.context["older"] else ""

    assert seen == made[::-1]


@pytest.mark.parametrize("query", ["before=abc", "before=-1", "before=" + "9" * 30, "action=" + "x" * 99])
def test_activity_leaves_out_what_makes_no_sense(client: Client, manager: User, query: str) -> None:
    entry = note()

    assert actions(client.get(f"{URL}?{query}")) == [entry.id]


def test_activity_answers_htmx_with_the_region_alone(client: Client, manager: User) -> None:
    note()

    page, region = client.get(URL), client.get(URL, headers={"HX-Request": "true"})

    assert b"<html" in page.content
    assert b"<html" not in region.content
    assert b"Key changed" in region.content
    assert "HX-Request" in page["Vary"]


def test_activity_asks_as_many_questions_for_fifty_entries_as_for_one(
    client: Client, manager: User, django_assert_num_queries: Any
) -> None:
    note(manager)
    client.get(URL)
    with CaptureQueriesContext(connection) as for_one:
        client.get(URL)
    key = make_key()
    for _ in range(49):
        note(make_user(), obj=key)

    with django_assert_num_queries(len(for_one)):
        answer = client.get(URL)

    assert len(actions(answer)) == 50


def test_help_names_who_can_help(client: Client, manager: User) -> None:
    make_user(name="Mira Okafor", role="key_admin")

    text = client.get("/help/").content.decode()

    assert "Mira Okafor" in text
    assert "Leo Brandt" in text


def test_help_opens_for_a_person_without_a_role_and_not_for_strangers(client: Client) -> None:
    assert client.get("/help/")["Location"].startswith("/login/")

    client.force_login(make_user(role=None))

    assert client.get("/help/").status_code == 200


def test_audit_entry_is_never_changed_or_removed() -> None:
    entry = note()

    with pytest.raises(TypeError):
        entry.save()
    with pytest.raises(TypeError):
        entry.delete()

"""All calls of a key: filters in the address, a page at a time, and the file."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from keys import calls
from keys.models import Call, KeyRecord
from people.models import AuditEntry, User
from tests.factories import make_key, make_numbered_job, make_team, make_user

pytestmark = pytest.mark.django_db
URL = "/keys/sandbox_training_revops/calls/"
FILE = "/keys/sandbox_training_revops/calls.csv"


@pytest.fixture
def admin() -> User:
    return make_user(name="Mira Okafor", role="key_admin", time_zone="Europe/Paris")


@pytest.fixture
def key() -> KeyRecord:
    return make_key("sandbox_training_revops")


def call(key: KeyRecord, **more: Any) -> Call:
    usual = {
        "account": key.account,
        "key": key,
        "route": "bulk-search",
        "scope": "email-verification:bulk",
        "outcome": "ok",
        "worker": "worker-1",
        "at": timezone.now(),
        "job": 412,
        "person": "Ana Duarte",
    }
    return calls.write(Call(**{**usual, **more}))


def seen(answer: Any) -> list[int]:
    return [line.call.id for line in answer.context["page"].lines]


def test_calls_page_shows_this_keys_calls_newest_first(client: Client, admin: User, key: KeyRecord) -> None:
    now = timezone.now()
    old, new = call(key, at=now - timedelta(hours=2)), call(key, at=now - timedelta(hours=1))
    older = call(key, at=now - timedelta(hours=3))
    call(make_key())
    client.force_login(admin)

    assert seen(client.get(URL)) == [new.id, old.id, older.id]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("outcome=ok", {"ok", "reading", "other"}),
        ("outcome=failed", {"late", "scope"}),
        ("outcome=refused", {"scope"}),
        ("outcome=vendor_429", {"late"}),
        ("scope=account:read", {"reading"}),
        ("person=Jonas+Vik", {"scope"}),
        ("job=412", {"ok", "late", "reading"}),
        ("job=0", {"scope"}),
        ("outcome=failed&job=412", {"late"}),
        ("outcome=nonsense&day=yesterday&job=x&before=y", {"ok", "late", "scope", "reading", "other"}),
    ],
)
def test_filter_is_in_the_address(
    client: Client, admin: User, key: KeyRecord, query: str, found: set[str]
) -> None:
    made = {
        "ok": call(key),
        "late": call(key, outcome="vendor_429"),
        "scope": call(key, scope="leads:search", outcome="policy_scope", person="Jonas Vik", job=None),
        "reading": call(key, scope="account:read"),
        "other": call(key, job=413),
    }
    client.force_login(admin)

    answer = client.get(f"{URL}?{query}")

    assert set(seen(answer)) == {made[name].id for name in found}
    assert ("Clear" in answer.content.decode()) == (len(found) < 5)


def test_day_is_the_viewers(client: Client, admin: User, key: KeyRecord) -> None:
    paris = ZoneInfo("Europe/Paris")
    inside = [
        call(key, at=datetime(2026, 11, 17, 0, 0, 1, tzinfo=paris)),
        call(key, at=datetime(2026, 11, 17, 23, 59, 59, tzinfo=paris)),
    ]
    call(key, at=datetime(2026, 11, 16, 23, 59, 59, tzinfo=paris))
    call(key, at=datetime(2026, 11, 18, 0, 0, 0, tzinfo=paris))
    client.force_login(admin)

    assert set(seen(client.get(f"{URL}?day=2026-11-17"))) == {one.id for one in inside}


def test_pager_visits_every_call_once_also_those_of_one_moment(
    client: Client, admin: User, key: KeyRecord
) -> None:
    at = timezone.now()
    made = {call(key, at=at - timedelta(seconds=number // 40)).id for number in range(120)}
    client.force_login(admin)

    found, address = [], f"{URL}?outcome=ok"
    while address:
        page = client.get(address).context["page"]
        found += [line.call.id for line in page.lines]
        address = URL + page.older if page.older else ""

    assert len(found) == 120
    assert set(found) == made


def test_pager_keeps_its_place_when_calls_come_and_go(client: Client, admin: User, key: KeyRecord) -> None:
    made = [call(key, at=timezone.now() - timedelta(minutes=number)) for number in range(60)]
    client.force_login(admin)
    older = client.get(URL).context["page"].older
    call(key)
    Call.objects.filter(id=made[49].id).delete()  # the very call that the place was named after

    assert seen(client.get(URL + older)) == [one.id for one in made[50:]]


def test_calls_page_asks_as_many_questions_for_one_call_as_for_fifty(
    client: Client, admin: User, key: KeyRecord, django_assert_num_queries: Any
) -> None:
    call(key)
    client.force_login(admin)
    client.get(URL)
    with CaptureQueriesContext(connection) as for_one:
        client.get(URL)
    for number in range(60):
        call(key, job=number, person=f"Person {number}", outcome="vendor_429")

    with django_assert_num_queries(len(for_one)):
        answer = client.get(URL)

    assert len(seen(answer)) == 50
    assert len(for_one) <= 20


def test_region_is_the_table_with_its_chips(client: Client, admin: User, key: KeyRecord) -> None:
    call(key)
    client.force_login(admin)

    text = client.get(f"{URL}?outcome=ok", headers={"HX-Request": "true"}).content.decode()

    assert "<h1" not in text
    assert 'id="call-chips" hx-swap-oob="true"' in text


def test_empty_page_says_why(client: Client, admin: User, key: KeyRecord, settings: Any) -> None:
    client.force_login(admin)
    settings.CALLS_KEPT_DAYS = 30
    assert "No call yet" in client.get(URL).content.decode()
    call(key)
    assert "No call matches" in client.get(f"{URL}?outcome=vendor_401").content.decode()

    long_ago = timezone.localdate() - timedelta(days=40)
    assert "no longer kept" in client.get(f"{URL}?day={long_ago}").content.decode()
    settings.CALLS_KEPT_DAYS = 0
    text = client.get(f"{URL}?day={long_ago}").content.decode()
    assert "No call matches" in text
    assert "kept for ever" in text


def test_failed_call_leads_to_its_explanation(client: Client, admin: User, key: KeyRecord) -> None:
    failed = call(key, outcome="vendor_401", message="The key was not accepted.")
    client.force_login(admin)

    text = client.get(URL).content.decode()

    assert f"{URL}{failed.id}/" in text
    assert "The key was not accepted." in text


def test_job_of_another_team_is_no_link(client: Client, key: KeyRecord) -> None:
    call(key)
    client.force_login(make_user(role="viewer", team=make_team()))

    text = client.get(URL).content.decode()

    assert "#412" in text
    assert "/jobs/412/" not in text


@pytest.mark.parametrize(("is_mine", "name"), [(True, "Spring list"), (False, "")])
def test_file_names_jobs_that_the_person_may_open_alone(
    client: Client, key: KeyRecord, is_mine: bool, name: str
) -> None:
    """Whoever has the name of the person may have joined the team since."""
    team, now = make_team(), make_team()
    make_numbered_job(412, created_by=make_user(name="Ana Duarte", team=team))
    make_user(name="Ana Duarte", team=now)
    call(key, job_text="Spring list")
    client.force_login(make_user(role="operator", team=team if is_mine else now))

    answer = client.get(FILE)
    (line,) = csv.DictReader(io.StringIO(b"".join(answer).decode()))  # type: ignore[arg-type]

    assert (line["job"], line["job name"]) == ("412", name)


def test_file_has_every_call_of_the_filter_and_is_told(client: Client, admin: User, key: KeyRecord) -> None:
    for number in range(60):
        call(key, outcome="vendor_429" if number % 2 else "ok", message="=cmd()" if number % 2 else "")
    client.force_login(admin)

    answer = client.get(f"{FILE}?outcome=failed")
    lines = list(csv.DictReader(io.StringIO(b"".join(answer).decode())))  # type: ignore[arg-type]

    assert len(lines) == 30
    assert lines[0]["outcome"] == "vendor_429"
    assert lines[0]["message"] == "'=cmd()"
    assert lines[0]["job"] == "412"
    entry = AuditEntry.objects.get(action="person.took_calls")
    assert entry.detail == {"key": key.name, "filter": "outcome=failed"}


def test_page_of_an_unknown_key_is_not_found(client: Client, admin: User) -> None:
    client.force_login(admin)

    assert client.get("/keys/sandbox_no_such/calls/").status_code == 404
    assert client.get("/keys/sandbox_no_such/calls.csv").status_code == 404


def test_calls_are_refused_without_the_right(client: Client, key: KeyRecord) -> None:
    client.force_login(make_user(role=None))

    assert (client.get(URL).status_code, client.get(FILE).status_code) == (403, 403)

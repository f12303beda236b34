"""Pages about findings: counts that agree, filters, exceptions, fixes, and who may."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from keys import calls, findings
from keys.clock import db_now
from keys.models import Call, Finding, KeyRecord
from people.models import AuditEntry, User
from tests import factories

AsPerson = Callable[[User], Client]
pytestmark = pytest.mark.django_db
URL = "/keys/findings/"
BULK, SINGLE, OTHER = "email-verification:bulk", "email-verification:single", "leads:search"


def today() -> Any:
    return datetime.now(UTC).date()


@pytest.fixture
def admin() -> User:
    return factories.make_user(role="key_admin", name="Mira Okafor")


@pytest.fixture
def keys(admin: User) -> dict[str, KeyRecord]:
    """One well, one late and refused, one due within the week, one without an owner."""
    found = {
        "well": factories.make_key("sandbox_well_ops"),
        "late": factories.make_key(
            "sandbox_late_ops",
            rotate_by=today() - timedelta(days=3),
            last_used_at=db_now(),
            let_in_outcome="vendor_401",
            deputy=admin,
        ),
        "soon": factories.make_key("sandbox_soon_ops", rotate_by=today() + timedelta(days=6), owner=admin),
        "lone": factories.make_key("sandbox_lone_ops"),
    }
    KeyRecord.objects.filter(id=found["lone"].id).update(owner=None)
    findings.refresh()
    return found


@pytest.fixture
def unused(admin: User) -> KeyRecord:
    """A key with two scopes that nobody used and one that somebody did."""
    key = factories.make_key("sandbox_wide_ops", scopes=[BULK, SINGLE, OTHER], last_used_at=db_now())
    KeyRecord.objects.filter(id=key.id).update(created_at=db_now() - timedelta(days=100))
    calls.write(
        Call(account=key.account, key=key, route="r", scope=BULK, worker="w", at=db_now(), outcome="ok")
    )
    findings.refresh()
    return key


def shown(answer: Any) -> list[tuple[str, str]]:
    return [(line.finding.key.system, line.finding.code) for line in answer.context["page"].lines]


def the(key: KeyRecord, code: str) -> Finding:
    return Finding.objects.get(key=key, code=code)


def test_counts_of_list_navigation_overview_and_page_agree(
    as_person: AsPerson, admin: User, keys: dict[str, KeyRecord]
) -> None:
    client = as_person(admin)

    page = client.get(URL)
    text = page.content.decode()

    assert "4 findings on 3 keys" in text
    assert len(shown(page)) == 4
    inventory = client.get("/keys/?view=findings")
    assert len(inventory.context["page"].lines) == 3
    assert next(tab["count"] for tab in inventory.context["tabs"] if tab["label"] == "With findings") == 3
    (access,) = [group for group in inventory.context["frame"]["nav"] if group["label"] == "Access"]
    assert access["items"][0]["count"] == "3"
    assert client.get("/").context["page"].finding_keys == 3
    each = [len(client.get(f"/keys/{key.name}/").context["detail"].findings) for key in keys.values()]
    assert sum(each) == 4


def test_excepted_finding_counts_nowhere_and_stands_below(
    as_person: AsPerson, admin: User, keys: dict[str, KeyRecord]
) -> None:
    client = as_person(admin)
    lone = the(keys["lone"], "owner")
    address = f"/keys/sandbox_lone_ops/findings/{lone.id}/except/"
    page = client.get(address).content.decode()
    assert f'max="{today() + timedelta(days=180)}"' in page

    answer = client.post(address, {"until": today() + timedelta(days=20), "reason": "A team takes it over"})

    assert (answer.status_code, answer["Location"]) == (303, "/keys/sandbox_lone_ops/#findings")
    assert "3 findings on 2 keys" in client.get(URL).content.decode()
    assert shown(client.get(f"{URL}?view=excepted")) == [("lone", "owner")]
    assert len(client.get("/keys/?view=findings").context["page"].lines) == 2
    detail = client.get("/keys/sandbox_lone_ops/")
    assert (len(detail.context["detail"].findings), len(detail.context["detail"].excepted)) == (0, 1)
    text = detail.content.decode()
    assert "A team takes it over" in text
    assert "Mira Okafor" in text

    answer = client.post(f"/keys/sandbox_lone_ops/findings/{lone.id}/resume/", {"reason": "It did not"})
    assert answer.status_code == 303
    assert "4 findings on 3 keys" in client.get(URL).content.decode()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"until": "", "reason": "x"}, "This field is required"),
        ({"until": "2020-01-01", "reason": "x"}, "Choose a day to come"),
        ({"until": "2999-01-01", "reason": "x"}, "An exception lasts 180 days at most"),
        ({"until": "2026-12-24", "reason": ""}, "Say why"),
    ],
)
def test_exception_that_cannot_be_says_why(
    as_person: AsPerson, admin: User, keys: dict[str, KeyRecord], given: dict[str, str], words: str
) -> None:
    finding = the(keys["lone"], "owner")

    answer = as_person(admin).post(f"/keys/sandbox_lone_ops/findings/{finding.id}/except/", given)

    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert the(keys["lone"], "owner").excepted_until is None


def test_finding_of_another_record_or_one_that_is_over_is_not_found(
    as_person: AsPerson, admin: User, keys: dict[str, KeyRecord]
) -> None:
    finding = the(keys["lone"], "owner")
    client = as_person(admin)

    assert client.get(f"/keys/sandbox_well_ops/findings/{finding.id}/except/").status_code == 404
    Finding.objects.update(closed_at=db_now())
    assert client.get(f"/keys/sandbox_lone_ops/findings/{finding.id}/except/").status_code == 404
    assert client.get(f"/keys/sandbox_lone_ops/findings/{finding.id}/resume/").status_code == 404


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {("late", "rotation"), ("late", "outcome"), ("soon", "rotation"), ("lone", "owner")}),
        ("code=rotation", {("late", "rotation"), ("soon", "rotation")}),
        ("tone=warn", {("soon", "rotation")}),
        ("view=mine", {("late", "rotation"), ("late", "outcome"), ("soon", "rotation")}),
        ("due=late", {("late", "rotation")}),
        ("due=week", {("soon", "rotation"), ("late", "outcome"), ("lone", "owner")}),
        ("view=excepted", set()),
        ("q=LONE", {("lone", "owner")}),
        ("q=mira", {("soon", "rotation")}),
        ("code=nonsense&tone=x&owner=x&due=x&view=x&after=y.z", None),
    ],
)
def test_findings_page_shows_what_the_address_asks_for(
    as_person: AsPerson,
    admin: User,
    keys: dict[str, KeyRecord],
    query: str,
    found: set[tuple[str, str]] | None,
) -> None:
    answer = as_person(admin).get(f"{URL}?{query}")

    assert answer.status_code == 200
    assert set(shown(answer)) == found if found is not None else len(shown(answer)) == 4
    dues = [line.finding.due for line in answer.context["page"].lines]
    assert dues == sorted(dues)


def test_findings_page_filters_by_owner_and_says_when_nothing_fits(
    as_person: AsPerson, admin: User, keys: dict[str, KeyRecord]
) -> None:
    client = as_person(admin)

    assert shown(client.get(f"{URL}?owner={admin.id}")) == [("soon", "rotation")]
    assert "No finding matches" in client.get(f"{URL}?code=expiry").content.decode()
    assert "No exception runs" in client.get(f"{URL}?view=excepted").content.decode()
    Finding.objects.all().delete()
    assert "Nothing to look at" in client.get(URL).content.decode()
    assert "Nothing waits for you" in client.get(f"{URL}?view=mine").content.decode()


def test_findings_page_answers_htmx_with_the_region(
    as_person: AsPerson, admin: User, keys: dict[str, KeyRecord]
) -> None:
    region = as_person(admin).get(URL, headers={"HX-Request": "true"})

    assert b"<html" not in region.content
    assert b"sandbox" in region.content
    assert b'hx-swap-oob="true"' in region.content
    assert "HX-Request" in region["Vary"]


def test_findings_page_shows_every_finding_once_in_as_many_queries(
    as_person: AsPerson, admin: User, django_assert_num_queries: Any
) -> None:
    account, owner = factories.make_account(), factories.make_user()
    late = today() - timedelta(days=1)
    factories.make_key(account=account, owner=owner, rotate_by=late)
    findings.refresh()
    client = as_person(admin)
    client.get(URL)
    with CaptureQueriesContext(connection) as for_one:
        client.get(URL)
    for number in range(119):
        day = late - timedelta(days=number % 5)
        factories.make_key(account=account, owner=owner, rotate_by=day)
    findings.refresh()

    seen, address = [], URL
    with django_assert_num_queries(len(for_one)):
        client.get(address)
    while address:
        answer = client.get(address)
        seen += [line.finding.id for line in answer.context["page"].lines]
        address = URL + answer.context["next"] if answer.context["next"] else ""

    assert len(for_one) <= 18
    assert (len(seen), len(set(seen))) == (120, 120)


def test_findings_go_home_as_the_filter_shows_them(
    as_person: AsPerson, admin: User, keys: dict[str, KeyRecord]
) -> None:
    client = as_person(admin)
    assert f"{URL}findings.csv?code=rotation" in client.get(f"{URL}?code=rotation").content.decode()

    answer = client.get(f"{URL}findings.csv?code=rotation")

    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert [(row["key"], row["finding"], row["due"]) for row in rows] == [
        ("sandbox_late_ops", "rotation", str(today() - timedelta(days=3))),
        ("sandbox_soon_ops", "rotation", str(today() + timedelta(days=6))),
    ]
    assert AuditEntry.objects.filter(action="person.took_findings", actor=admin).count() == 1


def test_each_finding_offers_one_fix_that_is_a_page(
    as_person: AsPerson, admin: User, keys: dict[str, KeyRecord], unused: KeyRecord
) -> None:
    client = as_person(admin)
    fixes = {line.finding.code: line.fix for line in client.get(URL).context["page"].lines}

    assert {code: fix.label for code, fix in fixes.items()} == {
        "rotation": "Change the date…",
        "outcome": "Test this key…",
        "owner": "Choose an owner…",
        "scope": "Remove 2 scopes…",
    }
    for fix in fixes.values():
        page = client.get(fix.url)
        assert page.status_code == 200
        _, _, field = fix.url.partition("#")
        assert not field or f'id="{field}"' in page.content.decode()


def test_unused_scopes_are_removed_with_a_reason_and_the_history_tells(
    as_person: AsPerson, admin: User, unused: KeyRecord
) -> None:
    client = as_person(admin)
    address = f"/keys/{unused.name}/findings/{the(unused, 'scope').id}/scopes/"
    page = client.get(address).content.decode()
    assert f'value="{SINGLE}" checked' in page
    assert f'value="{BULK}"' not in page

    assert client.post(address, {"scopes": [OTHER], "reason": ""}).status_code == 422
    assert client.post(address, {"scopes": [BULK], "reason": "x"}).status_code == 422
    answer = client.post(address, {"scopes": [SINGLE, OTHER], "reason": "Nobody used them"})

    assert answer.status_code == 303
    unused.refresh_from_db()
    assert (unused.scopes, unused.severity) == ([BULK], 0)
    entry = AuditEntry.objects.get(action="key.changed")
    assert (entry.reason, entry.detail) == (
        "Nobody used them",
        {"scopes": [f"{BULK}, {SINGLE}, {OTHER}", BULK]},
    )
    assert client.get(address).status_code == 404


def test_scopes_of_a_record_without_an_owner_can_be_removed(
    as_person: AsPerson, admin: User, unused: KeyRecord
) -> None:
    KeyRecord.objects.filter(id=unused.id).update(owner=None)
    address = f"/keys/{unused.name}/findings/{the(unused, 'scope').id}/scopes/"

    assert as_person(admin).post(address, {"scopes": [OTHER], "reason": "x"}).status_code == 303


def test_last_scope_stays(as_person: AsPerson, admin: User, unused: KeyRecord) -> None:
    finding = the(unused, "scope")
    KeyRecord.objects.filter(id=unused.id).update(scopes=[SINGLE])
    Finding.objects.filter(id=finding.id).update(scopes=[SINGLE])

    answer = as_person(admin).post(
        f"/keys/{unused.name}/findings/{finding.id}/scopes/", {"scopes": [SINGLE], "reason": "x"}
    )

    assert answer.status_code == 422
    assert "keeps at least one scope" in answer.content.decode()


def test_whoever_may_not_is_told_who_may(
    as_person: AsPerson, admin: User, keys: dict[str, KeyRecord]
) -> None:
    client = as_person(factories.make_user(role="viewer"))
    finding = the(keys["lone"], "owner")

    for page in (client.get(URL), client.get("/keys/sandbox_lone_ops/")):
        text = page.content.decode()
        assert "Mira Okafor can" in text
        assert f"/findings/{finding.id}/except/" not in text
    refused = client.post(
        f"/keys/sandbox_lone_ops/findings/{finding.id}/except/", {"until": "2026-12-01", "reason": "x"}
    )
    assert refused.status_code == 403
    assert the(keys["lone"], "owner").excepted_until is None


def test_key_page_says_who_answers_and_until_when(
    as_person: AsPerson, admin: User, keys: dict[str, KeyRecord]
) -> None:
    client = as_person(admin)

    late = client.get("/keys/sandbox_late_ops/").content.decode()
    lone = client.get("/keys/sandbox_lone_ops/").content.decode()

    assert f"Owner {keys['late'].owner.name}, " in late  # type: ignore[union-attr]
    assert "late, was due" in late
    assert "Key admins Mira Okafor, due" in lone
    Finding.objects.filter(key=keys["lone"]).update(times=2)
    assert (
        '<span class="finding-word">came back</span>'
        in client.get("/keys/sandbox_lone_ops/").content.decode()
    )

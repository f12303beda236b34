"""The inventory of keys: who sees it, what stands in it, views, filters, pages."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from keys import findings
from keys.models import LedgerEntry
from people.models import AuditEntry, User
from tests.factories import make_account, make_key, make_numbered_job, make_team, make_user

pytestmark = pytest.mark.django_db
URL = "/keys/"


@pytest.fixture
def admin() -> User:
    return make_user(name="Mira Okafor", role="key_admin", team=make_team("RevOps"))


def names(answer: Any) -> list[str]:
    """Names of the records on the page, in their order."""
    return [line.key.name for line in answer.context["page"].lines]


@pytest.mark.parametrize("role", ["viewer", "operator", "key_admin", "manager", "auditor"])
def test_key_list_shows_records_to_every_role(client: Client, role: str) -> None:
    make_key("sandbox_training_revops")
    client.force_login(make_user(role=role))

    answer = client.get(URL)

    assert answer.status_code == 200
    assert names(answer) == ["sandbox_training_revops"]


def test_key_list_is_refused_to_a_person_without_a_role(client: Client) -> None:
    client.force_login(make_user(role=None))

    answer = client.get(URL)

    assert answer.status_code == 403
    assert "does not let you see the key records" in answer.content.decode()


def test_key_list_leads_anonymous_people_to_the_log_in(client: Client) -> None:
    answer = client.get(URL)

    assert (answer.status_code, answer["Location"]) == (302, "/login/?next=/keys/")


def test_key_list_refuses_a_post(client: Client, admin: User) -> None:
    client.force_login(admin)

    assert client.post(URL).status_code == 405


def test_key_list_answers_htmx_with_the_region_alone(client: Client, admin: User) -> None:
    make_key("sandbox_training_revops")
    client.force_login(admin)

    page, region = client.get(URL), client.get(URL, headers={"HX-Request": "true"})

    assert b"<html" in page.content
    assert b"<html" not in region.content
    assert b"sandbox_training_revops" in region.content
    assert b'hx-swap-oob="true"' in region.content
    assert "HX-Request" in page["Vary"]
    assert "HX-Request" in region["Vary"]


def test_key_list_offers_a_new_record_to_key_admins_only(client: Client, admin: User) -> None:
    make_key()
    client.force_login(admin)
    assert f'href="{reverse("keys:key_create")}"' in client.get(URL).content.decode()

    client.force_login(make_user(role="operator"))
    text = client.get(URL).content.decode()

    assert f'href="{reverse("keys:key_create")}"' not in text
    assert "Mira Okafor can" in text


def test_key_list_says_what_comes_when_there_is_no_record(client: Client, admin: User) -> None:
    client.force_login(admin)

    text = client.get(URL).content.decode()

    assert "No key record yet" in text
    assert "0 records over 0 Icypeas accounts" in text


def test_key_list_counts_records_and_accounts(client: Client, admin: User) -> None:
    account = make_account()
    for _ in range(2):
        make_key(account=account)
    make_key()
    client.force_login(admin)

    assert "3 records over 2 Icypeas accounts" in client.get(URL).content.decode()


def test_key_list_sorts_by_findings_then_by_last_use(client: Client, admin: User) -> None:
    now, today = timezone.now(), timezone.localdate()
    make_key("sandbox_a_never")
    make_key("sandbox_b_used", last_used_at=now - timedelta(days=2))
    make_key("sandbox_c_late", rotate_by=today - timedelta(days=1))
    make_key("sandbox_d_just_used", last_used_at=now)
    make_key("sandbox_e_due", rotate_by=today + timedelta(days=3))
    findings.refresh()
    client.force_login(admin)

    assert names(client.get(URL)) == [
        "sandbox_c_late",
        "sandbox_e_due",
        "sandbox_d_just_used",
        "sandbox_b_used",
        "sandbox_a_never",
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"mine", "old", "due", "gone", "prod"}),
        ("view=mine", {"mine"}),
        ("view=unused", {"old"}),
        ("view=rotation", {"due"}),
        ("view=inactive", {"gone"}),
        ("view=findings", {"due", "old"}),
        ("finding=rotation", {"due"}),
        ("finding=unused", {"old"}),
        ("finding=owner", set()),
        ("environment=prod", {"prod"}),
        ("state=revoked", {"gone"}),
        ("scope=leads:search", {"prod"}),
        ("q=MARMALADE", {"old"}),
        ("q=Mira", {"mine"}),
        ("environment=prod&q=nothing-like-it", set()),
        ("view=no-such-view&state=no-such-state&team=abc&scope=x", {"mine", "old", "due", "gone", "prod"}),
    ],
)
def test_key_list_shows_what_the_address_asks_for(
    client: Client, admin: User, query: str, found: set[str]
) -> None:
    bulk = ["email-verification:bulk"]
    deputy = make_user()
    make_key("sandbox_x_mine", owner=admin, scopes=bulk)
    make_key(
        "sandbox_x_old",
        purpose="Marmalade list",
        scopes=bulk,
        last_used_at=timezone.now() - timedelta(days=31),
    )
    make_key("sandbox_x_due", scopes=bulk, rotate_by=timezone.localdate() + timedelta(days=2))
    make_key("sandbox_x_gone", scopes=bulk, state="revoked")
    make_key(
        "prod_x_prod",
        environment="prod",
        secret_ref="env:ICYPEAS_KEY_PROD",
        deputy=deputy,
        scopes=["leads:search"],
    )
    findings.refresh()
    client.force_login(admin)

    answer = client.get(f"{URL}?{query}")

    assert {name.rsplit("_", 1)[1] for name in names(answer)} == found


def test_key_list_filters_by_team_and_names_it_on_the_chip(client: Client, admin: User) -> None:
    team = make_team("Growth")
    make_key("sandbox_x_theirs", team=team)
    make_key("sandbox_x_other")
    client.force_login(admin)

    answer = client.get(f"{URL}?team={team.id}")

    assert names(answer) == ["sandbox_x_theirs"]
    assert "<strong>Growth</strong>" in answer.content.decode()


def test_key_list_counts_of_views_equal_what_they_show(client: Client, admin: User) -> None:
    make_key(owner=admin, rotate_by=timezone.localdate() - timedelta(days=1))
    make_key(state="revoked")
    make_key(deputy=admin, last_used_at=timezone.now() - timedelta(days=40))
    findings.refresh()
    client.force_login(admin)

    tabs = client.get(URL).context["tabs"]

    for tab in tabs:
        assert len(names(client.get(URL + tab["url"]))) == tab["count"], tab["label"]
    assert [tab["count"] for tab in tabs] == [3, 2, 2, 1, 1, 1]


def test_key_list_pages_show_every_record_once(client: Client, admin: User) -> None:
    account, owner = make_account(), make_user()
    used = timezone.now() - timedelta(days=1)
    for number in range(120):
        late = timezone.localdate() - timedelta(days=1)
        more: dict[str, Any] = {"rotate_by": late} if number % 7 == 0 else {}
        make_key(
            f"sandbox_page_{number}",
            account=account,
            owner=owner,
            last_used_at=used if number % 3 else None,
            **more,
        )
    findings.refresh()
    client.force_login(admin)

    seen, address = [], URL
    while address:
        answer = client.get(address)
        seen += names(answer)
        address = URL + answer.context["next"] if answer.context["next"] else ""

    assert len(seen) == 120
    assert set(seen) == {f"sandbox_page_{number}" for number in range(120)}


def test_key_list_shows_the_job_of_the_last_use_as_a_link_to_those_who_may_open_it(
    client: Client, admin: User
) -> None:
    team = make_team()
    make_numbered_job(412, created_by=make_user(name="Ana Duarte", team=team))
    make_key(
        last_used_at=timezone.now(),
        last_used_job=412,
        last_used_operation="email-verification",
        last_used_rows=3100,
        last_used_by="Ana Duarte",
        last_used_outcome="ok",
    )

    seen = {}
    for name, person in {
        "admin": admin,
        "team": make_user(role="viewer", team=team),
        "other": make_user(role="viewer", team=make_team()),
    }.items():
        client.force_login(person)
        text = client.get(URL).content.decode()
        assert "verify 3,100 emails, Ana Duarte" in text
        seen[name] = '<a href="/jobs/412/">#412</a>' in text

    assert seen == {"admin": True, "team": True, "other": False}


def test_key_list_says_never_of_a_key_without_a_call(client: Client, admin: User) -> None:
    make_key()
    client.force_login(admin)

    assert "never through this app" in client.get(URL).content.decode()


def test_key_list_sums_the_charges_of_thirty_days(client: Client, admin: User) -> None:
    key = make_key()
    for days, credits in ((0, "10.5"), (29, "1"), (30, "100")):
        LedgerEntry.objects.create(
            at=timezone.now() - timedelta(days=days),
            kind="charged",
            credits=Decimal(credits),
            account=key.account,
            key=key,
            operation="email-search",
            job=1,
        )
    client.force_login(admin)

    (line,) = client.get(URL).context["page"].lines

    assert line.total == Decimal("11.5")
    assert (line.days[0], line.days[-1]) == (Decimal(1), Decimal("10.5"))


@pytest.mark.parametrize("path", [URL, URL + "?view=mine&q=x"])
def test_key_list_asks_as_many_questions_for_fifty_records_as_for_one(
    client: Client, admin: User, django_assert_num_queries: Any, path: str
) -> None:
    make_key("sandbox_x_0", owner=admin, team=make_team())
    client.force_login(admin)
    client.get(path)
    with CaptureQueriesContext(connection) as for_one:
        client.get(path)
    for number in range(1, 50):
        make_key(f"sandbox_x_{number}", owner=make_user(team=make_team()), deputy=admin)

    with django_assert_num_queries(len(for_one)):
        answer = client.get(path)

    assert len(names(answer)) == 50
    assert len(for_one) <= 20


def test_inventory_goes_home_as_the_filter_shows_it(client: Client, admin: User) -> None:
    make_key("sandbox_one_ops", purpose="=cmd()", scopes=["email-search:bulk", "leads:search"])
    make_key("sandbox_two_ops", state="revoked")
    client.force_login(admin)

    page = client.get(f"{URL}?state=active").content.decode()
    answer = client.get("/keys/keys.csv?state=active")

    assert "/keys/keys.csv?state=active" in page
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert [(row["name"], row["purpose"], row["scopes"]) for row in rows] == [
        ("sandbox_one_ops", "'=cmd()", "email-search:bulk leads:search")
    ]
    assert rows[0]["secret reference"].startswith("env:")
    assert AuditEntry.objects.filter(action="person.took_keys", actor=admin).count() == 1

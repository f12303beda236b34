"""Other owners and deputies for many records at once, and the filters that choose them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from keys.models import KeyRecord
from people.models import AuditEntry, User
from tests.factories import make_key, make_team, make_user

pytestmark = pytest.mark.django_db
URL = "/keys/owner/"


@pytest.fixture
def admin(client: Client) -> User:
    person = make_user(name="Mira Okafor", role="key_admin")
    client.force_login(person)
    return person


@pytest.fixture
def leaver() -> User:
    return make_user(name="Sam Ilves")


def names(answer: Any) -> set[str]:
    return {key.name for key in answer.context["records"]}


def send(client: Client, page: Any, **told: Any) -> Any:
    """Send the form of a confirmation page as the browser would."""
    form = page.context["form"]
    hidden = {name: form[name].value() or "" for name in ("keys", "words", "leaver")}
    return client.post(URL, {**hidden, "owner": "", "deputy": "", "reason": "Sam leaves", **told})


def production(name: str, **more: Any) -> KeyRecord:
    return make_key(name, environment="prod", team=make_team(), **more)


def test_ticked_records_get_another_owner_with_one_line_each(
    client: Client, admin: User, leaver: User
) -> None:
    keys = [make_key(f"sandbox_lists_ops{number}", owner=leaver) for number in range(3)]
    page = client.get(URL, {"key": [keys[0].id, keys[1].id]})
    assert names(page) == {"sandbox_lists_ops0", "sandbox_lists_ops1"}
    new = make_user(name="Priya Nair")

    answer = send(client, page, owner=new.id)

    assert (answer.status_code, answer["Location"]) == (303, "/keys/")
    assert list(KeyRecord.objects.order_by("name").values_list("owner", flat=True)) == [
        new.id,
        new.id,
        leaver.id,
    ]
    entries = AuditEntry.objects.filter(action="key.changed")
    assert [entry.detail for entry in entries] == [{"owner": [leaver.email, new.email]}] * 2
    assert {entry.reason for entry in entries} == {"Sam leaves"}


@pytest.mark.parametrize("number", ["9" * 19, "9" * 5000, "abc", "-1", "1,x"])
def test_numbers_that_are_no_ids_find_nothing(client: Client, admin: User, number: str) -> None:
    make_key("sandbox_lists_ops")
    told = {"owner": admin.id, "deputy": "", "reason": "x", "words": ""}

    assert names(client.get(URL, {"key": number})) == set()
    for more in ({"keys": number, "leaver": ""}, {"keys": "1", "leaver": number}):
        assert client.post(URL, {**told, **more}).status_code == 422
    assert not AuditEntry.objects.exists()


def test_all_that_match_are_frozen_and_named_in_words(client: Client, admin: User, leaver: User) -> None:
    make_key("sandbox_lists_ops", owner=leaver)
    production("prod_lists_ops", owner=leaver, deputy=make_user())
    page = client.get(f"{URL}?environment=sandbox&owner={leaver.id}&q=lists&all=yes")
    assert names(page) == {"sandbox_lists_ops"}
    text = page.content.decode()
    assert "All that matched: Environment sandbox, Owner Sam Ilves, “lists”: 1 record" in text
    make_key("sandbox_lists_later", owner=leaver)  # joins after the page was opened

    send(client, page, owner=admin.id)

    assert set(KeyRecord.objects.filter(owner=admin).values_list("name", flat=True)) == {"sandbox_lists_ops"}


def test_person_who_leaves_hands_over_what_they_own_and_what_they_stand_in_for(
    client: Client, admin: User, leaver: User
) -> None:
    other = make_user(name="Tom Aldous")
    owned = production("prod_a_ops", owner=leaver, deputy=other)
    stood_in = production("prod_b_ops", owner=other, deputy=leaver)
    production("prod_c_ops", owner=other, deputy=admin)
    new, deputy = make_user(name="Priya Nair"), make_user(name="Leo Brandt")
    page = client.get(f"{URL}?person={leaver.id}&all=yes")
    assert names(page) == {"prod_a_ops", "prod_b_ops"}
    assert "Hand over the records of Sam Ilves" in page.content.decode()

    send(client, page, owner=new.id, deputy=deputy.id)

    owned.refresh_from_db()
    stood_in.refresh_from_db()
    assert (owned.owner, owned.deputy) == (new, other)
    assert (stood_in.owner, stood_in.deputy) == (other, deputy)


def test_what_is_refused_is_told_per_record_and_the_rest_goes(
    client: Client, admin: User, leaver: User
) -> None:
    new = make_user(name="Priya Nair")
    good = production("prod_a_ops", owner=leaver, deputy=make_user())
    same = production("prod_b_ops", owner=leaver, deputy=new)  # owner and deputy would be one person
    dead = production("prod_c_ops", owner=leaver, deputy=make_user(), state="revoked")
    page = client.get(URL, {"key": [good.id, same.id, dead.id]})

    answer = send(client, page, owner=new.id)

    text = answer.content.decode()
    assert answer.status_code == 200
    assert "2 records were not changed" in text
    assert "It would lack a deputy who is not the owner." in text
    assert "prod_c_ops is revoked for good" in text
    for key, owner in ((good, new), (same, leaver), (dead, leaver)):
        key.refresh_from_db()
        assert key.owner == owner
    assert AuditEntry.objects.filter(action="key.changed").count() == 1


@pytest.mark.parametrize(
    ("told", "said"),
    [({}, "Choose a new owner, a new deputy, or both."), ({"owner": "1", "reason": ""}, "required")],
)
def test_hand_over_is_refused_as_a_whole(
    client: Client, admin: User, leaver: User, told: dict[str, str], said: str
) -> None:
    key = make_key(owner=leaver)
    told = {**told, "owner": admin.id} if "owner" in told else told

    answer = send(client, client.get(URL, {"key": key.id}), **told)

    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert not AuditEntry.objects.exists()


def test_leaver_and_disabled_people_take_nothing_over(client: Client, admin: User, leaver: User) -> None:
    make_key(owner=leaver)
    gone = make_user(is_active=False)
    page = client.get(f"{URL}?person={leaver.id}&all=yes")

    for person in (leaver, gone):
        assert send(client, page, owner=person.id).status_code == 422
    assert KeyRecord.objects.get().owner == leaver


def test_thousand_records_go_in_one_field(client: Client, admin: User, leaver: User) -> None:
    account = make_key(owner=leaver).account
    KeyRecord.objects.bulk_create(
        KeyRecord(
            name=f"sandbox_many_ops{number}",
            environment="sandbox",
            system="many",
            label="ops",
            owner=leaver,
            account=account,
            purpose="x",
            scopes=["leads:search"],
            secret_ref="env:ICYPEAS_X",
            rotate_by=timezone.localdate(),
            state="active",
        )
        for number in range(999)
    )
    page = client.get(f"{URL}?owner={leaver.id}&all=yes")

    assert send(client, page, owner=admin.id).status_code == 303
    assert KeyRecord.objects.filter(owner=admin).count() == 1000


def test_nothing_ticked_says_how_to_choose(client: Client, admin: User) -> None:
    for path in (URL, f"{URL}?key=x", f"{URL}?key=999999"):
        assert "No record chosen" in client.get(path).content.decode()


def test_list_has_boxes_for_those_who_may_and_none_for_others(client: Client, admin: User) -> None:
    key = make_key("sandbox_lists_ops")
    box = f'name="key" value="{key.id}"'

    page = client.get("/keys/?environment=sandbox").content.decode()
    assert box in page
    assert 'href="/keys/owner/?environment=sandbox&amp;all=yes"' in page
    assert "Select all 1 that match" in page

    client.force_login(make_user(role="manager"))
    assert box not in client.get("/keys/").content.decode()
    assert client.post(URL, {"keys": key.id, "owner": admin.id, "reason": "x"}).status_code == 403


# --- filters ------------------------------------------------------------------------------------------------------------


def listed(client: Client, query: str) -> list[str]:
    return sorted(line.key.name for line in client.get(f"/keys/?{query}").context["page"].lines)


def test_list_is_filtered_by_owner_and_by_owner_or_deputy(client: Client, admin: User, leaver: User) -> None:
    make_key("sandbox_a_ops", owner=leaver)
    make_key("sandbox_b_ops", deputy=leaver)
    make_key("sandbox_c_ops")

    assert listed(client, f"owner={leaver.id}") == ["sandbox_a_ops"]
    assert listed(client, f"person={leaver.id}") == ["sandbox_a_ops", "sandbox_b_ops"]
    page = client.get(f"/keys/?person={leaver.id}").content.decode()
    assert "Owner or deputy <strong>Sam Ilves</strong>" in page


@pytest.mark.parametrize(("days", "found"), [(30, 3), (60, 2), (45, 2), (180, 0)])
def test_list_is_filtered_by_days_without_use(client: Client, admin: User, days: int, found: int) -> None:
    now = timezone.now()
    for number, idle in enumerate((10, 40, 70)):
        key = make_key(f"sandbox_used_ops{number}", last_used_at=now - timedelta(days=idle))
        KeyRecord.objects.filter(id=key.id).update(created_at=now - timedelta(days=400))
    never = make_key("sandbox_never_ops")
    KeyRecord.objects.filter(id=never.id).update(created_at=now - timedelta(days=100))
    make_key("sandbox_dead_ops", state="revoked", last_used_at=now - timedelta(days=400))

    assert len(listed(client, f"unused={days}")) == found
    page = client.get(f"/keys/?unused={days}").content.decode()
    assert f"Unused <strong>for {days} days</strong>" in page


def test_export_has_the_same_filter(client: Client, admin: User, leaver: User) -> None:
    make_key("sandbox_a_ops", owner=leaver)
    make_key("sandbox_b_ops")

    rows = b"".join(client.get(f"/keys/keys.csv?owner={leaver.id}")).decode().splitlines()

    assert len(rows) == 2
    assert "sandbox_a_ops" in rows[1]

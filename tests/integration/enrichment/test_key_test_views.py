"""Test this key: asked for on its page, made by a worker, shown as a checklist."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from enrichment.services import key_tests
from keys.clock import db_now
from keys.models import KeyTest, RateSlot
from people.models import AuditEntry, User
from tests import factories
from tests.fakes.engine import Engine
from tests.fakes.sandbox_process import SECRET

AsPerson = Callable[[User], Client]
HTMX = {"HX-Request": "true"}


def ask(engine: Engine, client: Client) -> KeyTest:
    assert client.post(f"/keys/{engine.key.name}/test/").status_code == 303
    return KeyTest.objects.latest("id")


def result(client: Client, test: KeyTest) -> str:
    return client.get(f"/keys/{test.key.name}/test/{test.id}/", headers=HTMX).content.decode()


def test_key_that_works_has_every_step_well(engine: Engine, as_person: AsPerson) -> None:
    client = as_person(engine.person)  # who owns the key
    test = ask(engine, client)
    assert client.get(f"/keys/{engine.key.name}/test/{test.id}/", headers=HTMX).status_code == 204
    assert "A worker tests it" in client.get(f"/keys/{engine.key.name}/test/").content.decode()

    key_tests.run(test.id)

    test.refresh_from_db()
    assert [check["name"] for check in test.checks] == list(key_tests.STEPS)
    assert {check["state"] for check in test.checks} == {"ok"}
    page = result(client, test)
    assert "Icypeas itself knows no scopes" in page
    assert SECRET not in page
    assert not engine.sandbox.charges()
    assert AuditEntry.objects.filter(action="key.tested").count() == 1


@pytest.mark.parametrize(
    ("switch", "step", "words"),
    [
        ({"key_revoked": True}, "Key accepted", "refused (401)"),
        ({"api_off": True}, "Key accepted", "refused (401)"),
    ],
)
def test_refused_key_ends_at_its_step(
    engine: Engine, as_person: AsPerson, switch: dict[str, Any], step: str, words: str
) -> None:
    engine.switch(**switch)
    test = ask(engine, as_person(engine.person))

    key_tests.run(test.id)

    test.refresh_from_db()
    states = {check["name"]: check["state"] for check in test.checks}
    assert (states[step], states[key_tests.BALANCE], states[key_tests.SCOPES_KEPT]) == (
        "bad",
        "not reached",
        "not reached",
    )
    assert words in str(test.checks)


def test_secret_that_is_not_there_calls_nobody(engine: Engine, as_person: AsPerson, monkeypatch: Any) -> None:
    monkeypatch.delenv("ICYPEAS_API_KEY")
    test = ask(engine, as_person(engine.person))

    key_tests.run(test.id)

    test.refresh_from_db()
    assert [check["state"] for check in test.checks] == ["bad", *["not reached"] * 5]
    assert engine.sandbox.state()["requests"] == {}


def test_one_test_a_minute_however_often_the_button_is_pressed(engine: Engine, as_person: AsPerson) -> None:
    client = as_person(engine.person)
    first = ask(engine, client)
    assert ask(engine, client) == first  # under way: it is that one
    key_tests.run(first.id)

    said = client.post(f"/keys/{engine.key.name}/test/", follow=True).content.decode()

    assert "less than a minute ago" in said
    assert KeyTest.objects.count() == 1
    KeyTest.objects.update(asked_at=db_now() - timedelta(minutes=2))
    RateSlot.objects.all().delete()
    assert ask(engine, client) != first


def test_test_without_a_worker_says_so(engine: Engine, as_person: AsPerson) -> None:
    client = as_person(engine.person)
    test = ask(engine, client)
    KeyTest.objects.update(asked_at=db_now() - timedelta(minutes=3))

    key_tests.run(test.id)

    assert "No worker made this test" in client.get(f"/keys/{engine.key.name}/test/").content.decode()
    assert engine.sandbox.state()["requests"] == {}


def test_strangers_see_the_result_and_may_not_test(engine: Engine, as_person: AsPerson) -> None:
    viewer = as_person(factories.make_user(role="viewer"))

    assert "can test it" in viewer.get(f"/keys/{engine.key.name}/test/").content.decode()
    assert viewer.post(f"/keys/{engine.key.name}/test/").status_code == 403
    assert viewer.get("/keys/sandbox_no_such/test/").status_code == 404
    assert not KeyTest.objects.exists()

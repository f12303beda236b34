"""Test this key: asked for on its page, made by a worker, shown as a checklist."""

from __future__ import annotations

import contextlib
import io
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client, override_settings

from enrichment import tasks
from enrichment.services import key_tests
from keys import presence
from keys.clock import db_now
from keys.models import KeyTest, RateSlot, Worker
from keys.secrets import base
from keys.services import worker_seen
from people.audit import Actor
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
    (link,) = re.findall(r'href="(/keys/[^"]+/calls/\d+/)"', result(as_person(engine.person), test))
    assert "What to do" in as_person(engine.person).get(link).content.decode()


@pytest.mark.parametrize(
    ("email", "words"), [("", "and none is set"), ("leo@desk.example", "and leo@desk.example is not it")]
)
def test_balance_that_is_refused_for_the_owner_s_address_does_not_blame_the_key(
    engine: Engine, as_person: AsPerson, email: str, words: str
) -> None:
    type(engine.account).objects.filter(id=engine.account.id).update(email=email)
    engine.fault("/a/actions/subscription-information", "refusal", word="validation_string_empty")
    test = ask(engine, as_person(engine.person))

    key_tests.run(test.id)

    test.refresh_from_db()
    checks = {check["name"]: check for check in test.checks}
    assert checks[key_tests.ACCEPTED]["state"] == "ok"
    assert checks[key_tests.BALANCE]["state"] == "bad"
    assert words in checks[key_tests.BALANCE]["note"]
    assert f'manage.py account set "{engine.account.name}" --email' in checks[key_tests.BALANCE]["note"]


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


def at_once(*works: Callable[[], object]) -> None:
    """Do everything in the same moment, each in a thread of its own."""
    start = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        try:
            start.wait()
            work()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(run, work) for work in works]:
            done.result()


def test_double_click_two_tabs_two_workers_and_a_terminal_make_one_call(
    engine: Engine, monkeypatch: Any
) -> None:
    monkeypatch.setattr(base, "_acts_as_worker", False)  # given back afterwards: the command acts as one

    def click() -> None:
        with contextlib.suppress(key_tests.TestTooSoonError):
            key_tests.ask(Actor(engine.person), engine.key)

    def from_a_terminal() -> None:
        with contextlib.suppress(SystemExit):
            call_command("key", "test", engine.key.name, stdout=io.StringIO())

    at_once(*[click] * 5)
    test = KeyTest.objects.get()
    at_once(*[lambda: key_tests.run(test.id)] * 3, from_a_terminal, click)
    at_once(*[lambda: key_tests.run(test.id)] * 2, from_a_terminal)

    assert engine.sent("/a/actions/subscription-information") == 1
    assert KeyTest.objects.count() == 1
    test.refresh_from_db()
    assert test.done_at is not None
    # Whoever came first asked; the others say that the minute is used up, and blame nothing.
    states = {check["name"]: check["state"] for check in test.checks}
    assert states[key_tests.ADDRESS] in ("ok", "warn")


def test_message_that_comes_twice_does_not_spoil_the_result(engine: Engine) -> None:
    test = key_tests.ask(Actor(engine.person), engine.key)

    at_once(*[lambda: key_tests.run(test.id)] * 4)

    test.refresh_from_db()
    assert {check["state"] for check in test.checks} == {"ok"}
    assert engine.sent("/a/actions/subscription-information") == 1


def test_secret_that_no_header_carries_is_not_sent(
    engine: Engine, as_person: AsPerson, monkeypatch: Any
) -> None:
    monkeypatch.setenv("ICYPEAS_API_KEY", f"{SECRET} {SECRET}")
    test = ask(engine, as_person(engine.person))

    key_tests.run(test.id)

    test.refresh_from_db()
    assert [check["state"] for check in test.checks] == ["ok", "bad", *["not reached"] * 4]
    assert "may be two values" in test.checks[1]["note"]
    assert engine.sandbox.state()["requests"] == {}


def test_shape_says_whose_secret_it_is(engine: Engine, as_person: AsPerson, monkeypatch: Any) -> None:
    monkeypatch.setenv("ICYPEAS_KEY_TWO", SECRET)
    factories.make_key(
        "sandbox_other_ops", account=factories.make_account("Other"), secret_ref="env:ICYPEAS_KEY_TWO"
    )
    presence.report()
    test = ask(engine, as_person(engine.person))

    key_tests.run(test.id)

    test.refresh_from_db()
    assert test.checks[1]["state"] == "warn"
    assert "It is the secret of sandbox_other_ops" in test.checks[1]["note"]


def test_worker_of_other_environments_does_not_look(
    engine: Engine, as_person: AsPerson, settings: Any
) -> None:
    settings.ENVIRONMENTS = ["prod"]
    worker_seen()
    test = ask(engine, as_person(engine.person))

    key_tests.run(test.id)

    test.refresh_from_db()
    assert "serves prod and not sandbox" in test.checks[0]["note"]
    assert engine.sandbox.state()["requests"] == {}


def test_api_secret_that_does_not_resolve_is_told_where_secrets_are(
    engine: Engine, as_person: AsPerson
) -> None:
    account = engine.account
    account.signs_requests, account.api_secret_ref = True, "env:ICYPEAS_API_SECRET_X"
    account.save()
    client = as_person(engine.person)
    test = ask(engine, client)

    key_tests.run(test.id)

    test.refresh_from_db()
    first, *others = test.checks
    assert (first["name"], first["state"], first["value"]) == (
        "Reference resolves",
        "bad",
        "env:ICYPEAS_API_SECRET_X",
    )
    assert first["note"].startswith(f"The API secret of {account.name}")
    assert {check["state"] for check in others} == {"not reached"}
    assert not engine.sandbox.state()["requests"]


@pytest.mark.parametrize("state", ["active", "draft", "quarantined", "revoked", "stranger"])
def test_balance_is_stored_only_for_a_record_in_use_that_holds_its_own_accounts_secret(
    engine: Engine, settings: Any, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    account, key = engine.account, engine.key
    type(account).objects.update(balance=None, balance_asked_at=None)
    if state == "stranger":  # another account's record holds the same secret
        factories.make_key(secret_ref="env:ICYPEAS_KEY_TWO")
        monkeypatch.setenv("ICYPEAS_KEY_TWO", SECRET)
        settings.WORKER_NAME = "w1"
        presence.report()
    else:
        key.state = state
        key.save()

    checks = key_tests.run_checks(key)

    assert checks["Subscription and balance"].value.endswith("credits")
    account.refresh_from_db()
    assert (account.balance is not None) == (state == "active")


def test_worker_of_other_environments_leaves_the_test_to_one_that_serves_it(
    engine: Engine, as_person: AsPerson, settings: Any
) -> None:
    test = ask(engine, as_person(engine.person))
    KeyTest.objects.update(asked_at=db_now() - timedelta(seconds=settings.SWEEP_S + 1))
    Worker.objects.create(name="right", environments=["sandbox"], seen_at=db_now())

    with override_settings(ENVIRONMENTS=["prod"]):
        key_tests.run(test.id)
        test.refresh_from_db()
        assert (test.worker, test.checks) == ("", [])
        engine.wakes.clear()
        tasks.sweep_due()
        assert ("test_key", test.id, "urgent") in engine.wakes

    key_tests.run(test.id)
    test.refresh_from_db()
    assert {check["state"] for check in test.checks} == {"ok"}
    engine.wakes.clear()
    tasks.sweep_due()
    assert "test_key" not in {name for name, _, _ in engine.wakes}

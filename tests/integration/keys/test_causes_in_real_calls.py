"""One cause after the other, each reached by a real call to the sandbox and by what workers really report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from enrichment.models import EnrichmentJob
from enrichment.providers.base import ProviderError
from enrichment.services import reads
from keys import explainer, gate, presence, services
from keys.causes import facts
from keys.choices import KeyState, Outcome
from keys.models import Account, Call, KeyRecord
from people.audit import Actor
from people.models import User
from people.rights import Right
from people.selectors import who_can
from tests import factories
from tests.fakes.engine import Engine
from tests.fakes.sandbox_process import API_SECRET, OTHER_SECRET, SECRET

AsPerson = Callable[[User], Client]
STALE = f"{OTHER_SECRET}-and-of-nobody"  # not shorter: that would be told as cut off
PLACES = ("ICYPEAS_API_KEY", "ICYPEAS_KEY_TWO", "ICYPEAS_API_SECRET")


@dataclass
class Scene:
    """An engine whose secrets can be placed as a deployment would: the worker then starts again under another name."""

    engine: Engine
    settings: Any
    monkeypatch: pytest.MonkeyPatch
    starts: int = 0

    @property
    def key(self) -> KeyRecord:
        return KeyRecord.objects.select_related("account").get(id=self.engine.key.id)

    def place(self, *, release: str = "", **secrets: str | None) -> None:
        for name, value in secrets.items():
            if value is None:
                self.monkeypatch.delenv(name, raising=False)
            else:
                self.monkeypatch.setenv(name, value)
        if self.starts:  # the worker before has ended
            presence.living_workers().delete()
        self.starts += 1
        self.settings.WORKER_NAME, self.settings.RELEASE = f"host-{self.starts}", release
        services.worker_seen()
        presence.report()

    def ask(self, key: KeyRecord | None = None) -> None:
        """One free call with the key, however it ends."""
        with contextlib.suppress(ProviderError, gate.GateRefusedError):
            reads.read_balance(key or self.key)

    def profile(self, name: str) -> None:
        self.engine.sandbox.order("/control/profile", {"profile": name})

    def job(self, before_it_is_sent: Callable[[], object] = lambda: None) -> EnrichmentJob:
        """A started list; something may change between its start and its first batch."""
        job = self.engine.start()
        before_it_is_sent()
        return self.engine.run(job)

    def change(self, reason: str = "Rotation of March", **changes: Any) -> None:
        key = self.key
        spec = services.KeySpec(
            **{
                "environment": key.environment,
                "system": key.system,
                "label": key.label,
                "owner": key.owner,
                "purpose": key.purpose,
                "scopes": key.scopes,
                "secret_ref": key.secret_ref,
                "account": key.account.name,
                "daily_cap": key.daily_cap,
                **changes,
            }
        )
        services.change_key(Actor(self.engine.person), key, spec, reason=reason)


@pytest.fixture
def scene(engine: Engine, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The key works: workers have reported, and one call was let in."""
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)
    scene = Scene(engine, settings, monkeypatch)
    scene.place(ICYPEAS_API_KEY=SECRET, release="r-1")
    scene.ask()
    assert Call.objects.get().outcome == Outcome.OK
    return scene


def why(scene: Scene) -> explainer.Explanation:
    call = explainer.failed_calls(scene.key)
    assert call is not None, list(Call.objects.values_list("outcome", "message"))
    return explainer.explain(call)


# --- what is wrong with the secret ---------------------------------------------------------------------------------------


def cut_off(scene: Scene) -> None:
    scene.place(ICYPEAS_API_KEY=SECRET[:-1], release="r-2")
    scene.ask()


def wrong_variable(scene: Scene) -> None:
    other = factories.make_account("Marketing")
    factories.make_key("sandbox_events_ops", account=other, secret_ref="env:ICYPEAS_KEY_TWO")
    scene.place(ICYPEAS_API_KEY=STALE, ICYPEAS_KEY_TWO=STALE)
    scene.ask()


def api_secret(scene: Scene) -> None:
    services.change_account(
        Actor(None), scene.key.account, {"api_secret_ref": "env:ICYPEAS_API_SECRET"}, reason="signing"
    )
    scene.place(ICYPEAS_API_KEY=API_SECRET, ICYPEAS_API_SECRET=API_SECRET)
    scene.ask()


def two_values(scene: Scene) -> None:
    scene.place(ICYPEAS_API_KEY=f"{SECRET} {SECRET}")
    scene.ask()


def unfilled_template(scene: Scene) -> None:
    scene.place(ICYPEAS_API_KEY="${ICYPEAS_PRODUCTION_KEY_OF_THE_DESK}")
    scene.ask()


def nowhere(scene: Scene) -> None:
    scene.place(ICYPEAS_API_KEY=None, release="r-2")
    scene.ask()


def older_is_back(scene: Scene) -> None:
    scene.place(ICYPEAS_API_KEY=OTHER_SECRET)
    scene.ask()
    scene.place(ICYPEAS_API_KEY=SECRET, release="r-1")
    scene.engine.switch(key_revoked=True)
    scene.ask()


def another_placed(scene: Scene) -> None:
    scene.place(ICYPEAS_API_KEY=STALE, release="r-2")
    scene.ask()


def pointed_elsewhere(scene: Scene) -> None:
    scene.change(secret_ref="env:ICYPEAS_KEY_TWO")
    scene.place(ICYPEAS_KEY_TWO=STALE)
    scene.ask()


def passed(scene: Scene) -> None:
    scene.engine.switch(key_revoked=True)
    scene.ask()
    scene.engine.switch(key_revoked=False)
    other = factories.make_key("sandbox_new_ops", account=scene.key.account, secret_ref="env:ICYPEAS_KEY_TWO")
    scene.place(ICYPEAS_KEY_TWO=OTHER_SECRET)
    scene.ask(other)


def against_a_sandbox(scene: Scene) -> None:
    Call.objects.all().delete()
    KeyRecord.objects.filter(id=scene.key.id).update(environment="prod")
    type(scene.key.account).objects.update(realm="live")
    scene.place(ICYPEAS_API_KEY=STALE)
    scene.ask()


# --- what Icypeas says -----------------------------------------------------------------------------------------------------


def switched_off(scene: Scene) -> None:
    scene.profile("api-off")
    scene.job()


def needs_user_id(scene: Scene) -> None:
    scene.engine.switch(needs_user_id=True)
    scene.job()


def unpaid(scene: Scene) -> None:
    scene.profile("unpaid")
    scene.job()


def no_credits(scene: Scene) -> None:
    scene.profile("out-of-credits")
    scene.job()


def retired(scene: Scene) -> None:
    scene.profile("keys-retired")
    scene.job()


def forbidden_by_policy(scene: Scene) -> None:
    scene.profile("keys-forbidden")
    scene.job()


def forbidden(scene: Scene) -> None:
    scene.engine.fault("*", "status", status=403, accept=False, word="This plan has no bulk search.")
    scene.ask()


def too_many(scene: Scene) -> None:
    scene.engine.fault("*", "status", status=429, accept=False)
    scene.ask()


def not_taken(scene: Scene) -> None:
    scene.engine.fault("/bulk-search", "refusal", accept=False, word="ValidationError")
    scene.job()


def their_trouble(scene: Scene) -> None:
    scene.engine.fault("*", "status", status=503, accept=False)
    scene.ask()


def silent(scene: Scene) -> None:
    scene.settings.ICYPEAS_BASE_URL = "http://127.0.0.1:9/api"
    scene.ask()


def unclear(scene: Scene) -> None:
    scene.engine.fault("/bulk-search", "reset_after_accept")
    scene.job()


# --- our own rules -----------------------------------------------------------------------------------------------------------


def other_environment(scene: Scene) -> None:
    scene.settings.ENVIRONMENTS = ["prod"]
    scene.ask()


def scope_lost(scene: Scene) -> None:
    left = [scope for scope in scene.key.scopes if scope != "email-verification:bulk"]
    scene.job(lambda: scene.change(scopes=left))


def scope_lost_in_a_rotation(scene: Scene) -> None:
    def rotate() -> None:
        left = [scope for scope in scene.key.scopes if scope != "email-verification:bulk"]
        scene.change(secret_ref="env:ICYPEAS_KEY_TWO", scopes=left)
        scene.place(ICYPEAS_KEY_TWO=SECRET)
        scene.ask()  # other calls go well meanwhile

    scene.job(rotate)


def scope_missing(scene: Scene) -> None:
    scene.job(lambda: KeyRecord.objects.filter(id=scene.key.id).update(scopes=["email-search:bulk"]))


def over_the_cap(scene: Scene) -> None:
    scene.job(lambda: KeyRecord.objects.filter(id=scene.key.id).update(daily_cap=0))


def let_go(scene: Scene) -> None:
    scene.job(lambda: KeyRecord.objects.filter(id=scene.key.id).update(state=KeyState.REVOKED))


CASES = [
    (cut_off, "The secret was cut off", facts.CONFIGURATION, "1 character shorter"),
    (wrong_variable, "The secret of another key stands here", facts.CONFIGURATION, "sandbox_events_ops"),
    (
        api_secret,
        "The API secret stands where the key belongs",
        facts.CONFIGURATION,
        "env:ICYPEAS_API_SECRET",
    ),
    (two_values, "The secret cannot be sent as it is", facts.CONFIGURATION, "Nothing was sent"),
    (unfilled_template, "The secret does not look like a key", facts.CONFIGURATION, "template"),
    (nowhere, "No worker has the secret", facts.CONFIGURATION, "right after release r-2"),
    (older_is_back, "The secret from before is back", facts.CONFIGURATION, "right after release r-1"),
    (another_placed, "Another secret was placed", facts.CONFIGURATION, "with release r-2"),
    (pointed_elsewhere, "The record points to another place", facts.CONFIGURATION, "Ira Quist"),
    (passed, "This secret is not the account's any more", facts.CONFIGURATION, "sandbox_new_ops"),
    (against_a_sandbox, "A key of the real Icypeas was used", facts.CONFIGURATION, "ICYPEAS_BASE_URL"),
    (switched_off, "Icypeas lets no key of this account in", facts.VENDOR, "nothing changed on our side"),
    (needs_user_id, "Icypeas wants the account's user id", facts.CONFIGURATION, "No user id is entered"),
    (unpaid, "The subscription is unpaid", facts.VENDOR, "waits for a payment"),
    (no_credits, "The credits do not suffice", facts.VENDOR, "Sandbox"),
    (retired, "Icypeas retires keys as a way in", facts.VENDOR, "API keys were retired"),
    (forbidden_by_policy, "A policy forbids keys", facts.VENDOR, "security policy of your organization"),
    (forbidden, "Icypeas knows the key and forbids the call", facts.VENDOR, "plan"),
    (too_many, "Too many calls for this route", facts.VENDOR, "Nothing was created"),
    (not_taken, "Icypeas did not take the request", facts.CONFIGURATION, "nothing is charged"),
    (their_trouble, "Icypeas has trouble of its own", facts.VENDOR, "free call"),
    (silent, "Icypeas could not be reached", facts.NETWORK, "nothing was sent"),
    (unclear, "The answer never came", facts.NETWORK, "never sent again"),
    (other_environment, "The key belongs to another environment", facts.POLICY, "serves prod"),
    (scope_lost, "The scope email-verification:bulk was lost", facts.POLICY, "Rotation of March"),
    (
        scope_lost_in_a_rotation,
        "The scope email-verification:bulk was lost in a rotation",
        facts.POLICY,
        "left out by mistake",
    ),
    (scope_missing, "The scope email-verification:bulk is missing", facts.POLICY, "not granted"),
    (over_the_cap, "A cap or a budget is used up", facts.POLICY, "daily cap"),
    (let_go, "The key record lets nothing out", facts.POLICY, "is revoked"),
]


@pytest.mark.parametrize(
    ("happens", "title", "source", "words"), CASES, ids=[case[0].__name__ for case in CASES]
)
def test_cause_is_named_with_source_and_evidence(
    scene: Scene,
    as_person: AsPerson,
    happens: Callable[[Scene], None],
    title: str,
    source: str,
    words: str,
) -> None:
    happens(scene)

    told = why(scene)

    assert told.cause.title.startswith(title), (told.cause, told.call.outcome, told.call.message)
    assert told.cause.source == source
    assert words in told.cause.text, told.cause.text
    assert told.evidence[0].question == "Does the secret reach every worker?"
    assert "rotate" not in " ".join(told.cause.steps).lower()
    page = as_person(factories.make_user(role="key_admin")).get(
        f"/keys/{scene.key.name}/calls/{told.call.id}/"
    )
    text = page.content.decode()
    assert told.cause.steps[0].split("…")[0][:30].replace('"', "&quot;").replace("'", "&#x27;") in text
    assert not [secret for secret in (SECRET, OTHER_SECRET, API_SECRET, STALE) if secret in text]


@pytest.mark.parametrize("happens", [switched_off, unpaid, retired, no_credits])
def test_job_that_stopped_leads_to_the_cause(
    scene: Scene, as_person: AsPerson, happens: Callable[[Scene], None]
) -> None:
    happens(scene)
    job = EnrichmentJob.objects.latest("id")

    page = as_person(scene.engine.person).get(f"/jobs/{job.id}/why/", follow=True).content.decode()

    assert why(scene).cause.title in page
    assert "What to do" in page


def test_list_whose_rows_were_left_for_want_of_credits_is_explained_without_a_failed_call(
    scene: Scene, as_person: AsPerson
) -> None:
    job = scene.engine.run(scene.engine.start(["ann@sbx-nofunds.example", "bo@firm.example"]))
    assert job.pause_reason == "credits"
    assert explainer.failed_calls(scene.key, job.id) is None

    Account.objects.filter(id=scene.key.account_id).update(balance=Decimal("99357.6"))

    page = as_person(scene.engine.person).get(f"/jobs/{job.id}/why/").content.decode()

    assert "The credits do not suffice" in page
    assert job.name in page
    assert "0 times" not in page
    shown = as_person(scene.engine.person).get(f"/jobs/{job.id}/").content.decode()
    assert "1 row was not run and not charged." in shown
    assert shown.partition('id="job-body"')[0].count("row wait") == 1
    assert "99,357.6 credits, as last read" in page
    assert "When its balance was last read, it held 99,357.6 credits." in page
    assert "credits are not what is missing" in page
    assert f"ask {who_can(Right.SET_BUDGETS)}" in page


@pytest.mark.parametrize("pattern", ["Bearer {}", '"{}"', " {}\r\n", "Authorization: Bearer {}"])
def test_what_people_paste_around_a_key_is_told_and_refuses_no_call(scene: Scene, pattern: str) -> None:
    scene.place(ICYPEAS_API_KEY=pattern.format(SECRET))

    scene.ask()

    assert explainer.failed_calls(scene.key) is None
    standing = presence.standing(scene.key.secret_ref)
    assert standing.is_uniform
    assert standing.warnings
    assert standing.sights[0].previous_fingerprint == ""  # it is the same secret


def test_restart_with_the_same_secret_is_no_change_of_it(scene: Scene) -> None:
    before = presence.standing(scene.key.secret_ref).sights[0]
    type(scene.key).objects.update()
    scene.place(ICYPEAS_API_KEY=SECRET, release="r-2")

    after = presence.standing(scene.key.secret_ref).sights[0]

    assert after.worker != before.worker
    assert (after.changed_at, after.release) == (before.changed_at, "r-2")


def test_key_that_works_again_says_so(scene: Scene) -> None:
    scene.engine.switch(api_off=True)
    scene.ask()
    scene.engine.switch(api_off=False)
    scene.ask()

    (again,) = [item for item in why(scene).evidence if item.question == "Has it worked since?"]

    assert (again.state, again.answer[:4]) == ("ok", "Yes,")
    assert again.at is not None
    assert again.at - Call.objects.latest("id").at < timedelta(seconds=1)

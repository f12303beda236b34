"""States of a record, its last day, and what an active record needs: the service, the page and the terminal."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from keys import gate, ledger, selectors, services
from keys.choices import KeyState
from keys.findings import findings_of, refresh
from keys.lifecycle import FINAL, MOVES, Step, offered
from keys.models import KeyRecord, Presence
from keys.services import KeyRecordError, change_state
from people.audit import SYSTEM, Actor
from people.models import AuditEntry, User
from tests.factories import make_account, make_key, make_team, make_user

pytestmark = pytest.mark.django_db
NOBODY = Actor(None)


@pytest.fixture
def admin(client: Client) -> User:
    person = make_user(name="Mira Okafor", role="key_admin")
    client.force_login(person)
    return person


def make_complete(**more: Any) -> KeyRecord:
    """A record of production to which nothing is missing."""
    given = {
        "environment": "prod",
        "deputy": make_user(),
        "team": make_team(),
        "scopes": ["leads:search"],
        **more,
    }
    return make_key("prod_crm_sync_revops", **given)


# --- the table ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", list(Step), ids=list(Step.values))
@pytest.mark.parametrize("state", list(KeyState), ids=list(KeyState.values))
def test_step_is_done_from_the_states_of_the_table_and_refused_from_all_others(
    state: KeyState, step: Step
) -> None:
    key = make_complete(state=state)

    if state in MOVES[step].before:
        assert change_state(NOBODY, key, step, reason="why not").state == MOVES[step].after
        entry = AuditEntry.objects.get()
        assert (entry.action, entry.reason) == (MOVES[step].action, "why not")
        assert entry.detail == {"from": state.value, "to": MOVES[step].after.value}
    else:
        with pytest.raises(KeyRecordError):
            change_state(NOBODY, key, step, reason="why not")
        key.refresh_from_db()
        assert key.state == state
        assert not AuditEntry.objects.exists()


def test_nothing_leads_out_of_revoked_and_out_of_nothing_else() -> None:
    assert FINAL == (KeyState.REVOKED,)
    assert offered(KeyState.REVOKED) == []


@pytest.mark.parametrize("step", [Step.QUARANTINE, Step.REVOKE])
def test_step_without_a_reason_is_refused(step: Step) -> None:
    key = make_complete()

    with pytest.raises(KeyRecordError, match="Say why"):
        change_state(NOBODY, key, step, reason="  ")

    key.refresh_from_db()
    assert key.state == "active"


@pytest.mark.parametrize(("state", "step"), [("draft", Step.ACTIVATE), ("quarantined", Step.RELEASE)])
@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ({"owner": "left"}, "an active owner"),
        ({"deputy": None}, "an active deputy"),
        ({"deputy": "left"}, "an active deputy"),
        ({"deputy": "owner"}, "a deputy who is not the owner"),
        ({"team": None}, "a team"),
        ({"purpose": ""}, "a purpose"),
        ({"scopes": []}, "a scope"),
        ({"secret_ref": ""}, "a secret reference"),
    ],
    ids=["owner", "deputy", "deputy-left", "deputy-is-owner", "team", "purpose", "scope", "reference"],
)
def test_record_that_lacks_something_does_not_become_active_and_says_what(
    state: str, step: Step, lacks: dict[str, Any], said: str
) -> None:
    key = make_complete(state=state)
    for name, value in lacks.items():
        if value == "left":
            value = make_user(is_active=False)
        setattr(key, name, key.owner if value == "owner" else value)
    key.save()
    make_user(name="Mira Okafor", role="key_admin")

    with pytest.raises(KeyRecordError, match=f"{said} first. Mira Okafor can add it."):
        change_state(NOBODY, key, step, reason="now")

    key.refresh_from_db()
    assert key.state == state


def test_sandbox_record_needs_neither_deputy_nor_team() -> None:
    key = make_key(state="draft")

    assert change_state(NOBODY, key, Step.ACTIVATE, reason="now").state == "active"


def test_new_record_with_a_secret_that_another_environment_holds_stays_a_draft() -> None:
    now = timezone.now()
    for reference in ("env:ICYPEAS_API_KEY", "env:ICYPEAS_KEY_SAME"):
        Presence.objects.create(
            worker="w", reference=reference, fingerprint="0123456789ab", seen_at=now, changed_at=now
        )
    make_complete()
    spec = services.KeySpec(
        "dev", "oneoff", "ops", make_user(), "Trying", ["leads:search"], "env:ICYPEAS_KEY_SAME"
    )

    assert services.create_key(NOBODY, spec).state == "draft"
    assert (
        services.create_key(NOBODY, replace(spec, label="two", secret_ref="env:ICYPEAS_KEY_OWN")).state
        == "active"
    )


# --- active records stay complete ---------------------------------------------------------------------------------------


def spec_of(key: KeyRecord, **changes: Any) -> services.KeySpec:
    given = {
        name: getattr(key, name) for name in ("environment", "system", "label", "owner", "deputy", "team")
    }
    given |= {name: getattr(key, name) for name in ("purpose", "scopes", "secret_ref", "daily_cap")}
    return services.KeySpec(**{**given, "account": key.account.name, **changes})


@pytest.mark.parametrize("lost", ["deputy", "team"])
def test_active_record_does_not_lose_what_it_needs_by_an_edit(lost: str) -> None:
    key = make_complete()

    with pytest.raises(KeyRecordError, match="Quarantine it first") as caught:
        services.change_key(NOBODY, key, spec_of(key, **{lost: None}), reason="tidy")

    assert list(caught.value.fields) == [lost]
    key.refresh_from_db()
    assert key.state == "active"
    assert getattr(key, lost) is not None


def test_edit_of_a_record_whose_deputy_left_is_not_held_up_by_that() -> None:
    key = make_complete(deputy=make_user(is_active=False))

    key = services.change_key(NOBODY, key, spec_of(key, daily_cap=Decimal(5)), reason="less")

    assert (key.state, key.daily_cap) == ("active", Decimal(5))


@pytest.mark.parametrize("other", ["nobody", "left too"])
def test_disabled_deputy_of_an_active_record_is_replaced_and_not_dropped(other: str) -> None:
    key = make_complete(deputy=make_user(is_active=False))
    deputy = None if other == "nobody" else make_user(is_active=False)

    with pytest.raises(KeyRecordError, match=r"needs an active deputy\. Quarantine") as caught:
        services.change_key(NOBODY, key, spec_of(key, deputy=deputy), reason="tidy")

    assert list(caught.value.fields) == ["deputy"]
    assert services.change_key(NOBODY, key, spec_of(key, deputy=make_user()), reason="tidy").deputy_id


def test_active_key_of_a_disabled_owner_lets_calls_out_and_is_a_finding() -> None:
    key = make_complete(owner=make_user(name="Jo Lind", is_active=False))

    assert gate.refusal(key, environment="prod", scope="leads:search") is None
    refresh([key.id])
    assert [finding.title for finding in findings_of(key)] == ["Owner disabled"]


def test_revoked_record_is_changed_by_nothing() -> None:
    key = make_complete(state="revoked")
    tries = (
        lambda: services.change_key(NOBODY, key, spec_of(key, purpose="Other"), reason="x"),
        lambda: services.rename_key(NOBODY, key, system="other", label="ops", reason="x"),
        lambda: services.renew_key(NOBODY, key, expires_at=None, reason="x"),
    )

    for attempt in tries:
        with pytest.raises(KeyRecordError, match="revoked for good"):
            attempt()
    assert not AuditEntry.objects.exists()


# --- the last day -------------------------------------------------------------------------------------------------------


def test_record_whose_last_day_is_over_is_shown_as_expired_and_renewed(client: Client, admin: User) -> None:
    yesterday = timezone.localdate() - timedelta(days=1)
    make_key("sandbox_training_revops", expires_at=yesterday)
    url = "/keys/sandbox_training_revops/"

    page = client.get(url).content.decode()
    assert "Expired · sandbox_training_revops" in page
    assert f'href="{url}renew/"' in page

    tomorrow = timezone.localdate() + timedelta(days=1)
    answer = client.post(f"{url}renew/", {"expires_at": tomorrow.isoformat(), "reason": "still in use"})

    assert (answer.status_code, answer["Location"]) == (303, url)
    key = KeyRecord.objects.get()
    assert (key.expires_at, key.shown_state) == (tomorrow, "active")
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.reason) == ("key.changed", "still in use")


@pytest.mark.parametrize(
    ("told", "said"), [({"expires_at": "2020-01-01", "reason": "x"}, "That day is over"), ({}, "required")]
)
def test_renewal_is_refused(client: Client, admin: User, told: dict[str, str], said: str) -> None:
    make_key("sandbox_training_revops")

    answer = client.post("/keys/sandbox_training_revops/renew/", told)

    assert answer.status_code == 422
    assert said in answer.content.decode()


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/Los_Angeles"])
@pytest.mark.parametrize(("hour", "is_over"), [(12, False), (27, True)], ids=["noon", "the next morning"])
def test_last_day_ends_at_midnight_utc_wherever_somebody_looks(
    monkeypatch: pytest.MonkeyPatch, zone: str, hour: int, is_over: bool
) -> None:
    day = date(2026, 11, 25)
    key = make_complete(expires_at=day)
    now = datetime(2026, 11, 25, tzinfo=UTC) + timedelta(hours=hour)
    monkeypatch.setattr(timezone, "now", lambda: now)

    with timezone.override(zone):
        assert key.shown_state == ("expired" if is_over else "active")
        assert bool(gate.refusal(key, environment="prod", scope="leads:search")) is is_over
        found = selectors.filter_keys(selectors.KeyFilter(state="expired"), key.owner)
        assert found.exists() is is_over
        if is_over:
            with pytest.raises(KeyRecordError, match="That day is over"):
                services.renew_key(NOBODY, key, expires_at=day, reason="x")
        else:
            services.renew_key(NOBODY, key, expires_at=day, reason="x")


def test_record_is_not_renewed_while_it_lacks_what_an_active_one_needs(client: Client, admin: User) -> None:
    over = timezone.localdate() - timedelta(days=1)
    key = make_complete(expires_at=over, deputy=make_user(is_active=False))
    url, day = f"/keys/{key.name}/renew/", timezone.localdate() + timedelta(days=9)

    answer = client.post(url, {"expires_at": day.isoformat(), "reason": "still in use"})

    assert answer.status_code == 422
    said = "prod_crm_sync_revops needs an active deputy first. Mira Okafor can add it."
    assert answer.context["form"].errors["expires_at"] == [said]
    key.refresh_from_db()
    assert (key.expires_at, AuditEntry.objects.count()) == (over, 0)
    with pytest.raises(CommandError, match="needs an active deputy first"):
        terminal("renew", key.name, "--expires", "never", "--reason", "in use")


def test_last_day_of_an_incomplete_record_may_come_sooner_and_a_quarantined_one_be_dated() -> None:
    today = timezone.localdate()
    key = make_complete(expires_at=today + timedelta(days=9), deputy=make_user(is_active=False))

    assert services.renew_key(NOBODY, key, expires_at=today, reason="end it").expires_at == today
    KeyRecord.objects.update(state="quarantined")
    assert services.renew_key(NOBODY, key, expires_at=None, reason="later").expires_at is None


def test_expired_records_are_found_under_their_shown_state(client: Client, admin: User) -> None:
    make_key("sandbox_old_ops", expires_at=timezone.localdate() - timedelta(days=1))
    make_key("sandbox_new_ops", expires_at=timezone.localdate())

    def names(state: str) -> list[str]:
        return [line.key.name for line in client.get(f"/keys/?state={state}").context["page"].lines]

    assert names("expired") == ["sandbox_old_ops"]
    assert names("active") == ["sandbox_new_ops"]


# --- the page -----------------------------------------------------------------------------------------------------------


def test_quarantine_names_the_jobs_that_will_pause(client: Client, admin: User) -> None:
    key = make_key("sandbox_training_revops", account=make_account(balance=100))
    ledger.reserve(key=key, operation="email-verification", job=41, credits=Decimal(20))
    ledger.reserve(key=key, operation="email-verification", job=42, credits=Decimal(5))
    ledger.release(key=key, operation="email-verification", job=42, credits=Decimal(5))

    page = client.get("/keys/sandbox_training_revops/quarantine/").content.decode()

    assert "1 job holds 20 credits through this key" in page
    assert 'href="/jobs/41/"' in page
    assert "/jobs/42/" not in page


def test_quarantine_and_release_from_the_page(client: Client, admin: User) -> None:
    make_key("sandbox_training_revops")
    url = "/keys/sandbox_training_revops/"

    answer = client.post(f"{url}quarantine/", {"reason": "odd calls at night"})
    page = client.get(url).content.decode()

    assert (answer.status_code, answer["Location"]) == (303, url)
    assert "In quarantine: it lets nothing out." in page
    assert "Mira Okafor stopped it" in page
    assert ": odd calls at night." in page
    assert "Put into quarantine" in page

    client.post(f"{url}release/", {"reason": "they were ours"})
    assert KeyRecord.objects.get().state == "active"


def test_revoked_record_is_read_and_has_nothing_to_press(client: Client, admin: User) -> None:
    make_key("sandbox_training_revops")
    url = "/keys/sandbox_training_revops/"
    client.post(f"{url}revoke/", {"reason": "nobody needs it"})

    page = client.get(url).content.decode()
    main = page[page.index('<main class="page"') : page.index("</main>")]

    assert "Revoked for good." in main
    assert ": nobody needs it. Everything here can be read" in main
    assert ">now<" not in main[: main.index("Everything here")]
    for path in ("edit", "rename", "renew", "release", "quarantine", "test"):
        assert f"{url}{path}/" not in main
    for path in ("edit", "rename", "renew", "release", "quarantine", "activate", "revoke"):
        answer = client.post(f"{url}{path}/", {"reason": "again"})
        assert (answer.status_code, answer["Location"]) == (303, url)
    assert KeyRecord.objects.get().state == "revoked"
    assert AuditEntry.objects.count() == 1


def test_page_has_one_primary_button_in_each_state(client: Client, admin: User) -> None:
    for number, state in enumerate(KeyState.values):
        key = make_key(f"sandbox_training_ops{number}", state=state)
        page = client.get(f"/keys/{key.name}/").content.decode()
        main = page[page.index('<main class="page"') : page.index("</main>")]
        assert main.count("button--primary") == (0 if state == "revoked" else 1), state


def test_controls_are_disabled_with_who_may_for_others(client: Client, admin: User) -> None:
    make_key("sandbox_training_revops")
    client.force_login(make_user(role="viewer"))

    page = client.get("/keys/sandbox_training_revops/").content.decode()

    assert page.count("Mira Okafor can</span>") == 1
    for path in ("edit", "quarantine", "revoke"):
        assert f'href="/keys/sandbox_training_revops/{path}/"' not in page


def test_step_that_does_not_fit_the_state_leads_back(client: Client, admin: User) -> None:
    make_key("sandbox_training_revops")

    answer = client.get("/keys/sandbox_training_revops/release/", follow=True)

    assert answer.redirect_chain == [("/keys/sandbox_training_revops/", 303)]
    assert "is active, so there was nothing to do" in answer.content.decode()


def test_steps_of_a_rotation_have_no_page(client: Client, admin: User) -> None:
    make_key("sandbox_training_revops")

    assert client.post("/keys/sandbox_training_revops/begin-rotation/", {"reason": "x"}).status_code == 404


@pytest.mark.parametrize("step", ["quarantine", "revoke", "release", "activate"])
def test_state_page_is_refused_to_others(client: Client, admin: User, step: str) -> None:
    make_key("sandbox_training_revops")
    client.force_login(make_user(role="manager"))

    answer = client.post(f"/keys/sandbox_training_revops/{step}/", {"reason": "x"})

    assert answer.status_code == 403
    assert KeyRecord.objects.get().state == "active"


# --- the terminal -------------------------------------------------------------------------------------------------------


def terminal(*words: str) -> str:
    out = StringIO()
    call_command("key", *words, stdout=out, stderr=out)
    return out.getvalue()


def test_terminal_moves_a_record_along_the_same_table() -> None:
    key = make_key("sandbox_training_revops", account=make_account(balance=100))
    ledger.reserve(key=key, operation="email-verification", job=41, credits=Decimal(20))

    said = terminal("quarantine", key.name, "--reason", "odd calls")
    assert "is in quarantine" in said
    assert "#41" in said
    assert "active again" in terminal("release", key.name, "--reason", "ours")
    assert "revoked for good" in terminal("revoke", key.name, "--reason", "over")
    with pytest.raises(CommandError, match="revoked for good"):
        terminal("release", key.name, "--reason", "again")
    assert AuditEntry.objects.filter(via__startswith="terminal").count() == 3


def test_terminal_renews_a_record() -> None:
    key = make_key("sandbox_training_revops", expires_at=timezone.localdate() - timedelta(days=3))

    assert "last day none" in terminal("renew", key.name, "--expires", "never", "--reason", "in use")

    key.refresh_from_db()
    assert key.expires_at is None


def test_renewed_record_begins_to_rest_when_it_can_be_used_again() -> None:
    long_ago = timezone.now() - timedelta(days=155)
    key = make_key(
        "sandbox_old_ops", expires_at=timezone.localdate() - timedelta(days=150), last_used_at=long_ago
    )

    renewed = services.renew_key(
        SYSTEM, key, expires_at=timezone.localdate() + timedelta(days=90), reason="needed"
    )

    assert renewed.usable_since is not None
    assert timezone.now() - renewed.usable_since < timedelta(minutes=1)

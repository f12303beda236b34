"""The form that makes and changes key records, the presets, the name as it forms."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from keys.lifecycle import Step
from keys.models import Account, KeyRecord
from keys.scopes import PRESETS, SCOPES
from keys.services import change_state, remove_scopes, version_of
from people.audit import Actor
from people.models import AuditEntry, Team, User
from tests.factories import make_account, make_key, make_team, make_user

pytestmark = pytest.mark.django_db
NEW = "/keys/new/"


@pytest.fixture
def team() -> Team:
    return make_team("RevOps")


@pytest.fixture
def admin(client: Client, team: Team) -> User:
    """A key admin, logged in."""
    person = make_user(name="Mira Okafor", role="key_admin", team=team)
    client.force_login(person)
    return person


@pytest.fixture
def filled(admin: User, team: Team) -> dict[str, Any]:
    """A complete form for a record of production."""
    return {
        "environment": "prod",
        "system": "crm_sync",
        "label": "revops",
        "owner": admin.id,
        "deputy": make_user().id,
        "team": team.id,
        "purpose": "Nightly CRM clean-up",
        "scopes": ["email-verification:bulk", "scrape-company:bulk"],
        "secret_ref": "env:ICYPEAS_KEY_PROD_CRM_SYNC_REVOPS",
        "rotation_days": "90",
    }


def edit_form(key: KeyRecord, **changes: Any) -> dict[str, Any]:
    """The edit form as it comes, with some fields changed."""
    assert key.owner is not None
    return {
        "owner": key.owner.id,
        "deputy": key.deputy.id if key.deputy else "",
        "team": key.team.id if key.team else "",
        "account": key.account.id,
        "purpose": key.purpose,
        "scopes": key.scopes,
        "secret_ref": key.secret_ref,
        "previous_secret_ref": key.previous_secret_ref,
        "rotation_days": key.rotation_days,
        "rotate_by": key.rotate_by.isoformat(),
        "reason": "the quarterly review",
        "version": version_of(key),
        **changes,
    }


def ticked(answer: Any) -> list[str]:
    """Scopes that are ticked on the page."""
    return [
        box.value for _, boxes in answer.context["form"].scope_groups() for box in boxes if box.is_checked
    ]


def test_new_record_is_made_active_when_complete(client: Client, filled: dict[str, Any]) -> None:
    answer = client.post(NEW, filled)

    assert (answer.status_code, answer["Location"]) == (303, "/keys/prod_crm_sync_revops/")
    key = KeyRecord.objects.get(name="prod_crm_sync_revops")
    assert key.state == "active"
    assert key.scopes == ["email-verification:bulk", "scrape-company:bulk"]
    assert key.rotate_by == timezone.localdate() + timedelta(days=90)
    assert (key.account.name, key.account.realm) == ("Main", "live")


def test_new_record_leaves_one_line_in_the_audit_log(
    client: Client, admin: User, filled: dict[str, Any]
) -> None:
    client.post(NEW, filled)

    entry = AuditEntry.objects.get(action="key.created")
    assert (entry.actor, entry.via, entry.object_text) == (admin, "browser", "prod_crm_sync_revops")
    assert entry.detail["secret reference"] == "env:ICYPEAS_KEY_PROD_CRM_SYNC_REVOPS"


@pytest.mark.parametrize("missing", ["deputy", "team"])
def test_new_record_of_production_stays_a_draft_without(
    client: Client, filled: dict[str, Any], missing: str
) -> None:
    client.post(NEW, {**filled, missing: ""})

    assert KeyRecord.objects.get().state == "draft"


def test_new_record_of_the_sandbox_is_active_without_deputy_and_team(
    client: Client, filled: dict[str, Any]
) -> None:
    client.post(NEW, {**filled, "environment": "sandbox", "deputy": "", "team": ""})

    assert KeyRecord.objects.get().state == "active"


def test_new_record_makes_the_account_that_was_named(client: Client, filled: dict[str, Any]) -> None:
    make_account("Main", realm="live")

    client.post(NEW, {**filled, "new_account": "Second", "daily_cap": "5000.5"})

    key = KeyRecord.objects.get()
    assert (key.account.name, key.account.realm) == ("Second", "live")
    assert key.daily_cap == Decimal("5000.5")


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"environment": ""}, "environment", "Choose an environment."),
        ({"environment": "moon"}, "environment", "not one of the available choices"),
        ({"system": "CRM sync"}, "system", "small letters"),
        ({"label": "rev__ops"}, "label", "small letters"),
        ({"owner": ""}, "owner", "Choose who answers for the key."),
        ({"owner": "999999"}, "owner", "not one of the available choices"),
        ({"purpose": " "}, "purpose", "Say in a sentence what the key is for."),
        ({"purpose": "x" * 301}, "purpose", "300 characters"),
        ({"scopes": []}, "scopes", "at least one scope"),
        ({"scopes": ["email-verify:bulk"]}, "scopes", "not one of the available choices"),
        ({"secret_ref": ""}, "secret_ref", "Say where the worker finds the secret"),
        ({"secret_ref": "env:DATABASE_URL"}, "secret_ref", "begin with ICYPEAS_"),
        ({"previous_secret_ref": "file:../x"}, "previous_secret_ref", "below SECRETS_DIR"),
        ({"daily_cap": "-1"}, "daily_cap", "A cap is 0 or more."),
        ({"daily_cap": "many"}, "daily_cap", "Write a number of credits"),
        ({"rotation_days": "0"}, "rotation_days", "from 1 to 3,650"),
        ({"rotate_by": "tomorrow"}, "rotate_by", "valid date"),
    ],
)
def test_new_record_is_refused_at_the_field(
    client: Client, filled: dict[str, Any], changes: dict[str, Any], field: str, said: str
) -> None:
    answer = client.post(NEW, {**filled, **changes})

    assert answer.status_code == 422
    assert said in " ".join(answer.context["form"].errors[field])
    assert said in answer.content.decode()
    assert not KeyRecord.objects.exists()
    assert not AuditEntry.objects.exists()


def test_new_record_tells_all_that_is_wrong_in_one_round(client: Client, filled: dict[str, Any]) -> None:
    answer = client.post(NEW, {**filled, "system": "Web Form!", "scopes": [], "secret_ref": "", "label": ""})

    errors = answer.context["form"].errors
    assert set(errors) == {"system", "label", "scopes", "secret_ref"}
    assert "field is required" not in answer.content.decode()


def test_new_record_with_all_scopes_is_refused_in_production(client: Client, filled: dict[str, Any]) -> None:
    answer = client.post(NEW, {**filled, "scopes": list(SCOPES)})

    assert answer.status_code == 422
    assert "for sandbox and dev only" in answer.content.decode()


def test_new_record_with_a_taken_name_is_refused(client: Client, filled: dict[str, Any]) -> None:
    make_key("prod_crm_sync_revops", environment="prod")

    answer = client.post(NEW, filled)

    assert answer.status_code == 422
    assert "There is a key named prod_crm_sync_revops already." in answer.content.decode()


def test_new_record_on_an_account_of_the_other_realm_is_refused(
    client: Client, filled: dict[str, Any]
) -> None:
    account = make_account("Training", realm="sandbox")

    answer = client.post(NEW, {**filled, "account": account.id})

    assert answer.status_code == 422
    assert "Training is a sandbox account" in " ".join(answer.context["form"].errors["account"])


def test_refused_form_keeps_what_was_typed(client: Client, filled: dict[str, Any]) -> None:
    answer = client.post(NEW, {**filled, "system": "CRM sync"})

    text = answer.content.decode()
    assert 'value="CRM sync"' in text
    assert "Nightly CRM clean-up" in text
    assert 'value="env:ICYPEAS_KEY_PROD_CRM_SYNC_REVOPS"' in text
    assert text.count('name="scopes"') == 17
    assert ticked(answer) == filled["scopes"]


def test_preset_ticks_its_scopes_and_keeps_the_rest(client: Client, filled: dict[str, Any]) -> None:
    answer = client.post(NEW, {**filled, "environment": "", "preset": "profile_lookup", "apply": "preset"})

    text = answer.content.decode()
    assert answer.status_code == 200
    ticked = [
        box.value for _, boxes in answer.context["form"].scope_groups() for box in boxes if box.is_checked
    ]
    assert ticked == ["reverse-lookup:single", "scrape-profile:single", "scrape-company:single"]
    assert 'value="crm_sync"' in text
    assert "The server-side layer of a product." in text
    assert '<option value="prod" selected>' in text
    assert 'class="error"' not in text
    assert not KeyRecord.objects.exists()


def applied(answer: Any) -> str:
    return " ".join(answer.context["form"].applied.changes)


def test_preset_says_what_it_changed(client: Client, filled: dict[str, Any]) -> None:
    told = {**filled, "environment": "", "preset": "bulk_verification", "apply": "preset"}

    answer = client.post(NEW, told)

    assert applied(answer) == "Unticked scrape-company:bulk. Set the environment to prod."
    assert "An internal job runner." in answer.content.decode()


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_keeps_everything_that_was_typed(client: Client, filled: dict[str, Any], preset: str) -> None:
    typed = {
        **filled,
        "environment": "staging",
        "daily_cap": "77",
        "hours_days": ["1", "2"],
        "hours_begin": "09:00",
        "hours_end": "17:00",
        "time_zone": "Asia/Tokyo",
        "expires_at": "2031-01-02",
        "new_account": "Second",
    }

    answer = client.post(NEW, {**typed, "preset": preset, "apply": "preset"})

    form = answer.context["form"]
    assert sorted(form["scopes"].value()) == sorted(PRESETS[preset].scopes)
    for name, value in typed.items():
        if name != "scopes":
            assert str(form[name].value()) == str(value), name
    usual = PRESETS[preset].environment
    assert f"Left the environment at staging; such a workload usually belongs to {usual}." in applied(answer)


def test_preset_of_an_edit_leaves_the_environment_and_the_reason(client: Client, admin: User) -> None:
    key = make_key("sandbox_training_revops", scopes=["leads:search"])
    told = edit_form(key, preset="one_off_testing", apply="preset", reason="a smaller set")

    answer = client.post("/keys/sandbox_training_revops/edit/", told)

    assert answer.context["form"]["reason"].value() == "a smaller set"
    assert "Left the environment at sandbox" in applied(answer)
    key.refresh_from_db()
    assert key.scopes == ["leads:search"]


@pytest.mark.parametrize("path", [NEW, "/keys/sandbox_training_revops/edit/", "/keys/name-preview/"])
@pytest.mark.parametrize("role", ["viewer", "operator", "manager", "auditor"])
def test_key_form_is_refused_to_others_with_who_may(
    client: Client, admin: User, path: str, role: str
) -> None:
    make_key("sandbox_training_revops")
    client.force_login(make_user(role=role))

    answer = client.get(path)

    assert answer.status_code == 403
    assert (
        "Your role does not let you make and change key records. Mira Okafor can." in answer.content.decode()
    )


def test_post_past_the_form_is_refused_to_others(client: Client, filled: dict[str, Any]) -> None:
    key = make_key("sandbox_training_revops")
    client.force_login(make_user(role="manager"))

    answers = [client.post(NEW, filled), client.post("/keys/sandbox_training_revops/edit/", edit_form(key))]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert KeyRecord.objects.count() == 1
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("path", [NEW, "/keys/sandbox_training_revops/edit/", "/keys/name-preview/"])
def test_key_form_leads_anonymous_people_to_the_log_in(client: Client, path: str) -> None:
    assert client.get(path)["Location"].startswith("/login/")


def test_key_form_refuses_other_methods(client: Client, admin: User) -> None:
    make_key("sandbox_training_revops")

    assert client.delete(NEW).status_code == 405
    assert client.put("/keys/sandbox_training_revops/edit/").status_code == 405
    assert client.post("/keys/name-preview/").status_code == 405


def test_edit_of_an_unknown_name_is_not_found(client: Client, admin: User) -> None:
    assert client.get("/keys/sandbox_no_such/edit/").status_code == 404


def test_edit_comes_with_what_the_record_holds(client: Client, admin: User) -> None:
    make_key("sandbox_training_revops", scopes=["leads:search"], purpose="Training", daily_cap=Decimal(12))

    answer = client.get("/keys/sandbox_training_revops/edit/")

    text = answer.content.decode()
    assert "Training" in text
    assert 'value="env:ICYPEAS_API_KEY"' in text
    assert ticked(answer) == ["leads:search"]


def test_edit_changes_the_record_and_says_what_in_the_history(client: Client, admin: User) -> None:
    key = make_key("sandbox_training_revops", scopes=["leads:search", "email-search:bulk"])

    answer = client.post("/keys/sandbox_training_revops/edit/", edit_form(key, scopes=["leads:search"]))

    assert (answer.status_code, answer["Location"]) == (303, "/keys/sandbox_training_revops/")
    key.refresh_from_db()
    assert key.scopes == ["leads:search"]
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.reason, list(entry.detail)) == (
        "key.changed",
        "the quarterly review",
        ["scopes"],
    )
    page = client.get("/keys/sandbox_training_revops/").content.decode()
    assert "Scopes: removed email-search:bulk" in page
    assert "the quarterly review" in page


@pytest.mark.parametrize("reason", ["", "   "])
def test_edit_without_a_reason_is_refused(client: Client, admin: User, reason: str) -> None:
    key = make_key("sandbox_training_revops")

    answer = client.post(
        "/keys/sandbox_training_revops/edit/", edit_form(key, purpose="Other", reason=reason)
    )

    assert answer.status_code == 422
    assert "reason" in answer.context["form"].errors
    key.refresh_from_db()
    assert key.purpose != "Other"


def test_edit_does_not_change_the_name(client: Client, admin: User) -> None:
    key = make_key("sandbox_training_revops")

    client.post(
        "/keys/sandbox_training_revops/edit/", edit_form(key, environment="prod", system="x", label="y")
    )

    key.refresh_from_db()
    assert (key.name, key.environment) == ("sandbox_training_revops", "sandbox")


def test_edit_completes_a_draft(client: Client, admin: User) -> None:
    key = make_key(
        "prod_crm_sync_revops", environment="prod", state="draft", team=make_team(), scopes=["leads:search"]
    )

    client.post("/keys/prod_crm_sync_revops/edit/", edit_form(key, deputy=make_user().id))

    key.refresh_from_db()
    assert key.state == "active"


@pytest.mark.parametrize("state", ["quarantined", "revoked", "expired"])
def test_edit_brings_no_ended_record_back(client: Client, admin: User, state: str) -> None:
    key = make_key("sandbox_training_revops", state=state)

    client.post("/keys/sandbox_training_revops/edit/", edit_form(key, purpose="Other"))

    key.refresh_from_db()
    assert key.state == state


def test_edit_with_a_new_reference_keeps_the_one_before(client: Client, admin: User) -> None:
    key = make_key("sandbox_training_revops", previous_secret_ref="env:ICYPEAS_KEY_OLDEST")

    client.post("/keys/sandbox_training_revops/edit/", edit_form(key, secret_ref="env:ICYPEAS_KEY_NEW"))

    key.refresh_from_db()
    assert (key.secret_ref, key.previous_secret_ref) == ("env:ICYPEAS_KEY_NEW", "env:ICYPEAS_API_KEY")


def test_name_preview_answers_htmx_with_the_name_as_it_forms(client: Client, admin: User) -> None:
    htmx = {"HX-Request": "true"}
    make_key("sandbox_training_revops")

    free = client.get(
        "/keys/name-preview/?environment=prod&system=crm&label=revops", headers=htmx
    ).content.decode()
    taken = client.get(
        "/keys/name-preview/?environment=sandbox&system=training&label=revops", headers=htmx
    ).content.decode()
    wrong = client.get("/keys/name-preview/?environment=prod&system=CRM", headers=htmx).content.decode()
    empty = client.get("/keys/name-preview/", headers=htmx).content.decode()

    assert "env:ICYPEAS_KEY_PROD_CRM_REVOPS" in free
    assert "There is a key named sandbox_training_revops already." in taken
    assert "small letters" in wrong
    assert 'id="key-name-preview"' in empty


def test_name_preview_leads_to_the_filled_form_without_htmx(client: Client, admin: User) -> None:
    answer = client.get("/keys/name-preview/?environment=prod&system=crm", follow=True)

    assert answer.redirect_chain == [("/keys/new/?environment=prod&system=crm", 302)]
    assert 'value="crm"' in answer.content.decode()


def test_account_is_made_once_for_one_name(client: Client, filled: dict[str, Any]) -> None:
    client.post(NEW, {**filled, "new_account": "Second"})
    client.post(NEW, {**filled, "label": "growth", "new_account": "second"})

    assert Account.objects.count() == 1
    assert KeyRecord.objects.count() == 2


def test_disabled_deputy_stays_chosen_in_the_form_that_changes_something_else(
    client: Client, admin: User, team: Team
) -> None:
    deputy = make_user("jo@desk.example", name="Jo Lind", is_active=False)
    key = make_key(
        "prod_crm_sync_revops", environment="prod", deputy=deputy, team=team, scopes=["leads:search"]
    )
    url = f"/keys/{key.name}/edit/"

    assert f'<option value="{deputy.id}" selected>Jo Lind, jo@desk.example, disabled</option>' in (
        client.get(url).content.decode()
    )
    assert client.post(url, edit_form(key, purpose="Another")).status_code == 303

    key.refresh_from_db()
    assert (key.deputy, key.purpose) == (deputy, "Another")


def test_form_that_was_overtaken_comes_back_with_what_stands_now_and_who_changed_it(
    client: Client, admin: User
) -> None:
    key = make_key("sandbox_training_revops", scopes=["leads:search", "email-search:bulk"], daily_cap=50)
    url, told = f"/keys/{key.name}/edit/", edit_form(key, purpose="Mine", daily_cap="50")
    remove_scopes(Actor(make_user(name="Jo Lind")), key, ["leads:search"], reason="never used")

    answer = client.post(url, told)

    key.refresh_from_db()
    assert (answer.status_code, key.scopes) == (422, ["email-search:bulk"])
    assert key.purpose == "Clean lists before a campaign"
    assert "Jo Lind: scopes. Nothing was written." in answer.content.decode()
    assert ticked(answer) == ["email-search:bulk"]
    form = answer.context["form"]
    assert [form[name].value() for name in ("purpose", "reason")] == ["Mine", "the quarterly review"]
    assert AuditEntry.objects.count() == 1

    again = {**told, "scopes": ticked(answer), "version": form["version"].value()}
    assert client.post(url, again).status_code == 303

    key.refresh_from_db()
    assert (key.purpose, key.scopes) == ("Mine", ["email-search:bulk"])


@pytest.mark.parametrize("version", ["", "yesterday", "2026-11-25T00:00:00+00:00 " + "9" * 50])
def test_form_without_a_version_that_can_be_read_writes_nothing(
    client: Client, admin: User, version: str
) -> None:
    key = make_key("sandbox_training_revops")

    answer = client.post(f"/keys/{key.name}/edit/", edit_form(key, purpose="Mine", version=version))

    assert answer.status_code == 422
    assert "Nothing was written" in answer.content.decode()
    assert answer.context["form"]["purpose"].value() == key.purpose
    assert not AuditEntry.objects.exists()


def test_form_that_was_overtaken_by_a_quarantine_says_so(client: Client, admin: User) -> None:
    key = make_key("sandbox_training_revops")
    told = edit_form(key)
    change_state(Actor(make_user(name="Jo Lind")), key, Step.QUARANTINE, reason="odd calls")

    assert "Jo Lind: key quarantined" in client.post(f"/keys/{key.name}/edit/", told).content.decode()


def test_form_that_was_overtaken_by_a_change_of_the_state_keeps_all_that_was_typed(
    client: Client, admin: User
) -> None:
    key = make_key("sandbox_training_revops")
    told = edit_form(key) | {"purpose": "Typed for minutes", "daily_cap": "12"}
    change_state(Actor(make_user(name="Jo Lind")), key, Step.QUARANTINE, reason="odd calls")

    answer = client.post(f"/keys/{key.name}/edit/", told)

    form = answer.context["form"]
    assert (form["purpose"].value(), form["daily_cap"].value()) == ("Typed for minutes", "12")
    assert "everything else as you typed it" in answer.content.decode()


def test_form_whose_record_changed_without_a_trace_shows_what_stands_now(client: Client, admin: User) -> None:
    key = make_key("sandbox_training_revops")
    told = edit_form(key) | {"purpose": "Typed"}
    KeyRecord.objects.filter(id=key.id).update(updated_at=timezone.now())

    answer = client.post(f"/keys/{key.name}/edit/", told)

    assert answer.context["form"]["purpose"].value() == key.purpose
    assert "Everything stands below as it is now" in answer.content.decode()

"""Why a call failed: source, cause, evidence, what to do and who can; the secret's way to the workers is looked at first."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from enrichment.models import EnrichmentJob
from keys import explainer, gate, services
from keys.causes import facts
from keys.choices import Outcome
from keys.clock import db_now
from keys.models import Call, KeyRecord, Presence, Worker
from people import audit
from people.models import User
from tests import factories

AsPerson = Callable[[User], Client]

pytestmark = pytest.mark.django_db


@pytest.fixture
def key() -> KeyRecord:
    return factories.make_key("sandbox_forms_growth")


def call(key: KeyRecord, outcome: str, *, minutes_ago: float = 0, **more: Any) -> Call:
    return Call.objects.create(
        **{
            "account": key.account,
            "key": key,
            "route": "email-verification",
            "scope": "email-verification:bulk",
            "worker": "w1",
            "at": db_now() - timedelta(minutes=minutes_ago),
            "outcome": outcome,
            "status": 401 if outcome == Outcome.VENDOR_401 else None,
            **more,
        }
    )


def sees(
    key: KeyRecord,
    worker: str,
    fingerprint: str,
    *,
    problem: str = "",
    changed: datetime | None = None,
    **more: Any,
) -> None:
    now = db_now()
    Worker.objects.update_or_create(name=worker, defaults={"seen_at": now})
    Presence.objects.create(
        **{
            "worker": worker,
            "reference": key.secret_ref,
            "fingerprint": fingerprint,
            "problem": problem,
            "seen_at": now,
            "changed_at": changed or now - timedelta(days=9),
            **more,
        }
    )


def why(failed: Call) -> explainer.Explanation:
    return explainer.explain(Call.objects.select_related("key__account").get(id=failed.id))


def test_secret_that_is_not_everywhere_comes_first(key: KeyRecord) -> None:
    sees(key, "w1", "aaa")
    sees(
        key,
        "w2",
        "",
        problem="ICYPEAS_API_KEY is not set.",
        release="r-2291",
        changed=db_now() - timedelta(minutes=3),
    )
    call(key, Outcome.OK, minutes_ago=9)

    told = why(call(key, Outcome.VENDOR_401))

    assert told.cause.title == "1 of 2 workers have no secret"
    assert (told.cause.source, "r-2291" in told.cause.text) == (facts.CONFIGURATION, True)
    assert "Rotating" in told.cause.will_not_help


def test_different_secrets_are_the_cause(key: KeyRecord) -> None:
    sees(key, "w1", "aaa")
    sees(key, "w2", "bbb")

    assert why(call(key, Outcome.VENDOR_401)).cause.title == "The workers hold different secrets"


def test_value_placed_after_the_last_good_call_is_the_cause(key: KeyRecord) -> None:
    call(key, Outcome.OK, minutes_ago=20)
    sees(key, "w1", "bbb", changed=db_now() - timedelta(minutes=5), release="r-2291")

    told = why(call(key, Outcome.VENDOR_401))

    assert told.cause.title == "Another secret was placed, and Icypeas does not take it"
    assert "release r-2291" in told.cause.text
    assert ("What changed before?", "warn") in [(item.question, item.state) for item in told.evidence]


def test_secret_that_was_cut_off_is_told_from_a_wrong_one(key: KeyRecord) -> None:
    sees(key, "w1", "aaa", warnings=["It has only 12 characters, so it may be cut off."])

    told = why(call(key, Outcome.VENDOR_401))

    assert told.cause.title == "The secret does not look like a key"
    assert "12 characters" in told.cause.text


def test_user_id_is_told_from_a_bad_key(key: KeyRecord) -> None:
    sees(key, "w1", "aaa")

    told = why(call(key, Outcome.VENDOR_401, message="bulk-search: UserNotFoundError"))

    assert "user id" in told.cause.title
    assert any("--user-id" in step for step in told.cause.steps)


def test_other_key_that_works_rules_out_that_access_is_off(key: KeyRecord) -> None:
    sees(key, "w1", "aaa")
    other = factories.make_key("sandbox_other_ops", account=key.account)
    failed = call(key, Outcome.VENDOR_401, fingerprint="aaa", minutes_ago=2)
    call(other, Outcome.OK, fingerprint="bbb")

    told = why(failed)

    assert told.cause.title == "This secret is not the account's any more"
    assert ("API access switched off", "another key of the account is let in") in told.ruled_out
    assert "regeneration" in told.cause.will_not_help


def test_nobody_let_in_points_at_the_account(key: KeyRecord) -> None:
    sees(key, "w1", "aaa")
    call(key, Outcome.OK, minutes_ago=60)
    call(key, Outcome.VENDOR_401, minutes_ago=3)

    told = why(call(key, Outcome.VENDOR_401))

    assert (told.cause.source, told.calls) == (facts.VENDOR, 2)
    assert "switched on" in told.cause.steps[0]


def test_call_that_left_with_a_secret_is_not_explained_by_a_worker_without_one(key: KeyRecord) -> None:
    sees(key, "w1", "aaa")
    sees(key, "w2", "", problem="ICYPEAS_API_KEY is not set.")

    told = why(call(key, Outcome.VENDOR_401, fingerprint="aaa"))

    assert "have no secret" not in told.cause.title
    assert "it is good" not in told.cause.will_not_help
    assert (told.evidence[0].answer, told.evidence[0].state) == ("Seen by 1 of 2 workers", "bad")
    refused = why(call(key, Outcome.SECRET_MISSING, status=None))
    assert refused.cause.title == "1 of 2 workers have no secret"


@pytest.mark.parametrize(
    ("found", "said", "step"),
    [
        ("", "w1 finds none now.", "Place the secret at env:ICYPEAS_API_SECRET"),
        ("ppp", "By now every worker sees one.", "Press Resume"),
        (None, "Not every worker has said yet", "Place the secret at env:ICYPEAS_API_SECRET"),
    ],
)
def test_missing_api_secret_is_explained_by_its_own_reference(
    key: KeyRecord, found: str | None, said: str, step: str
) -> None:
    account = key.account
    account.signs_requests, account.api_secret_ref = True, "env:ICYPEAS_API_SECRET"
    account.save()
    sees(key, "w1", "aaa")
    if found is not None:
        sees(key, "w1", found, problem="" if found else "Nothing.", reference=account.api_secret_ref)
    message = f"The API secret of {account.name}, {account.api_secret_ref}: The worker has none."

    told = why(call(key, Outcome.SECRET_MISSING, status=None, message=message))

    assert told.cause.title == "A worker found no API secret"
    assert said in told.cause.text
    assert told.cause.steps[0].startswith(step)
    assert key.secret_ref not in told.cause.text
    assert told.evidence[0].question == "Does the API secret reach every worker?"


@pytest.mark.parametrize("outcome", [Outcome.VENDOR_401, Outcome.SECRET_MISSING])
@pytest.mark.parametrize(("changed_ago", "is_blamed"), [(10, False), (90, True)])
def test_what_workers_find_since_the_key_works_again_explains_no_older_call(
    key: KeyRecord, outcome: Outcome, changed_ago: int, is_blamed: bool
) -> None:
    failed = call(key, outcome, minutes_ago=80)
    call(key, Outcome.OK, minutes_ago=60)
    sees(key, "w1", "", problem="It is down.", changed=db_now() - timedelta(minutes=changed_ago))

    told = why(failed).cause
    assert (told.title == "No worker has the secret") == is_blamed
    assert "every worker sees one" not in told.text


def test_changed_reference_is_found_in_the_history(key: KeyRecord) -> None:
    sees(key, "w1", "aaa")
    call(key, Outcome.OK, minutes_ago=30)
    audit.record(
        audit.Actor(None, "terminal"),
        "key.changed",
        key,
        detail={"secret reference": ["env:ICYPEAS_OLD", key.secret_ref]},
    )

    assert "another place" in why(call(key, Outcome.VENDOR_401)).cause.title


RETIRED, FORBIDDEN = "Icypeas retires keys as a way in", "A policy forbids keys"


@pytest.mark.parametrize(
    ("outcome", "status", "message", "title"),
    [
        (Outcome.VENDOR_403, 403, "API keys are no longer supported, use OAuth", RETIRED),
        (Outcome.VENDOR_401, 401, "Authentication by key was retired on 1 March", RETIRED),
        (Outcome.VENDOR_REJECTED, 410, "HTTP 410: this API key method is deprecated", RETIRED),
        (Outcome.VENDOR_403, 403, "This organization policy forbids API keys", FORBIDDEN),
        (Outcome.VENDOR_401, 401, "Keys are disabled by your administrator", FORBIDDEN),
    ],
)
def test_way_in_that_was_closed_names_the_notice_and_its_day_and_offers_no_retry(
    key: KeyRecord, as_person: AsPerson, outcome: Outcome, status: int, message: str, title: str
) -> None:
    call(key, outcome, message=message, status=status, minutes_ago=3 * 24 * 60)
    failed = call(key, outcome, message=message, status=status)

    told = why(failed)

    assert (told.cause.title, told.cause.is_retryable) == (title, False)
    assert message in told.cause.text
    assert f"{db_now() - timedelta(days=3):%d %b %Y}" in told.cause.text
    page = as_person(factories.make_user(role="key_admin")).get(f"/keys/{key.name}/calls/{failed.id}/")
    assert "Test this key" not in page.content.decode()


@pytest.mark.parametrize(
    "message",
    [
        "Your API key is no longer valid.",
        "This API key has been removed.",
        "Key blocked. Contact your administrator.",
        "Authentication failed: the key was replaced by a newer one.",
    ],
)
@pytest.mark.parametrize("status", [401, 403])
def test_answer_about_one_key_closes_no_way_in(
    key: KeyRecord, as_person: AsPerson, message: str, status: int
) -> None:
    failed = call(key, f"vendor_{status}", message=message, status=status)

    told = why(failed)

    assert told.cause.title not in (RETIRED, FORBIDDEN)
    assert told.cause.is_retryable
    page = as_person(factories.make_user(role="key_admin")).get(f"/keys/{key.name}/calls/{failed.id}/")
    assert "Test this key" in page.content.decode()


@pytest.mark.parametrize("is_same_key", [True, False])
@pytest.mark.parametrize("status", [401, 403])
def test_way_in_is_not_closed_while_a_key_is_let_in(key: KeyRecord, status: int, is_same_key: bool) -> None:
    failed = call(
        key, f"vendor_{status}", message="API keys are no longer supported", status=status, minutes_ago=5
    )
    call(key if is_same_key else factories.make_key(account=key.account), Outcome.OK)

    assert why(failed).cause.title != RETIRED


@pytest.mark.parametrize(
    "message",
    [
        "The organization was not found",
        "Your plan does not hold this operation",
        "policy: field company is required",
    ],
)
def test_answer_about_something_else_closes_no_way_in(key: KeyRecord, message: str) -> None:
    told = why(call(key, Outcome.VENDOR_403, message=message, status=403))

    assert told.cause.title == "Icypeas knows the key and forbids the call"
    assert told.cause.is_retryable


def test_lost_scope_names_who_took_it_and_why(key: KeyRecord) -> None:
    admin = factories.make_user(role="key_admin", name="Mira Okafor")
    call(key, Outcome.OK, minutes_ago=30)
    spec = services.KeySpec(
        "sandbox",
        "forms",
        "growth",
        key.owner,
        "Forms",
        ["email-search:bulk"],
        key.secret_ref,
        account=key.account.name,
    )
    services.change_key(audit.Actor(admin), key, spec, reason="rotation")

    told = why(call(key, Outcome.POLICY_SCOPE, message="no scope", fingerprint=""))

    assert told.cause.title == "The scope email-verification:bulk was lost"
    assert "Mira Okafor" in told.cause.text
    assert told.cause.source == facts.POLICY


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome != Outcome.OK])
def test_every_outcome_has_source_cause_steps_and_somebody(
    key: KeyRecord, outcome: Outcome, as_person: AsPerson
) -> None:
    failed = call(key, outcome, message="said <b>this</b>")

    told = why(failed)

    assert told.cause.source in explainer.SOURCES
    assert told.cause.title
    assert told.cause.steps
    assert told.cause.who
    advice = " ".join(told.cause.steps).lower()
    assert "rotate" not in advice
    assert "regenerate" not in advice
    page = (
        as_person(factories.make_user(role="key_admin"))
        .get(f"/keys/{key.name}/calls/{failed.id}/")
        .content.decode()
    )
    assert "What to do" in page
    assert "<b>this</b>" not in page


def test_good_call_needs_no_explanation(key: KeyRecord, as_person: AsPerson) -> None:
    good = call(key, Outcome.OK)

    with pytest.raises(ValueError, match="went well"):
        why(good)
    assert (
        as_person(factories.make_user(role="key_admin")).get(f"/keys/{key.name}/calls/{good.id}/").status_code
        == 404
    )


def paused(key: KeyRecord, person: User, reason: str, *, minutes_ago: float = 0) -> EnrichmentJob:
    return factories.make_job(
        2,
        created_by=person,
        key=key,
        state="paused",
        pause_reason=reason,
        state_text="Paused: Icypeas refused the call.",
        started_at=db_now() - timedelta(hours=2),
        paused_at=db_now() - timedelta(minutes=minutes_ago),
    )


@pytest.fixture
def manager() -> User:
    return factories.make_user(role="manager")


def test_paused_job_leads_to_the_explanation_of_its_own_call(
    key: KeyRecord, manager: User, as_person: AsPerson
) -> None:
    job = paused(key, manager, "key", minutes_ago=1)
    own = call(key, Outcome.VENDOR_401, job=job.id, minutes_ago=1.2)
    call(key, Outcome.VENDOR_401, job=job.id + 1, minutes_ago=1.1)
    call(key, Outcome.UNPAID)
    person = as_person(manager)

    assert "Why, and what to do" in person.get(f"/jobs/{job.id}/").content.decode()
    assert person.get(f"/jobs/{job.id}/why/")["Location"] == f"/keys/{key.name}/calls/{own.id}/"
    assert job.name in person.get(f"/keys/{key.name}/calls/{own.id}/").content.decode()


@pytest.mark.parametrize(
    ("reason", "outcome", "is_of_key"),
    [
        ("key", Outcome.VENDOR_401, True),
        ("key", Outcome.UNPAID, False),
        ("credits", Outcome.OUT_OF_CREDITS, False),
        ("provider", Outcome.VENDOR_403, False),
    ],
)
@pytest.mark.parametrize("has_old", [True, False])
def test_job_that_was_paused_with_another_leads_to_the_call_of_that_one(
    key: KeyRecord,
    manager: User,
    as_person: AsPerson,
    reason: str,
    outcome: Outcome,
    is_of_key: bool,
    has_old: bool,
) -> None:
    job = paused(key, manager, reason)
    if has_old:
        call(key, Outcome.VENDOR_429, job=job.id, minutes_ago=60)
        call(key, outcome, job=job.id, minutes_ago=50)  # it was resumed since
    asked = key if is_of_key else factories.make_key(account=key.account)
    told = call(asked, outcome, job=job.id + 1, minutes_ago=0.1)

    answer = as_person(manager).get(f"/jobs/{job.id}/why/")

    assert answer["Location"] == f"/keys/{asked.name}/calls/{told.id}/"


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("policy", Outcome.POLICY_SCOPE), ("key", Outcome.SECRET_MISSING), ("key", Outcome.VENDOR_401)],
)
def test_call_that_cannot_have_paused_the_job_explains_nothing(
    key: KeyRecord, manager: User, as_person: AsPerson, reason: str, outcome: Outcome
) -> None:
    """A refusal of our own pauses the job that met it; of another key Icypeas' 401 says nothing."""
    job = paused(key, manager, reason)
    other = factories.make_key(account=key.account)
    call(key if outcome != Outcome.VENDOR_401 else other, outcome, job=job.id + 1, minutes_ago=0.1)

    page = as_person(manager).get(f"/jobs/{job.id}/why/", follow=True).content.decode()

    assert "No call is kept that explains this pause" in page


def test_refusal_at_a_form_names_no_worker_and_no_job_that_waits(key: KeyRecord) -> None:
    sees(key, "w1", "aaa")  # by now

    told = why(
        call(key, Outcome.SECRET_MISSING, status=None, worker="", message="No running worker finds it.")
    )

    assert told.cause.title == "No running worker found the secret"
    assert "When it was asked for" in told.cause.text
    assert list(told.cause.steps) == ["Start it again."]


def test_secret_that_one_worker_sees_is_not_missing_everywhere(key: KeyRecord) -> None:
    """Though that sight is newer than the call that was refused: another secret was placed there since."""
    sees(key, "wA", "", problem="ICYPEAS_API_KEY is not set.", changed=db_now() - timedelta(hours=3))
    refused = call(key, Outcome.SECRET_MISSING, status=None, worker="wA", minutes_ago=60)
    call(key, Outcome.OK, worker="wB", fingerprint="aaa", minutes_ago=30)
    sees(key, "wB", "bbb", changed=db_now() - timedelta(minutes=5))

    told = why(refused)

    assert told.cause.title == "1 of 2 workers have no secret"
    assert "wA finds nothing usable" in told.cause.text


def test_api_secret_that_is_not_named_any_more_is_not_asked_for(key: KeyRecord) -> None:
    refused = call(key, Outcome.SECRET_MISSING, status=None, message=f"{gate.NO_API_SECRET} x")

    told = why(refused)

    assert told.cause.title == "A worker found no API secret"
    assert "By now the account signs nothing." in told.cause.text
    assert not any("Place the secret at" in step for step in told.cause.steps)


@pytest.mark.parametrize("status", [302, 404, 405])
def test_answer_of_something_else_points_at_the_address(key: KeyRecord, status: int) -> None:
    told = why(call(key, Outcome.VENDOR_REJECTED, status=status, message="bulk-search: HTTP"))

    assert told.cause.title == "What answered does not know this call"
    assert f"HTTP {status}" in told.cause.text


def test_payment_that_is_required_is_no_bad_input(key: KeyRecord) -> None:
    told = why(call(key, Outcome.UNPAID, status=402, message="bulk-search: HTTP 402: Payment required"))

    assert told.cause.title == "The subscription is unpaid"
    assert "402, payment required" in told.cause.text

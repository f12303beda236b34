"""What changes at a key between two batches of a job holds from the next batch on: the sandbox is not called, the job
says why, and goes on once what is missing is granted. And what a key may not do makes no request, whichever way it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client
from django.utils import timezone

from enrichment.models import EnrichmentJob
from enrichment.services import reservations, submission
from enrichment.services.transitions import lock_job
from keys import budgets, hours, services
from keys.lifecycle import Step
from keys.models import Call, KeyRecord
from keys.services import KeySpec
from people.audit import Actor
from people.models import User
from tests import factories
from tests.fakes.engine import SPEED, Engine, assert_paid_once

AsPerson = Callable[[User], Client]


@pytest.fixture
def admin(engine: Engine) -> User:
    return factories.make_user(name="Mira Okafor", role="key_admin")


def half_sent(engine: Engine, settings: Any) -> EnrichmentJob:
    """A job of six rows with two of them at Icypeas, whose clock stands still."""
    settings.BATCH_ROWS, settings.BATCHES_IN_FLIGHT = 2, 1
    engine.switch(speed=0)
    job = engine.start(6)
    while job.rows_in_flight < 2:
        engine.step(job)
    return job


def change(admin: User, key: KeyRecord, **changes: Any) -> None:
    """The edit form's service, with a few fields changed."""
    key.refresh_from_db()
    spec = {
        "environment": key.environment,
        "system": key.system,
        "label": key.label,
        "owner": key.owner,
        "deputy": key.deputy,
        "team": key.team,
        "purpose": key.purpose,
        "scopes": key.scopes,
        "secret_ref": key.secret_ref,
        "account": key.account.name,
        "daily_cap": key.daily_cap,
        "rotate_by": key.rotate_by,
        "expires_at": key.expires_at,
        "hours": hours.of(key),
        **changes,
    }
    services.change_key(Actor(admin), key, KeySpec(**spec), reason="a test of what follows")


def scope_removed(admin: User, key: KeyRecord) -> None:
    change(admin, key, scopes=["email-search:bulk"])


def scope_granted(admin: User, key: KeyRecord) -> None:
    change(admin, key, scopes=["email-search:bulk", "email-verification:bulk"])


def quarantined(admin: User, key: KeyRecord) -> None:
    services.change_state(Actor(admin), key, Step.QUARANTINE, reason="odd calls at night")


def released(admin: User, key: KeyRecord) -> None:
    services.change_state(Actor(admin), key, Step.RELEASE, reason="they were ours")


def revoked(admin: User, key: KeyRecord) -> None:
    services.change_state(Actor(admin), key, Step.REVOKE, reason="nobody needs it")


def cap_lowered(admin: User, key: KeyRecord) -> None:
    change(admin, key, daily_cap=Decimal("0.1"))


def cap_raised(admin: User, key: KeyRecord) -> None:
    change(admin, key, daily_cap=Decimal(100))


def budget_lowered(admin: User, key: KeyRecord, credits: str = "0.1") -> None:
    budgets.set_budget(
        Actor(admin),
        key=key,
        first_month=timezone.localdate().replace(day=1),
        credits=Decimal(credits),
        reason="a test of what follows",
    )


def budget_raised(admin: User, key: KeyRecord) -> None:
    budget_lowered(admin, key, "100")


def environment_changed(admin: User, key: KeyRecord) -> None:
    # No service does this, a key of another environment is another record: the gate would still notice.
    KeyRecord.objects.filter(id=key.id).update(environment="dev")


def environment_restored(admin: User, key: KeyRecord) -> None:
    KeyRecord.objects.filter(id=key.id).update(environment="sandbox")


def expired(admin: User, key: KeyRecord) -> None:
    yesterday = timezone.localdate() - timedelta(days=1)
    change(admin, key, expires_at=yesterday)


def renewed(admin: User, key: KeyRecord) -> None:
    services.renew_key(Actor(admin), key, expires_at=None, reason="still in use")


@dataclass(frozen=True)
class Case:
    """A change, what grants it again, the words of the pause, and whether answers are still read meanwhile."""

    change: Callable[[User, KeyRecord], None]
    grant: Callable[[User, KeyRecord], None]
    said: str
    reads: bool


CASES = {
    "scope-removed": Case(
        scope_removed,
        scope_granted,
        "sandbox_lists_ops does not have the scope email-verification:bulk. Mira Okafor can grant it.",
        reads=True,
    ),
    "quarantined": Case(
        quarantined,
        released,
        "sandbox_lists_ops is quarantined, so it lets nothing out. Mira Okafor can change that.",
        reads=False,
    ),
    "cap-lowered": Case(
        cap_lowered, cap_raised, "The daily cap of sandbox_lists_ops is 0.1 credits", reads=True
    ),
    "budget-lowered": Case(budget_lowered, budget_raised, "Mira Okafor can raise it.", reads=True),
    "environment-changed": Case(
        environment_changed,
        environment_restored,
        "sandbox_lists_ops belongs to dev, and this is sandbox work. Choose a key of sandbox.",
        reads=False,
    ),
    "expired": Case(expired, renewed, "Mira Okafor can renew it.", reads=False),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_change_between_two_batches_stops_the_next_one_says_why_and_goes_on_after_the_grant(
    engine: Engine, settings: Any, admin: User, as_person: AsPerson, case: Case
) -> None:
    job = half_sent(engine, settings)
    case.change(admin, engine.key)
    engine.switch(speed=SPEED)
    before = engine.sandbox.state()["requests"]

    engine.run(job)

    assert engine.sent() == 1  # the batch before the change, and none after it
    if not case.reads:
        assert engine.sandbox.state()["requests"] == before
    assert job.state == "paused"
    assert job.rows_waiting == 4
    assert case.said in job.state_text
    refusal = Call.objects.filter(job=job.id, outcome__startswith="policy_").latest("id")
    assert (refusal.fingerprint, refusal.status) == ("", None)
    page = as_person(engine.person).get(f"/jobs/{job.id}/").content.decode()
    assert case.said in page
    assert "4 rows wait" in page

    case.grant(admin, engine.key)
    submission.resume_job(Actor(engine.person), job.id)
    engine.run(job)

    assert (job.state, job.rows_answered) == ("completed", 6)
    assert_paid_once(engine.sandbox, times=6)


def test_revoked_between_two_batches_stops_the_next_one_for_good(
    engine: Engine, settings: Any, admin: User, as_person: AsPerson
) -> None:
    job = half_sent(engine, settings)
    revoked(admin, engine.key)
    engine.switch(speed=SPEED)
    before = engine.sandbox.state()["requests"]

    engine.run(job)
    submission.resume_job(Actor(engine.person), job.id)
    engine.run(job)

    assert engine.sandbox.state()["requests"] == before
    assert (job.state, job.rows_waiting) == ("paused", 4)
    said = "sandbox_lists_ops is revoked for good, so it lets nothing out. Start again with another key; Mira Okafor can make one."
    assert said in as_person(engine.person).get(f"/jobs/{job.id}/").content.decode()


def test_rename_between_two_batches_changes_nothing_for_the_job(
    engine: Engine, settings: Any, admin: User
) -> None:
    job = half_sent(engine, settings)
    services.rename_key(Actor(admin), engine.key, system="outbound", label="ops", reason="a better name")
    engine.switch(speed=SPEED)

    engine.run(job)

    assert (job.state, job.rows_answered) == ("completed", 6)
    assert_paid_once(engine.sandbox, times=6)
    assert Call.objects.filter(job=job.id).exclude(key=engine.key).count() == 0


def test_hours_refuse_nothing(engine: Engine, settings: Any, admin: User) -> None:
    yesterday = str((timezone.now() - timedelta(days=1)).isoweekday())
    change(admin, engine.key, hours=hours.Hours(days=yesterday))

    job = engine.run(engine.start(3))

    engine.key.refresh_from_db()
    assert (job.state, job.rows_answered) == ("completed", 3)
    assert hours.outside(engine.key).calls > 0


# --- a kind of job that the key may not do -------------------------------------------------------------------------------


@pytest.fixture
def narrow(engine: Engine, admin: User) -> KeyRecord:
    """A key for finding e-mails only."""
    scope_removed(admin, engine.key)
    engine.key.refresh_from_db()
    return engine.key


SAID = "sandbox_lists_ops does not have the scope {}. Mira Okafor can grant it."


def assert_nothing_was_called(engine: Engine) -> None:
    assert engine.sandbox.state()["requests"] == {}


def test_list_outside_the_scopes_makes_no_request_also_through_a_post_past_the_form(
    engine: Engine, narrow: KeyRecord, as_person: AsPerson
) -> None:
    job = engine.draft(3)
    told = {"key": narrow.id, "freshness_days": "90", "purpose": "Spring", "token": job.start_token}

    page = as_person(engine.person).post(f"/jobs/{job.id}/start/", told)

    job.refresh_from_db()
    assert (page.status_code, job.state) == (422, "draft")
    assert SAID.format("email-verification:bulk") in page.content.decode()
    assert_nothing_was_called(engine)
    call = Call.objects.get()
    assert (call.outcome, call.scope, call.job) == ("policy_scope", "email-verification:bulk", job.id)


def test_look_up_outside_the_scopes_makes_no_request_also_through_a_post_past_the_form(
    engine: Engine, narrow: KeyRecord, as_person: AsPerson
) -> None:
    told = {
        "key": narrow.id,
        "token": submission.new_token(),
        "purpose": "",
        "use_known": "on",
        "email": "ann@x.example",
    }

    page = as_person(engine.person).post("/lookup/email-verification/", told)

    assert page.status_code == 422
    assert SAID.format("email-verification:single") in page.content.decode()
    assert not EnrichmentJob.objects.exists()
    assert_nothing_was_called(engine)
    call = Call.objects.get()
    assert (call.outcome, call.scope, call.job) == ("policy_scope", "email-verification:single", None)
    assert (call.person, call.job_text) == (engine.person.name, "")


def test_enrich_outside_the_scopes_makes_no_request(
    engine: Engine, narrow: KeyRecord, tmp_path: Path
) -> None:
    source = tmp_path / "list.csv"
    source.write_text("email\nann@x.example\n")

    with pytest.raises(CommandError, match=SAID.format("email-verification:bulk")) as refused:
        call_command(
            "enrich", str(source), "--operation", "email-verification", "--key", narrow.name, "--yes"
        )

    assert refused.value.returncode == 1
    assert_nothing_was_called(engine)


def test_job_that_got_past_every_form_makes_no_request_and_says_which_scope_is_missing(
    engine: Engine, admin: User
) -> None:
    job = engine.start(3)
    scope_removed(admin, engine.key)

    engine.run(job)

    assert (job.state, job.rows_waiting) == ("paused", 3)
    assert SAID.format("email-verification:bulk") in job.state_text
    assert_nothing_was_called(engine)


def test_refused_resumption_of_a_look_up_does_not_name_whom_it_asks_for(engine: Engine, admin: User) -> None:
    job = submission.look_up(
        Actor(engine.person),
        operation="email-verification",
        told={"email": "secret.person@private.example"},
        key=engine.key,
        purpose="",
        freshness_days=90,
        token=submission.new_token(),
    )
    submission.pause_job(Actor(engine.person), job.id)
    with transaction.atomic():  # as after a long pause
        paused = lock_job(job.id)
        EnrichmentJob.objects.filter(id=job.id).update(holds_reservation=False)
        paused.holds_reservation = False
        reservations.trim(paused)
    change(admin, engine.key, daily_cap=Decimal("0.1"))
    engine.start(["a@x.example"])  # which takes all of it

    with pytest.raises(submission.SubmissionError):
        submission.resume_job(Actor(engine.person), job.id)

    call = Call.objects.get(outcome="policy_budget")
    assert (call.job, call.worker) == (job.id, "")
    assert "private.example" not in call.job_text
    assert call.job_text

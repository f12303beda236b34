from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from enrichment.models import EnrichmentJob
from enrichment.services import submission
from keys import ledger
from keys.models import Call, JobUse, KeyRecord, LedgerEntry
from people.audit import Actor
from people.models import AuditEntry
from tests import factories
from tests.fakes.engine import SPEED, Engine, assert_paid_once, paid_inputs


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Start each work in a thread of its own at the same instant; what each returned or raised."""
    barrier = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)

    def run(place: int, work: Callable[[], Any]) -> None:
        try:
            barrier.wait(10)
            results[place] = work()
        except Exception as error:
            results[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(place, work)) for place, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def look_up(engine: Engine, token: str, email: str = "ann@sbx-found.example") -> EnrichmentJob:
    return submission.look_up(
        Actor(engine.person),
        operation="email-verification",
        told={"email": email},
        key=engine.key,
        purpose="",
        freshness_days=90,
        token=token,
    )


# --- starting --------------------------------------------------------------------------------------------------------


def test_start_reserves_the_most_it_can_cost_and_rings_once(engine: Engine) -> None:
    job = engine.start(["a@x.example", "a@x.example", "b@x.example", "no address"])

    assert (job.state, job.realm, job.environment) == ("queued", "sandbox", "sandbox")
    assert ledger.job_sums(job.id) == ledger.JobSums(reserved=Decimal("0.2"))
    assert engine.wakes == [("run_job", job.id, "work")]
    entry = AuditEntry.objects.get(action="job.started")
    assert (entry.actor, entry.object_id, entry.reason) == (engine.person, job.id, "Spring campaign")


def test_start_twice_with_one_token_reserves_once(engine: Engine) -> None:
    draft = engine.draft(3)

    first, second = engine.begin(draft), engine.begin(draft)

    assert first == second
    assert LedgerEntry.objects.count() == 1
    assert len(engine.wakes) == 1


def test_start_in_two_tabs_at_once_reserves_once(engine: Engine) -> None:
    draft = engine.draft(3)

    results = at_once(lambda: engine.begin(draft), lambda: engine.begin(draft), lambda: engine.begin(draft))

    assert results == [draft, draft, draft]
    assert LedgerEntry.objects.count() == 1
    assert AuditEntry.objects.filter(action="job.started").count() == 1


def test_of_two_jobs_started_at_once_only_one_gets_the_last_credits(engine: Engine) -> None:
    engine.account.balance = Decimal(10)
    engine.account.save()
    drafts = [engine.draft(factories.addresses(80, stem=stem)) for stem in ("ann", "bob")]

    results = at_once(*(lambda draft=draft: engine.begin(draft) for draft in drafts))

    refused = [result for result in results if isinstance(result, submission.SubmissionError)]
    assert len(refused) == 1, results
    assert "can cost 8 credits and 2 are available on Sandbox" in refused[0].message
    assert "enough for 20 rows" in refused[0].message
    assert sorted(EnrichmentJob.objects.values_list("state", flat=True)) == ["draft", "queued"]
    assert LedgerEntry.objects.count() == 1


def test_start_is_refused_above_the_daily_cap(engine: Engine) -> None:
    engine.key.daily_cap = Decimal("0.5")
    engine.key.save()
    engine.start(3)

    with pytest.raises(submission.SubmissionError, match=r"daily cap of sandbox_lists_ops leaves 0\.2"):
        engine.start(factories.addresses(3, stem="bob"))


def test_cancelled_job_gives_its_share_of_the_daily_cap_back(engine: Engine) -> None:
    engine.key.daily_cap = Decimal("0.5")
    engine.key.save()
    first = engine.start(4)

    submission.cancel_job(Actor(engine.person), first.id)

    assert engine.start(factories.addresses(5, stem="bob")).state == "queued"


def test_start_is_refused_above_the_limit_that_was_given(engine: Engine) -> None:
    draft = engine.draft(30)

    with pytest.raises(
        submission.SubmissionError, match="can cost 3 credits, and the limit given is 2"
    ) as told:
        engine.begin(draft, max_credits=Decimal(2))

    assert told.value.field == "max_credits"
    assert LedgerEntry.objects.count() == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scopes": ["email-search:bulk"]}, "does not have the scope email-verification:bulk"),
        ({"state": "quarantined"}, "is quarantined, so it lets nothing out"),
        ({"state": "revoked"}, "is revoked for good, so it lets nothing out"),
        ({"expires_at": "2020-01-01"}, "expired on 01 Jan 2020"),
    ],
    ids=["scope", "state", "revoked", "expired"],
)
def test_start_is_refused_with_a_key_that_may_not(
    engine: Engine, change: dict[str, Any], sentence: str
) -> None:
    key = factories.make_key(owner=engine.person, account=engine.account, **change)
    key.refresh_from_db()

    with pytest.raises(submission.SubmissionError, match=sentence) as told:
        engine.begin(engine.draft(3), key=key)

    assert told.value.field == "key"
    assert LedgerEntry.objects.count() == 0


def test_start_is_refused_with_a_key_of_an_environment_that_nobody_serves(
    engine: Engine, settings: Any
) -> None:
    settings.ENVIRONMENTS = ["prod"]

    with pytest.raises(submission.SubmissionError, match="does not serve sandbox keys"):
        engine.start(3)

    assert Call.objects.get().outcome == "policy_environment"


def refusals_of(key: KeyRecord) -> list[tuple[str, str, int | None, str, int]]:
    """What was refused to a key: outcome, scope, job, whose, and how many calls carried any rows."""
    calls = Call.objects.filter(key=key).order_by("id")
    return [(call.outcome, call.scope, call.job, call.person, call.rows) for call in calls]


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"scopes": ["leads:search"]}, "policy_scope"),
        ({"state": "quarantined"}, "policy_state"),
        ({"daily_cap": Decimal("0.1")}, "policy_budget"),
    ],
    ids=["scope", "state", "cap"],
)
def test_refused_start_is_a_call_of_the_key(engine: Engine, change: dict[str, Any], outcome: str) -> None:
    key = factories.make_key(owner=engine.person, account=engine.account, **change)
    draft = engine.draft(3)

    for _ in range(2):
        with pytest.raises(submission.SubmissionError):
            engine.begin(draft, key=key)

    assert refusals_of(key) == [(outcome, "email-verification:bulk", draft.id, "Ira Quist", 0)] * 2
    assert JobUse.objects.get().refused == 2
    key.refresh_from_db()
    assert key.last_used_at is None


def test_start_that_something_else_stops_is_no_refusal_of_the_key(engine: Engine) -> None:
    engine.account.balance = Decimal(0)
    engine.account.save()

    for order in ({"purpose": ""}, {"max_credits": Decimal(0)}, {}):
        with pytest.raises(submission.SubmissionError):
            engine.begin(engine.draft(3), **order)

    assert not Call.objects.exists()


def test_refused_look_up_is_a_call_that_does_not_say_who_was_looked_for(engine: Engine) -> None:
    engine.key.scopes = ["email-verification:bulk"]
    engine.key.save()

    with pytest.raises(submission.SubmissionError):
        look_up(engine, "token-1")

    assert refusals_of(engine.key) == [("policy_scope", "email-verification:single", None, "Ira Quist", 0)]
    assert Call.objects.get().job_text == ""


@pytest.mark.parametrize(
    ("order", "field"),
    [
        ({"purpose": "  "}, "purpose"),
        ({"purpose": "x" * 301}, "purpose"),
        ({"freshness_days": -1}, "freshness_days"),
        ({"freshness_days": 99_999}, "freshness_days"),
        ({"token": "of another page"}, ""),
    ],
)
def test_start_is_refused_when_the_form_is_wrong(engine: Engine, order: dict[str, Any], field: str) -> None:
    with pytest.raises(submission.SubmissionError) as told:
        engine.start(3, **order)

    assert told.value.field == field
    assert LedgerEntry.objects.count() == 0


def test_start_is_refused_when_no_row_can_be_asked(engine: Engine) -> None:
    with pytest.raises(submission.SubmissionError, match="No row of this list can be asked"):
        engine.start(["nothing", "at all"])


def test_start_is_refused_before_the_rows_are_checked(engine: Engine) -> None:
    draft = engine.draft(3, is_checked=False)

    with pytest.raises(submission.SubmissionError, match="not checked yet"):
        engine.begin(draft)


def test_broker_that_is_away_does_not_keep_a_job_from_starting(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(submission.tasks.run_job, "apply_async", fail)

    job = engine.start(3)

    assert job.state == "queued"
    assert "no wake-up" in caplog.text


# --- the same list again ---------------------------------------------------------------------------------------------


def test_same_file_again_is_handed_out_and_not_run(engine: Engine) -> None:
    first = engine.run(engine.start(3))

    with pytest.raises(submission.SameFileError) as told:
        engine.start(3)

    assert told.value.job == first
    assert ledger.job_sums(EnrichmentJob.objects.latest("id").id).reserved == 0


def test_insisting_on_the_same_file_costs_nothing_because_all_is_known(engine: Engine) -> None:
    first = engine.run(engine.start(3))

    second = engine.run(engine.start(3, is_again=True))

    assert (second.state, second.rows_cached) == ("completed", 3)
    assert first.useful_results == first.rows_found
    assert (second.rows_found, second.useful_results) == (0, first.useful_results)
    assert ledger.job_sums(second.id).charged == 0
    assert_paid_once(engine.sandbox, times=3)
    verdicts = [list(job.rows.values_list("answer", flat=True)) for job in (first, second)]
    assert verdicts[0] == verdicts[1]


def test_freshness_of_no_days_asks_again(engine: Engine) -> None:
    engine.run(engine.start(3))

    second = engine.run(engine.start(3, is_again=True, freshness_days=0))

    assert second.rows_cached == 0
    assert set(paid_inputs(engine.sandbox).values()) == {2}


def test_answers_of_the_sandbox_are_not_known_to_a_real_key(engine: Engine) -> None:
    engine.run(engine.start(3))
    real = factories.make_key(owner=engine.person, environment="prod")

    job = engine.begin(engine.draft(3), key=real, is_again=True)

    assert job.realm == "live"
    assert ledger.job_sums(job.id).reserved == Decimal("0.3")


def test_same_file_with_another_key_is_another_run(engine: Engine) -> None:
    engine.run(engine.start(3))
    other = factories.make_key(owner=engine.person, account=engine.account)

    assert engine.begin(engine.draft(3), key=other).state == "queued"


# --- looking up ------------------------------------------------------------------------------------------------------


def test_look_up_rings_on_the_urgent_queue_and_needs_no_purpose(engine: Engine) -> None:
    job = look_up(engine, "token-1")

    assert (job.mode, job.state) == ("single", "queued")
    assert engine.wakes == [("run_job", job.id, "urgent")]


def test_look_up_twice_with_one_token_is_one_job(engine: Engine) -> None:
    results = at_once(*[lambda: look_up(engine, "token-1")] * 3)

    assert len({result.id for result in results}) == 1, results
    assert EnrichmentJob.objects.count() == 1
    assert LedgerEntry.objects.count() == 1


def test_look_up_of_what_cannot_be_asked_is_refused_and_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(submission.SubmissionError, match="cannot be an email address"):
        look_up(engine, "token-1", email="no address")

    assert EnrichmentJob.objects.count() == 0


def test_look_up_with_a_key_for_lists_only_is_refused_and_leaves_nothing(engine: Engine) -> None:
    engine.key.scopes = ["email-verification:bulk"]
    engine.key.save()

    with pytest.raises(submission.SubmissionError, match="email-verification:single"):
        look_up(engine, "token-1")

    assert EnrichmentJob.objects.count() == 0


def test_look_up_of_a_known_answer_costs_nothing(engine: Engine) -> None:
    engine.run(engine.start(["ann@sbx-found.example"]))

    job = engine.run(look_up(engine, "token-1"))

    assert job.rows_cached == 1
    assert engine.sent("/email-verification") == 0


# --- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [submission.pause_job, submission.resume_job, submission.cancel_job])
def test_finished_job_stays_as_it_is_whatever_is_pressed(engine: Engine, change: Any) -> None:
    job = engine.run(engine.start(2))
    entries = AuditEntry.objects.count()

    change(Actor(engine.person), job.id)

    job.refresh_from_db()
    assert job.state == "completed"
    assert AuditEntry.objects.count() == entries


def test_draft_is_discarded_without_a_trace_in_the_ledger(engine: Engine) -> None:
    draft = engine.draft(3)

    submission.cancel_job(Actor(engine.person), draft.id)

    draft.refresh_from_db()
    assert draft.state == "cancelled"
    assert LedgerEntry.objects.count() == 0
    assert AuditEntry.objects.latest("id").action == "job.discarded"


def test_each_stop_and_go_is_written_down_with_its_person(engine: Engine) -> None:
    engine.switch(speed=0)
    job = engine.start(2)
    who = Actor(engine.person)

    submission.pause_job(who, job.id, reason="the list is wrong")
    submission.resume_job(who, job.id)
    submission.cancel_job(who, job.id, reason="not needed")

    trail = AuditEntry.objects.filter(object_id=job.id, object_type="enrichmentjob").order_by("id")
    assert [(entry.action, entry.reason) for entry in trail] == [
        ("job.started", "Spring campaign"),
        ("job.paused", "the list is wrong"),
        ("job.resumed", ""),
        ("job.cancelled", "not needed"),
    ]
    assert [wake[0] for wake in engine.wakes] == ["run_job"] * 4
    engine.switch(speed=SPEED)


def test_pause_before_the_first_slice_keeps_the_reservation_and_sends_nothing(engine: Engine) -> None:
    job = engine.start(3)
    submission.pause_job(Actor(engine.person), job.id)
    engine.run(job)

    assert (job.state, job.rows_waiting) == ("paused", 3)
    assert Call.objects.count() == 0

    submission.resume_job(Actor(engine.person), job.id)
    engine.run(job)
    assert job.state == "completed"


@pytest.mark.django_db
def test_purpose_that_is_kept_while_it_is_typed_holds_no_nul() -> None:
    job = factories.make_job(1)

    submission.keep_purpose(job, "spring\0 campaign")

    assert EnrichmentJob.objects.get(id=job.id).purpose == "spring campaign"

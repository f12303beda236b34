"""What a person decides about uncertain batches: each act, who may, twice, at once, in time, and the books after it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from enrichment import tasks
from enrichment.choices import BatchState, RowState
from enrichment.models import Batch, EnrichmentJob, EnrichmentRow
from enrichment.services import decisions, submission
from enrichment.services.decisions import Act, Chosen, DecisionError
from keys import ledger
from keys.choices import KeyState
from keys.models import Call, KeyRecord, LedgerEntry
from people.audit import SYSTEM, Actor
from people.models import AuditEntry, User
from tests import factories
from tests.fakes.engine import Engine, assert_paid_once, books_fit, exported, paid_inputs

SUBMIT = "/bulk-search"
AsPerson = Callable[[User], Client]
WHY = "Support says that it never arrived"


def chosen_of(job: EnrichmentJob) -> list[Chosen]:
    return [Chosen(batch.id, batch.fence) for batch in decisions.uncertain_batches().filter(job=job)]


def decide(engine: Engine, job: EnrichmentJob, act: Act, **how: Any) -> EnrichmentJob:
    """Decide all uncertain batches of a job as the operator."""
    how = {"chosen": chosen_of(job), "reason": WHY, **how}
    submission.decide(Actor(engine.person), job.id, act, how["chosen"], reason=how["reason"])
    job.refresh_from_db()
    books_fit(job)
    return job


def uncertain(engine: Engine, rows: Any = 4) -> EnrichmentJob:
    """A finished job with one batch that never arrived."""
    engine.fault(SUBMIT, "reset_before")
    job = engine.run(engine.start(rows))
    assert (job.state, job.rows_uncertain) == ("completed", job.rows_total)
    return job


def uncertain_though_paid(engine: Engine, rows: Any = 4) -> EnrichmentJob:
    """A finished job with one batch that did arrive and was listed only after both looks."""
    engine.switch(visibility_lag_s=2_000)  # 10 s of ours
    engine.fault(SUBMIT, "reset_after_accept")
    job = engine.run(engine.start(rows))
    assert (job.state, job.rows_uncertain) == ("completed", job.rows_total)
    engine.switch(visibility_lag_s=0)
    return job


# --- look again ------------------------------------------------------------------------------------------------------------


def test_looking_again_finds_what_was_listed_late_and_pays_once(engine: Engine) -> None:
    job = uncertain_though_paid(engine)
    engine.wakes.clear()

    decide(engine, job, Act.LOOK_AGAIN)
    assert (job.state, job.rows_in_flight, job.finished_at) == ("running", 4, None)
    assert engine.wakes == [("run_job", job.id, "work")]
    engine.run(job)

    assert (job.state, job.rows_answered, job.rows_uncertain) == ("completed", 4, 0)
    assert engine.sent() == 1
    assert_paid_once(engine.sandbox, times=4)
    money = ledger.job_sums(job.id)
    assert (money.open, money.charged + money.released) == (0, money.reserved)


def test_looking_again_in_vain_is_uncertain_again_and_costs_nothing(engine: Engine) -> None:
    job = uncertain(engine)

    decide(engine, job, Act.LOOK_AGAIN)
    engine.run(job)

    batch = Batch.objects.get(job=job)
    assert (job.state, job.rows_uncertain) == ("completed", 4)
    assert (batch.state, batch.looks, batch.attempt) == (BatchState.UNCERTAIN, 2, 1)
    assert engine.sent() == 1
    assert engine.sandbox.charges() == []
    money = ledger.job_sums(job.id)
    assert (money.charged, money.released, money.open) == (0, 0, money.reserved)


def test_looking_again_reads_answers_with_an_unknown_status_anew(engine: Engine) -> None:
    job = engine.run(engine.start(["a@sbx-unknownstatus.example", "b@x.example"]))

    decide(engine, job, Act.LOOK_AGAIN)
    row = EnrichmentRow.objects.get(job=job, position=1)
    assert (row.state, row.answer, row.reason) == ("in_flight", None, "")
    engine.run(job)

    assert (job.state, job.rows_answered, job.rows_uncertain) == ("completed", 1, 1)
    assert engine.sent() == 1


def test_late_answer_reaches_the_job_that_left_the_question_to_the_first(engine: Engine) -> None:
    job = uncertain_though_paid(engine, ["a@x.example"])
    later = engine.run(engine.start(["a@x.example"], is_again=True))
    assert (later.state, later.rows_uncertain) == ("completed", 1)

    decide(engine, job, Act.LOOK_AGAIN)
    engine.run(job)

    later.refresh_from_db()
    books_fit(later)
    assert (later.rows_cached, later.rows_uncertain) == (1, 0)
    assert ledger.job_sums(later.id).charged == 0


def test_cancelled_job_looks_again_and_sends_nothing(engine: Engine) -> None:
    job = uncertain_though_paid(engine)
    EnrichmentJob.objects.filter(id=job.id).update(state="cancelled")

    decide(engine, job, Act.LOOK_AGAIN)
    assert job.state == "cancelling"
    engine.run(job)

    assert (job.state, job.rows_answered) == ("cancelled", 4)
    assert engine.sent() == 1


# --- accept as paid --------------------------------------------------------------------------------------------------------


def test_accepted_rows_end_as_failed_and_their_reservation_is_charged(engine: Engine) -> None:
    job = uncertain(engine)
    reserved = ledger.job_sums(job.id).reserved

    decide(engine, job, Act.ACCEPT)

    money = ledger.job_sums(job.id)
    assert (money.reserved, money.charged, money.released, money.open) == (reserved, reserved, 0, 0)
    assert (job.state, job.rows_failed, job.rows_uncertain) == ("completed", 4, 0)
    batch = Batch.objects.get(job=job)
    assert batch.state == BatchState.ACCEPTED
    assert not batch.busy_questions.exists()
    charge = LedgerEntry.objects.get(job=job.id, kind="charged")
    assert (charge.batch, charge.note) == (batch.id, "accepted_paid")
    line = exported(job).decode().splitlines()[1]
    assert ",failed,Nobody could find out what became of this row; it is booked as paid." in line
    assert ",0.1," in line
    entry = AuditEntry.objects.get(action="job.accepted_as_paid")
    assert (entry.actor, entry.reason, entry.detail) == (engine.person, WHY, {"batches": [1]})
    event = job.events.first()
    assert event is not None
    assert (event.person, event.text) == ("Ira Quist", f"Batch 1 is accepted as paid: {WHY}")


def test_question_that_was_accepted_may_be_asked_by_a_new_list(engine: Engine) -> None:
    job = uncertain(engine, ["a@x.example"])
    decide(engine, job, Act.ACCEPT)

    later = engine.run(engine.start(["a@x.example"], is_again=True))

    assert later.rows_answered == 1
    assert paid_inputs(engine.sandbox) == {("a@x.example",): 1}


def test_rows_left_to_another_job_end_when_its_question_comes_to_nothing(engine: Engine) -> None:
    job = uncertain(engine, ["a@x.example"])
    later = engine.run(engine.start(["a@x.example", "b@x.example"], is_again=True))
    assert decisions.end_rows_asked_elsewhere() == 0
    decide(engine, job, Act.ACCEPT)

    assert decisions.end_rows_asked_elsewhere() == 1

    later.refresh_from_db()
    books_fit(later)
    row = EnrichmentRow.objects.get(job=later, position=1)
    assert (row.state, row.reason_code, row.credits) == ("failed", "asked_elsewhere", 0)
    assert (later.rows_uncertain, later.rows_failed, later.rows_answered) == (0, 1, 1)


def test_duplicates_of_an_accepted_row_cost_nothing_more(engine: Engine) -> None:
    job = uncertain(engine, ["a@x.example", "A@x.example"])

    decide(engine, job, Act.ACCEPT)

    rows = EnrichmentRow.objects.filter(job=job).order_by("position")
    assert [row.credits for row in rows] == [job.price, 0]
    assert ledger.job_sums(job.id).charged == job.price


# --- send again ------------------------------------------------------------------------------------------------------------


def test_rows_that_are_sent_again_are_reserved_anew_and_the_first_time_counts_as_charged(
    engine: Engine,
) -> None:
    job = uncertain(engine)
    first = ledger.job_sums(job.id).reserved

    decide(engine, job, Act.SEND_AGAIN)

    money = ledger.job_sums(job.id)
    assert (money.reserved, money.charged, money.released, money.open) == (2 * first, first, 0, first)
    assert (job.state, job.rows_waiting) == ("running", 4)
    engine.run(job)
    assert (job.state, job.rows_answered) == ("completed", 4)
    assert engine.sent() == 2
    assert_paid_once(engine.sandbox, times=4)
    money = ledger.job_sums(job.id)
    assert money.open == 0
    assert first < money.charged <= 2 * first
    assert [batch.state for batch in Batch.objects.filter(job=job)] == [BatchState.ACCEPTED, BatchState.DONE]


def test_rows_that_were_paid_are_paid_at_most_once_more_for_each_time_that_a_person_says_so(
    engine: Engine,
) -> None:
    job = uncertain_though_paid(engine)

    decide(engine, job, Act.SEND_AGAIN)
    engine.run(job)

    assert job.rows_answered == 4
    assert set(paid_inputs(engine.sandbox).values()) == {2}
    books = ledger.job_sums(job.id)
    assert books.charged <= books.reserved
    assert books.reserved == 2 * job.estimate_max


def test_sending_again_without_enough_credits_changes_nothing(engine: Engine) -> None:
    job = uncertain(engine)
    engine.account.balance = Decimal("0.5")
    engine.account.save()
    before = list(LedgerEntry.objects.values_list("id", "kind", "credits"))

    with pytest.raises(DecisionError, match=r"0\.1 are available on Sandbox. Nothing was changed"):
        decide(engine, job, Act.SEND_AGAIN)

    assert list(LedgerEntry.objects.values_list("id", "kind", "credits")) == before
    job.refresh_from_db()
    assert (job.state, job.rows_uncertain) == ("completed", 4)
    assert not AuditEntry.objects.filter(action="job.sent_again").exists()


def test_key_that_is_quarantined_neither_sends_again_nor_looks(engine: Engine) -> None:
    job = uncertain(engine)
    KeyRecord.objects.filter(id=engine.key.id).update(state=KeyState.QUARANTINED)

    for act in (Act.SEND_AGAIN, Act.LOOK_AGAIN):
        with pytest.raises(DecisionError, match="is quarantined"):
            decide(engine, job, act)

    refused = Call.objects.filter(outcome="policy_state").order_by("id")
    assert list(refused.values_list("scope", "route")) == [
        ("email-verification:bulk", "bulk-search"),
        ("account:read", "files-read"),
    ]
    decide(engine, job, Act.ACCEPT)
    assert job.rows_failed == 4


def test_cancelled_job_sends_nothing_again(engine: Engine) -> None:
    job = uncertain(engine)
    EnrichmentJob.objects.filter(id=job.id).update(state="cancelled")

    with pytest.raises(DecisionError, match="This job is cancelled"):
        decide(engine, job, Act.SEND_AGAIN)


def test_paused_job_stays_paused_with_the_rows_waiting(engine: Engine) -> None:
    job = uncertain(engine)
    EnrichmentJob.objects.filter(id=job.id).update(state="paused", pause_reason="person")

    decide(engine, job, Act.SEND_AGAIN)
    engine.step(job)

    assert (job.state, job.rows_waiting) == ("paused", 4)
    assert engine.sent() == 1


# --- who, twice, at once, in time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", list(Act))
def test_reason_and_right_are_needed(engine: Engine, act: Act) -> None:
    job = uncertain(engine)
    viewer = factories.make_user(role="viewer")

    with pytest.raises(DecisionError, match="Say why"):
        decide(engine, job, act, reason="  ")
    for actor in (Actor(viewer), SYSTEM):
        with pytest.raises(DecisionError, match="Your role does not let you"):
            submission.decide(actor, job.id, act, chosen_of(job), reason=WHY)
    with pytest.raises(DecisionError, match="at least one"):
        decide(engine, job, act, chosen=[])

    job.refresh_from_db()
    books_fit(job)
    assert job.rows_uncertain == 4


@pytest.mark.parametrize("first", list(Act))
@pytest.mark.parametrize("second", list(Act))
def test_second_decision_from_the_same_page_changes_nothing(engine: Engine, first: Act, second: Act) -> None:
    job = uncertain(engine)
    seen = chosen_of(job)
    decide(engine, job, first, chosen=seen)
    if first == Act.LOOK_AGAIN:
        engine.run(job)  # uncertain again, and yet another page
    before = list(LedgerEntry.objects.values_list("id", "kind", "credits"))

    with pytest.raises(DecisionError, match="decided meanwhile"):
        decide(engine, job, second, chosen=seen)

    assert list(LedgerEntry.objects.values_list("id", "kind", "credits")) == before


def test_batch_of_another_job_is_not_decided_here(engine: Engine) -> None:
    job = uncertain(engine, ["a@x.example"])
    other = uncertain(engine, ["b@x.example"])

    with pytest.raises(DecisionError, match="decided meanwhile"):
        decide(engine, job, Act.ACCEPT, chosen=[*chosen_of(job), *chosen_of(other)])

    job.refresh_from_db()
    assert job.rows_uncertain == 1


def test_one_of_two_people_at_once_decides(engine: Engine) -> None:
    job = uncertain(engine)
    seen = chosen_of(job)
    first = ledger.job_sums(job.id).reserved
    start = threading.Barrier(2)
    ended: list[str] = []

    def press(act: Act) -> None:
        try:
            start.wait()
            submission.decide(Actor(engine.person), job.id, act, seen, reason=WHY)
            ended.append(act)
        except DecisionError:
            ended.append("refused")
        finally:
            connection.close()

    people = [threading.Thread(target=press, args=(act,)) for act in (Act.ACCEPT, Act.SEND_AGAIN)]
    for person in people:
        person.start()
    for person in people:
        person.join()

    assert len(ended) == 2
    assert ended.count("refused") == 1
    assert ledger.job_sums(job.id).charged == first
    books_fit(job)


def test_what_nobody_decided_in_fourteen_days_is_booked_as_charged_once(
    engine: Engine, settings: Any
) -> None:
    job = uncertain(engine)
    tasks.sweep_due()
    assert decisions.uncertain_batches().count() == 1
    batch = Batch.objects.get(job=job)
    assert batch.done_at is not None
    Batch.objects.filter(id=batch.id).update(
        done_at=batch.done_at - timedelta(days=settings.UNCERTAIN_ACCEPT_DAYS, minutes=1)
    )

    tasks.sweep_due()
    tasks.sweep_due()

    job.refresh_from_db()
    books_fit(job)
    money = ledger.job_sums(job.id)
    assert (money.charged, money.released, money.open) == (money.reserved, 0, 0)
    assert job.counts[RowState.FAILED] == 4
    event = job.events.first()
    assert event is not None
    assert event.text == "Batch 1 is accepted as paid: Nobody decided within 14 days"
    assert AuditEntry.objects.get(action="job.accepted_as_paid").actor is None
    assert engine.sent() == 1


# --- the page --------------------------------------------------------------------------------------------------------------


def page_url(job: EnrichmentJob) -> str:
    return reverse("enrichment:job_uncertain", args=[job.id])


def form_of(job: EnrichmentJob, act: str, **more: Any) -> dict[str, Any]:
    return {"batch": [str(one) for one in chosen_of(job)], "act": act, "reason": WHY, **more}


def test_page_lists_what_is_at_risk_and_the_job_leads_to_it(engine: Engine, as_person: AsPerson) -> None:
    job = uncertain(engine)
    client = as_person(engine.person)

    page = client.get(page_url(job))

    text = page.content.decode()
    assert page.status_code == 200
    assert "at most 0.4 credits" in text
    assert "Icypeas does not list it. It may have been charged." in text
    assert "the account&#x27;s list at Icypeas, 2 times" in text
    assert f'value="{chosen_of(job)[0]}" checked' in text
    assert page_url(job) in client.get(reverse("enrichment:job_detail", args=[job.id])).content.decode()


def test_page_is_closed_to_viewers_and_to_other_teams(engine: Engine, as_person: AsPerson) -> None:
    job = uncertain(engine)
    EnrichmentJob.objects.filter(id=job.id).update(team=factories.make_team())

    for method in ("get", "post"):
        call = getattr(as_person(factories.make_user(role="viewer")), method)
        refused = call(page_url(job), form_of(job, "accept"))
        assert refused.status_code == 403
        assert b"Your role does not let you" in refused.content
        stranger = as_person(factories.make_user(team=factories.make_team()))
        assert getattr(stranger, method)(page_url(job), form_of(job, "accept")).status_code == 404

    job.refresh_from_db()
    assert job.rows_uncertain == 4


def test_sending_again_is_asked_once_more_and_then_done(engine: Engine, as_person: AsPerson) -> None:
    job = uncertain(engine)
    client = as_person(engine.person)

    asked = client.post(page_url(job), form_of(job, "send_again"))

    assert asked.status_code == 200
    assert b"This may be paid twice." in asked.content
    assert b"<strong>0.4 more</strong>" in asked.content
    job.refresh_from_db()
    assert job.rows_uncertain == 4

    form = form_of(job, "send_again", is_confirmed="on")
    done = client.post(page_url(job), form)
    assert (done.status_code, done["Location"]) == (303, reverse("enrichment:job_detail", args=[job.id]))
    job.refresh_from_db()
    assert job.rows_waiting == 4

    twice = client.post(page_url(job), form)
    assert twice.status_code == 422
    assert b"decided meanwhile" in twice.content
    books_fit(job)


def test_accepting_names_the_credits_and_is_asked_once_more(engine: Engine, as_person: AsPerson) -> None:
    job = uncertain(engine)
    client = as_person(engine.person)
    assert b"Accept as paid, at most 0.4" in client.get(page_url(job)).content

    asked = client.post(page_url(job), form_of(job, "accept"))

    assert asked.status_code == 200
    text = asked.content.decode()
    assert "Accept 4 rows as paid?" in text
    assert "This cannot be taken back." in text
    assert "Accept 0.4 credits as paid" in text
    job.refresh_from_db()
    assert job.rows_uncertain == 4

    done = client.post(page_url(job), form_of(job, "accept", is_confirmed="on"))
    assert done.status_code == 303
    job.refresh_from_db()
    assert (job.rows_uncertain, job.rows_failed) == (0, 4)
    books_fit(job)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"reason": " "}, b"Say why"),
        ({"batch": []}, b"at least one batch"),
        ({"batch": ["1-x"]}, b"out of date"),
        ({"act": "burn"}, b"Nothing was decided"),
    ],
    ids=["reason", "no batch", "bad batch", "bad act"],
)
def test_form_says_what_is_missing(
    engine: Engine, as_person: AsPerson, change: dict[str, Any], complaint: bytes
) -> None:
    job = uncertain(engine)

    page = as_person(engine.person).post(page_url(job), {**form_of(job, "accept"), **change})

    assert page.status_code == 422
    assert complaint in page.content
    job.refresh_from_db()
    assert job.rows_uncertain == 4


def test_page_without_uncertain_batches_says_so(engine: Engine, as_person: AsPerson) -> None:
    job = uncertain(engine, ["a@x.example"])
    later = engine.run(engine.start(["a@x.example"], is_again=True))
    client = as_person(engine.person)

    assert b"decided together with the job that asked" in client.get(page_url(later)).content
    decide(engine, job, Act.ACCEPT)
    assert b"No batch of this job is uncertain." in client.get(page_url(job)).content


def test_rows_that_are_sent_again_stay_covered_after_a_reservation_was_given_back(
    engine: Engine, settings: Any
) -> None:
    settings.BATCH_ROWS = 2
    engine.fault(SUBMIT, "reset_before", times=2)
    job = engine.run(engine.start(4))
    assert (job.rows_uncertain, Batch.objects.filter(job=job).count()) == (4, 2)
    EnrichmentJob.objects.filter(id=job.id).update(holds_reservation=False)  # as after a long pause

    decide(engine, job, Act.SEND_AGAIN)
    while not job.is_finished:
        engine.step(job)
        assert ledger.job_sums(job.id).open >= 0

    assert job.rows_answered == job.rows_total

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from enrichment.choices import BatchState
from enrichment.models import Answer, Batch, BatchItem, EnrichmentRow, Question
from enrichment.providers.base import ItemState, ProviderItem, Verdict
from enrichment.services import answers, batching, reservations
from keys import ledger
from people.models import User
from tests.fakes.engine import Engine, books_fit

AsPerson = Callable[[User], Client]


def batch_of(engine: Engine, lines: list[str], operation: str = "email-verification") -> Batch:
    """A batch at Icypeas whose answers this test writes itself, leased to this worker."""
    engine.switch(speed=0)
    job = engine.begin(engine.draft(lines, operation=operation))
    while not job.rows_in_flight:
        engine.step(job)
    batch = batching.claim(Batch.objects.get(job=job).id, BatchState.SENT, BatchState.COLLECTING)
    assert batch is not None
    return batch


def item(batch: Batch, place: int, **changes: Any) -> ProviderItem:
    """What Icypeas says to the question at that place of the batch: deliverable, and charged."""
    own = BatchItem.objects.filter(batch=batch).order_by("id")[place]
    usual = ProviderItem(
        provider_id=f"p{place}",
        external_id=own.external_id,
        state=ItemState.FINAL,
        raw_status="FOUND",
        verdict=Verdict.DELIVERABLE,
        result={"certainty": "ultra_sure"},
        is_charged=True,
        raw={"_id": f"p{place}"},
    )
    return replace(usual, **changes)


PEOPLE = ["first name,last name,company", "Ann,Berg,x.example", "Bob,Falk,y.example"]


def test_page_answers_its_rows_and_books_their_price(engine: Engine) -> None:
    batch = batch_of(engine, ["a@x.example", "b@x.example", "a@x.example"])

    settled = answers.record_items(
        batch, [item(batch, 1), item(batch, 0, verdict=Verdict.UNDELIVERABLE, raw_status="DEBITED")]
    )

    assert settled == 2
    rows = EnrichmentRow.objects.filter(job=batch.job).order_by("position")
    assert [row.state for row in rows] == ["not_found", "found", "cached"]
    assert [row.answer.verdict for row in rows if row.answer] == [
        "undeliverable",
        "deliverable",
        "undeliverable",
    ]
    assert [row.credits for row in rows] == [Decimal("0.1"), Decimal("0.1"), Decimal(0)]
    assert ledger.job_sums(batch.job_id).charged == Decimal("0.2")
    books_fit(batch.job)


def test_second_page_with_the_same_items_changes_nothing(engine: Engine) -> None:
    batch = batch_of(engine, ["a@x.example", "b@x.example"])
    answers.record_items(batch, [item(batch, 0)])

    settled = answers.record_items(batch, [item(batch, 0, verdict=Verdict.UNDELIVERABLE)])

    assert settled == 0
    assert Answer.objects.get().verdict == "deliverable"
    assert ledger.job_sums(batch.job_id).charged == Decimal("0.1")


def test_same_item_twice_on_one_page_counts_once(engine: Engine) -> None:
    batch = batch_of(engine, ["a@x.example", "b@x.example"])

    settled = answers.record_items(batch, [item(batch, 0), item(batch, 0, provider_id="other")])

    assert settled == 1
    assert Answer.objects.get().provider_id == "p0"


@pytest.mark.parametrize("where", ["on one page", "on a later page"])
@pytest.mark.parametrize(
    "changes",
    [
        {"provider_id": "q0", "raw": {"_id": "q0", "status": "NOT_FOUND"}},
        {"verdict": Verdict.UNDELIVERABLE, "raw": {"_id": "p0", "status": "NOT_FOUND"}},
        {"state": ItemState.BAD_INPUT, "provider_id": "q0", "raw": {"_id": "q0", "status": "NOT_FOUND"}},
    ],
    ids=["other id", "other verdict", "never ran"],
)
def test_second_answer_that_differs_is_kept_and_told_and_changes_nothing(
    engine: Engine, as_person: AsPerson, where: str, changes: dict[str, Any]
) -> None:
    batch = batch_of(engine, ["a@x.example", "b@x.example"])
    first, second = item(batch, 0), item(batch, 0, **changes)
    pages = [[first, second]] if where == "on one page" else [[first], [second], [second], [first]]

    assert [answers.record_items(batch, page) for page in pages] == [1, 0, 0, 0][: len(pages)]

    assert Answer.objects.get().verdict == "deliverable"
    assert ledger.job_sums(batch.job_id).charged == Decimal("0.1")
    assert BatchItem.objects.filter(batch=batch).order_by("id")[0].other == changes["raw"]
    assert batch.job.events.filter(text__contains="twice and not alike").count() == 1
    books_fit(batch.job)
    person = as_person(engine.person)
    receipt = person.get(f"/jobs/{batch.job_id}/rows/1/").content.decode()
    assert "answered this row twice and not alike" in receipt
    assert person.get(f"/jobs/{batch.job_id}/raw/1/?second").json() == changes["raw"]
    assert person.get(f"/jobs/{batch.job_id}/raw/1/").json() == {"_id": "p0"}
    assert "twice" not in person.get(f"/jobs/{batch.job_id}/rows/2/").content.decode()


def test_same_answer_again_is_no_contradiction(engine: Engine) -> None:
    batch = batch_of(engine, ["a@x.example"])

    for status in ("FOUND", "FOUND", "DEBITED"):
        answers.record_items(batch, [item(batch, 0, raw_status=status)])

    assert BatchItem.objects.get(batch=batch).other is None


@pytest.mark.parametrize(
    "stranger",
    [{"external_id": "of-another-batch"}, {"external_id": ""}, {"state": ItemState.PENDING}],
    ids=["foreign", "without id", "pending"],
)
def test_item_that_is_not_ours_or_not_done_is_left_alone(engine: Engine, stranger: dict[str, Any]) -> None:
    batch = batch_of(engine, ["a@x.example"])

    assert answers.record_items(batch, [item(batch, 0, **stranger)]) == 0

    assert answers.unsettled(batch) == 1
    assert EnrichmentRow.objects.get(job=batch.job).state == "in_flight"


@pytest.mark.parametrize(
    ("changes", "charged", "state"),
    [
        ({"verdict": Verdict.FOUND}, 1, "found"),
        ({"verdict": Verdict.NOT_FOUND, "is_charged": None, "raw_status": "NOT_FOUND"}, 0, "not_found"),
        ({"verdict": Verdict.NOT_FOUND, "raw_status": "DEBITED"}, 1, "not_found"),
    ],
    ids=["found", "empty is free", "explicit word wins"],
)
def test_search_is_charged_as_its_status_says_and_else_only_when_found(
    engine: Engine, changes: dict[str, Any], charged: int, state: str
) -> None:
    batch = batch_of(engine, PEOPLE, "email-search")

    answers.record_items(batch, [item(batch, 0, **changes)])

    money = ledger.job_sums(batch.job_id)
    assert (money.charged, money.released) == (charged, 1 - charged)
    assert EnrichmentRow.objects.get(job=batch.job, position=1).state == state


def test_verification_without_a_word_on_its_cost_is_charged(engine: Engine) -> None:
    batch = batch_of(engine, ["a@x.example"])

    answers.record_items(
        batch, [item(batch, 0, is_charged=None, verdict=Verdict.UNDELIVERABLE, raw_status="NOT_FOUND")]
    )

    assert ledger.job_sums(batch.job_id).charged == Decimal("0.1")


def test_stale_fence_writes_nothing(engine: Engine) -> None:
    batch = batch_of(engine, ["a@x.example"])
    Batch.objects.filter(id=batch.id).update(fence=batch.fence + 1)

    with pytest.raises(answers.LostLeaseError):
        answers.record_items(batch, [item(batch, 0)])

    assert not Answer.objects.exists()
    assert ledger.job_sums(batch.job_id).charged == 0


def test_batch_with_every_answer_is_done_and_its_questions_are_free(engine: Engine) -> None:
    batch = batch_of(engine, ["a@x.example", "b@x.example"])
    answers.record_items(batch, [item(batch, 0), item(batch, 1)])

    answers.close(batch)

    assert Batch.objects.get(id=batch.id).state == BatchState.DONE
    assert not Question.objects.filter(busy_batch__isnull=False).exists()


def test_batch_with_an_unclear_row_ends_uncertain_and_keeps_its_question(engine: Engine) -> None:
    batch = batch_of(engine, ["a@x.example", "b@x.example"])
    answers.record_items(batch, [item(batch, 0, is_known=False, raw_status="ON_REVIEW"), item(batch, 1)])

    answers.close(batch)

    assert Batch.objects.get(id=batch.id).state == BatchState.UNCERTAIN
    assert Question.objects.get(busy_batch=batch).inputs == {"email": "a@x.example"}
    assert not Question.objects.filter(busy_batch=batch, latest_answer__isnull=False).exists()


def test_cost_at_risk_counts_rows_at_icypeas_and_uncertain_ones(engine: Engine) -> None:
    batch = batch_of(engine, ["a@x.example", "b@x.example", "c@x.example"])
    assert reservations.at_risk(batch.job) == Decimal("0.3")

    answers.record_items(batch, [item(batch, 0), item(batch, 1, is_known=False)])

    assert reservations.at_risk(batch.job) == Decimal("0.2")

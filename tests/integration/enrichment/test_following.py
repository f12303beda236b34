"""What was sent for one row and answers later: how it is found again, how often it is looked for, and what lists lose by it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from enrichment.choices import BatchState
from enrichment.models import Batch, BatchItem, EnrichmentJob
from enrichment.providers.base import BulkRequest, ItemPage, ItemState, ProviderItem
from enrichment.providers.icypeas.provider import IcypeasProvider
from enrichment.services import decisions, looking, reads, send_path, submission
from keys import ledger
from keys.clock import db_now
from keys.models import Account, Breaker, Call, RateSlot
from people.audit import Actor
from tests.fakes.engine import Engine, paid_credits, paid_inputs
from tests.fakes.sandbox_process import USER_ID


def look_up(engine: Engine, operation: str = "email-search", **told: str) -> EnrichmentJob:
    return submission.look_up(
        Actor(engine.person),
        operation=operation,
        told=told or {"first_name": "Ann", "last_name": "Lee", "domain": "sbx-found.example"},
        key=engine.key,
        purpose="one",
        freshness_days=0,
        token=submission.new_token(),
    )


def stuck_look_up(engine: Engine) -> EnrichmentJob:
    return look_up(engine, first_name="Ann", last_name="Lee", domain="sbx-stuck.example")


def looks(job: EnrichmentJob) -> int:
    return Call.objects.filter(job=job.id, route="items-read").count()


def test_search_that_is_listed_without_its_external_id_is_found_by_its_own(engine: Engine) -> None:
    engine.switch(bare_singles=True)

    job = engine.run(look_up(engine))

    assert (job.state, job.rows_found) == ("completed", 1)
    assert looks(job) <= 3


@pytest.mark.parametrize("is_bare", [False, True])
def test_reverse_look_up_that_has_only_begun_is_followed_to_its_answer(engine: Engine, is_bare: bool) -> None:
    engine.switch(lookups_later=True, bare_singles=is_bare)

    job = engine.run(look_up(engine, "reverse-lookup", email="ann@sbx-found.example"))

    assert (job.state, job.rows_found, job.rows_uncertain) == ("completed", 1, 0)
    answer = job.rows.get().answer
    assert answer is not None
    assert answer.result["profile_url"].startswith("https://www.linkedin.com/in/ann-")
    assert paid_credits(engine.sandbox) == ledger.job_sums(job.id).charged == 10


def test_list_of_reverse_look_ups_that_have_only_begun_is_followed_row_by_row(engine: Engine) -> None:
    engine.switch(lookups_later=True)
    engine.credits("500")
    people = [f"{name}@sbx-{word}.example" for name in ("ann", "bob") for word in ("found", "notfound")]

    job = engine.run(engine.begin(engine.draft(["email", *people], operation="reverse-lookup")))

    assert (job.state, job.rows_found, job.rows_not_found, job.rows_uncertain) == ("completed", 2, 2, 0)
    found = {row.cells[0]: row.answer.result["profile_url"] for row in job.rows.all() if row.answer}
    assert "/in/ann-" in found["ann@sbx-found.example"]
    assert "/in/bob-" in found["bob@sbx-found.example"]
    assert set(paid_inputs(engine.sandbox).values()) == {1}


def test_row_that_an_answer_left_out_does_not_take_its_neighbours_ids(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.switch(lookups_later=True)
    engine.credits("500")
    ask = IcypeasProvider.ask

    def without_the_second(provider: IcypeasProvider, request: BulkRequest) -> Any:
        found = ask(provider, request)
        return [item for item in found if item.external_id != request.external_ids[1]]

    monkeypatch.setattr(IcypeasProvider, "ask", without_the_second)

    job = engine.run(
        engine.begin(
            engine.draft(
                ["email", "ann@sbx-found.example", "bob@sbx-found.example"], operation="reverse-lookup"
            )
        )
    )

    assert (job.state, job.rows_found, job.rows_uncertain) == ("completed", 1, 1)
    (batch,) = Batch.objects.filter(job=job)
    assert batch.state == BatchState.UNCERTAIN
    assert ledger.job_sums(job.id).open == job.price
    decisions.accept_as_paid(
        Actor(engine.person), job.id, [decisions.Chosen(batch.id, batch.fence)], reason="Lost at Icypeas."
    )
    assert ledger.job_sums(job.id).charged == paid_credits(engine.sandbox) == 20


def test_search_that_takes_long_is_looked_for_ever_more_rarely(engine: Engine, settings: Any) -> None:
    job = stuck_look_up(engine)
    due: list[
        tuple[float, float]
    ] = []  # seconds from the send: a look, and when it said that the next one is
    until = time.monotonic() + 60

    while len(due) < 7:
        assert time.monotonic() < until
        before, at = looks(job), db_now()
        engine.step(job)
        if looks(job) > before:
            batch = Batch.objects.get(job=job)
            assert batch.sent_at is not None
            assert batch.next_at is not None
            due.append(
                ((at - batch.sent_at).total_seconds(), (batch.next_at - batch.sent_at).total_seconds())
            )

    for looked, (_, named) in zip(due[1:], due, strict=False):
        assert looked[0] >= named - 0.05  # not before it was due; a step begins a moment before its look
    for looked_at, next_look in due:
        least = min(max(settings.SINGLE_LOOK_S, looked_at / 2), settings.SINGLE_LOOK_MOST_S)
        assert next_look - looked_at >= least  # half its age: twice as old, half as often


def test_look_up_that_never_ends_does_not_keep_a_list_from_reading(engine: Engine, settings: Any) -> None:
    settings.SINGLE_LOOK_S = 0.01  # less than a slot, so that one is wanted for it all the time
    stuck = stuck_look_up(engine)
    while looks(stuck) < 2:
        engine.step(stuck)

    job = engine.start(250)
    while not job.is_finished:
        engine.step(stuck)
        engine.step(job)

    assert job.rows_open == 0
    stuck.refresh_from_db()
    assert not stuck.is_finished


def test_search_behind_all_pages_that_we_read_is_asked_for_by_its_id(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = look_up(engine)
    read_singles = reads.read_singles

    def without_it(*args: Any, **more: Any) -> ItemPage:
        return replace(read_singles(*args, **more), items=[], cursor=[[1], [2]])

    monkeypatch.setattr(reads, "read_singles", without_it)
    monkeypatch.setattr(looking, "SINGLE_PAGES", 1)

    assert engine.run(job).rows_found == 1


def test_look_that_finds_no_slot_comes_back_when_there_is_one(engine: Engine, settings: Any) -> None:
    settings.SINGLE_LOOK_S = 20.0
    job = look_up(engine)
    while not Batch.objects.filter(job=job, state=BatchState.SENT).exists():
        engine.step(job)
    send_path.limiter.hold_back(account_id=engine.account.id, route="items-read", seconds=3.3)

    Batch.objects.filter(job=job).update(next_at=db_now())
    engine.step(job)

    batch = Batch.objects.get(job=job)
    assert batch.next_at is not None
    assert batch.next_at - db_now() < timedelta(seconds=3.5)


def test_reading_answers_says_nothing_about_paid_calls(engine: Engine) -> None:
    Breaker.objects.create(account=engine.account, unclear=3)

    engine.run(look_up(engine, "email-search", first_name="A", last_name="B", domain="sbx-notfound.example"))

    paid = Call.objects.get(route="email-search")
    assert paid.outcome == "ok"  # this one closed it, and from here on only reads come
    Breaker.objects.update(unclear=3)
    job = look_up(engine, "email-search", first_name="C", last_name="D", domain="sbx-found.example")
    while not Batch.objects.filter(job=job, state=BatchState.SENT).exists():
        engine.step(job)
    Breaker.objects.update(unclear=5, next_try_at=db_now() + timedelta(hours=1))

    engine.run(job)

    assert job.rows_found == 1  # read while nothing paid may go
    assert Breaker.objects.get().unclear == 5


def listed(order: int | None, external_id: str = "") -> ProviderItem:
    return ProviderItem(f"p{order}", external_id, ItemState.FINAL, "FOUND", order=order)


@pytest.mark.parametrize(
    ("orders", "named"),
    [
        ([2, 0, 1], {2: 2, 0: 0, 1: 1}),
        ([3, 1, 2], {3: 2, 1: 0, 2: 1}),
        ([0, None], {0: 0}),
        ([1, 2], {}),  # from 0 without the first, or from 1 without the last?
        ([0, 3], {}),
        ([], {}),
    ],
)
def test_places_are_counted_from_where_the_list_counts_them(
    engine: Engine, orders: list[int | None], named: Mapping[int, int]
) -> None:
    job = engine.start(3)
    engine.step(job)
    while (batch := Batch.objects.filter(job=job).first()) is None:
        engine.step(job)
    ids = list(BatchItem.objects.filter(batch=batch).order_by("id").values_list("external_id", flat=True))

    page = reads._named_by_place(batch, ItemPage([listed(order) for order in orders], None, len(orders)))

    found = {item.order: item.external_id for item in page.items if item.external_id}
    assert found == {order: ids[place] for order, place in named.items()}


def test_account_with_a_user_id_names_the_rows_of_lists_of_pages(engine: Engine) -> None:
    Account.objects.update(user_id=USER_ID)
    engine.switch(scrapes_later=True)
    engine.credits("500")
    pages = [f"https://www.linkedin.com/company/firm-{n}-sbx-found" for n in range(7)]

    job = engine.run(engine.begin(engine.draft(["url", *pages], operation="scrape-company")))

    assert job.rows_found == 7
    raw = [row.answer.raw for row in job.rows.select_related("answer") if row.answer]
    assert all(item["userData"]["externalId"] for item in raw)


def test_look_ups_of_many_people_share_their_reads(engine: Engine, settings: Any) -> None:
    settings.SINGLE_FIRST_LOOK_S = 0.4
    jobs = [
        look_up(engine, first_name=f"Ann{n}", last_name="Lee", domain="sbx-found.example") for n in range(30)
    ]
    for job in jobs:
        while not Batch.objects.filter(job=job, state=BatchState.SENT).exists():
            engine.step(job)

    engine.run_all(jobs)

    assert {job.state for job in jobs} == {"completed"}
    # Each read brings every answer that is there, whoever asked.
    assert engine.sent("/bulk-single-searchs/read") <= 10


def test_look_for_a_search_is_counted_from_its_send(engine: Engine, settings: Any) -> None:
    settings.SINGLE_FIRST_LOOK_S = 4.0
    engine.fault("/email-search", "delay", seconds=0.5, times=1)
    job = look_up(engine)
    while not Batch.objects.filter(job=job, state=BatchState.SENT).exists():
        engine.step(job)

    batch = Batch.objects.get(job=job)
    assert batch.intent_at is not None
    assert batch.sent_at is not None
    assert batch.next_at is not None
    assert (batch.sent_at - batch.intent_at).total_seconds() > 0.4
    assert (batch.next_at - batch.intent_at).total_seconds() == 4.0
    kept_s = RateSlot.objects.get(route="items-read").kept_us / 1_000_000 - batch.intent_at.timestamp()
    assert 1.0 < kept_s <= 4.0  # and the slot of reading is kept for then


def test_reads_that_fail_come_ever_more_rarely(engine: Engine, settings: Any) -> None:
    engine.fault("/bulk-single-searchs/read", "status", status=500, accept=False, times=1_000)
    job = look_up(engine)
    waits: list[float] = []
    until = time.monotonic() + 60
    while not waits or waits[-1] <= 4 * settings.RETRY_S:
        assert time.monotonic() < until, waits
        due_in = engine.step(job)
        if Call.objects.filter(job=job.id, outcome="vendor_5xx").count() > len(waits):
            waits.append(due_in or 0.0)
        time.sleep(0.01)

    assert waits == sorted(waits)


def behind_all_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """More newer searches than we read: the listing goes on and on and never shows ours."""
    empty = ItemPage(items=[], cursor=[[1], [2]], raw_count=100)
    monkeypatch.setattr(reads, "read_singles", lambda *args, **more: empty)


def test_person_who_looks_again_gets_what_lies_behind_all_pages(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = look_up(engine)
    while not Batch.objects.filter(job=job, state=BatchState.SENT).exists():
        engine.step(job)
    behind_all_pages(monkeypatch)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(reads, "read_single", lambda *args, **more: None)
        Batch.objects.filter(job=job).update(sent_at=db_now() - timedelta(days=2))
        assert engine.run(job).rows_uncertain == 1
    chosen = [decisions.Chosen(batch.id, batch.fence) for batch in decisions.uncertain_batches()]

    submission.decide(
        Actor(engine.person), job.id, decisions.Act.LOOK_AGAIN, chosen, reason="Icypeas says it is there"
    )

    assert engine.run(job).rows_found == 1
    assert paid_credits(engine.sandbox) == ledger.job_sums(job.id).charged


def test_begun_look_up_that_no_listing_shows_is_asked_for_by_its_id(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.switch(lookups_later=True)
    nothing = ItemPage(items=[], cursor=None, raw_count=0)
    monkeypatch.setattr(reads, "read_singles", lambda *args, **more: nothing)

    job = engine.run(look_up(engine, "reverse-lookup", email="ann@sbx-found.example"))

    assert (job.state, job.rows_found) == ("completed", 1)
    assert paid_credits(engine.sandbox) == ledger.job_sums(job.id).charged == 10


def test_each_search_is_asked_for_by_its_id_before_a_list_of_them_is_given_up(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.switch(lookups_later=True)
    engine.credits("500")
    people = [f"p{number}@sbx-found.example" for number in range(12)]
    job = engine.begin(engine.draft(["email", *people], operation="reverse-lookup"))
    while not Batch.objects.filter(job=job, state=BatchState.SENT).exists():
        engine.step(job)
    behind_all_pages(monkeypatch)
    Batch.objects.filter(job=job).update(sent_at=db_now() - timedelta(days=2))

    job = engine.run(job)

    assert (job.state, job.rows_found, job.rows_uncertain) == ("completed", 12, 0)

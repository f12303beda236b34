from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from enrichment import selectors
from enrichment.models import Answer, EnrichmentJob, EnrichmentRow
from enrichment.selectors import RowFilter
from enrichment.services import submission
from keys.choices import Realm
from keys.clock import db_now
from keys.services import worker_seen
from people.audit import Actor
from tests import factories
from tests.fakes.engine import SPEED, Engine


def one(sql: str, *values: Any) -> Any:
    """The single value of a query that this test writes itself."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchone()[0]


def assert_figures_are_true(job: EnrichmentJob) -> None:
    """Every figure of the live part equals a query of its own over rows, answers and ledger."""
    job.refresh_from_db()
    shown = selectors.progress(job)
    rows = "SELECT COUNT(*) FROM enrichment_enrichmentrow WHERE job_id = %s"
    money = "SELECT COALESCE(SUM(credits), 0) FROM keys_ledgerentry WHERE job = %s AND kind = %s"
    total = one(rows, job.id)
    by_state = {state: one(f"{rows} AND state = %s", job.id, state) for state in shown.counts}
    assert shown.counts == by_state
    answered = one(f"{rows} AND state IN ('found', 'not_found', 'cached')", job.id)
    open_rows = one(f"{rows} AND state IN ('in_flight', 'waiting')", job.id)
    assert (shown.answered, shown.unsent, shown.at_provider) == (
        answered,
        by_state["waiting"],
        by_state["in_flight"],
    )
    assert round(shown.percent, 6) == round(Decimal((total - open_rows) * 100) / total, 6)
    sums = {kind: Decimal(str(one(money, job.id, kind))) for kind in ("reserved", "charged", "released")}
    assert (shown.money.reserved, shown.money.charged, shown.money.released) == tuple(sums.values())
    assert shown.money.open == sums["reserved"] - sums["charged"] - sums["released"]
    leads = one(f"{rows} AND is_lead = %s AND state IN ('in_flight', 'uncertain')", job.id, True)
    assert shown.at_risk == leads * job.price


def test_every_figure_of_a_running_job_equals_a_query_at_each_moment(engine: Engine, settings: Any) -> None:
    settings.BATCH_ROWS, settings.BATCHES_IN_FLIGHT = 4, 1
    lines = [
        *factories.addresses(9),
        "a@sbx-unknownstatus.example",
        "b@sbx-badinput.example",
        "bad",
        "ann1@company1.example",
    ]
    job = engine.start(lines)
    assert_figures_are_true(job)
    moments = 0

    while engine.step(job) is not None:
        assert_figures_are_true(job)
        moments += 1

    assert moments >= 3
    assert job.state == "completed"
    assert_figures_are_true(job)


def test_estimate_takes_duplicates_known_answers_and_bad_rows_off(engine: Engine) -> None:
    engine.run(engine.start(["a@x.example", "b@x.example"]))
    draft = engine.draft(["a@x.example", "A@x.example", "c@x.example", "c@X.example", "d@x.example", "bad"])

    found = selectors.estimate(draft, realm=Realm.SANDBOX, fresh_after=timezone.now() - timedelta(days=90))

    assert (found.rows, found.ask, found.known, found.duplicates, found.skipped) == (6, 2, 2, 1, 1)
    assert found.ask + found.known + found.duplicates + found.skipped == found.rows
    assert (found.at_least, found.at_most, found.saved) == (Decimal("0.2"), Decimal("0.2"), Decimal("0.1"))


def test_estimate_is_never_below_what_the_job_then_costs(engine: Engine) -> None:
    lines = ["first name,last name,company", *(f"Ann{n},Berg,company{n}.example" for n in range(40))]
    draft = engine.draft(lines, operation="email-search")
    found = selectors.estimate(draft, realm=Realm.SANDBOX, fresh_after=timezone.now())

    job = engine.run(engine.begin(draft))

    charged = selectors.progress(job).money.charged
    assert found.at_least <= charged <= found.at_most == 40
    assert found.expected == 24  # 60 % while there is no history
    assert charged == Answer.objects.filter(is_good=True).count()


def test_hit_rate_is_our_own_once_there_is_enough_history(engine: Engine) -> None:
    assert selectors.hit_rate("email-verification", Realm.SANDBOX) == (Decimal("0.80"), 0)
    engine.run(engine.start(60))

    rate, answers = selectors.hit_rate("email-verification", Realm.SANDBOX)

    good = Answer.objects.filter(is_good=True).count()
    assert (rate, answers) == ((Decimal(good) / 60).quantize(Decimal("0.001")), 60)
    assert selectors.hit_rate("email-verification", Realm.LIVE) == (Decimal("0.80"), 0)


def test_queued_job_says_that_no_worker_was_seen_until_one_is(engine: Engine) -> None:
    job = engine.start(3)
    assert selectors.progress(job).has_worker is False

    worker_seen()

    assert selectors.progress(job).has_worker is True


def test_silent_job_is_stalled_after_a_while_and_not_without_a_worker(engine: Engine, settings: Any) -> None:
    engine.switch(speed=0)
    job = engine.start(3)
    while not job.rows_in_flight:
        engine.step(job)
    assert selectors.progress(job).is_stalled is False

    settings.STALLED_S = 0
    assert selectors.progress(job).is_stalled is False
    worker_seen()
    assert selectors.progress(job).is_stalled is True
    settings.STALLED_S = 60
    EnrichmentJob.objects.filter(id=job.id).update(heard_at=db_now() - timedelta(hours=1))
    job.refresh_from_db()
    assert selectors.progress(job).is_stalled is False  # paused for an hour, and resumed just now
    engine.switch(speed=SPEED)


@pytest.fixture
def results(engine: Engine) -> EnrichmentJob:
    """A finished job: 8 deliverable rows, one bad, one a duplicate of the first."""
    lines = [f"ann{n}@sbx-found.example" for n in range(8)]
    return engine.run(engine.start([*lines, "no address", "ANN0@sbx-found.example"]))


@pytest.mark.parametrize(
    ("wanted", "positions"),
    [
        (RowFilter(), list(range(1, 11))),
        (RowFilter(state="found"), list(range(1, 9))),
        (RowFilter(state="skipped"), [9]),
        (RowFilter(state="cached"), [10]),
        (RowFilter(reason="bad_email"), [9]),
        (RowFilter(search="ann3@"), [4]),
        (RowFilter(search="ANN3@SBX"), [4]),
        (RowFilter(certainty="ultra_sure"), [*range(1, 9), 10]),
        (RowFilter(state="found", search="nobody"), []),
    ],
    ids=lambda value: str(value) if isinstance(value, RowFilter) else "",
)
def test_filter_finds_its_rows_and_counts_them(
    results: EnrichmentJob, wanted: RowFilter, positions: list[int]
) -> None:
    page = selectors.list_rows(results, wanted)

    assert [row.position for row in page.rows] == positions
    assert page.total == len(positions)


@pytest.mark.django_db
@pytest.mark.parametrize("search", ["jürgen", "JÜRGEN", "Jürgen Groß", 'said "yes"', "50%"])
def test_search_finds_what_people_read(search: str) -> None:
    job = factories.make_job_from_file(
        'name;email\nJürgen Groß;a@x.example\n"He said ""yes"" to 50%";b@x.example\nOther;c@x.example\n'.encode()
    )

    page = selectors.list_rows(job, RowFilter(search=search))

    assert [row.position for row in page.rows] == [1 if "r" in search.lower() else 2]


def test_pages_of_rows_lead_to_each_other_and_back(results: EnrichmentJob) -> None:
    first = selectors.list_rows(results, RowFilter(), limit=4)
    second = selectors.list_rows(results, RowFilter(), after=first.after, limit=4)
    third = selectors.list_rows(results, RowFilter(), after=second.after, limit=4)
    back = selectors.list_rows(results, RowFilter(), before=third.before, limit=4)

    assert [[row.position for row in page.rows] for page in (first, second, third)] == [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
        [9, 10],
    ]
    assert (first.before, third.after) == (None, None)
    assert [row.position for row in back.rows] == [5, 6, 7, 8]


def test_receipt_says_who_paid_for_a_known_answer(engine: Engine, results: EnrichmentJob) -> None:
    later = engine.run(engine.start(["ann3@sbx-found.example"], is_again=True))

    first, known = selectors.get_receipt(results, 4), selectors.get_receipt(later, 1)

    assert first is not None
    assert known is not None
    assert (first.credits, first.paid_by) == (Decimal("0.1"), None)
    assert (known.credits, known.paid_by) == (Decimal(0), results)
    assert selectors.get_receipt(results, 99) is None


def test_neighbours_stay_within_the_filter(results: EnrichmentJob) -> None:
    assert selectors.neighbours(results, RowFilter(state="found"), 8) == (7, None)
    assert selectors.neighbours(results, RowFilter(), 8) == (7, 9)


@pytest.mark.parametrize(
    ("role", "own_team", "sees_job", "sees_rows"),
    [
        ("operator", True, True, True),
        ("viewer", True, True, True),
        ("operator", False, False, False),
        ("key_admin", False, True, False),
        ("manager", False, True, True),
        ("auditor", False, True, True),
        (None, True, False, False),
    ],
)
@pytest.mark.django_db
def test_people_see_the_jobs_of_their_team_and_some_see_all(
    role: str | None, own_team: bool, sees_job: bool, sees_rows: bool
) -> None:
    team, other = factories.make_team(), factories.make_team()
    job = factories.make_job(created_by=factories.make_user(team=team))
    person = factories.make_user(role=role, team=team if own_team else other)

    assert selectors.visible_to(person).filter(id=job.id).exists() is sees_job
    assert selectors.may_see_rows(person, job) is sees_rows


@pytest.mark.django_db
def test_people_without_a_team_do_not_share_the_jobs_of_others_without_one() -> None:
    job = factories.make_job(created_by=factories.make_user())
    stranger = factories.make_user()

    assert not selectors.visible_to(stranger).exists()
    assert not selectors.may_see_rows(stranger, job)
    assert selectors.visible_to(job.created_by).get() == job


def test_same_run_is_the_newest_of_the_same_bytes_columns_and_key(engine: Engine) -> None:
    run = engine.run(engine.start(3))
    again = engine.draft(3)

    assert selectors.same_run(again, engine.key) == run
    assert selectors.same_run(engine.draft(4), engine.key) is None
    assert selectors.same_run(again, factories.make_key(owner=engine.person)) is None

    EnrichmentJob.objects.filter(id=again.id).update(mapping={"email": 5})
    again.refresh_from_db()
    assert selectors.same_run(again, engine.key) is None


def test_cancelled_run_does_not_count_as_the_same_run(engine: Engine) -> None:
    run = engine.start(3)
    submission.cancel_job(Actor(engine.person), run.id)
    engine.run(run)

    assert selectors.same_run(engine.draft(3), engine.key) is None


@pytest.mark.django_db
def test_keys_that_may_not_are_listed_with_the_reason() -> None:
    good = factories.make_key("sandbox_lists_good")
    factories.make_key("sandbox_lists_poor", scopes=["email-search:bulk"])
    factories.make_key("sandbox_lists_gone", state="revoked")

    choices = selectors.key_choices("email-verification", "bulk", factories.make_user())

    assert choices[0].key == good
    assert choices[0].refusal == ""
    reasons = {choice.key.name: choice.refusal for choice in choices[1:]}
    assert "email-verification:bulk" in reasons["sandbox_lists_poor"]
    assert "revoked" in reasons["sandbox_lists_gone"]


def test_totals_are_those_of_exactly_the_filter(engine: Engine) -> None:
    first = engine.run(engine.start(3))
    engine.run(engine.start(factories.addresses(5, stem="bob")))
    jobs = selectors.filter_jobs(engine.person, selectors.JobFilter(search=f"#{first.id}"))

    found = selectors.totals(jobs)

    assert (found.jobs, found.rows, found.people) == (1, 3, 1)
    assert found.charged == Decimal("0.3")
    assert found.useful == EnrichmentRow.objects.filter(job=first, state="found").count()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads SQLite's words for its plans")
def test_start_of_a_look_up_reads_no_whole_table_of_answers_or_rows(engine: Engine) -> None:
    engine.run(engine.start(60))
    asked: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("SELECT"):
            asked.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        submission.look_up(
            Actor(engine.person),
            operation="email-verification",
            told={"email": "ann@sbx-found.example"},
            key=engine.key,
            purpose="",
            freshness_days=90,
            token=submission.new_token(),
        )

    plans: list[str] = []
    with connection.cursor() as cursor:
        for sql, params in asked:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}", params)
            plans += [f"{step[3]}: {sql}" for step in cursor.fetchall()]
    # All questions of an operation, or a range of times, are as good as the whole table.
    big = re.compile(
        r"SCAN (enrichment_(answer|question|enrichmentrow)|U\d)\b|SEARCH .*(answered_at>|\(realm=\? AND operation=\?\))"
    )
    assert not [plan for plan in plans if big.match(plan)]
    assert len(asked) > 10


@pytest.mark.django_db
def test_keys_are_offered_with_as_many_questions_for_many_as_for_few(
    django_assert_max_num_queries: Any,
) -> None:
    person = factories.make_user(role="operator")
    for number in range(30):
        factories.make_key(f"sandbox_many{number}_ops", state="revoked" if number % 2 else "quarantined")

    with django_assert_max_num_queries(8):
        choices = selectors.key_choices("email-verification", "bulk", person)

    assert len(choices) == 30
    assert all(choice.refusal for choice in choices)


@pytest.mark.django_db
def test_key_that_was_refused_when_last_asked_is_not_offered_first() -> None:
    person = factories.make_user(role="operator")
    now = timezone.now()
    factories.make_key("sandbox_a_ops", last_used_at=now, let_in_outcome="vendor_401")
    factories.make_key("sandbox_b_ops", last_used_at=now - timedelta(days=1), let_in_outcome="ok")

    choices = selectors.key_choices("email-verification", "bulk", person)

    assert [choice.key.name for choice in choices] == ["sandbox_b_ops", "sandbox_a_ops"]

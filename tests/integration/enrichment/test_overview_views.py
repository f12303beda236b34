"""The overview: figures, running jobs, what waits, and its states."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrichment import overview_page, selectors
from enrichment.choices import JobState, RowState
from enrichment.models import Answer, Batch, EnrichmentJob, Question
from keys import findings
from keys.choices import EntryKind
from keys.models import KeyRecord, LedgerEntry, Worker
from people.models import User
from tests import factories

pytestmark = pytest.mark.django_db
AsPerson = Callable[[User], Client]
REGION = {"HX-Request": "true", "HX-Target": "running"}


def see_worker(**ago: float) -> None:
    Worker.objects.create(name="worker-1", seen_at=timezone.now() - timedelta(**ago))


def started(created_by: User, key: KeyRecord, rows: int = 3, stem: str = "ann") -> EnrichmentJob:
    return factories.start(
        factories.make_job(factories.addresses(rows, stem=stem), created_by=created_by), key
    )


def charge(job: EnrichmentJob, credits: str, *, days_ago: int = 0) -> None:
    assert job.key is not None
    LedgerEntry.objects.create(
        at=timezone.now() - timedelta(days=days_ago),
        kind=EntryKind.CHARGED,
        credits=Decimal(credits),
        account=job.key.account,
        key=job.key,
        operation=job.operation,
        job=job.id,
    )


def stat(page: str, label: str) -> str:
    found = re.search(rf'stat-label">{label}</p><p class="stat-value">(.*?)</p>', page)
    assert found, f"no figure {label}"
    return re.sub(r"<[^>]+>", "", found[1]).strip()


def test_overview_sends_to_the_log_in_without_a_person(client: Client) -> None:
    response = client.get("/")

    assert response.status_code == 302
    assert response.headers["Location"].startswith("/login/")


def test_overview_explains_itself_on_the_first_day(as_person: AsPerson) -> None:
    see_worker(seconds=1)

    page = as_person(factories.make_user(role="operator")).get("/").content.decode()

    assert "No job has run yet" in page
    assert page.partition("<main")[2].partition("</main>")[0].count("button--primary") == 1


def test_overview_refuses_a_person_without_a_role(as_person: AsPerson) -> None:
    assert as_person(factories.make_user(role=None)).get("/").status_code == 403


def test_overview_refuses_a_post(as_person: AsPerson) -> None:
    assert as_person(factories.make_user()).post("/").status_code == 405


def test_overview_tells_a_viewer_who_can_start_jobs(as_person: AsPerson) -> None:
    factories.make_user(name="Ana Duarte", role="operator")

    page = as_person(factories.make_user(role="viewer")).get("/").content.decode()

    assert "Ana Duarte can start jobs." in page
    assert 'href="/jobs/new/"' not in page


def test_overview_figures_equal_the_ledger_and_the_jobs(as_person: AsPerson) -> None:
    user = factories.make_user()
    key = factories.make_key(account=factories.make_account(balance=1000))
    job = started(user, key, rows=30)
    charge(job, "0.7")
    charge(job, "1.4", days_ago=6)
    charge(job, "5", days_ago=8)

    page = as_person(user).get("/").content.decode()

    assert stat(page, "Not finished") == "1"
    # 2.1 credits in seven days
    assert stat(page, "Burn, last 7 days") == "0.3 a day"
    # 1,000 less what is reserved and not charged (3 - 7.1 is what the entries leave) and what was charged after the reading.
    open_credits = Decimal(3) - Decimal("7.1")
    assert stat(page, "Available credits") == f"{1000 - open_credits - Decimal('0.7'):,}"
    assert "7.1 credits" in page


def test_overview_says_when_no_worker_answers_and_jobs_wait(as_person: AsPerson) -> None:
    see_worker(minutes=10)
    user = factories.make_user()
    started(user, factories.make_key())

    page = as_person(user).get("/").content.decode()

    assert "No worker answers." in page
    assert "1 job waits; nothing is lost or paid twice." in page


def test_overview_says_nothing_of_workers_while_one_is_alive(as_person: AsPerson) -> None:
    see_worker(seconds=1)

    assert "No worker answers" not in as_person(factories.make_user()).get("/").content.decode()


def test_overview_shows_drafts_paused_jobs_and_uncertain_rows_as_waiting(as_person: AsPerson) -> None:
    user = factories.make_user()
    key = factories.make_key()
    factories.make_job(2, created_by=user, name="Webinar")
    paused = started(user, key)
    EnrichmentJob.objects.filter(id=paused.id).update(state=JobState.PAUSED, state_text="Paused by Leo.")
    doubtful = started(user, key, stem="bob")
    EnrichmentJob.objects.filter(id=doubtful.id).update(
        state=JobState.COMPLETED, rows_waiting=0, rows_uncertain=3, finished_at=timezone.now()
    )

    page = as_person(user).get("/").content.decode()

    assert "3 things wait for you" in page
    assert "Draft: Webinar" in page
    assert f"Paused: #{paused.id}" in page
    assert f"3 rows are uncertain in #{doubtful.id}" in page


def test_overview_hides_jobs_of_other_teams(as_person: AsPerson) -> None:
    stranger = factories.make_user(team=factories.make_team())
    job = started(stranger, factories.make_key())
    EnrichmentJob.objects.filter(id=job.id).update(name="Secret plan")

    page = as_person(factories.make_user(team=factories.make_team())).get("/").content.decode()

    assert "Secret plan" not in page
    assert stat(page, "Not finished") == "0"


def test_overview_answers_htmx_with_the_running_jobs_alone(as_person: AsPerson) -> None:
    user = factories.make_user()
    job = started(user, factories.make_key())

    response = as_person(user).get("/", headers=REGION)

    page = response.content.decode()
    assert page.lstrip().startswith('<section class="section" id="running"')
    assert f"/jobs/{job.id}/" in page
    assert "HX-Request" in response.headers["Vary"]


def test_running_region_stops_being_polled_when_nothing_runs(as_person: AsPerson) -> None:
    page = as_person(factories.make_user()).get("/", headers=REGION).content.decode()

    assert "data-poll-seconds" not in page


def test_overview_shows_findings_to_those_who_may_see_keys(as_person: AsPerson) -> None:
    factories.make_key("sandbox_old_key", rotate_by=timezone.localdate() - timedelta(days=3))
    findings.refresh()

    page = as_person(factories.make_user(role="viewer")).get("/").content.decode()

    assert "Rotation is 3 days late" in page


def test_search_of_every_page_is_a_form_whose_words_stand_in_the_address(as_person: AsPerson) -> None:
    user, key = factories.make_user(), factories.make_key(account=factories.make_account(balance=1000))
    job, other = started(user, key), started(user, key, stem="bob")
    EnrichmentJob.objects.filter(id=job.id).update(name="Expo follow-up")
    EnrichmentJob.objects.filter(id=other.id).update(name="Another")
    client = as_person(user)

    form = re.search(r'<form class="find".*?</form>', client.get("/").content.decode(), re.DOTALL)
    assert form
    assert re.search(r'method="get" action="/jobs/"', form[0])
    assert re.search(r'<input type="search" name="q"', form[0])
    assert "hx-" not in form[0]

    page = client.get("/jobs/?q=follow-up").content.decode()  # what a browser asks for without a script
    table = page.partition("jobs-table")[2]
    assert "Expo follow-up" in table
    assert "Another" not in table
    assert re.search(r'<input[^>]* name="q" value="follow-up"', page)


def test_overview_takes_as_many_queries_with_six_jobs_as_with_one(as_person: AsPerson) -> None:
    user, key = factories.make_user(), factories.make_key()
    see_worker(seconds=1)
    client = as_person(user)

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            client.get("/")
        return len(asked)

    for finished, stem in ((True, "one"), (False, "two")):
        job = started(user, key, stem=stem)
        if finished:
            EnrichmentJob.objects.filter(id=job.id).update(
                state=JobState.COMPLETED, finished_at=timezone.now()
            )
    client.get("/")
    before = queries()
    for number in range(10):
        job = started(user, key, stem=f"more{number}")
        if number % 2:
            EnrichmentJob.objects.filter(id=job.id).update(
                state=JobState.COMPLETED, finished_at=timezone.now()
            )

    assert queries() == before


def test_running_job_says_how_long_its_open_rows_still_take(as_person: AsPerson) -> None:
    job = started(factories.make_user(), factories.make_key(), rows=20)
    assert job.key is not None
    now = timezone.now()
    EnrichmentJob.objects.filter(id=job.id).update(
        state=JobState.RUNNING, started_at=now - timedelta(minutes=5), rows_waiting=10, rows_found=10
    )
    job.refresh_from_db()
    batch = Batch.objects.create(job=job, account=job.key.account, number=1, mode="bulk", size=10, price=1)
    for number in range(10):
        question = Question.objects.create(
            realm="sandbox", operation=job.operation, digest=str(number), inputs={}
        )
        Answer.objects.create(
            question=question,
            job=job,
            batch=batch,
            verdict="deliverable",
            is_good=True,
            provider_id=str(number),
            credits=1,
            answered_at=now - timedelta(seconds=30),
        )

    assert selectors.seconds_left([job]) == {job.id: 60}
    assert job.counts[RowState.WAITING] == 10


@pytest.mark.parametrize(
    ("hour", "words"),
    [(3, "Good evening"), (4, "Good morning"), (12, "Good afternoon"), (18, "Good evening")],
)
def test_greeting_follows_the_clock(hour: int, words: str) -> None:
    now = timezone.localtime().replace(hour=hour, minute=0)

    assert overview_page.greeting(User(name="Ana Duarte"), now) == f"{words}, Ana"

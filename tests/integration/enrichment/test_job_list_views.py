"""The job list: who sees what, filters in the address, totals of exactly the filter, pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrichment.choices import JobState, Source
from enrichment.models import EnrichmentJob
from keys.choices import EntryKind
from keys.models import KeyRecord, LedgerEntry
from people.models import User
from tests import factories
from tests.fakes.engine import Engine

pytestmark = pytest.mark.django_db
AsPerson = Callable[[User], Client]


def make_run(
    user: User, key: KeyRecord | None = None, *, charged: str = "0", **facts: object
) -> EnrichmentJob:
    """A job of the history, written as it would stand there."""
    job = EnrichmentJob.objects.create(
        **{
            "name": "Run",
            "operation": "email-search",
            "state": JobState.COMPLETED,
            "created_by": user,
            "team": user.team,
            "key": key,
            "environment": "sandbox",
            "realm": "sandbox",
            "start_token": f"token-{EnrichmentJob.objects.count()}-{user.id}",
            "started_at": timezone.now(),
            "rows_total": 10,
            "rows_found": 6,
            "useful_results": 6,
            "rows_not_found": 4,
            "estimate_expected": Decimal("5.5"),
            **facts,
        }
    )
    if Decimal(charged):
        assert key is not None
        LedgerEntry.objects.create(
            at=timezone.now(),
            kind=EntryKind.CHARGED,
            credits=Decimal(charged),
            account=key.account,
            key=key,
            operation=job.operation,
            job=job.id,
        )
    return job


def numbers_of(page: str) -> list[int]:
    """Job numbers of the table, in its order."""
    return [int(number) for number in re.findall(r'class="second">#(\d+)</span>', page)]


def stat(page: str, label: str) -> str:
    found = re.search(rf'stat-label">{label}</p><p class="stat-value">(.*?)</p>', page)
    assert found, f"no figure {label}"
    return re.sub(r"<[^>]+>", "", found[1]).strip()


def test_job_list_sends_to_the_log_in_without_a_person(client: Client) -> None:
    assert client.get("/jobs/").headers["Location"].startswith("/login/")


def test_job_list_refuses_a_person_without_a_role(as_person: AsPerson) -> None:
    assert as_person(factories.make_user(role=None)).get("/jobs/").status_code == 403


def test_job_list_refuses_a_post(as_person: AsPerson) -> None:
    assert as_person(factories.make_user()).post("/jobs/").status_code == 405


def test_job_list_is_empty_with_one_action_on_the_first_day(as_person: AsPerson) -> None:
    page = as_person(factories.make_user()).get("/jobs/").content.decode()

    assert "No job has run yet" in page
    assert page.partition("<main")[2].partition("</main>")[0].count("button--primary") == 1


def test_job_list_shows_the_jobs_of_the_team_and_no_others(as_person: AsPerson) -> None:
    team = factories.make_team()
    user, mate = factories.make_user(team=team), factories.make_user(team=team)
    stranger = factories.make_user(team=factories.make_team())
    mine, ours, theirs = make_run(user), make_run(mate), make_run(stranger)

    assert numbers_of(as_person(user).get("/jobs/").content.decode()) == [ours.id, mine.id]
    manager = factories.make_user(role="manager")
    assert numbers_of(as_person(manager).get("/jobs/").content.decode()) == [theirs.id, ours.id, mine.id]


def test_job_list_leaves_out_lookups_drafts_and_discarded_drafts(as_person: AsPerson) -> None:
    user = factories.make_user()
    run = make_run(user)
    make_run(user, source=Source.LOOKUP)
    draft = factories.make_job(2, created_by=user)
    client = as_person(user)
    discarded = factories.make_job(2, created_by=user)
    client.post(f"/jobs/{discarded.id}/discard/")

    assert numbers_of(client.get("/jobs/").content.decode()) == [run.id]
    assert numbers_of(client.get("/jobs/?view=drafts").content.decode()) == [draft.id]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("view=running", ["running"]),
        ("view=mine", ["running", "expo"]),
        ("state=failed", ["failed"]),
        ("operation=email-verification", ["failed"]),
        ("environment=prod", ["failed"]),
        ("q=HAMBURG", ["expo"]),
        ("q=%23{expo}", ["expo"]),
        ("state=completed&q=expo", ["expo"]),
        ("state=nonsense&person=999999&day=yesterday", ["failed", "running", "expo"]),
    ],
)
def test_job_list_filters_by_its_address(as_person: AsPerson, query: str, wanted: list[str]) -> None:
    user, mate = factories.make_user(role="manager"), factories.make_user()
    jobs = {
        "expo": make_run(user, name="Expo", purpose="Hamburg follow-up"),
        "running": make_run(user, state=JobState.RUNNING),
        "failed": make_run(mate, state=JobState.FAILED, operation="email-verification", environment="prod"),
    }

    page = as_person(user).get(f"/jobs/?{query.format(expo=jobs['expo'].id)}").content.decode()

    assert numbers_of(page) == [jobs[name].id for name in wanted]


def test_paused_job_is_not_called_running(as_person: AsPerson) -> None:
    user = factories.make_user()
    make_run(user, state=JobState.PAUSED)
    make_run(user)

    page = as_person(user).get("/jobs/?view=running").content.decode()

    said = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "Jobs 1 not finished" in said
    assert "All 2 Not finished 1 Mine 2" in said
    assert "Expected before start 5.5 1 not finished" in said


def test_job_list_filters_by_person_and_by_the_day_of_the_charge(as_person: AsPerson) -> None:
    user, mate = factories.make_user(role="manager"), factories.make_user()
    charged = make_run(user, factories.make_key(), charged="2")
    other = make_run(mate)
    client = as_person(user)

    assert numbers_of(client.get(f"/jobs/?person={mate.id}").content.decode()) == [other.id]
    today = timezone.localdate().isoformat()
    assert numbers_of(client.get(f"/jobs/?day={today}").content.decode()) == [charged.id]


def test_job_list_totals_are_of_exactly_the_filter(as_person: AsPerson) -> None:
    user, key = factories.make_user(role="manager"), factories.make_key()
    make_run(user, key, charged="6", name="Expo one")
    make_run(user, key, charged="0.5", name="Expo two", rows_total=30)
    make_run(user, key, charged="100", name="Another")

    page = as_person(user).get("/jobs/?q=expo").content.decode()

    assert stat(page, "Jobs in this filter") == "2"
    assert stat(page, "Rows") == "40"
    assert stat(page, "Charged") == "6.5 credits"
    assert stat(page, "Expected before start") == "11"
    assert re.search(r"<tfoot.*6\.5.*</tfoot>", page, re.DOTALL)


def test_job_list_counts_useful_results_that_were_known_before(engine: Engine, as_person: AsPerson) -> None:
    lines = ["ann@sbx-found.example", "bob@sbx-found.example"]
    first = engine.run(engine.start(lines))
    second = engine.run(engine.start(lines, is_again=True))
    assert (first.rows_found, second.rows_found, second.rows_cached) == (2, 0, 2)

    page = as_person(engine.person).get("/jobs/").content.decode()

    assert re.findall(r'data-unit="results">(\d+)</td>', page)[:2] == ["2", "2"]
    assert "4 useful results" in page


def test_job_list_says_how_many_there_are_without_a_filter_that_matches_nothing(as_person: AsPerson) -> None:
    user = factories.make_user()
    make_run(user)

    page = as_person(user).get("/jobs/?q=nothing-like-it&state=failed").content.decode()

    assert "State Failed and search “nothing-like-it”" in page
    assert "Without this filter there is 1." in page


def test_job_list_pages_hold_every_job_once_in_both_directions(as_person: AsPerson) -> None:
    user = factories.make_user()
    numbers = sorted((make_run(user).id for _ in range(105)), reverse=True)
    client = as_person(user)

    seen, last, url = [], "", "/jobs/"
    while url:
        page = client.get(url).content.decode()
        seen.append(numbers_of(page))
        last, older = url, re.search(r'href="([^"]*)" rel="next"', page)
        url = older[1].replace("&amp;", "&") if older else ""
    newer = re.search(r'href="([^"]*)" rel="prev"', client.get(last).content.decode())

    assert seen == [numbers[:50], numbers[50:100], numbers[100:]]
    assert newer
    assert numbers_of(client.get(newer[1]).content.decode()) == numbers[50:100]


def test_job_list_answers_htmx_with_the_region_alone(as_person: AsPerson) -> None:
    user = factories.make_user()
    make_run(user)

    response = as_person(user).get("/jobs/", headers={"HX-Request": "true", "HX-Target": "jobs"})

    assert b"<html" not in response.content
    assert b"Jobs, newest first" in response.content
    assert "HX-Request" in response.headers["Vary"]


def test_job_list_takes_as_many_queries_for_fifty_jobs_as_for_one(as_person: AsPerson) -> None:
    user, key = factories.make_user(role="manager"), factories.make_key()
    client = as_person(user)
    make_run(user, key, charged="1")
    client.get("/jobs/")
    with CaptureQueriesContext(connection) as with_one:
        client.get("/jobs/")
    for _ in range(49):
        make_run(factories.make_user(team=factories.make_team()), factories.make_key(), charged="1")

    with CaptureQueriesContext(connection) as with_fifty:
        page = client.get("/jobs/").content.decode()

    assert len(numbers_of(page)) == 50
    assert len(with_fifty) == len(with_one)


def test_job_list_escapes_what_people_typed(as_person: AsPerson) -> None:
    user = factories.make_user()
    make_run(user, name="<script>alert(1)</script>", purpose="<img src=x>")

    page = as_person(user).get("/jobs/?q=<script>").content.decode()

    assert "<script>alert" not in page
    assert "<img src=x>" not in page


@pytest.mark.parametrize("words", ["²", "#²", "9" * 40, "#7"])
def test_search_for_a_number_that_is_none_finds_nothing(as_person: AsPerson, words: str) -> None:
    answer = as_person(factories.make_user(role="operator")).get("/jobs/", {"q": words})

    assert answer.status_code == 200


def test_count_beside_jobs_is_that_of_the_view(as_person: AsPerson) -> None:
    person = factories.make_user(role="operator")
    for source in ("browser", "lookup"):
        factories.make_job(1, created_by=person, source=source, state="paused")

    page = as_person(person).get("/jobs/?view=running").content.decode()

    assert "1 not finished" in page
    assert "2 not finished" not in page

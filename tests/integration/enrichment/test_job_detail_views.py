"""The page of a job: who sees what, its live region, results, receipts, stopping, exports."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from enrichment import selectors
from enrichment.choices import JobState, PauseReason, RowState
from enrichment.models import EnrichmentJob, EnrichmentRow
from enrichment.services import exporting, preparing
from enrichment.services.transitions import finish_if_done, move_rows
from keys import ledger
from keys.clock import db_now
from keys.models import KeyRecord, Worker
from keys.services import worker_seen
from people.models import AuditEntry, Team, User
from tests import factories
from tests.fakes.engine import Engine

pytestmark = pytest.mark.django_db
AsPerson = Callable[[User], Client]
HTMX = {"HX-Request": "true"}
RESULTS = {"HX-Request": "true", "HX-Boosted": "true", "HX-Target": "results"}


@pytest.fixture
def team(db: None) -> Team:
    return factories.make_team("RevOps")


@pytest.fixture
def operator(team: Team) -> User:
    return factories.make_user("ana@desk.example", name="Ana Duarte", team=team)


@pytest.fixture
def key() -> KeyRecord:
    return factories.make_key(account=factories.make_account(balance=1000))


@pytest.fixture
def running(operator: User, key: KeyRecord, wakes: list[Any]) -> EnrichmentJob:
    """Three waiting rows; a worker is alive and nothing was sent."""
    return make_running(operator, key)


def make_running(person: User, key: KeyRecord, rows: int = 3, stem: str = "ann") -> EnrichmentJob:
    job = factories.start(factories.make_job(factories.addresses(rows, stem=stem), created_by=person), key)
    preparing.prepare(job)
    worker_seen()
    job.refresh_from_db()
    return job


def url(job: EnrichmentJob, rest: str = "") -> str:
    return f"/jobs/{job.id}/{rest}"


def version_on(page: str) -> str:
    found = re.search(r'hx-get="[^"]*\?v=([^"]+)"', page)
    assert found, "the page polls nothing"
    return found[1]


def plain(page: str) -> str:
    """What a reader sees, without tags and with single spaces."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).replace("&#x27;", "'").split())


# --- who sees what -----------------------------------------------------------------------------------------------------------


def test_job_page_shows_figures_rows_and_actions_to_the_team(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    page = as_person(operator).get(url(running))

    assert page.status_code == 200
    text = plain(page.content.decode())
    assert "0 of 3 rows are done, 0 have an answer" in text
    assert "ann1@company1.example" in text
    assert "Spring campaign" in text
    assert 'data-dialog="cancel-job"' in page.content.decode()


def test_job_page_names_who_can_stop_the_job_when_the_reader_may_not(
    as_person: AsPerson, operator: User, team: Team, running: EnrichmentJob
) -> None:
    viewer = factories.make_user(role="viewer", team=team)

    page = as_person(viewer).get(url(running)).content.decode()

    assert "Ana Duarte" in plain(page)
    assert "can pause or cancel it" in plain(page)
    assert url(running, "pause/") not in page
    assert "cancel-job" not in page


def test_job_page_shows_figures_without_rows_to_a_key_admin_of_another_team(
    as_person: AsPerson, running: EnrichmentJob
) -> None:
    manager = factories.make_user(role="manager", name="Leo Brandt")
    admin = factories.make_user(role="key_admin", team=factories.make_team())

    page = as_person(admin).get(url(running)).content.decode()

    assert "0 of 3 rows are done" in plain(page)
    assert "ann1@company1.example" not in page
    assert f"{manager.name} can open them" in plain(page)


@pytest.mark.parametrize("rest", ["", "progress/", "rows/", "rows/1/", "raw/1/", "cancel/", "export/"])
def test_job_of_another_team_is_not_found_for_an_operator(
    as_person: AsPerson, running: EnrichmentJob, rest: str
) -> None:
    stranger = factories.make_user(team=factories.make_team())

    assert as_person(stranger).get(url(running, rest)).status_code == 404


@pytest.mark.parametrize("rest", ["rows/1/", "raw/1/", "export/?preset=raw"])
def test_rows_are_forbidden_to_a_key_admin_of_another_team(
    as_person: AsPerson, running: EnrichmentJob, rest: str
) -> None:
    admin = factories.make_user(role="key_admin", team=factories.make_team())

    answer = as_person(admin).get(url(running, rest))

    assert answer.status_code == 403
    assert b"ann1@company1.example" not in answer.content


@pytest.mark.parametrize("rest", ["", "progress/", "rows/", "rows/1/", "raw/1/", "cancel/", "export/"])
def test_job_page_leads_to_the_log_in_when_nobody_is_logged_in(
    client: Client, running: EnrichmentJob, rest: str
) -> None:
    answer = client.get(url(running, rest))

    assert answer.status_code == 302
    assert answer["Location"].startswith("/login/")


@pytest.mark.parametrize(
    "address", ["/jobs/999999/", "/jobs/999999/progress/", "/jobs/99999999999999999999999/"]
)
def test_unknown_job_is_not_found(as_person: AsPerson, operator: User, address: str) -> None:
    assert as_person(operator).get(address).status_code == 404


def test_draft_leads_to_its_review(as_person: AsPerson, operator: User) -> None:
    draft = factories.make_job(1, created_by=operator)

    answer = as_person(operator).get(url(draft))

    assert answer.status_code == 302
    assert answer["Location"] == url(draft, "review/")


@pytest.mark.parametrize(
    ("method", "rest"), [("post", ""), ("put", "pause/"), ("delete", "resume/"), ("post", "export/")]
)
def test_wrong_method_is_refused(
    as_person: AsPerson, operator: User, running: EnrichmentJob, method: str, rest: str
) -> None:
    assert getattr(as_person(operator), method)(url(running, rest)).status_code == 405


@pytest.mark.parametrize("rest", ["resume/", "start/", "discard/", "balance/"])
def test_reload_of_an_address_that_only_takes_forms_leads_to_the_job(
    as_person: AsPerson, operator: User, running: EnrichmentJob, rest: str
) -> None:
    answer = as_person(operator).get(url(running, rest))

    assert (answer.status_code, answer["Location"]) == (303, url(running))
    running.refresh_from_db()
    assert running.state == JobState.RUNNING


# --- live --------------------------------------------------------------------------------------------------------------------


def test_progress_answers_204_when_nothing_changed(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    person = as_person(operator)
    version = version_on(person.get(url(running)).content.decode())

    answer = person.get(url(running, "progress/"), {"v": version}, headers=HTMX)

    assert answer.status_code == 204


def test_progress_answers_the_figures_alone_when_rows_moved(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    person = as_person(operator)
    version = version_on(person.get(url(running)).content.decode())
    move_rows(running.id, EnrichmentRow.objects.filter(job=running, position=1), RowState.IN_FLIGHT)

    answer = person.get(url(running, "progress/"), {"v": version}, headers=HTMX)

    page = answer.content.decode()
    assert answer.status_code == 200
    assert "HX-Retarget" not in answer
    assert page.lstrip().startswith('<section id="job-progress"')
    assert 'id="job-facts" hx-swap-oob="true"' in page
    assert 'id="cancel-figures" hx-swap-oob="true"' in page
    assert "job-head" not in page
    assert version_on(page) != version


def test_progress_replaces_head_and_body_when_the_job_was_paused(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    person = as_person(operator)
    version = version_on(person.get(url(running)).content.decode())
    person.post(url(running, "pause/"))

    answer = person.get(url(running, "progress/"), {"v": version}, headers=HTMX)

    page = answer.content.decode()
    assert answer["HX-Retarget"] == "#job-body"
    assert 'id="job-head" hx-swap-oob="true"' in page
    assert "Paused by Ana Duarte." in plain(page)
    assert url(running, "resume/") in page


def test_progress_renews_the_figures_of_the_banner(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    person = as_person(operator)
    move_rows(running.id, EnrichmentRow.objects.filter(job=running, position__lte=2), RowState.IN_FLIGHT)
    person.post(url(running, "pause/"))
    before = person.get(url(running)).content.decode()
    assert "1 row waits. What is reserved for it is kept until" in plain(before)
    assert "2 at Icypeas still come back. Press Resume to go on." in plain(before)
    move_rows(running.id, EnrichmentRow.objects.filter(job=running, position=1), RowState.NOT_FOUND)

    page = person.get(url(running, "progress/"), {"v": version_on(before)}, headers=HTMX).content.decode()

    assert "job-head" not in page
    assert 'id="job-banner" hx-swap-oob="true"' in page
    assert "1 at Icypeas still comes back. Press Resume to go on." in plain(page)


def test_paused_job_without_waiting_rows_needs_no_resume(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    move_rows(running.id, EnrichmentRow.objects.filter(job=running), RowState.IN_FLIGHT)
    as_person(operator).post(url(running, "pause/"))

    banner = plain(as_person(operator).get(url(running)).content.decode())

    assert "No row waits to be sent. 3 at Icypeas still come back. The job ends by itself" in banner
    assert "reserved for them" not in banner
    assert "Press Resume" not in banner


def test_progress_drops_its_trigger_when_the_job_is_finished(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    person = as_person(operator)
    version = version_on(person.get(url(running)).content.decode())
    EnrichmentJob.objects.filter(id=running.id).update(state=JobState.CANCELLED, finished_at=db_now())

    page = person.get(url(running, "progress/"), {"v": version}, headers=HTMX).content.decode()

    assert "poll from:body" not in page
    assert "data-poll-seconds" not in page
    assert "Cost against estimate" in page


@pytest.mark.parametrize(("query", "comes"), [("", True), ("?state=found", True), ("?row=1", False)])
def test_end_of_the_job_brings_the_rows_as_they_are_unless_one_is_read(
    as_person: AsPerson, operator: User, running: EnrichmentJob, query: str, comes: bool
) -> None:
    person = as_person(operator)
    version = version_on(person.get(url(running)).content.decode())
    EnrichmentJob.objects.filter(id=running.id).update(state=JobState.CANCELLED, finished_at=db_now())
    shown = {**HTMX, "HX-Current-URL": f"https://desk.example{url(running)}{query}#results"}

    page = person.get(url(running, "progress/"), {"v": version}, headers=shown).content.decode()

    assert ('<div id="results" hx-swap-oob="innerHTML">' in page) == comes
    assert ("match the filter" in page) == (query == "?state=found")


def test_progress_leads_to_the_page_when_it_is_opened_as_a_page(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    answer = as_person(operator).get(url(running, "progress/"))

    assert answer.status_code == 302
    assert answer["Location"] == url(running)


def test_queued_job_says_that_no_worker_answers(
    as_person: AsPerson, operator: User, key: KeyRecord, wakes: list[Any]
) -> None:
    job = factories.start(factories.make_job(2, created_by=operator), key)
    factories.make_user(role="key_admin", name="Mira Okafor")

    text = plain(as_person(operator).get(url(job)).content.decode())

    assert (
        "Queued: no worker answers. None has been heard yet. The job waits; nothing is lost or paid." in text
    )
    assert "whoever runs this installation can do that. Mira Okafor can help." in text


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "A key admin can help."),
        (["Mira Okafor", "Leo Brandt"], "Leo Brandt or Mira Okafor can help."),
        (["Mira Okafor", "Leo Brandt", "Ana Sa"], "Ana Sa, Leo Brandt or Mira Okafor can help."),
    ],
)
def test_queued_job_names_every_key_admin_or_their_role(
    as_person: AsPerson, operator: User, key: KeyRecord, wakes: list[Any], names: list[str], said: str
) -> None:
    User.objects.exclude(id=operator.id).update(is_active=False)  # the owner of the key
    job = factories.start(factories.make_job(2, created_by=operator), key)
    for name in names:
        factories.make_user(role="key_admin", name=name)

    text = plain(as_person(operator).get(url(job)).content.decode())

    assert f"can do that. {said}" in text


def test_running_job_says_since_when_no_worker_answers(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    Worker.objects.update(seen_at=db_now() - timedelta(minutes=5))

    text = plain(as_person(operator).get(url(running)).content.decode())

    assert "No worker answers. The last one was heard 5\xa0min ago" in text.replace("5 min", "5\xa0min")
    assert "3 rows wait." in text


def test_stalled_job_says_what_is_silent_and_the_last_error(
    as_person: AsPerson, operator: User, running: EnrichmentJob, settings: Any
) -> None:
    long_ago = db_now() - timedelta(seconds=settings.STALLED_S + 60)
    EnrichmentJob.objects.filter(id=running.id).update(heard_at=long_ago, state_text="Icypeas answered 503.")

    text = plain(as_person(operator).get(url(running)).content.decode())

    assert "Nothing heard from Icypeas." in text
    assert "The last try ended with: Icypeas answered 503." in text
    assert "you need not do anything" in text


def test_paused_job_says_why_and_how_it_goes_on(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    EnrichmentJob.objects.filter(id=running.id).update(
        state=JobState.PAUSED,
        pause_reason=PauseReason.CREDITS,
        state_text="Paused: credits ran out. Buy credits at Icypeas, then press Resume.",
    )

    page = as_person(operator).get(url(running)).content.decode()

    assert "<strong>Paused: credits ran out.</strong>" in page
    assert "Buy credits at Icypeas, then press Resume. 3 rows wait;" in plain(page)


def test_running_banner_says_how_many_rows_are_uncertain_and_what_they_may_have_cost(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    rows = EnrichmentRow.objects.filter(job=running)
    rows.filter(position=3).update(is_lead=True)
    move_rows(running.id, rows.filter(position=3), RowState.UNCERTAIN, reason="It broke.")
    move_rows(running.id, rows.filter(position=2), RowState.IN_FLIGHT)
    rows.filter(position=2).update(is_lead=True)

    as_person(operator).post(url(running, "pause/"))
    banner = plain(as_person(operator).get(url(running)).content.decode())

    assert "1 row is uncertain and may have cost up to 0.1 credits. No machine sends it again." in banner


def test_viewer_of_a_paused_job_sees_resume_and_who_can(
    as_person: AsPerson, operator: User, team: Team, running: EnrichmentJob
) -> None:
    as_person(operator).post(url(running, "pause/"))
    viewer = as_person(factories.make_user(role="viewer", team=team))

    page = plain(viewer.get(url(running)).content.decode())
    assert "can resume or cancel it" in page
    assert "Resume Cancel…" in page
    assert "Pause…" not in page

    EnrichmentJob.objects.filter(id=running.id).update(state=JobState.CANCELLING)
    page = plain(viewer.get(url(running)).content.decode())
    assert "cancel it" not in page
    assert "Cancel…" not in page


def test_head_says_when_the_job_started_and_no_age_that_stands_still(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    EnrichmentJob.objects.filter(id=running.id).update(started_at=db_now() - timedelta(seconds=40))

    page = as_person(operator).get(url(running)).content.decode()

    head = page[page.index('id="job-head"') :].partition("</header>")[0]
    assert re.search(r"started (\d+ \w+ )?\d\d:\d\d", plain(head))
    assert " ago" not in plain(head)


def test_story_of_a_cancelled_job_tells_of_rows_that_did_not_come_back(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    move_rows(running.id, EnrichmentRow.objects.filter(job=running), RowState.UNCERTAIN, reason="It broke.")
    EnrichmentJob.objects.filter(id=running.id).update(state=JobState.CANCELLING)

    assert finish_if_done(running.id)

    page = plain(as_person(operator).get(url(running)).content.decode())
    assert "Cancelled; 3 rows are uncertain, every other row that was at Icypeas has come back" in page


# --- stopping ----------------------------------------------------------------------------------------------------------------


def test_pause_keeps_the_address_of_the_reader(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    answer = as_person(operator).post(url(running, "pause/?state=waiting&row=2"))

    running.refresh_from_db()
    assert answer.status_code == 303
    assert answer["Location"] == url(running, "?state=waiting&row=2")
    assert running.state == JobState.PAUSED


def test_resume_lets_a_paused_job_go_on(as_person: AsPerson, operator: User, running: EnrichmentJob) -> None:
    person = as_person(operator)
    person.post(url(running, "pause/"))

    person.post(url(running, "resume/"))

    running.refresh_from_db()
    assert running.state == JobState.RUNNING


@pytest.mark.parametrize("rest", ["pause/", "resume/", "cancel/"])
def test_stopping_is_forbidden_to_a_viewer(
    as_person: AsPerson, team: Team, running: EnrichmentJob, rest: str
) -> None:
    viewer = factories.make_user(role="viewer", team=team)

    answer = as_person(viewer).post(url(running, rest))

    running.refresh_from_db()
    assert answer.status_code == 403
    assert running.state == JobState.RUNNING


def test_cancel_page_says_what_it_stops_and_what_it_can_still_cost(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    move_rows(running.id, EnrichmentRow.objects.filter(job=running, position=1), RowState.IN_FLIGHT)

    text = plain(as_person(operator).get(url(running, "cancel/")).content.decode())

    assert f"Cancel job #{running.id}?" in text
    assert "2 rows are never sent. 1 row is at Icypeas already" in text
    assert "at most 0.1 credits" in text


@pytest.mark.parametrize("what", ["pause", "cancel"])
def test_rows_that_left_after_the_figures_were_shown_are_told_after_the_click(
    as_person: AsPerson, operator: User, running: EnrichmentJob, what: str
) -> None:
    person = as_person(operator)
    page = person.get(url(running, f"{what}/")).content.decode()
    said = re.search(rf'name="at_most" value="([0-9.]+)" form="{what}-form"', page)
    assert said
    assert f'id="{what}-form"' in page
    move_rows(running.id, EnrichmentRow.objects.filter(job=running, position__lt=3), RowState.IN_FLIGHT)

    after = person.post(url(running, f"{what}/"), {"at_most": said[1]}, follow=True)

    assert (
        "2 are there now and can cost at most 0.2 credits, so the job ends at 0.2 at most instead of 0"
        in plain(after.content.decode())
    )


def test_figures_that_still_hold_are_not_told_again(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    move_rows(running.id, EnrichmentRow.objects.filter(job=running, position=1), RowState.IN_FLIGHT)

    after = as_person(operator).post(url(running, "pause/"), {"at_most": "0.1"}, follow=True)

    assert "since this page showed" not in plain(after.content.decode())


def test_cancel_gives_the_reservation_back_and_keeps_the_reason(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    answer = as_person(operator).post(url(running, "cancel/"), {"reason": "Wrong list"})

    running.refresh_from_db()
    assert answer.status_code == 303
    assert running.rows_skipped == 3
    assert ledger.job_sums(running.id).open == 0
    assert AuditEntry.objects.get(action="job.cancelled").reason == "Wrong list"


def test_cancel_shows_the_error_at_the_field_when_the_reason_is_too_long(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    answer = as_person(operator).post(url(running, "cancel/"), {"reason": "x" * 301})

    running.refresh_from_db()
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.content.decode()
    assert running.state == JobState.RUNNING


# --- results -----------------------------------------------------------------------------------------------------------------


def test_results_are_swapped_alone_when_they_are_the_target(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    answer = as_person(operator).get(url(running), headers=RESULTS)

    page = answer.content.decode()
    assert "<html" not in page
    assert "ann1@company1.example" in page
    assert "HX-Request" in answer["Vary"]
    assert "HX-Target" in answer["Vary"]


def test_rows_region_leads_to_its_place_on_the_page_without_htmx(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    answer = as_person(operator).get(url(running, "rows/?state=waiting"))

    assert answer["Location"] == url(running, "?state=waiting#results")


def test_results_keep_to_the_filter_in_the_address(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    rows = EnrichmentRow.objects.filter(job=running, position=2)
    move_rows(running.id, rows, RowState.FAILED, reason_code="bad_input", reason="Not accepted.")

    by_state = as_person(operator).get(url(running, "?state=failed")).content.decode()
    by_reason = as_person(operator).get(url(running, "?reason=bad_input")).content.decode()
    by_search = as_person(operator).get(url(running, "?q=COMPANY3")).content.decode()

    assert "1 row matches the filter" in plain(by_state)
    assert "ann2@company2.example" in by_state
    assert "ann1@company1.example" not in by_state
    assert "ann2@company2.example" in by_reason
    assert "ann1@company1.example" not in by_reason
    assert "ann3@company3.example" in by_search
    assert "ann2@company2.example" not in by_search


@pytest.mark.parametrize(
    "query",
    [
        "?state=nonsense",
        "?after=-1&before=x",
        "?row=0",
        "?row=99999999999999999999",
        "?q=%00",
        "?after=99999999999999999999",
        "?certainty=%27",
    ],
)
def test_addresses_that_make_no_sense_still_open(
    as_person: AsPerson, operator: User, running: EnrichmentJob, query: str
) -> None:
    assert as_person(operator).get(url(running, query)).status_code == 200


def test_results_page_by_page_show_every_row_once(
    as_person: AsPerson, operator: User, key: KeyRecord, wakes: list[Any]
) -> None:
    job = make_running(operator, key, rows=120)
    person, shown, address = as_person(operator), [], url(job)

    while address:
        page = person.get(address).content.decode()
        shown += re.findall(r'id="row-(\d+)"', page)
        following = re.search(r'href="([^"]+)" rel="next"', page)
        address = following[1].replace("&amp;", "&") if following else ""

    assert [int(position) for position in shown] == list(range(1, 121))


def test_job_page_asks_the_database_as_often_for_50_rows_as_for_one(
    as_person: AsPerson, operator: User, key: KeyRecord, wakes: list[Any]
) -> None:
    person = as_person(operator)
    jobs = [
        make_running(operator, key, rows=1, stem="bea"),
        make_running(operator, key, rows=50, stem="cleo"),
    ]
    person.get(url(jobs[0]))  # what is made once per session is made now
    counts = []

    for job in jobs:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            person.get(url(job, "?row=1"))
        counts.append(len(queries))

    assert counts[0] == counts[1]
    assert counts[1] <= 45


def test_what_a_file_says_is_shown_as_text(
    as_person: AsPerson, operator: User, key: KeyRecord, wakes: list[Any]
) -> None:
    lines = ["First name,Last name,Domain,Note", "<b>Eve</b>,Adams,adams.example,<script>alert(1)</script>"]
    job = factories.start(factories.make_job(lines, operation="email-search", created_by=operator), key)

    page = as_person(operator).get(url(job, "?row=1")).content.decode()

    assert "<b>Eve" not in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


# --- receipts ----------------------------------------------------------------------------------------------------------------


def test_receipt_stands_beside_the_table_with_its_neighbours_in_the_filter(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    page = as_person(operator).get(url(running, "?state=waiting&row=2")).content.decode()

    assert 'id="row-previous"' in page
    assert f'href="{url(running)}?state=waiting&amp;row=1"' in page
    assert f'href="{url(running)}?state=waiting&amp;row=3"' in page
    assert f'href="{url(running)}?state=waiting"' in page
    assert "at most 0.1, not settled yet" in plain(page)


def test_receipt_is_a_page_of_its_own(as_person: AsPerson, operator: User, running: EnrichmentJob) -> None:
    page = as_person(operator).get(url(running, "rows/2/")).content.decode()

    assert '<h1><span dir="auto">ann2@company2.example</span></h1>' in page
    assert url(running, "rows/3/") in page


@pytest.mark.parametrize("rest", ["rows/4/", "raw/4/", "raw/1/"])
def test_receipt_of_a_row_that_is_not_there_or_unanswered_is_not_found(
    as_person: AsPerson, operator: User, running: EnrichmentJob, rest: str
) -> None:
    assert as_person(operator).get(url(running, rest)).status_code == 404


def test_closing_a_receipt_gives_the_focus_back_to_its_row(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    came_from = {"HX-Trigger": "row-close", "HX-Current-URL": f"http://testserver{url(running)}?row=2"}

    page = as_person(operator).get(url(running), headers={**RESULTS, **came_from}).content.decode()

    assert re.findall(r'id="(row-\d)"[^>]* autofocus', page) == ["row-2"]


# --- exports -----------------------------------------------------------------------------------------------------------------


def test_export_is_the_file_that_the_service_writes_and_stands_in_the_audit_log(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    answer = as_person(operator).get(url(running, "export/?preset=raw"))

    assert answer.getvalue() == b"".join(exporting.export(running, "raw"))
    assert answer["Content-Disposition"] == f'attachment; filename="list-{running.id}-enriched-PARTIAL.csv"'
    assert AuditEntry.objects.get(action="job.exported").detail == {"preset": "raw", "rows": 3}


def test_export_has_only_the_rows_of_the_filter(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    answer = as_person(operator).get(url(running, "export/?preset=crm&q=company2"))

    lines = answer.getvalue().decode().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("ann2@company2.example,")


def test_export_name_survives_letters_outside_of_ascii(
    as_person: AsPerson, operator: User, key: KeyRecord, wakes: list[Any]
) -> None:
    job = factories.start(factories.make_job(1, created_by=operator, file_name='Müller "A".csv'), key)

    named = as_person(operator).get(url(job, "export/?preset=excel"))["Content-Disposition"]

    assert named.startswith("attachment; filename*=utf-8''M%C3%BCller")


def test_export_in_an_unknown_preset_is_a_bad_request(
    as_person: AsPerson, operator: User, running: EnrichmentJob
) -> None:
    assert as_person(operator).get(url(running, "export/?preset=pdf")).status_code == 400


# --- a real run --------------------------------------------------------------------------------------------------------------


def figures_on(page: str) -> dict[str, int]:
    """The legend's numbers by state."""
    found = re.findall(r'id="legend-(\w+)".*?legend-number">([\d,]+)<', page, re.DOTALL)
    return {state: int(number.replace(",", "")) for state, number in found}


def test_every_figure_of_the_page_is_what_the_database_says_while_the_job_runs(
    engine: Engine, as_person: AsPerson, settings: Any
) -> None:
    settings.BATCH_ROWS = 40
    job = engine.start(150)
    person, seen = as_person(engine.person), []

    for _ in range(400):
        page = person.get(url(job)).content.decode()
        by_state = {
            state: EnrichmentRow.objects.filter(job=job, state=state).count() for state in RowState.values
        }
        job = EnrichmentJob.objects.get(id=job.id)
        if job.is_finished:
            break
        money = ledger.job_sums(job.id)
        assert figures_on(page) == by_state
        facts = dict(re.findall(r"<dt>([^<]+)</dt><dd[^>]*>\s*([\d.,]+)", page))
        assert facts["Reserved at the start"] == f"{money.reserved:.0f}"
        assert facts["Charged"] == f"{money.charged.normalize():f}"
        assert facts["Still open"] == f"{money.open.normalize():f}"
        assert facts["Waiting, never sent"] == str(by_state["waiting"])
        assert facts["At Icypeas, still come back"] == str(by_state["in_flight"])
        seen.append(tuple(by_state.values()))
        engine.step(job)

    assert job.is_finished
    assert len(set(seen)) >= 3


def test_finished_page_shows_result_cost_and_the_ways_home(engine: Engine, as_person: AsPerson) -> None:
    job = engine.run(engine.start([*factories.addresses(6), "ann1@company1.example", "nonsense"]))

    page = as_person(engine.person).get(url(job)).content.decode()

    text, verdicts = plain(page), selectors.verdict_counts(job)
    useful = verdicts.get("deliverable", 0) + verdicts.get("risky", 0)
    assert f"{useful} of 7 answered rows are deliverable, 1 of them known or asked once before" in text
    assert "CSV for Excel, all 8 rows" in text
    assert "No cell looks like a formula" in text
    assert "Charged, by row receipts 0.6" in text
    assert "1 cached row saved up to 0.1 credits." in text
    assert figures_on(page) == {s: n for s, n in job.counts.items() if s not in ("in_flight", "waiting")}


def test_receipt_tells_batch_worker_and_what_icypeas_sent(engine: Engine, as_person: AsPerson) -> None:
    job = engine.run(engine.start([*factories.addresses(2), "ann1@company1.example"]))
    person = as_person(engine.person)

    text = plain(person.get(url(job, "?row=1")).content.decode())
    twin = plain(person.get(url(job, "?row=3")).content.decode())
    raw = person.get(url(job, "raw/1/"))

    row = EnrichmentRow.objects.select_related("answer").get(job=job, position=1)
    assert row.answer is not None
    assert f"At Icypeas {row.answer.provider_id}" in text
    assert "Batch 1 of 1, 2 rows" in text
    assert "0.1 charged" in text
    assert "the same question as row 1 , asked once" in twin
    assert json.loads(raw.content) == row.answer.raw


def test_known_answer_names_the_job_that_paid(engine: Engine, as_person: AsPerson) -> None:
    first = engine.run(engine.start(1))
    second = engine.run(engine.begin(engine.draft(1), is_again=True))

    page = as_person(engine.person).get(url(second, "?row=1")).content.decode()

    assert f'nothing: known from <a href="{url(first)}">job #{first.id}</a>' in " ".join(page.split())


def test_finished_page_groups_failures_and_warns_of_uncertain_rows(
    engine: Engine, as_person: AsPerson
) -> None:
    job = engine.run(engine.start(4))
    rows = EnrichmentRow.objects.filter(job=job)
    move_rows(
        job.id, rows.filter(position__lte=2), RowState.FAILED, reason_code="bad_input", reason="Not accepted."
    )
    move_rows(job.id, rows.filter(position=3), RowState.UNCERTAIN, reason_code="not_seen", reason="It broke.")

    page = as_person(engine.person).get(url(job)).content.decode()

    text = plain(page)
    assert "Why 2 rows failed" in text
    assert "Not accepted. first in row 1 2 Correct the cells, then send them" in text
    assert (
        "1 row is uncertain and may have cost up to 0.1 credits. It broke. These rows are never sent again by themselves. Decide what becomes of them"
        in text
    )
    assert f"{url(job)}?state=failed&amp;reason=bad_input#results" in page


def test_progress_takes_any_header_for_an_address(engine: Engine, as_person: AsPerson) -> None:
    job = engine.start(1)

    answer = as_person(engine.person).get(
        f"/jobs/{job.id}/progress/", headers={"HX-Request": "true", "HX-Current-URL": "http://["}
    )

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("reason", "said"), [("key", "they are read after Resume"), ("credits", "they come back by")]
)
def test_paused_job_says_what_its_rows_at_icypeas_may_cost(
    engine: Engine, as_person: AsPerson, reason: str, said: str
) -> None:
    engine.switch(speed=0)
    job = engine.start(3)
    while job.rows_in_flight < 3:
        engine.step(job)
    EnrichmentJob.objects.filter(id=job.id).update(
        state="paused", pause_reason=reason, state_text="Paused: x."
    )

    text = " ".join(as_person(engine.person).get(f"/jobs/{job.id}/").content.decode().split())

    assert "3 at Icypeas may still cost what was reserved for them" in text
    assert said in text
    assert "0 rows wait" not in text
    assert "nothing more is paid" not in text

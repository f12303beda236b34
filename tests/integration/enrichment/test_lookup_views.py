"""The look-up page: its form, what it refuses, and the answer in each of its states."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from enrichment.choices import JobState, PauseReason, RowState
from enrichment.models import EnrichmentJob, EnrichmentRow
from enrichment.services import submission
from enrichment.services.transitions import move_rows
from keys import ledger
from keys.clock import db_now
from keys.models import KeyRecord
from keys.services import worker_seen
from people.audit import Actor
from people.models import User
from tests import factories
from tests.fakes.engine import Engine

pytestmark = pytest.mark.django_db
AsPerson = Callable[[User], Client]
HTMX = {"HX-Request": "true", "HX-Target": "lookup-answer"}
FIND, VERIFY = "/lookup/email-search/", "/lookup/email-verification/"


@pytest.fixture
def operator(db: None) -> User:
    return factories.make_user("ana@desk.example", name="Ana Duarte", team=factories.make_team("RevOps"))


@pytest.fixture
def key(wakes: list[Any]) -> KeyRecord:
    return factories.make_key(account=factories.make_account(balance=1000))


def typed(key: KeyRecord, **told: str) -> dict[str, str]:
    """What the browser sends for a filled form."""
    return {"key": str(key.id), "token": submission.new_token(), "purpose": "", "use_known": "on", **told}


def look_up(person: User, key: KeyRecord, email: str = "ann1@company1.example") -> EnrichmentJob:
    return submission.look_up(
        Actor(person),
        operation="email-verification",
        told={"email": email},
        key=key,
        purpose="",
        freshness_days=90,
        token=submission.new_token(),
    )


def plain(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def answer_of(person: Client, job: EnrichmentJob) -> str:
    """The answer's region on the page of a look-up."""
    page = person.get(f"/lookup/{job.operation}/?job={job.id}").content.decode()
    return page[page.index('<section id="lookup-answer"') : page.index('id="last-lookups"')]


# --- the form ----------------------------------------------------------------------------------------------------------------


def test_lookup_leads_to_the_first_operation(as_person: AsPerson, operator: User) -> None:
    assert as_person(operator).get("/lookup/")["Location"] == FIND


def test_form_has_the_inputs_of_its_operation_and_the_cost_on_its_button(
    as_person: AsPerson, operator: User, key: KeyRecord
) -> None:
    find = as_person(operator).get(FIND).content.decode()
    verify = as_person(operator).get(VERIFY).content.decode()

    assert 'name="first_name"' in find
    assert 'name="domain"' in find
    assert "Find, at most 1 credit" in find
    assert 'name="email"' in verify
    assert "Verify, 0.1 credits" in verify
    assert key.name in verify


def test_unknown_operation_is_not_found(as_person: AsPerson, operator: User) -> None:
    assert as_person(operator).get("/lookup/astrology/").status_code == 404


@pytest.mark.parametrize("address", ["/lookup/", FIND, "/lookup/answer/1/"])
def test_lookup_leads_to_the_log_in_when_nobody_is_logged_in(client: Client, address: str) -> None:
    assert client.get(address)["Location"].startswith("/login/")


def test_form_names_who_may_look_up_when_the_reader_may_not(
    as_person: AsPerson, operator: User, key: KeyRecord
) -> None:
    viewer = factories.make_user(role="viewer", team=operator.team)

    page = as_person(viewer).get(VERIFY)
    answer = as_person(viewer).post(VERIFY, typed(key, email="ann1@company1.example"))

    assert re.search(r"Ana Duarte.* can look things up\.", plain(page.content.decode()))
    assert answer.status_code == 403
    assert not EnrichmentJob.objects.exists()


def test_purpose_is_called_optional_only_where_the_price_leaves_it_so(
    as_person: AsPerson, operator: User, key: KeyRecord
) -> None:
    client = as_person(operator)

    assert "optional up to 5 credits" in plain(client.get(VERIFY).content.decode())
    assert "optional up to" not in plain(client.get("/lookup/reverse-lookup/").content.decode())


def test_keys_without_the_scope_are_not_offered_and_say_why(as_person: AsPerson, operator: User) -> None:
    key = factories.make_key("sandbox_lists_only", scopes=["email-verification:bulk"])

    page = as_person(operator).get(VERIFY).content.decode()
    answer = as_person(operator).post(VERIFY, typed(key, email="ann1@company1.example"))

    assert "No key can be used for this." in page
    assert "email-verification:single" in plain(page)
    assert answer.status_code == 422
    assert "No key can be used for this." in plain(answer.content.decode())
    assert not EnrichmentJob.objects.exists()


def test_refused_key_is_explained_at_its_field_when_another_is_offered(
    as_person: AsPerson, operator: User, key: KeyRecord
) -> None:
    other = factories.make_key("sandbox_lists_only", scopes=["email-verification:bulk"])

    page = as_person(operator).post(VERIFY, typed(other, email="ann1@company1.example")).content.decode()

    (error,) = re.findall(r'id="id_key_error">(.*?)</p>', page)
    assert "sandbox_lists_only" in error
    assert "email-verification:single" in error


@pytest.mark.parametrize(
    ("address", "told", "field"),
    [
        (FIND, {"domain": "nordhafen.example"}, "first_name"),
        (FIND, {"first_name": "Greta"}, "domain"),
        (VERIFY, {"email": ""}, "email"),
        (VERIFY, {"email": "nonsense"}, "email"),
        (VERIFY, {"email": "ann1@company1.example", "purpose": "x" * 301}, "purpose"),
    ],
)
def test_form_says_what_is_missing_at_its_field(
    as_person: AsPerson, operator: User, key: KeyRecord, address: str, told: dict[str, str], field: str
) -> None:
    answer = as_person(operator).post(address, typed(key, **told))

    assert answer.status_code == 422
    assert f'id="id_{field}_error"' in answer.content.decode()
    assert not EnrichmentJob.objects.exists()


def test_refused_form_is_swapped_alone_by_htmx(as_person: AsPerson, operator: User, key: KeyRecord) -> None:
    answer = as_person(operator).post(VERIFY, typed(key, email="nonsense"), headers=HTMX)

    assert answer.status_code == 422
    assert answer["HX-Retarget"] == "#lookup-form"
    assert answer.content.decode().lstrip().startswith('<form class="form" id="lookup-form"')


def test_lookup_over_the_balance_is_refused_at_the_key(
    as_person: AsPerson, operator: User, wakes: list[Any]
) -> None:
    key = factories.make_key(account=factories.make_account(balance=0))

    answer = as_person(operator).post(VERIFY, typed(key, email="ann1@company1.example"))

    assert answer.status_code == 422
    assert "0 are available" in answer.content.decode()
    assert not EnrichmentJob.objects.exists()


# --- asking ------------------------------------------------------------------------------------------------------------------


def test_lookup_leads_to_its_answer_without_htmx(
    as_person: AsPerson,
    operator: User,
    key: KeyRecord,
    wakes: list[Any],
    django_capture_on_commit_callbacks: Any,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        answer = as_person(operator).post(VERIFY, typed(key, email="ann1@company1.example"))

    job = EnrichmentJob.objects.get()
    assert answer.status_code == 303
    assert answer["Location"] == f"{VERIFY}?job={job.id}"
    assert job.state == JobState.QUEUED
    assert wakes == [("run_job", job.id, "urgent")]
    assert ledger.job_sums(job.id).reserved == job.price


def test_lookup_brings_the_answer_and_a_new_token_by_htmx(
    as_person: AsPerson, operator: User, key: KeyRecord
) -> None:
    sent = typed(key, email="ann1@company1.example")

    answer = as_person(operator).post(VERIFY, sent, headers=HTMX)

    page, job = answer.content.decode(), EnrichmentJob.objects.get()
    assert answer["HX-Push-Url"] == f"{VERIFY}?job={job.id}"
    assert page.lstrip().startswith('<section id="lookup-answer"')
    (token,) = re.findall(r'name="token" value="(\w+)" id="id_token" hx-swap-oob="true"', page)
    assert token != sent["token"]


def test_mended_form_comes_back_without_its_errors(
    as_person: AsPerson, operator: User, key: KeyRecord
) -> None:
    person = as_person(operator)
    refused = person.post(VERIFY, typed(key, email="nonsense"), headers=HTMX).content.decode()
    assert 'name="mends"' in refused

    page = person.post(
        VERIFY, typed(key, email="ann1@company1.example", mends="yes"), headers=HTMX
    ).content.decode()

    assert 'id="lookup-form" hx-swap-oob="true"' in page
    assert 'value="ann1@company1.example"' in page
    assert "aria-invalid" not in page


def test_pressing_twice_asks_once(as_person: AsPerson, operator: User, key: KeyRecord) -> None:
    sent = typed(key, email="ann1@company1.example")

    first, second = (as_person(operator).post(VERIFY, sent)["Location"] for _ in range(2))

    assert first == second
    assert EnrichmentJob.objects.count() == 1


@pytest.mark.parametrize(("sent", "days"), [({}, 90), ({"use_known": ""}, 0)])
def test_known_answers_are_used_only_when_wanted(
    as_person: AsPerson, operator: User, key: KeyRecord, sent: dict[str, str], days: int
) -> None:
    as_person(operator).post(VERIFY, {**typed(key, email="ann1@company1.example"), **sent})

    assert EnrichmentJob.objects.get().freshness_days == days


# --- the answer --------------------------------------------------------------------------------------------------------------


def test_answer_says_what_it_waits_for_and_is_polled(
    as_person: AsPerson, operator: User, key: KeyRecord
) -> None:
    job = look_up(operator, key)
    worker_seen()

    region = answer_of(as_person(operator), job)

    assert "Waiting for a worker to take it" in region
    assert 'hx-trigger="poll from:body"' in region
    assert f'href="{VERIFY}?job={job.id}">Refresh' in region


def test_answer_says_that_no_worker_answers(as_person: AsPerson, operator: User, key: KeyRecord) -> None:
    region = answer_of(as_person(operator), look_up(operator, key))

    assert "No worker answers." in region
    assert "nothing is lost or paid" in region
    assert "data-poll-seconds" in region


def test_answer_region_answers_204_when_nothing_changed(
    as_person: AsPerson, operator: User, key: KeyRecord
) -> None:
    job = look_up(operator, key)
    EnrichmentJob.objects.update(started_at=db_now() - timedelta(minutes=5, seconds=2))
    person = as_person(operator)
    (version,) = re.findall(r"\?v=([\w-]+)", answer_of(person, job))

    answer = person.get(f"/lookup/answer/{job.id}/", {"v": version}, headers=HTMX)

    assert answer.status_code == 204


def test_answer_region_leads_to_the_page_without_htmx(
    as_person: AsPerson, operator: User, key: KeyRecord
) -> None:
    job = look_up(operator, key)

    assert as_person(operator).get(f"/lookup/answer/{job.id}/")["Location"] == f"{VERIFY}?job={job.id}"


def test_lookup_of_another_team_is_not_shown(as_person: AsPerson, operator: User, key: KeyRecord) -> None:
    job = look_up(operator, key)
    stranger = as_person(factories.make_user(team=factories.make_team()))

    page = stranger.get(f"{VERIFY}?job={job.id}").content.decode()

    assert "ann1@company1.example" not in page
    assert stranger.get(f"/lookup/answer/{job.id}/", headers=HTMX).status_code == 404


def test_refused_lookup_says_why_and_that_nothing_was_charged(
    as_person: AsPerson, operator: User, key: KeyRecord
) -> None:
    job = look_up(operator, key)
    EnrichmentJob.objects.update(
        state=JobState.PAUSED,
        pause_reason=PauseReason.KEY,
        state_text="Paused: Icypeas refused the key (401).",
    )

    region = answer_of(as_person(operator), job)

    assert "This was refused." in region
    assert "Icypeas refused the key (401). Nothing was charged." in region
    assert "data-poll-seconds" not in region


def test_uncertain_lookup_says_what_it_may_have_cost_and_who_decides(
    as_person: AsPerson, operator: User, key: KeyRecord
) -> None:
    factories.make_user(role="manager", name="Leo Brandt")
    job = look_up(operator, key)
    move_rows(
        job.id, EnrichmentRow.objects.filter(job=job), RowState.UNCERTAIN, reason="The connection broke."
    )

    text = plain(answer_of(as_person(operator), job))

    assert "Nobody can say what became of it. The connection broke. It may have cost 0.1 credits." in text
    assert "Leo Brandt decides" in text


def test_answer_of_a_real_lookup_shows_verdict_cost_and_source(engine: Engine, as_person: AsPerson) -> None:
    job = engine.run(look_up(engine.person, engine.key))
    person = as_person(engine.person)

    region = plain(answer_of(person, job))
    polled = person.get(f"/lookup/answer/{job.id}/", headers=HTMX).content.decode()

    row = EnrichmentRow.objects.select_related("answer").get(job=job)
    assert row.answer is not None
    assert row.answer.verdict.capitalize() in region
    assert "Cost 0.1 credits" in region
    assert f"look-up #{job.id}" in region
    assert "hx-trigger" not in polled
    assert 'id="last-lookups" hx-swap-oob="true"' in polled


def test_known_answer_costs_nothing_and_can_be_asked_again(engine: Engine, as_person: AsPerson) -> None:
    engine.run(look_up(engine.person, engine.key))
    known = engine.run(look_up(engine.person, engine.key))
    person = as_person(engine.person)

    region = answer_of(person, known)
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', region))
    person.post(VERIFY, hidden)

    assert "nothing, it was known" in region
    assert "Ask again, 0.1 credits" in region
    assert hidden["email"] == "ann1@company1.example"
    again = EnrichmentJob.objects.order_by("-id")[0]
    assert again.id > known.id
    assert again.freshness_days == 0


def test_found_email_is_carried_over_to_the_verification(engine: Engine, as_person: AsPerson) -> None:
    asked = [
        submission.look_up(
            Actor(engine.person),
            operation="email-search",
            told={"first_name": name, "last_name": "Lindqvist", "domain": "nordhafen.example", "company": ""},
            key=engine.key,
            purpose="",
            freshness_days=90,
            token=submission.new_token(),
        )
        for name in ("Greta", "Ada", "Tomas", "Ingrid", "Oskar", "Noor")
    ]
    found = next(job for job in map(engine.run, asked) if job.rows_found)
    person = as_person(engine.person)

    region = answer_of(person, found)
    form = person.get(f"{VERIFY}?from={found.id}").content.decode()

    row = EnrichmentRow.objects.select_related("answer").get(job=found)
    assert row.answer is not None
    assert f'<p class="lookup-headline">{row.answer.result["email"]}</p>' in region
    assert f'value="{row.answer.result["email"]}"' in form


# --- the list ----------------------------------------------------------------------------------------------------------------


def test_last_lookups_are_the_persons_own(as_person: AsPerson, operator: User, key: KeyRecord) -> None:
    mine = look_up(operator, key)
    look_up(factories.make_user(team=operator.team), key, "cleo@company9.example")

    page = as_person(operator).get(FIND).content.decode()

    assert f"{VERIFY}?job={mine.id}" in page
    assert "cleo@company9.example" not in page


def test_page_asks_the_database_as_often_for_ten_lookups_as_for_one(
    as_person: AsPerson, operator: User, key: KeyRecord
) -> None:
    person, counts = as_person(operator), []
    person.get(VERIFY)  # what is made once per session is made now

    for emails in (factories.addresses(1), factories.addresses(9, stem="bea")):
        for email in emails:
            look_up(operator, key, email)
        with CaptureQueriesContext(connection) as queries:
            person.get(VERIFY)
        counts.append(len(queries))

    assert counts[0] == counts[1]
    assert counts[1] <= 30


def test_answer_with_an_unknown_status_is_uncertain_and_not_free(engine: Engine, as_person: AsPerson) -> None:
    job = engine.run(look_up(engine.person, engine.key, "a@sbx-unknownstatus.example"))

    text = plain(answer_of(as_person(engine.person), job))

    assert "Nobody can say what became of it." in text
    assert "ON_REVIEW" in text
    assert "free" not in text
    assert "Known until" not in text


def test_refused_look_up_whose_row_is_there_says_that_it_may_cost(
    as_person: AsPerson, operator: User, key: KeyRecord
) -> None:
    job = look_up(operator, key)
    move_rows(job.id, EnrichmentRow.objects.filter(job=job), RowState.IN_FLIGHT)
    EnrichmentJob.objects.filter(id=job.id).update(
        state="paused", pause_reason="provider", state_text="Paused: Icypeas refused to tell."
    )

    text = plain(answer_of(as_person(operator), job))

    assert "It was sent before and may cost 0.1 credit" in text
    assert "Nothing was charged" not in text

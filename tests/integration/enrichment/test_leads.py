"""Searches for leads, end to end against a sandbox process: free counts, pages that follow each other, lost pages."""

from __future__ import annotations

import csv
import io
import re
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client

from enrichment import leads_page, operations
from enrichment.models import Batch, EnrichmentJob, LeadCount
from enrichment.operations import leads
from enrichment.operations.base import COUNTRY_CODE, WITHOUT_SPACE
from enrichment.services import (
    answers,
    decisions,
    lead_counts,
    provider_call,
    searching,
    send_path,
    submission,
)
from enrichment.services.decisions import Chosen
from keys import gate, ledger
from keys.models import Call
from people.audit import Actor
from people.models import User
from tests import factories
from tests.fakes.engine import Engine, exported, paid_credits, paid_inputs

AsPerson = Callable[[User], Client]

SALES = {"currentJobTitle": {"include": ["sales"]}}
FORM = {"currentJobTitle": "sales", "profileLocation": "FR, DE", "profileLocation_not": "Lyon"}
QUERY = {
    "currentJobTitle": {"include": ["sales"]},
    "profileLocation": {"include": ["FR", "DE"], "exclude": ["Lyon"]},
}


def fetch(engine: Engine, wanted: int, query: dict[str, Any] = SALES, **more: Any) -> EnrichmentJob:
    engine.credits("500")
    told = {"operation": "find-people", "purpose": "Outbound", "token": submission.new_token(), **more}
    return searching.fetch(Actor(engine.person), query=query, wanted=wanted, key=engine.key, **told)


def rows_of(job: EnrichmentJob) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exported(job).decode())))


def test_leads_come_page_by_page_each_once(engine: Engine) -> None:
    job = engine.run(fetch(engine, 250))

    assert (job.state, job.rows_found, job.rows_total) == ("completed", 250, 250)
    assert engine.sent("/find-people") == 5
    pages = [row["icypeas_profile_url"] for row in rows_of(job)]
    assert len(set(pages)) == 250
    assert paid_credits(engine.sandbox) == ledger.job_sums(job.id).charged == 5
    assert ledger.job_sums(job.id).open == 0
    assert set(paid_inputs(engine.sandbox).values()) == {1}
    assert rows_of(job)[0]["icypeas_domain"].endswith(".example")


def test_list_that_ends_early_leaves_places_empty_and_free(engine: Engine, as_person: AsPerson) -> None:
    query = {**SALES, "profileLocation": {"include": ["PL"]}, "currentCompany": {"headcount": {">=": 1000}}}
    total = engine.sandbox.post("/find-people/count", {"query": query})["total"]
    assert 0 < total < 300

    job = engine.run(fetch(engine, total + 40, query))

    assert (job.state, job.rows_found, job.rows_skipped) == ("completed", total, 40)
    page = as_person(engine.person).get(f"/jobs/{job.id}/").content.decode()
    assert "Correct or send again" not in page
    assert "Continue with these rows" in page
    assert ledger.job_sums(job.id).charged == total * Decimal("0.02")
    assert {row["icypeas_status"] for row in rows_of(job)[total:]} == {"skipped"}
    assert "no more leads" in rows_of(job)[-1]["icypeas_reason"]


def test_search_without_anybody_ends_at_once(engine: Engine) -> None:
    job = engine.run(fetch(engine, 50, {"currentJobTitle": {"include": ["no such thing"]}}))

    assert (job.state, job.rows_skipped, engine.sent("/find-people")) == ("completed", 50, 1)
    assert not engine.sandbox.charges()


def test_lost_page_is_uncertain_and_the_rest_is_not_asked(engine: Engine) -> None:
    job = lose_second_page(engine, fetch(engine, 250))

    assert (job.state, job.rows_found, job.rows_uncertain, job.rows_skipped) == ("completed", 50, 50, 150)
    assert ledger.job_sums(job.id).open == 1
    assert max(paid_inputs(engine.sandbox).values()) == 1


def test_lost_page_is_fetched_again_within_the_limit_set_before(engine: Engine) -> None:
    job = lose_second_page(engine, fetch(engine, 250, pay_again_limit=Decimal(1)))

    assert (job.state, job.rows_found, job.paid_again) == ("completed", 250, 1)
    assert len({row["icypeas_profile_url"] for row in rows_of(job)}) == 250


def one_page(engine: Engine, job: EnrichmentJob) -> None:
    while not Batch.objects.filter(job=job, state="done").exists():
        engine.step(job)


def lose_second_page(engine: Engine, job: EnrichmentJob) -> EnrichmentJob:
    one_page(engine, job)
    engine.fault("/find-people", "reset_after_accept", times=1)
    return engine.run(job)


def test_token_that_grew_old_ends_the_fetch_with_what_came(engine: Engine) -> None:
    job = fetch(engine, 300)
    one_page(engine, job)
    engine.sandbox.order("/control/advance", {"seconds": 700})

    job = engine.run(job)

    assert (job.state, job.rows_found, job.rows_failed, job.rows_skipped) == ("completed", 50, 50, 200)
    assert paid_credits(engine.sandbox) == ledger.job_sums(job.id).charged == 1


@pytest.mark.parametrize("status", [200, 400])
def test_token_that_is_refused_in_words_alone_ends_the_fetch_with_what_came(
    engine: Engine, status: int
) -> None:
    job = fetch(engine, 300)
    fellow = fetch(engine, 10, {"currentJobTitle": {"include": ["cfo"]}})
    one_page(engine, job)
    engine.fault("/find-people", "status", status=status, word="The pagination token has expired.")

    engine.run(job)

    assert (job.state, job.rows_found, job.rows_failed, job.rows_skipped) == ("completed", 50, 50, 200)
    assert engine.run(fellow).state == "completed"


@pytest.mark.parametrize(
    ("word", "reason"), [("InsufficientCreditsError", "credits"), ("UnpaidSubscriptionError", "key")]
)
def test_account_that_cannot_pay_for_the_next_page_pauses_the_fetch_and_its_fellows(
    engine: Engine, word: str, reason: str
) -> None:
    job = fetch(engine, 100)
    fellow = fetch(engine, 10, {"currentJobTitle": {"include": ["cfo"]}})
    one_page(engine, job)
    engine.fault("/find-people", "refusal", status=400, word=word)

    engine.run(job)

    fellow.refresh_from_db()
    assert [(each.state, each.pause_reason) for each in (job, fellow)] == [("paused", reason)] * 2
    assert (job.rows_found, job.rows_waiting) == (50, 50)
    job = engine.run(submission.resume_job(Actor(engine.person), job.id))
    assert (job.state, job.rows_found) == ("completed", 100)
    assert set(paid_inputs(engine.sandbox).values()) == {1}


def test_fifty_presses_make_one_search(engine: Engine) -> None:
    token = submission.new_token()

    jobs = {fetch(engine, 10, token=token).id for _ in range(50)}

    assert len(jobs) == 1


def test_key_without_the_scope_is_refused_and_can_be_mended(engine: Engine) -> None:
    token = submission.new_token()
    poor = factories.make_key(account=engine.account, scopes=["email-search:bulk"])
    engine.credits("500")

    with pytest.raises(submission.SubmissionError, match="leads:search"):
        searching.fetch(
            Actor(engine.person),
            operation="find-people",
            query=SALES,
            wanted=5,
            key=poor,
            purpose="x",
            token=token,
        )

    assert engine.run(fetch(engine, 5, token=token)).rows_found == 5
    assert engine.sent("/find-people") == 1


# The page


def test_count_is_free_shared_and_by_a_worker(engine: Engine, as_person: AsPerson) -> None:
    person = as_person(engine.person)
    asked = {**FORM, "key": engine.key.id, "wanted": "150"}

    page = person.post("/leads/find-people/count/", asked, headers={"HX-Request": "true"})
    assert "Counting" in page.content.decode()
    assert "at most 3 credits" in page.content.decode()
    assert page["HX-Replace-Url"] == (
        "/leads/find-people/?currentJobTitle=sales&profileLocation=FR%2C+DE&profileLocation_not=Lyon"
    )
    (count,) = LeadCount.objects.all()
    assert count.query == QUERY

    lead_counts.answer(count.id)

    counted = person.get(f"/leads/find-people/count/{count.id}/?v=old", headers={"HX-Request": "true"})
    total = engine.sandbox.post("/find-people/count", {"query": QUERY})["total"]
    assert f"{total:,}" in counted.content.decode()
    again = person.post("/leads/find-people/count/", asked, headers={"HX-Request": "true"})
    assert f"{total:,}" in again.content.decode()
    assert engine.sent("/find-people/count") == 2  # one was this test's own
    assert not engine.sandbox.charges()
    assert Call.objects.filter(route="find-people-count").count() == 1


def test_count_that_came_too_fast_is_tried_again(engine: Engine, as_person: AsPerson) -> None:
    asked = {**FORM, "key": engine.key.id, "wanted": "150"}
    as_person(engine.person).post("/leads/find-people/count/", asked, headers={"HX-Request": "true"})
    engine.fault("/find-people/count", "status", status=429, times=1)
    (count,) = LeadCount.objects.all()

    lead_counts.answer(count.id)

    count.refresh_from_db()
    assert (count.error, engine.sent("/find-people/count")) == ("", 2)
    assert count.total


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"currentCompany_headcount_from": "50", "currentCompany_headcount_to": "10"}, "holds nothing"),
        ({"currentCompany_headcount_from": "many"}, "whole number"),
        ({"skills": ";".join(f"skill {n}" for n in range(201))}, "201 values"),
        ({}, "at least one filter"),
        ({"currentJobTitle": "cfo", "wanted": "0"}, "greater than or equal to 1"),
        ({"currentJobTitle": "cfo", "wanted": "10001"}, "10,000"),
        ({"currentJobTitle": "cfo", "key": "999"}, "Select a valid choice"),
    ],
)
def test_mistakes_are_shown_at_their_field_and_nothing_is_called(
    engine: Engine, as_person: AsPerson, told: dict[str, str], message: str
) -> None:
    form = {"token": "t", "wanted": "10", "key": str(engine.key.id), "purpose": "x", **told}

    page = as_person(engine.person).post("/leads/find-people/", form)

    assert page.status_code == 422
    assert message in page.content.decode()
    assert engine.sandbox.state()["requests"] == {}
    assert not EnrichmentJob.objects.exists()


def test_search_from_the_page_becomes_a_job_that_names_its_filters(
    engine: Engine, as_person: AsPerson
) -> None:
    engine.credits("500")
    person = as_person(engine.person)
    form = {
        **FORM,
        "token": submission.new_token(),
        "wanted": "20",
        "key": engine.key.id,
        "purpose": "Outbound",
    }

    sent = person.post("/leads/find-people/", form)

    job = EnrichmentJob.objects.get()
    assert (sent.status_code, sent["Location"]) == (303, f"/jobs/{job.id}/")
    assert job.query == QUERY
    engine.run(job)
    page = person.get(f"/jobs/{job.id}/").content.decode()
    assert "FR, DE; not Lyon" in page
    # The same search again names what was fetched, and its form is filled from the address.
    count = LeadCount.objects.create(
        operation="find-people",
        query=QUERY,
        digest="x",
        key=engine.key,
        asked_by=engine.person,
        asked_at=job.started_at,
    )
    lead_counts.answer(count.id)
    assert (
        f"Job #{job.id} fetched 20"
        in person.get(
            f"/leads/find-people/count/{count.id}/", headers={"HX-Request": "true"}
        ).content.decode()
    )
    listed = person.get("/leads/find-people/?currentJobTitle=sales&profileLocation_not=Lyon").content.decode()
    assert ">\nsales</textarea>" in listed
    assert f"#{job.id}</a>" in listed


def test_name_with_a_comma_is_one_value_from_the_page_to_icypeas(engine: Engine, as_person: AsPerson) -> None:
    person = as_person(engine.person)
    industry = "Technology, Information and Internet"
    form = {"industry": f"{industry}\r\nRetail", "name_not": '"Bell, Hart", Cox', "location": "FR, DE, GB"}

    person.post("/leads/find-companies/count/", {**form, "key": engine.key.id})

    (count,) = LeadCount.objects.all()
    assert count.query == {
        "industry": {"include": [industry, "Retail"]},
        "name": {"exclude": ["Bell, Hart", "Cox"]},
        "location": {"include": ["FR", "DE", "GB"]},
    }
    lead_counts.answer(count.id)
    count.refresh_from_db()
    alone = engine.sandbox.post("/find-companies/count", {"query": {"industry": {"include": ["Retail"]}}})
    assert count.total
    assert count.total > 0
    counted = person.get(f"/leads/find-companies/count/{count.id}/", headers={"HX-Request": "true"})
    assert f"taken as one each: {industry}; Bell, Hart<" in counted.content.decode()
    told = leads_page.told_of(operations.get("find-companies"), count.query)
    assert leads.build_query(operations.get("find-companies").filters, told) == count.query
    assert alone["total"]


@pytest.mark.parametrize(
    ("text", "comma_parted", "values"),
    [
        ("Acme, Inc.; Globex", "", ["Acme, Inc.", "Globex"]),
        ("Acme, Inc.\nGlobex\r\n\n  Acme,  Inc. ", "", ["Acme, Inc.", "Globex"]),
        ('"Acme, Inc.", Globex', "", ["Acme, Inc.", "Globex"]),
        ('"one; two"; three', "", ["one; two", "three"]),
        ('19" racks; 21" racks', "", ['19" racks', '21" racks']),
        ('"Acme, Inc.', "", ['"Acme, Inc.']),
        ("sales,", "", ["sales"]),
        ("FR, de", COUNTRY_CODE, ["FR", "de"]),
        ("Paris, France", COUNTRY_CODE, ["Paris, France"]),
        ("Paris; FR, DE", COUNTRY_CODE, ["Paris", "FR", "DE"]),
        ("a.example,b.example", WITHOUT_SPACE, ["a.example", "b.example"]),
        (' ,;\n, "" ', "", []),
    ],
)
def test_values_are_parted_by_semicolons_and_lines_and_by_commas_where_no_name_holds_one(
    text: str, comma_parted: str, values: list[str]
) -> None:
    found = leads.values_of(text, comma_parted)

    assert found == values
    assert leads.values_of(leads.text_of(found), comma_parted) == values


def test_companies_have_types_ranges_and_growth(engine: Engine, as_person: AsPerson) -> None:
    engine.credits("500")
    form = {
        "location": "FR",
        "headcount_from": "20",
        "type": ["Privately Held", "Public Company"],
        "headcountGrowth_from": "-5",
        "token": submission.new_token(),
        "wanted": "5",
        "key": engine.key.id,
        "purpose": "Outbound",
    }

    as_person(engine.person).post("/leads/find-companies/", form)

    job = engine.run(EnrichmentJob.objects.get())
    assert job.query == {
        "location": {"include": ["FR"]},
        "headcount": {">=": 20},
        "type": {"include": ["Privately Held", "Public Company"]},
        "headcountGrowth": {"timespan": "6months", "min": -5},
    }
    assert job.rows_found == 5
    assert all(int(row["icypeas_employees"]) >= 20 for row in rows_of(job))


def test_types_of_companies_are_left_out_too(engine: Engine, as_person: AsPerson) -> None:
    person = as_person(engine.person)
    asked = {"type_not": ["Nonprofit", "Privately Held"], "location": "FR", "key": engine.key.id}

    counting = person.post("/leads/find-companies/count/", asked, headers={"HX-Request": "true"})

    (count,) = LeadCount.objects.all()
    assert count.query == {
        "location": {"include": ["FR"]},
        "type": {"exclude": ["Nonprofit", "Privately Held"]},
    }
    totals = [
        engine.sandbox.post("/find-companies/count", {"query": query})["total"]
        for query in (count.query, {"location": count.query["location"]})
    ]
    assert 0 < totals[0] < totals[1]
    page = person.get(counting["HX-Replace-Url"]).content.decode()
    checked = re.findall(r'<input[^>]*name="(type\w*)"[^>]*value="([^"]+)"[^>]*checked', page)
    assert checked == [("type_not", "Privately Held"), ("type_not", "Nonprofit")]
    assert leads_page.told_of(operations.get("find-companies"), count.query)["type_not"] == asked["type_not"]


def test_viewer_sees_the_page_and_may_not_count_or_fetch(engine: Engine, as_person: AsPerson) -> None:
    viewer = as_person(factories.make_user(role="viewer"))

    assert "can fetch leads" in viewer.get("/leads/find-people/").content.decode()
    assert viewer.post("/leads/find-people/count/", FORM).status_code == 403
    assert viewer.post("/leads/find-people/", FORM).status_code == 403


def test_lost_page_that_was_accepted_while_the_job_was_paused_is_not_fetched_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = fetch(engine, 250)
    one_page(engine, job)
    engine.fault("/find-people", "reset_after_accept", times=1)
    lose = send_path._doubt

    def lose_and_pause(*args: Any) -> None:
        lose(*args)
        submission.pause_job(Actor(engine.person), job.id)

    monkeypatch.setattr(send_path, "_doubt", lose_and_pause)
    engine.run(job)
    monkeypatch.setattr(send_path, "_doubt", lose)
    assert EnrichmentJob.objects.get(id=job.id).state == "paused"
    chosen = [Chosen(batch.id, batch.fence) for batch in decisions.uncertain_batches().filter(job=job)]
    submission.decide(Actor(engine.person), job.id, decisions.Act.ACCEPT, chosen, reason="Not worth a ticket")

    submission.resume_job(Actor(engine.person), job.id)
    job = engine.run(job)

    assert (job.state, job.rows_found, job.rows_failed, job.rows_skipped) == ("completed", 50, 50, 150)
    assert max(paid_inputs(engine.sandbox).values()) == 1
    assert engine.sent("/find-people") == 2


def test_two_presses_within_one_moment_make_one_search(engine: Engine) -> None:
    token = submission.new_token()
    engine.credits("500")
    both = threading.Barrier(2)
    made: list[object] = []

    def press() -> None:
        try:
            both.wait(10)
            made.append(
                searching.fetch(
                    Actor(engine.person),
                    operation="find-people",
                    query=SALES,
                    wanted=5,
                    key=engine.key,
                    purpose="x",
                    token=token,
                ).id
            )
        except Exception as error:
            made.append(error)
        finally:
            connection.close()

    presses = [threading.Thread(target=press) for _ in range(2)]
    for each in presses:
        each.start()
    for each in presses:
        each.join(30)

    assert made == [made[0]] * 2
    assert isinstance(made[0], int)
    assert not EnrichmentJob.objects.filter(state="draft").exists()


def test_form_that_comes_again_with_another_search_starts_that_one(engine: Engine) -> None:
    token = submission.new_token()
    first = fetch(engine, 20, token=token)

    second = fetch(engine, 20, {**SALES, "profileLocation": {"include": ["PL"]}}, token=token)

    assert first.id != second.id
    assert fetch(engine, 20, token=token).id == first.id


def test_search_without_filters_is_not_started(engine: Engine) -> None:
    job = fetch(engine, 20)
    submission.cancel_job(Actor(engine.person), job.id)
    EnrichmentJob.objects.filter(id=job.id).update(state="draft", query={})
    order = submission.StartOrder(key=engine.key, purpose="x", freshness_days=0, token=job.start_token)
    EnrichmentJob.objects.filter(id=job.id).update(start_token=order.token, rows_waiting=20)

    with pytest.raises(submission.SubmissionError, match="no filters"):
        submission.start_job(Actor(engine.person), job.id, order)


def test_answers_in_hand_outlive_a_database_that_is_busy(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_call, "RECORD_PAUSES_S", (0.01, 0.01, 0.01))
    troubles = {"record": 2, "_fetched": 2}

    def troubled(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def busy(*args: Any, **more: Any) -> Any:
            if troubles[name]:
                troubles[name] -= 1
                raise OperationalError("database is locked")
            return real(*args, **more)

        monkeypatch.setattr(owner, name, busy)

    job = fetch(engine, 50)
    troubled(gate, "record")
    troubled(send_path, "_fetched")

    job = engine.run(job)

    assert (job.state, job.rows_found, troubles) == ("completed", 50, {"record": 0, "_fetched": 0})
    assert engine.sent("/find-people") == 1


def test_worker_that_stood_still_does_not_end_a_page_that_waits_for_a_person(engine: Engine) -> None:
    job = fetch(engine, 250)
    one_page(engine, job)
    engine.fault("/find-people", "reset_after_accept", times=1)
    job = engine.run(job)
    batch = decisions.uncertain_batches().get(job=job)
    stale = replace_fence(batch)

    with pytest.raises(answers.LostLeaseError):
        decisions.pay_again(stale)

    batch.refresh_from_db()
    assert batch.state == "uncertain"


def replace_fence(batch: Batch) -> Batch:
    """The batch as a worker that slept has it."""
    stale = Batch.objects.get(id=batch.id)
    stale.fence -= 1
    return stale

"""Finding and reading pages of people and companies, end to end against a sandbox process."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal

import pytest
from django.test import Client

from enrichment import operations, prices
from enrichment.models import EnrichmentJob
from enrichment.services import submission
from keys import ledger
from keys.choices import Realm
from people import audit
from people.audit import Actor
from people.models import User
from tests.fakes.engine import Engine, exported, paid_credits, paid_inputs

AsPerson = Callable[[User], Client]

PEOPLE = (
    "Profile URL,Owner",
    "https://www.linkedin.com/in/ann-lee-sbx-found,Mira",
    "fr.linkedin.com/in/ann-lee-sbx-found/,Leo",
    "https://www.linkedin.com/in/bob-sbx-notfound,Mira",
    "https://www.linkedin.com/company/acme,Mira",
    "https://www.linkedin.com/in/cleo-ray-sbx-found,Mira",
)
COMPANIES = (
    "LinkedIn company URL",
    *(f"https://www.linkedin.com/company/firm-{number}-sbx-found" for number in range(60)),
)
NAMES = (
    "First name,Last name,Domain",
    "Ann,Lee,sbx-found.example",
    "Bob,Ray,sbx-notfound.example",
    "Cleo,,sbx-found.example",
)


def begin(engine: Engine, lines: tuple[str, ...], operation: str) -> EnrichmentJob:
    engine.credits("500")
    return engine.begin(engine.draft(lines, operation=operation))


def rows_of(job: EnrichmentJob) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exported(job).decode())))


def test_profiles_are_read_into_columns_beside_the_row(engine: Engine) -> None:
    job = engine.run(begin(engine, PEOPLE, "scrape-profile"))

    assert (job.state, job.rows_found, job.rows_cached, job.rows_not_found, job.rows_skipped) == (
        "completed",
        2,
        1,
        1,
        1,
    )
    assert paid_credits(engine.sandbox) == ledger.job_sums(job.id).charged == 3
    rows = rows_of(job)
    assert [row["Owner"] for row in rows] == ["Mira", "Leo", "Mira", "Mira", "Mira"]
    assert rows[0]["icypeas_full_name"] == rows[1]["icypeas_full_name"] == "Ann Lee Sbx Found"
    assert rows[0]["icypeas_job_title"]
    assert rows[0]["icypeas_company"]
    assert rows[2]["icypeas_full_name"] == ""
    assert "company's page" in rows[3]["icypeas_reason"]


def test_companies_go_fifty_a_call_and_at_most_25_credits(engine: Engine) -> None:
    job = engine.run(begin(engine, COMPANIES, "scrape-company"))

    assert (job.rows_found, engine.sent("/scrape")) == (60, 2)
    assert ledger.job_sums(job.id).charged == 30
    assert {row["icypeas_domain"] for row in rows_of(job)} == {
        f"firm-{n}-sbx-found.example" for n in range(60)
    }


def test_list_that_icypeas_answers_later_is_followed_as_a_bulk(engine: Engine) -> None:
    engine.switch(scrapes_later=True)

    job = engine.run(begin(engine, COMPANIES, "scrape-company"))

    assert (job.state, job.rows_found) == ("completed", 60)
    # Each row got the answer of its own place.
    rows = rows_of(job)
    assert [row["icypeas_domain"] for row in rows] == [f"firm-{n}-sbx-found.example" for n in range(60)]
    assert set(paid_inputs(engine.sandbox).values()) == {1}
    assert paid_credits(engine.sandbox) == ledger.job_sums(job.id).charged == 30


def test_search_without_a_known_price_waits_for_somebody_who_enters_it(engine: Engine) -> None:
    engine.credits("500")
    draft = engine.draft(NAMES, operation="find-profile")

    with pytest.raises(submission.SubmissionError, match="Nobody has entered what"):
        engine.begin(draft)

    prices.enter_price(
        audit.Actor(None, "terminal"),
        operation="find-profile",
        realm=Realm.SANDBOX,
        credits=Decimal(1),
        charged_when_empty=False,
        valid_from=date.today(),
        source="Our plan",
    )
    job = engine.run(engine.begin(draft))

    assert (job.state, job.rows_found, job.rows_not_found, job.rows_skipped) == ("completed", 1, 1, 1)
    assert rows_of(job)[0]["icypeas_profile_url"].startswith("https://www.linkedin.com/in/ann-lee-")
    assert paid_credits(engine.sandbox) == ledger.job_sums(job.id).charged == 1


def test_look_up_shows_what_the_page_says(engine: Engine, as_person: AsPerson) -> None:
    engine.credits("500")
    job = engine.run(
        submission.look_up(
            Actor(engine.person),
            operation="scrape-company",
            told={"company_url": "linkedin.com/company/sbx-found"},
            key=engine.key,
            purpose="one",
            freshness_days=90,
            token=submission.new_token(),
        )
    )

    page = as_person(engine.person).get(f"/lookup/scrape-company/?job={job.id}").content.decode()

    assert "Sbx Found" in page
    assert "Industry" in page
    assert "sbx-found.example" in page
    assert engine.sent("/scrape/company") == 1


@pytest.mark.parametrize("operation", operations.ASKED.values(), ids=lambda operation: operation.name)
def test_empty_form_names_its_fields_and_calls_nothing(
    engine: Engine, as_person: AsPerson, operation: operations.Operation
) -> None:
    page = as_person(engine.person).post(f"/lookup/{operation.name}/", {"token": "t", "key": engine.key.id})

    assert page.status_code == 422
    assert "Fill in the" in page.content.decode()
    assert sum(route["total"] for route in engine.sandbox.state()["requests"].values()) == 0
    assert not EnrichmentJob.objects.exists()


@pytest.mark.parametrize(
    ("operation", "told", "field", "message"),
    [
        ("email-search", {"first_name": "Ann"}, "domain", "Fill in the"),
        ("email-verification", {"email": "ann"}, "email", "no @-sign"),
        ("domain-search", {"company": "-"}, "company", "neither a company nor a domain"),
        ("reverse-lookup", {"email": "ann@"}, "email", "cannot be an email address"),
        ("find-profile", {"first_name": "Ann", "company": "Acme"}, "last_name", "Fill in the last name"),
        ("find-company", {}, "domain", "Fill in the"),
        ("scrape-profile", {"profile_url": "linkedin.com/company/acme"}, "profile_url", "a company"),
        ("scrape-company", {"company_url": "Acme"}, "company_url", "is not the address of a page"),
        ("scrape-company", {"company_url": "x" * 301}, "company_url", "at most 300"),
    ],
)
def test_mistake_is_shown_at_its_field_and_nothing_is_called(
    engine: Engine, as_person: AsPerson, operation: str, told: dict[str, str], field: str, message: str
) -> None:
    page = as_person(engine.person).post(
        f"/lookup/{operation}/", {"token": "t", "key": engine.key.id, **told}
    )

    text = page.content.decode()
    assert page.status_code == 422
    error = text[text.index(f'id="id_{field}_error"') :][:400]
    assert message in error
    assert engine.sandbox.state()["requests"] == {}
    assert not EnrichmentJob.objects.exists()


def ask(engine: Engine, operation: str, **told: str) -> EnrichmentJob:
    return engine.run(
        submission.look_up(
            Actor(engine.person),
            operation=operation,
            told=told,
            key=engine.key,
            purpose="one",
            freshness_days=90,
            token=submission.new_token(),
        )
    )


@pytest.mark.parametrize(
    ("operation", "told", "steps"),
    [
        (
            "email-search",
            {"first_name": "Ann", "last_name": "Lee", "domain": "sbx-found.example", "company": ""},
            ["email-verification", "reverse-lookup"],
        ),
        ("reverse-lookup", {"email": "ann@sbx-found.example"}, ["scrape-profile"]),
        ("scrape-profile", {"profile_url": "https://www.linkedin.com/in/ann-sbx-found"}, ["email-search"]),
        ("scrape-company", {"company_url": "https://www.linkedin.com/company/sbx-found"}, ["domain-search"]),
        ("email-verification", {"email": "ann@sbx-found.example"}, []),
        ("reverse-lookup", {"email": "ann@sbx-notfound.example"}, []),
    ],
)
def test_answer_leads_to_what_can_be_asked_with_it(
    engine: Engine, as_person: AsPerson, operation: str, told: dict[str, str], steps: list[str]
) -> None:
    engine.credits("500")
    job = ask(engine, operation, **told)
    person = as_person(engine.person)

    page = person.get(f"/lookup/{operation}/?job={job.id}").content.decode()

    offered = re.findall(rf'href="/lookup/([a-z-]+)/\?from={job.id}"', page)
    assert offered[: len(steps)] == steps
    assert bool(offered) == bool(steps)
    answer = job.rows.get().answer
    for step in offered:
        form = person.get(f"/lookup/{step}/?from={job.id}").content.decode()
        assert answer is not None
        assert any(
            f'value="{value}"' in form for value in answer.result.values() if isinstance(value, str) and value
        )

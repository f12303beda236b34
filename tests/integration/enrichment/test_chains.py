"""A finished job goes on as the next one, row by row."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from enrichment.models import EnrichmentJob
from enrichment.services import chains, searching, submission
from people.audit import Actor
from people.models import User
from tests import factories
from tests.fakes.engine import Engine, exported

AsPerson = Callable[[User], Client]

PEOPLE = (
    "Note;First name;Last name;Domain",
    "a;Ann;Lee;sbx-found.example",
    "b;Bob;Ray;sbx-notfound.example",
    "c;Cleo;Day;sbx-found.example",
    "d;;;sbx-found.example",
)


def finished(engine: Engine, lines: tuple[str, ...], operation: str) -> EnrichmentJob:
    engine.credits("500")
    return engine.run(engine.begin(engine.draft(lines, operation=operation)))


def go_on(engine: Engine, job: EnrichmentJob, operation: str, **more: Any) -> EnrichmentJob:
    return chains.go_on(Actor(engine.person), job, operation, **{"only_good": True, **more})


def rows_of(job: EnrichmentJob) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exported(job).decode())))


def test_found_emails_are_verified_and_the_export_has_the_whole_chain(engine: Engine) -> None:
    search = finished(engine, PEOPLE, "email-search")

    draft = go_on(engine, search, "email-verification")

    assert (draft.state, draft.rows_total, draft.continues_id, draft.continued_rows) == (
        "draft",
        2,
        search.id,
        [1, 3],
    )
    verified = engine.run(engine.begin(draft))
    rows = rows_of(verified)
    assert [row["Note"] for row in rows] == ["a", "c"]
    assert all(row["icypeas_email"].endswith("@sbx-found.example") for row in rows)
    assert all(row["icypeas_status"] == "found" for row in rows)
    assert all(row["icypeas_status_2"] for row in rows)
    third = go_on(engine, verified, "reverse-lookup", only_good=False)
    assert third.mapping["email"] == list(rows[0]).index("icypeas_email")
    assert third.continued_rows == [1, 2]


def test_all_rows_can_go_on_and_those_without_an_input_are_skipped(engine: Engine) -> None:
    search = finished(engine, PEOPLE, "email-search")

    draft = go_on(engine, search, "email-verification", only_good=False)

    assert (draft.rows_total, draft.rows_waiting, draft.rows_skipped) == (4, 2, 2)
    assert draft.continued_rows == [1, 2, 3, 4]


def test_leads_go_on_to_their_emails_by_name_and_domain(engine: Engine) -> None:
    engine.credits("500")
    leads = engine.run(
        searching.fetch(
            Actor(engine.person),
            operation="find-people",
            query={"currentJobTitle": {"include": ["cfo"]}},
            wanted=15,
            key=engine.key,
            purpose="Outbound",
            token=submission.new_token(),
        )
    )

    draft = go_on(engine, leads, "email-search")

    header = draft.upload.header
    fed = {name: header[column] for name, column in draft.mapping.items()}
    assert fed == {
        "first_name": "icypeas_first_name",
        "last_name": "icypeas_last_name",
        "domain": "icypeas_domain",
        "company": "icypeas_company",
    }
    assert draft.rows_waiting == 15
    assert {offer.operation.name for offer in chains.offers(leads)} >= {
        "email-search",
        "scrape-profile",
        "scrape-company",
        "find-company",
    }


def test_page_offers_what_the_rows_hold_and_leads_to_the_review(engine: Engine, as_person: AsPerson) -> None:
    search = finished(engine, PEOPLE, "email-search")
    person = as_person(engine.person)

    page = person.get(f"/jobs/{search.id}/continue/").content.decode()
    assert "Email from icypeas_email" in page
    assert "the 2 rows with an email" in page
    sent = person.post(f"/jobs/{search.id}/continue/", {"operation": "email-verification", "rows": "good"})

    draft = EnrichmentJob.objects.latest("id")
    assert (sent.status_code, sent["Location"]) == (303, f"/jobs/{draft.id}/review/")
    assert "Email" in person.get(sent["Location"]).content.decode()
    engine.run(engine.begin(draft))
    assert f'Continued by <a href="/jobs/{draft.id}/"' in person.get(f"/jobs/{search.id}/").content.decode()
    receipt = person.get(f"/jobs/{draft.id}/rows/2/").content.decode()
    assert f"row 3 of job #{search.id}" in receipt


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"operation": "scrape-profile", "rows": "good"},
        {"operation": "email-verification", "rows": "most"},
    ],
)
def test_what_the_rows_do_not_hold_is_refused(
    engine: Engine, as_person: AsPerson, form: dict[str, str]
) -> None:
    search = finished(engine, PEOPLE, "email-search")

    assert as_person(engine.person).post(f"/jobs/{search.id}/continue/", form).status_code == 422
    assert EnrichmentJob.objects.count() == 1


def test_strangers_and_open_jobs_have_no_such_page(engine: Engine, as_person: AsPerson) -> None:
    search = finished(engine, PEOPLE, "email-search")
    draft = engine.draft(PEOPLE, operation="email-search")
    other = as_person(factories.make_user(team=factories.make_team()))

    assert other.get(f"/jobs/{search.id}/continue/").status_code == 404
    assert as_person(engine.person).get(f"/jobs/{draft.id}/continue/").status_code == 404
    assert (
        as_person(factories.make_user(role="viewer", team=engine.person.team))
        .get(f"/jobs/{search.id}/continue/")
        .status_code
        == 403
    )

"""Rows without an answer: grouped, corrected one after another, sent again."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from enrichment.models import EnrichmentJob, EnrichmentRow
from enrichment.services import attempts, submission
from people.audit import Actor
from people.models import User
from tests import factories
from tests.fakes.engine import Engine, assert_paid_once, exported

AsPerson = Callable[[User], Client]


def words(response: Any) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())))


@pytest.fixture
def job(engine: Engine) -> EnrichmentJob:
    """Finished: one answer, one row that Icypeas did not accept, two that could not be asked."""
    text = "Email,Note\nann@sbx-found.example,a\nbad@sbx-badinput.example,b\nno address,c\nnone,d\n"
    draft = factories.make_job_from_file(
        text.encode(), created_by=engine.person, operation="email-verification"
    )
    job = engine.run(engine.begin(draft))
    assert (job.state, job.rows_failed, job.rows_skipped) == ("completed", 1, 2)
    return job


def test_reasons_are_listed_with_rows_cost_and_what_can_be_done(
    job: EnrichmentJob, engine: Engine, as_person: AsPerson
) -> None:
    client = as_person(engine.person)

    assert "Correct or send again" in words(client.get(f"/jobs/{job.id}/"))
    page = client.get(f"/jobs/{job.id}/retry/")

    assert "3 rows of this job were not asked, or came to nothing without being paid" in words(page)
    boxes = re.findall(r'name="reason" value="([^"]*)"', page.content.decode())
    assert boxes == ["bad_input"]  # what cannot be asked has to be corrected first


def test_rows_are_corrected_one_after_another_and_sent(
    job: EnrichmentJob, engine: Engine, as_person: AsPerson
) -> None:
    client = as_person(engine.person)
    code = EnrichmentRow.objects.get(job=job, position=3).reason_code
    first = f"/jobs/{job.id}/rows/3/correct/?reason={code}"

    form = client.get(first)
    assert 'value="no address"' in form.content.decode()
    saved = client.post(first, {"email": "cleo@sbx-found.example", "next": "1"})
    assert saved["Location"] == f"/jobs/{job.id}/rows/4/correct/?reason={code}"
    saved = client.post(saved["Location"], {"email": "dora@sbx-found.example"})
    assert saved["Location"] == f"/jobs/{job.id}/retry/"
    page = client.get(saved["Location"])
    assert "Corrected and ready to be sent" in words(page)
    sent = client.post(f"/jobs/{job.id}/retry/", {"reason": "corrected"})

    assert sent.status_code == 303
    job = engine.run(EnrichmentJob.objects.get(id=job.id))
    assert (job.state, job.attempt, job.rows_found, job.rows_skipped) == ("completed", 2, 3, 0)
    assert_paid_once(engine.sandbox, times=3)


def test_correction_that_cannot_be_asked_stays_in_the_form(
    job: EnrichmentJob, engine: Engine, as_person: AsPerson
) -> None:
    answer = as_person(engine.person).post(f"/jobs/{job.id}/rows/3/correct/", {"email": "still none"})

    assert answer.status_code == 422
    assert 'value="still none"' in answer.content.decode()
    assert EnrichmentRow.objects.get(job=job, position=3).told is None


@pytest.mark.parametrize(
    ("posted", "message"),
    [({}, "Choose at least one reason."), ({"reason": "accepted_paid"}, "No row has one of the chosen")],
)
def test_sending_past_the_form_is_refused(
    job: EnrichmentJob, engine: Engine, as_person: AsPerson, posted: dict[str, str], message: str
) -> None:
    answer = as_person(engine.person).post(f"/jobs/{job.id}/retry/", posted)

    assert answer.status_code == 422
    assert message in words(answer)
    assert EnrichmentJob.objects.get(id=job.id).state == "completed"


def test_sending_above_the_cap_says_so_and_changes_nothing(
    job: EnrichmentJob, engine: Engine, as_person: AsPerson
) -> None:
    engine.key.daily_cap = Decimal("0.1")
    engine.key.save()

    answer = as_person(engine.person).post(f"/jobs/{job.id}/retry/", {"reason": "bad_input"})

    assert answer.status_code == 422
    assert "daily cap" in words(answer)
    assert EnrichmentJob.objects.get(id=job.id).attempt == 1


def test_who_may_not_spend_sees_who_may(job: EnrichmentJob, engine: Engine, as_person: AsPerson) -> None:
    auditor = as_person(factories.make_user(role="auditor"))

    assert "Ira Quist can do this." in words(auditor.get(f"/jobs/{job.id}/"))
    assert auditor.get(f"/jobs/{job.id}/retry/").status_code == 403
    assert auditor.post(f"/jobs/{job.id}/rows/3/correct/", {"email": "a@b.example"}).status_code == 403


def test_rows_of_another_team_are_not_there(job: EnrichmentJob, engine: Engine, as_person: AsPerson) -> None:
    stranger = as_person(factories.make_user(team=factories.make_team("Others")))

    assert stranger.get(f"/jobs/{job.id}/retry/").status_code == 404
    assert stranger.post(f"/jobs/{job.id}/rows/3/correct/", {"email": "a@b.example"}).status_code == 404


def test_answered_row_is_not_corrected(job: EnrichmentJob, engine: Engine, as_person: AsPerson) -> None:
    client = as_person(engine.person)

    answer = client.post(f"/jobs/{job.id}/rows/1/correct/", {"email": "a@b.example"})

    assert answer["Location"] == f"/jobs/{job.id}/"
    assert client.get(f"/jobs/{job.id}/rows/99/correct/").status_code == 404
    assert EnrichmentRow.objects.get(job=job, position=1).told is None


def test_cancelled_job_offers_its_rows_for_a_new_list_and_no_dead_form(
    job: EnrichmentJob, engine: Engine, as_person: AsPerson
) -> None:
    EnrichmentJob.objects.filter(id=job.id).update(state="cancelled")
    client = as_person(engine.person)

    result = client.get(f"/jobs/{job.id}/")
    assert "Nothing is sent in this job any more. Download the 1 failed row or the 2 skipped rows" in words(
        result
    )
    assert f"/jobs/{job.id}/export/?preset=raw&amp;state=failed" in result.content.decode()
    assert "then send them" not in words(result)
    reasons = client.get(f"/jobs/{job.id}/retry/")
    assert "It was cancelled. Download these rows" in words(reasons)
    assert "not finished" not in words(reasons)
    assert "send" not in words(reasons).partition("Reason Rows")[2].partition("Back to the job")[0]
    assert (
        f"/jobs/{job.id}/export/?preset=raw&amp;state=failed&amp;reason=bad_input" in reasons.content.decode()
    )
    for method in ("get", "post"):
        closed = getattr(client, method)(f"/jobs/{job.id}/rows/3/correct/", {"email": "a@b.example"})
        assert closed["Location"] == f"/jobs/{job.id}/"
    sent = client.post(f"/jobs/{job.id}/retry/", {"reason": "bad_input"})
    assert sent.status_code == 422
    assert f"Job #{job.id} was cancelled" in words(sent)
    assert EnrichmentRow.objects.get(job=job, position=3).told is None


# --- in the draft, before anything was sent ------------------------------------------------------------------------------


@pytest.fixture
def draft(engine: Engine) -> EnrichmentJob:
    """Five rows: one can be asked, three hold something else than an address, one holds nothing."""
    text = "Email,Note\nann@sbx-found.example,a\nno address,b\nnone,c\n=1+1,d\n,e\n"
    return factories.make_job_from_file(
        text.encode(), created_by=engine.person, operation="email-verification"
    )


def finding(draft: EnrichmentJob, code: str) -> dict[str, Any]:
    draft.refresh_from_db()
    return dict(draft.findings["skipped"].get(code, {}))


def test_draft_is_corrected_row_by_row_before_the_start(
    draft: EnrichmentJob, engine: Engine, as_person: AsPerson
) -> None:
    client = as_person(engine.person)
    review = f"/jobs/{draft.id}/review/"
    page = client.get(review).content.decode()
    link = re.search(r'href="([^"]+/rows/2/correct/[^"]*)"', page)
    assert link, "the row check does not lead to its first row"

    form = client.get(html.unescape(link[1]))
    assert "before you start the job" in words(form)
    saved = client.post(html.unescape(link[1]), {"email": "bob@sbx-found.example", "next": "1"})
    assert saved["Location"].startswith(f"/jobs/{draft.id}/rows/3/correct/")
    assert (finding(draft, "bad_email")["rows"], draft.rows_waiting, draft.rows_skipped) == (2, 2, 3)
    saved = client.post(saved["Location"], {"email": "ann@sbx-found.example"})  # another row asks the same
    assert saved["Location"].partition("?")[0] == review

    page = words(client.get(review))
    assert "rows 4" not in page
    assert "Duplicates" in page
    job = engine.run(engine.begin(EnrichmentJob.objects.get(id=draft.id)))
    assert (job.state, job.rows_found, job.rows_cached, job.rows_skipped) == ("completed", 2, 1, 2)
    assert_paid_once(engine.sandbox, times=2)
    rows = exported(job).decode().splitlines()
    assert rows[2].startswith("no address,b,deliverable")


def test_correction_outlives_another_check_and_not_another_reading(
    draft: EnrichmentJob, engine: Engine, as_person: AsPerson
) -> None:
    as_person(engine.person).post(
        f"/jobs/{draft.id}/rows/2/correct/?reason=bad_email", {"email": "bob@gmail.com"}
    )

    submission.change_columns(EnrichmentJob.objects.get(id=draft.id), draft.mapping, [])

    row = EnrichmentRow.objects.get(job=draft, position=2)
    assert (row.state, row.inputs, row.cells) == ("waiting", {"email": "bob@gmail.com"}, ["no address", "b"])
    draft.refresh_from_db()
    assert (draft.rows_waiting, draft.rows_skipped) == (2, 3)

    submission.reread(draft, encoding=None, delimiter=None, has_header=False)

    assert EnrichmentRow.objects.get(job=draft, position=3).state == "skipped"
    assert EnrichmentRow.objects.get(job=draft, position=2).told is None


def test_last_row_of_a_reason_takes_the_reason_with_it(draft: EnrichmentJob, engine: Engine) -> None:
    attempts.correct_row(Actor(engine.person), draft.id, 5, {"email": "eve@sbx-found.example"})

    assert finding(draft, "no_email") == {}
    assert finding(draft, "bad_email")["examples"] == [[2, "no address"], [3, "none"], [4, "=1+1"]]


def test_draft_that_is_being_checked_is_not_corrected(draft: EnrichmentJob, engine: Engine) -> None:
    EnrichmentJob.objects.filter(id=draft.id).update(is_checked=False)

    with pytest.raises(attempts.AttemptError, match="being checked"):
        attempts.correct_row(Actor(engine.person), draft.id, 2, {"email": "bob@sbx-found.example"})


def test_running_job_is_not_corrected(draft: EnrichmentJob, engine: Engine) -> None:
    job = engine.begin(draft)

    with pytest.raises(attempts.AttemptError, match="before the start, and when the job is finished"):
        attempts.correct_row(Actor(engine.person), job.id, 2, {"email": "bob@sbx-found.example"})


def test_correction_leads_back_to_the_review_as_it_was_chosen(
    draft: EnrichmentJob, engine: Engine, as_person: AsPerson
) -> None:
    client = as_person(engine.person)
    chosen = f"key={engine.key.id}&amp;freshness_days=7"
    page = client.get(f"/jobs/{draft.id}/review/?{html.unescape(chosen)}").content.decode()
    link = re.search(r'href="([^"]+/rows/2/correct/[^"]*)"', page)
    assert link is not None
    assert (
        client.post(f"/jobs/{draft.id}/review/", {"keep": "yes", "purpose": "Expo in May"}).status_code == 204
    )

    saved = client.post(html.unescape(link[1]), {"email": "bob@sbx-found.example"})

    back = saved["Location"]
    assert "freshness_days=7" in back
    assert f"key={engine.key.id}" in back
    again = client.get(back).content.decode()
    assert re.search(r'<option value="7" selected>', again)
    assert "Expo in May</textarea>" in again


def test_uncertain_rows_of_the_same_reason_are_not_offered_for_a_new_list(
    job: EnrichmentJob, engine: Engine, as_person: AsPerson
) -> None:
    """They may have been paid."""
    EnrichmentJob.objects.filter(id=job.id).update(state="cancelled")
    EnrichmentRow.objects.filter(job=job, state="found").update(state="uncertain", reason_code="bad_input")
    client = as_person(engine.person)

    (path,) = re.findall(
        r'href="(/jobs/\d+/export/[^"]*bad_input)"', client.get(f"/jobs/{job.id}/retry/").content.decode()
    )
    taken = b"".join(client.get(path.replace("&amp;", "&"))).decode()  # type: ignore[arg-type]

    assert len(taken.splitlines()) == 1 + EnrichmentRow.objects.filter(job=job, state="failed").count()

"""A sample from the review page to its figures, and what a paused job says about its reservation."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from enrichment.choices import PauseReason, RowState
from enrichment.models import EnrichmentJob, EnrichmentRow
from enrichment.services import preparing, reservations, submission, transitions
from keys import ledger
from keys.clock import db_now
from keys.models import KeyRecord
from keys.services import worker_seen
from people.audit import Actor
from people.models import User
from tests import factories

pytestmark = pytest.mark.django_db
AsPerson = Callable[[User], Client]


@pytest.fixture
def user() -> User:
    return factories.make_user(team=factories.make_team(), name="Ana Duarte")


@pytest.fixture
def key() -> KeyRecord:
    return factories.make_key(account=factories.make_account("Sandbox", balance=100))


def draft_of(user: User, rows: int) -> EnrichmentJob:
    lines = "".join(f"{stem}@firm.example\n" for stem in (f"ann{n}" for n in range(rows)))
    return factories.make_job_from_file(
        f"Email\n{lines}".encode(), created_by=user, operation="email-verification"
    )


def words(response: Any) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())))


def order(job: EnrichmentJob, key: KeyRecord, **changes: str) -> dict[str, str]:
    told = {"key": str(key.id), "freshness_days": "90", "purpose": "Expo", "token": job.start_token}
    return told | changes


def sampled(user: User, key: KeyRecord, *, good: int = 7) -> EnrichmentJob:
    """A job of 30 rows whose sample was answered."""
    job = submission.start_job(
        Actor(user),
        draft_of(user, 30).id,
        submission.StartOrder(
            key=key,
            purpose="Expo",
            freshness_days=90,
            token=EnrichmentJob.objects.latest("id").start_token,
            is_sample=True,
        ),
    )
    preparing.prepare(job)
    job = EnrichmentJob.objects.get(id=job.id)
    sample = EnrichmentRow.objects.filter(job=job, in_sample=True)
    assert sample.count() == 10
    transitions.move_rows(job.id, sample, RowState.NOT_FOUND)
    ledger.charge(key=key, operation=job.operation, job=job.id, credits=10 * job.price)
    assert transitions.pause_after_sample(job.id)
    EnrichmentJob.objects.filter(id=job.id).update(sample_good=good)
    worker_seen()
    return EnrichmentJob.objects.get(id=job.id)


def test_review_offers_a_sample_for_a_list_that_is_longer(
    as_person: AsPerson, user: User, key: KeyRecord, wakes: list[Any]
) -> None:
    client = as_person(user)

    assert "random rows" not in words(client.get(f"/jobs/{draft_of(user, 10).id}/review/"))
    job = draft_of(user, 11)
    assert "Try 10 random rows, at most 1" in words(client.get(f"/jobs/{job.id}/review/"))
    started = client.post(f"/jobs/{job.id}/start/", order(job, key, sample="1"))

    assert started.status_code == 303
    job.refresh_from_db()
    assert (job.state, job.sample_rows) == ("queued", 10)
    assert ledger.job_sums(job.id).reserved == 1


def test_sample_starts_where_the_whole_list_does_not_fit(
    as_person: AsPerson, user: User, key: KeyRecord, wakes: list[Any]
) -> None:
    key.daily_cap = Decimal(2)
    key.save()
    job = draft_of(user, 30)
    client = as_person(user)

    page = client.get(f"/jobs/{job.id}/review/").content.decode()
    assert re.search(
        r"<button(?=[^>]* disabled)[^>]*>(?:(?!</button>).)*Start, at most 3 credits", page, re.S
    )
    assert client.post(f"/jobs/{job.id}/start/", order(job, key)).status_code == 422
    assert client.post(f"/jobs/{job.id}/start/", order(job, key, sample="1")).status_code == 303


def test_same_file_as_a_sample_is_run_again_as_a_sample(
    as_person: AsPerson, user: User, key: KeyRecord, wakes: list[Any]
) -> None:
    first, second = draft_of(user, 30), draft_of(user, 30)
    client = as_person(user)
    client.post(f"/jobs/{first.id}/start/", order(first, key))

    refused = client.post(f"/jobs/{second.id}/start/", order(second, key, sample="1"))
    assert refused.status_code == 422
    assert 'name="again" value="sample"' in refused.content.decode()
    client.post(f"/jobs/{second.id}/start/", order(second, key, again="sample"))

    second.refresh_from_db()
    assert (second.state, second.sample_rows) == ("queued", 10)


def test_answered_sample_shows_what_the_rest_costs_and_goes_on(
    as_person: AsPerson, user: User, key: KeyRecord, wakes: list[Any]
) -> None:
    job = sampled(user, key)
    client = as_person(user)

    text = words(client.get(f"/jobs/{job.id}/"))
    assert "7 of 10 answers are what you hoped for ( 70.0 % )" in text or "(70.0 %)" in text
    assert "Go on, at most 2 credits" in text
    went_on = client.post(f"/jobs/{job.id}/resume/")

    assert went_on.status_code == 303
    job.refresh_from_db()
    assert (job.state, ledger.job_sums(job.id).open) == ("running", Decimal(2))


def test_resume_that_does_not_fit_says_why_and_changes_nothing(
    as_person: AsPerson, user: User, key: KeyRecord, wakes: list[Any]
) -> None:
    job = sampled(user, key)
    key.daily_cap = Decimal(2)
    key.save()

    answer = as_person(user).post(f"/jobs/{job.id}/resume/", follow=True)

    assert "daily cap" in words(answer)
    assert "stays paused" in words(answer)
    job.refresh_from_db()
    assert (job.state, job.pause_reason) == ("paused", PauseReason.SAMPLE)


def test_pause_asks_first_with_what_it_can_still_cost(
    as_person: AsPerson, user: User, key: KeyRecord, wakes: list[Any]
) -> None:
    job = draft_of(user, 3)
    client = as_person(user)
    client.post(f"/jobs/{job.id}/start/", order(job, key))

    text = words(client.get(f"/jobs/{job.id}/pause/"))

    assert "3 rows are not sent and wait" in text
    assert "0 rows are at Icypeas already and still come back; they can cost at most 0" in text
    job.refresh_from_db()
    assert job.state == "queued"
    assert client.post(f"/jobs/{job.id}/pause/").status_code == 303
    job.refresh_from_db()
    assert job.state == "paused"


def test_long_pause_says_that_its_reservation_was_given_back(
    as_person: AsPerson, user: User, key: KeyRecord, wakes: list[Any]
) -> None:
    job = draft_of(user, 3)
    client = as_person(user)
    client.post(f"/jobs/{job.id}/start/", order(job, key))
    client.post(f"/jobs/{job.id}/pause/")
    assert "is kept until" in words(client.get(f"/jobs/{job.id}/"))
    EnrichmentJob.objects.filter(id=job.id).update(paused_at=db_now() - timedelta(days=8))

    reservations.give_back_overdue()

    assert "resuming reserves 0.3 credits again" in words(client.get(f"/jobs/{job.id}/"))

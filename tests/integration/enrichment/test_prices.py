"""The dated price table: what holds, who enters it, and jobs that keep the price they started with."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from enrichment import operations, prices
from enrichment.models import EnrichmentJob, Price
from enrichment.operations.email_verification import EMAIL_VERIFICATION
from enrichment.services import submission
from keys import ledger
from keys.clock import db_now
from keys.models import LedgerEntry
from people.audit import Actor
from people.models import AuditEntry, User
from tests import factories
from tests.fakes.engine import Engine

AsPerson = Callable[[User], Client]
VERIFY = EMAIL_VERIFICATION.name


def words(response: Any) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())))


def price(credits: str, *, days: int = -1, realm: str = "sandbox", **more: Any) -> Price:
    return Price.objects.create(
        operation=VERIFY,
        realm=realm,
        credits=Decimal(credits),
        valid_from=db_now().date() + timedelta(days=days),
        source="Contract 7",
        **more,
    )


def now(realm: str = "sandbox") -> Decimal | None:
    return prices.price_of(EMAIL_VERIFICATION, realm).credits


@pytest.fixture
def unpriced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verification as if nobody knew its price."""
    monkeypatch.setattr(
        operations, "OPERATIONS", {**operations.OPERATIONS, VERIFY: replace(EMAIL_VERIFICATION, price=None)}
    )


@pytest.mark.django_db
def test_latest_that_holds_counts_and_realms_never_mix() -> None:
    assert now() == EMAIL_VERIFICATION.price

    price("0.3", days=-9)
    price("0.2", days=-2)
    price("0.4", days=-5)
    price("9", days=1)
    price("7", realm="live")
    assert now() == Decimal("0.2")
    price("0.25", days=-2)  # a correction of the same day

    assert (now(), now("live")) == (Decimal("0.25"), 7)


def test_job_pins_the_price_of_its_start(engine: Engine) -> None:
    version = price("0.5", charged_when_empty=True)
    job = engine.start(4)
    price("2")

    job = engine.run(job)

    assert (job.price, job.price_version) == (Decimal("0.5"), version)
    sums = ledger.job_sums(job.id)
    assert (sums.reserved, sums.charged, sums.open) == (2, 2, 0)


def test_price_without_charge_for_empty_answers_releases_them(engine: Engine) -> None:
    price("0.5", charged_when_empty=False)

    job = engine.start(4)

    assert (job.estimate_min, job.estimate_max, job.charged_when_empty) == (0, 2, False)


@pytest.mark.parametrize("way", ["page", "lookup", "command"])
def test_operation_without_a_price_cannot_start(
    engine: Engine, unpriced: None, as_person: AsPerson, way: str, tmp_path: Any
) -> None:
    factories.make_user(role="manager", name="Mia Wong")
    if way == "page":
        job = engine.draft(3)
        told = {
            "key": str(engine.key.id),
            "freshness_days": "90",
            "purpose": "x",
            "token": job.start_token,
        }
        client = as_person(engine.person)
        assert "Nobody has entered what" in words(client.get(f"/jobs/{job.id}/review/"))
        answer = client.post(f"/jobs/{job.id}/start/", told)
        assert answer.status_code == 422
        said = words(answer)
    elif way == "lookup":
        with pytest.raises(submission.SubmissionError) as refused:
            submission.look_up(
                Actor(engine.person),
                operation=VERIFY,
                told={"email": "ann@sbx-found.example"},
                key=engine.key,
                purpose="x",
                freshness_days=90,
                token="t",
            )
        said = refused.value.message
    else:
        path = tmp_path / "list.csv"
        path.write_text("Email\nann@sbx-found.example\n")
        with pytest.raises(CommandError) as stopped:
            call_command("enrich", str(path), operation=VERIFY, key=engine.key.name, yes=True)
        said = str(stopped.value)

    assert "Mia Wong can enter the price with its date and source." in said
    assert not LedgerEntry.objects.exists()
    assert not EnrichmentJob.objects.exclude(state="draft").exclude(state="cancelled").exists()


@pytest.mark.django_db
def test_manager_enters_a_price_and_the_audit_log_has_it(as_person: AsPerson) -> None:
    client = as_person(factories.make_user(role="manager"))
    told = {
        "operation": VERIFY,
        "realm": "live",
        "credits": "0.125",
        "valid_from": db_now().date().isoformat(),
        "source": "Contract 8",
    }

    assert "No price was entered" in words(client.get("/prices/"))
    for form in (client.get("/prices/enter/"), client.post("/prices/enter/", {**told, "credits": "0"})):
        # What a date field of a browser reads; anything else leaves it empty.
        assert f'type="date" name="valid_from" value="{told["valid_from"]}"' in form.content.decode()
    for wrong in ({"credits": "0"}, {"credits": "0.0001"}, {"source": " "}, {"valid_from": "2001-01-01"}):
        assert client.post("/prices/enter/", {**told, **wrong}).status_code == 422
    assert not Price.objects.exists()
    assert client.post("/prices/enter/", told).status_code == 303

    assert now("live") == Decimal("0.125")
    assert "Contract 8" in words(client.get("/prices/"))
    assert AuditEntry.objects.get(action="price.entered").reason == "Contract 8"


@pytest.mark.django_db
def test_others_see_prices_and_enter_none(as_person: AsPerson) -> None:
    factories.make_user(role="manager", name="Mia Wong")
    client = as_person(factories.make_user(role="operator"))

    assert "Mia Wong can enter prices." in words(client.get("/prices/"))
    assert client.get("/prices/enter/").status_code == 403
    assert client.post("/prices/enter/", {}).status_code == 403


@pytest.mark.django_db
def test_page_that_showed_a_lower_price_starts_nothing(as_person: AsPerson, wakes: list[Any]) -> None:
    person = factories.make_user(team=factories.make_team())
    key = factories.make_key(account=factories.make_account(balance=100))
    job = factories.make_job_from_file(b"Email\na@x.example\n", created_by=person, operation=VERIFY)
    client = as_person(person)
    page = client.get(f"/jobs/{job.id}/review/").content.decode()
    shown = re.search(r'name="max_credits" value="([^"]+)"', page)
    assert shown
    price("3")

    told = {"key": str(key.id), "freshness_days": "90", "purpose": "x", "token": job.start_token}
    answer = client.post(f"/jobs/{job.id}/start/", {**told, "max_credits": shown[1]})

    assert answer.status_code == 422
    assert "The figures changed since you saw them." in words(answer)

"""Invented people, keys and history for the demo. The history is written into the sandbox's ledger too, so that its
charges and ours agree."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import secrets
import string
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone
from faker import Faker

from enrichment import operations, prices
from enrichment.choices import BatchState, JobState, RowState, Source
from enrichment.models import Answer, Batch, BatchItem, EnrichmentJob, EnrichmentRow, JobEvent
from enrichment.providers.icypeas.payloads import Rows, parse_item
from enrichment.providers.icypeas.routes import ROUTES
from enrichment.services import answers, batching, preparing, submission, uploads
from enrichment.services.transitions import finish_if_done, lock_job, move_rows
from keys import calls, finding_exceptions, findings, reminders
from keys.budgets import set_budget
from keys.choices import FindingCode, Outcome, Realm
from keys.clock import db_now
from keys.hours import Hours
from keys.models import Account, BalanceReading, Call, KeyRecord, LedgerEntry
from keys.services import KeySpec, create_key
from people import audit
from people.models import User
from people.rights import Role
from people.services import create_person, ensure_team

SANDBOX_USER_ID = "sandbox-demo"
SEED = 20261117
TOOK = timedelta(minutes=3)

PEOPLE = (
    ("Ana Duarte", "ana@tallgrass.example", Role.OPERATOR, "RevOps"),
    ("Priya Nair", "priya@tallgrass.example", Role.OPERATOR, "Growth"),
    ("Mira Okafor", "mira@tallgrass.example", Role.KEY_ADMIN, "RevOps"),
    ("Leo Brandt", "leo@tallgrass.example", Role.MANAGER, "RevOps"),
    ("Tom Aldous", "tom@tallgrass.example", Role.VIEWER, "RevOps"),
)

SEARCH, VERIFY = "email-search", "email-verification"


@dataclass(frozen=True)
class Run:
    """A job of the past: how long ago it started, who ran what, over how many rows."""

    days_ago: float
    person: str
    operation: str
    rows: int
    file: str
    purpose: str
    key: str


RUNS = (
    Run(
        27.2,
        "ana",
        SEARCH,
        120,
        "logistics-dach-q3.csv",
        "Call list for the DACH team",
        "sandbox_list_building_revops",
    ),
    Run(
        26.1,
        "priya",
        VERIFY,
        240,
        "newsletter-october.csv",
        "Bounces of the October issue",
        "sandbox_bulk_verify_growth",
    ),
    Run(
        23.3,
        "ana",
        SEARCH,
        90,
        "trade-fair-lyon-badges.csv",
        "Badges scanned in Lyon",
        "sandbox_list_building_revops",
    ),
    Run(
        20.4,
        "priya",
        VERIFY,
        180,
        "crm-cleanup-week-44.csv",
        "Clean list before the campaign",
        "sandbox_bulk_verify_growth",
    ),
    Run(
        19.2,
        "ana",
        SEARCH,
        140,
        "partner-list-benelux.csv",
        "Partner programme, wave 2",
        "sandbox_list_building_revops",
    ),
    Run(
        16.1,
        "mira",
        VERIFY,
        60,
        "key-admin-rehearsal.csv",
        "Rehearsal of the new key",
        "sandbox_training_revops",
    ),
    Run(
        13.3,
        "ana",
        SEARCH,
        110,
        "demo-requests-week-45.csv",
        "Enrich leads of the web form",
        "sandbox_list_building_revops",
    ),
    Run(
        12.2,
        "priya",
        VERIFY,
        260,
        "webinar-registrants.csv",
        "Verify before the reminder goes out",
        "sandbox_bulk_verify_growth",
    ),
    Run(
        9.4,
        "ana",
        SEARCH,
        150,
        "autumn-outbound-nordics.csv",
        "Autumn outbound, Nordics",
        "sandbox_list_building_revops",
    ),
    Run(
        6.2,
        "priya",
        VERIFY,
        200,
        "newsletter-november.csv",
        "Clean list for the newsletter of 24 Nov",
        "sandbox_bulk_verify_growth",
    ),
    Run(
        5.3,
        "ana",
        SEARCH,
        130,
        "churned-accounts-contacts.csv",
        "Win-back, new contacts",
        "sandbox_list_building_revops",
    ),
    Run(
        2.2,
        "leo",
        SEARCH,
        40,
        "board-intros.csv",
        "Warm introductions for the board",
        "sandbox_training_revops",
    ),
    Run(
        1.3,
        "ana",
        SEARCH,
        160,
        "webinar-follow-up.csv",
        "Hand-over to sales after the webinar",
        "sandbox_list_building_revops",
    ),
    Run(
        0.12,
        "priya",
        VERIFY,
        310,
        "bounce-check.csv",
        "Bounces before the campaign",
        "sandbox_bulk_verify_growth",
    ),
)


class Command(BaseCommand):
    help = "Write demo people, keys and finished jobs into an empty installation whose sandbox is running."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        if EnrichmentJob.objects.exists() or User.objects.exists():
            raise CommandError(
                "This installation holds people or jobs already; the demo's are for an empty one."
            )
        if not settings.ICYPEAS_IS_LOOPBACK:
            raise CommandError("Demo data needs the sandbox; ICYPEAS_BASE_URL is another machine.")
        people = _make_people()
        keys = _make_keys(people)
        _enter_prices()
        fake = Faker(["en_GB", "de_DE", "fr_FR", "es_ES", "pl_PL", "sv_SE"])
        Faker.seed(SEED)
        chance = random.Random(SEED)
        _read_balance_of(keys["sandbox_list_building_revops"].account)
        for run in RUNS:
            _relive(run, people[run.person], keys[run.key], fake, chance)
        _make_draft(people["ana"], fake, chance)
        _set_budgets(audit.Actor(people["leo"], "demo"), keys)
        _look_at_keys(audit.Actor(people["mira"], "demo"), keys)
        self.stdout.write(f"{len(people)} people, {len(keys)} key records, {len(RUNS)} finished jobs")


def _make_people() -> dict[str, User]:
    """Demo people by the first part of their address; passwords are drawn here and kept for the runner to print."""
    people, log_ins = {}, []
    alphabet = string.ascii_lowercase + string.digits
    ensure_team(audit.SYSTEM, "RevOps")
    for name, email, role, team in PEOPLE:
        password = "-".join("".join(secrets.choice(alphabet) for _ in range(4)) for _ in range(4))
        user = create_person(
            audit.SYSTEM,
            email=email,
            name=name,
            roles=[role],
            team=team,
            password=password,
            time_zone="Europe/Paris",
            is_demo=True,
        )
        people[email.split("@")[0]] = user
        log_ins.append({"name": name, "email": email, "password": password, "role": role.label})
    path = settings.DATA_DIR / "worker" / "demo-logins.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(log_ins, file, indent=1)
    return people


def _make_keys(people: dict[str, User]) -> dict[str, KeyRecord]:
    """Sandbox keys that work here, and production-looking ones whose secret nobody has."""
    mira, ana, leo, tom, priya = (people[name] for name in ("mira", "ana", "leo", "tom", "priya"))
    admin = audit.Actor(mira, "demo")
    today = db_now().date()

    def spec(environment: str, system: str, label: str, **rest: Any) -> KeySpec:
        reference = "env:ICYPEAS_KEY_" + f"{environment}_{system}_{label}".upper()
        return KeySpec(
            environment,
            system,
            label,
            **{
                "secret_ref": "env:ICYPEAS_API_KEY" if environment == "sandbox" else reference,
                "account": "Sandbox" if environment == "sandbox" else "Main",
                **rest,
            },
        )

    both = [f"{SEARCH}:bulk", f"{VERIFY}:bulk"]
    single = [f"{SEARCH}:single", f"{VERIFY}:single"]
    names = [name for name in operations.ASKED if name not in (SEARCH, VERIFY)]
    others = ["leads:search", *(f"{name}:{mode}" for name in names for mode in ("bulk", "single"))]
    specs = [
        spec("sandbox", "training", "revops", owner=ana, deputy=mira, team=ana.team, purpose="Training and demos, no money", scopes=[*both, *single, *others], rotate_by=today + timedelta(days=75)),
        spec("sandbox", "list_building", "revops", owner=ana, team=ana.team, purpose="Outbound lists of the SDR team, rehearsed", scopes=[f"{SEARCH}:bulk"], rotate_by=today + timedelta(days=9)),
        spec("sandbox", "bulk_verify", "growth", owner=priya, team=priya.team, purpose="Verification before campaigns, rehearsed", scopes=[f"{VERIFY}:bulk", "domain-search:bulk"], daily_cap=Decimal(2000), rotate_by=today + timedelta(days=51)),
        spec("prod", "crm_sync", "revops", owner=mira, deputy=tom, team=mira.team, purpose="Nightly CRM clean-up: verify addresses, refresh companies", scopes=[f"{VERIFY}:bulk", "scrape-company:bulk", "domain-search:bulk"], daily_cap=Decimal(5000), was_used_before=True, rotate_by=today + timedelta(days=6), hours=Hours("", time(22), time(10), "Europe/Paris")),
        spec("prod", "form_handling", "growth", owner=priya, deputy=ana, team=priya.team, purpose="Enrich a lead the moment a form is sent", scopes=single, rotate_by=today + timedelta(days=40)),
        spec("prod", "webinar_import", "growth", owner=priya, team=priya.team, purpose="Registrants from the webinar tool", scopes=[f"{SEARCH}:bulk"], rotate_by=today + timedelta(days=80)),
        spec("staging", "crm_sync", "revops", owner=leo, deputy=mira, team=leo.team, purpose="CRM sync rehearsals", scopes=[f"{VERIFY}:bulk"], rotate_by=today + timedelta(days=63)),
        spec("dev", "oneoff", "revops", owner=ana, team=ana.team, purpose="Trying new endpoints", scopes=[f"{SEARCH}:single"], rotate_by=today - timedelta(days=3)),
    ]  # fmt: skip
    keys = {key.name: key for key in (create_key(admin, one) for one in specs)}
    KeyRecord.objects.update(created_at=db_now() - timedelta(days=60), scopes_since={})
    return keys


def _enter_prices() -> None:
    """What the sandbox charges for that Icypeas publishes no price of."""
    for operation in operations.OPERATIONS.values():
        if operation.price is None:
            prices.enter_price(
                audit.Actor(None, "demo"),
                operation=operation.name,
                realm=Realm.SANDBOX,
                credits=Decimal(1),
                charged_when_empty=False,
                valid_from=db_now().date(),
                source="The local sandbox's own price; Icypeas publishes none",
            )


def _rows_of(run: Run, fake: Faker, chance: random.Random) -> list[dict[str, str]]:
    """A plausible list: mostly good rows, some double, a few that cannot be asked."""
    rows: list[dict[str, str]] = []
    for number in range(run.rows):
        if rows and chance.random() < 0.04:
            rows.append(dict(chance.choice(rows)))
            continue
        first, last, company = fake.first_name(), fake.last_name(), fake.company()
        domain = "".join(
            c for c in company.casefold().split(",")[0] if c in string.ascii_lowercase + string.digits
        )[:24]
        row = {
            "Given name": first,
            "Surname": last,
            "Company website": f"{domain or 'firm'}.example",
            "Organisation": company,
        }
        if run.operation == VERIFY:
            row = {"Email": f"{first}.{last}@{domain or 'firm'}.example".casefold().replace(" ", ""), **row}
            row["Email"] = row["Email"].encode("ascii", "ignore").decode()
        if chance.random() < 0.02:
            row["Email" if run.operation == VERIFY else "Surname"] = (
                "not an address" if run.operation == VERIFY else ""
            )
            if run.operation == SEARCH:
                row["Given name"] = ""
        row["Source"] = f"hall {1 + number % 7}"
        rows.append(row)
    return rows


def _csv(rows: list[dict[str, str]]) -> io.BytesIO:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), delimiter=";", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return io.BytesIO(text.getvalue().encode("utf-8-sig"))


def _relive(run: Run, person: User, key: KeyRecord, fake: Faker, chance: random.Random) -> None:
    """Run a job of the past through the services, with the sandbox's history as Icypeas, then date it back."""
    at = db_now() - timedelta(days=run.days_ago)
    actor = audit.Actor(person, "demo")
    job = uploads.create_draft(
        actor,
        operation=run.operation,
        stream=_csv(_rows_of(run, fake, chance)),
        file_name=run.file,
        source=Source.DEMO,
    )
    uploads.check_rows(job.id)
    order = submission.StartOrder(
        key=key, purpose=run.purpose, freshness_days=90, token=job.start_token, is_again=True
    )
    job = submission.start_job(actor, job.id, order)
    preparing.prepare(job)
    job.refresh_from_db()
    while batch := batching.claim_batch(job):
        _answer_from_history(job, batch, at)
        job.refresh_from_db()
    finish_if_done(job.id)
    _date_back(job.id, key, person, at)


def _answer_from_history(job: EnrichmentJob, batch: Batch, at: datetime) -> None:
    items = list(BatchItem.objects.filter(batch=batch).select_related("question").order_by("id"))
    with transaction.atomic():
        lock_job(job.id)
        rows = EnrichmentRow.objects.filter(job=job, question_id__in=[item.question_id for item in items])
        move_rows(job.id, rows.filter(state=RowState.WAITING), RowState.IN_FLIGHT)
        Batch.objects.filter(id=batch.id).update(state=BatchState.SENT, intent_at=at, sent_at=at, attempt=1)
    names = ("first_name", "last_name", "company") if job.operation == SEARCH else ("email",)
    seeded = _control(
        "seed",
        {
            "user_id": SANDBOX_USER_ID,
            "files": [
                {
                    "name": batch.name,
                    "task": job.operation,
                    "rows": [[item.question.inputs.get(name, "") for name in names] for item in items],
                    "external_ids": [item.external_id for item in items],
                    "created_at": at.isoformat(),
                }
            ],
        },
    )
    (file,) = seeded["files"]
    wire = operations.get(job.operation).wire
    assert isinstance(wire, Rows)
    asked = {item.external_id: item.question.inputs.get("email", "") for item in items}
    parsed = (
        parse_item(raw, rows=wire, asked_email=asked.get(raw["userData"]["externalId"], ""))
        for raw in file["items"]
    )
    answers.record_items(batch, [item for item in parsed if item is not None])
    Batch.objects.filter(id=batch.id).update(
        state=BatchState.DONE, provider_ref=file["file"], done_at=at + TOOK, lease_until=None
    )


def _date_back(job_id: int, key: KeyRecord, person: User, at: datetime) -> None:
    """Move everything that the job left to its time, in the order in which it happened."""
    job = EnrichmentJob.objects.get(id=job_id)
    end = at + TOOK
    EnrichmentJob.objects.filter(id=job_id).update(
        created_at=at - timedelta(minutes=4),
        started_at=at,
        prepared_at=at,
        heard_at=end,
        finished_at=end,
        fresh_after=at - timedelta(days=90),
        next_due_at=None,
        dispatched_at=None,
    )
    Answer.objects.filter(job_id=job_id).update(answered_at=end)
    LedgerEntry.objects.filter(job=job_id, kind="reserved").update(at=at)
    LedgerEntry.objects.filter(job=job_id).exclude(kind="reserved").update(at=end)
    for step, event in enumerate(JobEvent.objects.filter(job_id=job_id).order_by("id")):
        JobEvent.objects.filter(id=event.id).update(at=at if step == 0 else end)
    Batch.objects.filter(job_id=job_id).update(created_at=at)
    size = sum(Batch.objects.filter(job_id=job_id).values_list("size", flat=True))
    for route, scope, rows, when in (
        (ROUTES["bulk-search"].name, f"{job.operation}:bulk", size, at),
        (ROUTES["files-read"].name, "account:read", 0, end),
        (ROUTES["items-read"].name, "account:read", size, end),
    ):
        calls.write(
            Call(
                account=key.account,
                key=key,
                route=route,
                scope=scope,
                job=job_id,
                job_text=job.name,
                person=person.name,
                worker="demo",
                at=when,
                duration_ms=180,
                outcome=Outcome.OK,
                rows=rows,
            )
        )
    KeyRecord.objects.filter(id=key.id).update(
        last_used_at=end,
        last_used_operation=job.operation,
        last_used_job=job_id,
        last_used_by=person.name,
        last_used_worker="demo",
        last_used_outcome=Outcome.OK,
        last_used_rows=size,
    )
    Account.objects.filter(id=key.account_id).update(balance_asked_at=None, balance=None)


def _control(path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the sandbox's control answers: to a reading, or to `body`."""
    base = urlsplit(settings.ICYPEAS_BASE_URL)
    url = f"{base.scheme}://{base.netloc}/control/{path}"
    with httpx.Client(trust_env=False, timeout=30) as client:
        answer = client.get(url) if body is None else client.post(url, json=body)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def _read_balance_of(account: Account) -> None:
    """The balance before the history, so that receipts and balance can be compared over it."""
    credits = Decimal(_control("state")["accounts"][SANDBOX_USER_ID]["credits"])
    before = db_now() - timedelta(days=max(run.days_ago for run in RUNS) + 1)
    BalanceReading.objects.create(account=account, credits=credits, asked_at=before)


def _set_budgets(manager: audit.Actor, keys: dict[str, KeyRecord]) -> None:
    """Budgets that the month's jobs have burnt to different shares."""
    month = timezone.localdate().replace(day=1)
    key = keys["sandbox_list_building_revops"]
    set_budget(
        manager,
        team=key.team,
        realm=Realm.SANDBOX,
        first_month=month,
        credits=Decimal(20_000),
        reason="Agreed for the autumn",
    )
    set_budget(manager, key=key, first_month=month, credits=Decimal(15_000), reason="Lists for outbound")


def _look_at_keys(admin: audit.Actor, keys: dict[str, KeyRecord]) -> None:
    """Findings and notices as the sweep would have made them, and two exceptions."""
    findings.refresh()
    reminders.remind()
    for name, code, days, reason in (
        ("prod_form_handling_growth", FindingCode.UNUSED, 45, "Goes live with the new web form"),
        ("sandbox_training_revops", FindingCode.SCOPE, 170, "Trainees may try every operation"),
    ):
        resting = findings.counted().get(key=keys[name], code=code)
        until = timezone.localdate() + timedelta(days=days)
        finding_exceptions.except_finding(admin, resting, until=until, reason=reason)


def _make_draft(person: User, fake: Faker, chance: random.Random) -> None:
    """A checked list that waits for its person."""
    run = Run(0, "ana", SEARCH, 80, "expo-visitors-2026-11.csv", "", "")
    job = uploads.create_draft(
        audit.Actor(person, "demo"),
        operation=run.operation,
        stream=_csv(_rows_of(run, fake, chance)),
        file_name=run.file,
    )
    uploads.check_rows(job.id)
    assert EnrichmentJob.objects.get(id=job.id).state == JobState.DRAFT

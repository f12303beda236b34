"""Before the start: what a job would cost, which keys may pay for it, and whether the same ran just now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, Sum

from enrichment import operations, prices
from enrichment.choices import OPEN_ROWS, WORKED_ON, JobState, RowState
from enrichment.models import EnrichmentJob, EnrichmentRow, Question
from keys import gate, presence
from keys.choices import Outcome
from keys.clock import db_now
from keys.finding_rules import KEY_TROUBLE
from keys.models import KeyRecord
from people.models import User

HISTORY = timedelta(days=90)
HISTORY_JOBS = 2_000  # at most so many jobs of that time
MIN_HISTORY = 50  # answers; fewer say too little


@dataclass(frozen=True)
class Estimate:
    """What a draft would do. `ask` + `known` + `duplicates` + `skipped` = rows. Credits are Decimal."""

    rows: int
    ask: int
    known: int
    duplicates: int
    skipped: int
    price: Decimal  # 0 while `is_priced` is False: nobody has entered it
    is_priced: bool
    charged_when_empty: bool
    hit_rate: Decimal
    hit_rate_answers: int
    at_least: Decimal
    expected: Decimal
    at_most: Decimal
    saved: Decimal
    known_from: tuple[int, ...] = ()
    # Of `ask`: questions that other jobs are asking now. Their answers will cost this job nothing; should they fail to
    # come, it asks itself, so the maximum counts them.
    on_their_way: int = 0
    on_their_way_from: tuple[int, ...] = ()


def estimate(job: EnrichmentJob, *, realm: str, fresh_after: datetime) -> Estimate:
    """Minimum, expected and maximum credits of a checked draft, with known answers and duplicates taken off."""
    operation = operations.get(job.operation)
    askable = EnrichmentRow.objects.filter(job=job, state=RowState.WAITING)
    fresh = Question.objects.filter(
        realm=realm, operation=job.operation, latest_answer__answered_at__gte=fresh_after
    )
    # Asked row by row: the set of all that is known grows for ever, and a look-up has one row.
    known_rows = askable.filter(Exists(fresh.filter(digest=OuterRef("digest"))))
    known = known_rows.count()
    distinct_known = known_rows.order_by().values("digest").distinct().count()
    distinct = askable.order_by().values("digest").distinct().count()
    waiting = askable.count()
    ask = distinct - distinct_known
    rate, answers = hit_rate(job.operation, realm)
    now = prices.price_of(operation, realm)
    price = now.credits or Decimal(0)
    at_most = ask * price
    asked = Question.objects.filter(
        realm=realm, operation=job.operation, digest__in=askable.order_by().values("digest")
    )
    sources = (
        asked.filter(latest_answer__answered_at__gte=fresh_after)
        .order_by()
        .values_list("latest_answer__job", flat=True)
    )
    stale = asked.filter(
        Q(latest_answer__isnull=True) | Q(latest_answer__answered_at__lt=fresh_after)
    ).order_by()
    elsewhere = (
        EnrichmentRow.objects.filter(
            question__in=stale.values("id"), job__state__in=WORKED_ON, state__in=OPEN_ROWS
        )
        .exclude(job=job)
        .order_by()
    )
    on_their_way = elsewhere.values("digest").distinct().count()
    return Estimate(
        rows=job.rows_total,
        ask=ask,
        known=known,
        duplicates=waiting - known - ask,
        skipped=job.rows_skipped,
        price=price,
        is_priced=now.credits is not None,
        charged_when_empty=now.charged_when_empty,
        hit_rate=rate,
        hit_rate_answers=answers,
        at_least=at_most if now.charged_when_empty else Decimal(0),
        expected=at_most if now.charged_when_empty else (at_most * rate).quantize(Decimal("0.1")),
        at_most=at_most,
        saved=distinct_known * price,
        known_from=tuple(sorted(sources.distinct()[:5], reverse=True)) if known else (),
        on_their_way=on_their_way,
        on_their_way_from=tuple(elsewhere.values_list("job", flat=True).distinct().order_by("-job")[:5])
        if on_their_way
        else (),
    )


def hit_rate(operation: str, realm: str) -> tuple[Decimal, int]:
    """Share of good answers among those that our last jobs of 90 days got, and how many those are; a cautious share while
    too few. By the counters of the jobs: whoever presses a button does not wait while all answers are counted."""
    recent = EnrichmentJob.objects.filter(
        operation=operation, realm=realm, started_at__gte=db_now() - HISTORY
    ).order_by("-id")[:HISTORY_JOBS]
    sums = recent.aggregate(good=Sum("rows_found"), poor=Sum("rows_not_found"))
    good, count = sums["good"] or 0, (sums["good"] or 0) + (sums["poor"] or 0)
    if count < MIN_HISTORY:
        return operations.get(operation).first_hit_rate, 0
    return (Decimal(good) / count).quantize(Decimal("0.001")), count


def expected_rate(job: EnrichmentJob) -> Decimal:
    """Share of good answers that a started job may expect: its own sample's, else our history's."""
    if job.sample_asked:
        return Decimal(job.sample_good) / job.sample_asked
    return hit_rate(job.operation, job.realm)[0] if job.realm else Decimal(1)


def same_run(job: EnrichmentJob, key: KeyRecord) -> EnrichmentJob | None:
    """The newest run of the same bytes, operation, columns and key within the last hours, if there is one."""
    if job.upload is None:
        return None
    recent = EnrichmentJob.objects.filter(
        upload__sha256=job.upload.sha256,
        operation=job.operation,
        key=key,
        started_at__gte=db_now() - timedelta(hours=settings.SAME_FILE_HOURS),
    ).exclude(id=job.id)
    recent = recent.exclude(state__in=(JobState.DRAFT, JobState.CANCELLED))
    return next((run for run in recent.order_by("-id") if run.mapping == job.mapping), None)


@dataclass(frozen=True)
class KeyChoice:
    """A key record as the start form sees it: offered, or not and why; `outcome` is then the policy that refuses it."""

    key: KeyRecord
    refusal: str = ""
    outcome: Outcome | None = None


def key_choices(operation_name: str, mode: str, person: User) -> list[KeyChoice]:
    """All key records: first those that may do this, the person's own team's before others, then the rest with the
    reason."""
    scope = operations.get(operation_name).scope(mode)
    choices = []
    unfound, admins = presence.unfound_references(), cache(gate.who_manages)
    for key in KeyRecord.objects.select_related("account", "owner", "team"):
        refused = gate.refusal(key, environment=key.environment, scope=scope, admins=admins)
        if not refused and key.environment not in settings.ENVIRONMENTS:
            served = ", ".join(settings.ENVIRONMENTS)
            refused = (
                Outcome.POLICY_ENVIRONMENT,
                f"This installation serves {served}, not {key.environment}.",
            )
        if not refused and key.secret_ref in unfound:
            refused = (
                Outcome.SECRET_MISSING,
                f"No running worker finds the secret of {key.name}, so a job on it could only wait. Its page says what "
                "each worker finds.",
            )
        choices.append(KeyChoice(key, refused[1], refused[0]) if refused else KeyChoice(key))
    # The first is preselected: of the person's own team, whose budget then pays, and of those the newest use first.
    offered = sorted(
        (choice for choice in choices if not choice.refusal),
        key=lambda c: (
            c.key.let_in_outcome in KEY_TROUBLE,  # refused when it was last asked
            not _is_own(c.key, person),
            -(c.key.last_used_at.timestamp() if c.key.last_used_at else 0),
            c.key.name,
        ),
    )
    return offered + [choice for choice in choices if choice.refusal]


def _is_own(key: KeyRecord, person: User) -> bool:
    return key.team_id is not None and key.team_id == person.team_id

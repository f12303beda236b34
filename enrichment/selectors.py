"""Reads: jobs that a person may see, estimates, progress, rows and receipts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Count, Exists, Max, Min, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import TruncDate

from enrichment import csv_export, operations, prices
from enrichment.choices import (
    ACTIVE,
    ANSWERED_ROWS,
    OPEN_ROWS,
    WORKED_ON,
    BatchState,
    JobState,
    Mode,
    RowState,
    Source,
)
from enrichment.models import Answer, Batch, BatchItem, EnrichmentJob, EnrichmentRow, JobEvent, Question
from keys import breaker, gate, ledger
from keys.choices import EntryKind
from keys.clock import db_now
from keys.credit_sum import CreditSum
from keys.models import Breaker, KeyRecord, LedgerEntry, Worker
from people.models import User
from people.rights import Right

PAGE = 50
FORMULA_ROWS = 5_000  # above, counting cells takes longer than a page should
HISTORY = timedelta(days=90)
HISTORY_JOBS = 2_000  # at most so many jobs of that time
MIN_HISTORY = 50  # answers; fewer say too little


# --- who may see what ------------------------------------------------------------------------------------------------------


def visible_to(user: User) -> QuerySet[EnrichmentJob]:
    """Jobs that the person may see: their team's and their own, or all."""
    jobs = EnrichmentJob.objects.select_related("key", "created_by", "team", "upload")
    if user.may(Right.VIEW_ALL_JOBS):
        return jobs
    if not user.may(Right.VIEW_JOBS):
        return jobs.none()
    own = Q(created_by=user)
    return jobs.filter(own | Q(team=user.team)) if user.team_id else jobs.filter(own)


def may_see_rows(user: User, job: EnrichmentJob) -> bool:
    """Rows hold people's data: the team's own, or with the right to all rows."""
    if user.may(Right.VIEW_ALL_ROWS):
        return True
    return user.may(Right.VIEW_JOBS) and (
        job.created_by_id == user.id or (user.team_id is not None and job.team_id == user.team_id)
    )


# --- before the start --------------------------------------------------------------------------------------------------------


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


def jobs_under_way_of(person: User) -> list[EnrichmentJob]:
    """Jobs of one person that are not over, newest first."""
    return list(EnrichmentJob.objects.filter(created_by=person, state__in=ACTIVE).order_by("-id"))


@dataclass(frozen=True)
class KeyChoice:
    """A key record as the start form sees it: offered, or not and why."""

    key: KeyRecord
    refusal: str = ""


def key_choices(operation_name: str, mode: str) -> list[KeyChoice]:
    """All key records: first those that may do this, then the others with the reason."""
    scope = operations.get(operation_name).scope(mode)
    choices = []
    for key in KeyRecord.objects.select_related("account", "owner", "team"):
        refused = gate.refusal(key, environment=key.environment, scope=scope)
        reason = refused[1] if refused else ""
        if not reason and key.environment not in settings.ENVIRONMENTS:
            reason = f"This installation serves {', '.join(settings.ENVIRONMENTS)}, not {key.environment}."
        choices.append(KeyChoice(key, reason))
    # Sandbox first where nothing is real, else the newest use first.
    offered = sorted(
        (choice for choice in choices if not choice.refusal),
        key=lambda c: (-(c.key.last_used_at.timestamp() if c.key.last_used_at else 0), c.key.name),
    )
    return offered + [choice for choice in choices if choice.refusal]


# --- running -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """Everything that the live part of a job page says, each from one query or one counter."""

    job: EnrichmentJob
    counts: Mapping[str, int]
    money: ledger.JobSums
    answered: int
    percent: Decimal
    per_minute: int
    seconds_left: int | None
    at_risk: Decimal
    unsent: int
    at_provider: int
    is_stalled: bool
    worker_seen_at: datetime | None
    has_worker: bool
    breaker: Breaker | None  # of the job's account, while it is open
    jobs_before: int
    expected_end: Decimal

    @property
    def at_most_if_stopped(self) -> Decimal:
        """The most that the job has cost in the end if nothing more is sent."""
        return self.money.charged + self.at_risk


def progress(job: EnrichmentJob) -> Progress:
    """The job's figures now."""
    now = db_now()
    total = job.rows_total
    open_rows = job.rows_open
    done = total - open_rows
    settled_leads = EnrichmentRow.objects.filter(job=job, is_lead=True).aggregate(
        at_provider=Count("id", filter=Q(state=RowState.IN_FLIGHT)),
        uncertain=Count("id", filter=Q(state=RowState.UNCERTAIN)),
        waiting=Count("id", filter=Q(state=RowState.WAITING)),
    )
    money = ledger.job_sums(job.id)
    seen = Worker.objects.aggregate(at=Max("seen_at"))["at"]
    has_worker = bool(seen and (now - seen).total_seconds() < settings.WORKER_SILENT_S)
    per_minute, seconds_left = _speed(job, now, open_rows)
    rate = expected_rate(job)
    open_price = (settled_leads["waiting"] + settled_leads["at_provider"]) * job.price
    return Progress(
        job=job,
        counts=job.counts,
        money=money,
        answered=job.rows_answered,
        percent=Decimal(done * 100) / total if total else Decimal(0),
        per_minute=per_minute,
        seconds_left=seconds_left,
        at_risk=(settled_leads["at_provider"] + settled_leads["uncertain"]) * job.price,
        unsent=job.rows_waiting,
        at_provider=job.rows_in_flight,
        is_stalled=_is_stalled(job, now, has_worker),
        worker_seen_at=seen,
        has_worker=has_worker,
        breaker=breaker.opened(job.key.account_id) if job.key else None,
        jobs_before=EnrichmentJob.objects.filter(
            state__in=(JobState.QUEUED, JobState.RUNNING), mode=Mode.BULK, id__lt=job.id
        ).count()
        if job.state == JobState.QUEUED
        else 0,
        expected_end=_expected_end(job, money.charged, open_price, rate),
    )


def _expected_end(job: EnrichmentJob, charged: Decimal, open_price: Decimal, rate: Decimal) -> Decimal:
    """Credits that the job has probably cost when it ends: before the rows are turned into questions, the estimate."""
    if job.prepared_at is None:
        return job.estimate_expected
    return charged + open_price * (1 if job.charged_when_empty else rate)


def _speed(job: EnrichmentJob, now: datetime, open_rows: int) -> tuple[int, int | None]:
    """Answers a minute over the last minute (or since the start), and the seconds that the open rows take at it."""
    if job.state not in ACTIVE or not job.started_at:
        return 0, None
    window = min(max((now - job.started_at).total_seconds(), 1.0), 60.0)
    recent = Answer.objects.filter(job=job, answered_at__gte=now - timedelta(seconds=window)).count()
    per_minute = round(recent * 60 / window)
    return per_minute, (round(open_rows * 60 / per_minute) if per_minute and open_rows else None)


def _is_stalled(job: EnrichmentJob, now: datetime, has_worker: bool) -> bool:
    """Rows are open and Icypeas was silent for longer than its answers ever take."""
    if job.state not in (JobState.RUNNING, JobState.CANCELLING) or not job.rows_open or not has_worker:
        return False
    last = job.heard_at or job.started_at
    return bool(last and (now - last).total_seconds() > settings.STALLED_S)


def list_events(job: EnrichmentJob, limit: int = 30) -> list[JobEvent]:
    return list(job.events.order_by("-id")[:limit])


@dataclass(frozen=True)
class RowFilter:
    """Filter of the result table; it is the address. `state` one of the eight, `reason` a code, `search` a piece of text."""

    state: str = ""
    certainty: str = ""
    reason: str = ""
    warning: str = ""
    search: str = ""

    @property
    def is_set(self) -> bool:
        return any((self.state, self.certainty, self.reason, self.warning, self.search))


@dataclass(frozen=True)
class RowPage:
    """A keyset page: `after`/`before` are positions for the next and the previous page, None at the ends."""

    rows: list[EnrichmentRow]
    total: int
    after: int | None
    before: int | None


def _filtered(job: EnrichmentJob, wanted: RowFilter) -> QuerySet[EnrichmentRow]:
    rows = job.rows.all()  # each row knows this job without asking for it
    if wanted.state:
        rows = rows.filter(state=wanted.state)
    if wanted.certainty:
        rows = rows.filter(answer__result__certainty=wanted.certainty)
    if wanted.reason:
        rows = rows.filter(reason_code=wanted.reason)
    if wanted.warning:
        rows = rows.filter(warning=wanted.warning)
    if wanted.search:
        rows = rows.filter(_in_cells(wanted.search) | Q(answer__result__email__icontains=wanted.search))
    return rows


def _in_cells(text: str) -> Q:
    """Rows with a cell that holds `text`, without case. Cells are a JSON array, so the text is looked for as JSON spells it."""
    if connection.vendor != "sqlite":
        return Q(cells__icontains=json.dumps(text, ensure_ascii=False)[1:-1])
    # SQLite has it in plain ASCII and knows the case of ASCII letters only: every spelling of each letter is named.
    spellings = (
        sorted({json.dumps(form)[1:-1] for form in (char, char.lower(), char.upper())}) for char in text
    )
    return Q(cells__regex="".join(f"(?:{'|'.join(map(re.escape, forms))})" for forms in spellings))


def list_rows(
    job: EnrichmentJob,
    wanted: RowFilter,
    *,
    after: int | None = None,
    before: int | None = None,
    limit: int = PAGE,
) -> RowPage:
    """One page of results by position. The total comes from the counters where the filter is a state or nothing."""
    rows = _filtered(job, wanted).select_related("answer", "question")
    if before is not None:
        page = list(rows.filter(position__lt=before).order_by("-position")[: limit + 1])
        has_more_before = len(page) > limit
        page = list(reversed(page[:limit]))
        has_more_after = bool(page) and rows.filter(position__gt=page[-1].position).exists()
    else:
        page = list(rows.filter(position__gt=after or 0).order_by("position")[: limit + 1])
        has_more_after = len(page) > limit
        page = page[:limit]
        has_more_before = bool(after and page) and rows.filter(position__lt=page[0].position).exists()
    return RowPage(
        rows=page,
        total=count_rows(job, wanted),
        after=page[-1].position if page and has_more_after else None,
        before=page[0].position if page and has_more_before else None,
    )


def count_rows(job: EnrichmentJob, wanted: RowFilter) -> int:
    if wanted == RowFilter(state=wanted.state):
        return job.counts[wanted.state] if wanted.state else job.rows_total
    return _filtered(job, wanted).count()


def stream_rows(
    job: EnrichmentJob, wanted: RowFilter | None = None, chunk: int = 2_000
) -> Iterator[EnrichmentRow]:
    """All rows by position, a chunk at a time: memory does not grow with the list."""
    position = 0
    rows = _filtered(job, wanted or RowFilter()).select_related("answer")
    while True:
        page = list(rows.filter(position__gt=position).order_by("position")[:chunk])
        yield from page
        if len(page) < chunk:
            return
        position = page[-1].position


@dataclass(frozen=True)
class Receipt:
    """One row with everything that it cost and why."""

    row: EnrichmentRow
    asked: list[tuple[str, str]]
    emails: list[dict[str, str]]
    own_columns: list[tuple[str, str]]
    batch: Batch | None
    batches: int
    credits: Decimal | None
    paid_by: EnrichmentJob | None
    warning_text: str = ""
    extra: list[tuple[str, str]] = field(default_factory=list)
    second: Mapping[str, Any] | None = None  # another answer under the same id, as it came
    continues_row: int | None = None  # the row of the job that this one goes on with


def get_receipt(job: EnrichmentJob, position: int) -> Receipt | None:
    """The receipt of one row, or None when there is no such row."""
    row = (
        job.rows.filter(position=position)
        .select_related("answer", "answer__batch", "answer__job", "question")
        .first()
    )
    if row is None:
        return None
    operation = operations.get(job.operation)
    labels = {each.name: each.label for each in operation.fields} | dict(operation.asked_labels)
    batch = row.answer.batch if row.answer and row.answer.job_id == job.id else None
    if batch is None and row.question_id and row.state in (RowState.IN_FLIGHT, RowState.UNCERTAIN):
        item = (
            BatchItem.objects.filter(question_id=row.question_id, batch__job=job)
            .select_related("batch")
            .last()
        )
        batch = item.batch if item else None
    header = job.upload.header if job.upload else list(row.inputs)
    mapped = set(job.mapping.values())
    result = row.answer.result if row.answer else {}
    return Receipt(
        row=row,
        asked=[(labels.get(name, name), value) for name, value in row.inputs.items() if value],
        emails=[entry for entry in result.get("all_emails", []) if isinstance(entry, dict)],
        own_columns=[
            (name, cell)
            for index, (name, cell) in enumerate(zip(header, row.cells, strict=False))
            if index not in mapped and cell
        ],
        batch=batch,
        batches=Batch.objects.filter(job=job).count(),
        credits=row.credits,
        paid_by=row.answer.job if row.answer and row.answer.job_id != job.id else None,
        warning_text=job.findings.get("warnings", {}).get(row.warning, {}).get("text", ""),
        second=second_answer(row),
        continues_row=job.continued_rows[position - 1] if position <= len(job.continued_rows) else None,
    )


def second_answer(row: EnrichmentRow) -> Mapping[str, Any] | None:
    """What Icypeas answered besides, where it answered the row's question twice and not alike."""
    items = BatchItem.objects.filter(question=row.question, batch__job=row.job_id, other__isnull=False)
    return items.order_by("id").values_list("other", flat=True).last()


def neighbours(job: EnrichmentJob, wanted: RowFilter, position: int) -> tuple[int | None, int | None]:
    """Positions of the previous and the next row within the filter."""
    rows = _filtered(job, wanted)
    found = rows.aggregate(
        previous=Max("position", filter=Q(position__lt=position)),
        following=Min("position", filter=Q(position__gt=position)),
    )
    return found["previous"], found["following"]


def certainties(job: EnrichmentJob) -> list[str]:
    """Certainties that occur in the job's answers, for the filter."""
    values = (
        EnrichmentRow.objects.filter(job=job, answer__isnull=False)
        .order_by()
        .values_list("answer__result__certainty", flat=True)
        .distinct()[:12]
    )
    return sorted(value for value in values if value)


def failure_reasons(job: EnrichmentJob) -> list[Mapping[str, Any]]:
    """Failed and uncertain rows by reason: code, sentence, rows, first position."""
    return [
        *EnrichmentRow.objects.filter(job=job, state__in=(RowState.FAILED, RowState.UNCERTAIN))
        .order_by()
        .values("state", "reason_code", "reason")
        .annotate(rows=Count("id"), first=Min("position"))
        .order_by("-rows")
    ]


def costs_of_asking(job: EnrichmentJob, rows: QuerySet[EnrichmentRow]) -> dict[str, Decimal]:
    """The most that asking `rows` of a job can cost, by reason code: each question once, known answers for nothing."""
    known = Question.objects.filter(
        realm=job.realm, operation=job.operation, latest_answer__answered_at__gte=job.fresh_after or db_now()
    )
    questions = rows.order_by().values_list("reason_code")
    asked = questions.annotate(n=Count("digest", distinct=True, filter=~Q(digest__in=known.values("digest"))))
    return {code: count * job.price for code, count in asked}


def verdict_counts(job: EnrichmentJob) -> dict[str, int]:
    """Rows that have an answer, by its verdict; known answers and duplicates count with theirs."""
    answered = EnrichmentRow.objects.filter(job=job, state__in=ANSWERED_ROWS, answer__isnull=False)
    return dict(answered.order_by().values_list("answer__verdict").annotate(Count("id")))


def count_formula_cells(job: EnrichmentJob) -> int | None:
    """Original cells that a spreadsheet could take for a formula; None for a list too long to read for a page."""
    if job.rows_total > FORMULA_ROWS:
        return None
    rows = EnrichmentRow.objects.filter(job=job).order_by().values_list("cells", flat=True)
    return sum(csv_export.count_formula_cells(cells) for cells in rows)


def lead_position(row: EnrichmentRow) -> int | None:
    """The row that was asked in place of this duplicate, within its job."""
    if row.is_lead or row.question_id is None:
        return None
    leads = EnrichmentRow.objects.filter(job_id=row.job_id, question_id=row.question_id, is_lead=True)
    return leads.values_list("position", flat=True).first()


# --- lists and overview ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JobFilter:
    """Filter of the job list; it is the address."""

    view: str = ""
    state: str = ""
    operation: str = ""
    environment: str = ""
    person: int | None = None
    search: str = ""
    charged_on: date | None = None

    @property
    def is_set(self) -> bool:
        return any((self.state, self.operation, self.environment, self.person, self.search, self.charged_on))


def _lists_of(user: User) -> QuerySet[EnrichmentJob]:
    """What the job list is about: no look-ups, and no draft that was thrown away."""
    discarded = Q(state=JobState.CANCELLED, started_at__isnull=True)
    return visible_to(user).exclude(source=Source.LOOKUP).exclude(discarded)


def filter_jobs(user: User, wanted: JobFilter) -> QuerySet[EnrichmentJob]:
    jobs = _lists_of(user)
    if wanted.view == "running":
        jobs = jobs.filter(state__in=ACTIVE)
    elif wanted.view == "drafts":
        jobs = jobs.filter(state=JobState.DRAFT)
    elif wanted.view == "mine":
        jobs = jobs.filter(created_by=user)
    if wanted.view != "drafts" and wanted.state != JobState.DRAFT:
        jobs = jobs.exclude(state=JobState.DRAFT)
    if wanted.state:
        jobs = jobs.filter(state=wanted.state)
    if wanted.operation:
        jobs = jobs.filter(operation=wanted.operation)
    if wanted.environment:
        jobs = jobs.filter(environment=wanted.environment)
    if wanted.person:
        jobs = jobs.filter(created_by_id=wanted.person)
    if wanted.charged_on:
        charged = LedgerEntry.objects.filter(kind=EntryKind.CHARGED, at__date=wanted.charged_on)
        jobs = jobs.filter(id__in=charged.order_by().values("job"))
    if wanted.search:
        words = (
            Q(name__icontains=wanted.search)
            | Q(purpose__icontains=wanted.search)
            | Q(upload__name__icontains=wanted.search)
        )
        number = wanted.search.lstrip("#")
        jobs = jobs.filter(words | Q(id=int(number)) if number.isdigit() else words)
    return jobs


@dataclass(frozen=True)
class JobTotals:
    """Totals of exactly one filter."""

    jobs: int
    rows: int
    useful: int
    charged: Decimal
    expected: Decimal
    people: int
    active: int


def totals(jobs: QuerySet[EnrichmentJob]) -> JobTotals:
    sums = jobs.order_by().aggregate(
        n=Count("id"),
        rows=Sum("rows_total", default=0),
        useful=Sum("useful_results", default=0),
        expected=CreditSum("estimate_expected", default=Decimal(0)),
        people=Count("created_by", distinct=True),
        active=Count("id", filter=Q(state__in=ACTIVE)),
    )
    charged = LedgerEntry.objects.filter(
        kind=EntryKind.CHARGED, job__in=jobs.order_by().values("id")
    ).aggregate(total=CreditSum("credits", default=Decimal(0)))["total"]
    return JobTotals(
        sums["n"], sums["rows"], sums["useful"], charged, sums["expected"], sums["people"], sums["active"]
    )


def count_views(user: User) -> dict[str, int]:
    """Jobs in each saved view of the list; "" is all of them."""
    is_draft = Q(state=JobState.DRAFT)
    return (
        _lists_of(user)
        .order_by()
        .aggregate(
            **{"": Count("id", filter=~is_draft)},
            running=Count("id", filter=Q(state__in=ACTIVE)),
            mine=Count("id", filter=~is_draft & Q(created_by=user)),
            drafts=Count("id", filter=is_draft),
        )
    )


def job_people(user: User) -> list[User]:
    """People whose jobs the person may see, for the filter."""
    started = _lists_of(user).exclude(state=JobState.DRAFT)
    return list(User.objects.filter(id__in=started.order_by().values("created_by")).order_by("name"))


def list_jobs(
    jobs: QuerySet[EnrichmentJob],
    *,
    before_id: int | None = None,
    after_id: int | None = None,
    limit: int = PAGE,
) -> list[EnrichmentJob]:
    """A keyset page, newest first, one more than `limit` when there is more in that direction."""
    if after_id is not None:
        return list(reversed(jobs.filter(id__gt=after_id).order_by("id")[: limit + 1]))
    if before_id is not None:
        jobs = jobs.filter(id__lt=before_id)
    return list(jobs.order_by("-id")[: limit + 1])


def running_jobs(user: User, limit: int = 6) -> list[EnrichmentJob]:
    return list(visible_to(user).filter(state__in=ACTIVE, mode=Mode.BULK).order_by("-id")[:limit])


def seconds_left(jobs: Iterable[EnrichmentJob]) -> dict[int, int]:
    """Seconds that the open rows of running jobs take at the speed of the last minute; absent while nobody can say."""
    running = [job for job in jobs if job.state == JobState.RUNNING and job.started_at and job.rows_open]
    now = db_now()
    recent = Answer.objects.filter(job__in=running, answered_at__gte=now - timedelta(seconds=60))
    answers = dict(recent.order_by().values_list("job").annotate(Count("id")))
    left = {}
    for job in running:
        assert job.started_at is not None
        window = min(max((now - job.started_at).total_seconds(), 1.0), 60.0)
        if answers.get(job.id):
            left[job.id] = round(job.rows_open * window / answers[job.id])
    return left


def paused_jobs(user: User, limit: int = 3) -> list[EnrichmentJob]:
    return list(visible_to(user).filter(state=JobState.PAUSED, mode=Mode.BULK).order_by("-id")[:limit])


def drafts_of(user: User, limit: int = 3) -> list[EnrichmentJob]:
    return list(
        EnrichmentJob.objects.filter(created_by=user, state=JobState.DRAFT, upload__isnull=False).order_by(
            "-id"
        )[:limit]
    )


def finished_since(user: User, since: datetime, limit: int = 8) -> list[EnrichmentJob]:
    jobs = visible_to(user).filter(finished_at__gte=since, mode=Mode.BULK).exclude(state=JobState.CANCELLED)
    return list(jobs.order_by("-finished_at")[:limit])


def uncertain_jobs(user: User, limit: int = 3) -> list[EnrichmentJob]:
    return list(visible_to(user).filter(rows_uncertain__gt=0).order_by("-id")[:limit])


def charges_by_day(user: User, days: int = 30, realm: str | None = None) -> dict[tuple[str, str], Decimal]:
    """Credits charged per (ISO day in the viewer's zone, operation) of the jobs that the person may see."""
    since = db_now() - timedelta(days=days)
    entries = LedgerEntry.objects.filter(kind=EntryKind.CHARGED, at__gte=since)
    if realm:
        entries = entries.filter(account__realm=realm)
    if not user.may(Right.VIEW_ALL_JOBS):
        entries = entries.filter(job__in=visible_to(user).order_by().values("id"))
    sums = (
        entries.order_by()
        .annotate(day=TruncDate("at"))
        .values("day", "operation")
        .annotate(total=CreditSum("credits"))
    )
    return {(row["day"].isoformat(), row["operation"]): row["total"] for row in sums}


def list_lookups(user: User, limit: int = 10) -> list[EnrichmentJob]:
    """The person's last look-ups with their row and answer."""
    jobs = visible_to(user).filter(source=Source.LOOKUP, created_by=user).order_by("-id")[:limit]
    return list(jobs.prefetch_related("rows__answer"))


def worker_seen_at() -> datetime | None:
    """When any worker was last seen; None when there never was one."""
    seen: datetime | None = Worker.objects.aggregate(at=Max("seen_at"))["at"]
    return seen


def has_live_worker() -> bool:
    seen = worker_seen_at()
    return bool(seen and (db_now() - seen).total_seconds() < settings.WORKER_SILENT_S)


def active_batches(job: EnrichmentJob) -> int:
    return Batch.objects.filter(job=job).exclude(state__in=(BatchState.DONE, BatchState.REFUSED)).count()

"""Jobs that a person may see: the list with its filters and totals, and what the overview shows of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import TruncDate

from enrichment.choices import ACTIVE, JobState, Mode, Source
from enrichment.models import Answer, EnrichmentJob
from keys.choices import EntryKind
from keys.clock import db_now
from keys.credit_sum import CreditSum
from keys.models import LedgerEntry
from people.models import User
from people.rights import Right

JOBS_A_PAGE = 50


def visible_to(user: User) -> QuerySet[EnrichmentJob]:
    """Jobs that the person may see: their team's and their own, or all."""
    jobs = EnrichmentJob.objects.select_related("key", "created_by", "team", "upload")
    if user.may(Right.VIEW_ALL_JOBS):
        return jobs
    if not user.may(Right.VIEW_JOBS):
        return jobs.none()
    own = Q(created_by=user)
    return jobs.filter(own | Q(team=user.team)) if user.team_id else jobs.filter(own)


def visible_numbers(user: User, numbers: Collection[int]) -> frozenset[int]:
    """Which of these jobs the person may open."""
    return frozenset(visible_to(user).filter(id__in=numbers).values_list("id", flat=True))


def may_see_rows(user: User, job: EnrichmentJob) -> bool:
    """Rows hold people's data: the team's own, or with the right to all rows."""
    if user.may(Right.VIEW_ALL_ROWS):
        return True
    return user.may(Right.VIEW_JOBS) and (
        job.created_by_id == user.id or (user.team_id is not None and job.team_id == user.team_id)
    )


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
        jobs = jobs.filter(words | Q(id=int(number)) if number.isdecimal() else words)
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


def count_unfinished(user: User) -> int:
    """Lists that are not over, as the view *Not finished* counts them."""
    return _lists_of(user).filter(state__in=ACTIVE).count()


def job_people(user: User) -> list[User]:
    """People whose jobs the person may see, for the filter."""
    started = _lists_of(user).exclude(state=JobState.DRAFT)
    return list(User.objects.filter(id__in=started.order_by().values("created_by")).order_by("name"))


def list_jobs(
    jobs: QuerySet[EnrichmentJob],
    *,
    before_id: int | None = None,
    after_id: int | None = None,
    limit: int = JOBS_A_PAGE,
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


def jobs_under_way_of(person: User) -> list[EnrichmentJob]:
    """Jobs of one person that are not over, newest first."""
    return list(EnrichmentJob.objects.filter(created_by=person, state__in=ACTIVE).order_by("-id"))


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

"""What the overview says: figures, running jobs, the days' credits, what waits for the person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from enrichment import job_list_page, operations, selectors
from enrichment.job_list_page import JobLine
from enrichment.selectors import JobFilter
from keys import budgets, ledger
from keys import findings as key_findings
from keys import selectors as key_selectors
from keys.choices import Realm
from keys.models import BudgetNotice, Finding, KeyRecord
from keys.scopes import OTHER, SERIES, series_of
from keys.selectors import KeyFilter
from people.models import User
from people.rights import Right

DAYS, BURN_DAYS, YEAR_DAYS = 30, 7, 365
SHOWN_KEYS = 3
HIT_RATE_OF = "email-search"


@dataclass(frozen=True)
class Overview:
    """Everything on the page. Credits and shares are None while nobody knows them."""

    running: list[JobLine]
    finished: list[JobLine]
    drafts: list[JobLine]
    paused: list[JobLine]
    uncertain: list[JobLine]
    findings: list[tuple[KeyRecord, Finding]]
    finding_keys: int
    available: Mapping[str, Any] | None
    burn: Decimal
    burned: Decimal
    days_left: int | None
    hit_rate: Decimal | None
    hit_rate_answers: int
    days: list[dict[str, Any]]
    series: list[str]
    charged: Decimal
    active: int
    active_rows: int
    is_first_day: bool
    budget_notices: list[BudgetNotice]

    @property
    def available_note(self) -> str:
        """Balance less what is set aside, as a sum that can be followed."""
        assert self.available is not None
        held = self.available["of"] - self.available["credits"]
        less = f"less {ledger.words(held)} reserved or just charged" if held else "none is reserved"
        return f"{ledger.words(self.available['of'])} at Icypeas, {less}"

    @property
    def burn_note(self) -> str:
        if not self.burned:
            return "nothing was charged"
        lasts = ""
        if self.days_left is not None:
            lasts = (
                f"lasts about {self.days_left:,} days" if self.days_left <= YEAR_DAYS else "lasts over a year"
            )
        return ", ".join(filter(None, (f"{ledger.words(self.burned)} together", lasts)))

    @property
    def active_note(self) -> str:
        return f"{self.active_rows:,} rows in them" if self.active else "no job runs or is paused"

    @property
    def rate_note(self) -> str:
        return f"90 days, {self.hit_rate_answers:,} answers"

    @property
    def finished_note(self) -> str:
        jobs = len(self.finished)
        if not jobs:
            return ""
        return f"{jobs} job{'' if jobs == 1 else 's'}, {ledger.words(self.finished_credits)} credits"

    @property
    def waiting(self) -> int:
        return len(self.drafts) + len(self.paused) + len(self.uncertain) + len(self.budget_notices)

    @property
    def finished_credits(self) -> Decimal:
        return sum((line.charged for line in self.finished), Decimal(0))


def overview(user: User) -> Overview:
    """The overview of one person, of the jobs that they may see."""
    realm = Realm.SANDBOX if key_selectors.has_only_sandbox_money() else Realm.LIVE
    charges = selectors.charges_by_day(user, DAYS, realm)
    active = selectors.totals(selectors.filter_jobs(user, JobFilter(view="running")))
    available = key_selectors.shown_balance()
    burned = _since(charges, BURN_DAYS)
    burn = (burned / BURN_DAYS).quantize(Decimal("0.1"))
    rate, answers = selectors.hit_rate(HIT_RATE_OF, realm)
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    findings, finding_keys = _findings(user)
    finished = job_list_page.lines(selectors.finished_since(user, midnight))
    drafts = job_list_page.lines(selectors.drafts_of(user))
    return Overview(
        running=running(user),
        finished=finished,
        drafts=drafts,
        paused=job_list_page.lines(selectors.paused_jobs(user)),
        uncertain=job_list_page.lines(selectors.uncertain_jobs(user)),
        findings=findings,
        finding_keys=finding_keys,
        available=available,
        burn=burn,
        burned=burned,
        days_left=int(available["credits"] / burn)
        if available and burn and available["credits"] > 0
        else None,
        hit_rate=rate if answers else None,
        hit_rate_answers=answers,
        days=_days(charges),
        series=[*SERIES, OTHER],
        charged=sum(charges.values(), Decimal(0)),
        active=active.jobs,
        active_rows=active.rows,
        is_first_day=not active.jobs and not drafts and not selectors.count_views(user)[""],
        budget_notices=_budget_notices(user, realm),
    )


def running(user: User) -> list[JobLine]:
    """The active jobs with the time that they still take."""
    jobs = selectors.running_jobs(user)
    return job_list_page.lines(jobs, selectors.seconds_left(jobs))


def running_note(lines: Sequence[JobLine]) -> str:
    """ "3 jobs, 19,700 rows": of those that are shown."""
    rows = sum(line.job.rows_total for line in lines)
    return f"{len(lines)} job{'' if len(lines) == 1 else 's'}, {rows:,} row{'' if rows == 1 else 's'}"


def greeting(user: User, now: datetime) -> str:
    """By the clock on the person's wall."""
    hour = timezone.localtime(now).hour
    words = "Good morning" if 4 <= hour < 12 else "Good afternoon" if 12 <= hour < 18 else "Good evening"
    return f"{words}, {user.name.split()[0]}"


def _since(charges: Mapping[tuple[str, str], Decimal], days: int) -> Decimal:
    first = (timezone.localdate() - timedelta(days=days - 1)).isoformat()
    return sum((credits for (day, _), credits in charges.items() if day >= first), Decimal(0))


def _days(charges: Mapping[tuple[str, str], Decimal]) -> list[dict[str, Any]]:
    """The last 30 days for the chart, oldest first; a day with charges opens the jobs behind it."""
    today = timezone.localdate()
    days = []
    for back in range(DAYS - 1, -1, -1):
        day = today - timedelta(days=back)
        values = [Decimal(0)] * (len(SERIES) + 1)
        for name in operations.OPERATIONS:
            values[series_of(name)] += charges.get((day.isoformat(), name), Decimal(0))
        days.append(
            {
                "label": f"{day.day} {day:%b}" if back else "today",
                "values": values,
                "url": job_list_page.address(JobFilter(charged_on=day)) if any(values) else "",
            }
        )
    return days


def _budget_notices(user: User, realm: str) -> list[BudgetNotice]:
    """What the budgets of the teams that the person may see have reached this month."""
    sees_all = user.may(Right.VIEW_ALL_JOBS)
    return budgets.recent_notices(None if sees_all else [user.team] if user.team else [], realm)


def _findings(user: User) -> tuple[list[tuple[KeyRecord, Finding]], int]:
    """The worst findings on keys, one a key, and on how many keys there are some; nothing for who may not see keys."""
    if not user.may(Right.VIEW_KEYS):
        return [], 0
    keys = key_selectors.filter_keys(KeyFilter(view="findings"), user).order_by("-severity", "name")
    shown = [(key, key_findings.findings_of(key)[0]) for key in keys[:SHOWN_KEYS]]
    return shown, keys.count()

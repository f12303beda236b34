"""What the job list says beyond plain figures: its addresses, views and chips, its jobs as lines of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse

from enrichment import operations, selectors
from enrichment.choices import JobState
from enrichment.models import EnrichmentJob
from enrichment.operations.base import Operation
from enrichment.selectors import JobFilter, JobTotals
from keys import ledger
from people.models import User

VIEWS = (("", "All"), ("running", "Not finished"), ("mine", "Mine"), ("drafts", "Drafts"))


@dataclass(frozen=True)
class JobLine:
    """A job in a list. `url` is its page, or its review while it is a draft; `seconds_left` is None while unknown."""

    job: EnrichmentJob
    operation: Operation
    url: str
    charged: Decimal = Decimal(0)
    seconds_left: int | None = None

    @property
    def done(self) -> int:
        """Rows that nothing more happens to."""
        return self.job.rows_total - self.job.rows_open

    @property
    def uncertain_title(self) -> str:
        rows = self.job.rows_uncertain
        return f"{rows:,} {'row is' if rows == 1 else 'rows are'} uncertain in #{self.job.id}"

    @property
    def paused_title(self) -> str:
        return f"Paused: #{self.job.id} {self.job.name}"

    @property
    def draft_title(self) -> str:
        return f"Draft: {self.job.name}"


def lines(jobs: Sequence[EnrichmentJob], seconds_left: Mapping[int, int] | None = None) -> list[JobLine]:
    """Jobs with what they were charged, read in one query."""
    sums = ledger.sums_by_job(job.id for job in jobs)
    left = seconds_left or {}
    return [
        JobLine(
            job=job,
            operation=operations.get(job.operation),
            url=reverse(
                f"enrichment:job_{'review' if job.state == JobState.DRAFT else 'detail'}", args=[job.id]
            ),
            charged=sums[job.id].charged if job.id in sums else Decimal(0),
            seconds_left=left.get(job.id),
        )
        for job in jobs
    ]


@dataclass(frozen=True)
class JobPage:
    """A keyset page of the list. `newer` and `older` are addresses, "" at the ends; `is_whole` when all is shown."""

    lines: list[JobLine]
    newer: str
    older: str
    shown: str

    @property
    def is_whole(self) -> bool:
        return not self.newer and not self.older


def address(wanted: JobFilter, **place: int) -> str:
    """The address of the list with this filter, and perhaps a place in it (`before`, `after`: job numbers)."""
    named = {
        "view": wanted.view,
        "state": wanted.state,
        "operation": wanted.operation,
        "environment": wanted.environment,
        "person": wanted.person,
        "q": wanted.search,
        "day": wanted.charged_on,
        **place,
    }
    query = urlencode({name: value for name, value in named.items() if value not in ("", None)})
    return f"{reverse('enrichment:job_list')}{'?' if query else ''}{query}"


def job_page(
    jobs: Iterable[EnrichmentJob],
    wanted: JobFilter,
    *,
    before_id: int | None,
    after_id: int | None,
    total: int,
) -> JobPage:
    """One page from what `selectors.list_jobs` gave, which has one job more where there are more."""
    found, size = list(jobs), selectors.JOBS_A_PAGE
    has_more = len(found) > size
    if after_id is not None:
        page = found[1:] if has_more else found
        has_newer, has_older = has_more, bool(page)
    else:
        page = found[:size]
        has_newer, has_older = before_id is not None and bool(page), has_more
    return JobPage(
        lines=lines(page),
        newer=address(wanted, after=page[0].id) if page and has_newer else "",
        older=address(wanted, before=page[-1].id) if page and has_older else "",
        shown=f"Newest first, all {total:,} shown."
        if len(page) == total
        else f"Newest first, {len(page):,} of {total:,}.",
    )


def tabs(wanted: JobFilter, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """The saved views with their counts; the other filters begin anew."""
    return [
        {
            "label": label,
            "url": address(JobFilter(view=view)),
            "count": counts[view],
            "is_current": wanted.view == view,
        }
        for view, label in VIEWS
    ]


def chips(wanted: JobFilter, people: Sequence[User]) -> list[dict[str, Any]]:
    """One a filter: set with its value and the address without it, or unset with its options."""
    states = [(value, label) for value, label in JobState.choices if value != JobState.DRAFT]
    names = {str(person.id): person.name for person in people}
    offered: list[tuple[str, str, Any, list[tuple[Any, str]]]] = [
        ("State", "state", wanted.state, states),
        (
            "Operation",
            "operation",
            wanted.operation,
            [(name, operation.label) for name, operation in operations.OPERATIONS.items()],
        ),
        (
            "Environment",
            "environment",
            wanted.environment,
            [(name, name) for name in settings.KEY_ENVIRONMENTS],
        ),
        ("Person", "person", wanted.person, [(person.id, person.name) for person in people]),
    ]
    if wanted.view == "drafts":
        offered = [chip for chip in offered if chip[1] in ("operation", "person")]
    drawn = []
    for label, name, value, options in offered:
        words = names.get(str(value)) if name == "person" else dict(options).get(value)
        none: dict[str, Any] = {name: None if name == "person" else ""}
        drawn.append(
            {
                "label": label,
                "value": words or "",
                "remove": address(replace(wanted, **none)),
                "options": [
                    {"label": text, "url": address(replace(wanted, **{name: option}))}
                    for option, text in options
                ],
            }
        )
    if wanted.charged_on:
        day = f"{wanted.charged_on.day} {wanted.charged_on:%b %Y}"
        drawn.append(
            {
                "label": "Charged on",
                "value": day,
                "remove": address(replace(wanted, charged_on=None)),
                "options": [],
            }
        )
    return drawn


def filter_words(wanted: JobFilter, people: Sequence[User]) -> str:
    """The filter in words: "State Failed and search “expo”"."""
    said = [f"{chip['label']} {chip['value']}" for chip in chips(wanted, people) if chip["value"]]
    if wanted.search:
        said.append(f"search “{wanted.search}”")
    return " and ".join(said)


def kept(wanted: JobFilter) -> list[tuple[str, object]]:
    """What the search form sends along, so that a search keeps the other filters."""
    named = {
        "view": wanted.view,
        "state": wanted.state,
        "operation": wanted.operation,
        "environment": wanted.environment,
        "person": wanted.person,
        "day": wanted.charged_on,
    }
    return [(name, value) for name, value in named.items() if value not in ("", None)]


def total_notes(totals: JobTotals) -> dict[str, str]:
    """The explaining lines below the totals."""
    return {
        "people": f"{totals.people:,} {'person' if totals.people == 1 else 'people'}",
        "useful": f"{totals.useful:,} useful result{'' if totals.useful == 1 else 's'}",
        "active": f"{totals.active:,} not finished" if totals.active else "all are finished",
    }

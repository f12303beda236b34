"""What the page of a search for leads says: the count, the cost, and searches that were fetched before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict
from django.urls import reverse

from enrichment import selectors
from enrichment.choices import JobState
from enrichment.lead_forms import SearchForm
from enrichment.models import EnrichmentJob, LeadCount
from enrichment.operations import OPERATIONS
from enrichment.operations.base import CHOICES, WORDS, Operation
from enrichment.operations.leads import condition_in, text_of, words_of
from enrichment.prices import PriceNow
from keys import ledger
from keys.clock import db_now
from people.models import User

FIRST_WANTED = 100
SHOWN = 8
PATIENCE_S = 10


@dataclass(frozen=True)
class Figure:
    """A count as the page shows it. `kind`: waiting, no_worker, known, failed."""

    kind: str
    total: int
    error: str
    waited_s: int

    @property
    def version(self) -> str:
        return f"{self.kind}-{self.total}-{self.waited_s if self.kind == 'waiting' else ''}"

    @property
    def announcement(self) -> str:
        if self.kind == "known":
            return f"{self.total:,} lead{'' if self.total == 1 else 's'}."
        return {"waiting": "Counting.", "no_worker": "No worker answers.", "failed": "Not counted."}[
            self.kind
        ]


def figure_of(count: LeadCount) -> Figure:
    """How far a count is."""
    waited = int((db_now() - count.asked_at).total_seconds())
    if count.answered_at is None:
        kind = "waiting" if waited < PATIENCE_S else "no_worker"
    else:
        kind = "failed" if count.error else "known"
    return Figure(kind, count.total or 0, count.error, waited)


def cost_of(wanted: Any, price: PriceNow) -> str:
    """What fetching so many costs at most, for the button, behind its word; empty while nobody says how many."""
    try:
        number = int(str(wanted))
    except ValueError:
        number = 0
    if price.credits is None:
        return ", price not known"
    if number < 1:
        return ""
    credits = number * price.credits
    return f", at most {ledger.words(credits)} credit{'' if credits == 1 else 's'}"


def tabs(urls: Mapping[str, str], current: str) -> list[dict[str, object]]:
    return [
        {"label": OPERATIONS[name].label, "url": url, "is_current": name == current}
        for name, url in urls.items()
    ]


def initial_of(operation: Operation, told: QueryDict) -> dict[str, Any]:
    """What stands in an address, for the form's fields."""
    form = SearchForm(operation)
    many = {
        name for each in operation.filters if each.kind == CHOICES for name in (each.id, f"{each.id}_not")
    }
    return {
        name: told.getlist(name) if name in many else told[name] for name in form.filter_names if name in told
    }


def told_of(operation: Operation, query: Mapping[str, Any]) -> dict[str, Any]:
    """A query as its form was filled in."""
    told: dict[str, Any] = {}
    for each in operation.filters:
        condition = condition_in(query, each)
        if each.kind == CHOICES:
            told[each.id] = condition.get("include", [])
            told[f"{each.id}_not"] = condition.get("exclude", [])
        elif each.kind == WORDS:
            told[each.id] = text_of(condition.get("include", []))
            told[f"{each.id}_not"] = text_of(condition.get("exclude", []))
        else:
            told[f"{each.id}_from"] = condition.get(">=", condition.get("min"))
            told[f"{each.id}_to"] = condition.get("<=", condition.get("max"))
    return {name: value for name, value in told.items() if value not in (None, "", [])}


@dataclass(frozen=True)
class Earlier:
    """A search that was fetched: its job, its filters in words, and the address that asks it again."""

    job: EnrichmentJob
    filters: list[tuple[str, str]]
    url: str
    charged: Decimal


def _jobs(user: User, operation: Operation) -> Any:
    gone = (JobState.DRAFT,)
    return (
        selectors.visible_to(user)
        .filter(operation=operation.name, started_at__isnull=False)
        .exclude(state__in=gone)
        .order_by("-id")
    )


def earlier(user: User, operation: Operation) -> list[Earlier]:
    """The last searches that the person may see."""
    url = reverse("enrichment:lead_search", args=[operation.name])
    return [
        Earlier(
            job,
            words_of(operation.filters, job.query),
            f"{url}?{urlencode(told_of(operation, job.query), doseq=True)}",
            ledger.job_sums(job.id).charged,
        )
        for job in _jobs(user, operation)[:SHOWN]
    ]


def same_search(user: User, operation: Operation, query: Mapping[str, Any]) -> EnrichmentJob | None:
    """The last job that fetched exactly this; its leads would be paid again."""
    found: EnrichmentJob | None = _jobs(user, operation).filter(query=query, rows_found__gt=0).first()
    return found

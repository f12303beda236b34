"""What the page of uncertain batches says: each batch with what it holds, what was tried, and what it may have cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db.models import Count, Q

from enrichment.choices import BatchState, Mode, RowState
from enrichment.models import Batch, EnrichmentJob, EnrichmentRow
from enrichment.services import answers, decisions
from enrichment.services.decisions import Chosen
from keys.clock import db_now

MOST_BATCHES = 200  # on one page, the oldest first


@dataclass(frozen=True)
class Line:
    """One uncertain batch. `at_risk` are the credits that stay reserved for it until somebody decides; `reasons` say why,
    each with how many rows it is about and what was looked at, the most first."""

    batch: Batch
    token: str
    rows: int
    at_risk: Decimal
    reasons: Sequence[tuple[int, str, str]]
    age: timedelta
    accepted_at: datetime

    @property
    def unmatched(self) -> str:
        """What came to the call and fits none of its rows, as JSON."""
        return json.dumps(self.batch.unmatched, indent=2, ensure_ascii=False)


@dataclass(frozen=True)
class Page:
    """`can_look`: something of these can be looked up at Icypeas."""

    lines: Sequence[Line]
    rows: int
    at_risk: Decimal
    can_look: bool
    is_cut: bool
    rows_elsewhere: int  # decided together with the job that asked


def page(job: EnrichmentJob, only: Sequence[Chosen] | None = None) -> Page:
    """The job's uncertain batches; with `only`, those that were chosen and are still as they were seen."""
    batches = decisions.uncertain_batches().filter(job=job).order_by("number")
    if only is not None:
        batches = batches.filter(id__in=[one.batch_id for one in only])
    found = list(batches[: MOST_BATCHES + 1])
    if only is not None:
        fences = {one.batch_id: one.fence for one in only}
        found = [batch for batch in found if batch.fence == fences[batch.id]]
    lines = _lines(job, found[:MOST_BATCHES])
    elsewhere = EnrichmentRow.objects.filter(answers.LEFT_TO_ANOTHER_JOB, job=job)
    return Page(
        lines=lines,
        rows=sum(line.rows for line in lines),
        at_risk=sum((line.at_risk for line in lines), Decimal(0)),
        can_look=any(line.batch.mode != Mode.DIRECT for line in lines),
        is_cut=len(found) > MOST_BATCHES,
        rows_elsewhere=elsewhere.count(),
    )


def _lines(job: EnrichmentJob, batches: Sequence[Batch]) -> list[Line]:
    rows = EnrichmentRow.objects.filter(
        job=job, state=RowState.UNCERTAIN, question__busy_batch__in=[batch.id for batch in batches]
    )
    figures: dict[int, list[tuple[int, int, str, str]]] = {}
    for batch_id, code, why, count, leads in (
        rows.order_by()
        .values_list("question__busy_batch", "reason_code", "reason")
        .annotate(held=Count("id"), leads=Count("id", filter=Q(is_lead=True)))
        .order_by("-held", "reason")
    ):
        figures.setdefault(batch_id, []).append((count, leads, why, code))
    now = db_now()
    lines = []
    for batch in batches:
        held = figures.get(batch.id, [])
        since = batch.done_at or batch.created_at
        lines.append(
            Line(
                batch=batch,
                token=str(Chosen(batch.id, batch.fence)),
                rows=sum(count for count, _, _, _ in held),
                at_risk=sum(leads for _, leads, _, _ in held) * batch.price,
                reasons=[(count, why, _looked_at(batch, code)) for count, _, why, code in held],
                age=now - since,
                accepted_at=since + timedelta(days=settings.UNCERTAIN_ACCEPT_DAYS),
            )
        )
    return lines


def _looked_at(batch: Batch, code: str) -> str:
    """What was tried to find out, as words; "" where nothing can be."""
    assert batch.state == BatchState.UNCERTAIN
    if batch.mode == Mode.DIRECT:
        return ""
    if code == answers.UNKNOWN_STATUS:
        return "its answers, as Icypeas sent them"
    if code == answers.NO_ANSWER:
        times = batch.passes + 1
        return f"all its answers at Icypeas, {times} time{'' if times == 1 else 's'}"
    times = batch.looks
    return f"the account's list at Icypeas, {times} time{'' if times == 1 else 's'}"

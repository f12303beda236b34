"""What the page of rows without an answer says: failed and skipped rows by reason, and what can be done about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Count, Max, Min
from django.urls import reverse
from django.utils.http import urlencode

from enrichment import column_mapping, csv_export, operations
from enrichment.choices import JobState, RowState
from enrichment.job_page import UNFAMILIAR, advice_of
from enrichment.lookup_forms import LEFT_OUT, InputsForm
from enrichment.models import EnrichmentJob, EnrichmentRow
from enrichment.review_page import TITLES, correct_url
from enrichment.services import attempts


@dataclass(frozen=True)
class Group:
    """Rows of one reason. `credits` is the most that sending them can cost; `correct_url` leads to the first of them.
    In a job that is over none is sent or corrected: `download_url` takes them home for a new list."""

    code: str
    title: str
    text: str
    advice: str
    rows: int
    credits: Decimal
    can_send: bool
    rows_url: str
    correct_url: str
    download_url: str = ""


@dataclass(frozen=True)
class Page:
    """The groups. Rows are sent and corrected while `is_finished`; a job that was cancelled or failed `is_over` for good,
    and any other is still at work."""

    groups: Sequence[Group]
    is_finished: bool
    is_over: bool

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)

    @property
    def can_send(self) -> bool:
        return self.is_finished and any(group.can_send for group in self.groups)


def page(job: EnrichmentJob) -> Page:
    """Failed and skipped rows by reason, the largest group first. Uncertain rows have a page of their own."""
    found = (
        EnrichmentRow.objects.filter(job=job, state__in=(RowState.FAILED, RowState.SKIPPED))
        .order_by()
        .values("reason_code")
        .annotate(rows=Count("id"), text=Min("reason"), first_state=Min("state"), last_state=Max("state"))
    )
    is_over = attempts.is_over(job)
    costs = {} if is_over else attempts.costs(job)
    first = attempts.correctable(job).order_by().values_list("reason_code").annotate(Min("position"))
    correctable = {} if is_over else dict(first)
    groups = [_group(job, entry, costs, correctable) for entry in found]
    return Page(
        sorted(groups, key=lambda group: (-group.rows, group.code)), job.state == JobState.COMPLETED, is_over
    )


def _group(
    job: EnrichmentJob, entry: Mapping[str, Any], costs: Mapping[str, Decimal], correctable: Mapping[str, int]
) -> Group:
    code = entry["reason_code"]
    title = TITLES.get(code, entry["text"])
    can_send, first = code in costs, correctable.get(code)
    rows = reverse("enrichment:job_detail", args=[job.id])
    # Uncertain rows may have the same reason, and may have been paid: they are not among these.
    wanted = {"reason": code}
    if entry["first_state"] == entry["last_state"]:
        wanted = {"state": entry["first_state"], "reason": code}
    return Group(
        code=code,
        title=title,
        text=entry["text"] if title != entry["text"] else "",
        advice=_advice(job, code, can_send=can_send, can_correct=first is not None),
        rows=entry["rows"],
        credits=costs.get(code, Decimal(0)),
        can_send=can_send,
        rows_url=f"{rows}?{urlencode(wanted)}#results",
        correct_url=correct_url(job.id, first, code) if first is not None else "",
        download_url=_download_url(job, wanted) if attempts.is_over(job) and job.upload_id else "",
    )


def _download_url(job: EnrichmentJob, wanted: Mapping[str, str]) -> str:
    query = urlencode({"preset": csv_export.RAW, **wanted})
    return f"{reverse('enrichment:job_export', args=[job.id])}?{query}"


def _advice(job: EnrichmentJob, code: str, *, can_send: bool, can_correct: bool) -> str:
    known = advice_of(job)
    if code in known:
        return known[code]
    if attempts.is_over(job):
        return "Not asked. Download them, correct what is wrong and run them as a new list."
    if code == attempts.CORRECTED:
        return "Corrected and ready to be sent."
    if can_send:
        return "Skipped because you chose so. They can be asked after all."
    return "Cannot be asked like this. Correct the cells, then send them." if can_correct else UNFAMILIAR


# --- one row -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Correction:
    """A row to correct, its cells, and how many other rows of the reason `code` are left; `following` is the next."""

    row: EnrichmentRow
    code: str
    cells: Sequence[tuple[str, str]]
    left: int
    following: int | None


def correction(job: EnrichmentJob, position: int, code: str) -> Correction | None:
    """None when there is no such row, or it is none that may be corrected now."""
    row = attempts.correctable(job).filter(position=position).first()
    if row is None:
        return None
    code = code or row.reason_code
    others = attempts.correctable(job).filter(reason_code=code).exclude(position=position)
    after = (
        others.filter(position__gt=position).order_by("position").values_list("position", flat=True).first()
    )
    first = others.order_by("position").values_list("position", flat=True).first()
    header = job.upload.header if job.upload else []
    return Correction(
        row=row,
        code=code,
        cells=[(name, cell) for name, cell in zip(header, row.cells, strict=False) if cell],
        left=others.count(),
        following=after or first,
    )


def inputs_form(job: EnrichmentJob, row: EnrichmentRow, posted: Mapping[str, str] | None) -> InputsForm:
    """The operation's inputs, filled with what the row says now. A full name only where the list has one."""
    left_out = LEFT_OUT - set(job.mapping)
    told = row.told or (column_mapping.apply(job.mapping, row.cells) if job.mapping else row.inputs)
    return InputsForm(operations.get(job.operation), left_out, posted, initial=told)

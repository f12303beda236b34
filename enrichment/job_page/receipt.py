"""One row: its receipt, its neighbours, and what its answer says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import QuerySet

from enrichment import operations, selectors
from enrichment.choices import RowState
from enrichment.job_page.address import Address
from enrichment.job_page.table import Line, lines, spelled, told_by
from enrichment.models import EnrichmentJob, EnrichmentRow
from enrichment.operations.base import result_text
from enrichment.selectors import RowFilter
from enrichment.services import attempts


@dataclass(frozen=True)
class RowPage:
    """A row's receipt with its neighbours within the filter: positions, None at the ends. `lead` is the row that was
    asked in place of this duplicate."""

    receipt: selectors.Receipt
    line: Line
    previous: int | None
    following: int | None
    lead: int | None
    may_open_payer: bool
    can_correct: bool
    emails: Sequence[tuple[str, str, str]]  # certainty, address, mail server
    verdict: str
    told: Sequence[tuple[str, str]]  # what else came, with labels

    @property
    def title(self) -> str:
        return f"Row {self.line.position:,}"

    @property
    def fingerprint(self) -> str:
        """In groups of four, as people compare it."""
        whole = self.receipt.batch.fingerprint if self.receipt.batch else ""
        return " ".join(whole[start : start + 4] for start in range(0, len(whole), 4))


def row_page(
    job: EnrichmentJob, wanted: RowFilter, position: int, visible: QuerySet[EnrichmentJob]
) -> RowPage | None:
    """Everything about one row, or None when there is no such row. `visible` are the jobs that the reader may open."""
    receipt = selectors.get_receipt(job, position)
    if receipt is None:
        return None
    previous, following = selectors.neighbours(job, wanted, position)
    paid_by = receipt.paid_by
    return RowPage(
        receipt=receipt,
        line=lines(job, [receipt.row])[0],
        previous=previous,
        following=following,
        lead=selectors.lead_position(receipt.row)
        if receipt.row.state == RowState.CACHED and not paid_by
        else None,
        can_correct=attempts.can_correct(job, receipt.row),
        may_open_payer=bool(paid_by and visible.filter(id=paid_by.id).exists()),
        emails=[
            (
                spelled(entry.get("certainty", "")).capitalize() or "Email",
                entry.get("email", ""),
                entry.get("mx_provider", ""),
            )
            for entry in receipt.emails
        ],
        verdict=spelled(receipt.row.answer.verdict).capitalize() if receipt.row.answer else "",
        told=_told(job, receipt.row),
    )


def _told(job: EnrichmentJob, row: EnrichmentRow) -> list[tuple[str, str]]:
    """The result and what came with it, for operations that bring more than addresses."""
    operation = operations.get(job.operation)
    if row.answer is None or any(column.name == "all_emails" for column in operation.result_columns):
        return []
    labels = {column.name: column.label for column in operation.result_columns}
    name = operation.answer_column
    first = [(labels[name], result_text(row.answer.result.get(name)))] if name else []
    return [(label, value) for label, value in first if value] + told_by(operation, row.answer)


@dataclass(frozen=True)
class Panel:
    """Addresses of the receipt beside the table; "" where there is nothing."""

    previous: str
    following: str
    close: str
    lead: str


def panel(opened: RowPage, address: Address) -> Panel:
    return Panel(
        previous=address.opened(opened.previous) if opened.previous else "",
        following=address.opened(opened.following) if opened.following else "",
        close=address.closed,
        lead=address.opened(opened.lead) if opened.lead else "",
    )

"""What a job came to: its outcome, its story, and what its exports say about themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from enrichment import operations, selectors
from enrichment.choices import RowState
from enrichment.job_page.address import Address
from enrichment.job_page.figures import uncertain_title
from enrichment.job_page.table import spelled
from enrichment.models import EnrichmentJob, EnrichmentRow
from enrichment.selectors import Progress
from enrichment.services import attempts

UNFAMILIAR = "Nobody knows this reason yet: look at the raw answer of a row."
# Reason code → what can be done about it, and by whom.
ADVICE = {
    "bad_input": "Correct the cells, then send them; as they are, Icypeas will refuse them again. Refusals are free.",
    "refused": "The whole batch was refused before anything ran. Correct the cells it names, then send the rows again.",
    "poison": "The worker's log says why it ended: ask whoever runs this installation, then send them again.",
    "not_seen": "Never sent again by itself.",
    "no_answer": "Never sent again by itself.",
    "asked_elsewhere": "The other job got no answer. They can be sent again from here.",
    "cancelled": "The job was cancelled: run them as a new list.",
    "no_more_leads": "Nothing to do: the search has no more.",
    "listing_broke": "The listing ended with what came before. A new search starts from the top, and what came already would be "
    "paid again.",
    EnrichmentRow.ACCEPTED_PAID: "Counted as paid. You can run them as a new list, which can cost again.",
}
# In a job that was cancelled or failed nothing is sent any more: the same reasons, and another way on.
ADVICE_WHEN_OVER = ADVICE | {
    "bad_input": "Download them, correct the cells and run them as a new list; as they are, Icypeas will refuse them again. "
    "Refusals are free.",
    "refused": "The whole batch was refused before anything ran. Download them, correct the cells it names and run them as "
    "a new list.",
    "poison": "The worker's log says why it ended: ask whoever runs this installation, then run them as a new list.",
    "asked_elsewhere": "The other job got no answer. Run them as a new list.",
}


# A search has no cells to correct, and goes on from page to page only.
ADVICE_OF_SEARCHES = ADVICE | {"refused": f"This page was refused. {ADVICE['listing_broke']}"}


def advice_of(job: EnrichmentJob) -> Mapping[str, str]:
    """Reason code → what can be done about it in this job."""
    if operations.get(job.operation).is_search:
        return ADVICE_OF_SEARCHES
    return ADVICE_WHEN_OVER if attempts.is_over(job) else ADVICE


@dataclass(frozen=True)
class Outcome:
    """Figures of a finished job. `useful` of `answered` rows are what was hoped for."""

    useful: int
    answered: int
    verdicts: Sequence[tuple[str, int]]
    failures: Sequence[Mapping[str, object]]
    failed_rows: int
    saved: Decimal
    off_expected: Decimal | None
    formula_cells: int | None
    uncertain_title: str
    uncertain_reasons: Sequence[str]

    @property
    def failure_note(self) -> str:
        """What the failed rows cost: only those that were uncertain and accepted count as paid."""
        accepted = sum(
            int(str(entry["rows"]))
            for entry in self.failures
            if entry["reason_code"] == EnrichmentRow.ACCEPTED_PAID
        )
        if accepted:
            return f"{accepted:,} of them {'was' if accepted == 1 else 'were'} accepted as paid, the others cost nothing"
        return "nothing was charged for them"

    @property
    def estimate_note(self) -> str:
        """How far the charge is from the expected figure, as a sentence."""
        if self.off_expected is None:
            return ""
        if abs(self.off_expected) < Decimal("0.001"):
            return "As expected."
        side = "above" if self.off_expected > 0 else "below"
        return f"{abs(self.off_expected) * 100:,.1f} % {side} the expected figure."


def outcome(progress: Progress, address: Address) -> Outcome:
    job = progress.job
    operation = operations.get(job.operation)
    verdicts = selectors.verdict_counts(job)
    reasons = selectors.failure_reasons(job)
    useful = sum(count for verdict, count in verdicts.items() if verdict in operation.good_verdicts)
    advice = advice_of(job)
    failures = [
        {
            **entry,
            "advice": advice.get(entry["reason_code"], UNFAMILIAR),
            "url": f"{address.filtered(state=entry['state'], reason=entry['reason_code'])}#results",
        }
        for entry in reasons
        if entry["state"] == RowState.FAILED
    ]
    expected = job.estimate_expected
    return Outcome(
        useful=useful,
        answered=job.rows_answered,
        verdicts=[]
        if operation.answer_column
        else [(spelled(name).capitalize(), n) for name, n in sorted(verdicts.items())],
        failures=failures,
        failed_rows=job.rows_failed,
        saved=job.rows_cached * job.price,
        off_expected=(progress.money.charged - expected) / expected if expected else None,
        formula_cells=selectors.count_formula_cells(job) if job.upload_id else None,
        uncertain_title=uncertain_title(progress),
        uncertain_reasons=[str(entry["reason"]) for entry in reasons if entry["state"] == RowState.UNCERTAIN],
    )


def events(job: EnrichmentJob) -> list[dict[str, object]]:
    """The job's story for the timeline, newest first."""
    return [
        {"icon": event.icon, "tone": event.tone, "text": event.text, "at": event.at, "by": event.person}
        for event in selectors.list_events(job)
    ]


@dataclass(frozen=True)
class ExportWords:
    """What the exports say about themselves; PARTIAL while rows are open, as in the file's name."""

    heading: str
    label: str
    note: str


def export_words(job: EnrichmentJob) -> ExportWords:
    rows = f"{job.rows_total:,} row{'' if job.rows_total == 1 else 's'}"
    if job.rows_open:
        return ExportWords(
            f"PARTIAL: {job.rows_open:,} of {rows} are open",
            f"CSV for Excel, PARTIAL, {rows}",
            "your order and columns",
        )
    return ExportWords(f"All {rows}", f"CSV for Excel, all {rows}", f"{rows}, your order and columns")

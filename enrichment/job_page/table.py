"""A job's rows as lines of a table, with its filters and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from config.ui import numbers
from enrichment import column_mapping, operations, selectors
from enrichment.choices import RowState
from enrichment.job_page.address import Address
from enrichment.models import Answer, EnrichmentJob, EnrichmentRow
from enrichment.operations.base import Operation, result_text

_PERSON = ("first_name", "last_name", "full_name")
_COMPANY = ("domain", "company", "job_title")
_SAYS_MOST = ("headline", "industry")  # of a lead, beside its name


@dataclass(frozen=True)
class Columns:
    """Heads of the result table for one operation; `second` is "" where the main column says it all."""

    main: str
    second: str
    result: str

    @property
    def search(self) -> str:
        """What the search field offers to find."""
        return "Name, company, email" if self.second else self.main


@dataclass(frozen=True)
class Line:
    """One row of the result table. `credits` is text: a number, or a word while it is not known."""

    position: int
    main: str
    second: str
    result: str
    is_quiet: bool
    note: str
    state: str
    state_word: str
    credits: str


def columns_of(operation: Operation) -> Columns:
    labels = {each.name: each.label for each in operation.fields}
    result = operation.answer_noun.capitalize() or "Verdict"
    if operation.is_search:
        said = {column.name: column.label for column in operation.result_columns}
        return Columns("Place", next(said[name] for name in _SAYS_MOST if name in said), result)
    if {"first_name", "last_name"} <= labels.keys():
        return Columns("Person", "Company", result)
    return Columns(labels[operation.needs[0][0]], "", result)


def state_words(operation: Operation) -> dict[str, str]:
    """The words of the eight states; an operation has its own for found and not found."""
    own = {RowState.FOUND: operation.found_label, RowState.NOT_FOUND: operation.not_found_label}
    return {state.value: own.get(state, state.label) for state in RowState}


def title_of(job: EnrichmentJob, row: EnrichmentRow) -> tuple[str, str]:
    """Who or what a row is about, in its own words: main and second column."""
    operation = operations.get(job.operation)
    told = row.told or (column_mapping.apply(job.mapping, row.cells) if job.mapping else row.inputs)
    if operation.is_search:
        result = row.answer.result if row.answer else {}
        return f"{row.position:,}", next((str(result[name]) for name in _SAYS_MOST if result.get(name)), "")
    if any(field.name == "first_name" for field in operation.fields):
        main, second = _spoken(_PERSON, told), _spoken(_COMPANY, told)
    else:
        main, second = _spoken(operation.needs[0], told), ""
    return main or f"Row {row.position}", second


def _spoken(group: Sequence[str], told: Mapping[str, str]) -> str:
    """A group of inputs as a person would say it: both parts of a name, or the first that is there."""
    filled = {name: " ".join(told[name].split()) for name in group if told.get(name, "").strip()}
    parts = [filled[name] for name in ("first_name", "last_name") if name in filled]
    preferred = filled.get("company") or next(iter(filled.values()), "")
    return " ".join(parts) if len(parts) == 2 else filled.get("full_name") or " ".join(parts) or preferred


def lines(job: EnrichmentJob, rows: Sequence[EnrichmentRow]) -> list[Line]:
    """Rows with their answers as lines of the table."""
    operation = operations.get(job.operation)
    words = state_words(operation)
    found = []
    for row in rows:
        main, second = title_of(job, row)
        result, is_quiet = result_of(operation, row)
        found.append(
            Line(
                position=row.position,
                main=main,
                second=second,
                result=result,
                is_quiet=is_quiet,
                note=note_of(row),
                state=row.state,
                state_word=words[row.state],
                credits=credits_word(job, row),
            )
        )
    return found


def result_of(operation: Operation, row: EnrichmentRow) -> tuple[str, bool]:
    """What came out for a row, and whether that is nothing to look at."""
    if row.answer is None or row.state == RowState.UNCERTAIN:
        words = {
            RowState.SKIPPED: "not asked",
            RowState.FAILED: "no answer",
            RowState.UNCERTAIN: "may be at Icypeas",
            RowState.IN_FLIGHT: "at Icypeas",
        }
        return words.get(RowState(row.state), "not asked yet"), True
    if not operation.answer_column:
        return row.answer.verdict.replace("_", " ").capitalize(), not row.answer.is_good
    value = str(row.answer.result.get(operation.answer_column) or "")
    return (value, False) if value else (f"no {operation.answer_noun} found", True)


def told_by(operation: Operation, answer: Answer) -> list[tuple[str, str]]:
    """What an answer says beside the result itself, with its labels; for operations that bring more than addresses."""
    names = {column.name for column in operation.result_columns}
    if len(names) < 3 or "all_emails" in names:
        return []
    columns = (column for column in operation.result_columns if column.name != operation.answer_column)
    values = ((column.label, result_text(answer.result.get(column.name))) for column in columns)
    return [(label, value) for label, value in values if value]


def note_of(row: EnrichmentRow) -> str:
    """Certainty of an answer, or why there is none."""
    if row.answer is None or row.state == RowState.UNCERTAIN:
        return row.reason
    return str(row.answer.result.get("certainty") or "").replace("_", " ")


def credits_word(job: EnrichmentJob, row: EnrichmentRow) -> str:
    if row.credits is not None:
        return numbers.credits(row.credits, 1)
    if row.state == RowState.UNCERTAIN and row.is_lead:
        return f"0 or {numbers.credits(job.price, 1)}"
    return "open"


@dataclass(frozen=True)
class Chip:
    """A filter of the list: set (`value` and `remove`) or with its options."""

    label: str
    value: str
    remove: str
    options: Sequence[Mapping[str, object]]


def chips(job: EnrichmentJob, address: Address) -> list[Chip]:
    """The filters that this job has something to choose from in, and those that are set."""
    operation = operations.get(job.operation)
    wanted = address.wanted
    words = state_words(operation)
    states = [
        {"label": words[state], "url": address.filtered(state=state, reason=""), "count": count}
        for state, count in job.counts.items()
        if count
    ]
    certain = [
        {"label": value.replace("_", " "), "url": address.filtered(certainty=value)}
        for value in selectors.certainties(job)
    ]
    skipped, warned = job.findings.get("skipped", {}), job.findings.get("warnings", {})
    reasons = [
        {
            "label": _short(entry["text"]),
            "url": address.filtered(state="", reason=code),
            "count": entry["rows"],
        }
        for code, entry in skipped.items()
    ] + [
        {
            "label": _short(entry["reason"]),
            "url": address.filtered(state="", reason=entry["reason_code"]),
            "count": entry["rows"],
        }
        for entry in selectors.failure_reasons(job)
    ]
    warnings = [
        {"label": _short(entry["text"]), "url": address.filtered(warning=code), "count": entry["rows"]}
        for code, entry in warned.items()
    ]
    all_chips = [
        Chip("State", words.get(wanted.state, ""), address.filtered(state=""), states),
        Chip("Certainty", wanted.certainty.replace("_", " "), address.filtered(certainty=""), certain),
        Chip("Reason", spelled(wanted.reason), address.filtered(reason=""), reasons),
        Chip("Warning", spelled(wanted.warning), address.filtered(warning=""), warnings),
    ]
    return [chip for chip in all_chips if chip.value or chip.options]


def spelled(code: str) -> str:
    """A code as words."""
    return code.replace("_", " ")


def _short(text: str) -> str:
    return text if len(text) <= 70 else f"{text[:69]}…"


@dataclass(frozen=True)
class Pager:
    """What the page of the list shows, and the addresses beside it; "" at the ends."""

    shown: str
    newer: str
    older: str


def pager(page: selectors.RowPage, address: Address) -> Pager:
    first, last = (page.rows[0].position, page.rows[-1].position) if page.rows else (0, 0)
    return Pager(
        shown=f"Row {first:,}" if first == last else f"Rows {first:,} to {last:,}",
        newer=address.page(before=page.before) if page.before else "",
        older=address.page(after=page.after) if page.after else "",
    )

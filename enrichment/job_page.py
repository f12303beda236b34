"""What a job's page says beyond plain figures: its addresses, what it announces, its rows as lines of a table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from urllib.parse import urlencode

from django.conf import settings
from django.db.models import QuerySet

from enrichment import column_mapping, operations, selectors
from enrichment.choices import JobState, PauseReason, RowState
from enrichment.models import Answer, EnrichmentJob, EnrichmentRow
from enrichment.operations.base import Operation, result_text
from enrichment.selectors import Progress, RowFilter
from enrichment.services import attempts, reservations
from keys import ledger
from keys.clock import db_now
from people.models import User

LONGEST_SEARCH = 100
LARGEST_POSITION = 10**9
MILESTONES = (75, 50, 25)
FRESH_S = 15  # "4 s ago" is renewed at least this often while nothing else changes
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
    EnrichmentRow.ACCEPTED_PAID: "Counted as paid. You can run them as a new list, which can cost again.",
}


# --- addresses -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Address:
    """The address of a job's page: filter, place in the list and open row. `to` changes parts of it."""

    path: str
    wanted: RowFilter = field(default_factory=RowFilter)
    after: int | None = None
    before: int | None = None
    row: int | None = None

    @property
    def query(self) -> str:
        named = {
            "state": self.wanted.state,
            "certainty": self.wanted.certainty,
            "reason": self.wanted.reason,
            "warning": self.wanted.warning,
            "q": self.wanted.search,
            "after": self.after,
            "before": self.before,
            "row": self.row,
        }
        return urlencode({name: value for name, value in named.items() if value not in ("", None)})

    def __str__(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    def at(self, path: str) -> str:
        """Another page with the same query."""
        return str(replace(self, path=path))

    def filtered(self, **changes: str) -> str:
        """Another filter; it starts at the first row, and no row is open."""
        return str(Address(self.path, replace(self.wanted, **changes)))

    def opened(self, position: int | None) -> str:
        """The same list with another row open, or none."""
        return str(replace(self, row=position))

    def page(self, *, after: int | None = None, before: int | None = None) -> str:
        return str(Address(self.path, self.wanted, after=after, before=before))

    @property
    def cleared(self) -> str:
        return self.path

    @property
    def clear(self) -> str:
        """Where *Clear* leads; "" when there is nothing to clear."""
        return self.path if self.wanted.is_set else ""

    @property
    def list_query(self) -> str:
        """The query of the list, without an open row."""
        return replace(self, row=None).query

    @property
    def kept(self) -> list[tuple[str, str]]:
        """What the search form sends along, so that a search keeps the other filters."""
        wanted = self.wanted
        others = {
            "state": wanted.state,
            "certainty": wanted.certainty,
            "reason": wanted.reason,
            "warning": wanted.warning,
        }
        return [(name, value) for name, value in others.items() if value]

    @property
    def closed(self) -> str:
        return self.opened(None)


def read_address(path: str, given: Mapping[str, str]) -> Address:
    """The address as asked for. What makes no sense counts as not given: old and hand-made links still open."""
    state = given.get("state", "")
    return Address(
        path,
        RowFilter(
            state=state if state in RowState.values else "",
            certainty=_word(given.get("certainty", "")),
            reason=_word(given.get("reason", "")),
            warning=_word(given.get("warning", "")),
            search=_word(given.get("q", ""), most=LONGEST_SEARCH),
        ),
        after=_position(given.get("after", "")),
        before=_position(given.get("before", "")),
        row=_position(given.get("row", "")),
    )


def _word(text: str, most: int = 40) -> str:
    return text.replace("\0", "").strip()[:most]


def _position(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    return min(int(text[:12]), LARGEST_POSITION)


# --- live --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Live:
    """The state of the page's live part. While `layout` stays the same only figures change; `version` is the figures'."""

    layout: str
    version: str
    banner: str
    announcement: str
    poll_s: int
    done: int


def live(progress: Progress) -> Live:
    job = progress.job
    banner = banner_of(progress)
    done = job.rows_total - job.rows_open
    layout = f"{job.state}-{job.pause_reason}-{banner}-{'worker' if progress.has_worker else 'alone'}"
    if not job.holds_reservation:
        layout += "-uncovered"
    if job.rows_uncertain:
        layout += "-uncertain"
    shown = (
        sorted(progress.counts.items()),
        progress.money,
        progress.per_minute,
        progress.expected_end,
        progress.jobs_before,
        job.state_text,
        _age(progress) // (FRESH_S if job.state == JobState.RUNNING else 60),
    )
    return Live(
        layout=layout,
        version=f"{layout}.{hashlib.sha256(repr(shown).encode()).hexdigest()[:12]}",
        banner=banner,
        announcement=_announcement(progress, banner, done),
        poll_s=5 if job.state == JobState.PAUSED else 2,
        done=done,
    )


def is_layout_of(version: str, layout: str) -> bool:
    """Whether the page that has `version` is laid out like this, so that new figures are enough."""
    return version.rpartition(".")[0] == layout


def _age(progress: Progress) -> int:
    """Seconds since the moment that the page counts from: the last answer, or the last sign of a worker."""
    since = progress.job.heard_at if progress.has_worker else progress.worker_seen_at
    return int((db_now() - since).total_seconds()) if since else 0


def banner_of(progress: Progress) -> str:
    """Which one banner stands on the page; the worst wins. "" for none."""
    job = progress.job
    if job.is_finished:
        return "failed" if job.state == JobState.FAILED else ""
    if job.state == JobState.PAUSED:
        return "sampled" if job.pause_reason == PauseReason.SAMPLE else "paused"
    if not progress.has_worker:
        return "no_worker"
    if progress.breaker and progress.unsent:
        return "breaker"
    if progress.is_stalled:
        return "stalled"
    if job.state == JobState.CANCELLING:
        return "cancelling"
    return "sampling" if job.is_sampling else ""


def _announcement(progress: Progress, banner: str, done: int) -> str:
    """What the status line tells; it is read out when it changes, so never more often than at a milestone."""
    job = progress.job
    if job.is_finished:
        return f"{job.get_state_display()}: {job.rows_answered:,} of {job.rows_total:,} rows have an answer."
    if job.state == JobState.PAUSED:
        return job.state_text or "Paused."
    if banner == "no_worker":
        return "No worker answers; the job waits."
    if banner == "breaker":
        return "Icypeas gives no clear answers; nothing more is sent for now."
    if banner == "stalled":
        return "Stalled: nothing heard from Icypeas."
    if job.state != JobState.RUNNING:
        return f"{job.get_state_display()}."
    reached = next((mark for mark in MILESTONES if done * 100 >= mark * job.rows_total), 0)
    return f"Running, {reached} % of the rows are done." if reached else "Running."


@dataclass(frozen=True)
class Words:
    """Sentences of the page that depend on the figures."""

    state_lead: str
    state_rest: str
    risk_label: str
    pause_title: str
    cancel_title: str
    took: timedelta | None
    left_s: int | None
    ends_at: datetime | None


def words_of(progress: Progress) -> Words:
    job = progress.job
    left_s = _left_s(progress)
    lead, stop, rest = job.state_text.partition(". ")
    uncertain = (
        f"Can still cost, with {job.rows_uncertain:,} uncertain" if job.rows_uncertain else "Can still cost"
    )
    return Words(
        state_lead=lead + stop.strip(),
        state_rest=rest,
        risk_label=uncertain,
        pause_title=f"Pause job #{job.id}?",
        cancel_title=f"Cancel job #{job.id}?",
        took=job.finished_at - job.started_at if job.finished_at and job.started_at else None,
        left_s=left_s,
        ends_at=db_now() + timedelta(seconds=left_s) if left_s else None,
    )


@dataclass(frozen=True)
class Resume:
    """What *Resume* does to a paused job. `reserves` credits are set aside first; `expected` is what the waiting rows
    probably cost, `at_most` the most. `kept_until` says how long the reservation stays while it is paused."""

    label: str
    reserves: Decimal
    expected: Decimal
    at_most: Decimal
    kept_until: datetime | None


def resume_of(job: EnrichmentJob) -> Resume | None:
    """None unless the job is paused."""
    if job.state != JobState.PAUSED:
        return None
    at_most, reserves = reservations.unsent(job), reservations.lacking(job)
    kept = timedelta(days=settings.RESERVATION_KEPT_DAYS)
    is_sample = job.pause_reason == PauseReason.SAMPLE
    label = f"Go on, at most {ledger.words(at_most)} credit{'' if at_most == 1 else 's'}"
    return Resume(
        label=label if is_sample else "Resume",
        reserves=reserves,
        expected=at_most if job.charged_when_empty else at_most * selectors.expected_rate(job),
        at_most=at_most,
        kept_until=job.paused_at + kept if job.paused_at and job.holds_reservation else None,
    )


def _left_s(progress: Progress) -> int | None:
    """Seconds left, no more exact than a forecast is; None while nothing moves."""
    left = progress.seconds_left
    if left is None or progress.is_stalled or not progress.has_worker:
        return None
    return left if left < 120 else round(left / 60) * 60


# --- the list ----------------------------------------------------------------------------------------------------------------


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


_PERSON = ("first_name", "last_name", "full_name")
_COMPANY = ("domain", "company", "job_title")
_SAYS_MOST = ("headline", "industry")  # of a lead, beside its name


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
        return f"{row.credits:,.1f}"
    if row.state == RowState.UNCERTAIN and row.is_lead:
        return f"0 or {job.price:,.1f}"
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
        Chip("Reason", _spelled(wanted.reason), address.filtered(reason=""), reasons),
        Chip("Warning", _spelled(wanted.warning), address.filtered(warning=""), warnings),
    ]
    return [chip for chip in all_chips if chip.value or chip.options]


def _spelled(code: str) -> str:
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


# --- one row -----------------------------------------------------------------------------------------------------------------


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
                _spelled(entry.get("certainty", "")).capitalize() or "Email",
                entry.get("email", ""),
                entry.get("mx_provider", ""),
            )
            for entry in receipt.emails
        ],
        verdict=_spelled(receipt.row.answer.verdict).capitalize() if receipt.row.answer else "",
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


# --- the end -----------------------------------------------------------------------------------------------------------------


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
    failures = [
        {
            **entry,
            "advice": ADVICE.get(entry["reason_code"], UNFAMILIAR),
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
        else [(_spelled(name).capitalize(), n) for name, n in sorted(verdicts.items())],
        failures=failures,
        failed_rows=job.rows_failed,
        saved=job.rows_cached * job.price,
        off_expected=(progress.money.charged - expected) / expected if expected else None,
        formula_cells=selectors.count_formula_cells(job) if job.upload_id else None,
        uncertain_title=_uncertain_title(job, progress.at_risk),
        uncertain_reasons=[str(entry["reason"]) for entry in reasons if entry["state"] == RowState.UNCERTAIN],
    )


def _uncertain_title(job: EnrichmentJob, at_risk: Decimal) -> str:
    count = job.rows_uncertain
    rows = "1 row is" if count == 1 else f"{count:,} rows are"
    if not at_risk:
        return f"{rows} uncertain and cost this job nothing."
    credits = f"{at_risk.normalize():,f}"
    return f"{rows} uncertain and may have cost up to {credits} credit{'' if at_risk == 1 else 's'}."


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


def may_open(user: User) -> QuerySet[EnrichmentJob]:
    return selectors.visible_to(user)

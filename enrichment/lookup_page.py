"""What the look-up page says: what became of one question, and the person's last ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from enrichment import job_page, operations, selectors
from enrichment.choices import JobState, PauseReason, RowState
from enrichment.lookup_forms import LEFT_OUT
from enrichment.models import Answer, EnrichmentJob, EnrichmentRow
from enrichment.operations.base import Operation
from keys.clock import db_now
from people.models import User

TICKING_S = 60  # so long the seconds are counted one by one
NEXT = 3  # operations that are offered beside an answer


@dataclass(frozen=True)
class LookedUp:
    """One look-up as its page shows it.

    `kind`: waiting, no_worker, good, empty, refused (by Icypeas or by us; nothing was charged), paused, failed,
    uncertain, cancelled. `emails` are (certainty, address, mail server), the best first.
    """

    job: EnrichmentJob
    row: EnrichmentRow
    operation: Operation
    kind: str
    waited_s: int
    emails: Sequence[tuple[str, str, str]]
    verdict: str
    known_until: datetime | None
    worker_seen_at: datetime | None

    @property
    def answer(self) -> Answer | None:
        return self.row.answer

    @property
    def is_final(self) -> bool:
        return self.kind not in ("waiting", "no_worker")

    @property
    def is_cached(self) -> bool:
        return self.row.state == RowState.CACHED

    @property
    def headline(self) -> str:
        """The answer itself, as large as it matters."""
        if self.kind == "empty" and self.operation.answer_column:
            return f"No {self.operation.answer_noun} found"
        if self.operation.answer_column:
            return self.value or "Found"
        return self.verdict

    @property
    def value(self) -> str:
        """The result that is the answer itself: the best address, or a page."""
        if self.emails:
            return self.emails[0][1]
        return str(self.answer.result.get(self.operation.answer_column) or "") if self.answer else ""

    @property
    def told(self) -> Sequence[tuple[str, str]]:
        """What else came, with its labels."""
        return job_page.told_by(self.operation, self.answer) if self.answer else []

    @property
    def certainty(self) -> str:
        """How sure Icypeas is of the best address."""
        return (self.emails[0][0] if self.emails else "").capitalize() or self.row.get_state_display()

    @property
    def server(self) -> str:
        return self.emails[0][2] if self.emails else ""

    @property
    def also(self) -> Sequence[tuple[str, str, str]]:
        """Other addresses that are possible."""
        return self.emails[1:] if self.operation.answer_column else []

    @property
    def copyable(self) -> str:
        """What was found; "" when nothing was, or when the person gave it."""
        return self.value if self.kind == "good" and self.operation.answer_column else ""

    @property
    def state_word(self) -> str:
        if self.is_cached:
            return "Already known"
        return job_page.state_words(self.operation)[self.row.state]

    @property
    def state(self) -> str:
        """The state beside the answer: the verdict of a verification, else the row's."""
        if self.answer is None or self.operation.answer_column:
            return str(self.row.state)
        return self.answer.verdict

    @property
    def version(self) -> str:
        step = 1 if self.waited_s < TICKING_S else 10
        return f"{self.kind}-{self.row.state}-{0 if self.is_final else self.waited_s // step}"

    @property
    def announcement(self) -> str:
        said = {
            "waiting": "Asking Icypeas.",
            "no_worker": "No worker answers; the look-up waits.",
            "good": f"Answer: {self.headline}.",
            "empty": f"Answer: {self.headline}.",
            "uncertain": "The outcome is uncertain.",
            "refused": "The look-up was refused.",
        }
        return said.get(self.kind, f"{self.row.get_state_display()}.")


def looked_up(job: EnrichmentJob) -> LookedUp:
    """What became of a look-up, from its one row."""
    row = EnrichmentRow.objects.select_related("answer").get(job=job, position=1)
    now = db_now()
    seen = selectors.worker_seen_at()
    answer = row.answer
    entries = answer.result.get("all_emails", []) if answer else []
    return LookedUp(
        job=job,
        row=row,
        operation=operations.get(job.operation),
        kind=_kind(job, row),
        waited_s=int((now - job.started_at).total_seconds()) if job.started_at else 0,
        emails=[
            (
                entry.get("certainty", "").replace("_", " "),
                entry.get("email", ""),
                entry.get("mx_provider", ""),
            )
            for entry in entries
            if isinstance(entry, dict)
        ],
        verdict=answer.verdict.replace("_", " ").capitalize() if answer else "",
        known_until=answer.answered_at + timedelta(days=settings.FRESHNESS_DAYS) if answer else None,
        worker_seen_at=seen,
    )


def _kind(job: EnrichmentJob, row: EnrichmentRow) -> str:
    # Of an uncertain row the answer may be one with a status that nobody knows: it is no answer.
    if row.answer is not None and row.state != RowState.UNCERTAIN:
        return "good" if row.answer.is_good else "empty"
    ended = {RowState.FAILED: "failed", RowState.UNCERTAIN: "uncertain", RowState.SKIPPED: "cancelled"}
    if row.state in ended:
        return ended[RowState(row.state)]
    if job.state == JobState.PAUSED:
        return "paused" if job.pause_reason == PauseReason.PERSON else "refused"
    return "waiting" if selectors.has_live_worker() else "no_worker"


def told_of(job: EnrichmentJob, names: Sequence[str]) -> dict[str, str]:
    """What a person had typed into the form of this look-up; its cells are the form's inputs in their order."""
    cells = EnrichmentRow.objects.filter(job=job, position=1).values_list("cells", flat=True).first() or []
    return dict(zip(names, cells, strict=False))


def carried_over(job: EnrichmentJob, operation: Operation) -> dict[str, str]:
    """What an earlier look-up asked and found, as inputs of the next operation; empty where nothing that was found would
    be asked, or where it does not suffice."""
    source = operations.get(job.operation)
    answer = Answer.objects.filter(rows__job=job, is_good=True).first()
    result = answer.result if answer else {}
    found = {
        column.name: value
        for column in source.result_columns
        if isinstance(value := result.get(column.name), str) and value
    }
    names = [field.name for field in source.fields if field.name not in LEFT_OUT]
    known = told_of(job, names) | found
    inputs = {
        field.name: known[field.name]
        for field in operation.fields
        if field.name not in LEFT_OUT and known.get(field.name)
    }
    suffices = all(any(name in inputs for name in group) for group in operation.needs)
    return inputs if suffices and inputs.keys() & found.keys() else {}


def next_operations(found: LookedUp) -> list[Operation]:
    """What can be asked with the answer that it does not say already."""
    if found.kind != "good" or found.answer is None:
        return []
    result = found.answer.result
    return [
        operation
        for operation in operations.ASKED.values()
        if operation.name != found.operation.name
        and not (operation.answer_column and result.get(operation.answer_column))
        and carried_over(found.job, operation)
    ][:NEXT]


@dataclass(frozen=True)
class Line:
    """One of the person's last look-ups, as a line of the table."""

    job: EnrichmentJob
    asked: str
    label: str
    result: str
    is_quiet: bool
    state: str
    state_word: str
    credits: str


def last_lines(user: User) -> list[Line]:
    return [_line(job, row) for job in selectors.list_lookups(user) for row in job.rows.all()]


def _line(job: EnrichmentJob, row: EnrichmentRow) -> Line:
    operation = operations.get(job.operation)
    result, is_quiet = job_page.result_of(operation, row)
    state, state_word = str(row.state), job_page.state_words(operation)[row.state]
    if row.answer is not None and not operation.answer_column:
        # The verdict is the answer: said once, and beside it how sure Icypeas is.
        state, state_word, result = row.answer.verdict, result, job_page.note_of(row)
    return Line(
        job=job,
        asked=job.name,
        label=operation.look_up_label,
        result=result,
        is_quiet=is_quiet,
        state=state,
        state_word=state_word,
        credits=job_page.credits_word(job, row),
    )


def tabs(urls: Mapping[str, str], current: str) -> list[dict[str, object]]:
    """The operations as tabs; `urls` by operation name."""
    return [
        {
            "label": operation.look_up_label,
            "url": urls[name],
            "is_current": name == current,
        }
        for name, operation in operations.ASKED.items()
    ]

"""What the review of a draft says: its file, columns, row check, cost, and why it cannot be started yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Min
from django.forms import BoundField
from django.urls import reverse
from django.utils.http import urlencode

from enrichment import column_mapping, operations, prices, selectors
from enrichment.choices import Mode
from enrichment.column_mapping import MappingError
from enrichment.csv_import import Layout
from enrichment.forms import ColumnsForm
from enrichment.models import EnrichmentJob, EnrichmentRow
from enrichment.operations.base import Operation
from enrichment.selectors import Estimate, KeyChoice
from enrichment.services import attempts
from keys import budgets, hours, ledger
from keys import selectors as key_selectors
from keys.choices import Realm
from keys.clock import db_now
from keys.models import KeyRecord
from keys.services import realm_of
from people.models import User
from people.rights import Right
from people.selectors import who_can

SHOWN_VALUES = 5
ASK_AGAIN_AFTER = timedelta(minutes=1)  # a balance younger than this is not read again

# Reason and warning codes → the title of their group; the sentence of the first row stands below it.
TITLES = {
    "no_name": "Neither first nor last name",
    "no_company": "Neither company nor domain",
    "no_email": "No email address",
    "bad_email": "Not an email address",
    "free_mail_domain": "Company domain is a free-mail domain",
    "link_page": "A page about the company in the place of its domain",
    "unreadable_domain": "Not a domain",
    "swapped_names": "First and last name may be swapped",
    "header_repeated": "Header repeated inside the list",
    "placeholder": "A stand-in for a missing value",
}


@dataclass(frozen=True)
class ColumnLine:
    """One field of the operation and the column that feeds it. `confidence` is None when a person chose the column."""

    field: BoundField
    need: str
    is_mapped: bool
    confidence: float | None
    is_unsure: bool
    values: list[str]
    alike: str


@dataclass(frozen=True)
class FindingLine:
    """Rows of one reason or warning. `is_chosen`: a person chose to skip them, and may take that back. `correct_url` leads
    to the first row that can be corrected here."""

    code: str
    title: str
    text: str
    rows: int
    examples: str
    is_chosen: bool
    correct_url: str = ""


@dataclass(frozen=True)
class Money:
    """What the start would take from the chosen key's account. Credits are None while no balance was read."""

    key: KeyRecord
    available: ledger.Available
    left: Decimal | None
    cap_left: Decimal | None
    is_asked: bool
    may_ask: bool


@dataclass(frozen=True)
class Review:
    """Everything on the review page but its forms. `estimate` is None until the rows are checked."""

    job: EnrichmentJob
    operation: Operation
    layout: Layout
    columns: list[ColumnLine]
    other_columns: int
    skipped: list[FindingLine]
    warnings: list[FindingLine]
    estimate: Estimate | None
    parts: list[dict[str, Any]]
    known_from: list[EnrichmentJob]
    key: KeyRecord | None
    offered: list[KeyChoice]
    refused: list[KeyChoice]
    scope: str
    money: Money | None
    obstacle: str
    sample_obstacle: str
    on_their_way_from: list[EnrichmentJob]
    outside_hours: str  # advice, "" within the key's hours
    paying_team: str  # whose budget pays when it is not the person's own team's, "" else
    version: str
    urls: dict[str, str] = field(default_factory=dict)

    @property
    def key_count(self) -> int:
        return len(self.offered) + len(self.refused)

    @property
    def start_label(self) -> str:
        """The words of the button, the cost among them."""
        if not self.estimate or not self.estimate.is_priced:
            return "Start"
        noun = "credit" if self.estimate.at_most == 1 else "credits"
        return f"Start, at most {ledger.words(self.estimate.at_most)} {noun}"

    @property
    def sample_rows(self) -> int:
        """Rows that a sample would ask; 0 when the list is too short for one."""
        size = settings.SAMPLE_ROWS
        return size if self.estimate and self.estimate.ask > size else 0

    @property
    def sample_label(self) -> str:
        """The words of the button that starts with a sample."""
        assert self.estimate is not None
        if not self.estimate.is_priced:
            return f"Try {self.sample_rows} random rows"
        credits = ledger.words(self.sample_rows * self.estimate.price)
        return f"Try {self.sample_rows} random rows, at most {credits}"

    @property
    def rate_note(self) -> str:
        return f"at {self.estimate.hit_rate * 100:.0f} %" if self.estimate else ""

    @property
    def is_checking(self) -> bool:
        return not self.job.is_checked

    @property
    def is_cost_awaited(self) -> bool:
        """The balance was asked for and is on its way."""
        return self.job.is_checked and self.money is not None and self.money.is_asked


def choose_key(choices: Sequence[KeyChoice], wanted: int | None) -> KeyRecord | None:
    """The key that the page shows as chosen: the wanted one when it is offered, else the first offered."""
    offered = [choice.key for choice in choices if not choice.refusal]
    return next((key for key in offered if key.id == wanted), offered[0] if offered else None)


def review(
    user: User,
    job: EnrichmentJob,
    *,
    choices: Sequence[KeyChoice],
    key: KeyRecord | None,
    freshness_days: int,
    sample: Sequence[Sequence[str]],
    columns_form: ColumnsForm,
) -> Review:
    """The draft as it would start with this key and this freshness. `sample` are its first rows."""
    assert job.upload is not None
    operation = operations.get(job.operation)
    layout = Layout.from_json(job.upload.layout)
    estimate = None
    known_from = on_their_way_from = selectors.visible_to(user).none()
    if job.is_checked and not job.check_error:
        estimate = selectors.estimate(
            job, realm=_realm(key), fresh_after=db_now() - timedelta(days=freshness_days)
        )
        visible = selectors.visible_to(user).order_by("-id")
        known_from = visible.filter(id__in=estimate.known_from)
        on_their_way_from = visible.filter(id__in=estimate.on_their_way_from)
    money = _money(key, estimate) if key else None
    columns = _columns(operation, layout, sample, columns_form)
    mapped = sum(line.is_mapped for line in columns)
    choice = {"freshness_days": freshness_days, **({"key": key.id} if key else {})}
    obstacle = (
        "The columns on the page are not taken yet: correct them first."
        if columns_form.errors
        else _obstacle(user, job, operation, choices, key, estimate)
    )
    return Review(
        job=job,
        operation=operation,
        layout=layout,
        columns=columns,
        other_columns=max(layout.width - mapped, 0),
        skipped=_skipped(job, choice),
        warnings=_findings(job.findings.get("warnings", {}), set()),
        estimate=estimate,
        parts=_parts(estimate) if estimate else [],
        known_from=list(known_from),
        on_their_way_from=list(on_their_way_from),
        key=key,
        offered=[choice for choice in choices if not choice.refusal],
        refused=[choice for choice in choices if choice.refusal],
        scope=operation.scope(Mode.BULK),
        money=money,
        obstacle=obstacle or (_limit(estimate, estimate.at_most, money) if estimate and money else ""),
        sample_obstacle=obstacle
        or (_limit(estimate, settings.SAMPLE_ROWS * estimate.price, money) if estimate and money else ""),
        outside_hours=hours.advice(key) if key else "",
        paying_team=key.team.name if key and key.team and key.team_id != user.team_id else "",
        version=f"{job.check_generation}-{job.rows_total}-{int(job.is_checked)}",
        urls=_urls(job, key, freshness_days),
    )


def _realm(key: KeyRecord | None) -> str:
    if key is not None:
        return realm_of(key.environment)
    return Realm.SANDBOX if key_selectors.has_only_sandbox_money() else Realm.LIVE


def _urls(job: EnrichmentJob, key: KeyRecord | None, freshness_days: int) -> dict[str, str]:
    """Addresses of what can be done with the draft; those that come back here keep key and freshness."""
    names = ("review", "start", "discard", "skipped", "balance")
    urls = {name: reverse(f"enrichment:job_{name}", args=[job.id]) for name in names}
    chosen = urlencode({"key": key.id if key else "", "freshness_days": freshness_days})
    return urls | {"back": f"{urls['review']}?{chosen}", "balance_back": f"{urls['balance']}?{chosen}"}


# --- columns ---------------------------------------------------------------------------------------------------------------


def _columns(
    operation: Operation,
    layout: Layout,
    sample: Sequence[Sequence[str]],
    form: ColumnsForm,
) -> list[ColumnLine]:
    guesses = column_mapping.recognise(operation, layout.header, sample)
    mapping = form.shown
    used = set(mapping.values())
    lines = []
    for input_field in operation.fields:
        column, guess = mapping.get(input_field.name), guesses[input_field.name]
        is_guess = column is not None and column == guess.column
        alike = [layout.header[index] for index in guess.others if index not in used] if is_guess else []
        lines.append(
            ColumnLine(
                field=form[input_field.name],
                need=_need(operation, input_field.name),
                is_mapped=column is not None,
                confidence=guess.confidence if is_guess else None,
                is_unsure=is_guess and guess.confidence < column_mapping.SURE,
                values=_values(sample, column) if column is not None else [],
                alike=alike[0] if alike else "",
            )
        )
    return lines


def _values(sample: Sequence[Sequence[str]], column: int) -> list[str]:
    """The first different values of a column, an empty one among them when there is one."""
    cells = (row[column].strip() if column < len(row) else "" for row in sample)
    return list(dict.fromkeys(cells))[:SHOWN_VALUES]


def _need(operation: Operation, name: str) -> str:
    labels = {input_field.name: input_field.label.lower() for input_field in operation.fields}
    for group in operation.needs:
        if name in group:
            others = [labels[other] for other in group if other != name]
            return f"or {', '.join(others)}" if others else "required"
    return "optional"


# --- row check -------------------------------------------------------------------------------------------------------------


def correct_url(job_id: int, position: int, code: str, choice: Mapping[str, int] | None = None) -> str:
    """Where a row's cells are corrected; `code` is the reason whose rows come one after another. `choice` is what was
    chosen on the review (key, freshness_days), which leads back to it as it was."""
    asked = urlencode([("reason", code), *(choice or {}).items()])
    return f"{reverse('enrichment:job_correct', args=[job_id, position])}?{asked}"


def _skipped(job: EnrichmentJob, choice: Mapping[str, int]) -> list[FindingLine]:
    found = job.findings.get("skipped", {})
    rows = attempts.correctable(job) if found and job.is_checked else EnrichmentRow.objects.none()
    first = dict(rows.order_by().values_list("reason_code").annotate(Min("position")))
    lines = _findings(found, set(job.skip_codes))
    return [
        replace(line, correct_url=correct_url(job.id, first[line.code], line.code, choice))
        if line.code in first
        else line
        for line in lines
    ]


def _findings(found: Mapping[str, Mapping[str, Any]], chosen: set[str]) -> list[FindingLine]:
    lines = [
        FindingLine(
            code=code,
            title=TITLES.get(code, entry["text"]),
            text=entry["text"] if code in TITLES else "",
            rows=entry["rows"],
            examples=_examples(entry["examples"]),
            is_chosen=code in chosen,
        )
        for code, entry in found.items()
    ]
    return sorted(lines, key=lambda line: (-line.rows, line.code))


def _examples(examples: Sequence[tuple[int, str]]) -> str:
    """ "rows 18, 44, 61": positions in the list, the first row below the header is 1."""
    positions = ", ".join(f"{position:,}" for position, _ in examples)
    return f"row{'' if len(examples) == 1 else 's'} {positions}" if examples else ""


def _parts(estimate: Estimate) -> list[dict[str, Any]]:
    """The four parts of the bar; they sum to the rows."""
    price = f"{ledger.words(estimate.price)} credit{'' if estimate.price <= 1 else 's'}"
    saved = f"saves up to {ledger.words(estimate.saved)} credits" if estimate.saved else "no answer is reused"
    return [
        {
            "state": "in_flight",
            "label": "Will be asked",
            "count": estimate.ask,
            "note": f"at most {price} each" if estimate.is_priced else "price not known",
        },
        {"state": "cached", "label": "Already known", "count": estimate.known, "note": saved},
        {
            "state": "cached",
            "label": "Duplicates",
            "count": estimate.duplicates,
            "note": "asked once, answered on every row",
        },
        {
            "state": "skipped",
            "label": "Will be skipped",
            "count": estimate.skipped,
            "note": "stay in the export with a reason",
        },
    ]


# --- money -----------------------------------------------------------------------------------------------------------------


def _money(key: KeyRecord, estimate: Estimate | None) -> Money:
    available = ledger.available(key.account)
    left = None
    if available.credits is not None and estimate is not None:
        left = available.credits - estimate.at_most
    cap_left = None
    if key.daily_cap is not None:
        cap_left = max(key.daily_cap - ledger.committed_today(key), Decimal(0))
    now, account = db_now(), key.account
    wanted = account.balance_wanted_at
    is_asked = wanted is not None and wanted > now - ASK_AGAIN_AFTER
    is_old = available.read_at is None or available.read_at < now - ASK_AGAIN_AFTER
    return Money(key, available, left, cap_left, is_asked=is_asked, may_ask=is_old and not is_asked)


def _obstacle(
    user: User,
    job: EnrichmentJob,
    operation: Operation,
    choices: Sequence[KeyChoice],
    key: KeyRecord | None,
    estimate: Estimate | None,
) -> str:
    """Why this cannot be started now whatever it costs, as a sentence; "" when it can. The service asks the same again."""
    if not user.may(Right.SPEND):
        return f"Your role does not let you {Right.SPEND.label}. {who_can(Right.SPEND)} can."
    if job.check_error:
        return "The file cannot be read to its end. Correct how it is read, or upload it again."
    if estimate is None:
        return "The rows are still being checked."
    if not estimate.is_priced:
        return prices.unknown_text(operation)
    try:
        column_mapping.require_needed(operation, job.mapping)
    except MappingError as error:
        return str(error)
    if not job.rows_waiting:
        return "No row of this list can be asked: every row is skipped, for the reasons in the row check."
    if key is None:
        # Of the keys that were granted this, the first says what else keeps it back.
        kept_back = [c.refusal for c in choices if operation.scope(Mode.BULK) in c.key.scopes]
        if kept_back:
            return f"No key can be used for this now. {kept_back[0]}"
        return (
            f"No key may do this: none has the scope {operation.scope(Mode.BULK)}. "
            f"{who_can(Right.MANAGE_KEYS)} can grant it."
        )
    return ""


def _limit(estimate: Estimate, credits: Decimal, money: Money) -> str:
    """What is too small for `credits`, as a sentence; "" when they fit."""
    limits = [
        (money.available.credits, f"are available on {money.key.account.name}"),
        (money.cap_left, "are left of the key's cap today"),
    ]
    limits += [
        (standing.left, f"of {standing.name} are left; {who_can(Right.SET_BUDGETS)} can raise it")
        for standing in map(budgets.standing, budgets.for_key(money.key))
    ]
    for limit, words in limits:
        if limit is not None and credits > limit:
            fits = int(max(limit, Decimal(0)) / estimate.price)
            return (
                f"This can cost {ledger.words(credits)} credits and {ledger.words(max(limit, Decimal(0)))} {words}. "
                f"That is enough for {fits:,} rows."
            )
    return ""

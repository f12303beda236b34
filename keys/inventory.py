"""Reads for the pages of the inventory: one line of the list, everything that one key's page tells."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import DateTimeField, Q, Value
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone

from keys import (
    budgets,
    finding_selectors,
    findings,
    hours,
    job_links,
    ledger,
    lifecycle,
    presence,
    selectors,
    use,
    use_chart,
)
from keys.call_filter import REFUSED, CallFilter
from keys.choices import KeyState
from keys.finding_selectors import FindingLine
from keys.hours import Hours, Outside
from keys.models import Call, Finding, KeyRecord
from keys.scopes import ACCOUNT_READ, SCOPES
from people.models import AuditEntry, User
from people.selectors import history_of

PAGE = 50
DAYS = 30
NEVER = Value(datetime(1970, 1, 1, tzinfo=UTC), output_field=DateTimeField())

NAMED = 8  # jobs and people on a key's page
LISTED = 10  # records and jobs behind a number


@dataclass(frozen=True)
class Line:
    """One key record in the list. `days` are credits per day, oldest first; `job_url` is "" when it is not for them."""

    key: KeyRecord
    findings: Sequence[Finding]
    excepted: Sequence[Finding]
    last: use.LastUse
    job_url: str
    days: Sequence[Decimal]
    scope: str
    more_scopes: Sequence[str]

    @property
    def total(self) -> Decimal:
        return sum(self.days, Decimal(0))


@dataclass(frozen=True)
class Page:
    """Lines worst first, then by last use; `next_after` is the name that the next page follows, or ""."""

    lines: Sequence[Line]
    next_after: str

    @property
    def shown(self) -> str:
        """What is on the page, for its foot."""
        return f"{len(self.lines)} record{'' if len(self.lines) == 1 else 's'} on this page"


def list_page(wanted: selectors.KeyFilter, user: User, *, after: str = "", limit: int = PAGE) -> Page:
    """One page of the inventory, in a fixed number of queries."""
    keys = selectors.filter_keys(wanted, user).annotate(used=Coalesce("last_used_at", NEVER))
    last = (
        KeyRecord.objects.annotate(used=Coalesce("last_used_at", NEVER))
        .filter(name=after)
        .values_list("severity", "used", "id")
        .first()
        if after
        else None
    )
    if last is not None:
        severity, used, number = last
        same = Q(severity=severity)
        keys = keys.filter(
            Q(severity__lt=severity) | same & Q(used__lt=used) | same & Q(used=used, id__gt=number)
        )
    found: list[KeyRecord] = list(keys.order_by("-severity", "-used", "id")[: limit + 1])
    shown = found[:limit]
    spent = use.charged_per_day_by_key([key.id for key in shown], DAYS)
    openable = job_links.openable(user, [key.last_used_job for key in shown])
    lines = [_line(key, spent.get(key.id, [Decimal(0)] * DAYS), openable) for key in shown]
    return Page(lines, shown[-1].name if len(found) > limit else "")


def _line(key: KeyRecord, days: Sequence[Decimal], openable: Collection[int]) -> Line:
    last = use.last_use(key)
    has_all = set(key.scopes) >= set(SCOPES)
    return Line(
        key=key,
        findings=findings.findings_of(key),
        excepted=findings.excepted_of(key),
        last=last,
        job_url=job_links.url_of(last.job, openable),
        days=days,
        scope="all scopes" if has_all else (key.scopes or ["no scope"])[0],
        more_scopes=() if has_all else tuple(key.scopes[1:]),
    )


@dataclass(frozen=True)
class CallLine:
    """One call; `what_for` is the job or the reason without one."""

    call: Call
    what_for: str
    job_url: str


def call_line(call: Call, openable: Collection[int]) -> CallLine:
    return CallLine(call, _what_for(call), job_links.url_of(call.job, openable))


@dataclass(frozen=True)
class ScopeLine:
    """One scope in the grid, with the addresses of what it speaks of."""

    use: use.ScopeUse
    job_url: str
    calls_url: str
    refused_url: str

    @property
    def sums(self) -> list[tuple[int, int, int]]:
        """Days, rows and calls of the two stretches."""
        return list(zip((use.DAYS, use.MORE_DAYS), self.use.rows, self.use.calls, strict=True))


@dataclass(frozen=True)
class UserLine:
    """A job or a person that used the key lately."""

    line: use.JobLine | use.PersonLine
    job_url: str
    calls_url: str


@dataclass(frozen=True)
class Users:
    """Who used a key in 30 days: the latest jobs, the busiest people, and how many there are of each."""

    jobs: Sequence[UserLine]
    people: Sequence[UserLine]
    jobs_count: int
    people_count: int
    own: use.PersonLine | None  # free calls of the app itself

    @property
    def more_jobs(self) -> int:
        return self.jobs_count - len(self.jobs)

    @property
    def more_people(self) -> int:
        return self.people_count - len(self.people)


@dataclass(frozen=True)
class Reliance:
    """What stops if the key dies now: jobs that hold its credits, each with its address, and records beside it."""

    jobs: Sequence[tuple[int, str, Decimal]]
    more_jobs: int
    held: Decimal
    siblings: Sequence[KeyRecord]
    siblings_count: int
    sharing: Sequence[KeyRecord]

    @property
    def jobs_count(self) -> int:
        return len(self.jobs) + self.more_jobs

    @property
    def more_siblings(self) -> int:
        return self.siblings_count - len(self.siblings)


@dataclass(frozen=True)
class Detail:
    """Everything that a key's page tells beside the record itself."""

    line: Line
    last_credits: Decimal | None
    missing: Sequence[str]  # what keeps a draft from becoming active
    available: ledger.Available
    cap_used: Decimal
    fingerprint: str
    fingerprint_at: datetime | None
    created_by: str
    scopes: Sequence[ScopeLine]
    calls: Sequence[CallLine]
    history: Sequence[dict[str, Any]]
    budgets: Sequence[budgets.Standing]
    standing: presence.Standing
    previous: presence.Standing | None
    sharing: Sequence[KeyRecord]
    chart: use_chart.UseChart
    users: Users
    reliance: Reliance
    findings: Sequence[FindingLine]
    excepted: Sequence[FindingLine]
    steps: Sequence[str]  # what may be done to the record's state
    stopped: AuditEntry | None  # who put it into quarantine or revoked it, and why
    former_names: Sequence[str]
    hours: Hours
    is_outside: bool
    outside: Outside

    @property
    def findings_note(self) -> str:
        return f"{len(self.findings)} open" if self.findings else ""

    @property
    def siblings(self) -> int:
        return self.reliance.siblings_count

    @property
    def scope_note(self) -> str:
        granted = [line.use for line in self.scopes if line.use.is_granted]
        return f"{len(granted)} granted, {sum(1 for use in granted if use.calls[1])} used in 90 days"


def get_detail(key: KeyRecord, user: User, *, chart: str = use_chart.CREDITS) -> Detail:
    """What the page of one key shows."""
    per_day = use.charged_per_day(key, DAYS)
    totals: dict[str, Decimal] = {}
    for (day, _operation), credits in per_day.items():
        totals[day] = totals.get(day, Decimal(0)) + credits
    days = [totals.get(day.isoformat(), Decimal(0)) for day in use.window(DAYS)]
    calls, scopes = use.recent_calls(key), use.scope_use(key)
    users, held = use.jobs_of_key(key, days=DAYS, limit=NAMED), ledger.open_jobs(key)
    openable = job_links.openable(
        user,
        [
            key.last_used_job,
            *(call.job for call in calls),
            *(scope.last_job for scope in scopes),
            *(line.use.job for line in users),
            *list(held)[:LISTED],
        ],
    )
    sent = next((call for call in calls if call.fingerprint), None)
    entries = history_of("keyrecord", key.id)
    created = next((entry for entry in entries if entry.action == "key.created"), None)
    sharing = presence.sharing(key)
    line = _line(key, days, openable)
    return Detail(
        line=line,
        last_credits=_last_credits(key, users),
        findings=finding_selectors.lines_of(key, line.findings),
        excepted=finding_selectors.lines_of(key, line.excepted),
        missing=selectors.missing_for_activation(key) if key.state == KeyState.DRAFT else (),
        budgets=[budgets.standing(budget) for budget in budgets.for_key(key)],
        standing=presence.standing(key.secret_ref),
        previous=presence.standing(key.previous_secret_ref) if key.previous_secret_ref else None,
        sharing=sharing,
        available=ledger.available(key.account),
        cap_used=ledger.committed_today(key) if key.daily_cap is not None else Decimal(0),
        fingerprint=sent.fingerprint if sent else "",
        fingerprint_at=sent.at if sent else None,
        created_by=_who(created) if created else "",
        scopes=_scopes(key, scopes, openable),
        calls=[call_line(call, openable) for call in calls],
        history=[_event(entry) for entry in entries],
        chart=use_chart.get_chart(key, chart, per_day),
        users=_users(key, users, openable),
        reliance=_reliance(key, held, sharing, openable),
        steps=lifecycle.offered(key.state),
        stopped=_stopped(key),
        former_names=[former.name for former in key.former_names.all()],
        hours=hours.of(key),
        is_outside=not hours.of(key).holds(timezone.now()),
        outside=hours.outside(key),
    )


def _last_credits(key: KeyRecord, jobs: Sequence[use.JobLine]) -> Decimal | None:
    """What the job of the last use was charged so far, mostly one of the newest `jobs`; None without a job or a charge."""
    if not key.last_used_job:
        return None
    known = {line.use.job: line.credits for line in jobs}
    credits = known.get(key.last_used_job)
    return (ledger.job_sums(key.last_used_job).charged if credits is None else credits) or None


def _scopes(key: KeyRecord, scopes: Sequence[use.ScopeUse], openable: Collection[int]) -> list[ScopeLine]:
    return [
        ScopeLine(
            each,
            job_links.url_of(each.last_job, openable),
            _calls_url(key, scope=each.scope),
            _calls_url(key, scope=each.scope, outcome=REFUSED),
        )
        for each in scopes
    ]


def _users(key: KeyRecord, jobs: Sequence[use.JobLine], openable: Collection[int]) -> Users:
    everybody = use.people_of_key(key, DAYS)
    people = [person for person in everybody if person.name]
    return Users(
        jobs=[
            UserLine(job, job_links.url_of(job.use.job, openable), _calls_url(key, job=job.use.job))
            for job in jobs
        ],
        people=[UserLine(person, "", _calls_url(key, person=person.name)) for person in people[:NAMED]],
        jobs_count=use.count_jobs(key, DAYS),
        people_count=len(people),
        own=next((person for person in everybody if not person.name), None),
    )


def _reliance(
    key: KeyRecord, held: Mapping[int, Decimal], sharing: Sequence[KeyRecord], openable: Collection[int]
) -> Reliance:
    shown = list(held.items())[:LISTED]
    siblings = KeyRecord.objects.filter(account_id=key.account_id).exclude(id=key.id)
    return Reliance(
        jobs=[(job, job_links.url_of(job, openable), credits) for job, credits in shown],
        more_jobs=len(held) - len(shown),
        held=sum(held.values(), Decimal(0)),
        siblings=list(siblings.order_by("name")[:LISTED]),
        siblings_count=siblings.count(),
        sharing=sharing,
    )


def _calls_url(key: KeyRecord, **wanted: Any) -> str:
    return f"{reverse('keys:key_calls', args=[key.name])}{CallFilter(**wanted).address()}"


def _stopped(key: KeyRecord) -> AuditEntry | None:
    """The entry of what put the record into the state in which it lets nothing out."""
    actions = {KeyState.QUARANTINED: "key.quarantined", KeyState.REVOKED: "key.revoked"}
    if key.state not in actions:
        return None
    entries = AuditEntry.objects.filter(
        object_type="keyrecord", object_id=key.id, action=actions[KeyState(key.state)]
    )
    return entries.select_related("actor").order_by("-id").first()


def _what_for(call: Call) -> str:
    if call.job:
        return f"#{call.job}"
    return "test" if call.is_probe else "balance check" if call.scope == ACCOUNT_READ else "no job"


def _who(entry: AuditEntry) -> str:
    return entry.actor.name if entry.actor else entry.via


EVENTS = {
    "key.created": ("key-round", "Created"),
    "key.renamed": ("pencil", "Renamed"),
    "key.activated": ("circle-check", "Activated"),
    "key.quarantined": ("shield-off", "Put into quarantine"),
    "key.released": ("circle-check", "Released from quarantine"),
    "key.revoked": ("ban", "Revoked"),
    "key.rotation_begun": ("refresh-cw", "Rotation begun"),
    "key.rotation_ended": ("refresh-cw", "Rotation ended"),
}


def _event(entry: AuditEntry) -> dict[str, Any]:
    """One line of a key's history."""
    icon, text = EVENTS.get(entry.action) or ("pencil", _changes(entry))
    if entry.action == "key.renamed":
        text = f"Renamed, before {entry.detail.get('from', '')}"
    return {"icon": icon, "text": text, "at": entry.at, "by": _who(entry), "note": entry.reason}


def _changes(entry: AuditEntry) -> str:
    """What was changed, as one sentence."""
    if entry.action != "key.changed":
        finding = entry.detail.get("finding", "")
        return f"{entry.words}: {finding}" if finding else entry.words
    text = "; ".join(f"{name}: {change}" for name, change in entry.facts) or "saved without a change"
    return text[0].upper() + text[1:]


EXPORT_COLUMNS = (
    "name",
    "environment",
    "state",
    "purpose",
    "owner",
    "deputy",
    "team",
    "account",
    "scopes",
    "daily cap",
    "rotate by",
    "expires",
    "hours",
    "secret reference",
    "created",
    "last used",
    "last use",
    "findings",
)


def _last_words(key: KeyRecord) -> str:
    last = use.last_use(key)
    return ", ".join(part for part in (last.text, last.detail) if part)


def export_rows(wanted: selectors.KeyFilter, user: User) -> Iterator[list[str]]:
    """Every record of a filter as text cells, by name."""
    for key in selectors.filter_keys(wanted, user).iterator(chunk_size=200):
        yield [
            key.name,
            key.environment,
            key.shown_state,
            key.purpose,
            key.owner.email if key.owner else "",
            key.deputy.email if key.deputy else "",
            str(key.team or ""),
            str(key.account),
            " ".join(key.scopes),
            "" if key.daily_cap is None else f"{key.daily_cap.normalize():f}",
            str(key.rotate_by),
            str(key.expires_at or ""),
            hours.of(key).words,
            key.secret_ref,
            key.created_at.isoformat(timespec="seconds"),
            key.last_used_at.isoformat(timespec="seconds") if key.last_used_at else "",
            _last_words(key),
            "; ".join(finding.title for finding in findings.findings_of(key)),
        ]

"""Reads about accounts, key records and calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Case, Count, Max, Q, QuerySet, Sum, When
from django.db.models.functions import TruncDate
from django.utils import timezone

from keys import ledger, presence
from keys.choices import POLICY_OUTCOMES, USABLE_STATES, EntryKind, KeyState, Outcome, Realm
from keys.models import Account, Call, KeyRecord, LedgerEntry
from people.models import User

UNUSED_AFTER = timedelta(days=30)
DUE_SOON = timedelta(days=14)
# Outcomes of the last call that say the secret or the account is the trouble.
KEY_TROUBLE = (Outcome.VENDOR_401, Outcome.VENDOR_403, Outcome.UNPAID)

# Operations are known here by name only; these are the words for a line of text.
OPERATION_WORDS = {
    "email-search": "find emails",
    "email-verification": "verify emails",
    "domain-search": "scan domains",
    "balance": "balance check",
}


@dataclass(frozen=True)
class Finding:
    """Something about a key that a person should look at: what, the evidence, and when it is due."""

    code: str
    tone: str  # warn or bad
    title: str
    evidence: str
    due: date | None = None


@dataclass(frozen=True)
class KeyFilter:
    """Filter of the inventory; it is the address."""

    view: str = ""
    environment: str = ""
    team: int | None = None
    state: str = ""
    scope: str = ""
    search: str = ""

    @property
    def is_set(self) -> bool:
        return any((self.environment, self.team, self.state, self.scope, self.search))


def environments() -> list[str]:
    """Environments that a key may belong to, in the order of this installation."""
    return list(settings.KEY_ENVIRONMENTS)


NAME_PART = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
PART_LENGTH = 40


def name_part_problem(value: str, label: str) -> str | None:
    """Why `value` cannot stand in a key's name, or None. `label` says which part it is."""
    if not NAME_PART.fullmatch(value):
        return f"The {label} of the name takes small letters, digits and single underscores, for example crm_sync."
    if len(value) > PART_LENGTH:
        return f"The {label} of the name may have {PART_LENGTH} characters; this has {len(value)}."
    return None


@dataclass(frozen=True)
class NamePreview:
    """A name as it forms. `environment` and `rest` are shown, `problem` says why it cannot be, `variable` is where the
    secret would stand by custom."""

    environment: str
    rest: str
    problem: str
    is_complete: bool
    is_empty: bool

    @property
    def name(self) -> str:
        return f"{self.environment}_{self.rest}"

    @property
    def variable(self) -> str:
        return f"env:ICYPEAS_KEY_{self.name.upper()}"


def name_preview(environment: str, system: str, label: str) -> NamePreview:
    """What the three parts make together, and what is wrong with it."""
    parts = {"system": system, "owner part": label}
    rest = f"{system or '…'}_{label or '…'}"
    is_complete = bool(environment and system and label)
    problem = next(
        (said for name, part in parts.items() if part and (said := name_part_problem(part, name))), None
    )
    if not problem and is_complete and KeyRecord.objects.filter(name=f"{environment}_{rest}").exists():
        problem = f"There is a key named {environment}_{rest} already."
    return NamePreview(
        environment or "…",
        rest,
        problem or "",
        is_complete and not problem,
        not (environment or system or label),
    )


def all_keys() -> QuerySet[KeyRecord]:
    return KeyRecord.objects.select_related("account", "owner", "deputy", "team")


def _is_ownerless() -> Q:
    return (Q(owner__isnull=True) | Q(owner__is_active=False)) & ~Q(state=KeyState.REVOKED)


def with_severity(keys: QuerySet[KeyRecord]) -> QuerySet[Any]:
    """Annotate `severity`: 2 for a record with a bad finding, 1 for one with a warning, 0 without. It says in SQL what
    `findings_of` says in words; a test holds the two together."""
    today = timezone.localdate()
    soon = today + DUE_SOON
    usable = Q(state__in=USABLE_STATES)
    ill_placed = Q(is_secret_missing=True) | Q(do_secrets_differ=True) | Q(is_shared_across=True)
    bad = _is_ownerless() | (
        usable
        & (
            Q(rotate_by__lt=today)
            | Q(expires_at__lt=today)
            | Q(last_used_outcome__in=KEY_TROUBLE)
            | ill_placed
        )
    )
    without_deputy = Q(deputy__isnull=True) & ~Q(environment__in=settings.RELAXED_ENVIRONMENTS)
    warn = usable & (Q(rotate_by__lte=soon) | Q(expires_at__lte=soon) | without_deputy | _is_unused())
    seen: QuerySet[KeyRecord] = presence.with_sight(keys)
    return seen.annotate(severity=Case(When(bad, then=2), When(warn, then=1), default=0))


def _is_unused() -> Q:
    """Not used for `UNUSED_AFTER`, or never in so long a life."""
    long_ago = timezone.now() - UNUSED_AFTER
    return Q(last_used_at__lt=long_ago) | Q(last_used_at__isnull=True, created_at__lt=long_ago)


def _view(view: str, user: User) -> Q:
    """What belongs to a saved view of the inventory; an unknown one shows everything."""
    usable = Q(state__in=USABLE_STATES)
    views = {
        "findings": Q(severity__gt=0),
        "mine": Q(owner=user) | Q(deputy=user),
        "unused": usable & _is_unused(),
        "rotation": usable & Q(rotate_by__lte=timezone.localdate() + DUE_SOON),
        "inactive": ~usable,
    }
    return views.get(view, Q())


def count_views(user: User) -> dict[str, int]:
    """Records in each saved view, and how many accounts all of them use (`accounts`)."""
    keys = with_severity(KeyRecord.objects.order_by())
    return keys.aggregate(
        all=Count("id"),
        **{
            view: Count("id", filter=_view(view, user))
            for view in ("findings", "mine", "unused", "rotation", "inactive")
        },
        accounts=Count("account", distinct=True),
    )


def filter_keys(wanted: KeyFilter, user: User) -> QuerySet[Any]:
    """Key records of one filter, by name, with their `severity`."""
    keys = with_severity(all_keys()).filter(_view(wanted.view, user))
    for name in ("environment", "state"):
        if getattr(wanted, name):
            keys = keys.filter(**{name: getattr(wanted, name)})
    if wanted.team:
        keys = keys.filter(team_id=wanted.team)
    if wanted.scope:
        keys = keys.filter(scopes__icontains=f'"{wanted.scope}"')
    if wanted.search:
        keys = keys.filter(
            Q(name__icontains=wanted.search)
            | Q(purpose__icontains=wanted.search)
            | Q(owner__name__icontains=wanted.search)
        )
    return keys.order_by("name")


def findings_of(key: KeyRecord) -> list[Finding]:
    """What the record itself tells: owner, refused secret, rotation, expiry, deputy. Worst first."""
    found: list[Finding] = []
    today = timezone.localdate()
    if key.owner is None and key.state != KeyState.REVOKED:
        found.append(Finding("owner", "bad", "No owner", "Nobody answers for this key."))
    elif key.owner is not None and not key.owner.is_active and key.state != KeyState.REVOKED:
        found.append(Finding("owner", "bad", "Owner disabled", f"{key.owner.name} cannot log in any more."))
    if key.state in USABLE_STATES:
        if key.last_used_outcome in KEY_TROUBLE:
            said = Outcome(key.last_used_outcome).label
            found.append(
                Finding(
                    "outcome", "bad", f"Last call: {said}", "Jobs with this key pause until it is mended."
                )
            )
        found += _sight_findings(key)
        found += _date_findings(key, today)
        idle_since = key.last_used_at or key.created_at
        if idle_since < timezone.now() - UNUSED_AFTER:
            days = (timezone.now() - idle_since).days
            evidence = (
                f"Last used on {_day(key.last_used_at.date())}."
                if key.last_used_at
                else "Never used through this app."
            )
            found.append(
                Finding(
                    "unused", "warn", f"Not used for {_days(days)}", f"{evidence} Revoke what nobody needs."
                )
            )
        if key.deputy is None and key.environment not in settings.RELAXED_ENVIRONMENTS:
            found.append(Finding("deputy", "warn", "No deputy", "Nobody stands in for the owner."))
    return sorted(found, key=lambda finding: finding.tone != "bad")


def _sight_findings(key: KeyRecord) -> list[Finding]:
    """What the workers find at the record's reference; read with the record, or for it alone."""
    seen: Any = key
    if not hasattr(key, "is_secret_missing"):
        seen = presence.with_sight(KeyRecord.objects.filter(id=key.id)).get()
    found = []
    if seen.is_secret_missing:
        standing = presence.standing(key.secret_ref)
        who = (
            "No worker finds"
            if not standing.seen
            else f"{len(standing.missing)} of {standing.workers} workers do not find"
        )
        evidence = f"{who} a secret at {key.secret_ref}."
        found.append(Finding("secret", "bad", "Secret not found", evidence))
    if seen.do_secrets_differ:
        evidence = f"It depends on the worker which secret stands at {key.secret_ref}."
        found.append(Finding("fingerprint", "bad", "The workers hold different secrets", evidence))
    if seen.is_shared_across:
        names = ", ".join(
            other.name for other in presence.sharing(key) if other.environment != key.environment
        )
        evidence = f"{names} holds the same secret: what leaks there opens this."
        found.append(Finding("sharing", "bad", "Secret shared across environments", evidence))
    return found


def _date_findings(key: KeyRecord, today: date) -> list[Finding]:
    """Rotation and expiry of a usable record."""
    found = []
    days = (key.rotate_by - today).days
    if days < 0:
        found.append(
            Finding(
                "rotation",
                "bad",
                f"Rotation is {_days(-days)} late",
                f"It was due on {_day(key.rotate_by)}.",
                key.rotate_by,
            )
        )
    elif days <= DUE_SOON.days:
        title = "Rotation is due today" if days == 0 else f"Rotation is due in {_days(days)}"
        found.append(Finding("rotation", "warn", title, f"Due on {_day(key.rotate_by)}.", key.rotate_by))
    if key.expires_at is not None:
        left = (key.expires_at - today).days
        if left < 0:
            evidence = f"Its last day was {_day(key.expires_at)}; it lets nothing out."
            found.append(Finding("expiry", "bad", f"Expired {_days(-left)} ago", evidence, key.expires_at))
        elif left <= DUE_SOON.days:
            evidence = f"Its last day is {_day(key.expires_at)}; it lets nothing out from then on."
            title = "Expires today" if left == 0 else f"Expires in {_days(left)}"
            found.append(Finding("expiry", "warn", title, evidence, key.expires_at))
    return found


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def _day(day: date) -> str:
    return f"{day.day} {day:%b %Y}"


def count_findings() -> int:
    """Key records with a finding: the number beside Keys in the navigation."""
    return with_severity(KeyRecord.objects.order_by()).filter(Q(severity__gt=0)).count()


@dataclass(frozen=True)
class LastUse:
    """When a key was last used through this app, in the ways of not knowing. `detail` is `job` and `rest` as one text."""

    at: datetime | None
    text: str
    detail: str
    job: int | None = None
    rest: str = ""


def last_use(key: KeyRecord) -> LastUse:
    """The age is left to the page; `text` says why there is no time, `detail` what the use was."""
    if key.last_used_at is None:
        tracked = f"tracked since {_day(key.created_at.date())}"
        return LastUse(None, "never through this app", tracked, rest=tracked)
    parts = [OPERATION_WORDS.get(key.last_used_operation, key.last_used_operation.replace("-", " "))]
    if key.last_used_rows:
        parts.append("1 row" if key.last_used_rows == 1 else f"{key.last_used_rows:,} rows")
    if key.last_used_by:
        parts.append(key.last_used_by)
    rest = ", ".join(parts)
    job = key.last_used_job
    return LastUse(key.last_used_at, "", f"#{job}, {rest}" if job else rest, job, rest)


def missing_for_activation(key: KeyRecord) -> list[str]:
    """What keeps a draft from becoming active, as words. Empty when nothing does."""
    missing = []
    if key.owner is None or not key.owner.is_active:
        missing.append("an active owner")
    if key.environment not in settings.RELAXED_ENVIRONMENTS:
        if key.deputy is None or not key.deputy.is_active:
            missing.append("an active deputy")
        elif key.deputy_id == key.owner_id:
            missing.append("a deputy who is not the owner")
        if key.team is None:
            missing.append("a team")
    if not key.purpose:
        missing.append("a purpose")
    if not key.scopes:
        missing.append("a scope")
    if not key.secret_ref:
        missing.append("a secret reference")
    if key.pk and any(other.environment != key.environment for other in presence.sharing(key)):
        missing.append("a secret that no other environment holds")
    return missing


def recent_calls(key: KeyRecord, limit: int = 20) -> list[Call]:
    return list(Call.objects.filter(key=key).order_by("-id")[:limit])


@dataclass(frozen=True)
class ScopeUse:
    """One scope of a key, granted against used."""

    scope: str
    is_granted: bool
    rows: int
    calls: int
    refused: int
    last_at: datetime | None


def scope_use(key: KeyRecord, days: int = 90) -> list[ScopeUse]:
    """Scopes granted, and those that were refused, with what they were used for."""
    since = timezone.now() - timedelta(days=days)
    let_out = ~Q(outcome__in=POLICY_OUTCOMES)
    used: dict[str, dict[str, Any]] = {
        row["scope"]: dict(row)
        for row in Call.objects.filter(key=key, at__gte=since)
        .exclude(scope="account:read")
        .order_by()
        .values("scope")
        .annotate(
            n=Count("id", filter=let_out),
            total_rows=Sum("rows", filter=Q(outcome=Outcome.OK), default=0),
            refused=Count("id", filter=~let_out),
            last_at=Max("at", filter=let_out),
        )
    }
    unused = {"total_rows": 0, "n": 0, "refused": 0, "last_at": None}
    return [
        ScopeUse(scope, scope in key.scopes, row["total_rows"], row["n"], row["refused"], row["last_at"])
        for scope, row in ((scope, used.get(scope, unused)) for scope in sorted({*key.scopes, *used}))
    ]


def window(days: int) -> list[date]:
    """The last `days` days in the viewer's zone, oldest first, today included."""
    today = timezone.localdate()
    return [today - timedelta(days=back) for back in range(days - 1, -1, -1)]


def _charged_in(days: int) -> QuerySet[LedgerEntry]:
    first = datetime.combine(window(days)[0], time.min, tzinfo=timezone.get_current_timezone())
    return LedgerEntry.objects.filter(kind=EntryKind.CHARGED, at__gte=first).order_by()


def charged_by_key(days: int = 30) -> dict[int, Decimal]:
    """Credits charged per key over the last days."""
    rows = _charged_in(days).values("key").annotate(total=Sum("credits"))
    return {row["key"]: row["total"] for row in rows}


def charged_per_day(key: KeyRecord, days: int = 30) -> dict[tuple[str, str], Decimal]:
    """Credits per (ISO day, operation) of one key."""
    rows = _charged_in(days).filter(key=key).annotate(day=TruncDate("at")).values("day", "operation")
    return {
        (row["day"].isoformat(), row["operation"]): row["total"]
        for row in rows.annotate(total=Sum("credits"))
    }


def charged_per_day_by_key(key_ids: Sequence[int], days: int = 30) -> dict[int, list[Decimal]]:
    """Credits of each day of the window, oldest first, for several keys; a key without charges is absent."""
    place = {day: index for index, day in enumerate(window(days))}
    rows = _charged_in(days).filter(key__in=key_ids).annotate(day=TruncDate("at")).values("key", "day")
    sums: dict[int, list[Decimal]] = {}
    for row in rows.annotate(total=Sum("credits")):
        if row["day"] in place:  # an entry of the next second may already be tomorrow's
            sums.setdefault(row["key"], [Decimal(0)] * days)[place[row["day"]]] = row["total"]
    return sums


def jobs_of_key(key: KeyRecord, days: int = 30) -> tuple[int, int]:
    """Jobs and people that used the key lately."""
    since = timezone.now() - timedelta(days=days)
    found = Call.objects.filter(key=key, at__gte=since, job__isnull=False).aggregate(
        jobs=Count("job", distinct=True), people=Count("person", distinct=True)
    )
    return found["jobs"], found["people"]


def shown_balance() -> dict[str, Any] | None:
    """The account for the foot of the navigation: the live one with a reading, else the sandbox."""
    accounts = list(Account.objects.filter(balance__isnull=False).order_by("id"))
    if not accounts:
        return None
    account = next((account for account in accounts if account.realm == Realm.LIVE), accounts[0])
    left = ledger.available(account)
    return {"credits": left.credits, "of": left.balance, "read_at": left.read_at, "account": account.name}


def accounts_with_available() -> list[tuple[Account, ledger.Available]]:
    return [(account, ledger.available(account)) for account in Account.objects.order_by("id")]


def has_only_sandbox_money() -> bool:
    """No live account was ever read: whatever is spent here is invented."""
    return not Account.objects.filter(realm=Realm.LIVE, balance__isnull=False).exists()


def account_of_hook(token: str) -> Account | None:
    """The account whose webhooks come to this address."""
    if len(token) < 32:
        return None
    # The database compares by index; a length of 43 random characters leaves nothing to learn from its time.
    return Account.objects.filter(hook_token=token).exclude(api_secret_ref="").first()

"""The gate: the only way to a call. It knows the key record, checks it, and records what it let out or refused.

Order: state → environment → scope → cap and budget → secret → limiter. A refusal makes no HTTP request and costs nothing.
The caller commits its intent after `admit` and before it sends, and ends with `record`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models import Q

from keys import breaker, budgets, calls, ledger, limiter, scopes
from keys.choices import USABLE_STATES, EntryKind, KeyState, Outcome, Realm
from keys.clock import db_now
from keys.counted import counted
from keys.finding_rules import KEY_TROUBLE
from keys.models import Account, Budget, Call, KeyRecord, LedgerEntry
from keys.secrets import ResolvedSecret, SecretError, resolve
from people.rights import Right
from people.selectors import who_can

ACCOUNT_READ = scopes.ACCOUNT_READ
NO_API_SECRET = "The API secret of "  # begins the message of a refusal for want of that one
LET_IN = (Outcome.OK, *KEY_TROUBLE)  # outcomes that say whether Icypeas lets a key in


class GateRefusedError(Exception):
    """Our own refusal: `outcome` is one of the policy outcomes, the message names what is missing and who can grant it."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message


@dataclass(frozen=True)
class Errand:
    """What somebody wants to call, and for what. `interval_s` is the route's distance between calls at our share of
    the documented rate, `catch_up` how many late ones may follow faster; `job` is a number, since keys know nothing of
    jobs. `is_for_person`: somebody waits for what this call brings, so it takes the slot that was kept for it."""

    key_id: int
    environment: str
    scope: str
    route: str
    interval_s: float
    job: int | None = None
    job_text: str = ""
    person: str = ""
    operation: str = ""
    rows: int = 0
    is_probe: bool = False
    is_for_person: bool = False
    catch_up: int = 0

    @property
    def is_paid(self) -> bool:
        """A call with rows costs something, unless it only reads what was paid for."""
        return self.rows > 0 and self.scope != ACCOUNT_READ


@dataclass(frozen=True)
class Permit:
    """Leave to make one call now. Holds the secret; shows a fingerprint."""

    errand: Errand
    key: KeyRecord
    account: Account
    resolved: ResolvedSecret
    api_secret: ResolvedSecret | None = None  # where the account's requests are signed

    @property
    def fingerprint(self) -> str:
        return self.resolved.fingerprint


def who_manages() -> str:
    """Who can change a record that lets nothing out, asked when that is to be said."""
    return who_can(Right.MANAGE_KEYS)


def refusal(
    key: KeyRecord, *, environment: str, scope: str, admins: Callable[[], str] = who_manages
) -> tuple[Outcome, str] | None:
    """Why this key may not make such a call, or None. Pages use it to say why a key is not offered; one that looks at many
    keys gives `admins`, which asks once."""
    return _record_refusal(key, environment, admins) or _scope_refusal(key, scope, admins)


def _record_refusal(
    key: KeyRecord, environment: str, admins: Callable[[], str] = who_manages
) -> tuple[Outcome, str] | None:
    """State and environment of the record."""
    if key.state == KeyState.REVOKED:
        return (
            Outcome.POLICY_STATE,
            f"{key.name} is revoked for good, so it lets nothing out. Start again with another key; {admins()} can make one.",
        )
    if key.state not in USABLE_STATES:
        return (
            Outcome.POLICY_STATE,
            f"{key.name} is {KeyState(key.state).label.lower()}, so it lets nothing out. {admins()} can change that.",
        )
    if key.expires_at and key.is_expired:
        return (
            Outcome.POLICY_STATE,
            f"{key.name} expired on {key.expires_at:%d %b %Y}. {admins()} can renew it.",
        )
    if key.environment != environment:
        return (
            Outcome.POLICY_ENVIRONMENT,
            f"{key.name} belongs to {key.environment}, and this is {environment} work. Choose a key of {environment}.",
        )
    if (key.environment == Realm.SANDBOX) != (key.account.realm == Realm.SANDBOX):
        return (
            Outcome.POLICY_ENVIRONMENT,
            f"{key.name} is a {key.environment} key on the {key.account.realm} account {key.account.name}. "
            f"{admins()} can move it to another account.",
        )
    return None


def _place_refusal(key: KeyRecord) -> tuple[Outcome, str] | None:
    """Whether this process may use the record at all: its environment, and the host that it would call."""
    if key.environment not in settings.ENVIRONMENTS:
        return (
            Outcome.POLICY_ENVIRONMENT,
            f"This worker serves {', '.join(settings.ENVIRONMENTS)} and not {key.environment}. "
            "Set ENVIRONMENTS, or start a worker that serves it.",
        )
    if key.environment == Realm.SANDBOX and settings.ICYPEAS_IS_REAL:
        return (
            Outcome.POLICY_ENVIRONMENT,
            f"{key.name} is a sandbox key and ICYPEAS_BASE_URL is the real Icypeas: sandbox secrets never go there.",
        )
    return None


def _scope_refusal(
    key: KeyRecord, scope: str, admins: Callable[[], str] = who_manages
) -> tuple[Outcome, str] | None:
    if scope == ACCOUNT_READ or scope in key.scopes:
        return None
    return Outcome.POLICY_SCOPE, f"{key.name} does not have the scope {scope}. {admins()} can grant it."


def _refusal_here(key: KeyRecord, errand: Errand) -> tuple[Outcome, str] | None:
    """The first reason, in the gate's order, why this process lets the errand not out; a probe needs no leave of the record."""
    if errand.is_probe:
        return _place_refusal(key)
    return (
        _record_refusal(key, errand.environment)
        or _place_refusal(key)
        or _scope_refusal(key, errand.scope)
        or _cap_refusal(key, errand)
    )


def admit(errand: Errand, *, max_wait_s: float) -> Permit:
    """Let one call out: waits for the limiter up to `max_wait_s`, then returns the permit.

    Raises `GateRefusedError` (recorded as a call with a policy outcome) and `limiter.BusyError` (nothing recorded), the
    latter also for a paid call while the account's breaker is open.
    Not inside a transaction.
    """
    key = KeyRecord.objects.select_related("account").get(id=errand.key_id)
    refused = _refusal_here(key, errand)
    if refused:
        raise _refuse(key, errand, *refused)
    try:
        resolved = resolve(key.secret_ref)
        api_secret = resolve_api_secret(key.account)
    except SecretError as error:
        raise _refuse(key, errand, Outcome.SECRET_MISSING, str(error)) from None
    wait_s = limiter.take_slot(
        account_id=key.account_id,
        route=errand.route,
        interval_s=errand.interval_s,
        max_wait_s=max_wait_s,
        catch_up=errand.catch_up,
        for_person=errand.is_for_person,
    )
    if errand.is_paid:
        # After the slot: a try of the breaker that then has to wait would be lost for everybody.
        breaker.pass_through(key.account_id)
    if wait_s > 0:
        time.sleep(wait_s)
    return Permit(errand, key, key.account, resolved, api_secret)


def resolve_api_secret(account: Account) -> ResolvedSecret | None:
    """The secret that signs the account's requests, None where they are not signed. Raises `SecretError`, which names it."""
    if not account.signs_requests:
        return None
    try:
        return resolve(account.api_secret_ref)
    except SecretError as error:
        raise SecretError(f"{NO_API_SECRET}{account.name}, {account.api_secret_ref}: {error}") from None


def _cap_refusal(key: KeyRecord, errand: Errand) -> tuple[Outcome, str] | None:
    """Paid calls stop when a budget or a cap was lowered below what is set aside already: by the jobs of this month or day,
    or by the errand's own job when it last reserved (decision 0011)."""
    if errand.scope == ACCOUNT_READ:
        return None
    own = _OwnReservations(key, errand.job)
    for budget in budgets.for_key(key):
        standing = budgets.standing(budget)
        earlier = own.in_latest_month(budget)
        if max(standing.committed, earlier) > standing.credits:
            return (
                Outcome.POLICY_BUDGET,
                f"{standing.name[0].upper()}{standing.name[1:]} is {ledger.words(standing.credits)} credits and "
                f"{_counted(standing.committed, earlier, '')}. {who_can(Right.SET_BUDGETS)} can raise it.",
            )
    if key.daily_cap is None:
        return None
    committed, earlier = ledger.committed_today(key), own.on_latest_day()
    if max(committed, earlier) <= key.daily_cap:
        return None
    return (
        Outcome.POLICY_BUDGET,
        f"The daily cap of {key.name} is {ledger.words(key.daily_cap)} credits and {_counted(committed, earlier, ' today')}. "
        f"{who_can(Right.MANAGE_KEYS)} can raise it.",
    )


def _counted(committed: Decimal, earlier: Decimal, when: str) -> str:
    """Which of the two is too much, as words."""
    if earlier > committed:
        return f"{ledger.words(earlier)} are reserved or charged by this job"
    return f"{ledger.words(committed)} are reserved or charged{when}"


class _OwnReservations:
    """What one job counted with on the latest day, or in the latest month, in which it reserved: reserved from then on, less
    released. That fitted the cap or budget of then, so more than what stands now means that it was lowered. What the job
    reserved on days before was held against the caps of those, and does not count: all of it may be above any one day's."""

    def __init__(self, key: KeyRecord, job: int | None) -> None:
        self._key = key
        self._entries = LedgerEntry.objects.filter(key=key, job=job or 0)
        self._reserved = self._entries.filter(kind=EntryKind.RESERVED).order_by("id")

    @cached_property
    def _last_at(self) -> datetime | None:
        last = self._reserved.last()
        return last.at if last else None

    def on_latest_day(self) -> Decimal:
        """Credits; 0 when that is today, or none: then they are among those of today."""
        if self._last_at is None:
            return Decimal(0)
        zone = ZoneInfo(self._key.time_zone)
        return self._since(_midnight(self._last_at, zone), _midnight(db_now(), zone))

    def in_latest_month(self, budget: Budget) -> Decimal:
        """Credits; 0 when that is this month, or none. A budget that was set before the job reserved lowered nothing: whoever
        planned a smaller one for the next month did not mean a job of this one."""
        if self._last_at is None or budget.set_at <= self._last_at:
            return Decimal(0)
        zone = budgets.zone_of(budget)
        months = [_midnight(at, zone).replace(day=1) for at in (self._last_at, db_now())]
        return self._since(*months)

    def _since(self, begin: datetime, present: datetime) -> Decimal:
        return Decimal(0) if begin >= present else counted(self._entries, begin).committed


def _midnight(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)


def note_refusal(errand: Errand, outcome: Outcome, message: str) -> None:
    """Write down what `refusal`, a cap or a budget stopped before it came here. Not inside the transaction that it ended."""
    key = KeyRecord.objects.get(id=errand.key_id)
    _refuse(key, errand, outcome, message, worker="")


def _refuse(
    key: KeyRecord, errand: Errand, outcome: Outcome, message: str, *, worker: str | None = None
) -> GateRefusedError:
    """`worker` is this one unless told."""
    _write(
        key,
        errand,
        outcome=outcome,
        message=message,
        fingerprint="",
        status=None,
        duration_ms=0,
        worker=settings.WORKER_NAME if worker is None else worker,
    )
    return GateRefusedError(outcome, message)


def record(
    permit: Permit, outcome: Outcome, *, status: int | None = None, message: str = "", duration_ms: int = 0
) -> None:
    """Write the call down, whether the key is let in, and that it was used (at most once a minute unless the job or outcome
    changed)."""
    errand = permit.errand
    _write(
        permit.key,
        errand,
        outcome=outcome,
        message=message,
        fingerprint=permit.fingerprint,
        status=status,
        duration_ms=duration_ms,
        worker=settings.WORKER_NAME,
    )
    if errand.is_paid:
        breaker.learn(permit.account.id, outcome)
    now = db_now()
    if outcome in LET_IN:
        same = KeyRecord.objects.filter(id=permit.key.id)
        same.exclude(let_in_outcome=outcome).update(let_in_outcome=outcome, let_in_at=now)
    if errand.scope == ACCOUNT_READ and errand.job is None:
        # A test, and a balance that the app reads for itself, are no use of the key.
        return
    KeyRecord.objects.filter(
        Q(last_used_at__isnull=True)
        | Q(last_used_at__lt=now - timedelta(minutes=1))
        | ~Q(last_used_job=errand.job)
        | ~Q(last_used_outcome=outcome)
        | Q(last_used_rows__lt=errand.rows),
        id=permit.key.id,
    ).update(
        last_used_at=now,
        last_used_operation=errand.operation,
        last_used_job=errand.job,
        last_used_by=errand.person,
        last_used_worker=settings.WORKER_NAME,
        last_used_outcome=outcome,
        last_used_rows=errand.rows,
    )


def _write(
    key: KeyRecord,
    errand: Errand,
    *,
    outcome: Outcome,
    message: str,
    fingerprint: str,
    status: int | None,
    duration_ms: int,
    worker: str,
) -> None:
    calls.write(
        Call(
            account_id=key.account_id,
            key=key,
            fingerprint=fingerprint,
            route=errand.route,
            scope=errand.scope,
            job=errand.job,
            job_text=errand.job_text[:200],
            person=errand.person[:120],
            worker=worker,
            at=db_now(),
            duration_ms=duration_ms,
            outcome=outcome,
            status=status,
            message=message[:300],
            rows=errand.rows,
            is_probe=errand.is_probe,
        )
    )

"""Does a key work? With free calls alone, step by step; each step is reached when the one before it was well."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from enrichment.providers.base import (
    BadInputError,
    KeyRejectedError,
    NotSentError,
    ProviderError,
    RateLimitedError,
    ReadFailedError,
    UncertainOutcomeError,
    UnpaidError,
)
from enrichment.services import consequences, reads
from keys import findings, gate, ledger, limiter, presence, secrets, services
from keys.choices import USABLE_STATES, Outcome
from keys.clock import db_now
from keys.models import KeyRecord, KeyTest
from keys.scopes import SCOPES
from people import audit

RESOLVES, SHAPE, ADDRESS = "Reference resolves", "Shape is plausible", "Address reachable"
ACCEPTED, BALANCE, SCOPES_KEPT = "Key accepted", "Subscription and balance", "Scopes as declared"
STEPS = (RESOLVES, SHAPE, ADDRESS, ACCEPTED, BALANCE, SCOPES_KEPT)
PATIENCE = timedelta(seconds=90)  # a test that no worker made within this time is over


@dataclass(frozen=True)
class Check:
    """One line of the test: `state` is ok, bad, warn or not reached."""

    state: str
    value: str
    note: str = ""


NOT_REACHED = Check("not reached", "not reached")


class TestTooSoonError(Exception):
    """The key was tested a moment ago; `wait_s` is how long to wait."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"This key was tested less than a minute ago. Try again in {wait_s:.0f} s.")
        self.wait_s = wait_s


def ask(actor: audit.Actor, key: KeyRecord) -> KeyTest:
    """Note that a person wants a test; one that is under way is that one. At most one a minute and key: `TestTooSoonError`."""
    assert actor.user is not None
    with transaction.atomic():
        KeyRecord.objects.select_for_update().get(id=key.id)
        last = KeyTest.objects.filter(key=key).order_by("-id").first()
        now = db_now()
        if last and last.done_at is None and last.asked_at > now - PATIENCE:
            return last
        age_s = (now - last.asked_at).total_seconds() if last else services.PROBE_EVERY_S
        if age_s < services.PROBE_EVERY_S:
            raise TestTooSoonError(services.PROBE_EVERY_S - age_s)
        test = KeyTest.objects.create(key=key, asked_by=actor.user, asked_at=now)
        audit.record(actor, "key.tested", key)
    return test


def run(test_id: int) -> None:
    """Make the test, in a worker. One that is made already, that another worker makes, or that is too old, stays as it is."""
    test = KeyTest.objects.select_related("key__account").filter(id=test_id, done_at=None, worker="").first()
    if test is None or test.asked_at < db_now() - PATIENCE:
        return
    if test.key.environment in presence.left_to_others():
        return
    # A message may come twice: the second worker would find the minute used up, and write that down as the result.
    if not KeyTest.objects.filter(id=test.id, worker="").update(worker=settings.WORKER_NAME):
        return
    found = run_checks(test.key)
    checks = [{"name": name, **asdict(found.get(name, NOT_REACHED))} for name in STEPS]
    findings.refresh([test.key_id])  # before the page that waits for the test is shown
    KeyTest.objects.filter(id=test.id, done_at=None).update(checks=checks, done_at=db_now())


def due_tests() -> list[int]:
    """Tests that no worker took: their message was lost, or came to a worker that leaves them to another."""
    now = db_now()
    ages = (now - PATIENCE, now - timedelta(seconds=settings.SWEEP_S))
    waiting = KeyTest.objects.filter(done_at=None, worker="", asked_at__range=ages)
    return list(waiting.order_by("id").values_list("id", flat=True))


def run_checks(key: KeyRecord) -> dict[str, Check]:
    """Checks by their name, in the order of `STEPS`; the ones after a bad one are missing."""
    checks: dict[str, Check] = {}
    if key.environment not in settings.ENVIRONMENTS:
        note = (
            f"{settings.WORKER_NAME} serves {', '.join(settings.ENVIRONMENTS)} and not {key.environment}, so it does not even look. "
            f"Start a worker with {key.environment} in its ENVIRONMENTS."
        )
        checks[RESOLVES] = Check("bad", key.secret_ref, note)
        return checks
    reference = key.secret_ref
    try:
        resolved = secrets.resolve(reference)
        reference = key.account.api_secret_ref
        gate.resolve_api_secret(key.account)
    except secrets.SecretError as error:
        checks[RESOLVES] = Check("bad", reference, str(error))
        return checks
    checks[RESOLVES] = Check("ok", key.secret_ref, _previous_fingerprint(key, resolved.fingerprint))
    checks[SHAPE] = _shape(key, resolved)
    if checks[SHAPE].state == "bad":
        return checks
    try:
        limiter.take_slot(
            account_id=key.account_id, route="probe", interval_s=services.PROBE_EVERY_S, max_wait_s=0
        )
    except limiter.BusyError as error:
        note = f"The account {key.account.name} was tested less than a minute ago. Try again in {error.wait_s:.0f} s."
        # Nothing is known to be wrong with the address: it was not asked.
        checks[ADDRESS] = Check("warn", settings.ICYPEAS_BASE_URL, note)
        return checks
    # What a record is told that is not in use, or that holds another account's secret, says nothing of its own account.
    tells = key.state in USABLE_STATES and not presence.strangers(key, [resolved.fingerprint])
    asked_at = db_now()
    try:
        balance = reads.read_balance(key, is_probe=True)
    except gate.GateRefusedError as error:
        checks[ADDRESS] = Check("bad", settings.ICYPEAS_BASE_URL, error.message)
    except limiter.BusyError as error:
        checks[ADDRESS] = Check(
            "bad", settings.ICYPEAS_BASE_URL, f"Its limit is used up. Try again in {error.wait_s:.0f} s."
        )
    except ProviderError as error:
        if tells:
            services.store_balance_error(key.account, error.message)
        checks.update(_provider_checks(key, error))
    else:
        if tells:
            services.store_balance(key.account, credits=balance.credits, asked_at=asked_at)
        checks[ADDRESS] = _address_ok()
        checks[ACCEPTED] = Check("ok", "yes")
        checks[BALANCE] = Check(
            "ok" if balance.credits > 0 else "warn",
            f"{ledger.words(balance.credits)} credits",
            f"Plan {balance.plan}, {balance.status}." if balance.plan else "",
        )
        checks[SCOPES_KEPT] = _scopes(key)
    return checks


def _shape(key: KeyRecord, resolved: secrets.ResolvedSecret) -> Check:
    """What can be said of a secret without showing it; one that no header carries is never sent."""
    shown, notes = f"fingerprint {resolved.fingerprint}", list(resolved.warnings)
    if secrets.cannot_be_sent(resolved.secret.reveal()):
        notes.append("Nothing was sent: place the whole key anew.")
        return Check("bad", shown, " ".join(notes))
    notes += [warning for warning in presence.standing(key.secret_ref).warnings if warning not in notes]
    if others := presence.strangers(key, [resolved.fingerprint]):
        notes.append(f"It is the secret of {others[0].name}, which belongs to another account.")
    if presence.is_api_secret(key, [resolved.fingerprint]):
        notes.append("It is the account's API secret, which opens nothing.")
    return Check("warn" if notes else "ok", shown, " ".join(notes))


def _scopes(key: KeyRecord) -> Check:
    """Icypeas' keys have no scopes of their own: whoever holds the secret may do everything. Ours are kept by the gate."""
    value = f"{len(key.scopes)} of {len(SCOPES)} granted here"
    note = "Icypeas itself knows no scopes: this app refuses what is not granted, and the secret alone could do all of it."
    return Check("ok", value, note)


def _previous_fingerprint(key: KeyRecord, current: str) -> str:
    """Whether the previous reference still holds a secret, and the same one."""
    if not key.previous_secret_ref:
        return ""
    try:
        previous = secrets.resolve(key.previous_secret_ref).fingerprint
    except secrets.SecretError:
        return f"{key.previous_secret_ref} holds nothing any more"
    if previous == current:
        return f"the same as at {key.previous_secret_ref}"
    return f"another than at {key.previous_secret_ref} ({previous})"


def _address_ok() -> Check:
    host = urlsplit(settings.ICYPEAS_BASE_URL).hostname or ""
    kind = "Icypeas" if settings.ICYPEAS_IS_REAL else "this machine" if settings.ICYPEAS_IS_LOOPBACK else host
    return Check("ok", settings.ICYPEAS_BASE_URL, f"answered, {kind}")


def _provider_checks(key: KeyRecord, error: ProviderError) -> dict[str, Check]:
    """Which step a failed call ended at, and what to do about it."""
    base = settings.ICYPEAS_BASE_URL
    if isinstance(error, NotSentError):
        note = f"No connection: {error.message.rstrip('.')}. Look at ICYPEAS_BASE_URL, DNS and the firewall; the key was not sent."
        return {ADDRESS: Check("bad", base, note)}
    if isinstance(error, RateLimitedError | ReadFailedError | UncertainOutcomeError):
        note = f"Icypeas did not answer as it should: {error.message.rstrip('.')}. Try again in a minute; this says nothing of the key."
        return {ADDRESS: Check("bad", base, note)}
    if isinstance(error, KeyRejectedError):
        cause = (
            "Icypeas wants the account's user id, or does not know this key"
            if error.needs_user_id
            else "Compare the fingerprint with the worker's; the key may be cut off, replaced, or of another account"
        )
        return {ADDRESS: _address_ok(), ACCEPTED: Check("bad", "refused (401)", f"{cause}.")}
    if isinstance(error, UnpaidError):
        note = "The subscription is unpaid. Pay it at Icypeas; the key itself is known."
        return {
            ADDRESS: _address_ok(),
            ACCEPTED: Check("ok", "yes"),
            BALANCE: Check("bad", "unpaid", note),
        }
    if isinstance(error, BadInputError):
        # Whoever reads what was asked has let the key in. All that we tell is the owner's address.
        wrong = f"{key.account.email} is not it" if key.account.email else "none is set"
        note = (
            f"Icypeas does not take this question: {error.message.rstrip('.')}. It may want the address of the account's owner, and {wrong}. "
            f'Whoever runs this installation can set it: manage.py account set "{key.account.name}" --email ADDRESS --reason …'
        )
        return {
            ADDRESS: _address_ok(),
            ACCEPTED: Check("ok", "yes"),
            BALANCE: Check("bad", "not told", note),
        }
    if 300 <= (error.status or 0) < 400 or error.status in (404, 405):
        note = f"HTTP {error.status}: it may not be Icypeas, or a proxy stands before it. Look at ICYPEAS_BASE_URL; this says nothing of the key."
        return {ADDRESS: Check("bad", base, note)}
    outcome = Outcome(consequences.outcome_of(error)).label
    return {ADDRESS: _address_ok(), ACCEPTED: Check("bad", outcome, error.message)}

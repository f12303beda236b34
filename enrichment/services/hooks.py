"""Webhooks: written down by the web process at once, checked by a worker, and heeded as hints alone.

A hint moves the next look forward; what it claims is read from Icypeas. So a forged, repeated, late or early one changes
nothing but the moment of a free read, and a lost one is made up by the looks that come anyway.
"""

from __future__ import annotations

import enum
import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import Q

from enrichment.choices import BatchState, HookState, JobState, Mode
from enrichment.models import Batch, BatchItem, EnrichmentJob, HookCall
from enrichment.providers.icypeas.auth import is_signed
from enrichment.services import send_path
from keys.clock import db_now
from keys.models import Account
from keys.secrets import SecretError, resolve

log = logging.getLogger(__name__)

DRIFT = timedelta(minutes=5)
EARLY = timedelta(seconds=60)  # a call may overtake our own note of what was submitted
KEPT = timedelta(days=7)
MOST_WAITING = 5_000
MOST_BYTES = 1_000_000
MOST_IDS = 6_000
_MOST_ID = 128
AT_ONCE = 500


class HookError(ValueError):
    """A call that is no webhook; the text says why."""


class Received(enum.Enum):
    """What became of a call: the first that waits rings for a worker, which takes those behind it, too."""

    RINGS = "rings"
    WAITS = "waits"
    DROPPED = "dropped"  # so many wait already


def receive(account: Account, body: bytes) -> Received:
    """Write a call down. Raises `HookError`."""
    envelope = _object(body)
    stamp, signature = envelope.get("timestamp"), envelope.get("signature")
    if not (_is_word(stamp, 40) and _is_word(signature, 64)):
        raise HookError("A webhook has a signature and a timestamp.")
    if not _is_recent(stamp):
        raise HookError("The timestamp is not of these minutes.")
    waiting = HookCall.objects.filter(account=account, state=HookState.WAITING).count()
    if waiting >= MOST_WAITING:
        return Received.DROPPED
    data = envelope.get("data")
    ids = _ids(data if isinstance(data, dict) else {})
    call = HookCall(
        account=account,
        received_at=db_now(),
        stamp=stamp,
        signature=signature,
        digest=hashlib.sha256(body).hexdigest()[:32],
        ids=ids,
    )
    HookCall.objects.bulk_create([call], ignore_conflicts=True)
    return Received.WAITS if waiting else Received.RINGS


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise HookError("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise HookError("The body is no JSON object.")
    return value


def _is_word(value: object, most: int) -> TypeGuard[str]:
    """Whether a value is a text that can be stored and compared as it is."""
    return isinstance(value, str) and 0 < len(value) <= most and value.isprintable()


def _is_recent(stamp: str) -> bool:
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return False
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return abs(db_now() - moment) <= DRIFT


def _ids(data: Mapping[str, Any]) -> list[str]:
    """What the call is about: the file, or one search and its external id."""
    user_data = data.get("userData")
    external = user_data.get("externalId") if isinstance(user_data, dict) else None
    found = (data.get("file"), data.get("_id"), external)
    return [
        value
        for value in found
        if isinstance(value, str) and 0 < len(value) <= _MOST_ID and value.isprintable()
    ]


def waiting_accounts() -> list[int]:
    """Accounts with calls that nobody has checked yet, or that came early and may be understood by now."""
    HookCall.objects.filter(state=HookState.EARLY).update(state=HookState.WAITING)
    waiting = HookCall.objects.filter(state=HookState.WAITING)
    return list(waiting.order_by().values_list("account_id", flat=True).distinct())


def heed(account_id: int) -> list[tuple[int, bool]]:
    """Check the waiting calls of an account, in a worker: what they name is looked at now. Jobs to wake, and whether a
    person waits for each."""
    account = Account.objects.filter(id=account_id).first()
    waiting = HookCall.objects.filter(account_id=account_id, state=HookState.WAITING).order_by("id")
    if account is None or not waiting.exists():
        return []
    try:
        secret = resolve(account.api_secret_ref).secret.reveal()
    except SecretError as error:
        log.warning("webhooks of %s wait: %s", account.name, error)
        return []
    path = urlsplit(send_path.hook_url(account)).path
    jobs: set[tuple[int, bool]] = set()
    # Until none waits: those that came meanwhile rang for nobody.
    while calls := list(waiting[:AT_ONCE]):
        judged: dict[HookState, list[int]] = {}
        for call in calls:
            state, named = _judge(
                call, is_signed(secret, path=path, stamp=call.stamp, signature=call.signature)
            )
            jobs |= named
            judged.setdefault(state, []).append(call.id)
        for state, ids in judged.items():
            count = HookCall.objects.filter(id__in=ids, state=HookState.WAITING).update(state=state)
            if count and state == HookState.FORGED:
                log.warning("%s webhooks of %s have a wrong signature", count, account.name)
    return sorted(jobs)


def _judge(call: HookCall, is_honest: bool) -> tuple[HookState, set[tuple[int, bool]]]:
    """What a call is, and the jobs that it names, which are looked at now."""
    if not is_honest:
        return HookState.FORGED, set()
    named = _look_now(call.account_id, call.ids)
    if named:
        return HookState.HEEDED, named
    is_early = call.received_at > db_now() - EARLY
    return (HookState.EARLY if is_early else HookState.UNKNOWN), named


def _look_now(account_id: int, ids: list[str]) -> set[tuple[int, bool]]:
    """The batches that these ids name are due now; their jobs, and whether a person waits for each."""
    items = BatchItem.objects.filter(external_id__in=ids, batch__account_id=account_id).values("batch_id")
    named = Batch.objects.filter(
        Q(provider_ref__in=ids) | Q(id__in=items, mode=Mode.SINGLE),
        account_id=account_id,
        state__in=(BatchState.SENT, BatchState.DOUBT),
    )
    found = list(named.values_list("id", "job_id", "mode"))
    now = db_now()
    Batch.objects.filter(id__in=[batch for batch, _, _ in found], next_at__gt=now).update(next_at=now)
    EnrichmentJob.objects.filter(id__in={job for _, job, _ in found}).exclude(
        state__in=(JobState.COMPLETED, JobState.CANCELLED)
    ).update(next_due_at=now)
    return {(job, mode == Mode.SINGLE) for _, job, mode in found}


def forget() -> int:
    """Drop old calls; how many."""
    return HookCall.objects.filter(received_at__lt=db_now() - KEPT).delete()[0]


def is_in_use(account: Account) -> bool:
    """Whether Icypeas is told our address with each submit."""
    return bool(settings.PUBLIC_URL and send_path.hook_url(account))

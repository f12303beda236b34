"""The chain over the audit log: each entry gets a seal that holds the seal before it, so that a change shows.

Entries are written in the transaction of what they tell; sealing them there would make all such transactions wait for each
other. So the sweep seals what is new, seconds later, into a table of its own that is only ever added to. On PostgreSQL
triggers refuse changes of both tables to the application's own role.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.db import connection, transaction
from django.utils import timezone

from people.models import AuditEntry, AuditSeal

log = logging.getLogger(__name__)

FIRST = "0" * 64
SEALING = 0x5EA1  # the advisory lock of whoever seals
AT_ONCE = 1_000
UNSEALED = "has no seal"
GRACE = timedelta(minutes=2)  # an entry that is older and has no seal is a fault of the chain


def digest(entry: AuditEntry, before: str) -> str:
    """The seal of an entry: 64 hex of SHA-256 over the seal before it and everything that the entry says."""
    said = [
        before,
        entry.id,
        entry.at.isoformat(),
        entry.actor_id,
        entry.via,
        entry.action,
        entry.object_type,
        entry.object_id,
        entry.object_text,
        entry.reason,
        entry.detail,
    ]
    text = json.dumps(said, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def seal_new() -> int:
    """Seal the entries that have none, oldest first; how many. Two that do it at once do it one after the other.

    The new head goes to the log of the process, which lies outside the database: there a cut-off end shows.
    """
    with transaction.atomic():
        _wait_for_others()
        last = AuditSeal.objects.order_by("-id").first()
        before = last.digest if last else FIRST
        seals = []
        for entry in AuditEntry.objects.filter(seal=None).order_by("id")[:AT_ONCE]:
            before = digest(entry, before)
            seals.append(AuditSeal(entry=entry, digest=before))
        AuditSeal.objects.bulk_create(seals)
    if seals:
        log.info("audit log: %d sealed, up to entry %d, head %s", len(seals), seals[-1].entry_id, before)
    return len(seals)


def _wait_for_others() -> None:
    """Until nobody else seals, and then until the end of the transaction. A lock of the last seal would not do: who waited
    for it goes on from that one, though another came after it. SQLite's writers wait for each other anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SEALING])


@dataclass(frozen=True)
class Fault:
    """Where the chain does not hold."""

    entry: int | None
    text: str


@dataclass(frozen=True)
class Verdict:
    """What became of a check: how many seals hold, the last one, how many entries wait for theirs, and the faults."""

    seals: int
    head: str
    waiting: int
    faults: list[Fault]


def verify() -> Verdict:
    """Walk the whole chain. Keep `head` and `seals` somewhere else: what was cut off at the end shows only against them."""
    faults: list[Fault] = []
    before, count = FIRST, 0
    for seal in _seals():
        count += 1
        if digest(seal.entry, before) != seal.digest:
            faults.append(Fault(seal.entry_id, "was changed, or an entry before it was removed"))
        before = seal.digest
    unsealed = AuditEntry.objects.filter(seal=None)
    late = unsealed.filter(at__lt=timezone.now() - GRACE)
    faults += [
        Fault(entry_id, UNSEALED) for entry_id in late.order_by("id").values_list("id", flat=True)[:20]
    ]
    return Verdict(count, before, unsealed.count(), faults)


def noted() -> str:
    """The chain as it stands, `COUNT:HEAD`: what to keep somewhere else."""
    last = AuditSeal.objects.order_by("-id").first()
    if last is None:
        return f"0:{FIRST}"
    return f"{AuditSeal.objects.filter(id__lte=last.id).count()}:{last.digest}"


def holds(noted: str) -> bool:
    """Whether the chain still holds what an earlier check noted as `COUNT:HEAD`, or a head that stands in a log."""
    count, separator, head = noted.partition(":")
    if not separator:
        return noted == FIRST or AuditSeal.objects.filter(digest=noted).exists()
    if not count.isdecimal():
        return False
    if count == "0":
        return head == FIRST
    place = AuditSeal.objects.order_by("id").values_list("digest", flat=True)[int(count) - 1 : int(count)]
    return list(place) == [head]


def _seals() -> Iterator[AuditSeal]:
    return AuditSeal.objects.select_related("entry").order_by("id").iterator(chunk_size=2_000)

"""Which worker can read which secret, and which one it holds: reported by every worker, compared by pages.

A reference in the environment cannot change in a living process, and files and stores may differ from host to host. So
each worker says for itself what it finds; the web process never reads a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet

from keys.choices import KeyState
from keys.clock import db_now
from keys.models import Account, KeyRecord, Presence, Worker
from keys.secrets import SecretError, resolve

REPORT_EVERY_S = 30.0
GONE_AFTER = timedelta(seconds=4 * REPORT_EVERY_S)  # a worker that was silent so long has ended
KEPT = timedelta(days=2)


def report() -> int:
    """What this worker finds at every reference of the inventory; how many references. Runs in a worker only."""
    now = db_now()
    references = _references()
    known = {row.reference: row for row in Presence.objects.filter(worker=settings.WORKER_NAME)}
    for reference in references:
        fingerprint, problem, warnings = _look(reference)
        before = known.pop(reference, None)
        is_new = before is None or (before.fingerprint, before.problem) != (fingerprint, problem)
        Presence.objects.update_or_create(
            worker=settings.WORKER_NAME,
            reference=reference,
            defaults={
                "fingerprint": fingerprint,
                "problem": problem,
                "warnings": warnings,
                "release": settings.RELEASE,
                "seen_at": now,
                **({"changed_at": now} if is_new else {}),
            },
            create_defaults={
                "fingerprint": fingerprint,
                "problem": problem,
                "warnings": warnings,
                "release": settings.RELEASE,
                "seen_at": now,
                "changed_at": now,
            },
        )
    Presence.objects.filter(id__in=[row.id for row in known.values()]).delete()
    Presence.objects.filter(seen_at__lt=now - KEPT).delete()
    return len(references)


def _references() -> list[str]:
    """Every reference that some record or account names."""
    records = KeyRecord.objects.exclude(state=KeyState.REVOKED).values_list(
        "secret_ref", "previous_secret_ref"
    )
    accounts = Account.objects.values_list("api_secret_ref", flat=True)
    return sorted(
        {reference for pair in records for reference in pair if reference} | {r for r in accounts if r}
    )


def _look(reference: str) -> tuple[str, str, list[str]]:
    """Fingerprint, problem, and what was taken off the secret; of the first two one is empty."""
    try:
        resolved = resolve(reference)
    except SecretError as error:
        return "", str(error)[:300], []
    return resolved.fingerprint, "", list(resolved.warnings)


@dataclass(frozen=True)
class Sight:
    """What one living worker finds at a reference."""

    worker: str
    release: str
    fingerprint: str
    problem: str
    warnings: Sequence[str]
    changed_at: datetime


@dataclass(frozen=True)
class Standing:
    """What the living workers find at a reference. `workers` is how many live, also those that have not reported yet."""

    workers: int
    sights: Sequence[Sight]

    @property
    def seen(self) -> list[Sight]:
        return [sight for sight in self.sights if sight.fingerprint]

    @property
    def missing(self) -> list[Sight]:
        return [sight for sight in self.sights if not sight.fingerprint]

    @property
    def fingerprints(self) -> list[str]:
        return sorted({sight.fingerprint for sight in self.seen})

    @property
    def warnings(self) -> list[str]:
        """What was taken off the secret, each sentence once."""
        return list(dict.fromkeys(warning for sight in self.sights for warning in sight.warnings))

    @property
    def tone(self) -> str:
        if not self.workers or not self.sights:
            return "quiet"
        return "bad" if self.missing or len(self.fingerprints) > 1 else "ok"

    @property
    def text(self) -> str:
        """`seen by 4 of 4 workers, same fingerprint`, or what differs."""
        if not self.workers:
            return "no worker is running"
        if not self.sights:
            return "not reported yet"
        said = f"seen by {len(self.seen)} of {self.workers} worker{'' if self.workers == 1 else 's'}"
        if len(self.fingerprints) > 1:
            return f"{said}, {len(self.fingerprints)} different fingerprints"
        return f"{said}, same fingerprint" if len(self.seen) > 1 else said

    @property
    def is_uniform(self) -> bool:
        return not self.missing and len(self.fingerprints) == 1


def living_workers() -> QuerySet[Worker]:
    return Worker.objects.filter(seen_at__gte=db_now() - GONE_AFTER)


def standing(reference: str) -> Standing:
    """What the living workers find at a reference."""
    names = list(living_workers().values_list("name", flat=True))
    rows = Presence.objects.filter(reference=reference, worker__in=names).order_by("worker")
    sights = [
        Sight(row.worker, row.release, row.fingerprint, row.problem, row.warnings, row.changed_at)
        for row in rows
    ]
    return Standing(len(names), sights)


def with_sight(keys: QuerySet[KeyRecord]) -> QuerySet[Any]:
    """Annotate what the living workers find: `is_secret_missing` (by some worker), `do_secrets_differ`, and
    `is_shared_across` (a record of another environment holds the same secret)."""
    living = Presence.objects.filter(worker__in=living_workers().values("name"))
    here = living.filter(reference=OuterRef("secret_ref"))
    another = living.filter(reference=OuterRef("reference")).exclude(
        fingerprint__in=("", OuterRef("fingerprint"))
    )
    mine = Presence.objects.filter(reference=OuterRef(OuterRef(OuterRef("secret_ref")))).exclude(
        fingerprint=""
    )
    same = Presence.objects.filter(
        reference=OuterRef("secret_ref"), fingerprint__in=mine.values("fingerprint")
    )
    elsewhere = KeyRecord.objects.exclude(state=KeyState.REVOKED).exclude(environment=OuterRef("environment"))
    return keys.annotate(
        is_secret_missing=Exists(here.exclude(problem="")),
        do_secrets_differ=Exists(here.exclude(fingerprint="").filter(Exists(another))),
        is_shared_across=Exists(elsewhere.filter(Exists(same))),
    )


def sharing(key: KeyRecord) -> list[KeyRecord]:
    """Other records, not revoked, whose reference holds the same secret as this one's, by what workers found last."""
    mine = set(
        Presence.objects.filter(reference=key.secret_ref)
        .exclude(fingerprint="")
        .values_list("fingerprint", flat=True)
    )
    if not mine:
        return []
    references = Presence.objects.filter(fingerprint__in=mine).values("reference")
    others = KeyRecord.objects.filter(secret_ref__in=references).exclude(id=key.id)
    return list(others.exclude(state=KeyState.REVOKED).order_by("name"))

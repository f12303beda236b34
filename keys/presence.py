"""Which worker can read which secret, and which one it holds: reported by every worker, compared by pages.

A reference in the environment cannot change in a living process, and files and stores may differ from host to host. So
each worker says for itself what it finds; the web process never reads a secret.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from keys.choices import KeyState
from keys.clock import db_now
from keys.models import Account, KeyRecord, Presence, Worker
from keys.secrets import SecretError, resolve

REPORT_EVERY_S = 30.0
GONE_AFTER = timedelta(seconds=4 * REPORT_EVERY_S)  # a worker that was silent so long has ended
# What an older silence leaves behind is shown, but accuses nobody: it may be of a worker that was killed and replaced.
SURE_WITHIN = timedelta(seconds=2 * REPORT_EVERY_S)
BEAT_S = 5.0  # a look at a store may take as long; meanwhile the worker says that it lives
# A sight that was not renewed for so long is none, though its worker lives. Longer than a round of a hundred stores that
# let every look time out.
HOLDS_FOR = timedelta(minutes=10)
KEPT = timedelta(days=2)


def report() -> int:
    """What this worker finds at every reference that concerns it; how many references. Runs in a worker only."""
    began, started = db_now(), time.monotonic()
    me = Worker.objects.filter(name=settings.WORKER_NAME)
    me.update(environments=list(settings.ENVIRONMENTS), reports=True)
    references = _references(settings.ENVIRONMENTS)
    known = {row.reference: row for row in Presence.objects.filter(worker=settings.WORKER_NAME)}
    beat_s = 0.0
    for reference in references:
        seen = _look(reference)
        took_s = time.monotonic() - started
        now = began + timedelta(seconds=took_s)
        if took_s - beat_s > BEAT_S:
            me.update(seen_at=now)
            beat_s = took_s
        before = known.pop(reference, None) or _seen_by_others(reference, seen.fingerprint)
        Presence.objects.update_or_create(
            worker=settings.WORKER_NAME,
            reference=reference,
            defaults={
                "fingerprint": seen.fingerprint,
                "length": seen.length or (before.length if before else 0),
                "problem": seen.problem,
                "warnings": seen.warnings,
                "release": settings.RELEASE,
                "seen_at": now,
                **_change(before, seen, now),
            },
        )
    Presence.objects.filter(id__in=[row.id for row in known.values()]).delete()
    Presence.objects.filter(seen_at__lt=began - KEPT).delete()
    return len(references)


def _seen_by_others(reference: str, fingerprint: str) -> Presence | None:
    """What stood there before a worker that is new: a restarted one mostly has another name. What a living worker sees as
    well is no change; else the last that anybody saw counts."""
    rows = Presence.objects.filter(reference=reference).exclude(worker=settings.WORKER_NAME)
    same = rows.filter(worker__in=living_workers().values("name"), fingerprint=fingerprint)
    return (same.order_by("changed_at").first() if fingerprint else None) or rows.order_by(
        "-seen_at", "-id"
    ).first()


def _change(before: Presence | None, seen: _Look, now: datetime) -> dict[str, Any]:
    """When what is seen became what it is, and what it was before."""
    if before is not None and before.fingerprint == seen.fingerprint:
        is_new = before.problem != seen.problem
        return {
            "changed_at": now if is_new else before.changed_at,
            "previous_fingerprint": before.previous_fingerprint,
            "shorter_by": before.shorter_by,
        }
    if before is None:
        return {"changed_at": now}
    last = before.fingerprint or before.previous_fingerprint  # through a time without any
    is_another = bool(seen.fingerprint) and bool(last) and seen.fingerprint != last
    return {
        "changed_at": now,
        "previous_fingerprint": last,
        "shorter_by": max(before.length - seen.length, 0) if is_another else 0,
    }


def _references(environments: Sequence[str]) -> list[str]:
    """Every reference that a record of these environments names, or the account of one. Others are not even looked at."""
    records = KeyRecord.objects.exclude(state=KeyState.REVOKED).filter(environment__in=environments)
    pairs = records.values_list("secret_ref", "previous_secret_ref")
    accounts = Account.objects.filter(keys__in=records).values_list("api_secret_ref", flat=True)
    return sorted(
        {reference for pair in pairs for reference in pair if reference} | {r for r in accounts if r}
    )


@dataclass(frozen=True)
class _Look:
    """What one look at a reference found; of fingerprint and problem one is empty."""

    fingerprint: str = ""
    problem: str = ""
    warnings: Sequence[str] = ()
    length: int = 0


def _look(reference: str) -> _Look:
    try:
        resolved = resolve(reference)
    except SecretError as error:
        return _Look(problem=str(error)[:300])
    except Exception as error:
        # One place that breaks must not hide the others, and its words may hold what it read.
        return _Look(problem=f"It could not be looked at ({type(error).__name__}).")
    return _Look(resolved.fingerprint, warnings=list(resolved.warnings), length=resolved.length)


@dataclass(frozen=True)
class Sight:
    """What one living worker finds at a reference."""

    worker: str
    release: str
    fingerprint: str
    problem: str
    warnings: Sequence[str]
    changed_at: datetime
    previous_fingerprint: str = ""
    shorter_by: int = 0


@dataclass(frozen=True)
class Standing:
    """What the living workers find at a reference. `workers` is how many of them serve an environment of it, also those that
    have not reported yet; `others` is how many live and serve none."""

    workers: int
    sights: Sequence[Sight]
    others: int = 0
    environments: Sequence[str] = ()

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
    def unheard(self) -> int:
        """How many workers have not said yet what they find."""
        return max(self.workers - len(self.sights), 0)

    @property
    def shorter_by(self) -> int:
        """By how many characters the secret got shorter when it last changed, the most that a worker says."""
        return max((sight.shorter_by for sight in self.seen), default=0)

    @property
    def warnings(self) -> list[str]:
        """What was taken off the secret or looks odd about it, each sentence once."""
        said = list(dict.fromkeys(warning for sight in self.sights for warning in sight.warnings))
        if self.shorter_by:
            characters = "1 character" if self.shorter_by == 1 else f"{self.shorter_by} characters"
            said.append(f"It is {characters} shorter than the secret that stood here before.")
        return said

    @property
    def tone(self) -> str:
        if not self.workers or not self.sights:
            return "quiet"
        if self.missing or len(self.fingerprints) > 1:
            return "bad"
        return "warn" if self.unheard else "ok"

    @property
    def text(self) -> str:
        """`seen by 4 of 4 workers, same fingerprint`, or what differs."""
        if not self.workers:
            if self.others:
                return f"no running worker serves {' or '.join(self.environments)}"
            return "no worker is running"
        if not self.sights:
            return "not reported yet"
        said = f"seen by {len(self.seen)} of {self.workers} worker{'' if self.workers == 1 else 's'}"
        if len(self.fingerprints) > 1:
            said = f"{said}, {len(self.fingerprints)} different fingerprints"
        elif len(self.seen) > 1:
            said = f"{said}, same fingerprint"
        return f"{said}; {self.unheard} not heard yet" if self.unheard else said

    @property
    def is_uniform(self) -> bool:
        """Whether every worker has said that it finds the same secret."""
        return not self.missing and not self.unheard and len(self.fingerprints) == 1


def living_workers(within: timedelta = GONE_AFTER) -> QuerySet[Worker]:
    """Workers that were heard within that time and did not say that they end. Commands at a terminal are none."""
    return Worker.objects.filter(seen_at__gte=db_now() - within, ended_at__isnull=True, reports=True)


def held_sights() -> QuerySet[Presence]:
    """What workers found lately enough to be believed. To some seconds: no question to the database for its clock."""
    return Presence.objects.filter(seen_at__gte=timezone.now() - HOLDS_FOR)


def left_to_others() -> frozenset[str]:
    """Environments that this process does not serve and another living worker does: their work is left to that one. Messages
    come to any worker, so whoever takes one for such a record touches nothing; the row stays due, and is rung for again."""
    if not set(settings.KEY_ENVIRONMENTS) - set(settings.ENVIRONMENTS):
        return frozenset()
    others = living_workers().exclude(name=settings.WORKER_NAME).values_list("environments", flat=True)
    return frozenset(name for served in others for name in served) - frozenset(settings.ENVIRONMENTS)


def standing(reference: str) -> Standing:
    """What the living workers find at a reference; those that serve no environment of its records do not count."""
    named = KeyRecord.objects.exclude(state=KeyState.REVOKED).filter(
        Q(secret_ref=reference) | Q(previous_secret_ref=reference) | Q(account__api_secret_ref=reference)
    )
    environments = sorted(set(named.values_list("environment", flat=True)))
    living = list(living_workers().values_list("name", "environments"))
    # One that has not said what it serves may serve all.
    names = [
        name for name, served in living if not (served and environments) or set(served) & set(environments)
    ]
    rows = held_sights().filter(reference=reference, worker__in=names).order_by("worker")
    sights = [
        Sight(
            row.worker,
            row.release,
            row.fingerprint,
            row.problem,
            row.warnings,
            row.changed_at,
            row.previous_fingerprint,
            row.shorter_by,
        )
        for row in rows
    ]
    return Standing(len(names), sights, len(living) - len(names), environments)


def unfound_references() -> set[str]:
    """References where living workers looked and none found a secret. What nobody looked at yet is not among them."""
    living = living_workers(SURE_WITHIN).values("name")
    looked = set(held_sights().filter(worker__in=living).values_list("reference", "fingerprint"))
    return {reference for reference, _ in looked} - {
        reference for reference, fingerprint in looked if fingerprint
    }


def with_sight(keys: QuerySet[KeyRecord]) -> QuerySet[Any]:
    """Annotate what the living workers find: `is_secret_missing` (by some worker), `do_secrets_differ`, and
    `is_shared_across` (a record of another environment holds the same secret)."""
    living = held_sights().filter(worker__in=living_workers().values("name"))
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
    """Other records, not revoked, that hold the same secret as this one."""
    return list(_same_secret(key).order_by("name"))


def is_shared_elsewhere(key: KeyRecord) -> bool:
    """Whether a record of another environment holds the same secret."""
    return _same_secret(key).exclude(environment=key.environment).exists()


def _same_secret(key: KeyRecord) -> QuerySet[KeyRecord]:
    """By what workers found last at the references, and by the reference itself before any worker has looked."""
    if not key.secret_ref:
        return KeyRecord.objects.none()
    mine = Presence.objects.filter(reference=key.secret_ref).exclude(fingerprint="").values("fingerprint")
    references = Presence.objects.filter(fingerprint__in=mine).values("reference")
    same = Q(secret_ref=key.secret_ref) | Q(secret_ref__in=references)
    others = KeyRecord.objects.filter(same).exclude(id=key.id)
    return others.exclude(state=KeyState.REVOKED)


def strangers(key: KeyRecord, fingerprints: Sequence[str]) -> list[KeyRecord]:
    """Records of other accounts where workers find a secret with one of these fingerprints: none of theirs opens this one."""
    found = Presence.objects.filter(fingerprint__in=[known for known in fingerprints if known])
    others = KeyRecord.objects.filter(secret_ref__in=found.values("reference"))
    return list(others.exclude(account=key.account_id).exclude(secret_ref=key.secret_ref).order_by("name"))


def is_api_secret(key: KeyRecord, fingerprints: Sequence[str]) -> bool:
    """Whether one of these fingerprints is that of the account's API secret, which signs and opens nothing."""
    reference = key.account.api_secret_ref
    known = [fingerprint for fingerprint in fingerprints if fingerprint]
    return bool(reference) and Presence.objects.filter(reference=reference, fingerprint__in=known).exists()

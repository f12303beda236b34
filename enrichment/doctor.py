"""What is wrong with this installation: each check looks at one thing and says what it found and what to do.

Nothing is changed, nothing is sent to Icypeas, and no secret is read: what workers find at their references stands in the
database (`keys.presence`).
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from celery import current_app
from django.conf import settings
from django.core import checks
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from config.env import WORKER_ENV_FILE
from enrichment.choices import WORKED_ON
from enrichment.models import EnrichmentJob
from keys import presence
from keys.choices import USABLE_STATES
from keys.clock import db_now
from keys.models import Account, KeyRecord
from people import seals
from people.models import AuditEntry
from people.rights import Right
from people.selectors import people_with

OK, WARN, BAD = "ok", "warn", "bad"
SQLITE_NEEDED = (3, 38)
SKEW = timedelta(seconds=5)
ENOUGH_BYTES = 1 << 30
STALE_WAKE = timedelta(minutes=1)


@dataclass(frozen=True)
class Diagnosis:
    """What one check found. `todo` says what to do, "" when nothing is."""

    area: str
    state: str
    text: str
    todo: str = ""


def examine() -> Iterator[Diagnosis]:
    """Every check, in the order in which a person would look. Without a migrated database the rest cannot be told."""
    yield from _settings()
    yield from _folders()
    try:
        usable = yield from _database()
    except DatabaseError as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        yield Diagnosis("database", BAD, f"It does not answer: {said}", "Start it, or correct DATABASE_URL.")
        usable = False
    yield from _broker()
    if usable:
        for look in (_workers, _wakes, _secrets, _accounts, _people, _audit):
            yield from look()


# --- this process ------------------------------------------------------------------------------------------------------


def _settings() -> Iterator[Diagnosis]:
    where = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    if settings.DEBUG:
        yield Diagnosis(
            "settings",
            WARN,
            f"{where} has DEBUG on: error pages show code.",
            "Set DEBUG=false where others can look.",
        )
    host = urlsplit(settings.ICYPEAS_BASE_URL).hostname or "?"
    kind = "the real Icypeas" if settings.ICYPEAS_IS_REAL else "a stand-in, no real money"
    speed = "" if settings.ICYPEAS_RATE_FACTOR == 1 else f", limits times {settings.ICYPEAS_RATE_FACTOR:g}"
    served = ", ".join(settings.ENVIRONMENTS) or "no environment"
    yield Diagnosis("settings", OK, f"{where}; calls go to {host} ({kind}{speed}) for {served}.")
    is_production = where.endswith("production")
    found = checks.run_checks(include_deployment_checks=is_production)
    for message in found:
        state = BAD if message.is_serious() else WARN
        yield Diagnosis(
            "settings", state, f"{message.id}: {message.msg}".replace("\n", " "), message.hint or ""
        )


def _folders() -> Iterator[Diagnosis]:
    folder = settings.DATA_DIR
    free = shutil.disk_usage(folder).free
    if free < ENOUGH_BYTES:
        yield Diagnosis(
            "data", BAD, f"{folder} has {free // 2**20:,} MB left.", "Make room before the next upload."
        )
    if folder.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Diagnosis("data", WARN, f"Others can look into {folder}.", f"chmod 700 {folder}")
    else:
        yield Diagnosis("data", OK, f"{folder}, for its owner alone, {free / 2**30:,.0f} GB free.")
    if WORKER_ENV_FILE.exists() and WORKER_ENV_FILE.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Diagnosis("data", BAD, ".env.worker can be read by others.", "chmod 600 .env.worker")


# --- database and broker -----------------------------------------------------------------------------------------------


def _database() -> Generator[Diagnosis, None, bool]:
    """Returns whether the rest can be asked."""
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        version = connection.Database.sqlite_version_info  # type: ignore[attr-defined]
        name = f"SQLite {'.'.join(map(str, version))}"
        if version < SQLITE_NEEDED:
            yield Diagnosis(
                "database",
                BAD,
                f"{name} is too old: 3.38 or newer is needed.",
                "Use a newer Python or PostgreSQL.",
            )
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA quick_check(1)")
            (said,) = cursor.fetchone()
        if said != "ok":
            yield Diagnosis("database", BAD, f"The file is damaged: {said}", "Restore it from a backup.")
    else:
        name = f"{connection.display_name} {connection.pg_version // 10000}"  # type: ignore[attr-defined]
    pending = _pending_migrations()
    if pending:
        yield Diagnosis(
            "database", BAD, f"{name}; {pending} migrations are not applied.", "manage.py migrate"
        )
        return False
    yield Diagnosis("database", OK, f"{name}, migrated.")
    skew = abs(db_now() - timezone.now())
    if skew > SKEW:
        yield Diagnosis(
            "clocks",
            WARN,
            f"The database's clock is {skew.total_seconds():.0f} s away from this machine's.",
            "Synchronise both; leases follow the database's, webhooks and signed requests this one's.",
        )
    return True


def _pending_migrations() -> int:
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def _broker() -> Iterator[Diagnosis]:
    scheme = urlsplit(settings.CELERY_BROKER_URL).scheme
    try:
        with current_app.connection_for_read(settings.CELERY_BROKER_URL, connect_timeout=3) as link:
            link.ensure_connection(max_retries=1, interval_start=0, timeout=4)
            policy = _eviction_policy(link.default_channel) if scheme in {"redis", "rediss"} else ""
    except Exception as error:  # each broker has errors of its own
        yield Diagnosis(
            "broker",
            BAD,
            f"{scheme}:// does not answer ({type(error).__name__}).",
            "Start it, or correct CELERY_BROKER_URL. Jobs wait meanwhile; nothing is lost.",
        )
        return
    if policy not in ("", "noeviction"):
        yield Diagnosis(
            "broker",
            WARN,
            f"Redis may throw messages away (maxmemory-policy {policy}).",
            "Set maxmemory-policy noeviction. The sweep makes up for what is lost.",
        )
    else:
        yield Diagnosis("broker", OK, f"{scheme}:// answers.")


def _eviction_policy(channel: object) -> str:
    """Redis' own word, or "" where it may not be asked."""
    try:
        told = channel.client.config_get("maxmemory-policy")  # type: ignore[attr-defined]
    except Exception:  # a managed Redis forbids CONFIG
        return ""
    return str(told.get("maxmemory-policy", ""))


# --- work --------------------------------------------------------------------------------------------------------------


def _workers() -> Iterator[Diagnosis]:
    workers = list(presence.living_workers())
    if not workers:
        yield Diagnosis(
            "workers",
            BAD,
            "None was seen in the last two minutes: jobs are accepted and wait.",
            "PROCESS_ROLE=worker celery -A config.celery worker -Q urgent,work",
        )
        return
    names = ", ".join(worker.name for worker in workers[:4]) + (" …" if len(workers) > 4 else "")
    yield Diagnosis("workers", OK, f"{len(workers)} at work: {names}.")
    releases = sorted({worker.release or "unnamed" for worker in workers})
    if len(releases) > 1:
        yield Diagnosis(
            "workers", WARN, f"They run different releases: {', '.join(releases)}.", "Restart the older ones."
        )
    hosts = {worker.name.rpartition("-")[0] for worker in workers}
    if len(hosts) > 1 and not any(
        os.environ.get(name) for name in ("FINGERPRINT_PEPPER", "FINGERPRINT_PEPPER_FILE")
    ):
        yield Diagnosis(
            "workers",
            WARN,
            f"Workers run on {len(hosts)} hosts, and no FINGERPRINT_PEPPER is set here.",
            "Give all hosts the same one, else equal secrets look different.",
        )


def _wakes() -> Iterator[Diagnosis]:
    late = EnrichmentJob.objects.filter(
        state__in=WORKED_ON, dispatched_at=None, next_due_at__lt=db_now() - STALE_WAKE
    ).order_by("next_due_at")
    count, first = late.count(), late.first()
    if first is None or first.next_due_at is None:
        yield Diagnosis("scheduler", OK, "No job waits to be woken.")
        return
    yield Diagnosis(
        "scheduler",
        BAD,
        f"Nobody woke {'a job' if count == 1 else f'{count} jobs'}; #{first.id} is due since {first.next_due_at:%H:%M:%S} UTC.",
        "PROCESS_ROLE=scheduler celery -A config.celery beat, and a worker that serves urgent and work.",
    )


def _secrets() -> Iterator[Diagnosis]:
    """What living workers find; which secret it is never shows."""
    keys = KeyRecord.objects.filter(state__in=USABLE_STATES, environment__in=settings.ENVIRONMENTS).order_by(
        "name"
    )
    fine = 0
    for key in keys:
        standing = presence.standing(key.secret_ref)
        if standing.tone == "bad":
            problem = standing.missing[0].problem if standing.missing else "They hold different secrets."
            yield Diagnosis(
                "secrets",
                BAD,
                f"{key.name}, {key.secret_ref}: {standing.text}. {problem}",
                "Place it there and restart those workers.",
            )
        elif standing.tone == "quiet":
            yield Diagnosis(
                "secrets", WARN, f"{key.name}, {key.secret_ref}: {standing.text}.", "Start a worker."
            )
        else:
            fine += 1
            for warning in standing.warnings:
                yield Diagnosis(
                    "secrets", WARN, f"{key.name}, {key.secret_ref}: {warning}", "Place it without."
                )
    yield Diagnosis("secrets", OK, f"{fine} of {len(keys)} usable key records have one at every worker.")


def _accounts() -> Iterator[Diagnosis]:
    for account in Account.objects.exclude(balance_error=""):
        yield Diagnosis(
            "accounts",
            WARN,
            f"The balance of {account.name} could not be read: {account.balance_error}",
            "Test a key of the account; its page says why.",
        )


def _people() -> Iterator[Diagnosis]:
    for right in (Right.MANAGE_KEYS, Right.SPEND):
        if not people_with(right):
            yield Diagnosis("people", WARN, f"Nobody may {right.label}.", "manage.py person create --help")


def _audit() -> Iterator[Diagnosis]:
    unsealed = AuditEntry.objects.filter(seal=None, at__lt=timezone.now() - 2 * seals.GRACE).count()
    if unsealed:
        yield Diagnosis(
            "audit",
            WARN,
            f"{unsealed} entries are older than {seals.GRACE.seconds // 30} minutes and have no seal.",
            "They get one once a worker and the scheduler run; then manage.py audit verify.",
        )

"""A scratch installation with so many keys and calls that a page could only be quick because it reads little.

Few things are made by the product's own code, which is made for one call at a time; the calls, their sums and the
ledger are written by the database itself, and a test holds those sums against what `calls.write` makes of the same calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from enrichment.choices import JobState
from enrichment.models import EnrichmentJob
from keys import ledger
from keys.choices import POLICY_OUTCOMES, EntryKind, KeyState, Realm
from keys.clock import db_now
from keys.gate import LET_IN
from keys.models import (
    Account,
    BalanceReading,
    Call,
    CallHour,
    JobUse,
    KeyRecord,
    LedgerEntry,
    Presence,
    Worker,
)
from people import audit
from people.models import RoleGrant, Team, User
from people.rights import Role
from people.services import create_person

READER: Final = "bench@desk.example"
PERIOD: Final = timedelta(days=180)
ONE_IN: Final = 10  # calls that are of the heaviest key
UNUSED: Final = 20  # keys that were never used
CALLS_PER_JOB: Final = 50
BURST_US: Final = 15 * 60 * 1_000_000  # in which a job makes its calls
OPEN_JOBS: Final = 0.0005  # of all: at work, and holding credits
AT_ONCE: Final = 1_000_000
SYSTEMS: Final = ("crm_sync", "form_handling", "bulk_verify", "webinar_import", "list_building", "profiles")
ENVIRONMENTS: Final = ("prod", "prod", "prod", "staging", "dev")
OPERATIONS: Final = ("email-verification", "email-search", "scrape-company")
WORKERS: Final = ("worker-1", "worker-2", "worker-3", "worker-4")
SIZES: Final = {
    "calls": Call,
    "sums by hour": CallHour,
    "sums by job": JobUse,
    "ledger entries": LedgerEntry,
    "jobs": EnrichmentJob,
}
FILLED: Final = tuple(SIZES.values())


@dataclass(frozen=True)
class Filled:
    """What was made. `heavy`, `usual` and `unused` are names of keys."""

    heavy: str
    usual: str
    unused: str
    sizes: dict[str, int]


def fill(*, keys: int, calls: int, tell: Callable[[str], None], password: str) -> Filled:
    """Fill an empty database. `calls` is exact; the heaviest key has a tenth of them."""
    call_command("migrate", verbosity=0)
    tell("people and key records")
    people = _people(password)
    records = _keys(keys, people)
    _presence(records)
    _share(records, people, calls)
    with _without_indexes():
        begin = db_now() - PERIOD
        for first in range(0, calls, AT_ONCE):
            tell(f"calls {first:,} to {min(first + AT_ONCE, calls):,}")
            _run(_CALLS, first=first, last=min(first + AT_ONCE, calls) - 1, begin=begin)
        tell("sums of calls")
        _run(_HOURS)
        _run(_JOBS)
        tell("ledger and jobs")
        _run(_LEDGER, closed=1 - OPEN_JOBS)
        _copy_jobs(people[0])
        tell("indexes")
    tell("statistics")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
    _last_uses()
    while ledger.fold(limit=AT_ONCE // 10):
        pass
    return Filled(
        heavy=records[0].name,
        usual=records[len(records) // 2].name,
        unused=records[-1].name,
        sizes={name: model._default_manager.count() for name, model in SIZES.items()},
    )


# --- by the product's own models -----------------------------------------------------------------------------------------


def _people(password: str) -> list[User]:
    """The reader, who may see everything, and forty others in eight teams."""
    reader = create_person(
        audit.SYSTEM,
        email=READER,
        name="Bench Reader",
        roles=[Role.KEY_ADMIN],
        team="Bench",
        password=password,
    )
    teams = Team.objects.bulk_create(Team(name=f"Team {n}") for n in range(8))
    others = User.objects.bulk_create(
        User(email=f"person{n}@desk.example", name=f"Person {n}", password="!", team=teams[n % len(teams)])
        for n in range(40)
    )
    RoleGrant.objects.bulk_create(RoleGrant(user=user, role=Role.OPERATOR) for user in others)
    return [reader, *others]


def _keys(count: int, people: list[User]) -> list[KeyRecord]:
    """Key records of several accounts; the first will be the heaviest, the last are never used."""
    now = db_now()
    accounts = Account.objects.bulk_create(
        Account(name=f"Account {n}", realm=Realm.LIVE, balance=Decimal(5_000_000), balance_asked_at=now)
        for n in range(4)
    )
    BalanceReading.objects.bulk_create(
        BalanceReading(account=account, credits=Decimal(5_000_000), asked_at=now) for account in accounts
    )
    today = timezone.localdate()
    records = []
    for n in range(count):
        environment, system = ENVIRONMENTS[n % len(ENVIRONMENTS)], SYSTEMS[n % len(SYSTEMS)]
        owner, deputy = people[1 + n % 40], people[1 + (n + 7) % 40]
        records.append(
            KeyRecord(
                name=f"{environment}_{system}_team{n}",
                environment=environment,
                system=system,
                label=f"team{n}",
                owner=owner,
                deputy=None if n % 9 == 0 else deputy,
                team=owner.team,
                account=accounts[n % len(accounts)],
                purpose=f"Workload {n} of {owner.team}: {system.replace('_', ' ')}",
                scopes=sorted(
                    [
                        *(f"{operation}:bulk" for operation in OPERATIONS),
                        "domain-search:bulk",
                        "email-search:single",
                    ]
                ),
                state=KeyState.REVOKED if n % 23 == 22 else KeyState.ACTIVE,
                daily_cap=Decimal(1_000_000) if n % 2 == 0 else None,
                rotate_by=today + timedelta(days=n % 120 - 10),
                secret_ref=f"env:ICYPEAS_KEY_{n}",
            )
        )
    KeyRecord.objects.bulk_create(records)
    KeyRecord.objects.update(created_at=now - PERIOD)
    for record in records:
        audit.record(audit.SYSTEM, "key.created", record, detail={"scopes": ", ".join(record.scopes)})
    change = {"scopes": ["leads:search, " + ", ".join(records[0].scopes), ", ".join(records[0].scopes)]}
    audit.record(audit.SYSTEM, "key.changed", records[0], reason="Unused", detail=change)
    return records


def _presence(records: list[KeyRecord]) -> None:
    """Four workers that live for as long as anybody measures, and see every secret."""
    later = db_now() + timedelta(days=1)
    Worker.objects.bulk_create(Worker(name=name, release="bench", seen_at=later) for name in WORKERS)
    Presence.objects.bulk_create(
        Presence(
            worker=worker,
            reference=record.secret_ref,
            fingerprint=f"{record.id:012x}",
            release="bench",
            seen_at=later,
            changed_at=later - PERIOD,
        )
        for record in records
        for worker in WORKERS
    )


def _share(records: list[KeyRecord], people: list[User], calls: int) -> None:
    """A table of who gets which part: key number, its jobs, and of people their number."""
    used = len(records) - UNUSED - 1  # beside the heaviest
    jobs, first, lines = 1, 1, []
    for n, record in enumerate(records[: used + 1]):
        share = 1 / ONE_IN if n == 0 else (1 - 1 / ONE_IN) * (math.sqrt(n / used) - math.sqrt((n - 1) / used))
        jobs = max(1, int(share * calls) // CALLS_PER_JOB)
        lines.append((n, record.id, record.account_id, record.team_id, first, jobs))
        first += jobs
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE bench_key (n bigint PRIMARY KEY, key_id bigint, account_id bigint, team_id bigint,"
            " first_job bigint, jobs bigint)"
        )
        cursor.executemany("INSERT INTO bench_key VALUES (%s, %s, %s, %s, %s, %s)", lines)
        step_us = int(PERIOD / timedelta(microseconds=1)) // calls
        cursor.execute("CREATE TABLE bench_size (calls bigint, used bigint, people bigint, step_us bigint)")
        cursor.execute(
            "INSERT INTO bench_size VALUES (%s, %s, %s, %s)", [calls, used, len(people) - 1, step_us]
        )


def _last_uses() -> None:
    """What the gate would have written at each key's last call."""
    let_out = Call.objects.exclude(outcome__in=POLICY_OUTCOMES)
    records = list(KeyRecord.objects.all())
    for record in records:
        call = let_out.filter(key=record).order_by("-at", "-id").first()
        if call:
            record.last_used_at, record.last_used_job = call.at, call.job
            record.last_used_operation = OPERATIONS[(call.job or 0) % len(OPERATIONS)]
            record.last_used_by, record.last_used_worker = call.person, call.worker
            record.last_used_outcome, record.last_used_rows = call.outcome, call.rows
            if call.outcome in LET_IN:
                record.let_in_outcome, record.let_in_at = call.outcome, call.at
    written = ("last_used_", "let_in_")
    names = [field.name for field in KeyRecord._meta.fields if field.name.startswith(written)]
    KeyRecord.objects.bulk_update(records, names, batch_size=100)


def _copy_jobs(person: User) -> None:
    """A row for every job that called, made after one that the models made: columns without a value of their own are its."""
    last = JobUse.objects.order_by("-job").values_list("job", flat=True)[0]
    pattern = EnrichmentJob.objects.create(
        id=last + 1,
        name="pattern",
        operation=OPERATIONS[0],
        created_by=person,
        state=JobState.COMPLETED,
        environment="prod",
        realm=Realm.LIVE,
        purpose="Bench",
        start_token="pattern",
        is_checked=True,
        rows_total=500,
        rows_found=500,
    )
    own = {
        "id": "use.job",
        "name": "use.job_text",
        "key_id": "use.key_id",
        "created_by_id": "owner.id",
        "team_id": "owner.team_id",
        "start_token": "CAST(use.job AS varchar(64))",
        "created_at": "use.first_at",
        "started_at": "use.first_at",
        "finished_at": "use.last_at",
        "heard_at": "use.last_at",
        "state": f"CASE WHEN hold.job IS NULL THEN '{JobState.COMPLETED}' ELSE '{JobState.RUNNING}' END",
    }
    columns = [str(field.column) for field in EnrichmentJob._meta.concrete_fields]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {EnrichmentJob._meta.db_table} ({', '.join(columns)})"
            f" SELECT {', '.join(own.get(column, f'pattern.{column}') for column in columns)}"
            f" FROM {JobUse._meta.db_table} use JOIN {User._meta.db_table} owner ON owner.name = use.person"
            " LEFT JOIN bench_open hold ON hold.job = use.job"
            f" JOIN {EnrichmentJob._meta.db_table} pattern ON pattern.id = %s",
            [pattern.id],
        )
    pattern.delete()


# --- by the database -----------------------------------------------------------------------------------------------------


@contextmanager
def _without_indexes() -> Iterator[None]:
    """Indexes that hold no promise are made anew after the rows; PostgreSQL takes a third of the time that way."""
    if connection.vendor != "postgresql":
        yield
        return
    tables = [model._meta.db_table for model in FILLED]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY(%s) AND indexdef NOT LIKE 'CREATE UNIQUE%%'",
            [tables],
        )
        found = cursor.fetchall()
        for name, _ in found:
            cursor.execute(f'DROP INDEX "{name}"')
        cursor.execute("SET synchronous_commit = off")
        cursor.execute("SET maintenance_work_mem = '512MB'")
        cursor.execute("SET work_mem = '256MB'")
        yield
        for _, definition in found:
            cursor.execute(definition)
        cursor.execute("RESET work_mem")
        cursor.execute("RESET maintenance_work_mem")
        cursor.execute("RESET synchronous_commit")


def _run(statement: str, **values: Any) -> None:
    """One of the statements below, in the dialect of this database."""
    is_postgres = connection.vendor == "postgresql"
    dialect = _POSTGRES if is_postgres else _SQLITE
    if isinstance(begin := values.get("begin"), datetime) and not is_postgres:
        values["begin"] = begin.astimezone(UTC).timestamp()
    names = {f"t_{model.__name__}": model._meta.db_table for model in FILLED}
    for name, text in {**dialect, **names}.items():
        statement = statement.replace(f"<{name}>", text)
    with connection.cursor() as cursor:
        for one in filter(None, (part.strip() for part in statement.split(";"))):
            cursor.execute(one, {name: value for name, value in values.items() if f"%({name})s" in one})


_POSTGRES: Final = {
    "numbers": "SELECT generate_series(%(first)s::bigint, %(last)s::bigint) AS i",
    "moment": "%(begin)s::timestamptz + us * interval '1 microsecond'",
    "hour": "date_trunc('hour', at)",
    "floor": "floor",
    "true": "true",
    "false": "false",
}
_SQLITE: Final = {
    "numbers": "WITH RECURSIVE n(i) AS (SELECT %(first)s UNION ALL SELECT i + 1 FROM n WHERE i < %(last)s) SELECT i FROM n",
    "moment": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', %(begin)s + us / 1000000.0, 'unixepoch')",
    "hour": "substr(at, 1, 13) || ':00:00'",
    "floor": "",
    "true": "1",
    "false": "0",
}
_REFUSED: Final = ", ".join(f"'{outcome.value}'" for outcome in POLICY_OUTCOMES)

# `h` scatters the numbers of the calls, so that nothing depends on their order. One in ten is of key 0, the others fall off
# with the square root; two thirds are reads of answers. A job makes its calls within a quarter of an hour of its start.
_CALLS: Final = f"""
INSERT INTO <t_Call> (id, account_id, key_id, fingerprint, route, scope, job, job_text, person, worker, at, duration_ms,
    outcome, status, message, rows, is_probe)
SELECT %(first)s + row_number() OVER (ORDER BY us, i), account_id, key_id, '7c1e90ab44f2',
    CASE WHEN is_read = 1 THEN 'items-read' ELSE 'bulk-search' END,
    CASE WHEN outcome = 'policy_scope' THEN 'leads:search' WHEN is_read = 1 THEN 'account:read'
        WHEN job %% 3 = 0 THEN '{OPERATIONS[0]}:bulk' WHEN job %% 3 = 1 THEN '{OPERATIONS[1]}:bulk'
        ELSE '{OPERATIONS[2]}:bulk' END,
    job, 'List ' || job || ' of the campaign', 'Person ' || (job %% people), 'worker-' || (1 + h %% 4), <moment>, 40 + h %% 400,
    outcome, NULL, CASE WHEN outcome = 'ok' THEN '' ELSE 'Said by nobody, for a benchmark.' END,
    CASE WHEN is_read = 1 THEN 100 ELSE 1 + h %% 500 END, <false>
FROM (
    SELECT i, h, people, account_id, key_id, CASE WHEN (h / 7) %% 100 < 67 THEN 1 ELSE 0 END AS is_read,
        first_job + (i * jobs) / calls AS job,
        (((i * jobs) / calls) * calls / jobs) * step_us
            + CASE WHEN step_us * calls / jobs < {BURST_US} THEN step_us * calls / jobs ELSE {BURST_US} END
            * ((i * jobs) %% calls) / calls AS us,
        CASE WHEN (h / 1009) %% 1000 < 970 THEN 'ok' WHEN (h / 1009) %% 1000 < 980 THEN 'vendor_429'
            WHEN (h / 1009) %% 1000 < 988 THEN 'vendor_5xx' WHEN (h / 1009) %% 1000 < 994 THEN 'not_sent'
            WHEN (h / 1009) %% 1000 < 998 THEN 'policy_scope' ELSE 'policy_budget' END AS outcome
    FROM (
        SELECT i, h, calls, people, step_us,
            CASE WHEN i %% {ONE_IN} = 0 THEN 0
                ELSE 1 + CAST(<floor>(CAST((used - 1) * (h / 4294967296.0) * (h / 4294967296.0) AS double precision)) AS bigint)
            END AS n
        FROM (SELECT i, (i * 2654435761) %% 4294967296 AS h FROM (<numbers>) numbers) scattered CROSS JOIN bench_size
    ) placed JOIN bench_key ON bench_key.n = placed.n
) told
"""
_HOURS: Final = """
INSERT INTO <t_CallHour> (key_id, hour, scope, outcome, calls, rows, last_at, last_job, last_by)
SELECT g.key_id, g.hour, g.scope, g.outcome, g.n, g.carried, c.at, c.job, c.person FROM (
    SELECT key_id, <hour> AS hour, scope, outcome, count(*) AS n, sum(rows) AS carried, max(id) AS last
    FROM <t_Call> GROUP BY 1, 2, 3, 4
) g JOIN <t_Call> c ON c.id = g.last ORDER BY g.last
"""
_JOBS: Final = f"""
INSERT INTO <t_JobUse> (key_id, job, job_text, person, first_at, last_at, calls, rows, refused)
SELECT key_id, coalesce(job, 0), max(job_text), person, min(at), max(at),
    sum(CASE WHEN outcome IN ({_REFUSED}) THEN 0 ELSE 1 END),
    sum(CASE WHEN outcome = 'ok' AND scope <> 'account:read' THEN rows ELSE 0 END),
    sum(CASE WHEN outcome IN ({_REFUSED}) THEN 1 ELSE 0 END)
FROM <t_Call> GROUP BY key_id, coalesce(job, 0), person ORDER BY min(at)
"""
# Every paid call was charged with its rows; the newest jobs still hold what they reserved beyond it, the others gave it back.
_LEDGER: Final = f"""
CREATE TABLE bench_open AS SELECT job FROM (
    SELECT job, cume_dist() OVER (ORDER BY last_at) AS place FROM <t_JobUse>
) placed WHERE place > %(closed)s;
INSERT INTO <t_LedgerEntry> (at, kind, credits, account_id, key_id, team_id, operation, job, batch, note)
SELECT at, kind, credits, account_id, bench_key.key_id, team_id,
    CASE job %% 3 WHEN 0 THEN '{OPERATIONS[0]}' WHEN 1 THEN '{OPERATIONS[1]}' ELSE '{OPERATIONS[2]}' END, job, NULL, ''
FROM (
    SELECT first_at AS at, '{EntryKind.RESERVED}' AS kind, rows + 100 AS credits, key_id, job FROM <t_JobUse>
    UNION ALL
    SELECT at, '{EntryKind.CHARGED}', rows, key_id, job FROM <t_Call> WHERE outcome = 'ok' AND scope <> 'account:read'
    UNION ALL
    SELECT last_at, '{EntryKind.RELEASED}', 100, key_id, job FROM <t_JobUse> WHERE job NOT IN (SELECT job FROM bench_open)
) booked JOIN bench_key ON bench_key.key_id = booked.key_id ORDER BY at
"""

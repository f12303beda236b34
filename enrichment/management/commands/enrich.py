"""The main job from a terminal: the same services, gate and ledger as the browser."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from enrichment import column_mapping, csv_export, csv_import, operations, selectors
from enrichment.choices import SILENT_PAUSES, JobState, PauseReason, RowState, Source
from enrichment.csv_import import ENCODINGS, Layout, UploadError
from enrichment.models import EnrichmentJob
from enrichment.services import (
    balances,
    exporting,
    processing,
    refusals,
    reservations,
    submission,
    uploads,
)
from keys import gate, hours, ledger
from keys import selectors as key_selectors
from keys.clock import db_now
from keys.models import KeyRecord
from keys.secrets import act_as_worker
from keys.services import command_ends, realm_of, worker_seen
from people.audit import Actor, terminal_actor
from people.models import User
from people.rights import Right

REFUSED, WRONG_USE, STOPPED, UNCERTAIN = 1, 2, 3, 4
IDLE_S = 1.0


class Command(BaseCommand):
    help = (
        "Enrich a CSV file without a browser, in the foreground and with a progress bar. "
        "Exit status: 0 every row is final, 1 refused before anything was sent, 2 wrong use, "
        "3 stopped with rows waiting (credits, key, pause, cancel), 4 finished with uncertain rows."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        fields = "; ".join(
            f"{operation.name}: {', '.join(field.name for field in operation.fields)}"
            for operation in operations.ASKED.values()
        )
        parser.add_argument("file", metavar="IN.csv")
        parser.add_argument("--operation", required=True, help=", ".join(operations.ASKED))
        parser.add_argument("--key", required=True, help="name of the key record that pays")
        parser.add_argument(
            "--map",
            action="append",
            default=[],
            metavar="FIELD=COLUMN",
            help=f"which column feeds which input; else columns are recognised. Inputs of {fields}",
        )
        parser.add_argument("--out", metavar="OUT.csv", help="default: IN-enriched.csv beside the input")
        parser.add_argument("--preset", choices=list(csv_export.PRESETS), default="raw")
        parser.add_argument("--max-credits", metavar="N", help="refuse a job that can cost more")
        parser.add_argument(
            "--accept-paying-again",
            default="0",
            metavar="N",
            help="credits that calls which cannot be looked up may cost twice after a lost answer (default: 0)",
        )
        parser.add_argument(
            "--freshness-days", type=int, default=settings.FRESHNESS_DAYS, metavar="N", help="0 asks again"
        )
        parser.add_argument("--purpose", default="", help='default: "terminal: FILE"')
        parser.add_argument(
            "--as", dest="as_email", metavar="EMAIL", help="on whose behalf; default: the key's owner"
        )
        parser.add_argument("--encoding", choices=list(ENCODINGS), help="else it is detected and printed")
        parser.add_argument("--delimiter", help="else it is detected and printed")
        parser.add_argument("--again", action="store_true", help="run a file again that ran within 24 hours")
        parser.add_argument("--yes", action="store_true", help="start without asking")
        parser.add_argument(
            "--sample",
            action="store_true",
            help=f"ask {settings.SAMPLE_ROWS} random rows first, show what came out, and ask whether to go on",
        )
        parser.add_argument(
            "--json", action="store_true", help="print the summary as JSON on standard output"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        # Everything for people goes to standard error, so that --json owns standard output.
        console = Console(stderr=True, highlight=False)
        act_as_worker()
        source, out = _paths(options)
        key = _key(console, options["key"])
        actor = _actor(options["as_email"], key)
        job = _draft(actor, key, source, options)
        _print_reading(console, job)
        run, status = _start(console, actor, key, job, options, source)
        if run is None:
            sys.exit(status)
        worker_seen(reports=False)
        try:
            interrupted = _work(console, actor, run)
            run.refresh_from_db()
            if run.pause_reason == PauseReason.SAMPLE and not interrupted:
                interrupted = _after_sample(console, actor, run)
                run.refresh_from_db()
        finally:
            command_ends()
        _write(actor, run, out, options["preset"])
        _report(console, run, out, as_json=options["json"])
        sys.exit(_exit_status(run, interrupted))


def _paths(options: dict[str, Any]) -> tuple[Path, Path]:
    source = Path(options["file"])
    if not source.is_file():
        raise CommandError(f"{source} is not a file.", returncode=WRONG_USE)
    out = Path(options["out"]) if options["out"] else source.with_name(f"{source.stem}-enriched.csv")
    if out.resolve() == source.resolve():
        raise CommandError("--out is the input itself; choose another name.", returncode=WRONG_USE)
    if not out.resolve().parent.is_dir():
        raise CommandError(f"There is no folder {out.parent}.", returncode=WRONG_USE)
    if options["operation"] not in operations.ASKED:
        raise CommandError(
            f"There is no operation {options['operation']!r}. Operations: {', '.join(operations.ASKED)}.",
            returncode=WRONG_USE,
        )
    return source, out


def _key(console: Console, name: str) -> KeyRecord:
    named = key_selectors.find_key(name)
    if named is None:
        raise CommandError(f"There is no key record {name!r}. See: manage.py key list", returncode=WRONG_USE)
    for said in filter(None, (named.news, hours.advice(named.key))):
        console.print(said, markup=False, soft_wrap=True)
    return named.key


def _actor(email: str | None, key: KeyRecord) -> Actor:
    person = User.objects.filter(email=User.objects.normalize_email(email)).first() if email else key.owner
    if person is None:
        raise CommandError(
            f"There is no person {email}." if email else f"{key.name} has no owner; say --as EMAIL.",
            returncode=WRONG_USE,
        )
    if not person.may(Right.SPEND):
        raise CommandError(
            f"{person.email} may not {Right.SPEND.label}. Choose an operator with --as EMAIL.",
            returncode=REFUSED,
        )
    return terminal_actor(person)


def _draft(actor: Actor, key: KeyRecord, source: Path, options: dict[str, Any]) -> EnrichmentJob:
    operation = operations.get(options["operation"])
    try:
        with source.open("rb") as stream:
            mapping = None
            if options["map"]:
                layout = csv_import.sniff(
                    stream,
                    encoding=options["encoding"],
                    delimiter=options["delimiter"],
                    limits=uploads.limits(),
                )
                mapping = column_mapping.parse_map(options["map"], operation, layout.header)
            job = uploads.create_draft(
                actor,
                operation=operation.name,
                stream=stream,
                file_name=source.name,
                source=Source.TERMINAL,
                encoding=options["encoding"],
                delimiter=options["delimiter"],
                mapping=mapping,
            )
        column_mapping.require_needed(operation, job.mapping)
    except column_mapping.MappingError as error:
        raise CommandError(str(error), returncode=WRONG_USE) from error
    except UploadError as error:
        raise CommandError(error.message, returncode=REFUSED) from error
    uploads.check_rows(job.id)
    job.refresh_from_db()
    if job.check_error:
        raise CommandError(job.check_error, returncode=REFUSED)
    return job


def _print_reading(console: Console, job: EnrichmentJob) -> None:
    assert job.upload is not None
    layout = Layout.from_json(job.upload.layout)
    console.print(
        f"{job.upload.name}: {job.rows_total:,} rows, {layout.width} columns, {layout.delimiter_label}, "
        f"{layout.encoding_label}; {job.upload.blank_lines:,} blank lines dropped"
    )
    for field in operations.get(job.operation).fields:
        column = job.mapping.get(field.name)
        if column is not None:
            console.print(f"  {field.name} ← {layout.header[column]}", markup=False)
    for finding in job.findings.get("skipped", {}).values():
        console.print(f"  skipped {finding['rows']:,}: {finding['text']}", markup=False)
    for finding in job.findings.get("warnings", {}).values():
        console.print(f"  asked all the same {finding['rows']:,}: {finding['text']}", markup=False)


def _start(
    console: Console, actor: Actor, key: KeyRecord, job: EnrichmentJob, options: dict[str, Any], source: Path
) -> tuple[EnrichmentJob | None, int]:
    """The job to work on: this one, or the same run of a short while ago. None and the exit status when refused."""
    try:
        limit = Decimal(options["max_credits"]) if options["max_credits"] else None
        pay_again = Decimal(options["accept_paying_again"])
    except InvalidOperation as error:
        raise CommandError(
            "--max-credits and --accept-paying-again take a number.", returncode=WRONG_USE
        ) from error
    same = None if options["again"] else selectors.same_run(job, key)
    if same is not None:
        console.print(
            f"Job #{same.id} ran this list with this key a short while ago; it is handed out again. --again runs it anew."
        )
        submission.cancel_job(actor, job.id, reason="the same list ran a short while ago")
        if same.state == JobState.PAUSED:
            _resume(actor, same, limit)
        return same, 0
    refused = gate.refusal(
        key, environment=key.environment, scope=operations.get(job.operation).scope(job.mode)
    )
    if refused:  # before anything is called: not even the balance is asked for
        refusals.note(job, key, *refused)
        submission.cancel_job(actor, job.id, reason=refused[1])
        raise CommandError(f"{refused[1]} Nothing was sent and nothing was paid.", returncode=REFUSED)
    balances.read_balance(key.account_id)
    key.account.refresh_from_db()
    _print_estimate(console, job, key, options["freshness_days"])
    if not options["yes"] and not _confirmed(console, "Start?"):
        submission.cancel_job(actor, job.id, reason="not confirmed")
        console.print("Nothing was sent and nothing was paid.")
        return None, REFUSED
    order = submission.StartOrder(
        key=key,
        purpose=options["purpose"] or f"terminal: {source.name}",
        freshness_days=options["freshness_days"],
        token=job.start_token,
        max_credits=limit,
        is_again=True,
        pay_again_limit=max(pay_again, Decimal(0)),
        is_sample=options["sample"],
    )
    try:
        return submission.start_job(actor, job.id, order), 0
    except submission.SubmissionError as error:
        submission.cancel_job(actor, job.id, reason="refused")
        raise CommandError(
            f"{error.message} Nothing was sent and nothing was paid.", returncode=REFUSED
        ) from error


def _resume(actor: Actor, job: EnrichmentJob, limit: Decimal | None) -> None:
    """Go on with a paused run, if all that it has cost and can still cost is within the limit."""
    money = ledger.job_sums(job.id)
    at_most = money.charged + money.open + reservations.lacking(job)
    if limit is not None and at_most > limit:
        raise CommandError(
            f"In all, this run can cost {ledger.words(at_most)} credits, and the limit given is {ledger.words(limit)}. "
            "It stays paused; nothing more was sent.",
            returncode=REFUSED,
        )
    try:
        submission.resume_job(actor, job.id)
    except submission.SubmissionError as error:
        raise CommandError(error.message, returncode=REFUSED) from error


def _print_estimate(console: Console, job: EnrichmentJob, key: KeyRecord, freshness_days: int) -> None:
    fresh_after = db_now() - timedelta(days=freshness_days)
    estimate = selectors.estimate(job, realm=realm_of(key.environment), fresh_after=fresh_after)
    left = ledger.available(key.account)
    table = Table(box=None, show_header=False, pad_edge=False)
    for label, value in (
        ("Will be asked", f"{estimate.ask:,}"),
        ("Already known", f"{estimate.known:,}"),
        ("Duplicates, asked once", f"{estimate.duplicates:,}"),
        ("Skipped", f"{estimate.skipped:,}"),
        ("Credits at least", ledger.words(estimate.at_least)),
        ("Credits expected", ledger.words(estimate.expected)),
        ("Credits at most", ledger.words(estimate.at_most)),
        (
            "Available",
            f"{ledger.words(left.credits)} on {key.account.name}"
            if left.credits is not None
            else f"unknown: {key.account.balance_error or 'the balance was not read yet'}",
        ),
    ):
        table.add_row(label, value)
    console.print(table)


def _after_sample(console: Console, actor: Actor, job: EnrichmentJob) -> bool:
    """Go on with the other rows if the person says so; else the job stays paused, and the same command goes on with it.
    True when the person pressed Ctrl-C."""
    console.print(job.state_text, markup=False)
    left = reservations.unsent(job)
    console.print(f"The other {job.rows_waiting:,} rows cost at most {ledger.words(left)} credits.")
    if not _confirmed(console, "Go on?"):
        console.print("Paused after the sample. The same command goes on with it.")
        return False
    _resume(actor, job, None)
    return _work(console, actor, job)


def _confirmed(console: Console, question: str) -> bool:
    console.print(f"{question} [y/N] ", end="", markup=False)
    try:
        return input().strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def _work(console: Console, actor: Actor, job: EnrichmentJob) -> bool:
    """Drive the job to its end in this process; a running worker may share it. True when the person pressed Ctrl-C."""
    interrupted = False

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True

    previous = signal.signal(signal.SIGINT, interrupt)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("starting", total=job.rows_total)

            def show() -> bool:
                job.refresh_from_db()
                bar.update(task, completed=job.rows_total - job.rows_open, description=_describe(job))
                return interrupted

            while not show() and not _is_over(job):
                processing.run_slice(job.id, should_stop=show)
                job.refresh_from_db()
                if not interrupted and not _is_over(job):
                    time.sleep(IDLE_S)
    finally:
        signal.signal(signal.SIGINT, previous)
    if interrupted and not job.is_finished:
        submission.pause_job(actor, job.id, reason="stopped at the terminal")
        console.print("Paused. The same command goes on with it.")
    return interrupted


def _describe(job: EnrichmentJob) -> str:
    return (
        f"{JobState(job.state).label.lower()}, {job.rows_in_flight:,} at Icypeas, {job.rows_waiting:,} wait"
    )


def _is_over(job: EnrichmentJob) -> bool:
    """Finished, or paused with nothing left to collect."""
    if job.state == JobState.PAUSED:
        return job.pause_reason in SILENT_PAUSES or not job.rows_in_flight
    return job.is_finished


def _write(actor: Actor, job: EnrichmentJob, out: Path, preset: str) -> None:
    """Write all rows beside the target first, then put it in place at once. Who took them stands in the audit log."""
    handle, name = tempfile.mkstemp(dir=out.resolve().parent, prefix=f".{out.name}.")
    with os.fdopen(handle, "wb") as file:
        for chunk in exporting.hand_out(actor, job, preset):
            file.write(chunk)
    os.replace(name, out)


def _report(console: Console, job: EnrichmentJob, out: Path, *, as_json: bool) -> None:
    money = ledger.job_sums(job.id)
    if job.state_text:
        console.print(job.state_text, markup=False)
    if as_json:
        summary = {
            "job": job.id,
            "state": job.state,
            "rows": job.rows_total,
            **{state.value: job.counts[state] for state in RowState},
            "credits": {
                name: csv_export.credits_text(getattr(money, name))
                for name in ("reserved", "charged", "released", "open")
            },
            "out": str(out),
        }
        sys.stdout.write(json.dumps(summary) + "\n")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for state in RowState:
        table.add_row(state.label, f"{job.counts[state]:,}")
    table.add_row("Credits charged", ledger.words(money.charged))
    console.print(table)
    console.print(f"Job #{job.id}: {out}", markup=False)


def _exit_status(job: EnrichmentJob, interrupted: bool) -> int:
    if job.rows_open or interrupted or job.state in (JobState.CANCELLED, JobState.CANCELLING):
        return STOPPED
    return UNCERTAIN if job.rows_uncertain else 0

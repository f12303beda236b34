"""The crash test: a job on a scratch installation while its processes are killed, then both ledgers compared."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import sys
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from enrichment.chaos import lane
from enrichment.chaos.broker_line import BrokerLine
from enrichment.chaos.scene import ARMED_EVERY, BREAKS, Scene, SceneError
from enrichment.chaos.scratch import INSIDE, drop_database, free_port, run_inside, write_account
from enrichment.chaos.troubles import TROUBLES
from enrichment.chaos.verdict import Verdict, compare
from enrichment.models import EnrichmentJob

# What can happen to the connections with a broker that is a server: the option, and its help.
BREAK_OPTIONS: Final = {
    "resets": "times that every connection with the broker is reset",
    "aways": "times that the broker is away for two seconds and keeps its messages",
    "silences": "times that nothing more comes through the present connections, and no error either",
}
UNDISTURBED: Final = "CHAOS_UNDISTURBED_S"  # how long the run took that this one is compared with


class Command(BaseCommand):
    help = (
        "Run a job on a scratch installation while its processes are killed, and compare both ledgers. "
        "Exit status 0: nothing lost, nothing unexpected, nothing paid twice."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--rows", type=int, default=2_000, help="of the list (default: %(default)s)")
        parser.add_argument(
            "--batch-rows", type=int, default=100, help="rows in one paid call (default: %(default)s)"
        )
        parser.add_argument(
            "--kills",
            type=int,
            default=20,
            help="SIGKILLs by lot over all processes of ours, spread over the work (default: %(default)s)",
        )
        parser.add_argument(
            "--pauses",
            type=int,
            default=1,
            help="SIGSTOPs of a pool child for longer than its lease (default: %(default)s)",
        )
        parser.add_argument(
            "--faults",
            type=int,
            default=4,
            help="paid calls whose answer the sandbox spoils (default: %(default)s)",
        )
        parser.add_argument(
            "--troubles",
            type=int,
            default=0,
            help=f"calls that end in one of {len(TROUBLES)} other ways, on every route, by lot; pauses are resumed (default: %(default)s)",
        )
        parser.add_argument(
            "--empty-broker",
            action="store_true",
            help="throw all messages away at 25, 50 and 75 %% of the rows",
        )
        parser.add_argument(
            "--apart",
            type=float,
            default=0.2,
            metavar="S",
            help="least time between two kills (default: %(default)s)",
        )
        parser.add_argument(
            "--ambushes",
            type=int,
            default=0,
            help="end all workers at once while one holds an unsent batch, and time the next claim (default: %(default)s)",
        )
        for name, what in BREAK_OPTIONS.items():
            parser.add_argument(f"--{name}", type=int, default=0, help=f"{what} (default: %(default)s)")
        parser.add_argument(
            "--compare",
            action="store_true",
            help="run the same job undisturbed first, and print how many times longer this one took",
        )
        parser.add_argument(
            "--workers",
            type=int,
            default=2,
            help="worker processes, two children each (default: %(default)s)",
        )
        parser.add_argument(
            "--speed",
            type=int,
            default=20,
            help="of the sandbox's clock and limits, and ours (default: %(default)s)",
        )
        parser.add_argument("--seed", type=int, help="of all lots; printed, so that a run can be repeated")
        parser.add_argument(
            "--timeout", type=float, default=900.0, metavar="S", help="give up after (default: %(default)s)"
        )
        parser.add_argument(
            "--without-lookup",
            action="store_true",
            help="the control: what is in doubt is sent again, so that double payments must show (exit status 0 when they do)",
        )
        parser.add_argument(
            "--database-url",
            default="",
            help="a PostgreSQL server on which a scratch database is made; else SQLite",
        )
        parser.add_argument(
            "--broker-url",
            default="",
            help="a Redis database of its own, emptied first; else the embedded broker",
        )
        parser.add_argument(
            "--calm", action="store_true", help=SUPPRESS
        )  # the undisturbed run of a comparison
        parser.add_argument(
            "--json", action="store_true", help="print the figures as JSON on standard output"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        for name in ("rows", "batch_rows", "workers", "speed"):
            if options[name] < 1:
                raise CommandError(f"--{name.replace('_', '-')} must be 1 or more.", returncode=2)
        if any(options[name] for name in BREAK_OPTIONS) and not options["broker_url"]:
            raise CommandError(
                "The embedded broker has no connections to break: name one by --broker-url.", returncode=2
            )
        if INSIDE in os.environ:
            run(Path(os.environ[INSIDE]), options)
            return
        if options["seed"] is None:
            sys.argv += ["--seed", str(random.SystemRandom().randrange(10**6))]
        undisturbed = {}
        if options["compare"]:
            quiet = ["--kills=0", "--pauses=0", "--faults=0", "--troubles=0", "--ambushes=0", "--calm"]
            quiet += [f"--{name}=0" for name in BREAK_OPTIONS]
            undisturbed = {UNDISTURBED: f"{json.loads(run_inside(options, quiet, is_read=True))['seconds']}"}
        run_inside(options, environment=undisturbed)


# --- inside the scratch installation ------------------------------------------------------------------------------------


def run(folder: Path, options: Mapping[str, Any]) -> None:
    """Set the scene, disturb the job until it ends, judge. Exits with 1 when the verdict is not what it must be."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the scene is cleared
    console = Console(stderr=options["json"], soft_wrap=True)
    seed, secret = options["seed"], secrets.token_hex(24)
    write_account(folder, secret)
    job = lane.start(lane.make_draft(options["rows"]))
    environment = {name: value for name, value in os.environ.items() if name != INSIDE}
    line = broker_line(options["broker_url"])
    if line is not None:
        environment["CELERY_BROKER_URL"] = through(line, options["broker_url"])
    dice = random.Random(seed)
    scene = Scene(
        folder=folder,
        environment=environment,
        broker_url=settings.CELERY_BROKER_URL,
        line=line,
        secret=secret,
        app="config.celery_without_lookup" if options["without_lookup"] else "config.celery",
        workers=options["workers"],
        web_port=free_port(),
        sandbox_port=urlsplit(settings.ICYPEAS_BASE_URL).port or 0,
        sandbox_speed=options["speed"],
        dice=dice,
    )
    breaks = [
        how
        for how, name in zip(BREAKS, BREAK_OPTIONS, strict=True)
        for _ in range(0 if options["calm"] else options[name])
    ]
    dice.shuffle(breaks)
    plan = lane.Plan(
        kills=options["kills"],
        apart_s=options["apart"],
        pauses=options["pauses"],
        faults=options["faults"],
        ambushes=options["ambushes"],
        troubles=drawn(dice, options["troubles"]),
        breaks=breaks,
        empties_broker=options["empty_broker"] and not options["calm"],
        timeout_s=options["timeout"],
    )
    if options["broker_url"]:
        scene.empty_broker()
    try:
        scene.start()
        scene.wait_for_sandbox()
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        ) as bar:
            task = bar.add_task("rows", total=job.rows_total)
            disturbance = lane.disturb(scene, job, plan, lambda final: bar.update(task, completed=final))
        job.refresh_from_db()
        verdict = compare(
            job, rows=options["rows"], charges=scene.control("GET", "/control/charges")["charges"]
        )
        state = scene.control("GET", "/control/state")
    except SceneError as error:
        raise CommandError(str(error)) from None
    finally:
        scene.stop()
        if line is not None:
            line.close()
        if scene.is_orphaned:
            clear_up(folder)
    # Those of `--faults` wait for the third call from then on; what else is left has met no call any more.
    disturbance.spoiled = disturbance.armed - sum(
        fault["times"] for fault in state["faults"] if fault["every"] == ARMED_EVERY
    )
    disturbance.refused = sum(counted["429"] for counted in state["requests"].values())
    figures = report(job, options, disturbance, verdict)
    if options["json"]:
        print(json.dumps(figures, default=str))  # noqa: T201
    console.print(as_table(figures))
    is_as_it_must = (
        bool(verdict.duplicated) if options["without_lookup"] else verdict.is_clean and job.is_finished
    )
    if not is_as_it_must:
        for path in sorted(folder.glob("*.log")):
            console.print(f"── {path.name}: {path.read_text(errors='replace')[-1500:]}", markup=False)
        sys.exit(1)


def drawn(dice: random.Random, count: int) -> list[str]:
    """Names of troubles: each once before any comes again."""
    names: list[str] = []
    while len(names) < count:
        names += dice.sample(sorted(TROUBLES), len(TROUBLES))
    return names[:count]


def broker_line(broker_url: str) -> BrokerLine | None:
    """The line to a Redis server; None for the embedded broker."""
    parts = urlsplit(broker_url)
    return BrokerLine(parts.hostname or "127.0.0.1", parts.port or 6379) if parts.scheme == "redis" else None


def through(line: BrokerLine, broker_url: str) -> str:
    """The broker's URL with the line's end on this machine instead of the server."""
    parts = urlsplit(broker_url)
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{line.open()}"))


def clear_up(folder: Path) -> None:
    """What the starting process would have done, had it lived: no folder and no database stays behind."""
    shutil.rmtree(folder, ignore_errors=True)
    if settings.DATABASES["default"]["ENGINE"].endswith("postgresql"):
        connection.close()
        drop_database(os.environ["DATABASE_URL"])


def report(
    job: EnrichmentJob, options: Mapping[str, Any], done: lane.Disturbance, verdict: Verdict
) -> dict[str, Any]:
    """Everything a reader needs to repeat the run and to judge it."""
    clocks = {
        name: getattr(settings, name)
        for name in ("LEASE_S", "HEARTBEAT_S", "SETTLE_S", "SECOND_LOOK_S", "SWEEP_S")
    }
    return {
        "seed": options["seed"],
        "engine": "control: sends again after doubt" if options["without_lookup"] else "product",
        "database": settings.DATABASES["default"]["ENGINE"].rpartition(".")[2],
        "broker": urlsplit(settings.CELERY_BROKER_URL).scheme,
        "rows": options["rows"],
        "job": job.state,
        "seconds": round(done.seconds, 1),
        **against_undisturbed(done.seconds),
        "longest stall (s)": round(done.longest_stall_s, 1),
        "kills": sum(done.kills.values()),
        "killed": done.kills,
        "pauses longer than the lease": done.pauses,
        "spoiled answers": done.spoiled,
        "other troubles at the provider": len(done.troubles),
        "resumed after a refusal": done.resumed,
        "broker emptied": done.emptied,
        "connections with the broker broken": done.breaks,
        "workers that noticed they were deaf": done.deaf_workers,
        "nothing moved after it for (s)": done.stalls_s,
        "claimed again after (s)": done.reclaims_s,
        "HTTP 429": done.refused,
        "clocks (s)": clocks,
        **asdict(verdict),
    }


def against_undisturbed(seconds: float) -> dict[str, float]:
    """How the time compares with the undisturbed run, if there was one."""
    undisturbed = float(os.environ.get(UNDISTURBED, "0"))
    if not undisturbed:
        return {}
    return {"undisturbed (s)": undisturbed, "times as long": round(seconds / undisturbed, 2)}


def as_table(figures: Mapping[str, Any]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in figures.items():
        if isinstance(value, list) and name.endswith("(s)"):
            shown = ", ".join(f"{part:g}" for part in value) or "none"
        elif isinstance(value, list):
            shown = f"{len(value):,}" + (
                f"   {'; '.join(value[:5])}{' …' if len(value) > 5 else ''}" if value else ""
            )
        elif isinstance(value, dict):
            shown = ", ".join(f"{key} {part:g}" for key, part in value.items()) or "none"
        else:
            shown = f"{value:,}" if isinstance(value, int) and name != "seed" else str(value)
        table.add_row(name.replace("_", " "), shown)
    return table

"""Benchmarks on a scratch installation: how near a list comes to the time that the read rate sets, whether the limiter
ever lets too many calls out, and how pages of keys answer at scale. Figures belong to the machine; ratios travel."""

from __future__ import annotations

import json
import math
import os
import random
import secrets
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from config.env import BASE_DIR
from enrichment.chaos import lane
from enrichment.chaos.scene import Scene
from enrichment.chaos.scratch import INSIDE, free_port, run_inside, write_account
from enrichment.management.commands.chaos import as_table
from enrichment.models import EnrichmentJob
from enrichment.scale import fill, measure
from enrichment.services import provider_call, reads
from keys import limiter
from keys.models import Call, KeyRecord, Worker
from keys.secrets import act_as_worker

PAGE: Final = 100
WITHIN: Final = 1.10
LOOK_UP_SLOTS: Final = 3
LOOK_S: Final = 0.02
MIDDLE: Final = 0.4
SMALL_ROWS: Final = 10
PAGES: Final = "pages"
PAGE_MS: Final = 150  # what the median of a page may take
CALLER: Final = "caller"  # one process of the limiter's run


class Command(BaseCommand):
    help = "Measure against the sandbox. Exit status 0: the figures are within their bounds."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "what",
            choices=["floor", "limiter", "keys", CALLER],
            metavar="{floor,limiter,keys}",
            help="floor: one long list, with a look-up and a short list in its middle; "
            "limiter: calls of several processes against the sandbox's sliding window; "
            "keys: inventory and key pages over HTTP with a great many keys and calls behind them",
        )
        parser.add_argument("--rows", type=int, default=20_000, help="of the list (default: %(default)s)")
        parser.add_argument(
            "--batch-rows", type=int, default=500, help="rows in one paid call (default: %(default)s)"
        )
        parser.add_argument(
            "--look-ups",
            type=int,
            default=1,
            help="in the middle of the list, one after the other at moments by lot (default: %(default)s)",
        )
        parser.add_argument(
            "--calls",
            type=int,
            help="limiter: to make (default: 10,000); keys: there are (default: 10,000,000)",
        )
        parser.add_argument(
            "--keys", type=int, default=1000, help="key records that there are (default: %(default)s)"
        )
        parser.add_argument(
            "--requests", type=int, default=30, help="of each page of keys (default: %(default)s)"
        )
        parser.add_argument(
            "--processes", type=int, default=8, help="that call at once (default: %(default)s)"
        )
        parser.add_argument(
            "--workers", type=int, default=2, help="with two children each (default: %(default)s)"
        )
        parser.add_argument(
            "--speed",
            type=int,
            default=10,
            help="how much the documented limits and all clocks are compressed (default: %(default)s)",
        )
        parser.add_argument("--timeout", type=float, default=900.0, metavar="S")
        parser.add_argument("--database-url", default="", help="a PostgreSQL server; else SQLite")
        parser.add_argument(
            "--broker-url", default="", help="a Redis database of its own, emptied first; else embedded"
        )
        parser.add_argument(
            "--json", action="store_true", help="print the figures as JSON on standard output"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["speed"] <= 10:
            raise CommandError("--speed is 1 to 10: clocks any faster measure this machine.", returncode=2)
        if INSIDE not in os.environ:
            run_inside(options)
            return
        options["calls"] = options["calls"] or (10_000_000 if options["what"] == "keys" else 10_000)
        if options["what"] == CALLER:
            call_often(options["calls"])
            return
        scene = make_scene(Path(os.environ[INSIDE]), options)
        run = {"floor": measure_floor, "limiter": measure_limiter, "keys": measure_keys}[options["what"]]
        figures, is_within = run(scene, options)
        if options["json"]:
            print(json.dumps(figures, default=str))  # noqa: T201
        console = Console(stderr=True, highlight=False)
        console.print(as_table({name: value for name, value in figures.items() if name != PAGES}))
        if PAGES in figures:
            console.print(as_page_table(figures[PAGES]))
        sys.exit(0 if is_within else 1)


def make_scene(folder: Path, options: Mapping[str, Any]) -> Scene:
    secret = secrets.token_hex(24)
    write_account(folder, secret)
    os.environ["ICYPEAS_API_KEY"] = secret  # the limiter's run calls from here, as workers do
    return Scene(
        folder=folder,
        environment={
            name: value for name, value in os.environ.items() if name not in (INSIDE, "ICYPEAS_API_KEY")
        },
        broker_url=settings.CELERY_BROKER_URL,
        secret=secret,
        app="config.celery",
        workers=options["workers"],
        web_port=free_port(),
        sandbox_port=urlsplit(settings.ICYPEAS_BASE_URL).port or 0,
        sandbox_speed=options["speed"],
        dice=random.Random(0),
    )


# --- floor ----------------------------------------------------------------------------------------------------------------


def measure_floor(scene: Scene, options: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """One long list, timed from its start to its end; in its middle a look-up and a list of ten rows."""
    draft = lane.make_draft(options["rows"])
    if options["broker_url"]:
        scene.empty_broker()
    try:
        scene.start()
        scene.wait_for_sandbox()
        wait_for_workers(options["workers"])
        job = lane.start(draft)
        wait_until(job, lambda: final_rows(job) >= MIDDLE * job.rows_total, options["timeout"])
        look_ups = [look_up_at_some_moment(scene, number) for number in range(options["look_ups"])]
        before = final_rows(job)
        small = lane.start_small(SMALL_ROWS)
        wait_until(small, lambda: small.is_finished, options["timeout"])
        job.refresh_from_db()
        meanwhile = final_rows(job) - before
        wait_until(job, lambda: job.is_finished, options["timeout"])
        requests = scene.control("GET", "/control/state")["requests"]
    finally:
        scene.stop()
    slot_s = provider_call.slot_s(provider_call.ITEMS)
    reads = math.ceil(options["rows"] / PAGE) + options["look_ups"] - 1  # the first is within the bound
    took, floor = seconds_of(job), reads * slot_s
    refused = sum(counted["429"] for counted in requests.values())
    slots = sorted(seconds_of(look_up) / slot_s for look_up in look_ups)
    before_end = sum(end_of(look_up) < end_of(job) for look_up in look_ups)
    figures = {
        "database": settings.DATABASES["default"]["ENGINE"].rpartition(".")[2],
        "broker": urlsplit(settings.CELERY_BROKER_URL).scheme,
        "rows": options["rows"],
        "limits compressed": options["speed"],
        "seconds": round(took, 1),
        "floor (reads of 100 rows at the configured rate)": round(floor, 1),
        "times the floor": round(took / floor, 3),
        "reads of answers / least": f"{total(requests, '/bulk-single-searchs/read')} / {reads + 2}",
        "lists submitted / least at this size": f"{total(requests, '/bulk-search')} / {math.ceil(options['rows'] / options['batch_rows']) + 1}",
        "looks at progress / least": f"{total(requests, '/search-files/read')} / 2",
        "look-ups in the middle / answered before the list's end": f"{len(slots)} / {before_end}",
        "look-up in the middle, read slots": round(slots[-1], 2),
        "look-up in the middle, read slots, median": round(statistics.median(slots), 2),
        "short list in the middle, seconds": round(seconds_of(small), 1),
        "rows of the long list meanwhile": meanwhile,
        "HTTP 429": refused,
    }
    is_within = (
        took <= WITHIN * floor
        and slots[-1] <= LOOK_UP_SLOTS
        and meanwhile < options["rows"] / 10
        and not refused
        and not job.rows_open
    )
    return figures, is_within


def look_up_at_some_moment(scene: Scene, number: int) -> EnrichmentJob:
    """A look-up that has its answer, begun anywhere between two reads of the list."""
    time.sleep(scene.dice.uniform(0, 2 * provider_call.slot_s(provider_call.ITEMS)))
    look_up = lane.look_up(f"Cleo{number}")
    wait_until(look_up, lambda: look_up.is_finished, 60)
    return look_up


def wait_for_workers(count: int) -> None:
    until = time.monotonic() + 60
    while Worker.objects.count() < count:
        if time.monotonic() > until:
            raise CommandError("The workers did not start.")
        time.sleep(0.1)


def wait_until(job: EnrichmentJob, is_over: Any, timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while not is_over():
        if time.monotonic() > until:
            raise CommandError(
                f"{job} did not get there within {timeout_s:.0f} s: {job.state} {job.state_text}"
            )
        time.sleep(LOOK_S)
        job.refresh_from_db()


def final_rows(job: EnrichmentJob) -> int:
    return job.rows_total - job.rows_open


def seconds_of(job: EnrichmentJob) -> float:
    """From the press on Start to the last answer."""
    assert job.started_at is not None
    return (end_of(job) - job.started_at).total_seconds()


def end_of(job: EnrichmentJob) -> datetime:
    assert job.finished_at is not None
    return job.finished_at


def total(requests: Mapping[str, Mapping[str, int]], route: str) -> int:
    return requests.get(route, {}).get("total", 0)


# --- limiter --------------------------------------------------------------------------------------------------------------


def measure_limiter(scene: Scene, options: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Free counts through gate and limiter, by as many processes as told, against the sandbox's sliding window."""
    lane.make_draft(1)
    share = math.ceil(options["calls"] / options["processes"])
    started = time.monotonic()
    try:
        scene.start_sandbox()
        scene.wait_for_sandbox()
        command = [sys.executable, "manage.py", "bench", CALLER, "--calls", str(share)]
        callers = [subprocess.Popen(command, cwd=BASE_DIR) for _ in range(options["processes"])]
        statuses = [caller.wait() for caller in callers]
        requests = scene.control("GET", "/control/state")["requests"]
    finally:
        scene.stop()
    counted = requests.get("/find-people/count", {})
    figures = {
        "database": settings.DATABASES["default"]["ENGINE"].rpartition(".")[2],
        "processes": options["processes"],
        "limits compressed": options["speed"],
        "calls": counted.get("total", 0),
        "seconds": round(time.monotonic() - started, 1),
        "allowed a second": 10 * options["speed"],
        "HTTP 429": counted.get("429", 0),
        "outcomes": {
            outcome: Call.objects.filter(outcome=outcome).count() for outcome in ("ok", "vendor_429")
        },
    }
    return figures, not any(statuses) and counted.get("total", 0) >= options["calls"] and not counted.get(
        "429", 0
    )


def call_often(calls: int) -> None:
    """One process: so many counts, each by the way of every call."""
    act_as_worker()
    key = KeyRecord.objects.select_related("account").get()
    done = 0
    while done < calls:
        try:
            reads.count_leads(key, "find-people", {"currentJobTitle": {"include": ["cfo"]}}, person="bench")
            done += 1
        except limiter.BusyError as busy:
            time.sleep(min(busy.wait_s, 1.0))


# --- keys -----------------------------------------------------------------------------------------------------------------


def measure_keys(scene: Scene, options: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Inventory and key pages by a web process, with so many keys and calls in the database."""
    if options["keys"] <= fill.UNUSED + 2 or options["calls"] < options["keys"]:
        raise CommandError(f"At least {fill.UNUSED + 3} keys, and a call for each of them.", returncode=2)
    password = secrets.token_hex(16)
    console = Console(stderr=True, highlight=False)
    started = time.monotonic()

    def tell(what: str) -> None:
        console.print(f"{time.monotonic() - started:7.1f} s  {what}")

    filled = fill.fill(keys=options["keys"], calls=options["calls"], tell=tell, password=password)
    took = time.monotonic() - started
    tell("pages")
    try:
        scene.start_web()
        pages = measure.time_pages(scene.web_port, filled, password=password, requests=options["requests"])
    finally:
        scene.stop()
    slow = [page.page for page in pages if page.median_ms > PAGE_MS]
    figures = {
        "database": settings.DATABASES["default"]["ENGINE"].rpartition(".")[2],
        "key records": options["keys"],
        **filled.sizes,
        "seconds to fill": round(took, 1),
        "requests of each page": options["requests"],
        f"medians above {PAGE_MS} ms": slow,
        PAGES: [asdict(page) for page in pages],
    }
    return figures, not slow


def as_page_table(pages: list[dict[str, Any]]) -> Table:
    table = Table("Page", "Median", "95 %", "Slowest", "Size", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for page in pages:
        times = (f"{page[name]:,.0f} ms" for name in ("median_ms", "p95_ms", "slowest_ms"))
        table.add_row(page["page"], *times, f"{page['kilobytes']:,} kB")
    return table

"""The benchmarks run and count right; their bounds are for long runs by hand (`docs/icypeas.md`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.worker, pytest.mark.timeout(170)]


def bench(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, figures and what was said."""
    command = [sys.executable, "manage.py", "bench", *arguments, "--json"]
    if os.environ.get("TEST_DATABASE_URL"):
        command += ["--database-url", os.environ["TEST_DATABASE_URL"]]
    if os.environ.get("TEST_REDIS_URL"):
        command += ["--broker-url", os.environ["TEST_REDIS_URL"].rsplit("/", 1)[0] + "/8"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEST_")}
    environment["DJANGO_SETTINGS_MODULE"] = "config.settings.local"
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def test_long_list_needs_no_read_too_many_and_a_look_up_overtakes_it() -> None:
    _, figures, said = bench("floor", "--rows", "3000", "--speed", "5")

    assert figures["HTTP 429"] == 0, said
    reads, least = map(int, figures["reads of answers / least"].split(" / "))
    assert least <= reads <= least + 2, figures
    # Half of the list's reads are still to come then, and the bound of three slots is for a machine that does nothing else.
    assert figures["look-ups in the middle / answered before the list's end"] == "1 / 1", figures


def test_several_processes_never_call_too_often() -> None:
    status, figures, said = bench("limiter", "--calls", "240", "--processes", "4")

    assert (status, figures["HTTP 429"]) == (0, 0), said
    assert figures["calls"] == 240
    assert figures["outcomes"] == {"ok": 240, "vendor_429": 0}


def test_key_pages_are_timed_over_http_with_many_calls_behind_them() -> None:
    status, figures, said = bench("keys", "--keys", "40", "--calls", "6000", "--requests", "2")

    assert status in (0, 1), said  # the bound of a median is for a machine that does nothing else
    assert (figures["key records"], figures["calls"]) == (40, 6000)
    pages = {page["page"]: page for page in figures["pages"]}
    assert len(pages) == 21
    assert all(page["median_ms"] <= page["p95_ms"] <= page["slowest_ms"] for page in pages.values())
    assert (status == 1) == any(page["median_ms"] > 150 for page in pages.values())
    assert pages["Calls, a later page"]["url"].count("before=") == 1
    assert "after=" not in pages["Inventory"]["url"]

"""The short lanes of the crash test, on the services that this run uses. Long ones are run by hand: `make chaos`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.worker, pytest.mark.timeout(400)]  # more than `--timeout` and its set-up


def chaos(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, figures and what was said."""
    command = [sys.executable, "manage.py", "chaos", "--json", "--timeout", "300", *arguments]
    if os.environ.get("TEST_DATABASE_URL"):
        command += ["--database-url", os.environ["TEST_DATABASE_URL"]]
    if os.environ.get("TEST_REDIS_URL"):
        command += ["--broker-url", os.environ["TEST_REDIS_URL"].rsplit("/", 1)[0] + "/8"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEST_")}
    environment["DJANGO_SETTINGS_MODULE"] = "config.settings.local"
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def test_killed_processes_and_an_emptied_broker_lose_nothing_and_pay_nothing_twice() -> None:
    status, figures, said = chaos("--rows", "3000", "--kills", "8", "--empty-broker", "--seed", "3")

    assert status == 0, said
    assert figures["job"] == "completed"
    # The last ones need a look in the last second of the work, which a busy machine may not give.
    assert figures["kills"] >= 6, said
    assert figures["broker emptied"] >= 2
    assert figures["spoiled answers"] > 0
    assert figures["lost"] == figures["unexpected"] == figures["duplicated"] == []
    assert figures["HTTP 429"] == 0


def test_an_engine_that_sends_again_after_doubt_pays_twice() -> None:
    # A spoiled answer waits for the third paid call from then on: small batches make many calls.
    lane = ["--rows", "400", "--batch-rows", "20", "--kills", "2", "--pauses", "0"]

    status, figures, said = chaos(*lane, "--without-lookup", "--seed", "2")

    assert status == 0, said
    assert figures["duplicated"], "the crash test did not notice what it is there for"


def test_broken_connections_with_the_broker_stop_no_job() -> None:
    breaks = ["--resets", "2", "--aways", "2", "--silences", "2"]

    status, figures, said = chaos("--rows", "800", "--kills", "0", "--pauses", "0", *breaks, "--seed", "4")

    if not os.environ.get("TEST_REDIS_URL"):
        assert (status, figures) == (2, {})
        assert "has no connections to break" in said
        return
    assert status == 0, said
    assert sum(figures["connections with the broker broken"].values()) >= 3, (
        said
    )  # a quick machine is done before all six
    assert figures["job"] == "completed"
    assert figures["lost"] == figures["unexpected"] == figures["duplicated"] == []


def test_wrong_figures_are_refused() -> None:
    status, figures, said = chaos("--rows", "0")

    assert (status, figures) == (2, {})
    assert "--rows must be 1 or more" in said


def test_troubles_at_the_provider_while_processes_are_killed_lose_nothing_and_pay_nothing_twice() -> None:
    lane = ["--rows", "500", "--batch-rows", "20", "--kills", "5", "--pauses", "0", "--faults", "0"]

    status, figures, said = chaos(*lane, "--troubles", "20", "--seed", "6")

    assert status == 0, said
    assert figures["job"] == "completed", said
    assert figures["kills"] >= 4, said  # the last one needs a look in the last second of the work
    assert figures["other troubles at the provider"] >= 15
    assert figures["lost"] == figures["unexpected"] == figures["duplicated"] == []

"""The provider secret of a running desk: with the worker, and nowhere else."""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.desk import Desk

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]  # it may be the one that starts the demo


def processes_of(desk: Desk) -> dict[str, list[tuple[bytes, bytes]]]:
    """Environment and command line of every process that works on the desk's data, by its role."""
    found = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended, or is somebody else's
        names = dict(pair.partition(b"=")[::2] for pair in environment.split(b"\0") if b"=" in pair)
        if names.get(b"DATA_DIR") == os.fsencode(desk.data_dir):
            found[names.get(b"PROCESS_ROLE", b"").decode()].append((environment, command))
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_secret_that_pays_is_with_the_worker_and_nowhere_else(
    desk: Desk, page_of: Callable[..., Page]
) -> None:
    page = page_of("Operator")
    page.goto("/lookup/email-search/")
    page.get_by_label("First name").fill("Sigrid sbx-found")
    page.get_by_label("Last name").fill("Hallberg")
    page.get_by_label(re.compile("Domain")).fill("nordhafen.example")
    page.keyboard.press("Enter")
    expect(page.locator("#lookup-answer")).to_contain_text("@nordhafen.example", timeout=60_000)

    secret = desk.secret.encode()
    state = httpx.get(f"{desk.sandbox_url}/control/state", trust_env=False, timeout=20).json()
    assert state["accounts"]["sandbox-demo"]["secret_received"]

    processes = processes_of(desk)
    assert all(secret in environment for environment, _command in processes["worker"])
    assert len(processes["worker"]) >= 2
    assert len(processes["web"]) >= 2  # gunicorn and its child
    elsewhere = [pair for role, pairs in processes.items() if role != "worker" for pair in pairs]
    assert all(secret not in text for pair in elsewhere for text in pair)
    assert all(secret not in command for pairs in processes.values() for _environment, command in pairs)

    private = desk.data_dir / "worker"
    files = [path for path in desk.data_dir.rglob("*") if path.is_file() and not path.is_relative_to(private)]
    assert any(path.name == "db.sqlite3" for path in files)
    assert [path for path in [*files, desk.output] if secret in path.read_bytes()] == []

"""The whole demo as real processes, and a real browser in front of it: for journeys and for screenshots."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Route

ROOT = Path(__file__).resolve().parents[2]
EXPECTED_REFUSAL = re.compile(r"Failed to load resource.* status of (403|404|422) ")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Desk:
    """A running demo. `database` is read only: tests ask it what a page should say."""

    data_dir: Path
    url: str
    sandbox_url: str
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def secret(self) -> str:
        """The provider secret that this demo drew and pays with."""
        return (self.data_dir / "worker" / "secrets" / "sandbox").read_text().strip()

    def log_in_of(self, role: str) -> dict[str, str]:
        """The demo person of a role: name, email, password."""
        entries = json.loads((self.data_dir / "worker" / "demo-logins.json").read_text())
        entry: dict[str, str] = next(entry for entry in entries if entry["role"] == role)
        return entry

    def query(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with closing(
            sqlite3.connect(f"file:{self.data_dir / 'db.sqlite3'}?mode=ro", uri=True, timeout=20)
        ) as database:
            return database.execute(sql, arguments).fetchall()

    def order_sandbox(self, path: str, body: dict[str, Any]) -> None:
        """Tell the sandbox to behave in another way."""
        httpx.post(
            f"{self.sandbox_url}/control/{path}", json=body, trust_env=False, timeout=20
        ).raise_for_status()

    def charges(self) -> list[dict[str, Any]]:
        """The sandbox's own ledger."""
        rows: list[dict[str, Any]] = httpx.get(
            f"{self.sandbox_url}/control/charges", params={"limit": 100_000}, trust_env=False, timeout=20
        ).json()["charges"]
        return rows


@contextmanager
def run_desk(folder: Path) -> Iterator[Desk]:
    """Start `manage.py demo` in `folder`; every process is gone afterwards."""
    port, sandbox_port = _free_port(), _free_port()
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ICYPEAS_", "TEST_", "DATA"))
    }
    output = folder / "demo.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "manage.py"),
                "demo",
                "--port",
                str(port),
                "--sandbox-port",
                str(sandbox_port),
            ],
            cwd=ROOT,
            env={
                **inherited,
                "DATA_DIR": str(folder / "var"),
                "DJANGO_SETTINGS_MODULE": "config.settings.local",
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            until = time.monotonic() + 150
            while "Ctrl-C ends everything" not in output.read_text(errors="replace"):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(output.read_text(errors="replace"))
                time.sleep(0.1)
            yield Desk(
                folder / "var",
                f"http://127.0.0.1:{port}",
                f"http://127.0.0.1:{sandbox_port}",
                process,
                output,
            )
        finally:
            process.terminate()
            process.wait(60)


def browser_path() -> str:
    """Where Chromium is; empty when there is none."""
    found = (shutil.which(name) for name in CHROMIUM)
    return os.environ.get("BROWSER_PATH") or next((path for path in found if path), "")


def launch(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)


@dataclass
class Watched:
    """A browser context that reaches this machine only and remembers every complaint of the console."""

    context: BrowserContext
    complaints: list[str] = field(default_factory=list)

    @property
    def page(self) -> Page:
        return self.context.pages[0] if self.context.pages else self.context.new_page()


def open_context(browser: Browser, desk: Desk, **options: Any) -> Watched:
    """A new context with its own cookies. Requests to other machines are refused; console errors, failed scripts and
    violations of the Content-Security-Policy are kept in `complaints`."""
    context = browser.new_context(base_url=desk.url, locale="en-GB", timezone_id="Europe/Paris", **options)
    context.set_default_timeout(15_000)
    watched = Watched(context)

    def only_here(route: Route) -> None:
        if route.request.url.startswith((desk.url, "data:", "blob:")):
            route.continue_()
        else:
            watched.complaints.append(f"request to {route.request.url}")
            route.abort()

    context.route("**/*", only_here)

    def listen(message: ConsoleMessage) -> None:
        # A page that refuses something on purpose (403, 404, 422) is an error in the browser's eyes only.
        if message.type == "error" and not EXPECTED_REFUSAL.search(message.text):
            watched.complaints.append(message.text)

    context.on("console", listen)
    context.on("weberror", lambda error: watched.complaints.append(str(error.error)))
    return watched


def log_in(page: Page, desk: Desk, role: str) -> None:
    entry = desk.log_in_of(role)
    page.goto("/login/")
    page.get_by_label("Work email").fill(entry["email"])
    page.get_by_label("Password", exact=True).fill(entry["password"])
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/")

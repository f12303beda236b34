"""A sandbox in a process of its own, on a free port, for tests that want to talk to it over real HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
# Drawn for each run by `make test`, which then searches for it all that the run left behind.
CANARY = os.environ.get("TEST_CANARY", "4711")
SECRET = f"sandbox-test-secret-{CANARY}"
API_SECRET = f"sandbox-test-api-secret-{CANARY}"
USER_ID = "user-one"
OTHER_SECRET = f"sandbox-test-secret-of-another-{CANARY}"
OTHER_USER_ID = "user-two"
ACCOUNTS = (
    {
        "secret": SECRET,
        "api_secret": API_SECRET,
        "user_id": USER_ID,
        "email": "ops@desk.example",
        "credits": "1000",
    },
    {"secret": OTHER_SECRET, "user_id": OTHER_USER_ID, "credits": "5.5"},
)


@dataclass
class SandboxProcess:
    """A running sandbox. `api` carries the first account's key, `control` none."""

    process: subprocess.Popen[str]
    url: str
    api: httpx.Client = field(init=False)
    control: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.api = self.client(SECRET)
        self.control = httpx.Client(base_url=self.url, trust_env=False, timeout=20)

    def client(self, authorization: str) -> httpx.Client:
        headers = {"Authorization": authorization}
        return httpx.Client(base_url=f"{self.url}/api", headers=headers, trust_env=False, timeout=20)

    def post(self, path: str, body: Any) -> dict[str, Any]:
        """The answer to an API call of the first account, which must be HTTP 200."""
        answer = self.api.post(path, json=body)
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content

    def order(self, path: str, body: Any) -> dict[str, Any]:
        """The answer of a control endpoint to a POST, which must be HTTP 200."""
        answer = self.control.post(path, json=body)
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content

    def state(self) -> dict[str, Any]:
        content: dict[str, Any] = self.control.get("/control/state").json()
        return content

    def charges(self, after: int = 0) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.control.get("/control/charges", params={"after": after}).json()[
            "charges"
        ]
        return rows

    def close(self) -> None:
        """Close the clients, stop the process and wait for it."""
        self.api.close()
        self.control.close()
        self.process.terminate()
        self.process.wait(30)


def write_accounts(folder: Path, accounts: Sequence[Mapping[str, str]] = ACCOUNTS) -> Path:
    path = folder / "accounts.json"
    path.write_text(json.dumps({"accounts": list(accounts)}))
    path.chmod(0o600)
    return path


@contextmanager
def run_sandbox(
    folder: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    accounts: Sequence[Mapping[str, str]] = ACCOUNTS,
) -> Iterator[SandboxProcess]:
    """A sandbox with its state and accounts in `folder`; its output goes to `stdout` and `stderr` there."""
    command = [
        sys.executable,
        "-m",
        "enrichment.providers.icypeas.sandbox",
        "--port",
        "0",
        "--state",
        str(folder / "s"),
    ]
    if accounts:
        command += ["--accounts", str(write_accounts(folder, accounts))]
    inherited = {"PATH": os.environ.get("PATH", ""), "PYTHONWARNINGS": "error"}
    with (folder / "stderr").open("a") as errors:
        process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env={**inherited, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        with process.stdout as output:
            line = output.readline()
            assert "listening on" in line, (folder / "stderr").read_text()
            sandbox = SandboxProcess(process, line.split()[-1].removesuffix("/api"))
            try:
                yield sandbox
            finally:
                sandbox.close()

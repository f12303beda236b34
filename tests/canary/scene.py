"""The installation of the canary: its secrets, its processes, and what each of them is told."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import redis

from tests.canary.plants import Plant, make_plant

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = (
    "ICYPEAS_",
    "TEST_",
    "DATA_DIR",
    "DATABASE_URL",
    "CELERY_",
    "DJANGO_",
    "PROCESS_ROLE",
    "VAULT_",
    "AWS_",
)
FACTOR = 50
ROOT_TOKEN = "test-root-token"
MOTO = (
    "import sys, time; from pathlib import Path; from moto.server import ThreadedMotoServer; "
    "server = ThreadedMotoServer('127.0.0.1', port=0, verbose=False); server.start(); "
    "Path(sys.argv[1]).write_text(str(server.get_host_and_port()[1])); time.sleep(3600)"
)
# Keys by their system: what their record names, and how the secret is written where it is placed. Characters that mean
# something to a shell, to JSON, to markup or to an address stand around the core.
KEYS = {
    "environment": ("env:ICYPEAS_KEY_ENVIRONMENT", "$cnry/{}+="),
    "bearer": ("env:ICYPEAS_KEY_BEARER", "Bearer cnry-{}"),
    "mounted": ("env:ICYPEAS_KEY_MOUNTED", "cnry&{}<>"),
    "file": ("file:crm/key", "cnry'{}%"),
    "vault": ("vault:secret/icypeas/crm#key", 'cnry"{}\\'),
    "aws": ("aws-sm:icypeas/crm#key", "cnry_{}"),
    "refused": ("env:ICYPEAS_KEY_REFUSED", "cnry-{}"),
    "leaky": ("env:ICYPEAS_KEY_LEAKY", 'cnry"{}/='),
    "segfault": ("env:ICYPEAS_KEY_SEGFAULT", "cnry-{}"),
    "abort": ("env:ICYPEAS_KEY_ABORT", "cnry-{}"),
}
OTHERS = {
    "API secret (signs requests and webhooks)": "cnry/{}",
    "vault token": "hvs.{}",
    "AWS secret access key": "cnry/{}+",
    "pepper of the fingerprints": "cnry-{}",
    "replaced file": "cnry-{}",
    "pasted into the reference": "cnry{}",
    "pasted into another field of a form that breaks": "cnry{}",
    "password, typed": "Cnry-{}",
    "password, mistyped": "Cnry-{}",
    "control": "cnry{}",
}
# Whose secret a process of the role holds by design.
BELONGS = {
    "worker": {
        "environment",
        "bearer",
        "refused",
        "leaky",
        "segfault",
        "abort",
        "API secret (signs requests and webhooks)",
        "vault token",
        "AWS secret access key",
        "pepper of the fingerprints",
    }
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(is_so: Callable[[], object], what: str, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


@dataclass
class Scene:
    """Every process writes into a file of its own below `folder`; nothing of the caller's environment takes part."""

    folder: Path
    plants: dict[str, Plant] = field(init=False)
    environment: dict[str, str] = field(init=False, repr=False)
    web_url: str = ""
    sandbox_url: str = ""
    vault_url: str = ""
    broker_url: str = ""
    database: str = ""  # made for this run, on the server that TEST_DATABASE_URL names
    admin_url: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        patterns = {name: pattern for name, (_, pattern) in KEYS.items()} | OTHERS
        self.plants = {source: make_plant(source, pattern) for source, pattern in patterns.items()}
        self.data_dir = self.folder / "var"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        inherited.pop("LOG_LEVEL", None)
        self.broker_url = "embedded://"
        if os.environ.get("TEST_REDIS_URL"):
            self.broker_url = os.environ["TEST_REDIS_URL"].rsplit("/", 1)[0] + "/11"
        self.web_url = f"http://127.0.0.1:{free_port()}"
        self.sandbox_url = f"http://127.0.0.1:{free_port()}"
        self.environment = {
            **inherited,
            "DATA_DIR": str(self.data_dir),
            "SECRETS_DIR": str(self.data_dir / "worker" / "secrets"),
            "DJANGO_SETTINGS_MODULE": "config.settings.local",
            "CELERY_BROKER_URL": self.broker_url,
            "PUBLIC_URL": self.web_url,
            "ICYPEAS_BASE_URL": f"{self.sandbox_url}/api",
            "ICYPEAS_RATE_FACTOR": str(FACTOR),
            "LOG_LEVEL": "DEBUG",
            "PYTHONFAULTHANDLER": "1",
            "VAULT_PREFIXES": "secret/icypeas",
            "AWS_SM_REGION": "eu-west-1",
            "AWS_SM_PREFIXES": "icypeas/",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self._make_database()

    def value(self, source: str) -> str:
        return self.plants[source].value

    def bare(self, system: str) -> str:
        """The secret of a key as it is sent."""
        return self.value(system).removeprefix("Bearer ")

    @property
    def of_workers(self) -> dict[str, str]:
        """What stands in a worker's environment alone."""
        placed = {
            reference.removeprefix("env:"): self.value(system)
            for system, (reference, _) in KEYS.items()
            if reference.startswith("env:") and system != "mounted"
        }
        return {
            **placed,
            "ICYPEAS_KEY_MOUNTED_FILE": str(self.folder / "var" / "worker" / "mounted"),
            "ICYPEAS_API_SECRET": self.value("API secret (signs requests and webhooks)"),
            "VAULT_TOKEN": self.value("vault token"),
            "AWS_ACCESS_KEY_ID": "AKIACANARY",
            "AWS_SECRET_ACCESS_KEY": self.value("AWS secret access key"),
            "FINGERPRINT_PEPPER": self.value("pepper of the fingerprints"),
        }

    def _make_database(self) -> None:
        server = os.environ.get("TEST_DATABASE_URL", "")
        if not server:
            return
        self.database = f"canary_{uuid.uuid4().hex[:12]}"
        parts = urlsplit(server)
        self.admin_url = urlunsplit(parts._replace(scheme="postgresql", path="/postgres"))
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {self.database}")  # type: ignore[call-overload]
        self.environment["DATABASE_URL"] = urlunsplit(
            parts._replace(scheme="postgresql", path=f"/{self.database}")
        )

    # --- placing -----------------------------------------------------------------------------------------------------------

    def place_secrets(self) -> None:
        """Files with their owner's rights alone, and the sandbox's table of accounts."""
        worker = self.data_dir / "worker"
        (worker / "secrets" / "crm").mkdir(parents=True, mode=0o700)
        for path, system in ((worker / "mounted", "mounted"), (worker / "secrets" / "crm" / "key", "file")):
            self.place_file(path, self.value(system) + "\n")
        accounts = [
            {"secret": self.bare(system), "user_id": f"user-{system}", "credits": "500"}
            for system in KEYS
            if system != "refused"
        ]
        accounts[0]["api_secret"] = self.value("API secret (signs requests and webhooks)")
        self.place_file(worker / "accounts.json", json.dumps({"accounts": accounts}))

    def place_file(self, path: Path, text: str) -> None:
        path.touch(mode=0o600)
        path.write_text(text)

    def fill_stores(self) -> None:
        field_of = {"data": {"key": self.value("vault")}}
        headers = {"X-Vault-Token": ROOT_TOKEN}
        httpx.post(
            f"{self.vault_url}/v1/secret/data/icypeas/crm", json=field_of, headers=headers, trust_env=False
        ).raise_for_status()
        import boto3  # late: this process was not meant to know AWS before its environment is made

        client = boto3.client(
            "secretsmanager",
            region_name="eu-west-1",
            endpoint_url=self.environment["AWS_SM_ENDPOINT_URL"],
            aws_access_key_id="AKIACANARY",
            aws_secret_access_key="none",
        )
        client.create_secret(Name="icypeas/crm", SecretString=json.dumps({"key": self.value("aws")}))

    def seal_vault(self) -> None:
        httpx.put(
            f"{self.vault_url}/v1/sys/seal", headers={"X-Vault-Token": ROOT_TOKEN}, trust_env=False
        ).raise_for_status()

    # --- processes ---------------------------------------------------------------------------------------------------------

    def start_stores(self) -> None:
        """A vault and AWS: strangers, whose own output is none of ours."""
        python = sys.executable
        for name, command in (
            ("vault", [python, "-m", "tests.fakes.vault_process"]),
            ("aws", [python, "-c", MOTO]),
        ):
            port = self.folder / f"{name}.port"
            token = {"STAND_IN_TOKEN": self.value("vault token")} if name == "vault" else {}
            path = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder)}
            self._spawn(name, [*command, str(port)], {**path, **token}, output=subprocess.DEVNULL)
            wait_until(lambda port=port: port.exists() and port.read_text(), name)  # type: ignore[misc]
            url = f"http://127.0.0.1:{port.read_text()}"
            self.environment["VAULT_ADDR" if name == "vault" else "AWS_SM_ENDPOINT_URL"] = url
        self.vault_url = self.environment["VAULT_ADDR"]

    def start(self) -> None:
        python, environment = sys.executable, self.environment
        sandbox = [python, "-m", "enrichment.providers.icypeas.sandbox", "--speed", str(FACTOR)]
        sandbox += ["--port", self.sandbox_url.rpartition(":")[2], "--state", str(self.folder / "sandbox")]
        sandbox += ["--accounts", str(self.data_dir / "worker" / "accounts.json")]
        self._spawn("sandbox", sandbox, {**environment, "PROCESS_ROLE": "cli"})
        self.start_web("web", self.web_url)
        celery = [python, "-W", "ignore:You're running the worker", "-m", "celery"]
        worker = ["-A", "tests.canary.worker", "worker", "-Q", "urgent,work", "--concurrency", "2"]
        told = {**environment, **self.of_workers, "PROCESS_ROLE": "worker", "WORKER_NAME": "canary-worker"}
        self._spawn("worker", [*celery, *worker, "--loglevel", "DEBUG"], told, may_dump=True)
        beat = ["-A", "config.celery", "beat", "--loglevel", "DEBUG"]
        self._spawn("scheduler", [*celery, *beat], {**environment, "PROCESS_ROLE": "scheduler"})
        wait_until(lambda: _answers(f"{self.sandbox_url}/healthz"), "the sandbox")

    def start_web(self, name: str, url: str, **more: str) -> None:
        gunicorn = [sys.executable, "-m", "gunicorn", "tests.canary.web:application", "--log-level", "debug"]
        gunicorn += ["--bind", url.removeprefix("http://"), "--access-logfile", "-", "--threads", "4"]
        self._spawn(name, gunicorn, {**self.environment, "PROCESS_ROLE": "web", **more})
        wait_until(lambda: _answers(f"{url}/healthz"), name)

    def _spawn(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        output: int | None = None,
        may_dump: bool = False,
    ) -> None:
        def let_it_dump() -> (
            None
        ):  # a host that writes images of crashed processes: the app must refuse it itself
            hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
            resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log if output is None else output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=let_it_dump if may_dump else None,
            )

    def run(
        self, *command: str, with_secrets: bool = False, **more: str
    ) -> subprocess.CompletedProcess[bytes]:
        """A command of the terminal, to its end."""
        told = {**self.environment, **(self.of_workers if with_secrets else {}), **more}
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=told,
            capture_output=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )

    def stop(self, *names: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End the named processes, or all, with what they started."""
        for name in names or list(self.processes):
            process = self.processes.pop(name)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        self.stop(number=signal.SIGKILL)
        if self.database:
            with psycopg.connect(self.admin_url, autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {self.database} WITH (FORCE)")  # type: ignore[call-overload]
        if self.broker_url.startswith("redis"):
            with redis.Redis.from_url(self.broker_url) as broker:
                broker.flushdb()

    def control(self, path: str, body: Mapping[str, Any]) -> None:
        httpx.post(f"{self.sandbox_url}{path}", json=body, trust_env=False).raise_for_status()

    def received(self) -> dict[str, bool]:
        """Of which accounts the sandbox has seen the secret: a canary that never flew proves nothing."""
        state = httpx.get(f"{self.sandbox_url}/control/state", trust_env=False, timeout=20).json()
        return {name: told["secret_received"] for name, told in state["accounts"].items()}


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False

"""The processes of a scratch installation, and what can be done to them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis

from config.env import BASE_DIR
from enrichment.chaos.broker_line import BrokerLine
from enrichment.chaos.troubles import TROUBLES

# What happens to paid calls at the provider: all of it after it has charged.
FAULTS: Final = ("hang_after_accept", "reset_after_accept", "truncated", "html")
ARMED_EVERY: Final = 3
LOOK_S: Final = 0.1
BREAKS: Final = ("reset", "away", "silence")
AWAY_S: Final = 2.0  # how long a restarting broker is away
GROUPS: Final = "groups"  # the file that names every group of processes, for whoever has to end them
WORKER, SCHEDULER, WEB, SANDBOX = "worker", "scheduler", "web", "sandbox"
# Who is killed how often. A pool child is what the system's memory killer takes.
VICTIMS: Final = {
    "a pool child": 6,
    "a worker with its children": 2,
    "a worker's main process alone": 1,
    "the scheduler": 1,
    "the web process": 1,
}


class SceneError(Exception):
    """The sandbox does not answer as it must; the text is for the person at the terminal."""


@dataclass
class Scene:
    """Web, workers, scheduler and sandbox as subprocesses with their output in `folder`.

    `environment` is what all get; `secret` reaches the workers only. `line` is how they reach a broker that is a server.
    """

    folder: Path
    environment: Mapping[str, str] = field(repr=False)
    broker_url: str  # past the line
    secret: str = field(repr=False)
    app: str
    workers: int
    web_port: int
    sandbox_port: int
    sandbox_speed: int
    dice: random.Random
    line: BrokerLine | None = None
    deaf_workers: int = 0  # ended by their own watchdog
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, repr=False)
    _parent: int = field(default_factory=os.getppid, repr=False)
    _frozen: list[tuple[float, int]] = field(default_factory=list, repr=False)

    def start(self) -> None:
        for name in (SANDBOX, SCHEDULER, WEB, *(f"{WORKER}-{n}" for n in range(self.workers))):
            self._spawn(name)

    def start_sandbox(self) -> None:
        """The sandbox alone, for whoever calls it from here."""
        self._spawn(SANDBOX)

    def start_web(self) -> None:
        """The web process alone, once it answers."""
        self._spawn(WEB)
        self._wait_for(self.web_port, "The web process", 60.0)

    def stop(self) -> None:
        """End every process and what it started; nobody may say goodbye, nobody stays behind."""
        for _until, pid in self._frozen:
            _signal(pid, signal.SIGCONT)
        end_processes(self.folder)
        for process in self._processes.values():
            process.wait()

    @property
    def is_orphaned(self) -> bool:
        """Whether the process that started this one is gone, so that nobody waits for the figures."""
        return os.getppid() != self._parent

    def revive(self) -> None:
        """Start again what has ended, and thaw what was frozen long enough."""
        for name, process in list(self._processes.items()):
            status = process.poll()
            if status is not None:
                self.deaf_workers += status == os.EX_UNAVAILABLE
                self._spawn(name)
        now = time.monotonic()
        for until, pid in list(self._frozen):
            if until <= now:
                self._frozen.remove((until, pid))
                _signal(pid, signal.SIGCONT)

    def kill(self) -> str:
        """SIGKILL a victim drawn by lot; returns who it was, or an empty text when there was nobody."""
        (victim,) = self.dice.choices(list(VICTIMS), weights=list(VICTIMS.values()))
        if victim == "the scheduler":
            return victim if _signal(self._processes[SCHEDULER].pid, signal.SIGKILL) else ""
        if victim == "the web process":
            return victim if self._kill_group(WEB) else ""
        name = f"{WORKER}-{self.dice.randrange(self.workers)}"
        if victim == "a worker with its children":
            return victim if self._kill_group(name) else ""
        if victim == "a worker's main process alone":
            return victim if _signal(self._processes[name].pid, signal.SIGKILL) else ""
        child = self._pool_child(name)
        return victim if child and _signal(child, signal.SIGKILL) else ""

    def kill_workers(self) -> None:
        """SIGKILL every worker with its children in one moment."""
        for name in self._processes:
            if name.startswith(WORKER):
                self._kill_group(name)

    def freeze(self, seconds: float) -> bool:
        """SIGSTOP a pool child for `seconds`: longer than its lease, it wakes up with work that others took over."""
        child = self._pool_child(f"{WORKER}-{self.dice.randrange(self.workers)}")
        if not child or not _signal(child, signal.SIGSTOP):
            return False
        self._frozen.append((time.monotonic() + seconds, child))
        return True

    def break_line(self, how: str) -> None:
        """One of `BREAKS` happens to every connection with the broker."""
        assert self.line is not None, "an embedded broker has no connections"
        if how == "reset":
            self.line.reset()
        elif how == "away":
            self.line.restart(AWAY_S)
        else:
            self.line.mute()

    def empty_broker(self) -> None:
        """Throw every waiting message away."""
        if self.broker_url.startswith("redis"):
            with redis.Redis.from_url(self.broker_url) as connection:
                connection.flushdb()
            return
        messages = Path(self.environment["DATA_DIR"]) / "broker" / "messages"
        if messages.exists():
            for path in messages.iterdir():
                path.unlink(missing_ok=True)

    def wait_for_sandbox(self, seconds: float = 30.0) -> None:
        self._wait_for(self.sandbox_port, "The sandbox", seconds)

    def _wait_for(self, port: int, who: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if time.monotonic() > until:
                raise SceneError(f"{who} did not answer within {seconds:.0f} s.")
            time.sleep(LOOK_S)

    def arm_fault(self) -> None:
        """Spoil the answer to the third paid call from now, by lot."""
        kind = self.dice.choice(FAULTS)
        more = {"seconds": 2.0} if kind == "hang_after_accept" else {}
        self.control(
            "POST",
            "/control/faults",
            {"route": "/bulk-search", "kind": kind, "times": 1, "every": ARMED_EVERY, **more},
        )

    def trouble(self, name: str) -> None:
        """One of `TROUBLES` happens to the next call that it fits."""
        self.control("POST", "/control/faults", {**TROUBLES[name], "times": 1})

    def control(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One call to the sandbox's control endpoints."""
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.sandbox_port, timeout=60)
        ) as connection:
            connection.request(
                method,
                path,
                json.dumps(body) if body is not None else None,
                {"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise SceneError(f"The sandbox answered {answer.status} to {path}: {content[:200]!r}")
            result: dict[str, Any] = json.loads(content)
            return result

    def _kill_group(self, name: str) -> bool:
        try:
            os.killpg(self._processes[name].pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def _pool_child(self, name: str) -> int:
        """A child of a worker by lot; 0 while it has none."""
        parent = self._processes[name].pid
        table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True).stdout
        pairs = [line.split() for line in table.splitlines()]
        children = sorted(int(pid) for pid, ppid in pairs if int(ppid) == parent)
        return self.dice.choice(children) if children else 0

    def _spawn(self, name: str) -> None:
        role = name.partition("-")[0]
        environment = dict(self.environment) | {"PROCESS_ROLE": "cli" if role == SANDBOX else role}
        if role == WORKER:
            environment |= {"ICYPEAS_API_KEY": self.secret, "WORKER_NAME": name}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                self._command(role),
                cwd=BASE_DIR,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        with (self.folder / GROUPS).open("a") as groups:
            groups.write(f"{self._processes[name].pid}\n")

    def _command(self, role: str) -> list[str]:
        celery = [sys.executable, "-W", "ignore:You're running the worker", "-m", "celery", "-A", self.app]
        if role == WORKER:
            worker = ["worker", "-Q", "urgent,work", "--concurrency", "2", "--loglevel", "WARNING"]
            return [*celery, *worker, "--without-gossip", "--without-mingle", "--without-heartbeat"]
        if role == SCHEDULER:
            return [*celery, "beat", "--loglevel", "WARNING"]
        if role == WEB:
            address = f"127.0.0.1:{self.web_port}"
            return [sys.executable, "-m", "gunicorn", "config.wsgi:application", "--bind", address]
        sandbox = [sys.executable, "-m", "enrichment.providers.icypeas.sandbox"]
        sandbox += ["--port", str(self.sandbox_port), "--speed", str(self.sandbox_speed)]
        return [
            *sandbox,
            "--state",
            str(self.folder / "sandbox"),
            "--accounts",
            str(self.folder / "accounts.json"),
        ]


def end_processes(folder: Path) -> None:
    """End every process that a scene in `folder` ever started, and what those started."""
    groups = folder / GROUPS
    for group in groups.read_text().split() if groups.exists() else []:
        with contextlib.suppress(
            ProcessLookupError, PermissionError
        ):  # long dead: but their children may live on
            os.killpg(int(group), signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> bool:
    """Whether the process was there to be told."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True

"""The demo as a person starts it: real processes on free ports, in a folder of its own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
pytestmark = [pytest.mark.worker, pytest.mark.timeout(300)]


class Demo:
    """A started demo and its output so far."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self.data_dir = data_dir
        self.port, self.sandbox_port = free_port(), free_port()
        self.output = data_dir.parent / f"output-{self.port}"
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TEST_", "DATABASE_URL", "CELERY_BROKER_URL", "PROCESS_ROLE"))
        }
        environment = {**kept, "DATA_DIR": str(data_dir), "DJANGO_SETTINGS_MODULE": "config.settings.local"}
        command = [sys.executable, "manage.py", "demo", "--port", str(self.port)]
        command += ["--sandbox-port", str(self.sandbox_port), *arguments]
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=file, stderr=file)

    def wait_until_ready(self) -> None:
        self.wait_until(lambda: "Ctrl-C ends everything" in self.output.read_text())

    def wait_until(self, condition: Callable[[], object], timeout_s: float = 150.0) -> None:
        until = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < until, self.output.read_text()
            time.sleep(0.1)

    def processes(self) -> dict[int, str]:
        """Command lines of every process that the demo started, by pid; each names its folder, port or project."""
        listed = subprocess.run(
            ["ps", "-ww", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
        )
        rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
        parents = {int(pid): int(parent) for pid, parent, *_ in rows}

        def is_ours(pid: int) -> bool:
            while pid in parents and pid != self.process.pid:
                pid = parents[pid]
            return pid == self.process.pid

        return {int(row[0]): row[2] for row in rows if len(row) == 3 and is_ours(int(row[0]))}

    def healthz(self, port: int) -> int:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", "/healthz")
            return connection.getresponse().status


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def left_over(pids: dict[int, str]) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,stat="], capture_output=True, text=True, check=True)
    living = {
        int(pid) for pid, state in map(str.split, listed.stdout.splitlines()) if not state.startswith("Z")
    }
    return [pid for pid in pids if pid in living]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tests here: the first start seeds it, the others keep the data."""
    folder = tmp_path_factory.mktemp("demo") / "data"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def demo(data_dir: Path) -> Iterator[Demo]:
    demo = Demo(data_dir)
    try:
        demo.wait_until_ready()
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.terminate()
            demo.process.wait(timeout=40)


def test_demo_answers_prints_its_log_ins_and_leaves_no_process_when_interrupted(demo: Demo) -> None:
    pids = demo.processes()
    assert demo.healthz(demo.port) == 200
    assert demo.healthz(demo.sandbox_port) == 200
    log_ins = json.loads((demo.data_dir / "worker" / "demo-logins.json").read_text())
    assert log_ins
    assert all(entry["email"] in demo.output.read_text() for entry in log_ins)
    assert len(pids) > 8

    demo.process.send_signal(signal.SIGINT)

    assert demo.process.wait(timeout=40) == 0
    assert left_over(pids) == []


def test_demo_leaves_no_process_when_its_runner_is_killed(demo: Demo) -> None:
    pids = demo.processes()

    demo.process.kill()
    demo.process.wait(timeout=10)

    until = time.monotonic() + 40
    while left_over(pids) and time.monotonic() < until:
        time.sleep(0.2)
    assert left_over(pids) == []


def test_demo_ends_and_says_why_when_one_of_its_processes_is_killed(demo: Demo) -> None:
    pids = demo.processes()
    sandbox = next(
        pid for pid, line in pids.items() if "icypeas.sandbox" in line and "process_runner.py" not in line
    )

    os.kill(sandbox, signal.SIGKILL)

    assert demo.process.wait(timeout=40) == 1
    assert "sandbox ended by itself" in demo.output.read_text()
    assert left_over(pids) == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="environments are read from /proc")
def test_secret_is_in_the_workers_environment_only_and_on_no_command_line(demo: Demo) -> None:
    secret = (demo.data_dir / "worker" / "secrets" / "sandbox").read_text().strip()
    holders = {
        line
        for pid, line in demo.processes().items()
        if secret.encode() in Path(f"/proc/{pid}/environ").read_bytes()
    }

    assert holders
    assert [line for line in holders if " worker " not in line] == []
    assert not any(secret in line for line in demo.processes().values())
    assert secret not in demo.output.read_text()


def test_second_start_keeps_the_data_and_the_log_ins(data_dir: Path) -> None:
    kept: list[str] = []
    for _ in range(2):
        demo = Demo(data_dir)
        demo.wait_until_ready()
        kept.append((data_dir / "worker" / "demo-logins.json").read_text())
        demo.process.terminate()
        demo.process.wait(timeout=40)

    assert kept[0] == kept[1]
    assert "seed      │" not in demo.output.read_text()

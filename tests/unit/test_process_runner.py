from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from config import process_runner
from config.process_runner import Runner, Service, ServiceError, StopRequestedError

PROJECT = Path(__file__).parents[2]

# A service that starts a child of its own, says both process ids and then works until it is ended.
PARENT_OF_ONE = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("pids", os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("pids", os.getpid(), flush=True)
time.sleep(600)
"""
# A runner in a process of its own, so that it can be killed.
RUNNER = f"""
import os, sys
from config.process_runner import Runner, Service, StopRequestedError
print("pids", os.getpid(), flush=True)
with Runner(grace_s=1.0, end_with_parent="with-parent" in sys.argv) as runner:
    for name in ("one", "two"):
        runner.start(Service(name, [sys.executable, "-c", {PARENT_OF_ONE!r}], os.environ))
    try:
        runner.wait()
    except StopRequestedError:
        runner.say("stopped")
"""


def service(script: str, name: str = "svc", **more: object) -> Service:
    return Service(name, [sys.executable, "-u", "-c", textwrap.dedent(script)], os.environ, **more)  # type: ignore[arg-type]


def is_alive(pid: int) -> bool:
    try:
        state = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
        ).stdout.strip()
    except OSError:  # no ps
        os.kill(pid, 0)
        return True
    return bool(state) and not state.startswith("Z")


def wait_until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)


def pids_in(lines: str) -> list[int]:
    said = [line.split("pids ")[1] for line in lines.splitlines() if "pids " in line]
    return [int(number) for numbers in said for number in numbers.split()]


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def runner(out: io.StringIO) -> Iterator[Runner]:
    with Runner(out=out, grace_s=2.0) as runner:
        yield runner


@pytest.fixture
def separate_runner(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A runner process with two services of two processes each, and the pids of all of them, the runner's first."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", RUNNER, *getattr(request, "param", [])],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = "".join(process.stdout.readline() for _ in range(3))
    pids = pids_in(lines)
    assert len(pids) == 5
    yield process, pids
    for pid in pids:
        with suppress(ProcessLookupError):  # what the runner started ends with it, at any moment now
            os.kill(pid, signal.SIGKILL)
    process.wait(timeout=10)
    process.stdout.close()


def test_lines_of_a_service_carry_its_name(runner: Runner, out: io.StringIO) -> None:
    runner.run_to_end(service("print('hello'); print('world')", name="seed"))

    assert out.getvalue().splitlines() == ["seed      │ hello", "seed      │ world"]


def test_lines_are_coloured_by_service_only_where_colour_is_asked_for(out: io.StringIO) -> None:
    with Runner(out=out, colour=True) as runner:
        runner.run_to_end(service("print('hello')"))

    assert out.getvalue() == "\033[36msvc       │\033[0m hello\n"


def test_start_waits_until_the_service_is_ready(runner: Runner, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.touch()  # of an earlier run
    script = f"import time, pathlib; time.sleep(0.3); pathlib.Path({str(ready)!r}).touch(); time.sleep(600)"

    runner.start(service(script, is_ready=process_runner.wait_for_file(ready)))

    assert ready.exists()


def test_start_names_the_service_when_it_ends_before_it_was_ready(runner: Runner) -> None:
    with pytest.raises(ServiceError, match=r"^web ended before it was ready \(exit status 3\)\.$"):
        runner.start(service("raise SystemExit(3)", name="web", is_ready=lambda: False))


def test_start_names_the_service_when_it_never_gets_ready(runner: Runner) -> None:
    with pytest.raises(ServiceError, match=r"^web did not answer within 0 s"):
        runner.start(
            service("import time; time.sleep(600)", name="web", is_ready=lambda: False), timeout_s=0.2
        )


def test_step_that_fails_is_named_with_its_status(runner: Runner) -> None:
    with pytest.raises(ServiceError, match=r"^seed failed \(exit status 4\)"):
        runner.run_to_end(service("raise SystemExit(4)", name="seed"))


def test_command_that_does_not_exist_is_said_plainly(runner: Runner, out: io.StringIO) -> None:
    with pytest.raises(ServiceError, match="exit status 127"):
        runner.run_to_end(Service("web", ["/no/such/program"], os.environ))

    assert "/no/such/program cannot be started: No such file or directory" in out.getvalue()


def test_end_of_one_service_ends_all_and_names_it(out: io.StringIO) -> None:
    with Runner(out=out) as runner:
        runner.start(service(PARENT_OF_ONE, name="one", is_ready=lambda: bool(pids_in(out.getvalue()))))
        runner.start(service("import time; time.sleep(0.5); raise SystemExit(5)", name="two"))
        with pytest.raises(ServiceError, match=r"^two ended by itself \(exit status 5\)\.$"):
            runner.wait()

    pids = pids_in(out.getvalue())
    assert len(pids) == 2
    assert [pid for pid in pids if is_alive(pid)] == []


def test_service_that_ignores_the_request_is_killed_after_the_grace(out: io.StringIO) -> None:
    with Runner(out=out, grace_s=0.5) as runner:
        runner.start(service(DEAF, is_ready=lambda: bool(pids_in(out.getvalue()))))

    assert [pid for pid in pids_in(out.getvalue()) if is_alive(pid)] == []


def test_service_and_its_children_end_when_its_guard_is_killed(runner: Runner, out: io.StringIO) -> None:
    runner.start(service(PARENT_OF_ONE, is_ready=lambda: bool(pids_in(out.getvalue()))))
    pids = pids_in(out.getvalue())
    guard = os.getpgid(pids[0])
    assert guard != pids[0]

    os.kill(guard, signal.SIGKILL)
    with pytest.raises(ServiceError, match="killed by SIGKILL"):
        runner.wait()
    runner.stop()

    wait_until(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_the_wait_and_the_old_handlers_come_back(
    out: io.StringIO, number: signal.Signals
) -> None:
    before = signal.getsignal(number)

    with Runner(out=out) as runner:
        os.kill(os.getpid(), number)
        with pytest.raises(StopRequestedError):
            runner.wait()

    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_process_ends_when_the_runner_is_asked_to_stop(
    separate_runner: tuple[subprocess.Popen[str], list[int]], number: signal.Signals
) -> None:
    process, pids = separate_runner

    process.send_signal(number)

    assert process.wait(timeout=60) == 0
    assert [pid for pid in pids if is_alive(pid)] == []


def test_no_process_is_left_when_the_runner_is_killed(
    separate_runner: tuple[subprocess.Popen[str], list[int]],
) -> None:
    process, pids = separate_runner
    groups = {os.getpgid(pid) for pid in pids[1:]}
    assert len(groups) == 2

    process.kill()
    process.wait(timeout=5)

    wait_until(lambda: not any(map(is_alive, [*pids, *groups])))


@pytest.mark.parametrize("separate_runner", [["with-parent"]], indirect=True)
def test_runner_is_still_there_while_its_parent_lives(
    separate_runner: tuple[subprocess.Popen[str], list[int]],
) -> None:
    _, pids = separate_runner
    time.sleep(0.5)

    assert all(map(is_alive, pids))


def test_every_process_ends_when_the_parent_of_the_runner_is_killed(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-u', '-c', {RUNNER!r}, 'with-parent'])\n"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = pids_in("".join(parent.stdout.readline() for _ in range(3)))
    assert len(pids) == 5

    parent.kill()
    parent.wait(timeout=5)

    wait_until(lambda: not any(map(is_alive, pids)))
    parent.stdout.close()


def test_environment_of_a_service_is_complete_and_never_shown(runner: Runner, out: io.StringIO) -> None:
    with_secret = Service(
        "svc", [sys.executable, "-c", "import os; print(sorted(os.environ))"], {"KEY": "s3cr3t"}
    )

    runner.run_to_end(with_secret)

    assert "s3cr3t" not in repr(with_secret)
    assert "'KEY'" in out.getvalue()
    assert "'PATH'" not in out.getvalue()


def test_port_is_taken_while_somebody_listens_and_free_afterwards() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert process_runner.is_port_taken(port)

    assert not process_runner.is_port_taken(port)

"""Runs a handful of processes together: they start one after the other and end together.

Each service is started through a small guard (this very file, run as a script), which leads a session of
its own with the service in its process group:

    runner ──starts──▶ guard ──starts──▶ service ──▶ its children
       └────── pipe ─────┘

- The runner ends: the kernel closes the pipe, the guard sees its end and stops the service and its group. This
  holds for SIGKILL of the runner too, on every system that has pipes.
- The guard ends: the runner kills what is left of the group; on Linux the service also asked the kernel for a
  SIGTERM in that case.
- A service ends: the runner says which one, and stops the others.

Standard library only, and nothing of the project: the guard runs without the virtual environment.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import TextIO

STOP_GRACE_S = 10.0  # between "please end" and SIGKILL; a polling consumer needs up to 4 s
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_S = 0.1
COLOURS = (36, 35, 33, 32, 34)
PR_SET_PDEATHSIG = 1


class ServiceError(Exception):
    """A service ended by itself or never got ready; the text is for the person at the terminal."""


class StopRequestedError(Exception):
    """A signal asked the runner to stop (or its parent ended) while it waited."""


@dataclass(frozen=True)
class Service:
    """One process to run. The environment is complete, not an addition; it may hold secrets, so no repr shows it."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    is_ready: Callable[[], bool] = field(default=lambda: True, repr=False)


def is_port_taken(port: int) -> bool:
    """Whether something on this machine already listens on `port`."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return True
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


@dataclass
class _Running:
    service: Service
    guard: subprocess.Popen[bytes]
    reader: threading.Thread


class Runner:
    """A context: what was started inside has ended when it is left.

    Use it from the main thread: it takes over SIGINT, SIGTERM and SIGHUP for its lifetime.
    """

    def __init__(
        self,
        *,
        out: TextIO | None = None,
        colour: bool = False,
        grace_s: float = STOP_GRACE_S,
        end_with_parent: bool = False,
    ) -> None:
        self._out = out or sys.stdout
        self._out_lock = threading.Lock()
        self._colour = colour
        self._grace_s = grace_s
        self._parent = os.getppid() if end_with_parent else None
        self._running: list[_Running] = []
        self._stop_requests = 0
        self._old_handlers: dict[
            signal.Signals, signal.Handlers | Callable[[int, FrameType | None], object] | int | None
        ] = {}
        # Nobody writes into the pipe; its end is the message. The writing end stays in this process alone.
        self._pipe_read, self._pipe_write = os.pipe()

    def __enter__(self) -> Runner:
        for number in STOP_SIGNALS:
            self._old_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        os.close(self._pipe_write)
        os.close(self._pipe_read)

    def start(self, *services: Service, timeout_s: float = 60.0) -> None:
        """Start `services` side by side and wait until each is ready. Raises ServiceError or StopRequestedError."""
        waiting = [self._spawn(service) for service in services]
        until = time.monotonic() + timeout_s
        while waiting := [running for running in waiting if not running.service.is_ready()]:
            self._look(waiting)
            if time.monotonic() > until:
                name = waiting[0].service.name
                raise ServiceError(f"{name} did not answer within {timeout_s:.0f} s; its lines are above.")
            time.sleep(LOOK_S)

    def run_to_end(self, service: Service) -> None:
        """Run a step that ends by itself. Raises ServiceError when it fails, or StopRequestedError."""
        running = self._spawn(service)
        while running.guard.poll() is None:
            self._look(may_end=running)
            time.sleep(LOOK_S)
        self._running.remove(running)
        self._end_group(running)
        if running.guard.returncode:
            raise ServiceError(
                f"{service.name} failed ({_status(running.guard.returncode)}); its lines are above."
            )

    def wait(self) -> None:
        """Wait for ever: returns only by ServiceError (a service ended) or StopRequestedError."""
        while True:
            self._look()
            time.sleep(LOOK_S)

    def say(self, text: str) -> None:
        # The terminal may be gone while the services still have to be ended.
        with self._out_lock, contextlib.suppress(OSError, ValueError):
            self._out.write(text + "\n")
            self._out.flush()

    def stop(self) -> None:
        """End every service: SIGTERM, `grace_s`, SIGKILL. A second request meanwhile cuts the wait short."""
        seen = self._stop_requests
        for running in reversed(self._running):
            if running.guard.poll() is None:
                running.guard.terminate()
        until = time.monotonic() + self._grace_s
        while any(running.guard.poll() is None for running in self._running):
            if time.monotonic() > until or self._stop_requests > max(seen, 1):
                break
            time.sleep(LOOK_S)
        for running in self._running:
            self._end_group(running)
        self._running.clear()

    def _spawn(self, service: Service) -> _Running:
        guard = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                __file__,
                str(self._pipe_read),
                str(self._grace_s),
                *service.command,
            ],
            env=dict(service.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[self._pipe_read],
            start_new_session=True,
        )
        colour = COLOURS[len(self._running) % len(COLOURS)]
        reader = threading.Thread(target=self._copy_lines, args=(service.name, colour, guard), daemon=True)
        reader.start()
        running = _Running(service, guard, reader)
        self._running.append(running)
        return running

    def _copy_lines(self, name: str, colour: int, guard: subprocess.Popen[bytes]) -> None:
        label = f"{name:<9} │"
        prefix = f"\033[{colour}m{label}\033[0m" if self._colour else label
        assert guard.stdout is not None
        with guard.stdout:
            for line in guard.stdout:
                self.say(f"{prefix} {line.decode(errors='replace').rstrip()}")

    def _look(self, starting: Sequence[_Running] = (), *, may_end: _Running | None = None) -> None:
        if self._stop_requests:
            raise StopRequestedError
        if self._parent is not None and os.getppid() != self._parent:
            raise StopRequestedError
        for running in self._running:
            status = running.guard.poll()
            if status is not None and running is not may_end:
                running.reader.join(timeout=1)
                when = "before it was ready" if running in starting else "by itself"
                raise ServiceError(f"{running.service.name} ended {when} ({_status(status)}).")

    def _end_group(self, running: _Running) -> None:
        # The group outlives its leader, so this also reaches what a dead guard left behind.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(running.guard.pid, signal.SIGKILL)
        running.guard.wait()
        running.reader.join(timeout=2)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_requests += 1


def _status(returncode: int) -> str:
    if returncode >= 0:
        return f"exit status {returncode}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-returncode).name}"
    return f"killed by signal {-returncode}"


def guard(pipe: int, grace_s: float, command: Sequence[str]) -> int:
    """Run `command` until it ends or the pipe does; returns its exit status (128 + n when signal n killed it)."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    asked: list[int] = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda got, _frame: asked.append(got))
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    me = os.getpid()
    try:
        child = subprocess.Popen(command, preexec_fn=lambda: _end_with(me))
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}\n")
        return 127

    runner_gone = False
    while child.poll() is None and not asked and not runner_gone:
        readable = select.select([pipe, wake_read], [], [])[0]
        runner_gone = pipe in readable
        if wake_read in readable:
            os.read(wake_read, 512)
    if child.poll() is None:
        # Only the service itself: it ends its own children in its own order.
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace_s)
    if runner_gone or select.select([pipe], [], [], 0)[0]:
        os.killpg(os.getpgrp(), signal.SIGKILL)  # the guard too: nobody waits for it
    status = child.poll()
    if status is None:
        return 128 + signal.SIGKILL  # the runner kills the group next
    return status if status >= 0 else 128 - status


def _end_with(parent: int) -> None:
    """In the new process, before it becomes the service: on Linux, SIGTERM when the guard dies."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died in between
        os.kill(os.getpid(), signal.SIGTERM)


def wait_for_file(path: Path) -> Callable[[], bool]:
    """A readiness check: true once the process has created `path`. Whatever an earlier run left is removed now."""
    path.unlink(missing_ok=True)
    return path.exists


if __name__ == "__main__":
    sys.exit(guard(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))

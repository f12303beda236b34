"""Two clocks: the wall's, and the sandbox's own, which runs `speed` times as fast and never backwards."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass


def wall_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class ClockReading:
    """Sandbox time `sandbox_ms` at wall time `wall_ms`, running at `speed`: enough to go on after a restart."""

    sandbox_ms: int
    wall_ms: int
    speed: float


class Clock:
    """Sandbox time in milliseconds. Speed 0 stands still; `advance` jumps ahead."""

    def __init__(self, speed: float, last: ClockReading | None = None) -> None:
        self._lock = threading.Lock()
        self._speed = speed
        self._anchor = time.monotonic()
        self._base_ms: float = 0.0
        if last is not None:
            # Work went on at the old speed while the process was away.
            self._base_ms = last.sandbox_ms + max(0, wall_ms() - last.wall_ms) * last.speed

    @property
    def speed(self) -> float:
        return self._speed

    def now_ms(self) -> int:
        with self._lock:
            return int(self._now())

    def _now(self) -> float:
        return self._base_ms + (time.monotonic() - self._anchor) * 1000 * self._speed

    def set_speed(self, speed: float) -> None:
        with self._lock:
            self._base_ms = self._now()
            self._anchor = time.monotonic()
            self._speed = speed

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._base_ms += seconds * 1000

    def reading(self) -> ClockReading:
        return ClockReading(self.now_ms(), wall_ms(), self._speed)

"""Calls per route and account in a sliding window."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque


class SlidingWindow:
    """Remembers when each (account, route) was let in. Refused calls do not count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, str], deque[float]] = defaultdict(deque)

    def admit(self, account: str, route: str, *, calls: int, window_s: float, scale: float) -> bool:
        """True when another call fits into `calls` × `scale` per `window_s`.

        Where the scaled number falls below one call, the window grows instead.
        """
        allowed = calls * scale
        if allowed < 1:
            window_s, allowed = window_s / max(allowed, 1e-6), 1
        now = time.monotonic()
        with self._lock:
            times = self._calls[account, route]
            while times and times[0] <= now - window_s:
                times.popleft()
            if len(times) >= int(allowed):
                return False
            times.append(now)
            return True

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()

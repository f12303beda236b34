"""Things that go wrong on purpose, for the next calls of a route."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field
from typing import Any, Final

KINDS: Final = (
    "hang_after_accept",
    "reset_after_accept",
    "reset_before",
    "status",
    "html",
    "truncated",
    "empty",
    "text",
    "list",
    "bare",
    "oversize",
    "compressed",
    "drip",
    "refusal",
    "delay",
)
# Kinds that say something else than the truth: the call may have been carried out before or not.
_LIES: Final = ("status", "html", "empty", "text", "list", "bare", "oversize", "compressed")
# Left out, `accept` follows what these failures mostly mean in the wild.
_ACCEPTS_BY_DEFAULT: Final = {"reset_before": False, "status": False, "refusal": False}


class FaultError(ValueError):
    """The wanted fault is impossible; the text says why."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    `route` is a path such as `/bulk-search`, or `*`. `times` is how often it happens (None: without end), on
    every `every`-th call that it fits.

    ====================  ========================================================================
    `hang_after_accept`   accepts, charges, then never answers (until the caller leaves, or 60 s)
    `reset_after_accept`  accepts, charges, then resets the connection
    `reset_before`        resets the connection, nothing was created
    `status`              answers `status` with a short JSON body; `word` is what it says
    `html`                answers `status` (200 unless given) with a web page
    `truncated`           answers the first half of the real body as if it were whole
    `empty`               answers `status` (200 unless given) with no body
    `text`                answers 200 with plain text
    `list`                answers 200 with a list where an object belongs
    `bare`                answers 200 with an empty object
    `oversize`            answers 200 with 12 MB
    `compressed`          answers 200 with a few bytes that unpack to 12 MB
    `drip`                answers truthfully, a byte every `seconds`
    `refusal`             answers `status` (200 unless given) with `success: false` and a validation error of the type `word`
    `delay`               answers `seconds` late
    ====================  ========================================================================

    `accept` says whether the call was carried out before an answer that does not tell (`status`, `html`, `empty`, …).
    The `…_after_accept` kinds wait for a call that succeeds: refused calls pass them by.
    """

    route: str
    kind: str
    times: int | None = None
    every: int = 1
    status: int = 500
    seconds: float = 5.0
    accept: bool = True
    word: str = ""


@dataclass
class _Armed:
    fault: Fault
    left: int | None
    seen: int = 0


@dataclass
class FaultBook:
    """The faults that are armed, oldest first; at most one happens to a call."""

    _armed: list[_Armed] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, fault: Fault) -> None:
        with self._lock:
            self._armed.append(_Armed(fault, fault.times))

    def clear(self) -> None:
        with self._lock:
            self._armed.clear()

    def take_before(self, route: str) -> Fault | None:
        """The fault that keeps this call from being carried out."""
        return self._take(route, lambda fault: not fault.accept)

    def take_after(self, route: str, *, is_accepted: bool) -> Fault | None:
        """The fault that happens to the answer of a call that was carried out."""
        return self._take(
            route, lambda fault: fault.accept and (is_accepted or not fault.kind.endswith("_after_accept"))
        )

    def _take(self, route: str, fits: Any) -> Fault | None:
        with self._lock:
            for armed in self._armed:
                if armed.fault.route not in ("*", route) or not fits(armed.fault):
                    continue
                armed.seen += 1
                if armed.seen % armed.fault.every:
                    continue
                if armed.left is not None:
                    armed.left -= 1
                    if armed.left <= 0:
                        self._armed.remove(armed)
                return armed.fault
        return None

    def describe(self) -> list[dict[str, Any]]:
        """The armed faults with how often each is still to happen (`times`)."""
        with self._lock:
            return [{**asdict(armed.fault), "times": armed.left} for armed in self._armed]


def make_fault(wanted: Any, routes: set[str]) -> Fault:
    """A fault from the control endpoint's body; it happens once unless `times` says otherwise (null: without end)."""
    if not isinstance(wanted, dict):
        raise FaultError("an object is wanted")
    unknown = set(wanted) - {"route", "kind", "times", "every", "status", "seconds", "accept", "word"}
    if unknown:
        raise FaultError(f"unknown keys: {', '.join(sorted(unknown))}")
    route, kind = wanted.get("route", "*"), wanted.get("kind")
    if route != "*" and route not in routes:
        raise FaultError(f"route must be * or one of {', '.join(sorted(routes))}")
    if kind not in KINDS:
        raise FaultError(f"kind must be one of {', '.join(KINDS)}")
    times = wanted.get("times", 1)
    if times is not None:
        times = _whole_number(wanted, "times", 1, 1_000_000)
    seconds = wanted.get("seconds", 60.0 if kind == "hang_after_accept" else 5.0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 600:
        raise FaultError("seconds must be a number from 0 to 600")
    accept = wanted.get("accept", _ACCEPTS_BY_DEFAULT.get(kind, True))
    if not isinstance(accept, bool):
        raise FaultError("accept must be true or false")
    word = wanted.get("word", "")
    if not isinstance(word, str) or len(word) > 200:
        raise FaultError("word must be a text of at most 200 characters")
    if kind not in _LIES and accept != _ACCEPTS_BY_DEFAULT.get(kind, True):
        raise FaultError(f"accept cannot be changed for {kind}")
    status = _whole_number(wanted, "status", 500 if kind == "status" else 200, 599)
    return Fault(
        route, kind, times, _whole_number(wanted, "every", 1, 1_000_000), status, float(seconds), accept, word
    )


def _whole_number(wanted: dict[str, Any], key: str, default: int, highest: int) -> int:
    value = wanted.get(key, default)
    lowest = 200 if key == "status" else 1
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise FaultError(f"{key} must be a whole number from {lowest} to {highest}")
    return value

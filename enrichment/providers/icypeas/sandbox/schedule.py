"""How long a search takes, in sandbox milliseconds after it was accepted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """When a search is scheduled, started and ready; `ready_ms` is None when it never ends."""

    scheduled_ms: int
    started_ms: int
    ready_ms: int | None


def time_single(fraction: float, *, is_slow: bool = False, is_stuck: bool = False) -> Timing:
    """About three seconds, spread by `fraction` (0 to 1)."""
    ready = round(2500 + 1000 * fraction) + (60_000 if is_slow else 0)
    return Timing(400, 1000, None if is_stuck else ready)


def time_bulk_row(
    position: int, rows: int, fraction: float, *, is_slow: bool = False, is_stuck: bool = False
) -> Timing:
    """Rows end roughly in order; the last after 3 s plus 10 ms a row, so 500 rows take 8 s."""
    work_ms = 1000 + 10 * rows
    ready = round(2000 + work_ms * (0.75 * position / rows + 0.25 * fraction)) + (60_000 if is_slow else 0)
    return Timing(500, ready - 1000, None if is_stuck else ready)

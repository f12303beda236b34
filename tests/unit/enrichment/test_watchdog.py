"""When a worker counts as deaf: nothing heard, nothing to do of its own, and the same jobs due all the while."""

from __future__ import annotations

import pytest

from enrichment.watchdog import Watch

JOBS = frozenset({7})


def test_worker_is_deaf_after_its_patience_with_the_same_jobs_due() -> None:
    watch = Watch(patience_s=60)
    seen = [
        watch.is_deaf(received=5, is_busy=False, due=JOBS | {moment}, now=moment)
        for moment in (0.0, 5.0, 30.0, 60.0, 70.0)
    ]

    assert seen == [False, False, False, False, True]


@pytest.mark.parametrize(
    "third",
    [
        {"received": 6, "is_busy": False, "due": JOBS},
        {"received": 5, "is_busy": True, "due": JOBS},
        {"received": 5, "is_busy": False, "due": frozenset()},
        {"received": 5, "is_busy": False, "due": frozenset({8})},
    ],
    ids=["a message came", "at work", "nothing is due", "other jobs are due"],
)
def test_patience_begins_anew(third: dict[str, object]) -> None:
    watch = Watch(patience_s=60)
    for moment in (0.0, 50.0):
        watch.is_deaf(received=5, is_busy=False, due=JOBS, now=moment)

    assert not watch.is_deaf(now=70.0, **third)  # type: ignore[arg-type]
    watch.is_deaf(received=5, is_busy=False, due=JOBS, now=75.0)
    watch.is_deaf(received=5, is_busy=False, due=JOBS, now=76.0)
    assert not watch.is_deaf(received=5, is_busy=False, due=JOBS, now=129.0)
    assert watch.is_deaf(received=5, is_busy=False, due=JOBS, now=140.0)

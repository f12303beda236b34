"""The same step in several threads: calls that bring their answers themselves wait for the network, each for seconds, and one
after the other would never reach the rate that their route allows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from django.db import connection

from keys.limiter import BusyError

LOOK_UP_S = 0.2  # so often does whoever waits for the threads see to other things


def repeat(
    step: Callable[[], bool], *, at_once: int, is_over: Callable[[], bool], meanwhile: Callable[[], object]
) -> bool:
    """Repeat `step` in up to `at_once` threads until it finds nothing to do, or `is_over`; `meanwhile` is called now and then
    in this one. Whether a step did something. Threads are always waited for: what was begun is recorded.

    A failing step ends them all, and its error is raised here. `BusyError` is raised only when nothing was done.
    """
    done = threading.Event()

    def work() -> tuple[int, BusyError | None]:
        steps = 0
        try:
            while not done.is_set() and not is_over() and step():
                steps += 1
        except BusyError as busy:
            return steps, busy
        except BaseException:
            done.set()
            raise
        finally:
            connection.close()
        return steps, None

    with ThreadPoolExecutor(at_once, thread_name_prefix="side-by-side") as pool:
        futures: list[Future[tuple[int, BusyError | None]]] = [pool.submit(work) for _ in range(at_once)]
        try:
            while wait(futures, timeout=LOOK_UP_S).not_done:
                meanwhile()
        finally:
            done.set()
    results = [future.result() for future in futures]
    if any(steps for steps, _ in results):
        return True
    for _, busy in results:
        if busy is not None:
            raise busy
    return False

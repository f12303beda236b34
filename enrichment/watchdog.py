"""A worker that hears nothing while jobs are due ends itself, so that its supervisor starts it again.

A connection to a broker can be half open: this side waits for ever, and no error comes. What tells is the database:
jobs are due, the sweep must have woken them, and nothing arrived here. A worker at work is not deaf, and neither is one
whose fellow takes the messages, for then nothing stays due.
"""

# mypy: disable-error-code="untyped-decorator"
# Celery comes without annotations.

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from celery.signals import worker_ready
from celery.worker import state
from django.conf import settings
from django.db import DatabaseError, connection

from enrichment.services import processing

log = logging.getLogger(__name__)

EMBEDDED = "embedded"  # a folder: there is no connection that could break


@dataclass
class Watch:
    """What one worker has heard. `look` is called again and again; times in seconds."""

    patience_s: float
    _received: int = -1
    _heard_at: float = 0.0
    _due: frozenset[int] = field(default_factory=frozenset)

    def is_deaf(self, *, received: int, is_busy: bool, due: frozenset[int], now: float) -> bool:
        """Whether nothing arrived for `patience_s` while the same jobs were due the whole time.

        `received` counts the messages so far, `due` are the ids of jobs that a sweep must wake, `now` is monotonic.
        """
        if received != self._received or is_busy or not due & self._due:
            self._received, self._heard_at, self._due = received, now, due
            return False
        self._due &= due
        return now - self._heard_at > self.patience_s


@worker_ready.connect
def start(**kwargs: Any) -> None:
    """Watch over this worker from a thread of its main process."""
    if urlsplit(settings.CELERY_BROKER_URL).scheme != EMBEDDED:
        threading.Thread(target=_watch, name="watchdog", daemon=True).start()


def _watch() -> None:
    watch = Watch(patience_s=settings.LEASE_S)
    while True:
        time.sleep(max(settings.LEASE_S / 12, 1.0))
        try:
            due = frozenset(job_id for job_id, _is_urgent in processing.due_jobs())
        except DatabaseError as error:  # without a database nothing is known, and nothing can be done
            log.warning("watchdog: the database does not answer (%s)", type(error).__name__)
            continue
        finally:
            connection.close()
        received = sum(state.total_count.values())
        if watch.is_deaf(
            received=received, is_busy=bool(state.active_requests), due=due, now=time.monotonic()
        ):
            log.critical("No message in %.0f s while jobs are due: this worker ends.", settings.LEASE_S)
            os._exit(os.EX_UNAVAILABLE)

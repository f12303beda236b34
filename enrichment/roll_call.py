"""Every worker says at intervals that it lives and which secrets it can read: also one that has nothing to do."""

# mypy: disable-error-code="untyped-decorator"
# Celery comes without annotations.

from __future__ import annotations

import logging
import threading
from typing import Any

from celery.signals import worker_ready, worker_shutdown, worker_shutting_down
from django.db import DatabaseError, connection

from keys import presence
from keys.services import worker_ends, worker_seen

log = logging.getLogger(__name__)

GOODBYE_S = 5.0  # a worker that ends waits no longer for the database

_ends = threading.Event()


@worker_ready.connect
def start(**kwargs: Any) -> None:
    """Answer from a thread of the worker's main process, which has the environment that its children got."""
    threading.Thread(target=_answer, name="roll-call", daemon=True).start()


# After a soft shutdown only the first of the two is sent; after a warm one its children still work when the first is.
@worker_shutting_down.connect
@worker_shutdown.connect
def end(**kwargs: Any) -> None:
    """Say that this worker ends: its successor has another name, and often another secret, which is no contradiction then."""
    _ends.set()
    goodbye = threading.Thread(target=_say_goodbye, name="goodbye", daemon=True)
    goodbye.start()
    goodbye.join(GOODBYE_S)


def _say_goodbye() -> None:
    try:
        worker_ends()
    except DatabaseError as error:
        log.warning("roll call: the database does not answer (%s)", type(error).__name__)
    finally:
        connection.close()


def _answer() -> None:
    while not _ends.is_set():
        try:
            worker_seen()
            presence.report()
        except DatabaseError as error:  # a busy or restarted database: the next call gets through
            log.warning("roll call: the database does not answer (%s)", type(error).__name__)
        except Exception:  # whatever a store does, the worker's own work goes on
            log.exception("roll call")
        finally:
            connection.close()
        _ends.wait(presence.REPORT_EVERY_S)

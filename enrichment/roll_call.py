"""Every worker says at intervals that it lives and which secrets it can read: also one that has nothing to do."""

# mypy: disable-error-code="untyped-decorator"
# Celery comes without annotations.

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from celery.signals import worker_ready
from django.db import DatabaseError, connection

from keys import presence
from keys.services import worker_seen

log = logging.getLogger(__name__)


@worker_ready.connect
def start(**kwargs: Any) -> None:
    """Answer from a thread of the worker's main process, which has the environment that its children got."""
    threading.Thread(target=_answer, name="roll-call", daemon=True).start()


def _answer() -> None:
    while True:
        try:
            worker_seen()
            presence.report()
        except DatabaseError as error:  # a busy or restarted database: the next call gets through
            log.warning("roll call: the database does not answer (%s)", type(error).__name__)
        except Exception:  # whatever a store does, the worker's own work goes on
            log.exception("roll call")
        finally:
            connection.close()
        time.sleep(presence.REPORT_EVERY_S)

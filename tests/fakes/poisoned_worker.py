"""A Celery app whose workers meet batches that end them: by the end of the process, by memory that is not there, by hanging.

Workers start with `-A tests.fakes.poisoned_worker`. Which batch does what is told by its first names.
"""

# mypy: disable-error-code="untyped-decorator, attr-defined, no-untyped-call"

from __future__ import annotations

import os
import resource
import time
from typing import Any

from celery.signals import worker_init

from config.celery import app

# Both hold for every slice: a shorter soft limit could end a healthy one between its intent and its send.
SOFT_S, HANG_S = 4, 6

app.conf.task_soft_time_limit, app.conf.task_time_limit = SOFT_S, HANG_S


@worker_init.connect
def inject(**kwargs: Any) -> None:
    """Before the pool is forked, so that every child has it."""
    from enrichment.models import Batch, BatchItem  # not at import: Django is not set up yet
    from enrichment.services import send_path

    send = send_path.send

    def send_or_end(batch: Batch) -> None:
        items = BatchItem.objects.filter(batch=batch).select_related("question")
        names = {item.question.inputs.get("first_name") for item in items}
        if "Exit" in names:
            os._exit(137)
        if "Memory" in names:
            resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))
            bytearray(2**30)
        if "Hang" in names:
            while True:  # also over the soft limit, as code that catches everything does
                try:
                    time.sleep(60)
                except Exception:
                    continue
        send(batch)

    send_path.send = send_or_end

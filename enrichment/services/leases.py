"""The lease of a batch: whose it is for now. A worker that dies lets it run out, and another one takes the batch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError, connection

from enrichment.models import Batch, EnrichmentJob
from keys.clock import db_now

log = logging.getLogger(__name__)

BEATS = 5  # in HEARTBEAT_S


def lease_end() -> timedelta:
    return timedelta(seconds=settings.LEASE_S)


def silence() -> timedelta:
    """A slice that was not heard for so long, three beats and a little, counts as gone. Were it only slow, a second one
    beside it does no harm: claims and fences keep them apart."""
    return timedelta(seconds=settings.HEARTBEAT_S * 2 / 3)


@contextmanager
def heartbeat(batch: Batch) -> Iterator[None]:
    """Keep the lease, and tell that the slice lives, while a call lasts. The fence in the condition makes a taken-over
    batch stay taken over."""
    done = threading.Event()

    def beat() -> None:
        try:
            while not done.wait(min(settings.HEARTBEAT_S / BEATS, settings.LEASE_S / 3)):
                try:
                    now = db_now()
                    # A lease that was let go stays so: a beat that comes late would keep others waiting for nothing.
                    held = Batch.objects.filter(id=batch.id, fence=batch.fence, lease_until__isnull=False)
                    if held.update(lease_until=now + lease_end()):
                        EnrichmentJob.objects.filter(id=batch.job_id, slice_at__isnull=False).update(
                            slice_at=now
                        )
                except DatabaseError as error:  # a busy or restarted database: the next beat may get through
                    log.warning("batch %s: no heartbeat: %s", batch.id, type(error).__name__)
                    connection.close()
        finally:
            connection.close()

    thread = threading.Thread(target=beat, name=f"lease-{batch.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()

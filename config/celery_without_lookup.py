"""The control of the crash test: a Celery app that differs from the product in one function, the look-up.

It does what an engine without an intent log would do after doubt: send again. Run against it, the crash test must
show double payments; else it would prove nothing. Workers of the control start with `-A` and this module.
"""

# mypy: disable-error-code="untyped-decorator, attr-defined"
# Celery comes without annotations.

from __future__ import annotations

from typing import Any

from celery.signals import worker_init

from config.celery import app

__all__ = ("app",)


@worker_init.connect
def inject(**kwargs: Any) -> None:
    """Before the pool is forked, so that every child has it."""
    from enrichment.choices import BatchState, Mode  # not at import: Django is not set up yet
    from enrichment.models import Batch, EnrichmentJob
    from enrichment.services import looking
    from keys.clock import db_now

    look_at_files = looking.look_at_files

    def send_again(job: EnrichmentJob) -> None:
        in_doubt = Batch.objects.filter(job=job, mode=Mode.BULK, state=BatchState.DOUBT)
        in_doubt.update(state=BatchState.READY, lease_until=None, claims=0, next_at=db_now())
        look_at_files(job)

    looking.look_at_files = send_again

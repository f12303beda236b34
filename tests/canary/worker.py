"""The Celery app of the canary's workers: the real one, with a library that talks too much, and a death on demand.

Started with `-A tests.canary.worker`. A key whose system is `leaky` has its secret logged and raised by what sends its calls, as
libraries have done; one whose system is `segfault` or `abort` takes the process with it while the secret is in its memory.
"""

# mypy: disable-error-code="untyped-decorator, attr-defined, no-untyped-call"

from __future__ import annotations

import logging
import os
import signal
from typing import Any

from celery.signals import worker_init

from config.celery import app

__all__ = ("app",)

log = logging.getLogger("a.library.that.talks")


@worker_init.connect
def break_things(**kwargs: Any) -> None:
    """Before the pool is forked, so that every child has it."""
    from enrichment.services import provider_call  # not at import: Django is not set up yet

    make = provider_call._provider

    def make_or_break(permit: Any) -> Any:
        secret = permit.resolved.secret.reveal()
        if permit.key.system == "leaky":
            log.debug("headers: %r", {"Authorization": f"Bearer {secret}"})
            log.warning("request failed for %s", secret, extra={"key": secret})
            raise RuntimeError(f"bad header value {secret!r}")
        if permit.key.system in ("segfault", "abort"):
            os.kill(os.getpid(), signal.SIGSEGV if permit.key.system == "segfault" else signal.SIGABRT)
        return make(permit)

    provider_call._provider = make_or_break

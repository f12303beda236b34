"""A Celery app that sends each message three times, and whose broker hands a task out again after one second.

Workers and schedulers start with `-A tests.fakes.tripled_worker`.
"""

# mypy: disable-error-code="untyped-decorator, attr-defined, no-untyped-call"

from __future__ import annotations

from typing import Any

from config.celery import PoolTask, app

__all__ = ("app",)

VISIBILITY_S = 1

app.conf.visibility_timeout = VISIBILITY_S
app.conf.broker_transport_options = {
    **app.conf.broker_transport_options,
    "visibility_timeout": VISIBILITY_S,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
}

send_once = PoolTask.apply_async


def send_three_times(self: PoolTask, *args: Any, **options: Any) -> Any:
    for _ in range(2):
        send_once(self, *args, **options)
    return send_once(self, *args, **options)


PoolTask.apply_async = send_three_times

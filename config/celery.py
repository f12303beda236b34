"""The Celery app: two queues, no results, and the periodic work, all declared here.

A message is a wake-up that carries ids; the rows in the database are the jobs. So nothing here has to
survive for a job to end: the sweep sends again whatever is due.
"""

# mypy: disable-error-code="no-untyped-call, untyped-decorator, attr-defined"
# Celery and kombu come without annotations.

from __future__ import annotations

import logging.config
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")
# SIGTERM then starts the soft shutdown: running slices may end within `worker_soft_shutdown_timeout`, and the
# rest goes back to the broker. billiard reads the name when it is imported, so it stands before celery.
os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")

from celery import Celery, Task
from celery.signals import beat_init, setup_logging, worker_ready
from kombu import Exchange, Queue

from config import filesystem_broker

URGENT = "urgent"  # people are waiting; slices of a second or so
WORK = "work"

VISIBILITY_S = 600  # HTTP timeout < soft limit < hard limit < this; else Redis hands a running task out twice

filesystem_broker.register()


def transport_options(broker_url: str, data_dir: Path) -> dict[str, Any]:
    """`broker_transport_options` for the broker that `broker_url` names; an unknown one gets none."""
    scheme = urlsplit(broker_url).scheme
    if scheme == filesystem_broker.ALIAS:
        return filesystem_broker.transport_options(data_dir / "broker")
    if scheme in {"redis", "rediss"}:
        return {
            "visibility_timeout": VISIBILITY_S,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,  # kombu looks only every 10th time by default
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
        }
    if scheme in {"amqp", "amqps", "pyamqp"}:
        return {"confirm_publish": True}  # else a broker short of memory drops messages in silence
    return {}


def beat_schedule(sweep_s: float) -> dict[str, dict[str, Any]]:
    """Periodic work. A message that waited a whole period is dropped: the next one does the same."""
    return {
        "sweep-due": {
            "task": "enrichment.tasks.sweep_due",
            "schedule": sweep_s,
            "options": {"queue": URGENT, "expires": max(sweep_s, 10.0)},
        },
    }


def celery_settings(*, broker_url: str, data_dir: Path, sweep_s: float) -> dict[str, Any]:
    """Every setting of the app. Each line that is not a name answers a failure that was seen or reported."""
    return {
        "broker_url": broker_url,
        "broker_transport_options": transport_options(broker_url, data_dir),
        "broker_connection_retry_on_startup": True,
        "broker_heartbeat": 30,  # AMQP only
        "broker_connection_timeout": 4,
        # The other two places where Redis' timeout is read; the shortest of all wins.
        "visibility_timeout": VISIBILITY_S,
        "result_backend_transport_options": {"visibility_timeout": VISIBILITY_S},
        "task_queues": [
            Queue(name, Exchange(name, type="direct"), routing_key=name) for name in (URGENT, WORK)
        ],
        "task_default_queue": WORK,
        "task_create_missing_queues": False,
        # Delivery: late acknowledgement, also when the system kills a child that ran out of memory.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_prefetch_multiplier": 1,
        "worker_soft_shutdown_timeout": 30,
        # A web process must not hang on a broker that is away: the row is there, the sweep sends again.
        "task_publish_retry_policy": {
            "max_retries": 2,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 0.5,
        },
        # A slice works at most 45 s; what hangs longer is stopped.
        "task_soft_time_limit": 60,
        "task_time_limit": 75,
        "worker_max_tasks_per_child": 200,
        "worker_max_memory_per_child": 300_000,  # KiB
        # Nothing but ids on the wire, nothing kept after the work.
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "accept_content": ["json"],
        "task_serializer": "json",
        "worker_send_task_events": False,
        # Nobody may revoke tasks or stop workers by way of the broker.
        "worker_enable_remote_control": False,
        # Logging is Django's, so that its filters hold in workers too.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
        "timezone": "UTC",
        "beat_schedule": beat_schedule(sweep_s),
        "beat_schedule_filename": str(data_dir / "beat-schedule"),
        "beat_max_loop_interval": 5,
    }


def _settings_of_this_process() -> dict[str, Any]:
    from django.conf import settings  # not at import: the settings package imports its parent, `config`

    return celery_settings(
        broker_url=settings.CELERY_BROKER_URL, data_dir=settings.DATA_DIR, sweep_s=settings.SWEEP_S
    )


class PoolTask(Task):  # type: ignore[misc]
    """A task that takes its pool child with it when the memory is gone.

    Celery ends the whole worker when a child reports a `MemoryError`; a child that is simply lost is replaced.
    """

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except MemoryError:
            if self.request.called_directly:
                raise
            logging.getLogger(__name__).critical("%s: out of memory, this process ends", self.name)
            os._exit(os.EX_OSERR)


app = Celery("enrichment_desk", task_cls=PoolTask)
app.add_defaults(_settings_of_this_process)
app.autodiscover_tasks()


@setup_logging.connect
def keep_django_logging(**kwargs: Any) -> None:
    """That this receiver exists keeps Celery from configuring logging itself."""
    from django.conf import settings  # as above

    logging.config.dictConfig(settings.LOGGING)


@beat_init.connect
@worker_ready.connect
def tell_ready(**kwargs: Any) -> None:
    """Create the file that READY_FILE names: a process supervisor waits for it."""
    name = os.environ.get("READY_FILE")
    if name:
        Path(name).touch(mode=0o600)

"""The embedded broker: messages as files in one folder, for an installation without Redis or RabbitMQ.

kombu's file transport with every write made atomic. The original opens the final name and then writes,
so that a consumer can meet an empty file: the message is lost and the worker exits. Here each file is
written under a hidden name and renamed, and a consumer claims a message by renaming it.

    DATA_DIR/broker/messages    waiting messages; both "in" and "out"
    DATA_DIR/broker/processed   claimed ones, removed as soon as they are read
    DATA_DIR/broker/control     which queue hangs on which exchange

All three must be on one disk: a rename across disks is a copy. A message is a wake-up that carries ids
only; what a killed worker held is sent again by the sweep.
"""

# mypy: disable-error-code="no-untyped-call, union-attr"
# kombu comes without annotations.

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any, ClassVar

from kombu.transport import TRANSPORT_ALIASES, filesystem, virtual
from kombu.utils.json import dumps, loads

ALIAS = "embedded"
POLL_S = 0.05
# Only a process killed between claim and read leaves a file in `processed`.
PROCESSED_KEPT_S = 3600.0


def transport_options(root: Path) -> dict[str, Any]:
    """What Celery's `broker_transport_options` must hold for a broker in the folder `root`."""
    return {
        "data_folder_in": str(root / "messages"),
        "data_folder_out": str(root / "messages"),
        "processed_folder": str(root / "processed"),
        "control_folder": str(root / "control"),
        "store_processed": True,
    }


def register() -> None:
    """Make `embedded://` known to kombu. Every process that opens the broker needs it."""
    TRANSPORT_ALIASES[ALIAS] = f"{__name__}:Transport"


def purge_processed(folder: Path, older_than_s: float = PROCESSED_KEPT_S) -> int:
    """Remove claimed messages that no living process can still be reading; returns how many.

    `folder` is the `processed` folder. A rename keeps the time of writing, so that age counts from sending.
    """
    limit = time.time() - older_than_s
    removed = 0
    for path in folder.iterdir():
        try:
            if path.stat().st_mtime < limit:
                path.unlink()
                removed += 1
        except FileNotFoundError:
            continue  # another process was first
    return removed


def _write_atomically(target: Path, content: str) -> None:
    hidden = target.with_name(f".{uuid.uuid4().hex}.new")
    descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        hidden.replace(target)
    except OSError:
        hidden.unlink(missing_ok=True)
        raise


class Channel(filesystem.Channel):
    """Reads and writes whole files only."""

    def _put(self, queue: str, payload: dict[str, Any], **kwargs: Any) -> None:  # type: ignore[override]
        # Names sort by time of sending, which is the order of delivery.
        name = f"{time.time_ns():020d}_{uuid.uuid4().hex}.{queue}.msg"
        _write_atomically(Path(self.data_folder_out) / name, dumps(payload))

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        for name in sorted(os.listdir(self.data_folder_in)):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            claimed = Path(self.processed_folder) / name
            try:
                os.rename(Path(self.data_folder_in) / name, claimed)
            except FileNotFoundError:
                continue  # another consumer was first
            content = claimed.read_text(encoding="utf-8")
            claimed.unlink(missing_ok=True)
            payload: dict[str, Any] = loads(content)
            return payload
        raise Empty

    def get_table(self, exchange: str) -> list[Any]:
        try:
            content = self._exchange_file(exchange).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [filesystem.exchange_queue_t(*entry) for entry in loads(content)]

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        binding = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with self._table_lock():
            table = self.get_table(exchange)
            if binding not in table:
                _write_atomically(self._exchange_file(exchange), dumps([binding, *table]))

    def _delete(
        self, queue: str, exchange: str, routing_key: str, pattern: str, *args: Any, **kwargs: Any
    ) -> None:
        virtual.Channel._delete(self, queue, exchange, routing_key, pattern, *args, **kwargs)
        binding = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with self._table_lock():
            table = self.get_table(exchange)
            if binding in table:
                _write_atomically(
                    self._exchange_file(exchange), dumps([entry for entry in table if entry != binding])
                )

    @contextmanager
    def _table_lock(self) -> Iterator[None]:
        """Writers take turns; readers need no lock, since they see the old table or the new one."""
        descriptor = os.open(self.control_folder / ".lock", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class Transport(filesystem.Transport):
    """`embedded://`; its folders come from `transport_options`.

    It works in the worker's event loop. Without one, Celery's pool hands work out through one pipe under one lock,
    and a child that is killed while it holds the lock leaves a pool that never works again. With one, every child has
    a pipe of its own.
    """

    implements = filesystem.Transport.implements.extend(asynchronous=True)
    Channel = Channel
    global_state = virtual.BrokerState()
    # kombu reads this as a plain attribute: seconds between two looks into an empty folder.
    polling_interval = POLL_S
    default_connection_params: ClassVar[dict[str, Any]] = {}  # there is no host to fall back to
    driver_type = ALIAS
    driver_name = ALIAS

    def establish_connection(self) -> Any:
        options = self.client.transport_options
        for name in ("data_folder_in", "processed_folder", "control_folder"):
            folder = Path(options[name])
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        purge_processed(Path(options["processed_folder"]))
        return super().establish_connection()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """kombu's hook: called once for each connection of a worker, and cancelled with it."""
        loop.call_repeatedly(POLL_S, self._deliver_waiting)

    def _deliver_waiting(self) -> None:
        try:
            while True:
                self.cycle.get(self._deliver)
        except Empty:
            return

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue
from kombu.transport import filesystem as stock

from config import filesystem_broker


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "broker"


@pytest.fixture
def connection(root: Path) -> Iterator[Any]:
    filesystem_broker.register()
    filesystem_broker.Transport.global_state.clear()  # what another test declared is not in this folder
    options = filesystem_broker.transport_options(root)
    with Connection("embedded://", transport_options=options) as connection:
        yield connection


@pytest.fixture
def channel(connection: Any) -> Any:
    return connection.default_channel


def waiting(root: Path) -> list[str]:
    return sorted(os.listdir(root / "messages"))


def test_broker_folders_are_closed_to_others_when_the_connection_opens(channel: Any, root: Path) -> None:
    folders = [root, *root.iterdir()]

    modes = {folder.name: stat.S_IMODE(folder.stat().st_mode) for folder in folders}

    assert modes == {"broker": 0o700, "messages": 0o700, "processed": 0o700, "control": 0o700}


def test_message_file_is_closed_to_others_and_leaves_no_hidden_file_when_put(
    channel: Any, root: Path
) -> None:
    channel._put("work", {"id": 1})

    (name,) = waiting(root)
    assert name.endswith(".work.msg")
    assert stat.S_IMODE((root / "messages" / name).stat().st_mode) == 0o600


def test_messages_come_in_the_order_of_sending_and_only_from_their_queue(channel: Any) -> None:
    for queue, number in (("work", 1), ("urgent", 2), ("work", 3)):
        channel._put(queue, {"id": number})

    assert [channel._get("work")["id"], channel._get("work")["id"]] == [1, 3]
    assert channel._get("urgent") == {"id": 2}
    with pytest.raises(Empty):
        channel._get("work")


def test_claimed_message_leaves_no_file_behind_when_read(channel: Any, root: Path) -> None:
    channel._put("work", {"id": 1})

    channel._get("work")

    assert waiting(root) == []
    assert list((root / "processed").iterdir()) == []


def test_get_passes_over_a_message_when_another_consumer_was_first(
    channel: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel._put("work", {"id": 1})
    channel._put("work", {"id": 2})
    names = waiting(root)
    monkeypatch.setattr(os, "listdir", lambda folder: list(names))
    (root / "messages" / names[0]).unlink()

    assert channel._get("work") == {"id": 2}


def test_message_being_written_is_invisible_to_consumers(channel: Any, root: Path) -> None:
    (root / "messages" / ".0123.new").write_text("")
    (root / "messages" / ".0123.work.msg").write_text("")

    with pytest.raises(Empty):
        channel._get("work")
    assert channel._size("work") == 0


def test_put_leaves_nothing_when_the_disk_refuses(
    channel: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)

    with pytest.raises(OSError, match="No space left"):
        channel._put("work", {"id": 1})
    assert waiting(root) == []


def test_binding_is_written_whole_and_once_when_declared_twice(channel: Any, root: Path) -> None:
    for _ in range(2):
        Queue("work", Exchange("work", type="direct"), routing_key="work")(channel).declare()
    Queue("other", Exchange("work", type="direct"), routing_key="other")(channel).declare()

    assert {entry.queue for entry in channel.get_table("work")} == {"work", "other"}
    assert len(channel.get_table("work")) == 2


def test_binding_is_gone_when_the_queue_is_deleted(channel: Any) -> None:
    queue = Queue("work", Exchange("work", type="direct"), routing_key="work")(channel)
    queue.declare()

    queue.delete()

    assert channel.get_table("work") == []


def test_purge_removes_only_what_is_old_enough(channel: Any, root: Path) -> None:
    old, young = root / "processed" / "1.work.msg", root / "processed" / "2.work.msg"
    for path in (old, young):
        path.write_text("{}")
    os.utime(old, (time.time() - 120,) * 2)

    removed = filesystem_broker.purge_processed(root / "processed", older_than_s=60)

    assert removed == 1
    assert not old.exists()
    assert young.exists()


def test_what_a_killed_worker_left_is_purged_when_a_connection_opens(root: Path, connection: Any) -> None:
    connection.connect()
    left = root / "processed" / "1.work.msg"
    left.write_text("{}")
    os.utime(left, (time.time() - 2 * filesystem_broker.PROCESSED_KEPT_S,) * 2)

    with Connection("embedded://", transport_options=filesystem_broker.transport_options(root)) as second:
        second.connect()

    assert not left.exists()


def test_transport_differs_from_the_stock_one_where_that_loses_messages() -> None:
    ours = filesystem_broker.Channel

    replaced = [
        name for name in ("_put", "_get", "get_table", "_queue_bind", "_delete") if name in vars(ours)
    ]

    assert replaced == ["_put", "_get", "get_table", "_queue_bind", "_delete"]
    assert issubclass(ours, stock.Channel)
    assert filesystem_broker.Transport.polling_interval == 0.05

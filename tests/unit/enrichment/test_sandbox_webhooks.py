"""The sandbox's webhooks as whoever is called by them sees them: over HTTP, signed, in every kind that can be asked for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from enrichment.providers.icypeas.auth import is_signed
from tests.fakes.sandbox_process import ACCOUNTS, API_SECRET, SandboxProcess, run_sandbox

ITEM, DONE = "/account/item", "/account/done"


class Receiver(ThreadingHTTPServer):
    """Takes every POST: (path, body) in the order of their coming."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.calls: list[tuple[str, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def wait(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        """The calls, as soon as there are so many and no more come for a moment."""
        until = time.monotonic() + 60
        while len(self.calls) < count:
            assert time.monotonic() < until, self.calls
            time.sleep(0.02)
        time.sleep(0.3)
        return list(self.calls)


class _Taker(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append((self.path, json.loads(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def calling(tmp_path: Path, receiver: Receiver) -> Iterator[SandboxProcess]:
    """A sandbox whose first account has addresses of its own."""
    urls = {"webhook_url_item": receiver.url + ITEM, "webhook_url_bulk_done": receiver.url + DONE}
    with run_sandbox(tmp_path, "--speed", "1000", accounts=[{**ACCOUNTS[0], **urls}]) as sandbox:
        yield sandbox


def submit(sandbox: SandboxProcess, rows: int, **custom: object) -> str:
    body = {
        "name": "list",
        "task": "email-verification",
        "data": [[f"ann{n}@sbx-found.example"] for n in range(rows)],
        "custom": {"externalIds": [f"row-{n}" for n in range(rows)], **custom},
    }
    return str(sandbox.post("/bulk-search", body)["file"])


def test_account_is_called_for_each_row_and_for_the_list(calling: SandboxProcess, receiver: Receiver) -> None:
    file = submit(calling, 3)

    calls = receiver.wait(4)

    ids = sorted(said["data"]["userData"]["externalId"] for path, said in calls if path == ITEM)
    assert ids == ["row-0", "row-1", "row-2"]
    (done,) = [said["data"] for path, said in calls if path == DONE]
    assert (done["file"], done["total"], done["done"]) == (file, 3, 3)
    assert set(done["certainties"]) == {"verySure", "sure", "probable", "undeliverable"}
    assert "results" not in done
    assert all(
        is_signed(API_SECRET, path=path, stamp=said["timestamp"], signature=said["signature"])
        for path, said in calls
    )


def test_request_s_own_addresses_are_called_besides(calling: SandboxProcess, receiver: Receiver) -> None:
    own = {
        "webhookUrlItem": f"{receiver.url}/own/item",
        "webhookUrlBulkDone": f"{receiver.url}/own/done",
        "includeResultsInWebhook": True,
    }
    submit(calling, 2, **own)

    calls = receiver.wait(6)

    paths = sorted(path for path, _ in calls)
    assert paths == [DONE, ITEM, ITEM, "/own/done", "/own/item", "/own/item"]
    for path, said in calls:
        if path in (DONE, "/own/done"):
            found = {item["userData"]["externalId"] for item in said["data"]["results"]}
            assert found == {"row-0", "row-1"}


def test_single_search_calls_the_account_and_its_own_address(
    calling: SandboxProcess, receiver: Receiver
) -> None:
    custom = {"externalId": "one", "webhookUrl": f"{receiver.url}/own"}
    calling.post("/email-verification", {"email": "ann@sbx-found.example", "custom": custom})

    calls = receiver.wait(2)

    assert sorted(path for path, _ in calls) == [ITEM, "/own"]
    assert {said["data"]["userData"]["externalId"] for _, said in calls} == {"one"}


@pytest.mark.parametrize(
    ("switches", "times"), [({"webhooks_duplicated": True}, 2), ({"webhooks_shuffled": True}, 1)]
)
def test_calls_come_twice_or_out_of_order(
    calling: SandboxProcess, receiver: Receiver, switches: dict[str, bool], times: int
) -> None:
    calling.order("/control/settings", {**switches, "speed": 0})
    submit(calling, 20)
    calling.order("/control/advance", {"seconds": 600})

    calls = receiver.wait(21 * times)

    ids = [said["data"]["userData"]["externalId"] for path, said in calls if path == ITEM]
    assert len(calls) == 21 * times
    assert {ids.count(each) for each in ids} == {times}
    if "webhooks_shuffled" in switches:
        assert ids != [f"row-{n}" for n in range(20)]


def test_calls_are_dropped_or_come_late(calling: SandboxProcess, receiver: Receiver) -> None:
    calling.order("/control/settings", {"webhooks_dropped": True})
    submit(calling, 2)
    calling.order("/control/advance", {"seconds": 600})
    time.sleep(0.5)
    assert receiver.calls == []

    calling.order("/control/settings", {"webhooks_dropped": False, "webhooks_delay_s": 1.0})
    started = time.monotonic()
    submit(calling, 1)
    receiver.wait(2)

    assert time.monotonic() - started >= 1.0

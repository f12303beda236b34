"""Two ways to stand in for Icypeas in a unit test: a handler, and a socket that misbehaves byte by byte."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx

from enrichment.providers.base import ProviderError
from enrichment.providers.icypeas.client import IcypeasClient

SECRET = "marker-7c1f0a5e9d3b"
API_SECRET = "marker-signing-42f6"
BASE_URL = "https://icypeas.example/api"

Reply = httpx.Response | Exception
Thing = TypeVar("Thing")

_PAYLOADS = Path(__file__).parents[2] / "payloads" / "icypeas"


def payload(name: str) -> dict[str, Any]:
    """One hand-written answer."""
    answer = json.loads((_PAYLOADS / f"{name}.json").read_text())
    assert isinstance(answer, dict)
    return answer


def answer(name: str, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=payload(name))


class Wire:
    """A client whose calls end in a handler: `requests` is what arrived, replies come in their order, the
    last one again and again."""

    def __init__(self, *replies: Reply, **options: Any) -> None:
        self.requests: list[httpx.Request] = []
        self._replies = list(replies)
        options.setdefault("base_url", BASE_URL)
        options.setdefault("secret", SECRET)
        self.client = IcypeasClient(**options, transport=httpx.MockTransport(self._reply))

    def _reply(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def body(self, index: int = -1) -> Any:
        """The JSON of one request."""
        return json.loads(self.requests[index].content)


def present(value: Thing | None) -> Thing:
    """The value, which must be there."""
    assert value is not None
    return value


def ending(call: Callable[[], Any]) -> Any:
    """What a call returns, or the error of the tree that it ends in; any other error passes."""
    try:
        return call()
    except ProviderError as error:
        return error


@contextmanager
def server(answer_to: Callable[[socket.socket], None]) -> Iterator[str]:
    """A listening socket; each connection is handed to `answer_to` and closed after it. Yields the base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    is_over = threading.Event()

    def serve() -> None:
        while not is_over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(5)
                # The client may go away, which is what several tests want.
                with suppress(OSError):
                    answer_to(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api"
    finally:
        is_over.set()
        thread.join(timeout=10)
        listener.close()


def receive(connection: socket.socket) -> bytes:
    """One whole request: head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        ),
        0,
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body

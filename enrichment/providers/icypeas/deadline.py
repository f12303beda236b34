"""A total deadline for one HTTP call, kept on every read and write of the socket.

The library's own timeouts start anew with each operation: a server that drips one byte of a header at a
time outlives them for hours, and a paid call that outlives its lease may be taken for dead while it still
runs. Resolving a name is the one step that no timeout reaches; nothing has been sent at that point.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import httpcore
import httpx

# The monotonic time by which the running call must end. One call runs in one thread, so the context is its own.
_ends_at: ContextVar[float | None] = ContextVar("icypeas_call_ends_at", default=None)
# A write is cut up so that the deadline is looked at in between.
_WRITE_BYTES = 64 * 1024


@contextmanager
def call_deadline(total_s: float) -> Iterator[float]:
    """Everything inside must end within `total_s` seconds; yields the monotonic end."""
    ends_at = time.monotonic() + total_s
    token = _ends_at.set(ends_at)
    try:
        yield ends_at
    finally:
        _ends_at.reset(token)


def _shorten(timeout: float | None, late: type[httpcore.TimeoutException]) -> float | None:
    """The operation's timeout, cut to what is left of the call; `late` is raised when nothing is left."""
    ends_at = _ends_at.get()
    if ends_at is None:
        return timeout
    left = ends_at - time.monotonic()
    if left <= 0:
        raise late("the total deadline of the call is over")
    return left if timeout is None else min(timeout, left)


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _shorten(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _WRITE_BYTES):
            piece = buffer[start : start + _WRITE_BYTES]
            self._stream.write(piece, _shorten(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _shorten(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _DeadlineBackend(httpcore.NetworkBackend):
    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        left = _shorten(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._backend.connect_tcp(host, port, left, local_address, socket_options))


@cache
def _tls_context() -> ssl.SSLContext:
    """Reading the certificate store takes longer than many a call, and clients are short-lived."""
    return httpx.create_ssl_context(trust_env=False)


class DeadlineTransport(httpx.HTTPTransport):
    """HTTP/1.1 without proxies and without retries, whose sockets know `call_deadline`.

    httpx takes no network backend, so its pool is replaced; a test that drips headers fails should a
    later httpx no longer use the replacement.
    """

    def __init__(self, *, connections: int = 20) -> None:
        context = _tls_context()
        super().__init__(verify=context, trust_env=False, http1=True, http2=False, retries=0)
        self._pool.close()
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=5.0,
            http1=True,
            http2=False,
            retries=0,
            network_backend=_DeadlineBackend(),
        )

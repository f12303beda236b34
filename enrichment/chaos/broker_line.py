"""A line to the broker that can be cut, as networks do: connections reset, the broker away for a while, silence.

All processes of the scene reach the broker through it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Final

CHUNK: Final = 65_536
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER of no time: closing sends a reset instead of a goodbye


@dataclass(eq=False)
class _Pair:
    """One connection: ours from the client, and ours to the broker."""

    client: socket.socket
    broker: socket.socket
    is_mute: bool = False

    def close(self) -> None:
        for end in (self.client, self.broker):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@dataclass(eq=False)
class BrokerLine:
    """Forwards connections of a port of this machine to the broker at `host` and `port`, from `open` to `close`."""

    host: str
    port: int
    _listener: socket.socket = field(init=False, repr=False)
    _pairs: set[_Pair] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _away_until: float = 0.0

    def open(self) -> int:
        """Listen; the port."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        threading.Thread(target=self._accept, name="broker-line", daemon=True).start()
        port: int = self._listener.getsockname()[1]
        return port

    def close(self) -> None:
        self._listener.close()
        self.reset()

    def reset(self) -> None:
        """Break every connection, as a router that forgot them does."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            pair.close()

    def restart(self, seconds: float) -> None:
        """The broker is away for `seconds` with its messages kept: connections break, new ones too."""
        self._away_until = time.monotonic() + seconds
        self.reset()

    def mute(self) -> None:
        """Nothing more goes through the present connections, and nobody is told; new ones work."""
        with self._lock:
            for pair in self._pairs:
                pair.is_mute = True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if time.monotonic() < self._away_until:
                    raise ConnectionRefusedError
                pair = _Pair(client, socket.create_connection((self.host, self.port), timeout=5))
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                client.close()
                continue
            pair.broker.settimeout(None)
            with self._lock:
                self._pairs.add(pair)
            for source, target in ((pair.client, pair.broker), (pair.broker, pair.client)):
                threading.Thread(target=self._pump, args=(pair, source, target), daemon=True).start()

    def _pump(self, pair: _Pair, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if not pair.is_mute:
                    target.sendall(data)
        if pair.is_mute:  # the other end of a dead line hears no goodbye either
            return
        with self._lock:
            self._pairs.discard(pair)
        pair.close()

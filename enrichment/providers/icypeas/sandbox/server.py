"""HTTP in front of the sandbox: reads requests, finds who asks, and lets faults happen to answers."""

from __future__ import annotations

import gzip
import io
import ipaddress
import json
import select
import socket
import socketserver
import struct
import sys
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl

from . import control
from .auth import identify
from .faults import Fault
from .routes import ROUTES, Call, Route
from .sandbox import Sandbox
from .wire import Reply, make_reply, refuse

_MAX_BODY: Final = 20_000_000
_IDLE_S: Final = 75.0
_OWN_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
_LARGE: Final = 12_000_000  # more than any answer has
_WEB_PAGE: Final = (
    b"<!DOCTYPE html><html><head><title>Gateway</title></head><body><h1>Please wait</h1></body></html>"
)
_BROKEN_JSON: Final = object()


class SandboxServer(ThreadingHTTPServer):
    """Serves one sandbox. A thread a connection; connections are kept open between calls."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], sandbox: Sandbox, *, is_verbose: bool = False) -> None:
        self.sandbox = sandbox
        self.is_verbose = is_verbose
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # The base class asks the resolver for our own name, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that hang up are daily bread here and no news."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    server: SandboxServer
    protocol_version = "HTTP/1.1"
    server_version = "icypeas-sandbox"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = 65536
    timeout = _IDLE_S

    def _serve(self) -> None:
        started = time.monotonic()
        path, _, query = self.path.partition("?")
        body = self._read_body()
        if body is None:
            return
        if path.startswith("/api/"):
            result = self._serve_api(path, dict(parse_qsl(query)), body)
        else:
            reply = self._control(path, dict(parse_qsl(query)), body)
            self._send(reply)
            result = str(reply.status)
        if self.server.is_verbose:
            # The path alone: queries and bodies carry people, headers carry the key.
            took = (time.monotonic() - started) * 1000
            shown = path.encode("ascii", "backslashreplace").decode()
            sys.stderr.write(f"{self.command} {shown} {result} {took:.0f} ms\n")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_HEAD = _serve

    def _read_body(self) -> bytes | None:
        """The whole body; None after answering a request whose body cannot be read."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers:
            reply = make_reply(411, {"success": False, "message": "Content-Length is required."})
        elif not (length.isascii() and length.isdigit()):
            reply = make_reply(400, {"success": False, "message": "Bad Content-Length."})
        elif int(length[:12]) > _MAX_BODY:
            reply = make_reply(413, {"success": False, "message": "Body too large."})
        else:
            return self.rfile.read(int(length))
        # The unread body would be taken for the next request.
        self.close_connection = True
        self._send(reply)
        return None

    def _control(self, path: str, query: dict[str, str], body: bytes) -> Reply:
        is_local = ipaddress.ip_address(self.client_address[0].split("%")[0]).is_loopback
        if path != "/healthz" and not (is_local and self._is_own_page()):
            return make_reply(403, {"error": "Control endpoints are for this machine alone."})
        is_form = self.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded")
        form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)) if is_form else None
        try:
            reply = control.answer(
                self.server.sandbox, self.command, path, query, None if is_form else _parse(body), form
            )
        except Exception:
            traceback.print_exc()
            return make_reply(500, {"error": "Internal error."})
        return reply or make_reply(404, {"success": False, "message": "Not found."})

    def _is_own_page(self) -> bool:
        """A web page in this machine's browser is local too, but its requests name their origin, and a browser that was
        led here by a foreign name says that name."""
        host = self.headers.get("Host", "")
        if host.rpartition(":")[0] not in _OWN_NAMES:
            return False
        return self.headers.get("Origin", f"http://{host}") == f"http://{host}"

    def _serve_api(self, path: str, query: dict[str, str], body: bytes) -> str:
        """Answer one call of the API, or let it go wrong; a word on what happened."""
        sandbox = self.server.sandbox
        route = ROUTES.get(path.removeprefix("/api"))
        if route is None:
            self._send(make_reply(404, {"success": False, "message": "Not found."}))
            return "404"
        fault = sandbox.faults.take_before(route.path)
        if fault is None:
            try:
                reply = self._answer(route, path, query, body)
            except Exception:
                traceback.print_exc()
                reply = make_reply(500, {"success": False, "message": "Internal server error."})
            sandbox.count_request(route.path, str(reply.status))
            fault = sandbox.faults.take_after(route.path, is_accepted=reply.is_accepted)
        else:
            reply = make_reply(fault.status, {"success": False, "message": "Internal server error."})
            sandbox.count_request(route.path, "none" if fault.kind == "reset_before" else str(fault.status))
        if fault is None:
            self._send(reply)
            return str(reply.status)
        sandbox.count_fault(route.path)
        self._fail(fault, reply)
        return fault.kind

    def _answer(self, route: Route, path: str, query: dict[str, str], body: bytes) -> Reply:
        if self.command != route.method:
            return make_reply(405, {"success": False, "message": "Method not allowed."}, Allow=route.method)
        sandbox, switches = self.server.sandbox, self.server.sandbox.switches
        caller = identify(
            sandbox.accounts,
            authorization=self.headers.get("Authorization", ""),
            timestamp=self.headers.get("X-ROCK-TIMESTAMP", ""),
            method=self.command,
            path=path,
        )
        if caller.holder is not None:
            sandbox.count_secret(caller.holder.user_id)
        if caller.holder is None or not caller.is_allowed or switches.key_revoked or switches.api_off:
            error = {"field": "authorization", "type": "UnauthorizedError", "message": "unauthorized"}
            message = "Unauthorized access."
            return make_reply(401, {"success": False, "message": message, "validationErrors": [error]})
        if (
            switches.rate_limits
            and route.calls is not None
            and not sandbox.limiter.admit(
                caller.holder.user_id,
                route.path,
                calls=route.calls,
                window_s=route.window_s,
                scale=switches.limit_factor,
            )
        ):
            message = "You have exceeded the max number of requests per minute."
            return make_reply(429, {"success": False, "message": message})
        content = query if route.method == "GET" else _parse(body)
        if content is _BROKEN_JSON:
            return make_reply(400, {"success": False, "message": "The body is not JSON."})
        if not isinstance(content, dict):
            text = "The body must be an object."
            error = {"field": "body", "type": "ValidationError", "message": "validation_object"}
            return refuse([{**error, "humanReadableMessage": text}])
        return route.handle(Call(sandbox, caller.holder, content))

    def _fail(self, fault: Fault, reply: Reply) -> None:
        if fault.kind == "delay":
            self.server.sandbox.stopping.wait(fault.seconds)
            self._send(reply)
        elif fault.kind == "hang_after_accept":
            self._hang(fault.seconds)
        elif fault.kind.startswith("reset_"):
            self._reset()
        elif fault.kind == "truncated":
            self._send(Reply(reply.status, reply.body[: len(reply.body) // 2], headers=reply.headers))
        elif fault.kind == "html":
            self._send(Reply(fault.status, _WEB_PAGE, content_type="text/html; charset=utf-8"))
        elif fault.kind == "empty":
            self._send(Reply(fault.status, b""))
        elif fault.kind == "text":
            self._send(Reply(200, b"OK, thank you", content_type="text/plain; charset=utf-8"))
        elif fault.kind in ("list", "bare"):
            self._send(Reply(200, b"[]" if fault.kind == "list" else b"{}"))
        elif fault.kind == "oversize":
            self._send(Reply(200, b" " * _LARGE))
        elif fault.kind == "compressed":
            self._send(Reply(200, gzip.compress(b" " * _LARGE), headers={"Content-Encoding": "gzip"}))
        elif fault.kind == "drip":
            self._drip(reply, fault.seconds)
        elif fault.kind == "refusal":
            error = {"field": "user", "type": fault.word, "message": fault.word}
            self._send(make_reply(fault.status, {"success": False, "validationErrors": [error]}))
        else:
            message = fault.word or "Internal server error."
            self._send(make_reply(fault.status, {"success": False, "message": message}))

    def _drip(self, reply: Reply, seconds: float) -> None:
        """The whole truth, a byte at a time, until the caller leaves."""
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        try:
            for place in range(len(reply.body)):
                self.wfile.write(reply.body[place : place + 1])
                self.wfile.flush()
                if self.server.sandbox.stopping.wait(seconds):
                    return
        except OSError:
            self.close_connection = True

    def _hang(self, seconds: float) -> None:
        """Keep the connection open and silent until the caller leaves, the time is over or the sandbox stops."""
        self.close_connection = True
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.server.sandbox.stopping.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.1)
            if readable:
                try:
                    if not self.connection.recv(1, socket.MSG_PEEK):
                        return
                except OSError:
                    return
                # The caller sent more instead of leaving: wait without spinning on it.
                self.server.sandbox.stopping.wait(0.1)

    def _reset(self) -> None:
        """Close so that the caller sees a reset instead of an orderly end."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Closed here, files first since they hold the socket open: the base class would say goodbye in good order.
        self.rfile.close()
        self.wfile.close()
        self.connection.close()
        self.wfile = io.BytesIO()  # which the base class flushes once more

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """The base class would log the whole request line; `_serve` writes what may be shown."""


def _parse(body: bytes) -> Any:
    """The JSON in a body; an empty body counts as an empty object."""
    if not body.strip():
        return {}
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return _BROKEN_JSON

"""A server process with the part of the KV v2 HTTP API that is read: `python -m tests.fakes.vault_process PORT_FILE`.

The mount is `secret`. `TOKEN` reads below `icypeas/` and may ask about itself; `ROOT_TOKEN` writes, deletes, seals and
unseals. Answers are those of OpenBao, which the same tests talk to where it is installed: 503 sealed, 403 denied, 404 with an
empty list of errors where nothing is, and 404 with null data for a deleted version.
"""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = os.environ.get("STAND_IN_TOKEN", f"hvs.test-token-{os.environ.get('TEST_CANARY', '')}")
ROOT_TOKEN = "test-root-token"
KEPT: dict[str, Any] = {}
STATE = {"sealed": False}
DATA = "/v1/secret/data/"
DENIED = {"errors": ["permission denied"]}


class Handler(BaseHTTPRequestHandler):
    """Every answer is JSON."""

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        token = self.headers.get("X-Vault-Token")
        if STATE["sealed"]:
            self._answer(503, {"errors": ["Vault is sealed"]})
        elif token not in (TOKEN, ROOT_TOKEN):
            self._answer(403, DENIED)
        elif self.path == "/v1/auth/token/lookup-self":
            self._answer(200, {"data": {"policies": ["default", "desk"]}})
        elif self.path.startswith("/v1/elsewhere/"):
            path = self.path.removeprefix("/v1/")
            self._answer(404, {"errors": [f'no handler for route "{path}". route entry not found.']})
        elif not self.path.startswith(DATA + "icypeas/"):
            self._answer(403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]})
        elif self.path not in KEPT:
            self._answer(404, {"errors": []})
        else:
            fields = KEPT[self.path]
            deleted_at = "" if fields is not None else "2026-01-01T00:00:00Z"
            metadata = {"version": 1, "deletion_time": deleted_at, "destroyed": False}
            status = 404 if fields is None else 200
            self._answer(status, {"data": {"data": fields, "metadata": metadata}})

    def _change(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("X-Vault-Token") != ROOT_TOKEN:
            self._answer(403, DENIED)
            return
        if self.path in ("/v1/sys/seal", "/v1/sys/unseal"):
            STATE["sealed"] = self.path.endswith("/seal")
        elif self.command == "DELETE":
            KEPT[self.path] = None
        else:
            KEPT[self.path] = json.loads(content)["data"]
        self._answer(200, {})

    do_PUT = do_POST = do_DELETE = _change

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Path(sys.argv[1]).write_text(str(server.server_port))
    server.serve_forever()

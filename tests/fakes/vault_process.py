"""A server process with the part of the KV v2 HTTP API that is read: `python -m tests.fakes.vault_process PORT_FILE`.

The mount is `secret`, the token `TOKEN`. Paths below `icypeas/`: whatever was PUT to `/v1/secret/data/…`, as JSON.
`PUT /seal` and `PUT /unseal` are for tests. Answers follow the published API: 503 sealed, 403 denied, 404 with an empty
error list where nothing is, and 404 with a body of null data for a deleted version.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "hvs.test-token"
KEPT: dict[str, Any] = {}
STATE = {"sealed": False}
ROOT = "/v1/secret/data/"


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
        if STATE["sealed"]:
            self._answer(503, {"errors": ["Vault is sealed"]})
        elif self.headers.get("X-Vault-Token") != TOKEN or not self.path.startswith(ROOT + "icypeas/"):
            self._answer(403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]})
        elif self.path not in KEPT:
            self._answer(404, {"errors": []})
        else:
            fields = KEPT[self.path]
            deleted_at = "" if fields is not None else "2026-01-01T00:00:00Z"
            metadata = {"version": 1, "deletion_time": deleted_at, "destroyed": False}
            status = 404 if fields is None else 200
            self._answer(status, {"data": {"data": fields, "metadata": metadata}})

    def do_PUT(self) -> None:
        if self.path in ("/seal", "/unseal"):
            STATE["sealed"] = self.path == "/seal"
        else:
            KEPT[self.path] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(200, {})

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Path(sys.argv[1]).write_text(str(server.server_port))
    server.serve_forever()

"""Start the sandbox from a command line and run it until it is told to stop.

Secrets come from a file or the environment, never from an argument: command lines are readable by everyone
on the machine. In this order: `--accounts FILE`, `SANDBOX_ACCOUNTS_FILE`, one account with the secret in
`ICYPEAS_API_KEY` (and `ICYPEAS_API_SECRET` for signatures).
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from .accounts import Account, AccountsError, make_account, read_accounts
from .sandbox import Sandbox
from .server import SandboxServer
from .switches import PROFILES

DEFAULT_PORT = 8100


def add_options(parser: argparse.ArgumentParser) -> None:
    """The sandbox's options, for its own command line and for others that start it."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port",
        type=int,
        default=DEFAULT_PORT,
        help="port to listen on; 0 takes a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--state", type=Path, help="folder that keeps balances and history (default: DATA_DIR/sandbox)"
    )
    parser.add_argument(
        "--speed",
        type=_read_speed,
        default=1.0,
        help="clock and rate limits times this; 0 stops the clock (default: 1)",
    )
    parser.add_argument("--profile", choices=sorted(PROFILES), default="normal", help="how well it behaves")
    parser.add_argument("--accounts", type=Path, help="JSON file with accounts and secrets, mode 0600")
    parser.add_argument(
        "--verbose", action="store_true", help="one line per request, without headers and bodies"
    )


def _read_speed(text: str) -> float:
    speed = float(text)
    if not 0 <= speed <= 100_000:
        raise ValueError("speed")
    return speed


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, serve, and return the exit status: 0 after being told to stop, 1 when it cannot start, 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="sandbox", description="A local Icypeas with invented data.")
    add_options(parser)
    return serve(parser.parse_args(arguments), os.environ)


def serve(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Run the sandbox with parsed options; blocks. Must be called in the main thread."""
    state = options.state or Path(environment.get("DATA_DIR") or "var") / "sandbox"
    try:
        accounts = _find_accounts(options.accounts, environment)
        sandbox = Sandbox(accounts, state, speed=options.speed, profile=options.profile)
    except AccountsError as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(f"The state folder {state} cannot be used: {error.strerror}.")
    try:
        server = SandboxServer((options.host, options.port), sandbox, is_verbose=options.verbose)
    except (OSError, OverflowError) as error:
        sandbox.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            return _complain(
                f"Port {options.port} is taken: stop what uses it or choose another with --port."
            )
        return _complain(f"Cannot listen on {options.host}, port {options.port}.")

    def stop(number: int, frame: FrameType | None) -> None:
        # From its own thread, because shutdown waits for the loop that this handler has interrupted.
        threading.Thread(target=server.shutdown).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    sandbox.start()
    sys.stdout.write(f"Sandbox listening on http://{options.host}:{server.server_port}/api\n")
    sys.stdout.flush()
    try:
        server.serve_forever(poll_interval=0.2)
    finally:
        sandbox.close()
        server.server_close()
    return 0


def _find_accounts(path: Path | None, environment: Mapping[str, str]) -> list[Account]:
    named = path or (
        Path(environment["SANDBOX_ACCOUNTS_FILE"]) if environment.get("SANDBOX_ACCOUNTS_FILE") else None
    )
    if named:
        return read_accounts(named)
    secret = environment.get("ICYPEAS_API_KEY", "").strip()
    if not secret:
        raise AccountsError("The sandbox has no account: give --accounts FILE or set ICYPEAS_API_KEY.")
    return [make_account(secret, api_secret=environment.get("ICYPEAS_API_SECRET", "").strip())]


def _complain(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return 1

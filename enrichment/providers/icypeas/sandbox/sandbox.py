"""The running sandbox: accounts, memory, clock, switches and counters in one place."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from . import hooks
from .accounts import Account
from .clock import Clock, wall_ms
from .faults import FaultBook
from .limiter import SlidingWindow
from .store import Store
from .switches import PROFILES, Switches, make_switches

_TICK_S = 0.2
_HOOKS_AT_ONCE = 200


class Sandbox:
    """Everything that request handlers share. `start` settles in the background until `close`."""

    def __init__(self, accounts: Sequence[Account], folder: Path, *, speed: float, profile: str) -> None:
        self.accounts = list(accounts)
        self.store = Store(folder)
        self.store.open_accounts(self.accounts)
        self.faults = FaultBook()
        self.limiter = SlidingWindow()
        self._profile = self._start_profile = profile
        self._start_speed = speed
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._received: Counter[str] = Counter()
        self.switches = make_switches(profile, speed)
        self.clock = Clock(self.switches.speed, self.store.read_clock())
        self._arm_profile()
        self.apply(self.switches)
        self.stopping = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="settle", daemon=True)
        self._caller = threading.Thread(target=self._call_back, name="webhooks", daemon=True)

    def start(self) -> None:
        self._ticker.start()
        self._caller.start()

    def close(self) -> None:
        """Stop the background work and write down where the clock stands."""
        self.stopping.set()
        if self._ticker.is_alive():
            self._ticker.join()
            self._caller.join()
        self.store.save_clock(self.clock)
        self.store.close()

    def _tick(self) -> None:
        # Rows must end and be charged also when nobody looks: a ledger read later has to be complete.
        while not self.stopping.wait(_TICK_S):
            self.settle()

    def _call_back(self) -> None:
        """Deliver webhooks, apart from the settling: whoever is called may be slow."""
        secrets = {account.user_id: account.api_secret for account in self.accounts}
        while not self.stopping.wait(_TICK_S):
            switches = self.switches
            due = self.store.take_hooks(wall_ms() - int(switches.webhooks_delay_s * 1000), _HOOKS_AT_ONCE)
            if switches.webhooks_dropped:
                due = []
            data = {row["id"]: content for row, content in due}
            for row in hooks.arrange(
                [row for row, _ in due],
                is_duplicated=switches.webhooks_duplicated,
                is_shuffled=switches.webhooks_shuffled,
            ):
                body = hooks.envelope(secrets.get(row["user_id"], ""), row["url"], data[row["id"]])
                self.count_request("webhooks", str(hooks.deliver(row["url"], body)))

    def settle(self) -> None:
        """Bring statuses and charges up to the sandbox's present."""
        self.store.settle(self.clock.now_ms())

    def apply(self, switches: Switches) -> None:
        """Make the switches hold from now on."""
        # What became ready under the old switches must not be judged by the new ones.
        self.settle()
        self.switches = switches
        self.store.is_broke = switches.out_of_credits
        self.clock.set_speed(switches.speed)
        self.store.save_clock(self.clock)

    @property
    def profile(self) -> str:
        """The profile that was chosen last; single switches may differ from it."""
        return self._profile

    def choose(self, profile: str) -> None:
        """Behave as a profile from now on; accounts, history and charges stay."""
        self._profile = profile
        self.faults.clear()
        self._arm_profile()
        self.apply(make_switches(profile, self._start_speed))

    def advance(self, seconds: float) -> None:
        """Let that much sandbox time pass at once."""
        self.clock.advance(seconds)
        self.store.save_clock(self.clock)
        self.settle()

    def reset(self) -> None:
        """Back to the start: no history, first credits, the switches and faults of the profile, counters at zero."""
        self.store.reset(self.accounts)
        self.limiter.clear()
        with self._lock:
            self._requests.clear()
            self._received.clear()
        self.choose(self._start_profile)

    def _arm_profile(self) -> None:
        for fault in PROFILES[self._profile].faults:
            self.faults.arm(fault)

    def count_request(self, route: str, status: str) -> None:
        """Count one call of a route under the HTTP status that it was given, or `none`."""
        with self._lock:
            self._requests[route, "total"] += 1
            self._requests[route, status] += 1

    def count_fault(self, route: str) -> None:
        with self._lock:
            self._requests[route, "faults"] += 1

    def count_secret(self, user_id: str) -> None:
        with self._lock:
            self._received[user_id] += 1

    def requests(self) -> dict[str, dict[str, int]]:
        """Calls since the start, by route: `total`, each HTTP status, and to how many a fault happened (`faults`)."""
        counts: dict[str, dict[str, int]] = {}
        with self._lock:
            for (route, result), number in sorted(self._requests.items()):
                of_route = counts.setdefault(route, {"total": 0, "200": 0, "401": 0, "429": 0, "faults": 0})
                of_route[result] = number
        return counts

    def times_received(self, user_id: str) -> int:
        """How many calls since the start carried that account's secret."""
        with self._lock:
            return self._received[user_id]

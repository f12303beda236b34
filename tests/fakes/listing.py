"""A provider whose listings leave something out, as a listing that moves while it is read does."""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field, replace
from typing import Any

from enrichment.providers.base import ItemPage, Provider


@dataclass
class HidingProvider:
    """Leaves out, the first time it is read, one item of each of the `pages` (counted from 1 over the whole run), and
    always the items that were asked with one of the `emails`; everything in the first `late_s` after the first reading.
    What is left is the real provider's."""

    pages: Set[int] = frozenset()
    emails: Set[str] = frozenset()
    late_s: float = 0.0
    reads: int = 0
    begun_at: float = field(default=0.0, init=False)
    hidden: int = field(default=0, init=False)

    def around(self, make: Callable[..., Provider]) -> Callable[..., Provider]:
        def made(**options: Any) -> Provider:
            real = make(**options)
            read = real.read_file_items
            real.read_file_items = lambda *args, **more: self._leave_out(read(*args, **more))  # type: ignore[method-assign]
            return real

        return made

    def _leave_out(self, page: ItemPage) -> ItemPage:
        self.reads += 1
        self.begun_at = self.begun_at or time.monotonic()
        if time.monotonic() < self.begun_at + self.late_s:
            self.hidden += len(page.items)
            return replace(page, items=[], cursor=None)
        items = [item for item in page.items if not self.emails & set(_asked(item.raw))]
        if self.reads in self.pages:
            items = items[1:]
        self.hidden += len(page.items) - len(items)
        return replace(page, items=items)


def _asked(raw: Any) -> list[str]:
    """The addresses that an item speaks of."""
    emails = (raw.get("results") or {}).get("emails") or []
    return [str(entry.get("email", "")).lower() for entry in emails]

"""The address of a job's page: filter, place in the list and open row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from enrichment.choices import RowState
from enrichment.selectors import RowFilter

LONGEST_SEARCH = 100
LARGEST_POSITION = 10**9


@dataclass(frozen=True)
class Address:
    """The address of a job's page: filter, place in the list and open row. `to` changes parts of it."""

    path: str
    wanted: RowFilter = field(default_factory=RowFilter)
    after: int | None = None
    before: int | None = None
    row: int | None = None

    @property
    def query(self) -> str:
        named = {
            "state": self.wanted.state,
            "certainty": self.wanted.certainty,
            "reason": self.wanted.reason,
            "warning": self.wanted.warning,
            "q": self.wanted.search,
            "after": self.after,
            "before": self.before,
            "row": self.row,
        }
        return urlencode({name: value for name, value in named.items() if value not in ("", None)})

    def __str__(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    def at(self, path: str) -> str:
        """Another page with the same query."""
        return str(replace(self, path=path))

    def filtered(self, **changes: str) -> str:
        """Another filter; it starts at the first row, and no row is open."""
        return str(Address(self.path, replace(self.wanted, **changes)))

    def opened(self, position: int | None) -> str:
        """The same list with another row open, or none."""
        return str(replace(self, row=position))

    def page(self, *, after: int | None = None, before: int | None = None) -> str:
        return str(Address(self.path, self.wanted, after=after, before=before))

    @property
    def cleared(self) -> str:
        return self.path

    @property
    def clear(self) -> str:
        """Where *Clear* leads; "" when there is nothing to clear."""
        return self.path if self.wanted.is_set else ""

    @property
    def list_query(self) -> str:
        """The query of the list, without an open row."""
        return replace(self, row=None).query

    @property
    def kept(self) -> list[tuple[str, str]]:
        """What the search form sends along, so that a search keeps the other filters."""
        wanted = self.wanted
        others = {
            "state": wanted.state,
            "certainty": wanted.certainty,
            "reason": wanted.reason,
            "warning": wanted.warning,
        }
        return [(name, value) for name, value in others.items() if value]

    @property
    def closed(self) -> str:
        return self.opened(None)


def read_address(path: str, given: Mapping[str, str]) -> Address:
    """The address as asked for. What makes no sense counts as not given: old and hand-made links still open."""
    state = given.get("state", "")
    return Address(
        path,
        RowFilter(
            state=state if state in RowState.values else "",
            certainty=_word(given.get("certainty", "")),
            reason=_word(given.get("reason", "")),
            warning=_word(given.get("warning", "")),
            search=_word(given.get("q", ""), most=LONGEST_SEARCH),
        ),
        after=_position(given.get("after", "")),
        before=_position(given.get("before", "")),
        row=_position(given.get("row", "")),
    )


def _word(text: str, most: int = 40) -> str:
    return text.replace("\0", "").strip()[:most]


def _position(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    return min(int(text[:12]), LARGEST_POSITION)

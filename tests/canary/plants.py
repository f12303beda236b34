"""The planted secrets, one for each source, and the shapes in which one could turn up."""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

CORE = 28  # characters that no escaping touches, so that a piece of one is found in JSON, addresses and markup alike
LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Plant:
    """A secret that one source alone gave out. `core` is the part of `value` that is searched for."""

    source: str
    value: str = field(repr=False)
    core: str = field(repr=False)


def make_plant(source: str, pattern: str = "{}") -> Plant:
    """A fresh secret; `pattern` puts other characters around its core."""
    core = "".join(secrets.choice(LETTERS) for _ in range(CORE))
    return Plant(source, pattern.format(core), core)


def shapes(core: str) -> dict[str, bytes]:
    """What is searched for: the core as it is, in halves (a text that was cut off), and as somebody could have coded it."""
    plain = core.encode()
    found = {
        "as it is": plain,
        "its first half": plain[: CORE // 2],
        "its second half": plain[CORE // 2 :],
        "reversed": plain[::-1],
        "in hex": plain.hex().encode(),
        "in capital hex": plain.hex().upper().encode(),
        "as UTF-16": core[: CORE // 2].encode("utf-16-le"),
    }
    for shift in range(3):
        # Base64 of something longer that holds it, whatever stands before: without the letters that the neighbours decide.
        coded = base64.b64encode(b"\0" * shift + plain)
        found[f"in Base64, {shift} off"] = coded[-(-shift * 8 // 6) : len(plain) * 8 // 6]
    return found


@dataclass(frozen=True)
class Hit:
    """A secret where it must not be."""

    source: str
    shape: str
    place: str
    name: str  # of the file, page or process


@dataclass
class Searched:
    """What was looked through, by kind of place: how many things, how many bytes; and what was found."""

    plants: Sequence[Plant]
    things: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    hits: list[Hit] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._needles = [(plant.source, shapes(plant.core)) for plant in self.plants]

    def look(self, place: str, name: str, content: bytes, *, allowed: Iterable[str] = ()) -> None:
        """Search one thing. `allowed` names the sources whose secret belongs there."""
        self.things[place] = self.things.get(place, 0) + 1
        self.sizes[place] = self.sizes.get(place, 0) + len(content)
        for source, needles in self._needles:
            if source in allowed:
                continue
            shape = next((shape for shape, needle in needles.items() if needle in content), "")
            if shape:
                self.hits.append(Hit(source, shape, place, name))

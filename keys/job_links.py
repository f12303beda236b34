"""Jobs as keys know them: by a number and a name. Which of them a person may open is said by the app that has them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from people.models import User

Openable = Callable[[User, Collection[int]], frozenset[int]]


def _none(user: User, numbers: Collection[int]) -> frozenset[int]:
    return frozenset()


_openable: list[Openable] = [_none]


def declare(openable: Openable) -> None:
    """Called at the start by the app that has the jobs. `openable` is given numbers and returns those that a person may open."""
    _openable[:] = [openable]


def openable(user: User, numbers: Collection[int | None]) -> frozenset[int]:
    """Which of these jobs the person may open, and so read by their names."""
    told = {number for number in numbers if number}
    return _openable[0](user, told) if told else frozenset()


def url_of(number: int | None, openable: Collection[int]) -> str:
    """The address of a job's page, "" for one that may not be opened: keys know the number, so it is put together here."""
    return f"/jobs/{number}/" if number in openable else ""

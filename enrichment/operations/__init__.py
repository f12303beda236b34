"""The operations there are: each is a file in this folder, found by what it declares."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module

from .base import Operation


def _declared() -> Iterator[Operation]:
    for module in pkgutil.iter_modules(__path__):
        for value in vars(import_module(f"{__name__}.{module.name}")).values():
            if isinstance(value, Operation):
                yield value


# In the order of the picker.
OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in sorted(_declared(), key=lambda operation: (operation.place, operation.name))
}
# Those that are asked row by row, with a list or a form; the others are searches.
ASKED: Mapping[str, Operation] = {
    name: operation for name, operation in OPERATIONS.items() if not operation.is_search
}
SEARCHES: Mapping[str, Operation] = {
    name: operation for name, operation in OPERATIONS.items() if operation.is_search
}


class UnknownOperationError(LookupError):
    """There is no operation of this name; the text lists those that there are."""


def get(name: str) -> Operation:
    """The operation called `name`. Raises `UnknownOperationError`."""
    try:
        return OPERATIONS[name]
    except KeyError:
        raise UnknownOperationError(
            f"There is no operation “{name}”. Choose one of: {', '.join(OPERATIONS)}."
        ) from None

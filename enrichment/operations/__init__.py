"""The operations there are. A new one is a file of its own and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Operation
from .domain_search import DOMAIN_SEARCH
from .email_search import EMAIL_SEARCH
from .email_verification import EMAIL_VERIFICATION
from .find_companies import FIND_COMPANIES
from .find_company import FIND_COMPANY
from .find_people import FIND_PEOPLE
from .find_profile import FIND_PROFILE
from .reverse_lookup import REVERSE_LOOKUP
from .scrape_company import SCRAPE_COMPANY
from .scrape_profile import SCRAPE_PROFILE

# In the order of the picker.
OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        EMAIL_SEARCH,
        EMAIL_VERIFICATION,
        DOMAIN_SEARCH,
        REVERSE_LOOKUP,
        FIND_PROFILE,
        FIND_COMPANY,
        SCRAPE_PROFILE,
        SCRAPE_COMPANY,
        FIND_PEOPLE,
        FIND_COMPANIES,
    )
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

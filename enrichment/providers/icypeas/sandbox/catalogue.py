"""What is sold: tasks with their inputs and prices, and the words for where a search stands."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

# Balances and charges are stored as whole millionths of a credit, so that sums in SQL stay exact.
MICRO: Final = 1_000_000

NONE: Final = "NONE"
SCHEDULED: Final = "SCHEDULED"
IN_PROGRESS: Final = "IN_PROGRESS"
FOUND: Final = "FOUND"
DEBITED: Final = "DEBITED"
NOT_FOUND: Final = "NOT_FOUND"
DEBITED_NOT_FOUND: Final = "DEBITED_NOT_FOUND"
BAD_INPUT: Final = "BAD_INPUT"
INSUFFICIENT_FUNDS: Final = "INSUFFICIENT_FUNDS"
ABORTED: Final = "ABORTED"
UNDOCUMENTED: Final = "ON_REVIEW"

NEVER_RAN: Final = frozenset({BAD_INPUT, INSUFFICIENT_FUNDS, ABORTED})


@dataclass(frozen=True)
class Task:
    """`keys` are the body keys of the single route, in the order of a bulk row's cells.

    `price` is in credits. A run that finds nothing costs it only when `is_charged_when_empty`.
    """

    name: str
    keys: tuple[str, ...]
    price: Decimal
    is_charged_when_empty: bool
    # What stands in place of a result where there is none: "" for the address of a page, None for what a page says.
    nothing: str | None = ""

    @property
    def price_micro(self) -> int:
        return to_micro(self.price)


TASKS: Final[dict[str, Task]] = {
    task.name: task
    for task in (
        Task("email-search", ("firstname", "lastname", "domainOrCompany"), Decimal("1"), False),
        Task("email-verification", ("email",), Decimal("0.1"), True),
        Task("domain-search", ("domainOrCompany",), Decimal("1"), False),
    )
}
# Tasks whose routes answer in the call. The prices of URL searches are published nowhere: one credit is ours.
DIRECT_TASKS: Final[dict[str, Task]] = {
    task.name: task
    for task in (
        Task("reverse-email-lookup", ("email",), Decimal("10"), False),
        Task(
            "url-search-profile",
            ("firstname", "lastname", "companyOrDomain", "jobTitle"),
            Decimal("1"),
            False,
        ),
        Task("url-search-company", ("companyOrDomain",), Decimal("1"), False),
        Task("scrape-profile", ("url",), Decimal("1.5"), False, nothing=None),
        Task("scrape-company", ("url",), Decimal("0.5"), False, nothing=None),
        Task("find-people", (), Decimal("0.02"), False),
        Task("find-companies", (), Decimal("0.02"), False),
    )
}
# An older page of the vendor names the scan's filter like this.
TASK_ALIASES: Final = {"domain-scan": "domain-search"}


def to_micro(credits: Decimal) -> int:
    """Credits as millionths. ValueError when finer than that, negative, or beyond what JSON holds exactly."""
    micro = credits * MICRO
    if not micro.is_finite() or micro != micro.to_integral_value() or not 0 <= micro < 10**15:
        raise ValueError("credits must be between 0 and 999999999 with at most six decimals")
    return int(micro)


def to_credits(micro: int) -> Decimal:
    """Millionths as credits, without trailing zeros: 1500000 → Decimal('1.5')."""
    credits = Decimal(micro) / MICRO
    return credits.quantize(Decimal(1)) if credits == credits.to_integral_value() else credits.normalize()

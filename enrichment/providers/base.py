"""What the rest of the app knows about a data provider: requests, results, errors.

Nothing here knows HTTP, Django or Icypeas; `providers/icypeas/provider.py` translates.

The error tree follows what is known about money after a failed call::

    ProviderError
    ├── NotSentError            nothing left this machine (DNS, connect, TLS, pool): safe to send again
    ├── RateLimitedError        429: nothing was created; wait `retry_after_s`
    ├── UncertainOutcomeError   a paid call that timed out, broke, or got a 5xx or unreadable 2xx:
    │                           it may have been accepted. Look it up, never resend
    ├── ReadFailedError         a free call failed; reading again costs nothing
    └── RefusedError            a definite no: nothing was created, resending as it is cannot help
        ├── KeyRejectedError    401 (`needs_user_id` when the body names UserNotFound)
        ├── UnpaidError         the account's subscription is overdue
        ├── OutOfCreditsError   the account cannot pay for the call
        ├── BadInputError       validation errors; `fields` names them
        └── NotFoundError       the id or file is unknown to the provider
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

# HTTP statuses of a refusal that any other call of the account would meet as well, whatever fields the body names.
ACCOUNT_STATUSES = (402, 403)


class ProviderError(Exception):
    """Base of everything a provider call can end in besides an answer.

    `message` is safe to show and store: it never holds a header, a key or a whole payload.
    `status` is the HTTP status when there was one.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class NotSentError(ProviderError):
    """Nothing left this machine."""


class RateLimitedError(ProviderError):
    """429: nothing was created."""

    def __init__(self, message: str, *, status: int | None = 429, retry_after_s: float = 1.0) -> None:
        super().__init__(message, status=status)
        self.retry_after_s = retry_after_s


class UncertainOutcomeError(ProviderError):
    """A paid call whose outcome is unknown. `answer` is what came, where something came that fits no row."""

    def __init__(
        self, message: str, *, status: int | None = None, answer: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, status=status)
        self.answer = answer


class ReadFailedError(ProviderError):
    """A free call failed; trying again is free."""


class RefusedError(ProviderError):
    """A definite refusal: nothing was created and nothing was charged."""


class KeyRejectedError(RefusedError):
    """The key was not accepted (401)."""

    def __init__(self, message: str, *, status: int | None = 401, needs_user_id: bool = False) -> None:
        super().__init__(message, status=status)
        self.needs_user_id = needs_user_id


class UnpaidError(RefusedError):
    """The account's subscription is unpaid."""


class OutOfCreditsError(RefusedError):
    """The account holds too few credits for the call."""


class BadInputError(RefusedError):
    """The provider named fields it does not accept."""

    def __init__(self, message: str, *, status: int | None = 200, fields: Sequence[str] = ()) -> None:
        super().__init__(message, status=status)
        self.fields = tuple(fields)


class NotFoundError(RefusedError):
    """The provider does not know the id or file."""


class ItemState(enum.Enum):
    """Where one asked input stands at the provider."""

    PENDING = "pending"
    FINAL = "final"  # ran to an end; `ProviderItem.verdict` says which
    BAD_INPUT = "bad_input"  # never ran, never charged
    NO_CREDITS = "no_credits"  # never ran, never charged; may be asked again
    ABORTED = "aborted"  # cancelled at the provider before it ran; may be asked again


class Verdict(enum.StrEnum):
    """What the provider found out about one input."""

    FOUND = "found"
    NOT_FOUND = "not_found"
    DELIVERABLE = "deliverable"
    RISKY = "risky"
    UNDELIVERABLE = "undeliverable"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class BulkRequest:
    """One list for one paid call. `rows` and `external_ids` have the same length (at most 5,000).

    `rows[i]` maps the operation's provider fields (`first_name`, `last_name`, `company`; `email`; …)
    to cleaned text. `name` is unique; a lost submit is looked up by it.
    """

    operation: str
    name: str
    rows: Sequence[Mapping[str, str]]
    external_ids: Sequence[str]
    webhook_url: str = ""  # called when the whole list has ended


@dataclass(frozen=True)
class SingleRequest:
    """One input for one paid call, found again by its `external_id`. `webhook_url` is called when it has ended."""

    operation: str
    inputs: Mapping[str, str]
    external_id: str
    webhook_url: str = ""


@dataclass(frozen=True)
class ProviderFile:
    """Progress of one bulk. Counters are rows; only `is_finished` tells the end."""

    file_id: str
    name: str
    total: int
    done: int
    found: int
    is_finished: bool
    created_at: datetime | None = None


@dataclass(frozen=True)
class ProviderItem:
    """One input's standing. `result` holds the operation's result columns without prefix:
    for e-mail operations `email`, `certainty`, `all_emails` (list of {email, certainty, mx_provider}), `mx_provider`.

    `is_charged` is the provider's explicit word (FOUND, DEBITED → True; never ran → False) or None when it
    does not say; the ledger then follows the operation's `charged_when_empty`. `raw` is the item as received.
    `is_known` is False for an item that ended with a status that nobody knows: whether it cost something is unclear.
    """

    provider_id: str
    external_id: str
    state: ItemState
    raw_status: str
    verdict: Verdict | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    is_charged: bool | None = None
    is_known: bool = True
    order: int | None = None  # the row's place in its bulk, from 0
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ItemPage:
    """One page of items. `cursor` continues the listing; None means this was the last page."""

    items: Sequence[ProviderItem]
    cursor: Any | None
    raw_count: int


@dataclass(frozen=True)
class FilePage:
    """One page of bulks, newest first. `cursor` as in `ItemPage`."""

    files: Sequence[ProviderFile]
    cursor: Any | None


@dataclass(frozen=True)
class FindRequest:
    """One page of a search for leads, one paid call: at most as many leads as there are `external_ids` (200).
    `query` is the provider's own; `token` is the one of the page before, "" for the first."""

    operation: str
    query: Mapping[str, Any]
    external_ids: Sequence[str]
    token: str = ""


@dataclass(frozen=True)
class LeadPage:
    """Leads in their order, under the first of the external ids. `token` continues the listing; "" after the last page.
    `total` is how many the search has in all."""

    items: Sequence[ProviderItem]
    token: str
    total: int


@dataclass(frozen=True)
class Balance:
    """The account as the provider describes it. `credits` is fractional."""

    credits: Decimal
    plan: str
    status: str
    user_id: str


class Provider(Protocol):
    """Every call may raise from the error tree above; paid ones are `submit_*`, `ask` and `find`."""

    def submit_bulk(self, request: BulkRequest) -> str:
        """Start a bulk; its file id."""

    def submit_single(self, request: SingleRequest) -> str:
        """Start one search; its provider id."""

    def ask(self, request: BulkRequest) -> str | Sequence[ProviderItem]:
        """Ask rows on a route that answers in the same call: their items, by `external_ids`. Nothing tells afterwards
        whether such a call arrived. A file id where the provider chose to answer later: its items carry no external
        id, but their `order`."""

    def find(self, request: FindRequest) -> LeadPage:
        """Fetch one page of leads; each is billed. Nothing tells afterwards whether such a call arrived.
        A token that has grown old is `BadInputError`."""

    def count(self, operation: str, query: Mapping[str, Any]) -> int:
        """How many leads a query has. Free."""

    def list_files(self, *, cursor: Any | None = None) -> FilePage:
        """Bulks of the account, newest first, 50 a page."""

    def read_file_items(self, file_id: str, *, operation: str, cursor: Any | None = None) -> ItemPage:
        """Items of one bulk, 100 a page. `operation` is the one that was submitted: an item does not name
        it, and a search and a verification are judged differently."""

    def read_single_items(self, *, operation: str | None, cursor: Any | None = None) -> ItemPage:
        """Single searches of the account, newest first, 100 a page; of one operation when it is told.
        With None finished items come without a verdict: `judge` them by the operation that was asked."""

    def read_item(self, provider_id: str, *, operation: str) -> ProviderItem | None:
        """One item by its id; None while it is not visible. `operation` as in `read_file_items`."""

    def judge(
        self, item: ProviderItem, *, operation: str, inputs: Mapping[str, str] | None = None
    ) -> ProviderItem:
        """The same item with verdict and result by the rules of `operation`, anew from its raw form; no
        call. `inputs` are those that were asked: the asked address picks among several entries."""

    def read_balance(self, *, email: str = "") -> Balance:
        """The account's credits. Free."""

    def close(self) -> None:
        """Give the connections back."""

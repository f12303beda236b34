"""Our requests as Icypeas' bodies, and Icypeas' answers as our dataclasses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from enrichment import operations
from enrichment.operations.base import Operation
from enrichment.providers.base import (
    BadInputError,
    Balance,
    BulkRequest,
    FilePage,
    FindRequest,
    ItemPage,
    LeadPage,
    NotFoundError,
    ProviderItem,
    ReadFailedError,
    RefusedError,
    SingleRequest,
    UncertainOutcomeError,
)
from enrichment.providers.icypeas import direct, leads, payloads
from enrichment.providers.icypeas.client import IcypeasClient
from enrichment.providers.icypeas.routes import ROUTES

MAX_BULK_ROWS = 5_000
MAX_DIRECT_ROWS = 50
ITEMS_A_PAGE = 100
FILES_A_PAGE = 50


class IcypeasProvider:
    """Implements `Provider`. Stateless beside the client, so any process can continue any listing."""

    def __init__(self, client: IcypeasClient) -> None:
        self._client = client

    def submit_bulk(self, request: BulkRequest) -> str:
        """Start a bulk; its file id. A success without an id is `UncertainOutcomeError`: look it up by name."""
        columns = _rows(request.operation).columns
        if len(request.rows) != len(request.external_ids):
            raise BadInputError("bulk-search: each row needs its external id.", status=None)
        if not 1 <= len(request.rows) <= MAX_BULK_ROWS:
            raise BadInputError(f"bulk-search: a list holds 1 to {MAX_BULK_ROWS:,} rows.", status=None)
        body: dict[str, Any] = {
            "name": request.name,
            "task": request.operation,
            "data": [[row.get(ours, "") for _, ours in columns] for row in request.rows],
            "custom": {"externalIds": list(request.external_ids)},
        }
        if request.webhook_url:
            body["custom"]["webhookUrlBulkDone"] = request.webhook_url
        if self._client.user_id:
            body["user"] = self._client.user_id
        answer = self._client.call(ROUTES["bulk-search"], json=body)
        return _submitted_id(answer.get("file"), "bulk-search")

    def ask(self, request: BulkRequest) -> str | Sequence[ProviderItem]:
        """Ask rows on the route that answers at once, one row on the single route: items in the order of the rows.

        Integrators saw lists of pages accepted for later: then the file id, as of a bulk. An answer of another length
        than the question is `UncertainOutcomeError`: nobody could say which row is whose.
        """
        operation = operations.OPERATIONS.get(request.operation)
        layout = operation.wire if operation else None
        if operation is None or not isinstance(layout, direct.Layout):
            raise BadInputError(f"{request.operation} has no route that answers at once.", status=None)
        if len(request.rows) != len(request.external_ids):
            raise BadInputError(f"{operation.bulk_route}: each row needs its external id.", status=None)
        if not 1 <= len(request.rows) <= MAX_DIRECT_ROWS:
            raise BadInputError(
                f"{operation.bulk_route}: a list holds 1 to {MAX_DIRECT_ROWS} rows.", status=None
            )
        if len(request.rows) == 1:
            route = operation.single_route
            said = layout.one(request.rows[0])
            is_get = ROUTES[route].method == "GET"
            answer = self._client.call(ROUTES[route], **{"params" if is_get else "json": said})
            answers: Any = [answer]
        else:
            route = operation.bulk_route
            body = layout.many(request.rows)
            if self._client.user_id and layout.takes_user:
                # Seen at an account whose lists of pages are answered later: it names rows by these ids, as a bulk does.
                body["user"] = self._client.user_id
                body["custom"] = {"externalIds": list(request.external_ids)}
            answer = self._client.call(ROUTES[route], json=body)
            answers = answer.get("data")
        if payloads.text_of(answer.get("file")) and not answers:
            return _submitted_id(answer.get("file"), route)
        if not isinstance(answers, list) or len(answers) != len(request.rows):
            raise UncertainOutcomeError(
                f"{route}: accepted, but the answers do not fit the {len(request.rows)} rows.",
                status=200,
                answer=answer,
            )
        items = (
            direct.parse(element, external_id=external_id, read=layout.read)
            for element, external_id in zip(answers, request.external_ids, strict=True)
        )
        return [item for item in items if item is not None]

    def find(self, request: FindRequest) -> LeadPage:
        """One page of leads. A token that has grown old, refused with 200 or 400, is `BadInputError`."""
        operation, search = _search(request.operation)
        route = operation.bulk_route
        size = len(request.external_ids)
        if not 1 <= size <= leads.MAX_SIZE:
            raise BadInputError(f"{route}: a page has 1 to {leads.MAX_SIZE} leads.", status=None)
        pagination: dict[str, Any] = {"size": size}
        if request.token:
            pagination["token"] = request.token
        body = {"query": dict(request.query), "pagination": pagination}
        expired: BadInputError | None = None
        try:
            answer = self._client.call(ROUTES[route], json=body)
        except RefusedError as error:
            # A reason of the account is none of the token, and lets the same page be fetched later. Without any, the token
            # is all that this page has and the first one had not: sent again it would be refused again, for ever.
            is_without_reason = type(error) in (RefusedError, NotFoundError) and error.status in (200, 400)
            if not request.token or not is_without_reason:
                raise
            expired = BadInputError(error.message, status=error.status, fields=("pagination.token",))
        if expired is not None:
            raise expired
        elements = answer.get("leads")
        if not isinstance(elements, list):
            raise UncertainOutcomeError(
                f"{route}: accepted, but the answer holds no leads.", status=200, answer=answer
            )
        return leads.parse_page(answer, elements, request.external_ids, search)

    def count(self, operation: str, query: Mapping[str, Any]) -> int:
        """How many leads a query has."""
        route = _search(operation)[0].count_route
        answer = self._client.call(ROUTES[route], json={"query": dict(query)})
        total = payloads.decimal_of(answer.get("total"))
        if total is None or total < 0:
            raise ReadFailedError(f"{route}: the answer names no total.", status=200)
        return payloads.count_of(answer.get("total"))

    def submit_single(self, request: SingleRequest) -> str:
        """Start one search; its id. A success without an id is `UncertainOutcomeError`: look it up."""
        # An empty text is refused on single routes, where a missing key is not.
        body: dict[str, Any] = {
            theirs: request.inputs[ours]
            for theirs, ours in _rows(request.operation).columns
            if request.inputs.get(ours)
        }
        body["custom"] = {"externalId": request.external_id}
        if request.webhook_url:
            body["custom"]["webhookUrl"] = request.webhook_url
        answer = self._client.call(ROUTES[request.operation], json=body)
        return _submitted_id(payloads.object_of(answer.get("item")).get("_id"), request.operation)

    def list_files(self, *, cursor: Any | None = None) -> FilePage:
        """Bulks of the account, newest first, 50 a page."""
        answer = self._client.call(ROUTES["files-read"], json=_paged({}, FILES_A_PAGE, cursor))
        elements = _elements(answer, "files", "files-read")
        files = [file for file in map(payloads.parse_file, elements) if file is not None]
        return FilePage(files=files, cursor=_next_cursor(answer, len(elements), FILES_A_PAGE, cursor))

    def read_file_items(self, file_id: str, *, operation: str, cursor: Any | None = None) -> ItemPage:
        """Items of one bulk, 100 a page, judged by the rules of `operation`."""
        return self._read_items({"mode": "bulk", "file": file_id}, operation, cursor)

    def read_single_items(self, *, operation: str | None, cursor: Any | None = None) -> ItemPage:
        """Single searches of the account, newest first, 100 a page; with None those of every operation, unjudged."""
        filters = {"mode": "single"}
        if operation is not None:
            _rows(operation)
            filters["type"] = operation
        return self._read_items(filters, operation, cursor)

    def read_item(self, provider_id: str, *, operation: str) -> ProviderItem | None:
        """One item by its id; None while it is not visible."""
        try:
            answer = self._client.call(ROUTES["items-read"], json={"id": provider_id, "limit": 1})
        except NotFoundError:
            return None
        for element in _elements(answer, "items", "items-read"):
            item = _parse(element, operation)
            if item is not None and item.provider_id == provider_id:
                return item
        return None

    def judge(
        self, item: ProviderItem, *, operation: str, inputs: Mapping[str, str] | None = None
    ) -> ProviderItem:
        """The same item with verdict and result by the rules of `operation`, anew from its raw form.

        `inputs` are those that were asked; a verification with several entries is decided by the asked one.
        """
        asked_email = (inputs or {}).get("email", "")
        judged = _parse(item.raw, operation, asked_email)
        return replace(judged, external_id=item.external_id) if judged else item

    def read_balance(self, *, email: str = "") -> Balance:
        """The account's credits. `email` is the account owner's; without it the key's own account answers."""
        body = {"email": email} if email else {}
        balance = payloads.parse_balance(self._client.call(ROUTES["subscription-information"], json=body))
        if balance is None:
            raise ReadFailedError("subscription-information: the answer names no credits.", status=200)
        return balance

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def _read_items(self, filters: Mapping[str, str], operation: str | None, cursor: Any | None) -> ItemPage:
        answer = self._client.call(ROUTES["items-read"], json=_paged(filters, ITEMS_A_PAGE, cursor))
        elements = _elements(answer, "items", "items-read")
        parsed = (_parse(element, operation) for element in elements)
        return ItemPage(
            items=[item for item in parsed if item is not None],
            cursor=_next_cursor(answer, len(elements), ITEMS_A_PAGE, cursor),
            raw_count=len(elements),
        )


def _parse(element: Any, operation: str | None, asked_email: str = "") -> ProviderItem | None:
    """One listed item, by the rules of its operation."""
    known = operations.OPERATIONS.get(operation or "")
    wire = known.wire if known else None
    if isinstance(wire, direct.Layout):
        return direct.parse_listed(element, wire.read)
    return payloads.parse_item(
        element, rows=wire if isinstance(wire, payloads.Rows) else None, asked_email=asked_email
    )


def _rows(name: str) -> payloads.Rows:
    operation = operations.OPERATIONS.get(name)
    if operation is None or not isinstance(operation.wire, payloads.Rows):
        raise BadInputError(f"Icypeas has no operation named {name!r} that is answered later.", status=None)
    return operation.wire


def _search(name: str) -> tuple[Operation, leads.Search]:
    operation = operations.OPERATIONS.get(name)
    if operation is None or not isinstance(operation.wire, leads.Search):
        raise BadInputError(f"Icypeas has no search named {name!r}.", status=None)
    return operation, operation.wire


def _submitted_id(value: Any, route: str) -> str:
    """The id in the answer to a paid call. One that is longer than any id is none: it could neither be kept nor read by."""
    identifier = payloads.text_of(value)
    if not 0 < len(identifier) <= payloads.MAX_ID:
        raise UncertainOutcomeError(f"{route}: accepted, but the answer names no id.", status=200)
    return identifier


def _paged(filters: Mapping[str, str], limit: int, cursor: Any | None) -> dict[str, Any]:
    """The body of a read. The limit is always named: without it ten rows come, whatever there is."""
    body: dict[str, Any] = {**filters, "limit": limit}
    if cursor is not None:
        body["next"] = True
        body["sorts"] = cursor
    return body


def _elements(answer: Mapping[str, Any], key: str, route: str) -> list[Any]:
    """The page as it came. A page without a list is no empty page, which would end a listing too early."""
    elements = answer.get(key)
    if not isinstance(elements, list):
        raise ReadFailedError(f"{route}: the answer holds no list of {key}.", status=200)
    return elements


def _next_cursor(
    answer: Mapping[str, Any], raw_count: int, limit: int, cursor: Any | None
) -> list[Any] | None:
    """The whole `sorts` array for the next call, or None after the last page.

    The raw count decides, before anything malformed is left out. The contents of `sorts` are opaque; the same ones again
    would bring the same page again, without end.
    """
    sorts = answer.get("sorts")
    if raw_count < limit or not isinstance(sorts, list) or not sorts or sorts == cursor:
        return None
    return sorts

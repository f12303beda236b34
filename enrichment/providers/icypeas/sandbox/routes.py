"""The documented routes: one function each, and the table that names them.

A further route is a function that takes a `Call` and returns a `Reply`, and a line in `ROUTES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from . import direct, finder, hooks
from .accounts import Account
from .catalogue import DIRECT_TASKS, MICRO, TASK_ALIASES, TASKS, Task, to_credits
from .listing import BULK_ROWS_ORDER, FILE_ORDER, FILE_ROWS_ORDER, SINGLES_ORDER, Cursor, Order
from .sandbox import Sandbox
from .store import OutOfCreditsError
from .validation import Fields, is_text
from .wire import Reply, format_file, format_item, format_sorts, make_reply, refuse

MAX_BULK_ROWS: Final = 5000
MAX_DIRECT_ROWS: Final = 50
MAX_ITEMS: Final = 100
MAX_FILES: Final = 50
DEFAULT_LIMIT: Final = 10


@dataclass(frozen=True)
class Call:
    """One authenticated call: whose it is, and the JSON object that it carries."""

    sandbox: Sandbox
    account: Account
    body: dict[str, Any]

    @property
    def visible_ms(self) -> int:
        """Sandbox time up to which accepted work shows in reads."""
        return self.sandbox.clock.now_ms() - int(self.sandbox.switches.visibility_lag_s * 1000)


@dataclass(frozen=True)
class Route:
    """`path` stands below `/api`. `calls` per `window_s` seconds are allowed; None: no limit is documented."""

    method: str
    path: str
    handle: Callable[[Call], Reply]
    calls: int | None = None
    window_s: float = 1.0


def search_email(call: Call) -> Reply:
    """POST /email-search: one person."""
    return _submit_single(call, TASKS["email-search"])


def verify_email(call: Call) -> Reply:
    """POST /email-verification: one address."""
    return _submit_single(call, TASKS["email-verification"])


def search_domain(call: Call) -> Reply:
    """POST /domain-search: the role addresses of one company."""
    return _submit_single(call, TASKS["domain-search"])


def _submit_single(call: Call, task: Task) -> Reply:
    fields = Fields(call.body)
    cells = [fields.text(key, is_required=key not in ("firstname", "lastname")) for key in task.keys]
    if task.name == "email-search" and not any(key in call.body for key in ("firstname", "lastname")):
        for key in ("firstname", "lastname"):
            fields.refuse(key, "validation_required", "firstname or lastname is required.")
    custom = fields.custom()
    webhook_url = custom.url("custom.webhookUrl")
    external_id = _optional_text(custom, "custom.externalId")
    if fields.errors:
        return refuse(fields.errors)
    search_id = call.sandbox.store.add_single(
        call.account.user_id,
        task,
        cells,
        external_id=external_id,
        webhook_url=webhook_url,
        now_ms=call.sandbox.clock.now_ms(),
    )
    _wish(call, hooks.ITEM, [search_id], [webhook_url, call.account.webhook_url_item])
    return make_reply(200, {"success": True, "item": {"_id": search_id, "status": "NONE"}})


def _wish(
    call: Call, kind: str, subjects: list[str], urls: list[str], *, includes_results: bool = False
) -> None:
    """Note webhooks: the account's address is called beside that of the request, also when they are the same."""
    call.sandbox.store.wish(
        call.account.user_id,
        [hooks.Wish(url, kind, subject, includes_results) for subject in subjects for url in urls if url],
    )


def _optional_text(fields: Fields, name: str) -> str:
    value = fields.body.get(name, "")
    if not is_text(value):
        fields.refuse(name, "validation_string", f"{name} must be a string.")
        return ""
    return str(value)


def submit_bulk(call: Call) -> Reply:
    """POST /bulk-search: up to 5,000 rows of one task."""
    if not _names_its_user(call):
        return _unknown_user()
    fields = Fields(call.body)
    name = fields.text("name", is_required=True)
    task = TASKS.get(fields.choice("task", list(TASKS), is_required=True))
    rows = read_rows(fields, "data", task)
    custom = fields.custom()
    external_ids = read_external_ids(custom, "custom.externalIds", len(rows))
    webhook_url = custom.url("custom.webhookUrlItem")
    done_url = custom.url("custom.webhookUrlBulkDone")
    includes_results = bool(custom.flag("custom.includeResultsInWebhook"))
    if fields.errors or task is None:
        return refuse(fields.errors)
    sandbox = call.sandbox
    sandbox.settle()
    price = MICRO if sandbox.switches.needs_one_credit_a_row else task.price_micro
    try:
        file_id = sandbox.store.add_bulk(
            call.account.user_id,
            task,
            rows,
            name=name,
            external_ids=external_ids or [""] * len(rows),
            webhook_url=webhook_url,
            is_shuffled=sandbox.switches.shuffle,
            needed_micro=price * len(rows),
            now_ms=sandbox.clock.now_ms(),
        )
    except OutOfCreditsError:
        fields.refuse("user", "insufficient_credits", "Insufficient credits.", "InsufficientCreditsError")
        return refuse(fields.errors)
    account = call.account
    if webhook_url or account.webhook_url_item:
        ids = sandbox.store.search_ids(file_id)
        _wish(call, hooks.ITEM, ids, [webhook_url, account.webhook_url_item])
    urls = [done_url, account.webhook_url_bulk_done]
    _wish(call, hooks.BULK_DONE, [file_id], urls, includes_results=includes_results)
    return make_reply(200, {"success": True, "status": "in_progress", "file": file_id})


def _unknown_user() -> Reply:
    error = {"field": "user", "type": "UserNotFoundError", "message": "user_not_found"}
    return make_reply(401, {"success": False, "message": "Unauthorized access.", "validationErrors": [error]})


def _names_its_user(call: Call) -> bool:
    if "user" in call.body:
        return bool(call.body["user"] == call.account.user_id)
    return not call.sandbox.switches.needs_user_id


def read_rows(fields: Fields, name: str, task: Task | None) -> list[list[str]]:
    """The rows of a bulk: lists of strings, as wide as the task wants. [] when refused."""
    rows = fields.body.get(name)
    if name not in fields.body:
        fields.refuse(name, "validation_required", f"{name} is required.")
    elif not isinstance(rows, list):
        fields.refuse(name, "validation_array", f"{name} must be an array of arrays of strings.")
    elif not 1 <= len(rows) <= MAX_BULK_ROWS:
        fields.refuse(name, "validation_array_length", f"{name} must hold 1 to {MAX_BULK_ROWS} rows.")
    else:
        for number, row in enumerate(rows):
            if not isinstance(row, list) or not all(is_text(cell) for cell in row):
                fields.refuse(name, "validation_row", f"{name}[{number}] must be an array of strings.")
                return []
            if task is not None and len(row) != len(task.keys):
                text = f"{name}[{number}] must hold {len(task.keys)} cells for {task.name}."
                fields.refuse(name, "validation_row_width", text)
                return []
        return rows
    return []


def read_external_ids(fields: Fields, name: str, rows: int) -> list[str]:
    """One id a row, or [] when none were given or they are refused."""
    if name not in fields.body:
        return []
    ids = fields.body[name]
    if not isinstance(ids, list) or not all(is_text(entry) for entry in ids):
        fields.refuse(name, "validation_array", f"{name} must be an array of strings.")
        return []
    # With refused rows there is no length to compare with.
    if rows and len(ids) != rows:
        fields.refuse(name, "validation_array_length", f"{name} must be as long as data.")
        return []
    return ids


def look_up_email(call: Call) -> Reply:
    """POST /reverse-email-lookup: who is behind one address."""
    if call.sandbox.switches.lookups_later:
        fields = Fields(call.body)
        email = fields.text("email", is_required=True)
        return refuse(fields.errors) if fields.errors else _begin(call, [[email]], is_one=True)
    return _answer_one(call, "reverse-email-lookup", ["email"])


def look_up_emails(call: Call) -> Reply:
    """POST /reverse-email-lookups: who is behind 2 to 50 addresses."""
    fields = Fields(call.body)
    rows = [[email] for email in fields.texts("data", least=2, most=MAX_DIRECT_ROWS)]
    if call.sandbox.switches.lookups_later and not fields.errors:
        return _begin(call, rows)
    return _answer_many(call, fields, "reverse-email-lookup", rows)


def _begin(call: Call, rows: list[list[str]], *, is_one: bool = False) -> Reply:
    """Reverse look-ups that have only begun: their ids, under which they can be read."""
    task = DIRECT_TASKS["reverse-email-lookup"]
    now_ms = call.sandbox.clock.now_ms()
    standing = {} if call.sandbox.switches.bare_singles else {"status": "IN_PROGRESS", "result": ""}
    begun = [
        {
            "searchId": call.sandbox.store.add_single(
                call.account.user_id, task, cells, external_id="", webhook_url="", now_ms=now_ms
            ),
            **standing,
        }
        for cells in rows
    ]
    return make_reply(200, {"success": True, **begun[0]} if is_one else {"success": True, "data": begun})


def find_profile(call: Call) -> Reply:
    """POST /url-search/profile: the page of one person."""
    return _answer_one(call, "url-search-profile", ["firstname", "lastname"])


def find_company(call: Call) -> Reply:
    """POST /url-search/company: the page of one company."""
    return _answer_one(call, "url-search-company", ["companyOrDomain"])


def find_pages(call: Call) -> Reply:
    """POST /url-search: pages of up to 50 people or companies."""
    fields = Fields(call.body)
    task = _task_of_type(fields, "url-search")
    rows = fields.objects("data", task.keys, most=MAX_DIRECT_ROWS)
    return _answer_many(call, fields, task.name, rows)


def scrape_profile(call: Call) -> Reply:
    """GET /scrape/profile: what the page of one person says."""
    return _answer_one(call, "scrape-profile", ["url"])


def scrape_company(call: Call) -> Reply:
    """GET /scrape/company: what the page of one company says."""
    return _answer_one(call, "scrape-company", ["url"])


def scrape(call: Call) -> Reply:
    """POST /scrape: what up to 50 pages say; a file to be read later when the switch `scrapes_later` is on."""
    if not _names_its_user(call):
        return _unknown_user()
    fields = Fields(call.body)
    task = _task_of_type(fields, "scrape")
    urls = fields.texts("data", least=1, most=MAX_DIRECT_ROWS)
    rows = [[url] for url in urls]
    if not call.sandbox.switches.scrapes_later:
        return _answer_many(call, fields, task.name, rows)
    external_ids = read_external_ids(fields.custom(), "custom.externalIds", len(rows))
    if fields.errors:
        return refuse(fields.errors)
    file_id = call.sandbox.store.add_bulk(
        call.account.user_id,
        task,
        rows,
        name=task.name,
        external_ids=external_ids or [""] * len(rows),
        webhook_url="",
        is_shuffled=call.sandbox.switches.shuffle,
        needed_micro=0,
        now_ms=call.sandbox.clock.now_ms(),
    )
    return make_reply(200, {"success": True, "file": file_id})


def _task_of_type(fields: Fields, route: str) -> Task:
    kind = fields.choice("type", ["profile", "company"], is_required=True)
    return DIRECT_TASKS[f"{route}-{kind or 'profile'}"]


def _answer_one(call: Call, name: str, required: list[str]) -> Reply:
    """The answer for one row; at least one of a person's company and job title is wanted."""
    fields, task = Fields(call.body), DIRECT_TASKS[name]
    cells = [fields.text(key, is_required=key in required) for key in task.keys]
    if name == "url-search-profile" and not any(key in call.body for key in task.keys[2:]):
        for key in task.keys[2:]:
            fields.refuse(key, "validation_required", "companyOrDomain or jobTitle is required.")
    if fields.errors:
        return refuse(fields.errors)
    call.sandbox.settle()
    (answer,) = direct.answer_rows(call.sandbox.store, call.account.user_id, task, [cells])
    return make_reply(200, {"success": True, **answer})


def _answer_many(call: Call, fields: Fields, name: str, rows: list[list[str]]) -> Reply:
    """The answers for a list; a row that says too little ends BAD_INPUT among the others."""
    if fields.errors:
        return refuse(fields.errors)
    call.sandbox.settle()
    answers = direct.answer_rows(call.sandbox.store, call.account.user_id, DIRECT_TASKS[name], rows)
    return make_reply(200, {"success": True, "data": answers})


def count_people(call: Call) -> Reply:
    """POST /find-people/count: how many people meet the filters; free."""
    return _count(call, finder.PEOPLE)


def count_companies(call: Call) -> Reply:
    """POST /find-companies/count: how many companies meet the filters; free."""
    return _count(call, finder.COMPANIES)


def find_people(call: Call) -> Reply:
    """POST /find-people: a page of people, each charged."""
    return _find_leads(call, finder.PEOPLE)


def find_companies(call: Call) -> Reply:
    """POST /find-companies: a page of companies, each charged."""
    return _find_leads(call, finder.COMPANIES)


def _count(call: Call, kind: finder.Kind) -> Reply:
    fields = Fields(call.body)
    query = finder.read_query(fields, kind)
    if fields.errors:
        return refuse(fields.errors)
    return make_reply(200, {"success": True, "total": len(finder.find(kind, query))})


def _find_leads(call: Call, kind: finder.Kind) -> Reply:
    """One page. After the last full page comes an empty one that still carries a token, as the vendor's do."""
    fields = Fields(call.body)
    query = finder.read_query(fields, kind)
    order = finder.read_pagination(fields, query, call.sandbox.clock.now_ms())
    if fields.errors:
        return refuse(fields.errors)
    call.sandbox.settle()
    found = finder.find(kind, query)
    leads = [kind.tell(entry) for entry in found[order.start : order.start + order.size]]
    paid = direct.charge_leads(call.sandbox.store, call.account.user_id, DIRECT_TASKS[kind.name], leads)
    if leads and not paid:
        fields.refuse("user", "insufficient_credits", "Insufficient credits.", "InsufficientCreditsError")
        return refuse(fields.errors)
    pagination: dict[str, Any] = {"size": paid, "token": None}
    if paid == order.size or not leads:
        # Its life begins now: finding the first page of all may have taken a busy machine seconds.
        pagination["token"] = finder.make_token(query, order.start + paid, call.sandbox.clock.now_ms())
    content = {"success": True, "total": len(found), "leads": leads[:paid], "pagination": pagination}
    return make_reply(200, content)


def read_items(call: Call) -> Reply:
    """POST /bulk-single-searchs/read: one search, single searches, or rows of bulks."""
    fields = Fields(call.body)
    search_id = fields.text("id")
    mode = fields.choice("mode", ["single", "bulk"], is_required="id" not in call.body)
    type_ = fields.choice("type", [*TASKS, *TASK_ALIASES])
    file_id = fields.text("file")
    limit = fields.limit(default=DEFAULT_LIMIT, highest=MAX_ITEMS)
    if "type" in call.body and mode != "single" and "id" not in call.body:
        fields.refuse("type", "validation_type_mode", "type goes with mode single only.")
    if "file" in call.body and mode != "bulk":
        fields.refuse("file", "validation_file_mode", "file goes with mode bulk only.")
    order = SINGLES_ORDER if mode == "single" else FILE_ROWS_ORDER if file_id else BULK_ROWS_ORDER
    cursor = _read_cursor(fields, order) if not search_id else None
    if fields.errors:
        return refuse(fields.errors)

    sandbox, user_id = call.sandbox, call.account.user_id
    sandbox.settle()
    if search_id:
        row = sandbox.store.read_search(user_id, search_id, visible_ms=call.visible_ms)
        if row is None:
            return _refuse_unknown("id")
        items = _shown(call, [format_item(row, user_id, sandbox.clock.now_ms())])
        return make_reply(200, {"success": True, "items": items, "total": 1, "sorts": [[], []]})
    if mode == "single":
        page = sandbox.store.list_singles(
            user_id,
            task=TASK_ALIASES.get(type_, type_) or None,
            limit=limit,
            cursor=cursor,
            visible_ms=call.visible_ms,
        )
    elif file_id:
        if sandbox.store.read_file(user_id, file_id) is None:
            return _refuse_unknown("file")
        page = sandbox.store.list_file_rows(file_id, limit=limit, cursor=cursor)
    else:
        page = sandbox.store.list_bulk_rows(user_id, limit=limit, cursor=cursor, visible_ms=call.visible_ms)
    now_ms = sandbox.clock.now_ms()
    items = _shown(call, [format_item(row, user_id, now_ms) for row in page.rows])
    return make_reply(
        200, {"success": True, "items": items, "total": page.total, "sorts": format_sorts(page)}
    )


def _shown(call: Call, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items as they are listed: single searches with the bare necessities when the switch says so."""
    if not call.sandbox.switches.bare_singles:
        return items
    bare = ("_id", "status", "results")
    return [item if "file" in item else {key: item[key] for key in bare if key in item} for item in items]


def _refuse_unknown(field: str) -> Reply:
    text = f"No such {'search' if field == 'id' else 'file'}."
    error = {"field": field, "type": "SearchNotFoundError", "message": "search_not_found"}
    return refuse([{**error, "humanReadableMessage": text}])


def _read_cursor(fields: Fields, order: Order) -> Cursor | None:
    """Where the page begins; None for the first one, which is also the answer to `next` without `sorts`."""
    is_forward = fields.flag("next")
    sorts = fields.body.get("sorts")
    if sorts is None or sorts == []:
        return None
    if is_forward is None:
        if "next" not in fields.body:
            fields.refuse("next", "validation_required", "next is required with sorts.")
        return None
    keys = sorts if isinstance(sorts, list) else []
    key = keys[-1 if is_forward else 0] if keys else None
    is_usable = (
        isinstance(key, list)
        and len(key) == len(order.columns)
        and all(isinstance(part, int) and not isinstance(part, bool) and abs(part) < 2**63 for part in key)
    )
    if not is_usable or key is None:
        fields.refuse("sorts", "validation_sorts", "sorts must be the array of the previous answer.")
        return None
    return Cursor(tuple(key), is_forward)


def read_files(call: Call) -> Reply:
    """POST /search-files/read: bulks with their progress, newest first."""
    fields = Fields(call.body)
    file_id = fields.text("file")
    status = fields.choice("status", ["in_progress", "done"])
    limit = fields.limit(default=DEFAULT_LIMIT, highest=MAX_FILES)
    cursor = _read_cursor(fields, FILE_ORDER)
    if fields.errors:
        return refuse(fields.errors)
    sandbox, user_id = call.sandbox, call.account.user_id
    sandbox.settle()
    if file_id and sandbox.store.read_file(user_id, file_id) is None:
        return _refuse_unknown("file")
    page = sandbox.store.list_files(
        user_id,
        file_id=file_id or None,
        is_finished=status == "done" if status else None,
        limit=limit,
        cursor=cursor,
        visible_ms=call.visible_ms,
    )
    files = [format_file(row) for row in page.rows]
    return make_reply(
        200, {"success": True, "files": files, "total": page.total, "sorts": format_sorts(page)}
    )


def read_subscription(call: Call) -> Reply:
    """POST /a/actions/subscription-information: the key owner's own account, with or without `email`.

    The answer has no `success` key: that one is unconfirmed, so nobody may lean on it.
    """
    fields = Fields(call.body)
    email = fields.text("email")
    own = call.account.email
    if email and own and email.strip().lower() != own.lower():
        fields.refuse("email", "validation_email_owner", "email is not the address of the key's owner.")
    if fields.errors:
        return refuse(fields.errors)
    call.sandbox.settle()
    credits = to_credits(call.sandbox.store.read_balance(call.account.user_id))
    return make_reply(
        200,
        {
            "userId": call.account.user_id,
            "customerId": f"cus_{call.account.user_id}",
            "currency": "eur",
            "checkoutSession": "",
            "lastInvoiceUrl": "",
            "priceId": "price_sandbox",
            "plan": "sandbox",
            "status": "active",
            # At most fifteen digits (see `to_micro`), which a float prints exactly.
            "credits": int(credits) if credits == credits.to_integral_value() else float(credits),
            "quotas": {"daily": 0},
        },
    )


ROUTES: Final[dict[str, Route]] = {
    route.path: route
    for route in (
        Route("POST", "/email-search", search_email, 10, 1),
        Route("POST", "/email-verification", verify_email, 10, 1),
        Route("POST", "/domain-search", search_domain, 10, 1),
        Route("POST", "/bulk-search", submit_bulk, 1, 1),
        Route("POST", "/bulk-single-searchs/read", read_items, 30, 60),
        Route("POST", "/search-files/read", read_files, 15, 60),
        Route("POST", "/reverse-email-lookup", look_up_email, 20, 1),
        Route("POST", "/reverse-email-lookups", look_up_emails, 15, 1),
        Route("POST", "/url-search/profile", find_profile, 20, 1),
        Route("POST", "/url-search/company", find_company, 20, 1),
        Route("POST", "/url-search", find_pages, 20, 1),
        Route("GET", "/scrape/profile", scrape_profile, 20, 1),
        Route("GET", "/scrape/company", scrape_company, 20, 1),
        Route("POST", "/scrape", scrape, 20, 1),
        Route("POST", "/find-people/count", count_people, 10, 1),
        Route("POST", "/find-people", find_people, 30, 1),
        Route("POST", "/find-companies/count", count_companies, 10, 1),
        Route("POST", "/find-companies", find_companies, 30, 1),
        Route("POST", "/a/actions/subscription-information", read_subscription),
    )
}

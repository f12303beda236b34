"""Endpoints for tests and demos, outside `/api` and for this machine alone.

==========================  ================================================================================
GET  /healthz               `{"ok": true}`
GET  /control/state         accounts with balances, counts of requests, bulks, switches, armed faults
GET  /control/charges       the charge ledger; `?after=ID` and `?limit=N` narrow it
GET  /control/              a page for people; its forms send the POSTs below
POST /control/profile       `{"profile"}` behaves as one of `switches.PROFILES` from now on
POST /control/settings      changes switches (see `switches.Switches`); `{}` shows them
POST /control/faults        arms a fault (see `faults.Fault`); `{"clear": true}` disarms all
POST /control/advance       `{"seconds": N}` of sandbox time pass at once
POST /control/credits       `{"user_id", "credits"}` sets a balance
POST /control/seed          writes finished bulks into the past (see `seed`)
POST /control/reset         forgets everything
==========================  ================================================================================

Credits are decimal strings here. A request that cannot be served is 400 with `{"error": "..."}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from . import page
from .catalogue import TASKS, to_credits, to_micro
from .clock import wall_ms
from .faults import FaultError, make_fault
from .routes import ROUTES, read_external_ids, read_rows
from .sandbox import Sandbox
from .switches import PROFILES, SwitchError, change
from .validation import Fields
from .wire import Reply, format_file, format_item, format_ms, make_reply

_NO_LIMIT: Final = 2**31
_SHOWN_CHARGES: Final = 15
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class ControlError(ValueError):
    """The request cannot be served; the text says why."""


def show_health(sandbox: Sandbox, query: dict[str, str]) -> dict[str, Any]:
    return {"ok": True}


def show_state(sandbox: Sandbox, query: dict[str, str]) -> dict[str, Any]:
    sandbox.settle()
    return {
        "accounts": {
            row["user_id"]: {
                "email": row["email"],
                "credits": str(to_credits(row["balance_micro"])),
                "granted": str(to_credits(row["granted_micro"])),
                "charged": str(to_credits(row["charged_micro"])),
                "secret_received": sandbox.times_received(row["user_id"]) > 0,
                "times_received": sandbox.times_received(row["user_id"]),
            }
            for row in sandbox.store.list_accounts()
        },
        "requests": sandbox.requests(),
        "files": [
            {
                "file": row["id"],
                "user_id": row["user_id"],
                "name": row["name"],
                "task": row["task"],
                "size": row["total"],
                "finished": format_file(row)["finished"],
                "created_at": format_ms(row["created_ms"]),
            }
            for row in sandbox.store.list_all_files()
        ],
        "singles": sandbox.store.count_singles(),
        "settings": _describe_switches(sandbox),
        "faults": sandbox.faults.describe(),
    }


def _describe_switches(sandbox: Sandbox) -> dict[str, Any]:
    return dict(vars(sandbox.switches))


def show_charges(sandbox: Sandbox, query: dict[str, str]) -> dict[str, Any]:
    """Charges in the order in which they were booked; `input` is the row as it was sent."""
    try:
        after, limit = int(query.get("after", "0")), int(query.get("limit", str(_NO_LIMIT)))
    except ValueError:
        raise ControlError("after and limit must be whole numbers") from None
    if not 0 <= after < 2**63 or not 1 <= limit <= _NO_LIMIT:
        raise ControlError("after must be 0 or more and limit 1 or more")
    sandbox.settle()
    return {
        "charges": [
            {
                "id": row["id"],
                "at": format_ms(row["at_ms"]),
                "user_id": row["user_id"],
                "kind": row["kind"],
                "file": row["file_id"],
                "search_id": row["search_id"],
                "external_id": row["external_id"],
                "input": json.loads(row["input"]),
                "credits": str(to_credits(row["credits_micro"])),
            }
            for row in sandbox.store.list_charges(after=after, limit=limit)
        ]
    }


def choose_profile(sandbox: Sandbox, body: dict[str, Any]) -> dict[str, Any]:
    profile = body.get("profile")
    if profile not in PROFILES:
        raise ControlError(f"profile must be one of {', '.join(PROFILES)}")
    sandbox.choose(str(profile))
    return {"profile": sandbox.profile, "settings": _describe_switches(sandbox)}


def draw_page(sandbox: Sandbox) -> Reply:
    """The page for people."""
    charges = show_charges(sandbox, {})["charges"][-_SHOWN_CHARGES:]
    text = page.draw(show_state(sandbox, {}), charges, sandbox.profile)
    return Reply(200, text.encode(), content_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)


def read_form(path: str, fields: dict[str, str]) -> dict[str, Any]:
    """What a form of the page sends, as the body of the same request: a box that is not ticked is not sent."""
    if path != "/control/settings":
        return dict(fields)
    body: dict[str, Any] = {name: fields.get(name) == "true" for name in page.SWITCH_WORDS}
    try:
        body["speed"] = float(fields.get("speed", "1"))
    except ValueError:
        raise ControlError("speed must be a number") from None
    return body


def change_settings(sandbox: Sandbox, body: dict[str, Any]) -> dict[str, Any]:
    sandbox.apply(change(sandbox.switches, body))
    return {"settings": _describe_switches(sandbox)}


def arm_fault(sandbox: Sandbox, body: dict[str, Any]) -> dict[str, Any]:
    if body == {"clear": True}:
        sandbox.faults.clear()
    else:
        sandbox.faults.arm(make_fault(body, set(ROUTES)))
    return {"faults": sandbox.faults.describe()}


def advance_clock(sandbox: Sandbox, body: dict[str, Any]) -> dict[str, Any]:
    seconds = body.get("seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 10_000_000:
        raise ControlError("seconds must be a number from 0 to 10000000")
    sandbox.advance(seconds)
    return {"ok": True}


def set_credits(sandbox: Sandbox, body: dict[str, Any]) -> dict[str, Any]:
    user_id = _pick_account(sandbox, body)
    try:
        micro = to_micro(Decimal(str(body.get("credits"))))
    except (InvalidOperation, ValueError):
        raise ControlError(
            "credits must be a decimal from 0 to 999999999 with at most six decimals"
        ) from None
    sandbox.settle()
    sandbox.store.set_balance(user_id, micro)
    return {"user_id": user_id, "credits": str(to_credits(micro))}


def _pick_account(sandbox: Sandbox, body: dict[str, Any]) -> str:
    """The account that the body names; it may be left out where there is only one."""
    known = [account.user_id for account in sandbox.accounts]
    user_id = body.get("user_id", known[0] if len(known) == 1 else None)
    if not isinstance(user_id, str) or user_id not in known:
        raise ControlError("user_id must name one of the accounts")
    return user_id


def seed(sandbox: Sandbox, body: dict[str, Any]) -> dict[str, Any]:
    """Write finished bulks into the past, with charges of that time, and answer with everything about them.

    Body: `{"user_id", "files": [{"name", "task", "rows": [[..]], "external_ids": [..], "created_at": iso}]}`.
    A bulk whose name the account has already is not written again but told as it is (`is_new` false), so that a
    seed that was cut off can be repeated. Nothing is written unless every bulk is in order.
    """
    user_id = _pick_account(sandbox, body)
    files = body.get("files")
    if not isinstance(files, list) or not all(isinstance(entry, dict) for entry in files):
        raise ControlError("files must be an array of objects")
    checked = [_check_history(number, entry) for number, entry in enumerate(files)]
    sandbox.settle()
    written = [_write_history(sandbox, user_id, entry) for entry in checked]
    charged = sum((Decimal(entry["charged"]) for entry in written), Decimal(0))
    return {"user_id": user_id, "files": written, "charged": str(charged)}


def _check_history(number: int, entry: dict[str, Any]) -> dict[str, Any]:
    fields = Fields(entry)
    name = fields.text("name", is_required=True)
    task = TASKS.get(fields.choice("task", list(TASKS), is_required=True))
    rows = read_rows(fields, "rows", task)
    external_ids = read_external_ids(fields, "external_ids", len(rows)) or [""] * len(rows)
    created_at = fields.text("created_at", is_required=True)
    wall = 0
    try:
        moment = datetime.fromisoformat(created_at)
        wall = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        fields.refuse("created_at", "validation_date", "created_at must be an ISO 8601 time.")
    if not 0 <= wall <= wall_ms():
        fields.refuse("created_at", "validation_date", "created_at must lie in the past.")
    if fields.errors:
        raise ControlError(
            f"files[{number}]: " + " ".join(error["humanReadableMessage"] for error in fields.errors)
        )
    return {"name": name, "task": task, "rows": rows, "external_ids": external_ids, "wall": wall}


def _write_history(sandbox: Sandbox, user_id: str, entry: dict[str, Any]) -> dict[str, Any]:
    store, now_ms = sandbox.store, sandbox.clock.now_ms()
    known = store.find_file(user_id, entry["name"])
    file_id = known or store.add_history(
        user_id,
        entry["task"],
        entry["rows"],
        name=entry["name"],
        external_ids=entry["external_ids"],
        is_shuffled=sandbox.switches.shuffle,
        now_ms=now_ms,
        wall=entry["wall"],
    )
    file = store.read_file(user_id, file_id)
    rows = store.list_file_rows(file_id, limit=_NO_LIMIT, cursor=None).rows
    costs = store.costs_of_file(file_id)
    items = [
        {**format_item(row, user_id, now_ms), "credits": str(to_credits(costs.get(row["id"], 0)))}
        for row in sorted(rows, key=lambda row: int(row["position"]))
    ]
    charged = str(to_credits(sum(costs.values())))
    summary = format_file(file) if file is not None else {}
    return {**summary, "is_new": known is None, "items": items, "charged": charged}


def reset(sandbox: Sandbox, body: dict[str, Any]) -> dict[str, Any]:
    sandbox.reset()
    return {"ok": True}


_GET: Final[dict[str, Callable[[Sandbox, dict[str, str]], dict[str, Any]]]] = {
    "/healthz": show_health,
    "/control/state": show_state,
    "/control/charges": show_charges,
}
_POST: Final[dict[str, Callable[[Sandbox, dict[str, Any]], dict[str, Any]]]] = {
    "/control/profile": choose_profile,
    "/control/settings": change_settings,
    "/control/faults": arm_fault,
    "/control/advance": advance_clock,
    "/control/credits": set_credits,
    "/control/seed": seed,
    "/control/reset": reset,
}


def answer(
    sandbox: Sandbox,
    method: str,
    path: str,
    query: dict[str, str],
    body: Any,
    form: dict[str, str] | None = None,
) -> Reply | None:
    """The reply to a control request; None when the path is none of ours. A `form` of the page leads back to it."""
    if path == "/control/" and method == "GET":
        return draw_page(sandbox)
    if path not in _GET and path not in _POST:
        return None
    allowed = "GET" if path in _GET else "POST"
    if method != allowed:
        return make_reply(405, {"error": "Method not allowed."}, Allow=allowed)
    try:
        if path in _GET:
            return make_reply(200, _GET[path](sandbox, query))
        if form is not None:
            _POST[path](sandbox, read_form(path, form))
            return Reply(303, b"", headers={"Location": "/control/"})
        if not isinstance(body, dict):
            raise ControlError("a JSON object is wanted")
        return make_reply(200, _POST[path](sandbox, body))
    except (ControlError, SwitchError, FaultError) as error:
        return make_reply(400, {"error": str(error)})

"""Icypeas' JSON into our dataclasses. Nothing here raises on what a server may send.

Shapes are never trusted: keys may be missing, numbers may be strings, lists may hold anything, words may
be spelled in capitals. A malformed element is left out and its neighbours stay.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Never

from enrichment.providers.base import Balance, ItemState, ProviderFile, ProviderItem, Verdict

MESSAGE_CHARACTERS = 200

_PENDING = frozenset({"", "NONE", "SCHEDULED", "IN_PROGRESS"})
_NEVER_RAN = {
    "BAD_INPUT": ItemState.BAD_INPUT,
    "INSUFFICIENT_FUNDS": ItemState.NO_CREDITS,
    "ABORTED": ItemState.ABORTED,
}
SUCCESS = frozenset({"FOUND", "DEBITED"})
RAN = SUCCESS | {"NOT_FOUND", "DEBITED_NOT_FOUND"}

# Best first. A word that is not listed ranks between `probable` and `not_found`.
_RANKS = {
    "ultra_sure": 0,
    "very_sure": 1,
    "sure": 2,
    "probable": 3,
    "not_found": 5,
    "undeliverable": 6,
}
_UNKNOWN_RANK = 4
_NO_ADDRESS = frozenset({"not_found", "undeliverable"})
_VERIFICATION_VERDICTS = {
    "ultra_sure": Verdict.DELIVERABLE,
    "very_sure": Verdict.DELIVERABLE,
    "sure": Verdict.DELIVERABLE,
    "probable": Verdict.RISKY,
    "undeliverable": Verdict.UNDELIVERABLE,
}

_ADDRESS = re.compile(r"[^\s@<>(),;:\"\\]+@(?:[^\W_][\w-]*\.)+[^\W\d_][\w-]+")
_MAX_COUNT = 2_000_000_000
_MAX_CREDITS = Decimal(10) ** 12
_MAX_BALANCE = Decimal(10) ** 11 - 1  # with its thousandths the most that a column of 14 digits takes
MAX_WORD = 64
MAX_ID = 128
_MAX_DEPTH = 50


# --- JSON ---------------------------------------------------------------------------------------------


def decode_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in `body`, or None when there is none.

    NaN, infinities and nests deeper than `_MAX_DEPTH` count as unreadable. NUL characters and lone surrogates
    inside texts become U+FFFD: databases refuse both, and one such row would keep its page from being stored.
    """
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_constant=_no_constant, parse_float=_finite)
        value = _storable(value, _MAX_DEPTH)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number outside the range")
    return number


def _storable(value: Any, depth: int) -> Any:
    """The same value with every character that a database refuses replaced; at most `depth` levels deep."""
    if isinstance(value, str):
        if value.isprintable():
            return value
        return value.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list | dict):
        if depth == 0:
            raise ValueError("nested too deeply")
        if isinstance(value, list):
            return [_storable(element, depth - 1) for element in value]
        return {_storable(key, 1): _storable(element, depth - 1) for key, element in value.items()}
    return value


def with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """The same JSON value with every text in it changed, keys too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [with_texts(element, change) for element in value]
    if isinstance(value, dict):
        return {change(key): with_texts(element, change) for key, element in value.items()}
    return value


def text_of(value: Any, *, most: int | None = None) -> str:
    """A JSON text or whole number as text without outer space; anything else is empty."""
    if isinstance(value, str):
        text = value.strip()
    elif isinstance(value, int) and not isinstance(value, bool):
        # Far longer numbers cannot be printed at all, and are no ids.
        text = str(value) if abs(value) < 10**MAX_ID else ""
    else:
        return ""
    return text if most is None else text[:most]


def object_of(value: Any) -> Mapping[str, Any]:
    """A JSON object as it is; anything else is an empty one."""
    return value if isinstance(value, dict) else {}


def count_of(value: Any) -> int:
    """A counter of rows: a number or a numeral, never below zero nor beyond what a column takes."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, str):
        value = value.strip()
        if len(value) > 20:
            return 0
    if not isinstance(value, str | int | float):
        return 0
    try:
        number = int(float(value)) if isinstance(value, str) else int(value)
    except (ValueError, OverflowError):
        return 0
    return min(max(number, 0), _MAX_COUNT)


def decimal_of(value: Any) -> Decimal | None:
    """An amount of credits, exact; None when it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        # By way of its text: 12.3 credits are 12.3 and not the binary fraction next to it.
        number = Decimal(str(value).strip())
    except (ArithmeticError, ValueError):
        return None
    return number if number.is_finite() and -_MAX_CREDITS <= number <= _MAX_CREDITS else None


def moment_of(value: Any) -> datetime | None:
    """An ISO 8601 time as an aware UTC datetime; None when it is none. Without a zone it is UTC."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# --- Errors -------------------------------------------------------------------------------------------


def validation_errors(answer: Mapping[str, Any]) -> list[Any]:
    """The entries of `validationErrors`: objects or texts, other things left out."""
    entries = answer.get("validationErrors")
    if isinstance(entries, dict | str):
        entries = [entries]
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if isinstance(entry, dict | str) and entry]


def error_message(body: str, answer: Mapping[str, Any] | None) -> str:
    """What the server says went wrong, on one line; empty when it says nothing. Not yet shortened."""
    candidates: list[Any] = []
    if answer is not None:
        for entry in validation_errors(answer)[:1]:
            if isinstance(entry, dict):
                candidates += [entry.get(key) for key in ("humanReadableMessage", "message", "type")]
            else:
                candidates.append(entry)
        candidates += [answer.get("message"), answer.get("error")]
        nested = answer.get("error")
        if isinstance(nested, dict):
            candidates.append(nested.get("message"))
    for candidate in candidates:
        message = one_line(text_of(candidate))
        if message:
            return message
    return one_line(body)


def one_line(text: str) -> str:
    """`text` with runs of white space as one space and without characters that upset a log."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else "\ufffd" for c in text).split())


def error_kind(answer: Mapping[str, Any]) -> str:
    """The known reason that a refusal names: `user`, `unpaid`, `credits`, `not_found`, or empty.

    Types are written with and without `Error`, in any case, with or without separators.
    """
    words = ""
    for entry in validation_errors(answer):
        parts = [entry.get("type"), entry.get("message")] if isinstance(entry, dict) else [entry]
        words += " " + " ".join(text_of(part, most=400) for part in parts)
    for key in ("type", "error", "message", "code"):
        words += " " + text_of(answer.get(key), most=400)
    squeezed = re.sub(r"[_\-]", "", words.casefold())
    if "usernotfound" in squeezed:
        return "user"
    if "unpaidsubscription" in squeezed:
        return "unpaid"
    if "insufficientcredits" in squeezed:
        return "credits"
    if "searchnotfound" in squeezed:
        return "not_found"
    return ""


def error_fields(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the refused fields, each once, in the order given."""
    names: dict[str, None] = {}
    for entry in validation_errors(answer):
        name = text_of(entry.get("field"), most=MAX_WORD) if isinstance(entry, dict) else ""
        if name:
            names[one_line(name)] = None
    return tuple(names)


# --- Items --------------------------------------------------------------------------------------------


Judged = tuple[Verdict, dict[str, Any]]


@dataclass(frozen=True)
class Rows:
    """An operation that is answered later, item by item. `columns` are the inputs in the order of a bulk row, as (their
    key, our key); `judge` turns status, `emails` and asked address of a row that ran into verdict and result columns."""

    columns: tuple[tuple[str, str], ...]
    judge: Callable[[str, list[dict[str, str]], str], Judged]


def parse_item(raw: Any, *, rows: Rows | None = None, asked_email: str = "") -> ProviderItem | None:
    """One element of `items`; None when it is malformed (no object, or without an id).

    Without `rows` a finished item has no verdict, since a search and a verification look alike.
    `asked_email` is the verified address: its entry decides when there are several.
    """
    if not isinstance(raw, dict):
        return None
    provider_id = text_of(raw.get("_id"))
    if not provider_id or len(provider_id) > MAX_ID:
        return None
    raw_status = text_of(raw.get("status"), most=MAX_WORD)
    status = raw_status.upper()
    state = state_of(status)
    verdict: Verdict | None = None
    result: dict[str, Any] = {}
    if state is ItemState.FINAL:
        entries = _entries(raw.get("results"))
        if status not in RAN:
            # Nobody knows whether such a row ran: what it carries is on its receipt, and no address of it is the answer.
            verdict, result = Verdict.UNKNOWN, _result(None, [e for e in entries if e["email"]])
        elif rows is not None:
            verdict, result = rows.judge(status, entries, asked_email)
    return ProviderItem(
        provider_id=provider_id,
        external_id=text_of(object_of(raw.get("userData")).get("externalId")),
        state=state,
        raw_status=raw_status,
        verdict=verdict,
        result=result,
        is_charged=is_charged(status),
        is_known=is_known(status),
        raw=raw,
    )


def state_of(status: str) -> ItemState:
    """A status that nobody knows is final: it is shown, and not polled for ever."""
    if status in _PENDING:
        return ItemState.PENDING
    return _NEVER_RAN.get(status, ItemState.FINAL)


def is_charged(status: str) -> bool | None:
    """Whether a status says that something was charged; None when it does not say."""
    if status in SUCCESS:
        return True
    return False if status in _NEVER_RAN else None


def is_known(status: str) -> bool:
    """Whether anybody knows what the status means for money and answer."""
    return status in _PENDING or status in _NEVER_RAN or status in RAN


def _entries(results: Any) -> list[dict[str, str]]:
    """The `emails` of a result as {email, certainty, mx_provider}, lower-case certainties, in their order."""
    emails = object_of(results).get("emails")
    if isinstance(emails, dict | str):
        emails = [emails]
    entries = []
    for element in emails if isinstance(emails, list) else []:
        fields = {"email": element} if isinstance(element, str) else object_of(element)
        entry = {
            "email": address_of(fields.get("email")),
            "certainty": text_of(fields.get("certainty"), most=MAX_WORD).lower(),
            "mx_provider": text_of(fields.get("mxProvider"), most=MAX_WORD),
        }
        if entry["email"] or entry["certainty"]:
            entries.append(entry)
    return entries


def address_of(value: Any) -> str:
    """An e-mail address that could exist by its form, else empty."""
    text = text_of(value)
    return text if len(text) <= 254 and text.isprintable() and _ADDRESS.fullmatch(text) else ""


def judge_search(status: str, entries: list[dict[str, str]], asked_email: str) -> Judged:
    """Found is an address that could exist, with a certainty that says so; of several the best, and all are kept."""
    sendable = [e for e in entries if e["email"] and e["certainty"] not in _NO_ADDRESS]
    if status not in SUCCESS or not sendable:
        return Verdict.NOT_FOUND, _result(None, [])
    best = min(sendable, key=lambda e: _RANKS.get(e["certainty"], _UNKNOWN_RANK))
    return Verdict.FOUND, _result(best, [e for e in entries if e["email"]])


def judge_verification(status: str, entries: list[dict[str, str]], asked_email: str) -> Judged:
    """The certainty decides and never the status: undeliverable addresses arrive as DEBITED, too."""
    if not entries:
        return Verdict.UNKNOWN, _result(None, [])
    asked = asked_email.strip().casefold()
    entry = next((e for e in entries if asked and e["email"].casefold() == asked), entries[0])
    verdict = _VERIFICATION_VERDICTS.get(entry["certainty"], Verdict.UNKNOWN)
    return verdict, _result(entry, [e for e in entries if e["email"]])


def _result(best: Mapping[str, str] | None, entries: list[dict[str, str]]) -> dict[str, Any]:
    best = best or {}
    return {
        "email": best.get("email", ""),
        "certainty": best.get("certainty", ""),
        "mx_provider": best.get("mx_provider", ""),
        "all_emails": entries,
    }


# --- Files and account --------------------------------------------------------------------------------


def parse_file(raw: Any) -> ProviderFile | None:
    """One element of `files`; None when it is malformed (no object, or without an id)."""
    if not isinstance(raw, dict):
        return None
    file_id = text_of(raw.get("file"))
    if not file_id or len(file_id) > MAX_ID:
        return None
    return ProviderFile(
        file_id=file_id,
        name=text_of(raw.get("name")),
        total=count_of(raw.get("total")),
        done=count_of(raw.get("done")),
        found=count_of(raw.get("found")),
        is_finished=_is_finished(raw),
        created_at=moment_of(object_of(raw.get("system")).get("createdAt")),
    )


def _is_finished(raw: Mapping[str, Any]) -> bool:
    """`finished` alone tells the end; only where it is missing do the counters."""
    finished = raw.get("finished")
    if finished is not None:
        return finished is True or text_of(finished).lower() in ("true", "1")
    total = count_of(raw.get("total"))
    ended = sum(count_of(raw.get(key)) for key in ("done", "aborted", "bad-input", "credits-missing"))
    return total > 0 and ended >= total and count_of(raw.get("in-progress")) == 0


def parse_balance(raw: Mapping[str, Any]) -> Balance | None:
    """The account, or None when the answer names no credits that a balance could hold. A thousandth is the least that is
    kept: the binary sums of a server (99.70000000000002) are no new balances."""
    amount = decimal_of(raw.get("credits"))
    if amount is None or abs(amount) >= _MAX_BALANCE:
        return None
    credits = round(amount, 3)
    return Balance(
        credits=credits,
        plan=text_of(raw.get("plan"), most=MAX_WORD),
        status=text_of(raw.get("status"), most=MAX_WORD),
        user_id=text_of(raw.get("userId"), most=MAX_ID),
    )

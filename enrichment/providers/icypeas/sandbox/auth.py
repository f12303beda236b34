"""Whose request is it: a bare key, or `key:signature` with a time stamp. Anything else is nobody's."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .accounts import Account

ALLOWED_DRIFT = timedelta(minutes=5)


@dataclass(frozen=True)
class Caller:
    """`holder` is the account whose key arrived; `is_allowed` is False when its signature does not hold."""

    holder: Account | None
    is_allowed: bool


def sign_request(api_secret: str, method: str, path: str, timestamp: str) -> str:
    """HMAC-SHA1 over method, path and time stamp run together in lower case; lower-case hex."""
    text = f"{method}{path}{timestamp}".lower()
    return hmac.new(api_secret.encode(), text.encode(), hashlib.sha1).hexdigest()


def identify(
    accounts: Sequence[Account],
    *,
    authorization: str,
    timestamp: str,
    method: str,
    path: str,
    now: datetime | None = None,
) -> Caller:
    """The caller behind the two header values. A scheme word such as `Bearer` makes the key unknown, as it should."""
    holder = _find(accounts, authorization)
    if holder is not None:
        return Caller(holder, True)
    key, colon, signature = authorization.rpartition(":")
    holder = _find(accounts, key) if colon else None
    if holder is None:
        return Caller(None, False)
    is_valid = (
        bool(holder.api_secret)
        and _is_recent(timestamp, now or datetime.now(UTC))
        and hmac.compare_digest(
            sign_request(holder.api_secret, method, path, timestamp).encode(),
            signature.encode("utf-8", "surrogateescape"),
        )
    )
    return Caller(holder, is_valid)


def _find(accounts: Sequence[Account], key: str) -> Account | None:
    given = key.encode("utf-8", "surrogateescape")
    for account in accounts:
        if hmac.compare_digest(account.secret.encode(), given):
            return account
    return None


def _is_recent(timestamp: str, now: datetime) -> bool:
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return False
    return moment.tzinfo is not None and abs(now - moment) <= ALLOWED_DRIFT

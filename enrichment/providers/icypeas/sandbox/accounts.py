"""Who may call: accounts with their secrets, which live in memory only."""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from .catalogue import to_micro

DEFAULT_CREDITS = Decimal("100000")


class AccountsError(Exception):
    """The accounts cannot be read; the text says what to do and never holds a secret."""


@dataclass(frozen=True)
class Account:
    """One account. `credits` is what it holds when the sandbox sees it for the first time."""

    user_id: str
    secret: str = field(repr=False)
    secret_hash: str = field(repr=False)
    api_secret: str = field(default="", repr=False)
    email: str = ""
    credits: Decimal = DEFAULT_CREDITS
    webhook_url_item: str = ""
    webhook_url_bulk_done: str = ""


def make_account(
    secret: str,
    *,
    api_secret: str = "",
    user_id: str = "",
    email: str = "",
    credits: Decimal = DEFAULT_CREDITS,
    webhook_url_item: str = "",
    webhook_url_bulk_done: str = "",
) -> Account:
    """An account whose id is drawn from its secret when none is given."""
    secret_hash = hash_secret(secret)
    if not user_id:
        user_id = "sbx" + hashlib.sha256(secret_hash.encode()).hexdigest()[:17]
    return Account(
        user_id, secret, secret_hash, api_secret, email, credits, webhook_url_item, webhook_url_bulk_done
    )


def hash_secret(secret: str) -> str:
    """A slow hash: the state file may be copied about, and a short demo secret must not fall out of it."""
    digest = hashlib.scrypt(secret.encode(), salt=b"icypeas-sandbox-account", n=2**13, r=8, p=1, dklen=24)
    return digest.hex()


def read_accounts(path: Path) -> list[Account]:
    """Accounts of `{"accounts": [{"secret", "api_secret", "user_id", "email", "credits", "webhook_url_item",
    "webhook_url_bulk_done"}]}`; only `secret` is required.

    Raises AccountsError, also when others than the owner may read the file.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AccountsError(f"The accounts file {path} cannot be read ({type(error).__name__}).") from None
    if mode & 0o077:
        raise AccountsError(
            f"The accounts file {path} is open to others (mode {mode:04o}): run chmod 600 on it."
        )
    try:
        entries = json.loads(text)["accounts"]
    except (ValueError, KeyError, TypeError, RecursionError):
        # The parser's own message would quote the text around the fault.
        raise AccountsError(f'The accounts file {path} must be JSON: {{"accounts": [...]}}.') from None
    if not isinstance(entries, list) or not entries:
        raise AccountsError(f"The accounts file {path} lists no account.")
    accounts = [_read_entry(path, number, entry) for number, entry in enumerate(entries, 1)]
    if len({account.secret for account in accounts}) < len(accounts):
        raise AccountsError(f"Two accounts in {path} share one secret.")
    if len({account.user_id for account in accounts}) < len(accounts):
        raise AccountsError(f"Two accounts in {path} share one user_id.")
    return accounts


def _read_entry(path: Path, number: int, entry: Any) -> Account:
    where = f"Account {number} in {path}"
    if not isinstance(entry, dict):
        raise AccountsError(f"{where} must be an object.")
    texts: dict[str, str] = {}
    for key in ("secret", "api_secret", "user_id", "email", "webhook_url_item", "webhook_url_bulk_done"):
        value = entry.get(key) or ""
        if not isinstance(value, str):
            raise AccountsError(f"{where}: {key} must be text.")
        texts[key] = value.strip()
    if not texts["secret"]:
        raise AccountsError(f"{where} has no secret.")
    try:
        credits = Decimal(str(entry.get("credits", DEFAULT_CREDITS)))
        to_micro(credits)
    except (InvalidOperation, ValueError):
        raise AccountsError(f"{where}: credits must be a number of credits, e.g. 100 or 99.5.") from None
    return make_account(
        texts["secret"],
        api_secret=texts["api_secret"],
        user_id=texts["user_id"],
        email=texts["email"],
        credits=credits,
        webhook_url_item=texts["webhook_url_item"],
        webhook_url_bulk_done=texts["webhook_url_bulk_done"],
    )

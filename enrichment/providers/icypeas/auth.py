"""The key: cleaned once, put on each request, shown nowhere."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import unicodedata
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Never

import httpx

from enrichment.providers.base import KeyRejectedError

_QUOTES = "\"'`“”‘’«»"
_SCHEME = re.compile(r"^bearer(?:[\s:]+|$)", re.IGNORECASE)
_HEADER_NAME = re.compile(r"^authorization\s*:\s*", re.IGNORECASE)


def clean_secret(raw: str) -> tuple[str, list[str]]:
    """A pasted secret as (bare secret, what was taken off, as sentences).

    The sentences never quote the secret. A secret that is empty or cannot stand in a header comes back
    as it is; the client refuses it.
    """
    warnings: list[str] = []

    def note(sentence: str) -> None:
        if sentence not in warnings:
            warnings.append(sentence)

    secret = raw
    while True:
        before = secret
        # Zero-width and control characters ride along when a key is copied from a web page.
        secret = "".join(c for c in secret if c in "\t\r\n" or unicodedata.category(c) not in ("Cf", "Cc"))
        if secret != before:
            note("Invisible characters were removed from the key.")
        stripped = secret.strip()
        if stripped != secret:
            note("Spaces around the key were removed.")
        unquoted = stripped.strip(_QUOTES)
        if unquoted != stripped:
            note("Quotes around the key were removed.")
        unnamed = _HEADER_NAME.sub("", unquoted)
        if unnamed != unquoted:
            note("The header name before the key was removed.")
        secret = _SCHEME.sub("", unnamed)
        if secret != unnamed:
            note("The word Bearer before the key was removed: Icypeas wants the bare key.")
        if secret == before:
            return secret, warnings


def check_secret(secret: str, *, what: str = "key") -> None:
    """Raise `KeyRejectedError` (status None: nothing was sent) when `secret` cannot stand in a header.

    Without this check the HTTP library would quote the offending value in its own exception.
    """
    if not secret:
        raise KeyRejectedError(f"The {what} is empty.", status=None)
    if not all("!" <= character <= "~" for character in secret):
        raise KeyRejectedError(
            f"The {what} holds a space or a character that no Icypeas {what} has. Place it again.",
            status=None,
        )


def utc_now() -> datetime:
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """UTC, ISO 8601 with milliseconds and `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def sign_request(api_secret: str, *, method: str, path: str, stamp: str) -> str:
    """Lower-case hex HMAC-SHA1 over method, path (with `/api`, without query) and time stamp, lower-cased."""
    text = (method + path + stamp).lower()
    return hmac.new(api_secret.encode(), text.encode(), hashlib.sha1).hexdigest()


def sign_webhook(api_secret: str, *, path: str, stamp: str) -> str:
    """Lower-case hex HMAC-SHA1 over path and time stamp, lower-cased; no method, unlike requests."""
    return hmac.new(api_secret.encode(), (path + stamp).lower().encode(), hashlib.sha1).hexdigest()


def is_signed(api_secret: str, *, path: str, stamp: str, signature: str) -> bool:
    """Whether a webhook's signature holds, compared in constant time."""
    wanted = sign_webhook(api_secret, path=path, stamp=stamp)
    return hmac.compare_digest(wanted.encode(), signature.lower().encode("utf-8", "surrogatepass"))


class KeyAuth(httpx.Auth):
    """Puts the bare key into `Authorization`; with an API secret also signs each request.

    Both are cleaned by the caller. They cannot be copied, pickled or printed by way of this object.
    """

    def __init__(
        self, secret: str, api_secret: str | None = None, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.__secret = secret
        self.__api_secret = api_secret
        self.__clock = clock

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Adds the headers and sends the request once."""
        value = self.__secret
        if self.__api_secret:
            stamp = timestamp(self.__clock())
            path = request.url.raw_path.split(b"?", 1)[0].decode("ascii")
            signature = sign_request(self.__api_secret, method=request.method, path=path, stamp=stamp)
            request.headers["X-ROCK-TIMESTAMP"] = stamp
            value = f"{value}:{signature}"
        request.headers["Authorization"] = value
        yield request

    def is_in(self, body: bytes) -> bool:
        """Whether an answer says the key or the API secret back, as text or as JSON writes it, whatever its case."""
        said = body.lower()
        forms = [f for s in (self.__secret, self.__api_secret) if s for f in (s, json.dumps(s)[1:-1])]
        return any(form.lower().encode() in said for form in forms)

    def mask(self, text: str) -> str:
        """`text` with every occurrence of the key and the API secret as `***`, whatever its case."""
        for secret in (self.__secret, self.__api_secret):
            if secret:
                text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
        return text

    def __repr__(self) -> str:
        return "KeyAuth(***)"

    def __reduce__(self) -> Never:
        raise TypeError("A key is neither pickled nor copied.")

"""HTTP with Icypeas: one call in, a JSON object or an error of the tree in `providers.base` out.

Knows no Django, no limits of pace and no meaning of an answer beyond "was this a yes". Errors are raised
outside the `except` blocks on purpose: the library's exceptions hold the request, and with it the key.
"""

from __future__ import annotations

import json as json_codec
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Never, Self

import httpx

from enrichment.providers.base import (
    ACCOUNT_STATUSES,
    BadInputError,
    KeyRejectedError,
    NotFoundError,
    NotSentError,
    OutOfCreditsError,
    ProviderError,
    RateLimitedError,
    ReadFailedError,
    RefusedError,
    UncertainOutcomeError,
    UnpaidError,
)
from enrichment.providers.icypeas import payloads
from enrichment.providers.icypeas.auth import KeyAuth, check_secret, clean_secret
from enrichment.providers.icypeas.deadline import DeadlineTransport, call_deadline
from enrichment.providers.icypeas.routes import Route

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_HEADERS = {
    "Accept": "application/json",
    # A compressed answer could grow beyond any cap while it is unpacked.
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": "enrichment-desk",
}


@dataclass(frozen=True, repr=False)
class _Answer:
    """What came back. `flaw` says why `body` is not whole, and is empty when it is."""

    status: int
    body: bytes
    flaw: str = ""


class IcypeasClient:
    """One account's connection. Safe to use from several threads; `close` it when done.

    `base_url` ends in `/api`. `total_s` and `bulk_total_s` bound a whole call by the wall clock (the latter
    on slow routes) and must stay below the lease of whatever waits for it. `user_id` is only kept here.
    Raises `ValueError` for a base URL that is none, `KeyRejectedError` for a secret that cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        secret: str,
        *,
        api_secret: str | None = None,
        user_id: str = "",
        connect_s: float = 5,
        total_s: float = 25,
        bulk_total_s: float = 45,
        transport: httpx.BaseTransport | None = None,
        max_bytes: int = 10_000_000,
    ) -> None:
        secret, warnings = clean_secret(secret)
        check_secret(secret)
        if api_secret is not None:
            api_secret, more = clean_secret(api_secret)
            check_secret(api_secret, what="API secret")
            warnings += [warning for warning in more if warning not in warnings]
        # What was taken off the key and the API secret, as sentences for whoever placed them.
        self.secret_warnings = tuple(warnings)
        self.user_id = user_id.strip()
        self._base_url = _checked_base_url(base_url)
        self._connect_s = connect_s
        self._total_s = total_s
        self._bulk_total_s = bulk_total_s
        self._max_bytes = max_bytes
        self._auth = KeyAuth(secret, api_secret)
        self._http = httpx.Client(
            auth=self._auth,
            headers=_HEADERS,
            timeout=self._timeout(total_s),
            follow_redirects=False,
            trust_env=False,
            transport=DeadlineTransport() if transport is None else transport,
        )

    def call(
        self, route: Route, *, json: Mapping[str, Any] | None = None, params: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The answer to one call: a JSON object whose `success` is true where the route has that flag.

        `json` is the body of a POST (an empty object when left out), `params` the query of a GET.
        Raises an error of the tree in `providers.base`, and nothing else once the request is built.
        """
        total_s = self._bulk_total_s if route.is_slow else self._total_s
        request = self._request(route, json, params, total_s)
        with call_deadline(total_s) as ends_at:
            answer = self._exchange(route, request, ends_at)
        return self._accept(route, answer)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"IcypeasClient({self._base_url!r}, ***)"

    def __reduce__(self) -> Never:
        raise TypeError("A client holds a key and is neither pickled nor copied.")

    # --- sending ---

    def _timeout(self, total_s: float) -> httpx.Timeout:
        """Limits of single operations inside `total_s`: 20 s of silence in a call of 25 s."""
        return httpx.Timeout(connect=self._connect_s, read=total_s * 0.8, write=10.0, pool=5.0)

    def _request(
        self, route: Route, json: Mapping[str, Any] | None, params: Mapping[str, str] | None, total_s: float
    ) -> httpx.Request:
        content: bytes | None = None
        error: ProviderError | None = None
        try:
            if route.method == "POST":
                content = json_codec.dumps(
                    json or {}, ensure_ascii=False, allow_nan=False, separators=(",", ":")
                ).encode()
            request = self._http.build_request(
                route.method,
                self._base_url + route.path,
                content=content,
                params=params,
                timeout=self._timeout(total_s),
            )
        except (UnicodeError, httpx.InvalidURL):
            error = BadInputError(
                f"{route.name}: a text is too long or holds characters that cannot be sent.", status=None
            )
        if error is not None:
            raise error
        return request

    def _exchange(self, route: Route, request: httpx.Request, ends_at: float) -> _Answer:
        error: ProviderError
        try:
            response = self._http.send(request, stream=True)
            try:
                return self._read(response, ends_at)
            finally:
                response.close()
        except _NOT_SENT as exc:
            error = NotSentError(f"{route.name}: Icypeas could not be reached ({type(exc).__name__}).")
        except (httpx.HTTPError, httpx.StreamError, OSError) as exc:
            error = self._broken(route, f"the connection broke ({type(exc).__name__})")
        raise error

    def _read(self, response: httpx.Response, ends_at: float) -> _Answer:
        """Status and body, the latter up to the size cap and the deadline."""
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            return _Answer(response.status_code, b"", "the answer is compressed, which was not asked for")
        chunks: list[bytes] = []
        size = 0
        flaw = ""
        try:
            for chunk in response.iter_bytes():
                size += len(chunk)
                if size > self._max_bytes:
                    flaw = f"the answer is larger than {self._max_bytes:,} bytes"
                    break
                chunks.append(chunk)
                if time.monotonic() > ends_at:
                    flaw = "the answer took too long"
                    break
        except (httpx.HTTPError, httpx.StreamError, OSError) as exc:
            flaw = f"the answer broke off ({type(exc).__name__})"
        return _Answer(response.status_code, b"".join(chunks), flaw)

    # --- judging ---

    def _accept(self, route: Route, answer: _Answer) -> dict[str, Any]:
        """The JSON object of a yes; everything else is raised as what it means for the money."""
        status = answer.status
        # Reasons are read from what is there: a refusal stays one when its body is cut off.
        found = payloads.decode_object(answer.body)
        if found is not None and self._auth.is_in(answer.body):  # answers are kept as they came
            found = payloads.with_texts(found, self._auth.mask)
        if status == 429:
            text = self._text(answer, found) or "too many calls"
            raise RateLimitedError(f"{route.name}: {text}", retry_after_s=float(route.limit_window_s))
        if status == 401:
            raise self._key_rejected(route, answer, found)
        if status == 408 or status >= 500 or status < 200:
            raise self._broken(route, f"HTTP {status}", answer, found)
        if status >= 300:
            raise self._refusal(route, answer, found)
        if answer.flaw:
            raise self._broken(route, answer.flaw, status=status)
        if found is None:
            raise self._broken(route, "the answer is not a JSON object", answer)
        success = found.get("success")
        if success is False:
            raise self._refusal(route, answer, found)
        if success is not True and (route.demands_success or "success" in found):
            raise self._broken(route, "the answer does not say whether it succeeded", answer, found)
        return found

    def _broken(
        self,
        route: Route,
        reason: str,
        answer: _Answer | None = None,
        found: Mapping[str, Any] | None = None,
        *,
        status: int | None = None,
    ) -> ProviderError:
        """No usable answer: unclear where it may have cost something, else simply to be read again."""
        text = ""
        if answer is not None:
            status = answer.status
            text = self._text(answer, found)
        message = f"{route.name}: {reason}" + (f": {text}" if text else "")
        return (UncertainOutcomeError if route.is_paid else ReadFailedError)(message, status=status)

    def _key_rejected(
        self, route: Route, answer: _Answer, found: Mapping[str, Any] | None
    ) -> KeyRejectedError:
        named = b"usernotfound" in answer.body.lower().replace(b"_", b"")
        needs_user_id = named or (found is not None and payloads.error_kind(found) == "user")
        text = self._text(answer, found) or "unauthorized"
        if needs_user_id:
            advice = "the key is unknown, or the account's user id is needed with it"
        else:
            advice = "the key was not accepted"
        return KeyRejectedError(
            f"{route.name}: {advice} ({text})", status=answer.status, needs_user_id=needs_user_id
        )

    def _refusal(self, route: Route, answer: _Answer, found: Mapping[str, Any] | None) -> ProviderError:
        """A definite no, as exactly as the body names it."""
        said = found or {}
        kind = payloads.error_kind(said)
        status = answer.status
        if kind == "user":
            return self._key_rejected(route, answer, found)
        text = self._text(answer, found) or "refused without a reason"
        message = f"{route.name}: {text}" if status < 300 else f"{route.name}: HTTP {status}: {text}"
        if kind == "unpaid":
            return UnpaidError(message, status=status)
        if kind == "credits":
            return OutOfCreditsError(message, status=status)
        if kind == "not_found":
            return NotFoundError(message, status=status)
        if status < 300 and route.is_read:
            # A read that is refused for no reason known here passes: nothing was wrong with the question.
            return ReadFailedError(message, status=status)
        if payloads.validation_errors(said) and status not in ACCOUNT_STATUSES:
            fields = [self._auth.mask(name) for name in payloads.error_fields(said)]
            return BadInputError(message, status=status, fields=fields)
        if status < 300 and not route.is_paid:
            return ReadFailedError(message, status=status)
        return RefusedError(message, status=status)

    def _text(self, answer: _Answer, found: Mapping[str, Any] | None) -> str:
        """What the server says, without any secret that it may have echoed, shortened."""
        body = answer.body.decode("utf-8", "replace")
        text = self._auth.mask(payloads.error_message(body, found))
        return text[: payloads.MESSAGE_CHARACTERS]


def _checked_base_url(base_url: str) -> str:
    """The base URL without a slash at its end. A URL can carry a password, so the error does not quote it."""
    try:
        url = httpx.URL(base_url.strip())
        url.raw_host.decode().encode(
            "idna"
        )  # as opening a connection does: an empty or a too long label is no host
        is_usable = (
            url.scheme in ("http", "https")
            and bool(url.host)
            and not (url.userinfo or url.query or url.fragment)
        )
    except (httpx.InvalidURL, UnicodeError):
        is_usable = False
    if not is_usable:
        raise ValueError("The Icypeas base URL must be http(s)://host/path, without user, query or fragment.")
    return str(url).rstrip("/")

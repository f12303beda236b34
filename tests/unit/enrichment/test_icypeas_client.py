import gzip
import json
import logging
import time
import traceback
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrichment.providers.base import (
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
from enrichment.providers.icypeas.client import IcypeasClient
from enrichment.providers.icypeas.routes import ROUTES
from tests.unit.enrichment.icypeas_wire import (
    API_SECRET,
    BASE_URL,
    SECRET,
    Reply,
    Wire,
    answer,
    ending,
    payload,
)

PAID = ROUTES["email-search"]
READ = ROUTES["items-read"]
BALANCE = ROUTES["subscription-information"]
COUNT = ROUTES["find-people-count"]


def failure(reply: Reply, route=PAID, **options) -> Any:
    """The error that a call ends in."""
    with pytest.raises(ProviderError) as caught:
        Wire(reply, **options).client.call(route, json={})
    return caught.value


# --- what is sent ---


def test_call_posts_json_with_the_bare_key():
    wire = Wire(answer("submit_single"))

    found = wire.client.call(PAID, json={"lastname": "Müller"})

    request = wire.requests[0]
    assert found == payload("submit_single")
    assert (request.method, str(request.url)) == ("POST", f"{BASE_URL}/email-search")
    assert request.headers["Authorization"] == SECRET
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Accept-Encoding"] == "identity"
    assert request.content == '{"lastname":"Müller"}'.encode()


def test_call_sends_the_bare_key_when_a_bearer_header_was_pasted():
    wire = Wire(answer("submit_single"), secret=f'"Bearer {SECRET}" ')

    wire.client.call(PAID)

    assert wire.requests[0].headers["Authorization"] == SECRET
    assert any("Bearer" in warning for warning in wire.client.secret_warnings)


def test_call_signs_the_request_when_there_is_an_api_secret():
    wire = Wire(answer("submit_single"), api_secret=API_SECRET)

    wire.client.call(PAID)

    key, signature = wire.requests[0].headers["Authorization"].split(":")
    assert key == SECRET
    assert len(bytes.fromhex(signature)) == 20
    assert wire.requests[0].headers["X-ROCK-TIMESTAMP"].endswith("Z")


def test_call_puts_the_parameters_of_a_get_into_the_query():
    wire = Wire(answer("submit_single"))

    wire.client.call(ROUTES["scrape-profile"], params={"url": "https://a.example/in/x?y=1&z"})

    request = wire.requests[0]
    assert (request.method, request.content) == ("GET", b"")
    assert request.url.path == "/api/scrape/profile"
    assert dict(request.url.params) == {"url": "https://a.example/in/x?y=1&z"}


def test_call_gives_slow_routes_the_longer_silence():
    wire = Wire(answer("submit_bulk"))

    wire.client.call(PAID)
    wire.client.call(ROUTES["bulk-search"])

    timeouts = [request.extensions["timeout"] for request in wire.requests]
    assert timeouts[0] == {"connect": 5, "read": 20, "write": 10, "pool": 5}
    assert timeouts[1] == {"connect": 5, "read": 36, "write": 10, "pool": 5}


def test_call_sends_nothing_when_a_text_cannot_be_encoded():
    wire = Wire(answer("submit_single"))

    with pytest.raises(BadInputError):
        wire.client.call(PAID, json={"lastname": "\ud800"})
    with pytest.raises(BadInputError):
        wire.client.call(ROUTES["scrape-profile"], params={"url": "\ud800"})
    with pytest.raises(BadInputError):
        wire.client.call(ROUTES["scrape-profile"], params={"url": "x" * 70_000})

    assert wire.requests == []


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "app.icypeas.com/api",
        "ftp://x.example",
        "https://",
        "https://u:hidden@x.example",
        "https://x.example?hidden=1",
        "http://hidden..example/api",
        f"http://{'hidden' * 11}.example/api",
    ],
)
def test_client_refuses_a_base_url_that_is_none_without_quoting_it(base_url):
    with pytest.raises(ValueError, match="base URL") as caught:
        IcypeasClient(base_url, SECRET)

    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "base_url",
    ["http://127.0.0.1:9/api", "http://[::1]:9/api", "https://müller.example/api", "http://desk/api"],
)
def test_client_takes_every_kind_of_host(base_url):
    IcypeasClient(base_url, SECRET).close()


@pytest.mark.parametrize("secret", ["", "Bearer ", "two words", "schlüssel"])
def test_client_refuses_a_key_that_no_header_takes(secret):
    with pytest.raises(KeyRejectedError):
        IcypeasClient(BASE_URL, secret)
    with pytest.raises(KeyRejectedError):
        IcypeasClient(BASE_URL, SECRET, api_secret=secret)


# --- what an error becomes ---


@pytest.mark.parametrize("route", [PAID, READ])
@pytest.mark.parametrize("kind", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout])
def test_call_was_not_sent_when_no_connection_opened(kind, route):
    assert type(failure(kind("no"), route)) is NotSentError


@pytest.mark.parametrize(
    "kind",
    [
        httpx.ReadTimeout,
        httpx.WriteTimeout,
        httpx.ReadError,
        httpx.WriteError,
        httpx.CloseError,
        httpx.RemoteProtocolError,
        httpx.LocalProtocolError,
        httpx.DecodingError,
        ConnectionResetError,
    ],
)
def test_call_is_uncertain_when_paid_and_to_be_read_again_when_free_after_the_connection_broke(kind):
    assert type(failure(kind("broke"))) is UncertainOutcomeError
    assert type(failure(kind("broke"), READ)) is ReadFailedError
    assert type(failure(kind("broke"), BALANCE)) is ReadFailedError


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 520, 599])
def test_call_is_uncertain_when_paid_and_the_server_failed(status):
    paid, read = (failure(answer("refused_bare", status), route) for route in (PAID, READ))

    assert (type(paid), paid.status) == (UncertainOutcomeError, status)
    assert (type(read), read.status) == (ReadFailedError, status)
    assert "Something is off." in paid.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html><h1>Oops</h1>",
        b"OK",
        b'{"success": tr',
        b"[]",
        b"null",
        b'["success"]',
        b"{}",
        b'{"success": null}',
        b'{"success": "true"}',
        b'{"success": 1}',
        b'{"item": {"_id": "x"}}',
    ],
)
@pytest.mark.parametrize("status", [200, 201])
def test_call_is_uncertain_when_paid_and_a_2xx_does_not_say_yes(body, status):
    paid, read = (failure(httpx.Response(status, content=body), route) for route in (PAID, READ))

    assert (type(paid), paid.status) == (UncertainOutcomeError, status)
    assert (type(read), read.status) == (ReadFailedError, status)


@pytest.mark.parametrize("route", [PAID, READ])
@pytest.mark.parametrize(
    "reply",
    [answer("too_many", 429), httpx.Response(429), httpx.Response(429, html="<h1>No</h1>")],
    ids=["json", "empty", "html"],
)
def test_call_is_rate_limited_for_the_window_of_its_route(reply, route):
    error = failure(reply, route)

    assert type(error) is RateLimitedError
    assert (error.status, error.retry_after_s) == (429, {"email-search": 1.0, "items-read": 60.0}[route.name])


@pytest.mark.parametrize("route", [PAID, READ, BALANCE])
@pytest.mark.parametrize(
    "reply",
    [
        answer("unauthorized", 401),
        httpx.Response(401),
        httpx.Response(401, text="Unauthorized access."),
        httpx.Response(401, html="<h1>401</h1>"),
        httpx.Response(401, json={"error": "Unauthorized access."}),
        httpx.Response(401, content=b'{"success": fal'),
        httpx.Response(401, json=["no"]),
    ],
    ids=["json", "empty", "text", "html", "error", "truncated", "list"],
)
def test_call_ends_in_a_rejected_key_on_401_whatever_the_body(reply, route):
    error = failure(reply, route)

    assert (type(error), error.status, error.needs_user_id) == (KeyRejectedError, 401, False)


@pytest.mark.parametrize(
    "reply",
    [
        answer("refused_user", 401),
        answer("refused_user", 200),
        httpx.Response(401, text="error: UserNotFoundError"),
        httpx.Response(401, json={"error": "user_not_found"}),
    ],
    ids=["401", "200", "text", "code"],
)
def test_call_asks_for_the_user_id_when_the_user_was_not_found(reply):
    error = failure(reply, ROUTES["bulk-search"])

    assert type(error) is KeyRejectedError
    assert error.needs_user_id is True
    assert "user id" in error.message


@pytest.mark.parametrize("status", [200, 400, 402])
@pytest.mark.parametrize("route", [PAID, READ])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("refused_unpaid", UnpaidError),
        ("refused_credits", OutOfCreditsError),
        ("refused_not_found", NotFoundError),
    ],
)
def test_call_names_the_known_reasons_of_a_refusal(name, kind, route, status):
    error = failure(answer(name, status), route)

    assert (type(error), error.status) == (kind, status)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("UNPAIDSUBSCRIPTION", UnpaidError),
        ("InsufficientCreditsError", OutOfCreditsError),
        ("insufficient_credits", OutOfCreditsError),
        ("searchnotfound", NotFoundError),
    ],
)
def test_call_knows_a_reason_in_every_spelling(word, kind):
    as_object = {"success": False, "validationErrors": [{"type": word}]}
    as_text = {"success": False, "validationErrors": [word]}

    assert type(failure(httpx.Response(200, json=as_object))) is kind
    assert type(failure(httpx.Response(200, json=as_text))) is kind


def test_call_names_the_refused_fields():
    error = failure(answer("refused_fields"))

    assert type(error) is BadInputError
    assert error.fields == ("firstname", "domainOrCompany")
    assert "The first name is empty." in error.message


@pytest.mark.parametrize(
    ("name", "route", "kind"),
    [
        ("refused_strings", PAID, BadInputError),
        ("refused_bare", PAID, RefusedError),
        ("refused_strings", READ, ReadFailedError),
        ("refused_fields", READ, ReadFailedError),
        ("refused_bare", READ, ReadFailedError),
        ("refused_fields", COUNT, BadInputError),
        ("refused_bare", COUNT, ReadFailedError),
        ("refused_fields", BALANCE, BadInputError),
        ("refused_bare", BALANCE, ReadFailedError),
    ],
)
def test_call_takes_another_refusal_for_final_when_paid_and_for_passing_when_reading(name, route, kind):
    assert type(failure(answer(name), route)) is kind


@pytest.mark.parametrize("route", [PAID, READ])
@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 400, 402, 403, 404, 405, 410, 413, 422, 451])
def test_call_is_refused_on_every_other_status_and_follows_no_redirect(status, route):
    wire = Wire(httpx.Response(status, text="no", headers={"Location": "https://elsewhere.example/"}))

    with pytest.raises(RefusedError) as caught:
        wire.client.call(route)

    assert (type(caught.value), caught.value.status) == (RefusedError, status)
    assert len(wire.requests) == 1


@pytest.mark.parametrize("route", [PAID, READ, COUNT, BALANCE])
@pytest.mark.parametrize("status", [402, 403])
def test_call_is_refused_for_the_account_on_402_and_403_whatever_fields_the_body_names(status, route):
    error = failure(answer("refused_fields", status), route)

    assert (type(error), error.status) == (RefusedError, status)
    assert "The first name is empty." in error.message


def test_call_does_not_demand_success_where_the_route_has_no_such_flag():
    assert Wire(answer("balance")).client.call(BALANCE)["credits"] == 1234.7


def test_call_demands_a_flag_that_is_there_to_be_true():
    assert (
        type(failure(httpx.Response(200, json={"success": "no", "credits": 1}), BALANCE)) is ReadFailedError
    )


def test_call_gives_up_when_the_answer_is_too_large():
    big = httpx.Response(200, json={"success": True, "filler": "x" * 2000})

    assert type(failure(big, max_bytes=1000)) is UncertainOutcomeError
    assert type(failure(big, READ, max_bytes=1000)) is ReadFailedError


def test_call_does_not_unpack_an_answer_that_came_compressed():
    packed = gzip.compress(b'{"success": true}')

    def stream():
        yield packed

    reply = httpx.Response(200, content=stream(), headers={"Content-Encoding": "gzip"})

    error = failure(reply)

    assert type(error) is UncertainOutcomeError
    assert "compressed" in error.message


def test_call_stops_between_chunks_when_the_time_is_over():
    def stream():
        while True:
            time.sleep(0.01)
            yield b" "

    error = failure(httpx.Response(200, content=stream()), total_s=0.1)

    assert type(error) is UncertainOutcomeError
    assert "too long" in error.message


def test_message_is_one_short_line():
    error = failure(httpx.Response(400, text="a\r\nb\x00" + "x" * 5000))

    assert "a b\ufffdxxx" in error.message
    assert len(error.message) < 250


# --- secrets ---


def everything_about(error: BaseException) -> str:
    """All texts that a log, a page or a crash report could take from an error and its ancestors."""
    texts = ["".join(traceback.format_exception(error)), repr(error), str(error), repr(vars(error))]
    for ancestor in (error.__cause__, error.__context__):
        if ancestor is not None:
            texts.append(everything_about(ancestor))
    return "\n".join(texts)


ECHO = {
    "success": False,
    "validationErrors": [{"message": f"key {SECRET} / {API_SECRET}", "field": SECRET.upper()}],
}


@pytest.mark.parametrize(
    "reply",
    [
        httpx.ConnectError(f"echo {SECRET}"),
        httpx.ReadTimeout(f"echo {SECRET}"),
        httpx.LocalProtocolError(f"Illegal header value b'{SECRET}'"),
        httpx.Response(401, text=f"no such key: {SECRET.upper()}"),
        httpx.Response(200, text=f"{SECRET} " * 100),
        httpx.Response(200, json=ECHO),
        httpx.Response(500, json=ECHO),
        httpx.Response(429, json=ECHO),
        httpx.Response(404, json={"message": f"{API_SECRET}:{SECRET}"}),
    ],
)
def test_key_is_in_no_error_and_no_log_record_when_the_server_echoes_it(reply, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")

    error = failure(reply, api_secret=API_SECRET)

    logged = "\n".join(f"{record.getMessage()} {record.__dict__!r}" for record in caplog.records)
    for marker in (SECRET, API_SECRET):
        assert marker not in everything_about(error).lower()
        assert marker not in logged.lower()


@pytest.mark.parametrize("reply", [httpx.ReadTimeout("late"), httpx.ConnectError("no"), httpx.Response(500)])
def test_error_has_no_ancestor_that_holds_the_request(reply):
    error = failure(reply)

    assert error.__cause__ is None
    assert error.__context__ is None


# --- whatever comes ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
KNOWN_KEYS = st.sampled_from(
    ["success", "validationErrors", "message", "error", "type", "item", "file", "items"]
)
SHAPED = st.dictionaries(
    KNOWN_KEYS, JSON | st.sampled_from([True, False, [{"type": "x"}], ["x"]]), max_size=5
)
BODIES = st.binary(max_size=200) | (JSON | SHAPED).map(lambda value: json.dumps(value).encode())


@settings(deadline=None)
@given(status=st.integers(200, 599), body=BODIES, route=st.sampled_from(sorted(ROUTES)))
def test_call_ends_in_an_object_or_in_the_error_tree_whatever_is_answered(status, body, route):
    wire = Wire(httpx.Response(status, content=body))

    end = ending(lambda: wire.client.call(ROUTES[route]))

    if isinstance(end, ProviderError):
        assert end.message
        assert not isinstance(
            end, NotSentError | (ReadFailedError if ROUTES[route].is_paid else UncertainOutcomeError)
        )
    else:
        assert status < 300
        assert end.get("success") is True or not ROUTES[route].demands_success


@pytest.mark.parametrize("secret", [SECRET, 'marker-"7c1f0a5e\\9d3b'])
def test_key_that_an_answer_says_back_is_masked_in_what_is_kept_of_it(secret):
    said = {"success": True, "file": f"for {secret.upper()}", "data": [{secret: secret}], "n": 3}
    wire = Wire(httpx.Response(200, json=said), secret=secret)

    kept = wire.client.call(ROUTES["bulk-search"], json={})

    assert kept == {"success": True, "file": "for ***", "data": [{"***": "***"}], "n": 3}

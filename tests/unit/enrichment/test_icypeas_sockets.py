"""The client against a server that breaks the rules on the wire, byte by byte."""

import logging
import time

import pytest

from enrichment.providers.base import (
    KeyRejectedError,
    NotSentError,
    ProviderError,
    ReadFailedError,
    UncertainOutcomeError,
)
from enrichment.providers.icypeas.client import IcypeasClient
from enrichment.providers.icypeas.routes import ROUTES
from tests.unit.enrichment.icypeas_wire import SECRET, receive, server

PAID = ROUTES["email-search"]
READ = ROUTES["items-read"]
OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{"success": true}'


def outcome(answer_to, route=PAID, **options) -> tuple[ProviderError, float]:
    """The error that a call ends in, and after how many seconds."""
    with server(answer_to) as base_url, IcypeasClient(base_url, SECRET, **options) as client:
        start = time.monotonic()
        with pytest.raises(ProviderError) as caught:
            client.call(route, json={})
        return caught.value, time.monotonic() - start


def test_call_sends_the_bare_key_once_over_a_real_socket():
    seen: list[bytes] = []

    def answer_to(connection):
        seen.append(receive(connection))
        connection.sendall(OK)

    with server(answer_to) as base_url, IcypeasClient(f"{base_url}/", SECRET) as client:
        assert client.call(PAID, json={"lastname": "x"}) == {"success": True}

    lines = seen[0].split(b"\r\n")
    assert lines[0] == b"POST /api/email-search HTTP/1.1"
    assert f"Authorization: {SECRET}".encode() in lines
    assert b"Accept-Encoding: identity" in lines
    assert lines[-1] == b'{"lastname":"x"}'
    assert len(seen) == 1


def test_call_takes_no_proxy_and_no_password_from_the_environment(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    seen: list[bytes] = []

    def answer_to(connection):
        seen.append(receive(connection))
        connection.sendall(OK)

    with server(answer_to) as base_url, IcypeasClient(base_url, SECRET) as client:
        client.call(PAID, json={})

    assert f"Authorization: {SECRET}".encode() in seen[0].split(b"\r\n")


def test_call_was_not_sent_when_nobody_listens():
    with server(lambda connection: None) as base_url:
        pass

    with IcypeasClient(base_url, SECRET) as client, pytest.raises(NotSentError):
        client.call(PAID)


def test_call_was_not_sent_when_tls_cannot_be_agreed():
    def answer_to(connection):
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 this is no TLS\r\n\r\n")

    with (
        server(answer_to) as base_url,
        IcypeasClient(base_url.replace("http:", "https:"), SECRET) as client,
        pytest.raises(NotSentError),
    ):
        client.call(PAID)


@pytest.mark.parametrize(("route", "kind"), [(PAID, UncertainOutcomeError), (READ, ReadFailedError)])
@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        OK[:-4],
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"suc\r\n',
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 900\r\n\r\nshort",
    ],
    ids=["nothing", "half-a-head", "half-a-body", "half-a-chunk", "another-protocol", "half-a-500"],
)
def test_call_is_unclear_when_the_connection_ends_early(reply, route, kind):
    def answer_to(connection):
        receive(connection)
        connection.sendall(reply)

    error, _ = outcome(answer_to, route)

    assert type(error) is kind


def test_call_stays_a_refusal_when_its_body_is_cut_off():
    def answer_to(connection):
        receive(connection)
        connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 900\r\n\r\nUserNotFoundError")

    error, _ = outcome(answer_to)

    assert type(error) is KeyRejectedError
    assert error.needs_user_id is True


def drip(data: bytes):
    """A server that sends one byte each 20 ms, so that no single read ever times out."""

    def answer_to(connection):
        receive(connection)
        for position in range(len(data)):
            connection.sendall(data[position : position + 1])
            time.sleep(0.02)

    return answer_to


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n"


# Both drip for 30 s and more, far beyond what a busy machine adds to a call that keeps its deadline.
@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 1500, HEAD + b" " * 1500], ids=["head", "body"]
)
@pytest.mark.parametrize(("route", "kind"), [(PAID, UncertainOutcomeError), (READ, ReadFailedError)])
def test_call_ends_at_its_deadline_when_the_answer_drips(data, route, kind):
    error, seconds = outcome(drip(data), route, total_s=1.2)

    assert type(error) is kind
    assert 0.9 < seconds < 15


def test_call_ends_at_its_deadline_when_nothing_is_answered():
    def answer_to(connection):
        receive(connection)
        connection.settimeout(60)  # a client without a deadline is found out, however busy the machine is
        connection.recv(1)  # until the client hangs up

    error, seconds = outcome(answer_to, total_s=0.5)

    assert type(error) is UncertainOutcomeError
    assert seconds < 20


def test_call_gives_a_slow_route_its_longer_deadline():
    def answer_to(connection):
        receive(connection)
        time.sleep(0.6)
        connection.sendall(OK)

    with (
        server(answer_to) as base_url,
        IcypeasClient(base_url, SECRET, total_s=0.3, bulk_total_s=10) as client,
    ):
        assert client.call(ROUTES["bulk-search"], json={}) == {"success": True}


def test_call_stops_reading_when_the_answer_is_too_large():
    sent = 0

    def answer_to(connection):
        nonlocal sent
        receive(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500000000\r\n\r\n")
        while True:
            connection.sendall(b" " * 65536)
            sent += 65536

    error, _ = outcome(answer_to, max_bytes=100_000)

    assert type(error) is UncertainOutcomeError
    assert "larger than 100,000 bytes" in error.message
    assert sent < 20_000_000


def test_call_does_not_inflate_a_compressed_bomb():
    def answer_to(connection):
        receive(connection)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8b123"
        )

    error, _ = outcome(answer_to)

    assert type(error) is UncertainOutcomeError
    assert "compressed" in error.message


def test_key_is_in_no_log_record_at_debug(caplog):
    for name in (None, "httpx", "httpcore"):
        caplog.set_level(logging.DEBUG, logger=name)

    def answer_to(connection):
        receive(connection)
        connection.sendall(OK)

    with server(answer_to) as base_url, IcypeasClient(base_url, SECRET) as client:
        client.call(PAID, json={})

    assert any(record.name.startswith("httpcore") for record in caplog.records)
    assert not any(SECRET in f"{r.getMessage()} {r.__dict__!r}" for r in caplog.records)

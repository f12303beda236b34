"""What a process knows as a secret is masked in its log, whatever carries it."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from config import redaction
from keys.secrets import resolve

SECRET = 'planted/+="log\\secret-51c7'


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", type(redaction._known)())


@pytest.fixture
def log(settings: Any) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger with the handler that the settings describe, and what it wrote."""
    written = io.StringIO()
    described = settings.LOGGING["handlers"]["console"]
    assert described["filters"] == ["refusals", "secrets"]
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter(settings.LOGGING["formatters"]["plain"]["format"] + " %(extra)s"))
    handler.addFilter(
        logging.config.DictConfigurator({}).configure_custom(dict(settings.LOGGING["filters"]["secrets"]))
    )  # type: ignore[attr-defined]
    logger = logging.getLogger("tests.redaction")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield logger, written
    logger.removeHandler(handler)


SHAPES = [
    SECRET,
    f"Bearer {SECRET}:abc",
    json.dumps({"key": SECRET}),
    f"https://x.example/?key={quote(SECRET, safe='')}",
    base64.b64encode(SECRET.encode()).decode(),
    repr([SECRET]),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_known_secret_is_masked_in_message_arguments_traceback_and_extra(
    log: tuple[logging.Logger, io.StringIO], shape: str
) -> None:
    logger, written = log
    redaction.remember(SECRET)

    logger.info(shape, extra={"extra": shape})
    logger.info("%s and %r", shape, [shape], extra={"extra": ""})
    try:
        raise ValueError(shape)
    except ValueError:
        logger.exception("it broke", extra={"extra": ""}, stack_info=True)

    text = written.getvalue()
    assert "it broke" in text
    assert "ValueError: " in text
    assert text.count("***") >= 4
    assert "planted" not in text
    assert base64.b64encode(SECRET.encode()).decode()[:12] not in text


def test_arguments_that_do_not_fit_the_message_are_masked_as_well(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, written = log
    redaction.remember(SECRET)

    logger.info("nothing to fill", SECRET, extra={"extra": ""})

    assert "***" in written.getvalue()
    assert "planted" not in written.getvalue()


def test_record_without_a_secret_keeps_its_arguments() -> None:
    redaction.remember(SECRET)
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "job %s", (7,), None)

    redaction.RedactSecrets().filter(record)

    assert (record.msg, record.args) == ("job %s", (7,))


def test_every_secret_that_a_worker_resolves_is_known(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.PROCESS_ROLE = "worker"
    monkeypatch.setenv("FINGERPRINT_PEPPER", "pepper of this test")
    monkeypatch.setenv("ICYPEAS_API_KEY", "Bearer planted-by-a-worker-0815")
    assert redaction.redact("planted-by-a-worker-0815") == "planted-by-a-worker-0815"

    resolve("env:ICYPEAS_API_KEY")

    assert redaction.redact("sent planted-by-a-worker-0815 there") == "sent *** there"


def test_short_text_is_no_secret_and_the_oldest_is_forgotten_first() -> None:
    redaction.remember("word")
    for number in range(redaction.MOST + 1):
        redaction.remember(f"planted-number-{number:05d}")

    assert redaction.redact("a word") == "a word"
    assert redaction.redact("planted-number-00000") == "planted-number-00000"
    assert redaction.redact(f"planted-number-{redaction.MOST:05d}") == "***"


@pytest.mark.parametrize(("status", "is_kept"), [(403, False), (500, True)])
def test_refusal_is_logged_without_its_traceback(status: int, is_kept: bool) -> None:
    record = logging.LogRecord(
        "django.request", logging.WARNING, __file__, 1, "Forbidden", (), (None, None, None)
    )
    record.status_code = status

    assert redaction.PlainRefusals().filter(record)

    assert bool(record.exc_info) == is_kept

"""What the log may hold. The second line of defence: a secret that this process knows is never written, whatever tried to.

The first line is that nobody logs one. This module knows no app: whoever reads a secret tells it here, and every handler
of the log has the filter.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import traceback
from collections import OrderedDict
from urllib.parse import quote

MASK = "***"
SHORTEST = 8  # what is shorter could be any word; replacing it would spoil the log and hide nothing
MOST = 500  # secrets that one process remembers; the oldest goes first

_known: OrderedDict[str, tuple[str, ...]] = OrderedDict()
_lock = threading.Lock()


def remember(secret: str) -> None:
    """From now on this value is masked in the log of this process, also as JSON, in an address, or in Base64."""
    if len(secret) < SHORTEST or secret in _known:
        return
    shapes = {secret}
    for _nested in range(2):  # a text in JSON in a list that is printed
        shapes |= {json.dumps(shape)[1:-1] for shape in shapes} | {repr(shape)[1:-1] for shape in shapes}
    shapes |= {quote(secret, safe=""), base64.b64encode(secret.encode()).decode().rstrip("=")}
    with _lock:
        # The longest first: one shape may hold another.
        _known[secret] = tuple(sorted(shapes, key=len, reverse=True))
        while len(_known) > MOST:
            _known.popitem(last=False)


def redact(text: str) -> str:
    """The text with every known secret masked."""
    for shapes in tuple(_known.values()):
        for shape in shapes:
            if shape in text:
                text = text.replace(shape, MASK)
    return text


class PlainRefusals(logging.Filter):
    """A refusal (403) is one line of the log: its traceback tells nothing and hides those of faults."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "status_code", None) == 403:
            record.exc_info = None
        return True


class RedactSecrets(logging.Filter):
    """Masks known secrets in all that a handler can write: message and arguments, traceback, stack, extra attributes.

    A record without one is left as it is, so that other handlers see its arguments.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not _known:
            return True
        try:
            message = record.getMessage()
        except Exception:
            # The handler would print the arguments in its own complaint.
            record.msg, record.args = redact(f"{record.msg} {record.args}"), None
        else:
            masked = redact(message)
            if masked != message:
                record.msg, record.args = masked, None
        if record.exc_info and not record.exc_text and record.exc_info[0] is not None:
            text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            if redact(text) != text:
                record.exc_text = text
        if record.exc_text and redact(record.exc_text) != record.exc_text:
            # The exception itself still holds it: no later handler may format it anew.
            record.exc_text, record.exc_info = redact(record.exc_text), None
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        for name, value in vars(record).items():
            if name not in _OWN and isinstance(value, str):
                setattr(record, name, redact(value))
        return True


_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

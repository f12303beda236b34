"""References, resolution, cleaning and fingerprints."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import resource
import secrets as random_secrets
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

from django.conf import settings

from config import redaction
from config.env import read_worker_env_file
from keys.secrets import aws, env, file, vault

SOURCES: dict[str, Callable[[str], tuple[str, list[str]]]] = {
    "env": env.read,
    "file": file.read,
    "vault": vault.read,
    "aws-sm": aws.read,
}
CHECKS: dict[str, Callable[[str], str | None]] = {
    "env": env.complaint,
    "file": file.complaint,
    "vault": vault.complaint,
    "aws-sm": aws.complaint,
}
SHORTEST = 16  # no key that was seen in an example is shorter
REMOTE = ("vault", "aws-sm")  # read over the network, so kept for seconds


class SecretError(Exception):
    """A reference cannot be used; the message says why and what to do, and never holds the secret."""


class SecretMissingError(SecretError):
    """The place that the reference names holds nothing."""


class Secret:
    """A secret that shows itself to nobody: not in repr, str, pickles or comparisons. `reveal` is for the sender."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("A secret is not serialised.")


@dataclass(frozen=True)
class ResolvedSecret:
    """A cleaned secret, its fingerprint, what had to be cleaned off it and looks odd (sentences for people), and how many
    characters it has (decision 0028)."""

    secret: Secret
    fingerprint: str
    warnings: tuple[str, ...]
    length: int = 0


_acts_as_worker = False
_kept: dict[str, tuple[float, ResolvedSecret]] = {}  # by reference: kept until (monotonic seconds), and what


def act_as_worker() -> None:
    """Make this process a worker for its remaining length: `enrich` and `key test` call it, nobody else."""
    global _acts_as_worker
    read_worker_env_file()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no image of the memory after a crash
    _acts_as_worker = True


def check_reference(reference: str) -> None:
    """Raise `SecretError` unless `reference` names a place that secrets may come from. Reads nothing."""
    kind, separator, place = reference.partition(":")
    if not separator or kind not in CHECKS:
        # What was given is not repeated: it may be a secret pasted into the wrong place.
        raise SecretError(
            "This is not a secret reference, so it was thrown away. Write env:ICYPEAS_KEY_… for an environment "
            "variable of the worker, file:NAME for a file under SECRETS_DIR, vault:PATH#FIELD or aws-sm:NAME#FIELD; "
            "never the secret itself."
        )
    complaint = CHECKS[kind](place)
    if complaint:
        raise SecretError(complaint)


def resolve(reference: str) -> ResolvedSecret:
    """Read, clean and fingerprint the secret; one from a store is up to `SECRET_CACHE_S` seconds old.

    Raises `SecretError`, `SecretMissingError`.
    """
    if settings.PROCESS_ROLE != "worker" and not _acts_as_worker:
        raise SecretError("Only workers read secrets; this process is not one.")
    check_reference(reference)
    kind, _, place = reference.partition(":")
    now = time.monotonic()
    for known, (until, _resolved) in list(_kept.items()):
        if until <= now:
            _kept.pop(known, None)
    if reference in _kept:
        return _kept[reference][1]
    try:
        raw, found = SOURCES[kind](place)
    except LookupError as error:
        raise SecretMissingError(str(error.args[0])) from None
    cleaned, warnings = clean(raw)
    if not cleaned:
        raise SecretMissingError(f"{reference} is there but empty.")
    if not _is_text(cleaned):
        raise SecretError(
            f"{reference} holds bytes that are no text (UTF-8), so it is no key. Place the key anew, copied from Icypeas."
        )
    redaction.remember(cleaned)
    resolved = ResolvedSecret(
        Secret(cleaned), fingerprint(cleaned), (*found, *warnings, *odd_shape(cleaned)), len(cleaned)
    )
    if kind in REMOTE and settings.SECRET_CACHE_S > 0:
        _kept[reference] = (now + settings.SECRET_CACHE_S, resolved)
    return resolved


def _is_text(value: str) -> bool:
    """Whether a value of the environment came from UTF-8. The error of the encoder holds the value, so it goes no further."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


_QUOTES = "\"'`“”‘’«»"
_HEADER = re.compile(r"^authorization\s*:\s*", re.IGNORECASE)
_SCHEME = re.compile(r"^bearer(?:[\s:]+|$)", re.IGNORECASE)


def clean(raw: str) -> tuple[str, list[str]]:
    """Take off what people paste around a key; say what was taken off. A line end at the end is no fault of anybody.

    It goes as far as the client does before it sends, so that the fingerprint is of what is sent.
    """
    warnings: dict[str, None] = {}
    value = raw.rstrip("\r\n")
    while True:
        before = value
        visible = "".join(c for c in value if c in "\t\r\n" or unicodedata.category(c) not in ("Cf", "Cc"))
        if visible != value:
            warnings["Invisible characters were removed."] = None
        value = visible.strip()
        if value != visible:
            warnings["Spaces around the key were removed."] = None
        unquoted = value.strip(_QUOTES)
        if unquoted != value:
            warnings["Quotes around the key were removed."] = None
        unnamed = _HEADER.sub("", unquoted)
        if unnamed != unquoted:
            warnings["The header's name before the key was removed."] = None
        value = _SCHEME.sub("", unnamed)
        if value != unnamed:
            warnings["A “Bearer” prefix was removed: Icypeas wants the bare key."] = None
        if value == before:
            return value, list(warnings)


# What a placed value is when it is no key, and the words that say so; `is_odd` knows them again.
_ODD = {
    re.compile(r"\s"): "There is white space inside, so it may be two values, or hold a line break.",
    re.compile(r"[^\s!-~]"): "There are characters inside that no key has, so it may be another text.",
    re.compile(
        r"^\$\{?[A-Za-z_]\w*\}?$"
    ): "It reads like the name of a variable, so it may be a template that nobody filled in.",
    re.compile(r"^[A-Za-z_]\w*=."): "It begins like NAME=…, so it may be a whole line of a settings file.",
    re.compile(r"^[\[{]"): "It begins like JSON, so it may be a whole secret where one field belongs.",
    re.compile(r"^https?://"): "It begins like an address, so it may be another setting.",
}
_CUT_OFF = "so it may be cut off."


def odd_shape(cleaned: str) -> list[str]:
    """What no key looks like, told apart from a key that is refused: sentences that say nothing of its characters."""
    found = []
    if len(cleaned) < SHORTEST:
        found.append(f"It has only {len(cleaned)} characters, {_CUT_OFF}")
    return found + [sentence for pattern, sentence in _ODD.items() if pattern.search(cleaned)]


def is_odd(warning: str) -> bool:
    """Whether a warning says that the value is no key, not only that something was taken off or lies open."""
    return warning in _ODD.values() or warning.endswith(_CUT_OFF)


def cannot_be_sent(cleaned: str) -> bool:
    """Whether no header can carry it: the client refuses it before anything is sent."""
    return not re.fullmatch(r"[!-~]+", cleaned)


def fingerprint(cleaned: str) -> str:
    """12 hex of HMAC-SHA256 under the pepper: equal secrets compare equal, nothing can be guessed back."""
    return hmac.new(_pepper(), cleaned.encode(), hashlib.sha256).hexdigest()[:12]


@cache
def _pepper() -> bytes:
    """From the environment or a file, else drawn once for this installation. Several hosts must share one."""
    given = os.environ.get("FINGERPRINT_PEPPER", "")
    if given:
        redaction.remember(given)
        return given.encode()
    path = Path(os.environ.get("FINGERPRINT_PEPPER_FILE") or settings.DATA_DIR / "worker" / "pepper")
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        drawn = path.with_name(f".{path.name}.{random_secrets.token_hex(8)}")
        with os.fdopen(os.open(drawn, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as pepper:
            pepper.write(random_secrets.token_hex(32).encode())
        try:
            # Whole or not at all: a worker that starts at the same moment must not read an empty one.
            os.link(drawn, path)
        except FileExistsError:
            pass  # another worker was first
        finally:
            drawn.unlink()
    pepper_bytes = path.read_bytes()
    redaction.remember(pepper_bytes.decode(errors="ignore").strip())
    return pepper_bytes

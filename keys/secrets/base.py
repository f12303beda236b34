"""References, resolution, cleaning and fingerprints."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets as random_secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

from django.conf import settings

from config.env import read_worker_env_file
from keys.secrets import aws, env, file, vault

SOURCES: dict[str, Callable[[str], str]] = {
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
    """A cleaned secret, its fingerprint, and what had to be cleaned off it (sentences for people)."""

    secret: Secret
    fingerprint: str
    warnings: tuple[str, ...]


_acts_as_worker = False
_kept: dict[str, tuple[float, ResolvedSecret]] = {}  # by reference: kept until (monotonic seconds), and what


def act_as_worker() -> None:
    """Make this process a worker for its remaining length: `enrich` and `key test` call it, nobody else."""
    global _acts_as_worker
    read_worker_env_file()
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
        raw = SOURCES[kind](place)
    except LookupError as error:
        raise SecretMissingError(str(error.args[0])) from None
    cleaned, warnings = clean(raw)
    if not cleaned:
        raise SecretMissingError(f"{reference} is there but empty.")
    resolved = ResolvedSecret(Secret(cleaned), fingerprint(cleaned), (*warnings, *odd_shape(cleaned)))
    if kind in REMOTE and settings.SECRET_CACHE_S > 0:
        _kept[reference] = (now + settings.SECRET_CACHE_S, resolved)
    return resolved


def clean(raw: str) -> tuple[str, list[str]]:
    """Take off what people paste around a key; say what was taken off."""
    value, warnings = raw.strip(), []
    if value != raw.rstrip("\r\n"):
        warnings.append("Spaces around the key were removed.")
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1].strip()
        warnings.append("Quotes around the key were removed.")
    without_scheme = re.sub(r"^bearer\s+", "", value, flags=re.IGNORECASE)
    if without_scheme != value:
        value = without_scheme.strip()
        warnings.append("A “Bearer” prefix was removed: Icypeas wants the bare key.")
    return value, warnings


def odd_shape(cleaned: str) -> list[str]:
    """What no key looks like, told apart from a key that is refused: sentences that say nothing of its characters."""
    found = []
    if len(cleaned) < SHORTEST:
        found.append(f"It has only {len(cleaned)} characters, so it may be cut off.")
    if any(character.isspace() for character in cleaned):
        found.append("There is white space inside, so it may be two values, or hold a line break.")
    return found


def fingerprint(cleaned: str) -> str:
    """12 hex of HMAC-SHA256 under the pepper: equal secrets compare equal, nothing can be guessed back."""
    return hmac.new(_pepper(), cleaned.encode(), hashlib.sha256).hexdigest()[:12]


@cache
def _pepper() -> bytes:
    """From the environment or a file, else drawn once for this installation. Several hosts must share one."""
    given = os.environ.get("FINGERPRINT_PEPPER", "")
    if given:
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
    return path.read_bytes()

"""`file:PATH`: a mounted file under `SECRETS_DIR`."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from django.conf import settings

ALLOWED = re.compile(r"[A-Za-z0-9._/-]{1,190}")
MOST_BYTES = 64 * 1024  # a wrong file may be large


def _path(place: str) -> Path:
    return Path(settings.SECRETS_DIR, place).resolve()


def complaint(place: str) -> str | None:
    """Why this file may not be read, or None."""
    root = Path(settings.SECRETS_DIR).resolve()
    if not ALLOWED.fullmatch(place) or not _path(place).is_relative_to(root) or _path(place) == root:
        return "This reference is refused: write file:NAME, where NAME is a path below SECRETS_DIR."
    return None


def read(place: str) -> tuple[str, list[str]]:
    """The raw secret, and warnings about its file. Raises `LookupError` with a sentence."""
    return read_guarded(_path(place), shown=f"file:{place}")


def read_guarded(path: Path, *, shown: str) -> tuple[str, list[str]]:
    """The text of a file that only its owner can change, and a warning when everybody can read it; in strict mode only its
    owner may. `shown` names the file in sentences. Raises `LookupError`."""
    try:
        # Opened once, without waiting: what is looked at is what is read, and a pipe would never answer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            found = os.fstat(opened.fileno())
            content = opened.read(MOST_BYTES + 1) if stat.S_ISREG(found.st_mode) else b""
    except OSError as error:
        raise LookupError(f"{shown} cannot be read by the worker: {error.strerror}.") from None
    if not stat.S_ISREG(found.st_mode):
        raise LookupError(f"{shown} is not a plain file.")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise LookupError(f"{shown} can be changed by others. Run: chmod go-w on it.")
    if settings.STRICT_SECRET_FILES and found.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        raise LookupError(f"{shown} can be read by others. Run: chmod 400 on it.")
    if len(content) > MOST_BYTES:
        raise LookupError(f"{shown} is larger than 64 KB, so it is no secret.")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        # The codec's own message quotes bytes of the secret.
        raise LookupError(f"{shown} does not hold text.") from None
    is_open = found.st_mode & stat.S_IROTH
    return text, [f"{shown} can be read by everybody on its host. Run: chmod 400 on it."] if is_open else []

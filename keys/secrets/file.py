"""`file:PATH`: a mounted file under `SECRETS_DIR`."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from django.conf import settings

ALLOWED = re.compile(r"[A-Za-z0-9._/-]{1,190}")


def _path(place: str) -> Path:
    return Path(settings.SECRETS_DIR, place).resolve()


def complaint(place: str) -> str | None:
    """Why this file may not be read, or None."""
    root = Path(settings.SECRETS_DIR).resolve()
    if not ALLOWED.fullmatch(place) or not _path(place).is_relative_to(root) or _path(place) == root:
        return "This reference is refused: write file:NAME, where NAME is a path below SECRETS_DIR."
    return None


def read(place: str) -> str:
    """The raw secret. Raises `LookupError` with a sentence."""
    return read_guarded(_path(place), shown=f"file:{place}")


def read_guarded(path: Path, *, shown: str) -> str:
    """The text of a file that only its owner can change; strict mode wants that only its owner reads it. `shown` names
    the file in sentences. Raises `LookupError`."""
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise LookupError(f"{shown} can be changed by others. Run: chmod go-w on it.")
        if settings.STRICT_SECRET_FILES and mode & (stat.S_IRGRP | stat.S_IROTH):
            raise LookupError(f"{shown} can be read by others. Run: chmod 400 on it.")
        return path.read_text()
    except OSError as error:
        raise LookupError(f"{shown} cannot be read by the worker: {error.strerror}.") from None
    except UnicodeDecodeError:
        # The codec's own message quotes bytes of the secret.
        raise LookupError(f"{shown} does not hold text.") from None

"""`env:NAME`: an environment variable of the worker, or the file that `NAME_FILE` points to.

Read with `os.environ` and nothing else: a value that starts with `$` is a value.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from keys.secrets import file

# Not the two settings of that beginning: they are no secrets, and every process has them.
ALLOWED = re.compile(r"ICYPEAS_(?!(BASE_URL|RATE_FACTOR)$)[A-Z0-9_]{1,100}")


def complaint(name: str) -> str | None:
    """Why this variable may not be read, or None."""
    if not ALLOWED.fullmatch(name):
        # The name is not repeated: it may be a secret pasted behind "env:".
        return (
            "This reference is refused: only variables that begin with ICYPEAS_ (capitals, digits, _) hold provider "
            "secrets. Write env:ICYPEAS_KEY_<NAME>."
        )
    return None


def read(name: str) -> tuple[str, list[str]]:
    """The raw secret, and warnings about its file. Raises `LookupError` with a sentence."""
    value, file_name = os.environ.get(name, ""), os.environ.get(f"{name}_FILE", "")
    if value and file_name:
        raise LookupError(f"{name} and {name}_FILE are both set in the worker's environment. Keep one.")
    if file_name:
        return file.read_guarded(Path(file_name), shown=f"The file that {name}_FILE names")
    if not value:
        raise LookupError(
            f"The worker has no {name} in its environment. Put it into .env.worker or the worker's unit, "
            "then restart the workers."
        )
    return value, []

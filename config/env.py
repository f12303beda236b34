"""The environment, read here and nowhere else (provider secrets excepted: `keys.secrets` reads those).

`.env` is read by every process and must not hold a provider secret; `.env.worker` is read by
processes that act as a worker, and may.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
ENV_FILE = BASE_DIR / ".env"
WORKER_ENV_FILE = BASE_DIR / ".env.worker"

# What holds a provider secret or opens a store of them: every variable that an `env:` reference may name (the default key,
# one per key record, the signing secret), the vault's token (each also as `…_FILE`), and credentials of AWS.
PROVIDER_SECRET_NAME = re.compile(
    r"^(ICYPEAS_(?!(BASE_URL|RATE_FACTOR)$).+|VAULT_TOKEN(_FILE)?|"
    r"AWS_(SECRET_ACCESS_KEY|SESSION_TOKEN|WEB_IDENTITY_TOKEN_FILE))$"
)


def provider_secret_names(environment: dict[str, str] | os._Environ[str]) -> list[str]:
    """Names in `environment` that carry a provider secret, sorted. Values are not looked at."""
    return sorted(name for name, value in environment.items() if value and PROVIDER_SECRET_NAME.match(name))


def _names_in(path: Path) -> dict[str, str]:
    lines = (line.strip().removeprefix("export ") for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def read_env_file() -> None:
    """Take `.env` into the environment; what is set already wins."""
    if not ENV_FILE.exists():
        return
    secrets = provider_secret_names(_names_in(ENV_FILE))
    if secrets:
        raise ImproperlyConfigured(
            f".env holds {', '.join(secrets)}, and every process reads .env. "
            "Move it to .env.worker (mode 0600), which only workers read."
        )
    environ.Env.read_env(ENV_FILE)


def read_worker_env_file() -> None:
    """Take `.env.worker` into the environment of a process that acts as a worker.

    Read without interpolation: a value that starts with `$` is a value.
    """
    if not WORKER_ENV_FILE.exists():
        return
    if WORKER_ENV_FILE.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ImproperlyConfigured(".env.worker can be read by others. Run: chmod 600 .env.worker")
    for name, value in _names_in(WORKER_ENV_FILE).items():
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        os.environ.setdefault(name, value[1:-1] if quoted else value)


def default_worker_name() -> str:
    """Names this process's worker group: every child of one worker has the same."""
    return f"{socket.gethostname()}-{os.getpgid(0)}"


env = environ.Env()

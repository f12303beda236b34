"""One machine: safe values for what production must be told. The demo runs on this."""

import secrets
from pathlib import Path

from config.env import env
from config.settings.base import *  # noqa: F403
from config.settings.base import DATA_DIR, STORAGES


def _drawn_once(path: Path) -> str:
    """A secret of this installation, drawn at the first start."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(50))
    return path.read_text().strip()


SECRET_KEY = env.str("SECRET_KEY", default="") or _drawn_once(DATA_DIR / "secret-key")
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
PUBLIC_URL = env.str("PUBLIC_URL", default="")
WHITENOISE_USE_FINDERS = True
STORAGES = {**STORAGES, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}

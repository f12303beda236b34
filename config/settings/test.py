"""The test suite: a database file (so that other processes see it) or the PostgreSQL of TEST_DATABASE_URL."""

import atexit
import os
import shutil
import tempfile

# Before base is read: nothing of the developer's own installation or secrets takes part in a test.
for _name in [name for name in os.environ if name.startswith(("ICYPEAS_", "VAULT_", "AWS_", "EMAIL_"))]:
    del os.environ[_name]
if "TEST_DATA_DIR" not in os.environ:
    os.environ["TEST_DATA_DIR"] = tempfile.mkdtemp(prefix="enrichment-desk-test-")
    atexit.register(shutil.rmtree, os.environ["TEST_DATA_DIR"], ignore_errors=True)
os.environ["DATA_DIR"] = os.environ["TEST_DATA_DIR"]
os.environ["DATABASE_URL"] = (
    os.environ.get("TEST_DATABASE_URL") or f"sqlite:///{os.environ['DATA_DIR']}/db.sqlite3"
)
os.environ["CELERY_BROKER_URL"] = os.environ.get("TEST_REDIS_URL") or "embedded://"
os.environ.setdefault("ICYPEAS_BASE_URL", "http://127.0.0.1:9/api")

from config.settings.base import *  # noqa: E402, F403
from config.settings.base import DATA_DIR, DATABASES, STORAGES  # noqa: E402

SECRET_KEY = "only-for-tests-" + "x" * 50
DEBUG = False
ALLOWED_HOSTS = ["testserver", "127.0.0.1", "localhost"]
PUBLIC_URL = ""
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = True
STORAGES = {**STORAGES, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}

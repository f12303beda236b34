"""What every installation shares; whatever differs comes from the environment (see `.env.example`)."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from csp.constants import NONE, SELF

from config.env import BASE_DIR, default_worker_name, env, read_env_file, read_worker_env_file

# --- process -------------------------------------------------------------------------------------------------------
read_env_file()
PROCESS_ROLE = env.str("PROCESS_ROLE", default="cli")
if PROCESS_ROLE not in {"web", "worker", "scheduler", "cli"}:
    raise ValueError(f"PROCESS_ROLE is {PROCESS_ROLE!r}; use web, worker, scheduler or cli.")
if PROCESS_ROLE == "worker":
    read_worker_env_file()
WORKER_NAME = env.str("WORKER_NAME", default="") or default_worker_name()
RELEASE = env.str("RELEASE", default="")

# --- data ----------------------------------------------------------------------------------------------------------
DATA_DIR = Path(env.str("DATA_DIR", default=str(BASE_DIR / "var"))).expanduser().resolve()
DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
if DATA_DIR.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) and DATA_DIR.owner() == Path.home().owner():
    DATA_DIR.chmod(0o700)
DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'db.sqlite3'}")}
DATABASES["default"]["CONN_MAX_AGE"] = 0
SQLITE_OPTIONS = {
    "timeout": 20,
    "transaction_mode": "IMMEDIATE",
    "init_command": (
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-20000; "
        "PRAGMA temp_store=MEMORY; PRAGMA mmap_size=134217728; PRAGMA journal_size_limit=27103364"
    ),
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"].setdefault("OPTIONS", {}).update(SQLITE_OPTIONS)
elif PROCESS_ROLE == "web":
    # A new connection with PostgreSQL knows no table yet, and made for each request slowed pages of many questions.
    DATABASES["default"] |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MEDIA_ROOT = DATA_DIR / "files"
FILE_UPLOAD_PERMISSIONS = 0o600
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o700
SERVED_MEDIA_URL = ""  # uploads are never served by address

# --- web -----------------------------------------------------------------------------------------------------------
PUBLIC_URL = env.str("PUBLIC_URL", default="").rstrip("/")
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "axes",
    "csp",
    "django_htmx",
    "people.apps.PeopleConfig",
    "keys.apps.KeysConfig",
    "enrichment.apps.EnrichmentConfig",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.middleware.no_store",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "people.middleware.end_stale_session",
    "people.middleware.LoginRequiredMiddleware",
    "people.middleware.viewer_time_zone",
    "keys.middleware.FormerNames",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "config.frame.frame",
            ],
            "libraries": {"ui": "config.templatetags.ui"},
            "builtins": ["config.templatetags.ui", "django.templatetags.static"],
            "loaders": [
                (
                    "django.template.loaders.cached.Loader",
                    [
                        "django.template.loaders.filesystem.Loader",
                        "django.template.loaders.app_directories.Loader",
                    ],
                )
            ],
        },
    }
]
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
LANGUAGE_CODE = "en-gb"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

# --- people and sessions -------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "people.User"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
LOGIN_URL = "people:login"
LOGIN_REDIRECT_URL = "enrichment:overview"
LOGOUT_REDIRECT_URL = "people:login"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = env.int("SESSION_ABSOLUTE_S", default=12 * 3600)
SESSION_IDLE_S = env.int("SESSION_IDLE_S", default=8 * 3600)
STEP_UP_S = env.int("STEP_UP_S", default=15 * 60)  # for changing keys, roles and budgets
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_CALLABLE = "people.views.locked_out"
AXES_VERBOSE = False
AXES_USERNAME_FORM_FIELD = "username"
AXES_IPWARE_PROXY_COUNT = env.int("PROXY_COUNT", default=0)

# --- security headers ----------------------------------------------------------------------------------------------
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "base-uri": [NONE],
        "object-src": [NONE],
        "frame-ancestors": [NONE],
    }
}
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"

# --- broker --------------------------------------------------------------------------------------------------------
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default="embedded://")

# --- Icypeas -------------------------------------------------------------------------------------------------------
ICYPEAS_REAL_HOST = "app.icypeas.com"
ICYPEAS_BASE_URL = env.str("ICYPEAS_BASE_URL", default=f"https://{ICYPEAS_REAL_HOST}/api").rstrip("/")
_base_host = urlsplit(ICYPEAS_BASE_URL).hostname or ""
ICYPEAS_IS_LOOPBACK = _base_host in {"127.0.0.1", "::1", "localhost"}
ICYPEAS_IS_REAL = _base_host == ICYPEAS_REAL_HOST
if urlsplit(ICYPEAS_BASE_URL).scheme != "https" and not ICYPEAS_IS_LOOPBACK:
    raise ValueError("ICYPEAS_BASE_URL must be https:// (plain http is accepted for this machine only).")
ICYPEAS_RATE_FACTOR: float = env.float("ICYPEAS_RATE_FACTOR", default=1.0)
if ICYPEAS_RATE_FACTOR <= 0:
    raise ValueError("ICYPEAS_RATE_FACTOR must be above 0.")
if ICYPEAS_RATE_FACTOR > 1 and ICYPEAS_IS_REAL:
    raise ValueError("ICYPEAS_RATE_FACTOR above 1 is refused with the real Icypeas: its limits are fixed.")

# --- keys ----------------------------------------------------------------------------------------------------------
KEY_ENVIRONMENTS = env.list("KEY_ENVIRONMENTS", default=["prod", "staging", "dev", "sandbox"])
# What this process serves. Sandbox secrets never go to the real host.
ENVIRONMENTS = env.list(
    "ENVIRONMENTS",
    default=[name for name in KEY_ENVIRONMENTS if not (ICYPEAS_IS_REAL and name == "sandbox")],
)
RELAXED_ENVIRONMENTS = ["sandbox", "dev"]  # deputy and team are optional here
SECRETS_DIR = Path(env.str("SECRETS_DIR", default=str(DATA_DIR / "worker" / "secrets"))).expanduser()
STRICT_SECRET_FILES = env.bool("STRICT_SECRET_FILES", default=False)
# References point only below these: MOUNT/PATH of a KV v2 engine, and beginnings of names in Secrets Manager.
VAULT_PREFIXES = [prefix.strip("/") for prefix in env.list("VAULT_PREFIXES", default=[])]
VAULT_ADDR = env.str("VAULT_ADDR", default="").rstrip("/")
VAULT_NAMESPACE = env.str("VAULT_NAMESPACE", default="")
AWS_SM_PREFIXES = env.list("AWS_SM_PREFIXES", default=[])
AWS_SM_REGION = env.str("AWS_SM_REGION", default="")
AWS_SM_ENDPOINT_URL = env.str("AWS_SM_ENDPOINT_URL", default="")
for _name, _url in (("VAULT_ADDR", VAULT_ADDR), ("AWS_SM_ENDPOINT_URL", AWS_SM_ENDPOINT_URL)):
    _parts = urlsplit(_url)
    if _url and _parts.scheme != "https" and _parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
        raise ValueError(f"{_name} must be https:// (plain http is accepted for this machine only).")
CALLS_KEPT_DAYS = env.int("CALLS_KEPT_DAYS", default=400)  # 0: for ever; the sums of calls always are
if CALLS_KEPT_DAYS < 0:
    raise ValueError("CALLS_KEPT_DAYS is a number of days, or 0 to keep calls for ever.")
SECRET_TIMEOUT_S = env.float("SECRET_TIMEOUT_S", default=5.0)  # for each of connecting and reading
SECRET_CACHE_S = env.float("SECRET_CACHE_S", default=10.0)  # in the memory of one worker process
UNUSED_DAYS = env.int("UNUSED_DAYS", default=30)  # without a call makes a key, or a granted scope, a finding
FLAG_SHARED_SYSTEMS = env.bool("FLAG_SHARED_SYSTEMS", default=False)  # also where systems share a secret

# --- notices and mail --------------------------------------------------------------------------------------------------
HAS_EMAIL = bool(env.str("EMAIL_URL", default=""))
if HAS_EMAIL:
    _mail = env.email_url("EMAIL_URL")
    EMAIL_BACKEND = _mail["EMAIL_BACKEND"]
    EMAIL_HOST, EMAIL_PORT = _mail["EMAIL_HOST"], _mail["EMAIL_PORT"]
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail["EMAIL_HOST_USER"] or "", _mail["EMAIL_HOST_PASSWORD"] or ""
    EMAIL_USE_TLS, EMAIL_USE_SSL = _mail.get("EMAIL_USE_TLS", False), _mail.get("EMAIL_USE_SSL", False)
    EMAIL_FILE_PATH = _mail["EMAIL_FILE_PATH"]
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="enrichment-desk@localhost")
DIGEST_HOUR = env.int("DIGEST_HOUR", default=8)  # of the person's own day, from which on their mail is sent

# --- clocks (seconds), compressed together with the provider's limits ------------------------------------------------
_factor: float = max(ICYPEAS_RATE_FACTOR, 1.0)


def _clock(seconds: float, least: float = 1.0) -> float:
    return max(seconds / _factor, least)


SLICE_S = 45.0
LEASE_S = _clock(60)
HEARTBEAT_S = _clock(15)
SETTLE_S = _clock(120)
SECOND_LOOK_S = _clock(60)
SWEEP_S = _clock(10)
FILE_FIRST_LOOK_S = _clock(8, 0.2)
FILE_LOOK_S = _clock(20, 0.2)
SINGLE_FIRST_LOOK_S = _clock(4, 0.2)
SINGLE_LOOK_S = _clock(4, 0.2)  # between two looks for a person's answer; the distances grow
SINGLE_LOOK_MOST_S = _clock(120, 0.2)  # up to this; from then on no slot of reading is kept for it
# Lists that were sent that long ago are looked for that rarely: (age, gap).
LOOK_GAPS_S = ((_clock(60), _clock(15)), (_clock(600), _clock(120)))
ANSWER_S = 86_400.0  # then what Icypeas accepted and never ended is left to a person; not compressed
RETRY_S = _clock(5)  # first wait after a connection that never opened; doubles up to a minute
BREAKER_FIRST_S = _clock(30)  # after five paid calls without a clear answer; doubles with each further one
BREAKER_MOST_S = _clock(900)
STALLED_S = _clock(120)
WORKER_SILENT_S = max(3 * _clock(10), 15.0)

# --- jobs ----------------------------------------------------------------------------------------------------------
BATCH_ROWS = env.int("BATCH_ROWS", default=500)
BATCHES_IN_FLIGHT = env.int("BATCHES_IN_FLIGHT", default=4)
DIRECT_CREDITS = Decimal(25)  # the most that one call which cannot be looked up may put at risk
DIRECT_AT_ONCE = env.int("DIRECT_AT_ONCE", default=16)  # such calls of one list side by side
MAX_LEADS = env.int("MAX_LEADS", default=10_000)
FRESHNESS_DAYS = env.int("FRESHNESS_DAYS", default=90)
PURPOSE_FREE_CREDITS = Decimal(5)  # single look-ups up to here need no purpose
MAX_UPLOAD_BYTES = env.int("MAX_UPLOAD_BYTES", default=256 * 1024 * 1024)
IMPORT_INLINE_BYTES = env.int("IMPORT_INLINE_BYTES", default=1024 * 1024)
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500
SAME_FILE_HOURS = 24
UNCERTAIN_ACCEPT_DAYS = env.int("UNCERTAIN_ACCEPT_DAYS", default=14)
RESERVATION_KEPT_DAYS = env.int("RESERVATION_KEPT_DAYS", default=7)  # by a paused job for its waiting rows
SAMPLE_ROWS = 10

# --- errors and logging: ids, never people or secrets ---------------------------------------------------------------------------
DEFAULT_EXCEPTION_REPORTER_FILTER = "config.reporting.ShowsNoValues"
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "filters": {
        "secrets": {"()": "config.redaction.RedactSecrets"},
        "refusals": {"()": "config.redaction.PlainRefusals"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "plain",
            "filters": ["refusals", "secrets"],
        }
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        # These print URLs, headers or payloads below WARNING.
        name: {"level": "WARNING"}
        for name in (
            "httpx",
            "httpcore",
            "hpack",
            "h2",
            "asyncio",
            "axes",
            "kombu",
            "amqp",
            "urllib3",
            "hvac",
            "boto3",
            "botocore",
        )
    },
}
# On SQLite an index goes without its further columns: slower, and as right.
SILENCED_SYSTEM_CHECKS = ["models.W040"]
IS_WINDOWS = os.name == "nt"

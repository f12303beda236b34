#!/usr/bin/env python3
"""One door for people and machines: set up, demo, test, check, screenshots, chaos, canary.

    python3 dev.py setup            make .venv with the locked dependencies
    python3 dev.py demo             everything on this machine        PORT=8000 SANDBOX_PORT=8100 RESET=1 DATA_DIR=var
    python3 dev.py test [ARGS]      all tests; ARGS go to pytest      TEST_DATABASE_URL TEST_REDIS_URL CI=true
    python3 dev.py check            lint, types, migrations, lock
    python3 dev.py screenshots      every page as a picture
    python3 dev.py chaos [ARGS]     the crash test; ARGS as `manage.py chaos --help` says
    python3 dev.py canary [ARGS]    planted secrets, searched for everywhere; TEST_DATABASE_URL TEST_REDIS_URL

`make demo` and the like call this script. Standard library only: it runs before anything is installed. An old
Python must still be able to read the file to be told so; keep its grammar to that of 3.6.
"""

import sys

MINIMUM = (3, 11)
if sys.version_info[:2] < MINIMUM:
    sys.exit(
        "Python {}.{} is too old: Enrichment desk needs Python 3.11 or newer. Install one (Debian 12: apt-get install "
        "python3 python3-venv; macOS: brew install python@3.13) and run it by name, for example: "
        "python3.13 dev.py demo, or make demo PYTHON=python3.13".format(*sys.version_info[:2])
    )

import hashlib  # noqa: E402
import importlib.util  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import secrets  # noqa: E402
import shlex  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import xml.etree.ElementTree as ElementTree  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import NoReturn  # noqa: E402

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
STAMP = VENV / ".set-up"
UV_VERSION = "0.13.9"

DEFAULT_DATABASE_URL = "postgres://postgres@127.0.0.1:5432/enrichment_desk"
DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/15"  # not 0, which may hold somebody's data
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_PATHS = (
    "/usr/bin/chromium",
    "/usr/lib/chromium/chromium",
    "/snap/bin/chromium",
    "/opt/google/chrome/chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
# Always on the embedded services, whatever is configured: once is enough.
EMBEDDED_ONLY = tuple(
    f"--ignore=tests/integration/{name}" for name in ("test_demo.py", "test_embedded_broker.py")
)
BROWSER_PACKAGES = ("chromium", "fonts-inter")

# Ends a browser-free second run: exit status of pytest when its arguments select nothing.
NOTHING_COLLECTED = 5


def stop(sentence: str, status: int = 1) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(status)


def say(text: str) -> None:
    print(text, flush=True)


def is_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def is_root_on_debian() -> bool:
    return os.geteuid() == 0 and Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None


# --- set-up --------------------------------------------------------------------------------------------------------


def set_up() -> None:
    """Make `.venv` hold exactly what the lock says; a second call takes no time."""
    mark = _set_up_mark()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == mark:
        return
    if not _is_usable(PYTHON):
        _make_venv()
    _install_uv()
    say("Installing the locked dependencies …")
    done = subprocess.run(
        # Compiled once: where Python may write nothing beside what it imports (`PYTHONDONTWRITEBYTECODE`, as in many
        # containers), each process would compile all of it again, for a second and more.
        [str(UV), "sync", "--frozen", "--quiet", "--compile-bytecode"],
        cwd=ROOT,
        env=_uv_environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        stop(f"{_tail(done.stderr)}\n{_why_sync_failed(done.stderr)}")
    STAMP.write_text(mark)


def _set_up_mark() -> str:
    lock = hashlib.sha256((ROOT / "uv.lock").read_bytes() + (ROOT / "pyproject.toml").read_bytes())
    return f"{lock.hexdigest()} {UV_VERSION} {ROOT}\n"  # a moved folder needs a new environment: paths are written in it


def _is_usable(python: Path) -> bool:
    """Whether the environment's Python starts, is new enough, and stands where it was made."""
    probe = "import sys; print(sys.version_info >= (3, 11), sys.prefix)"
    try:
        done = subprocess.run([str(python), "-c", probe], capture_output=True, text=True, timeout=60)
    except OSError:
        return False
    is_new_enough, _, prefix = done.stdout.strip().partition(" ")
    # The scripts beside it name the folder they were made in.
    return is_new_enough == "True" and Path(prefix).resolve() == VENV.resolve() and _scripts_belong_here()


def _scripts_belong_here() -> bool:
    activate = VENV / "bin" / "activate"
    return activate.exists() and str(VENV) in activate.read_text(errors="replace")


def _make_venv() -> None:
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        version = "{}.{}".format(*sys.version_info[:2])
        stop(
            f"This Python has no {' and no '.join(missing)} module: install it "
            f"(Debian, Ubuntu: apt-get install python3-venv, or python{version}-venv) and run the command again."
        )
    say(f"Making {VENV.name} with Python {sys.version.split()[0]} …")
    # From inside an environment the new one would hang on that one; its base is what is meant.
    base = getattr(sys, "_base_executable", "") or sys.executable
    done = subprocess.run([base, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True)
    if done.returncode:
        text = done.stdout + done.stderr
        if "ensurepip" in text:
            stop(
                "This Python cannot make a virtual environment with pip: install the rest of it "
                "(Debian, Ubuntu: apt-get install python3-venv) and run the command again."
            )
        stop(f"{_tail(text)}\nThe virtual environment in {VENV} could not be made; the lines above say why.")


def _install_uv() -> None:
    if UV.exists():
        version = subprocess.run([str(UV), "--version"], capture_output=True, text=True).stdout.split()
        if version[1:2] == [UV_VERSION]:
            return
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"uv=={UV_VERSION}"]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        stop(
            f"{_tail(done.stderr)}\nuv {UV_VERSION} could not be installed from PyPI: check that this machine reaches "
            "https://pypi.org (a proxy goes into HTTPS_PROXY, an own index into PIP_INDEX_URL), and run the command again."
        )


def _uv_environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return {
        **environment,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_PROJECT_ENVIRONMENT": str(VENV),
        "UV_NO_PROGRESS": "1",
    }


def _why_sync_failed(text: str) -> str:
    version = "{}.{}".format(*sys.version_info[:2])
    if re.search(r"failed to build|build backend|compiler|gcc|clang|\bcc\b", text, re.IGNORECASE):
        return (
            f"A package has no ready-made wheel for Python {version} on this machine and could not be compiled: use "
            "Python 3.11, 3.12 or 3.13, or install a compiler (Debian, Ubuntu: apt-get install build-essential "
            "python3-dev; macOS: xcode-select --install), and run the command again."
        )
    return "The dependencies could not be installed: check that this machine reaches https://pypi.org, and run the command again."


def _tail(text: str, lines: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


# --- demo ----------------------------------------------------------------------------------------------------------


def demo(arguments: Sequence[str]) -> NoReturn:
    command = [str(PYTHON), str(ROOT / "manage.py"), "demo"]
    command += ["--port", _port("PORT", "8000"), "--sandbox-port", _port("SANDBOX_PORT", "8100")]
    if os.environ.get("RESET", "").lower() in {"1", "true", "yes"}:
        command.append("--reset")
    if os.environ.get("MAKELEVEL"):
        command.append("--end-with-parent")  # make killed by SIGKILL cannot tell its children
    os.chdir(ROOT)
    # In place of this process: there is no one in between whose death could leave the demo behind.
    os.environ.pop("PROCESS_ROLE", None)
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings.local"
    os.execv(command[0], [*command, *arguments])


def _port(variable: str, default: str) -> str:
    value = os.environ.get(variable) or default
    if not value.isdigit():
        stop(f"{variable} is {value!r}: give a port number, for example {variable}={default}.", 2)
    return value


# --- test ----------------------------------------------------------------------------------------------------------


def test(arguments: Sequence[str]) -> int:
    """Run the suite on every service that answers; returns the exit status.

    PostgreSQL and Redis come first, so that the closing line of the whole suite is pytest's last.
    """
    database_url = os.environ.get("TEST_DATABASE_URL") or DEFAULT_DATABASE_URL
    redis_url = os.environ.get("TEST_REDIS_URL") or DEFAULT_REDIS_URL
    postgres, no_postgres = _probe(POSTGRES_PROBE, database_url)
    redis, no_redis = _probe(REDIS_PROBE, redis_url)
    browser, no_browser = find_or_install_browser()
    missing = [
        f"PostgreSQL ({no_postgres})" if no_postgres else "",
        f"Redis ({no_redis})" if no_redis else "",
        f"a browser ({no_browser})" if no_browser else "",
    ]
    missing = [text for text in missing if text]
    if missing and is_ci():
        stop(f"With CI=true nothing may be missing, but there is no {', no '.join(missing)}.")

    plain = {
        name: value
        for name, value in os.environ.items()
        if name not in {"TEST_DATABASE_URL", "TEST_REDIS_URL"}
    }
    plain.pop("PROCESS_ROLE", None)
    plain["BROWSER_PATH" if browser else "BROWSER_MISSING_REASON"] = browser or no_browser
    with_services = {**plain, "TEST_DATABASE_URL": database_url, "TEST_REDIS_URL": redis_url}

    took_part, failed = [], []
    second = arguments_for_services(arguments)
    if postgres and redis and second is not None:
        title = f"{postgres} and {redis}"
        say(f"── Tests of database, broker and workers on {title} ──")
        status, ran = _pytest([*second, *EMBEDDED_ONLY], with_services)
        if ran.all:
            took_part += [postgres, redis]
        if status not in {0, NOTHING_COLLECTED}:
            failed.append(f"on {title}")
    sqlite = f"SQLite {_first_line([str(PYTHON), '-c', 'import sqlite3; print(sqlite3.sqlite_version)'])}"
    say(f"── All tests on {sqlite} and the embedded broker ──")
    status, ran = _pytest(arguments, plain)
    if status:
        failed.append(
            f"on {sqlite} and the embedded broker" if status != NOTHING_COLLECTED else "no test was selected"
        )
    if ran.browser:
        took_part.append(_browser_version(browser))

    for text in missing:
        say(f"Did not take part: {text}")
    say("Real services: " + "; ".join([f"{sqlite} + embedded broker", *took_part]))
    if failed:
        say(f"Not passed: {'; '.join(failed)}")
    return 1 if failed else 0


def arguments_for_services(arguments: Sequence[str]) -> "list[str] | None":
    """What pytest gets on PostgreSQL and Redis: only tests that touch them. None when nothing of that was asked for."""
    before = ["", *arguments]
    paths = [
        argument
        for argument, previous in zip(arguments, before, strict=False)
        if previous not in {"-k", "-m", "-p", "-W", "-c"} and _is_in_tests(argument)
    ]
    if not paths:
        return [*arguments, "tests/integration"]
    rest = [argument for argument in arguments if argument not in paths]
    chosen = {path: (ROOT / path.split("::")[0]).resolve() for path in paths}
    integration = ROOT / "tests" / "integration"
    inside = [path for path, place in chosen.items() if place.is_relative_to(integration)]
    if not inside and any(integration.is_relative_to(place) for place in chosen.values()):
        inside = ["tests/integration"]
    return [*rest, *inside] if inside else None


def _is_in_tests(argument: str) -> bool:
    place = (ROOT / argument.split("::")[0]).resolve()
    return place.exists() and place.is_relative_to(ROOT / "tests")


class Ran:
    """How many tests really ran (were not skipped): all of them, and those in the browser."""

    def __init__(self, report: Path) -> None:
        self.all = self.browser = 0
        if not report.exists() or not report.stat().st_size:
            return
        for case in ElementTree.parse(report).iter("testcase"):
            if case.find("skipped") is None:
                self.all += 1
                self.browser += case.get("classname", "").startswith("tests.browser")


def _pytest(arguments: Sequence[str], environment: "dict[str, str]") -> "tuple[int, Ran]":
    """Run pytest with everything logged, and search what it leaves behind for the secrets of this run."""
    with tempfile.TemporaryDirectory(prefix="enrichment-desk-tests-") as folder:
        report, planted = Path(folder) / "report.xml", secrets.token_hex(8)
        logs = ["-o", "log_level=DEBUG", "-o", "junit_logging=all", f"--basetemp={Path(folder) / 'left'}"]
        command = [
            str(PYTHON),
            "-m",
            "pytest",
            f"--junitxml={report}",
            "-o",
            "junit_family=xunit1",
            *logs,
            *arguments,
        ]
        status = subprocess.run(
            command, cwd=ROOT, env={**environment, "TEST_CANARY": planted}, stdin=subprocess.DEVNULL
        ).returncode
        found, size = files_with(planted, [Path(folder), ROOT / ".pytest_cache"])
        for path in found:
            say(
                f"A secret of the tests is in {path.relative_to(folder) if path.is_relative_to(folder) else path}"
            )
        if not found:
            say(
                f"Secrets of this run: in none of {size:,} files that it left behind, with all that was logged"
            )
        return status or bool(found), Ran(report)


# Where the tests put secrets on purpose: the sandbox's table of accounts, and what only workers read.
SECRET_FILES, SECRET_FOLDERS = {"accounts.json", ".env.worker"}, {"worker", "secrets"}


def files_with(text: str, folders: "Sequence[Path]") -> "tuple[list[Path], int]":
    """Files below the folders that hold the text, where it does not belong; and how many were searched."""
    found, count = [], 0
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            is_private = path.name in SECRET_FILES or bool(
                SECRET_FOLDERS & set(path.relative_to(folder).parts)
            )
            if is_private or path.is_symlink() or not path.is_file():
                continue
            count += 1
            if text.encode() in path.read_bytes():
                found.append(path)
    return found, count


POSTGRES_PROBE = """
import sys, psycopg
from urllib.parse import urlsplit, urlunsplit
# The test database is made by way of the one that always exists.
url = urlunsplit(urlsplit(sys.argv[1])._replace(scheme="postgresql", path="/postgres"))
with psycopg.connect(url, connect_timeout=3) as connection:
    print("PostgreSQL", connection.execute("show server_version").fetchone()[0].split()[0])
"""
REDIS_PROBE = """
import sys, redis
with redis.Redis.from_url(sys.argv[1], socket_connect_timeout=3, socket_timeout=3) as connection:
    print("Redis", connection.info("server")["redis_version"])
"""


def _probe(script: str, url: str) -> "tuple[str, str]":
    """Name and version of the service at `url`, or an empty text and the reason. Shows no password."""
    done = subprocess.run([str(PYTHON), "-c", script, url], capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout.strip(), ""
    reason = _tail(done.stderr, 1).partition(": ")[2] or "no answer"
    without_password = re.sub(r"//([^:@/]*):[^@/]*@", r"//\1:…@", url)
    return "", f"{without_password} does not answer: {reason}"


def find_or_install_browser() -> "tuple[str, str]":
    """Path of a Chromium, or an empty text and what to do. Installs one only as root on Debian, and says so first."""
    found = find_browser()
    if found:
        return found, ""
    install = f"apt-get install -y --no-install-recommends {' '.join(BROWSER_PACKAGES)}"
    if sys.platform == "darwin":
        return "", "no Chromium or Chrome found; install one with: brew install --cask chromium"
    if not is_root_on_debian():
        return "", f"no Chromium or Chrome found; on Debian install one with: sudo {install}"
    say(f"No browser found. Installing {' and '.join(BROWSER_PACKAGES)} for the browser tests: {install}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in ("apt-get update -q", install):
        done = subprocess.run(
            shlex.split(command), env=quiet, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    if done.returncode:
        return "", f"apt-get could not install one: {_tail(done.stderr, 1)}"
    found = find_browser()
    return found, "" if found else "apt-get installed chromium, but it is at none of the usual places"


def find_browser() -> str:
    """Path of a Chromium or Chrome at one of the usual places, BROWSER_PATH first; empty when there is none."""
    given = os.environ.get("BROWSER_PATH", "")
    candidates = [given, *(shutil.which(name) or "" for name in BROWSERS), *BROWSER_PATHS]
    return next((path for path in candidates if path and os.access(path, os.X_OK)), "")


def _browser_version(path: str) -> str:
    words = re.findall(r"\d[\d.]*", _first_line([path, "--version"]))
    return f"Chromium {words[0].split('.')[0]}" if words else "Chromium"


def _first_line(command: Sequence[str]) -> str:
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return lines[0].strip() if lines else ""


# --- check ---------------------------------------------------------------------------------------------------------

INDEX = ("https://pypi.org/", "https://files.pythonhosted.org/")


def check() -> int:
    """Everything that needs no test run; each step runs, so that one look shows all."""
    python = str(PYTHON)
    manage = [python, "manage.py"]
    steps: list[tuple[str, list[str]]] = [
        ("ruff check", [python, "-m", "ruff", "check", "."]),
        ("ruff format", [python, "-m", "ruff", "format", "--check", "."]),
        ("mypy", [python, "-m", "mypy", "dev.py", "config", "keys", "people", "enrichment"]),
        ("manage.py check", [*manage, "check", "--fail-level", "WARNING"]),
        ("migrations in step", [*manage, "makemigrations", "--check", "--dry-run"]),
        ("lock in step", [str(UV), "lock", "--check", "--quiet"]),
    ]
    failed = []
    with tempfile.TemporaryDirectory(prefix="enrichment-desk-check-") as data_dir:
        environment = {
            **_uv_environment(),
            "DJANGO_SETTINGS_MODULE": "config.settings.test",
            "TEST_DATA_DIR": data_dir,
            "TEST_DATABASE_URL": "",  # the checks look at code, not at a database
            "TEST_REDIS_URL": "",
        }
        environment.pop("PROCESS_ROLE", None)
        for name, command in steps:
            say(f"── {name}")
            if subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL).returncode:
                failed.append(name)
    say("── lock names only PyPI")
    strangers = strange_addresses((ROOT / "uv.lock").read_text())
    for address in strangers:
        say(f"uv.lock names {address}")
    if strangers:
        failed.append("lock names only PyPI")
    say(f"Not in order: {', '.join(failed)}" if failed else "All in order.")
    return 1 if failed else 0


def strange_addresses(lock: str) -> "list[str]":
    """Places that the lock names and that are not the public index or its file host."""
    addresses = set(re.findall(r'(?:[a-z][a-z0-9+.-]*://|file:|git\+)[^"\s]+', lock))
    addresses |= set(re.findall(r'(?:registry|path|directory|editable|git) = "([^"]+)"', lock))
    return sorted(address for address in addresses if not f"{address}/".startswith(INDEX))


def screenshots(arguments: Sequence[str]) -> int:
    browser, no_browser = find_or_install_browser()
    if not browser:
        stop(f"Screenshots need a browser: {no_browser}.")
    command = [str(PYTHON), "-m", "tests.browser.screenshots", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "BROWSER_PATH": browser}).returncode


def chaos(arguments: Sequence[str]) -> int:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings.local"}
    return subprocess.run(
        [str(PYTHON), "manage.py", "chaos", *arguments], cwd=ROOT, env=environment
    ).returncode


def canary(arguments: Sequence[str]) -> int:
    return subprocess.run([str(PYTHON), "-m", "tests.canary", *arguments], cwd=ROOT).returncode


def main(arguments: Sequence[str]) -> int:
    if os.name == "nt":
        stop(
            "Enrichment desk runs on Linux and macOS; on Windows use it inside WSL (wsl --install), where this command is the same."
        )
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    commands: dict[str, Callable[[], int]] = {
        "setup": lambda: 0,
        "demo": lambda: demo(rest),
        "test": lambda: test(rest),
        "check": check,
        "screenshots": lambda: screenshots(rest),
        "chaos": lambda: chaos(rest),
        "canary": lambda: canary(rest),
    }
    if name in {"", "-h", "--help", "help"}:
        say(__doc__.strip())
        return 0 if name else 2
    if name not in commands:
        stop(f"There is no command {name!r}; there are {', '.join(commands)}.", 2)
    if name in {"setup", "check"} and rest:
        stop(f"{name} takes no arguments.", 2)
    set_up()
    return commands[name]()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

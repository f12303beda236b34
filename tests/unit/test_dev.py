from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dev

DEV = Path(dev.__file__)

FAKE_VERSION = """
import runpy, sys
sys.version_info = ({version}, 1, "final", 0)
sys.argv = ["dev.py", "demo"]
runpy.run_path({path!r}, run_name="__main__")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder in place of this one."""
    (tmp_path / "uv.lock").write_text("version = 1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "tests" / "integration" / "keys").mkdir(parents=True)
    (tmp_path / "tests" / "unit").mkdir()
    (tmp_path / "keys").mkdir()
    venv = tmp_path / ".venv"
    places = {"ROOT": tmp_path, "VENV": venv, "PYTHON": venv / "bin/python", "UV": venv / "bin/uv"}
    for name, value in {**places, "STAMP": venv / ".set-up"}.items():
        monkeypatch.setattr(dev, name, value)
    return tmp_path


def sentence_of(error: pytest.ExceptionInfo[SystemExit], capsys: pytest.CaptureFixture[str]) -> str:
    assert error.value.code not in (0, None)
    return capsys.readouterr().err


# --- set-up ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["3, 6", "3, 8", "3, 10"])
def test_old_python_is_told_in_one_line_what_to_install(version: str) -> None:
    script = FAKE_VERSION.format(version=version, path=str(DEV))

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith(f"Python {version.replace(', ', '.')} is too old")
    assert "python3.13 dev.py demo" in done.stderr


@pytest.mark.parametrize("minor", [6, 7, 8, 9, 10])
def test_script_can_be_read_by_the_python_that_it_refuses(minor: int) -> None:
    ast.parse(DEV.read_text(), feature_version=(3, minor))


def test_script_imports_the_standard_library_only() -> None:
    tree = ast.parse(DEV.read_text())

    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imported |= {
        (node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }

    assert imported
    assert imported <= sys.stdlib_module_names


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_missing_module_names_the_package_to_install(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else real(name))

    with pytest.raises(SystemExit) as error:
        dev.set_up()

    sentence = sentence_of(error, capsys)
    assert sentence.startswith(f"This Python has no {missing} module")
    assert "apt-get install python3-venv" in sentence
    assert len(sentence.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("error: command 'gcc' failed: No such file or directory", "build-essential"),
        ("× Failed to build `psycopg-c==3.2`", "build-essential"),
        ("error: Failed to fetch: `https://pypi.org/simple/django/`", "reaches https://pypi.org"),
    ],
)
def test_failed_install_says_what_to_do(output: str, advice: str) -> None:
    sentence = dev._why_sync_failed(output)

    assert advice in sentence
    assert "run the command again" in sentence


def test_second_set_up_starts_no_process(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dev.PYTHON.parent.mkdir(parents=True)
    dev.PYTHON.touch()
    dev.STAMP.write_text(dev._set_up_mark())
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("a process was started"))

    dev.set_up()


@pytest.mark.parametrize("changed", ["uv.lock", "pyproject.toml"])
def test_set_up_is_due_again_when_the_dependencies_changed(project: Path, changed: str) -> None:
    before = dev._set_up_mark()

    (project / changed).write_text("# changed\n")

    assert dev._set_up_mark() != before


def test_environment_of_another_folder_is_not_taken_over(project: Path) -> None:
    dev.PYTHON.parent.mkdir(parents=True)
    dev.PYTHON.symlink_to(sys.executable)
    (dev.VENV / "bin" / "activate").write_text('VIRTUAL_ENV="/moved/from/.venv"\n')

    assert not dev._is_usable(dev.PYTHON)


def test_uv_version_is_pinned_to_a_release() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", dev.UV_VERSION)


# --- commands --------------------------------------------------------------------------------------------------------


def test_unknown_command_lists_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        dev.main(["deploy"])

    assert sentence_of(error, capsys) == (
        "There is no command 'deploy'; there are setup, demo, test, check, screenshots, chaos, canary.\n"
    )


def test_windows_gets_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev.os, "name", "nt")
    try:
        with pytest.raises(SystemExit) as error:
            dev.main(["demo"])
    finally:
        monkeypatch.undo()

    assert error.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


def started_demo(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line that `dev.py demo` becomes."""
    started: list[list[str]] = []

    def remember(path: str, command: list[str]) -> None:
        started.append(command)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", remember)
    monkeypatch.setattr(os, "chdir", lambda path: None)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "config.settings.test")
    with pytest.raises(SystemExit):
        dev.demo([])
    return started[0][2:]


def test_demo_takes_its_ports_and_reset_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PORT": "9000", "SANDBOX_PORT": "9100", "RESET": "1", "MAKELEVEL": ""}.items():
        monkeypatch.setenv(name, value)

    assert started_demo(monkeypatch) == ["demo", "--port", "9000", "--sandbox-port", "9100", "--reset"]


def test_demo_has_defaults_when_make_hands_over_empty_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PORT": "", "SANDBOX_PORT": "", "RESET": "", "MAKELEVEL": "1"}.items():
        monkeypatch.setenv(name, value)

    assert started_demo(monkeypatch) == [
        "demo",
        "--port",
        "8000",
        "--sandbox-port",
        "8100",
        "--end-with-parent",
    ]


def test_port_that_is_no_number_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "80x")

    with pytest.raises(SystemExit) as error:
        dev.demo([])

    assert sentence_of(error, capsys) == "PORT is '80x': give a port number, for example PORT=8000.\n"


# --- tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ([], ["tests/integration"]),
        (["-k", "limiter"], ["-k", "limiter", "tests/integration"]),
        (["-k", "keys"], ["-k", "keys", "tests/integration"]),
        (["-x", "tests"], ["-x", "tests/integration"]),
        (["tests/integration/keys"], ["tests/integration/keys"]),
        (["tests/integration/keys", "tests/unit"], ["tests/integration/keys"]),
        (["tests/unit"], None),
    ],
)
def test_second_run_is_narrowed_to_what_touches_the_services(
    project: Path, given: list[str], chosen: list[str] | None
) -> None:
    assert dev.arguments_for_services(given) == chosen


def test_report_counts_only_tests_that_ran(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="tests.unit.test_a" name="a"/>'
        '<testcase classname="tests.browser.test_b" name="b"><skipped message="no browser"/></testcase>'
        '<testcase classname="tests.browser.test_c" name="c"><failure message="no"/></testcase>'
        "</testsuite></testsuites>"
    )

    ran = dev.Ran(report)

    assert (ran.all, ran.browser) == (2, 1)
    assert dev.Ran(tmp_path / "none.xml").all == 0


def test_probe_gives_the_reason_without_the_password() -> None:
    found, reason = dev._probe("raise OSError('connection refused')", "postgres://me:s3cr3t@127.0.0.1:1/x")

    assert found == ""
    assert reason == "postgres://me:…@127.0.0.1:1/x does not answer: connection refused"


def suite(
    monkeypatch: pytest.MonkeyPatch, *, first: int, whole: int, ci: bool = False, redis: str = "Redis 7.0"
) -> int:
    """`dev.py test` with made-up services and pytest runs that end with the given statuses."""
    monkeypatch.setenv("CI", "true" if ci else "")
    probes = {dev.POSTGRES_PROBE: "PostgreSQL 15.1", dev.REDIS_PROBE: redis}
    monkeypatch.setattr(
        dev, "_probe", lambda script, url: (probes[script], "" if probes[script] else "no answer")
    )
    monkeypatch.setattr(dev, "find_or_install_browser", lambda: ("/usr/bin/chromium", ""))
    monkeypatch.setattr(
        dev, "_first_line", lambda command: "3.40.1" if "sqlite3" in command[-1] else "Chromium 156.0"
    )
    ran = dev.Ran(Path("/no/report"))
    ran.all = ran.browser = 1

    def run(arguments: list[str], environment: dict[str, str]) -> tuple[int, dev.Ran]:
        return (first if "TEST_DATABASE_URL" in environment else whole), ran

    monkeypatch.setattr(dev, "_pytest", run)
    return dev.test([])


def test_last_line_names_the_real_services_when_all_took_part(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = suite(monkeypatch, first=0, whole=0)

    assert status == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "Real services: SQLite 3.40.1 + embedded broker; PostgreSQL 15.1; Redis 7.0; Chromium 156"
    )


def test_suite_fails_when_only_the_run_on_the_services_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = suite(monkeypatch, first=1, whole=0)

    assert status == 1
    assert capsys.readouterr().out.splitlines()[-1] == "Not passed: on PostgreSQL 15.1 and Redis 7.0"


def test_missing_service_is_told_and_no_failure_on_a_desk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = suite(monkeypatch, first=0, whole=0, redis="")

    lines = capsys.readouterr().out.splitlines()
    assert status == 0
    assert lines[-2:] == [
        "Did not take part: Redis (no answer)",
        "Real services: SQLite 3.40.1 + embedded broker; Chromium 156",
    ]


def test_missing_service_is_a_failure_on_the_build_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        suite(monkeypatch, first=0, whole=0, ci=True, redis="")

    assert "there is no Redis (no answer)" in sentence_of(error, capsys)


def test_browser_is_not_installed_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "find_browser", lambda: "")
    monkeypatch.setattr(dev, "is_root_on_debian", lambda: False)
    monkeypatch.setattr(dev.sys, "platform", "linux")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("a process was started"))

    found, reason = dev.find_or_install_browser()

    assert found == ""
    assert "sudo apt-get install -y --no-install-recommends chromium fonts-inter" in reason


def test_browser_install_is_announced_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said_before: list[str] = []
    places = iter(["", "/usr/bin/chromium"])

    def run(command: list[str], **kwargs: object) -> subprocess.CompletedProcess[str]:
        said_before.append(capsys.readouterr().out)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(dev, "find_browser", lambda: next(places))
    monkeypatch.setattr(dev, "is_root_on_debian", lambda: True)
    monkeypatch.setattr(dev.sys, "platform", "linux")
    monkeypatch.setattr(subprocess, "run", run)

    assert dev.find_or_install_browser() == ("/usr/bin/chromium", "")
    assert "Installing chromium and fonts-inter" in said_before[0]


# --- check -----------------------------------------------------------------------------------------------------------


def test_lock_of_this_project_names_only_the_public_index() -> None:
    assert dev.strange_addresses((DEV.parent / "uv.lock").read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        'source = { registry = "https://mirror.example.com/simple" }',
        'source = { registry = "/opt/wheels" }',
        'sdist = { url = "https://pypi.org.example.com/a.tar.gz" }',
        'sdist = { url = "file:///opt/wheels/a.whl" }',
        'source = { git = "https://github.com/a/b?rev=1" }',
        'source = { directory = "../b" }',
    ],
)
def test_lock_is_refused_when_it_names_another_place(line: str) -> None:
    lock = f'[[package]]\nsource = {{ registry = "https://pypi.org/simple" }}\n{line}\n'

    assert len(dev.strange_addresses(lock)) == 1


def test_environment_example_lists_every_name_that_the_settings_read() -> None:
    project = DEV.parent
    example = (project / ".env.example").read_text()
    sources = [*(project / "config").rglob("*.py"), *(project / "keys").rglob("*.py")]

    pattern = re.compile(r"(?:env\.\w+\(|environ\.get\(|environ\[)\s*\"([A-Z][A-Z_]+)\"")
    read = {name for path in sources for name in pattern.findall(path.read_text())}
    missing = {name for name in read if not re.search(rf"\b{name}\b", example)}

    assert len(read) > 20
    assert missing - {"TEST_DATA_DIR"} == set()


def test_secret_of_a_run_is_found_in_what_it_left_and_not_where_it_belongs(tmp_path: Path) -> None:
    for name in (
        "report.xml",
        "desk/accounts.json",
        "desk/var/worker/secret",
        "desk/processes.log",
        "quiet.log",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("nothing" if name == "quiet.log" else "… planted-0815 …")

    found, count = dev.files_with("planted-0815", [tmp_path])

    assert [path.name for path in found] == ["processes.log", "report.xml"]
    assert count == 3

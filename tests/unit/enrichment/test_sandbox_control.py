"""The sandbox's switches, faults, seeds and its life as a process."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from decimal import Decimal

import httpx
import pytest

from tests.fakes.sandbox_process import (
    ACCOUNTS,
    API_SECRET,
    ROOT,
    SECRET,
    USER_ID,
    run_sandbox,
    write_accounts,
)

ITEMS = "/bulk-single-searchs/read"
FILES = "/search-files/read"
SUBSCRIPTION = "/a/actions/subscription-information"
BULK = {"name": "list", "task": "email-verification", "data": [["sbx-found@firm.example"]] * 3}
HISTORY = {
    "name": "last year",
    "task": "email-search",
    "rows": [["sbx-found", "Lee", "acme.example"], ["sbx-notfound", "Lee", "acme.example"], ["", "", ""]],
    "external_ids": ["a", "b", "c"],
    "created_at": "2025-03-04T10:00:00Z",
}


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    with run_sandbox(tmp_path_factory.mktemp("sandbox"), "--speed", "0") as running:
        yield running


@pytest.fixture
def sandbox(process):
    process.order("/control/reset", {})
    process.order("/control/settings", {"rate_limits": False})
    return process


@pytest.fixture
def started(tmp_path):
    """A function that runs a module command in the project, with nothing of our environment."""

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={"PATH": os.environ.get("PATH", ""), "DATA_DIR": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


# Faults


def test_hang_after_accept_creates_and_charges_but_never_answers(sandbox):
    sandbox.order("/control/faults", {"route": "/bulk-search", "kind": "hang_after_accept"})

    with pytest.raises(httpx.ReadTimeout):
        # Long enough for a busy sandbox to accept it first.
        sandbox.api.post("/bulk-search", json=BULK, timeout=2.0)
    sandbox.order("/control/advance", {"seconds": 30})

    assert [file["name"] for file in sandbox.post(FILES, {})["files"]] == ["list"]
    assert len(sandbox.charges()) == 3
    assert sandbox.post("/bulk-search", {**BULK, "name": "next"})["success"] is True


def test_hang_after_accept_waits_for_a_call_that_succeeds(sandbox):
    sandbox.order("/control/faults", {"route": "/bulk-search", "kind": "hang_after_accept"})

    refused = sandbox.post("/bulk-search", {})

    assert refused["success"] is False
    assert [fault["times"] for fault in sandbox.state()["faults"]] == [1]


@pytest.mark.parametrize(("kind", "files"), [("reset_after_accept", 1), ("reset_before", 0)])
def test_reset_breaks_the_connection_after_or_before_the_work(sandbox, kind, files):
    sandbox.order("/control/faults", {"route": "/bulk-search", "kind": kind})

    with pytest.raises(httpx.ReadError):
        sandbox.api.post("/bulk-search", json=BULK)

    assert len(sandbox.state()["files"]) == files


@pytest.mark.parametrize(
    ("fault", "status", "files"),
    [
        ({"kind": "status", "status": 503}, 503, 0),
        ({"kind": "status", "status": 500, "accept": True}, 500, 1),
        ({"kind": "html"}, 200, 1),
        ({"kind": "html", "status": 502, "accept": False}, 502, 0),
        ({"kind": "empty"}, 200, 1),
        ({"kind": "truncated"}, 200, 1),
    ],
)
def test_fault_spoils_one_answer_and_then_is_over(sandbox, fault, status, files):
    sandbox.order("/control/faults", {"route": "/bulk-search", **fault})

    spoilt = sandbox.api.post("/bulk-search", json=BULK)

    assert spoilt.status_code == status
    assert len(sandbox.state()["files"]) == files
    if fault["kind"] != "status":
        with pytest.raises(json.JSONDecodeError):
            spoilt.json()
    assert sandbox.post("/bulk-search", BULK)["success"] is True


def test_delay_answers_late_but_right(sandbox):
    sandbox.order("/control/faults", {"route": FILES, "kind": "delay", "seconds": 0.3})
    begin = time.monotonic()

    answer = sandbox.post(FILES, {})

    assert answer["success"] is True
    assert time.monotonic() - begin >= 0.3


def test_fault_happens_as_often_as_asked_on_every_nth_call(sandbox):
    sandbox.order("/control/faults", {"route": "*", "kind": "status", "status": 500, "times": 2, "every": 2})

    statuses = [sandbox.api.post(FILES, json={}).status_code for _ in range(6)]

    assert statuses == [200, 500, 200, 500, 200, 200]
    assert sandbox.state()["requests"][FILES]["faults"] == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/control/faults", {"kind": "explode"}),
        ("/control/faults", {"kind": "status", "route": "/nowhere"}),
        ("/control/faults", {"kind": "status", "times": 0}),
        ("/control/faults", {"kind": "delay", "seconds": "long"}),
        ("/control/faults", {"kind": "reset_before", "accept": True}),
        ("/control/faults", {"kind": "delay", "colour": "red"}),
        ("/control/settings", {"sped": 1}),
        ("/control/settings", {"speed": -1}),
        ("/control/settings", {"shuffle": 1}),
        ("/control/credits", {"user_id": USER_ID, "credits": "many"}),
        ("/control/credits", {"user_id": "nobody", "credits": "1"}),
        ("/control/advance", {"seconds": -1}),
        ("/control/seed", {"user_id": USER_ID, "files": [{**HISTORY, "task": "x"}]}),
        ("/control/seed", {"user_id": USER_ID, "files": [{**HISTORY, "created_at": "2999-01-01T00:00:00Z"}]}),
        ("/control/seed", {"user_id": USER_ID, "files": [HISTORY, {**HISTORY, "external_ids": ["a"]}]}),
        ("/control/seed", []),
    ],
)
def test_impossible_order_is_400_with_a_reason_and_changes_nothing(sandbox, path, body):
    before = sandbox.state()

    answer = sandbox.control.post(path, json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]
    assert sandbox.state() == before


def test_control_is_closed_to_web_pages(sandbox):
    answer = sandbox.control.post("/control/reset", json={}, headers={"Origin": "https://evil.example"})

    assert answer.status_code == 403


def test_health_is_ok_without_a_key(sandbox):
    answer = sandbox.control.get("/healthz")

    assert (answer.status_code, answer.json()) == (200, {"ok": True})


def test_reset_forgets_everything_and_returns_the_first_credits(sandbox):
    sandbox.post("/bulk-search", BULK)
    sandbox.order("/control/faults", {"kind": "delay"})
    sandbox.order("/control/advance", {"seconds": 30})

    sandbox.order("/control/reset", {})

    state = sandbox.state()
    assert (state["files"], state["faults"], state["requests"], sandbox.charges()) == ([], [], {}, [])
    assert state["accounts"][USER_ID]["credits"] == "1000"
    assert state["settings"]["rate_limits"] is True


# Seeded history


def test_seed_writes_finished_bulks_with_charges_of_their_time(sandbox):
    answer = sandbox.order("/control/seed", {"user_id": USER_ID, "files": [HISTORY]})

    file, charges = answer["files"][0], sandbox.charges()
    items = sandbox.post(ITEMS, {"mode": "bulk", "file": file["file"]})["items"]
    assert [item["status"] for item in file["items"]] == ["FOUND", "NOT_FOUND", "BAD_INPUT"]
    assert [item["credits"] for item in file["items"]] == ["1", "0", "0"]
    assert {item["_id"] for item in items} == {item["_id"] for item in file["items"]}
    assert (file["charged"], answer["charged"], file["finished"]) == ("1", "1", True)
    assert [(row["at"][:16], row["external_id"], row["file"]) for row in charges] == [
        ("2025-03-04T10:00", "a", file["file"])
    ]
    assert sandbox.state()["files"][0]["created_at"] == "2025-03-04T10:00:00.000Z"
    assert sandbox.state()["accounts"][USER_ID]["credits"] == "999"


def test_seed_writes_a_bulk_once_when_it_is_repeated(sandbox):
    body = {"user_id": USER_ID, "files": [HISTORY, {**HISTORY, "name": "same moment"}]}

    first = sandbox.order("/control/seed", body)
    second = sandbox.order("/control/seed", body)

    assert [file["is_new"] for file in first["files"]] == [True, True]
    assert [file["is_new"] for file in second["files"]] == [False, False]
    assert [file["items"] for file in first["files"]] == [file["items"] for file in second["files"]]
    assert len(sandbox.charges()) == 2
    assert len(sandbox.post(FILES, {})["files"]) == 2


# Life as a process


def test_restart_keeps_balance_ledger_and_running_work(tmp_path):
    with run_sandbox(tmp_path, "--speed", "0") as sandbox:
        sandbox.post("/bulk-search", BULK)
        sandbox.order("/control/advance", {"seconds": 30})
        running = sandbox.post("/email-verification", {"email": "sbx-found@x.example"})["item"]["_id"]
        before = sandbox.charges(), sandbox.state()["accounts"][USER_ID]["credits"]

    with run_sandbox(tmp_path, "--speed", "0") as sandbox:
        after = sandbox.charges(), sandbox.state()["accounts"][USER_ID]["credits"]
        pending = sandbox.post(ITEMS, {"id": running})["items"][0]["status"]
        sandbox.order("/control/advance", {"seconds": 30})
        ended = sandbox.post(ITEMS, {"id": running})["items"][0]["status"]

    assert before == after
    assert before[1] == "999.7"
    assert (pending, ended) == ("NONE", "FOUND")


def test_kill_loses_nothing_that_was_accepted(tmp_path):
    with run_sandbox(tmp_path, "--speed", "0") as sandbox:
        file_id = sandbox.post("/bulk-search", BULK)["file"]
        sandbox.process.send_signal(signal.SIGKILL)
        sandbox.process.wait(10)

    with run_sandbox(tmp_path, "--speed", "1000") as sandbox:
        sandbox.order("/control/advance", {"seconds": 30})
        file = sandbox.post(FILES, {"file": file_id})["files"][0]
        charges = sandbox.charges()

    assert file["finished"] is True
    assert sum(Decimal(row["credits"]) for row in charges) == Decimal("0.3")


def test_state_folder_is_private_and_holds_no_secret(tmp_path):
    with run_sandbox(tmp_path, "--verbose") as sandbox:
        sandbox.post("/bulk-search", BULK)
        sandbox.api.post("/email-search?key=planted", content=b"planted")
        command = (
            subprocess.run(
                ["ps", "-o", "args=", "-p", str(sandbox.process.pid)], capture_output=True, text=True
            )
        ).stdout
        folder = tmp_path / "s"
        modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        stored = b"".join(path.read_bytes() for path in folder.iterdir())

    log = (tmp_path / "stderr").read_text()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes == {0o600}
    assert USER_ID.encode() in stored
    assert "POST /api/bulk-search 200" in log
    for text in (stored.decode("latin-1"), log, command):
        assert SECRET not in text
        assert API_SECRET not in text
    assert "planted" not in log


def test_log_stays_empty_unless_asked_for(tmp_path):
    with run_sandbox(tmp_path) as sandbox:
        sandbox.post("/bulk-search", BULK)
        sandbox.api.post("/nowhere", json={})

    assert (tmp_path / "stderr").read_text() == ""


def test_rows_are_charged_by_the_ticker_when_nobody_reads(tmp_path):
    with run_sandbox(tmp_path, "--speed", "200") as sandbox:
        sandbox.post("/bulk-search", BULK)
        deadline = time.monotonic() + 10
        with sqlite3.connect(f"file:{tmp_path}/s/sandbox.sqlite3?mode=ro", uri=True) as database:
            count = 0
            while count < 3 and time.monotonic() < deadline:
                time.sleep(0.05)
                count = database.execute("SELECT COUNT(*) FROM charges").fetchone()[0]
        database.close()

    assert count == 3


def test_ledger_refuses_changes_in_the_database_itself(tmp_path):
    with run_sandbox(tmp_path, "--speed", "0") as sandbox:
        sandbox.post("/bulk-search", BULK)
        sandbox.order("/control/advance", {"seconds": 30})
    database = sqlite3.connect(tmp_path / "s" / "sandbox.sqlite3")

    for statement in ("DELETE FROM charges", "UPDATE charges SET credits_micro = 1"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.execute(statement)

    database.close()


@pytest.mark.parametrize("source", ["SANDBOX_ACCOUNTS_FILE", "ICYPEAS_API_KEY"])
def test_accounts_come_from_the_environment_when_no_option_is_given(tmp_path, source):
    value = str(write_accounts(tmp_path)) if source == "SANDBOX_ACCOUNTS_FILE" else f" {SECRET}\n"

    with run_sandbox(tmp_path, environment={source: value}, accounts=()) as sandbox:
        answer = sandbox.post(SUBSCRIPTION, {})

    assert answer["credits"] == (1000 if source == "SANDBOX_ACCOUNTS_FILE" else 100_000)
    assert SECRET not in answer["userId"]


def test_known_account_keeps_its_balance_when_its_secret_was_replaced(tmp_path):
    with run_sandbox(tmp_path) as sandbox:
        sandbox.order("/control/credits", {"user_id": USER_ID, "credits": "7"})
    renewed = tmp_path / "renewed" / "accounts.json"
    renewed.parent.mkdir()
    renewed.write_text(json.dumps({"accounts": [{**ACCOUNTS[0], "secret": "the-new-one"}]}))
    renewed.chmod(0o600)

    with (
        run_sandbox(tmp_path, "--accounts", str(renewed)) as sandbox,
        sandbox.client("the-new-one") as client,
    ):
        answers = client.post(SUBSCRIPTION, json={}), sandbox.api.post(SUBSCRIPTION, json={})

    assert (answers[0].json()["credits"], answers[1].status_code) == (7, 401)


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (f'{{"accounts": [{{"secret": "{SECRET}"}}]}}', 0o644, "chmod 600"),
        (f'{{"accounts": [{{"secret": "{SECRET}", ]}}', 0o600, "must be JSON"),
        ('{"accounts": []}', 0o600, "no account"),
        (f'{{"accounts": [{{"secret": "{SECRET}", "credits": "many"}}]}}', 0o600, "credits"),
        (f'{{"accounts": [{{"secret": "{SECRET}"}}, {{"secret": "{SECRET}"}}]}}', 0o600, "share one secret"),
        (f'{{"accounts": [{{"secret": "{SECRET}", "user_id": 7}}]}}', 0o600, "user_id must be text"),
        ('{"accounts": [{"user_id": "u"}]}', 0o600, "has no secret"),
    ],
)
def test_start_is_refused_with_one_sentence_when_the_accounts_are_faulty(
    tmp_path, started, content, mode, words
):
    path = tmp_path / "accounts.json"
    path.write_text(content)
    path.chmod(mode)

    ended = started("-m", "enrichment.providers.icypeas.sandbox", "--port", "0", "--accounts", str(path))

    assert ended.returncode == 1
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert SECRET not in ended.stderr


def test_start_is_refused_without_any_account(started):
    ended = started("-m", "enrichment.providers.icypeas.sandbox", "--port", "0")

    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "ICYPEAS_API_KEY" in ended.stderr


def test_start_is_refused_with_one_sentence_when_the_port_is_taken(sandbox, started):
    port = sandbox.url.rpartition(":")[2]

    ended = started("-m", "enrichment.providers.icypeas.sandbox", "--port", port, ICYPEAS_API_KEY="x")

    assert ended.returncode == 1
    assert ended.stderr == f"Port {port} is taken: stop what uses it or choose another with --port.\n"


def test_process_ends_at_once_on_sigterm_while_a_call_hangs(tmp_path):
    with run_sandbox(tmp_path, "--speed", "0") as sandbox:
        sandbox.order("/control/faults", {"route": FILES, "kind": "hang_after_accept"})
        with pytest.raises(httpx.ReadTimeout):
            sandbox.api.post(FILES, json={}, timeout=0.3)
        sandbox.process.terminate()

        status = sandbox.process.wait(30)  # half of how long the call would hang

    assert status == 0


@pytest.mark.parametrize(
    ("profile", "look"),
    [
        ("key-revoked", lambda sandbox: sandbox.api.post(FILES, json={}).status_code == 401),
        ("out-of-credits", lambda sandbox: sandbox.post("/bulk-search", BULK)["success"] is False),
        (
            "rate-limited",
            lambda sandbox: [sandbox.api.post(FILES, json={}).status_code for _ in range(4)][3] == 429,
        ),
        (
            "slow",
            lambda sandbox: (
                sandbox.post(FILES, {})["success"] and sandbox.state()["settings"]["speed"] == 0.25
            ),
        ),
        ("normal", lambda sandbox: sandbox.state()["faults"] == []),
        (
            "flaky",
            lambda sandbox: (
                500 in [sandbox.api.post(SUBSCRIPTION, json={}).status_code for _ in range(9)]
                and {fault["kind"] for fault in sandbox.state()["faults"]} >= {"reset_before", "truncated"}
            ),
        ),
    ],
)
def test_profile_makes_the_sandbox_behave_as_its_name_says(tmp_path, profile, look):
    with run_sandbox(tmp_path, "--profile", profile) as sandbox:
        assert look(sandbox)


def test_manage_command_serves_until_it_is_stopped(tmp_path):
    options = ["--port", "0", "--state", str(tmp_path / "s"), "--accounts", str(write_accounts(tmp_path))]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings.test"}
    with (
        (tmp_path / "stderr").open("w") as errors,
        subprocess.Popen(
            [sys.executable, "manage.py", "sandbox", *options, "--speed", "10"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "listening on" in line, (tmp_path / "stderr").read_text()
        url = line.split()[-1]
        answer = httpx.post(
            f"{url}{SUBSCRIPTION}", json={}, headers={"Authorization": SECRET}, trust_env=False
        )
        process.terminate()

        status = process.wait(30)

    assert (answer.json()["credits"], status) == (1000, 0)


# The page for people


def test_page_shows_accounts_calls_and_charges(sandbox):
    sandbox.post("/reverse-email-lookup", {"email": "ann<b>@sbx-found.example"})
    sandbox.post("/reverse-email-lookup", {"email": "ann@sbx-found.example"})

    page = sandbox.control.get("/control/")

    assert page.headers["content-type"].startswith("text/html")
    assert "ann@sbx-found.example" in page.text
    assert "<b>" not in page.text
    assert USER_ID in page.text
    assert SECRET not in page.text


@pytest.mark.parametrize(
    "profile",
    [
        "normal",
        "slow",
        "flaky",
        "out-of-credits",
        "key-revoked",
        "api-off",
        "rate-limited",
        "unpaid",
        "keys-retired",
        "keys-forbidden",
    ],
)
def test_page_chooses_a_profile_and_comes_back(sandbox, profile):
    answer = sandbox.control.post("/control/profile", data={"profile": profile})

    assert (answer.status_code, answer.headers["location"]) == (303, "/control/")
    assert f"value='{profile}' aria-pressed=true" in sandbox.control.get("/control/").text


def test_switched_off_api_refuses_every_key(sandbox):
    sandbox.order("/control/profile", {"profile": "api-off"})

    assert sandbox.api.post("/email-verification", json={"email": "ann@acme.example"}).status_code == 401
    sandbox.order("/control/profile", {"profile": "normal"})
    assert sandbox.api.post("/email-verification", json={"email": "ann@acme.example"}).status_code == 200


def test_page_sets_switches_speed_and_credits(sandbox):
    sandbox.control.post(
        "/control/settings", data={"rate_limits": "true", "scrapes_later": "true", "speed": "7"}
    )
    sandbox.control.post("/control/credits", data={"user_id": USER_ID, "credits": "12.5"})

    state = sandbox.state()
    assert (state["settings"]["scrapes_later"], state["settings"]["shuffle"], state["settings"]["speed"]) == (
        True,
        False,
        7,
    )
    assert state["accounts"][USER_ID]["credits"] == "12.5"
    assert sandbox.control.post("/control/settings", data={"speed": "fast"}).status_code == 400


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example:8100"}, {"Origin": "null"}]
)
def test_page_of_somebody_else_changes_nothing(sandbox, headers):
    assert sandbox.control.post("/control/reset", data={}, headers=headers).status_code == 403
    assert sandbox.control.get("/control/", headers=headers).status_code == 403

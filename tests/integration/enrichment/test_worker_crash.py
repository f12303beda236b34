"""Real worker processes: absent, killed at the worst moment, two at once."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.installation import Installation, run_installation
from tests.fakes.sandbox_process import SECRET, USER_ID, SandboxProcess, run_sandbox

pytestmark = [pytest.mark.worker, pytest.mark.timeout(420)]

FACTOR = 20
ROWS = int(os.environ.get("TRIPLED_ROWS", "300"))  # of the list whose messages come three times; 2000 by hand
START = """
ROWS, POISON = 900, {}
import io
from enrichment.services import submission
from keys.models import KeyRecord
from people.audit import Actor
from people.models import User

actor = Actor(User.objects.get())
rows = "".join(f"{POISON.get(n, f'Ann{n}')};Lee{n};firm{n}.example\\r\\n" for n in range(ROWS))
job = submission.draft_from_upload(
    actor, operation="email-search", stream=io.BytesIO(("First name;Last name;Website\\r\\n" + rows).encode()), file_name="l.csv"
)
order = submission.StartOrder(key=KeyRecord.objects.get(), purpose="crash", freshness_days=90, token=job.start_token)
submission.start_job(actor, job.id, order)
"""


@pytest.fixture
def own_sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    folder = tmp_path / "sandbox"
    folder.mkdir()
    with run_sandbox(folder, "--speed", str(FACTOR)) as sandbox:
        yield sandbox


@pytest.fixture
def installation(tmp_path: Path, own_sandbox: SandboxProcess) -> Iterator[Installation]:
    folder = tmp_path / "desk"
    folder.mkdir()
    with run_installation(folder, base_url=f"{own_sandbox.url}/api", secret=SECRET, factor=FACTOR) as running:
        # One batch at a time: else the kill may meet a second one between its intent and its send, which nobody can look up.
        running.environment["BATCHES_IN_FLIGHT"] = "1"
        yield running


def must(done: object, *, timeout_s: float = 150) -> None:
    """Wait until `done()` is true."""
    assert callable(done)
    until = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.1)


def has_state(installation: Installation, state: str) -> Callable[[], bool]:
    return lambda: installation.query("SELECT state FROM enrichment_enrichmentjob") == [(state,)]


def test_job_survives_the_death_of_its_worker_with_a_charged_unanswered_submit(
    installation: Installation, own_sandbox: SandboxProcess
) -> None:
    installation.make_person_and_key()
    own_sandbox.order("/control/faults", {"route": "/bulk-search", "kind": "hang_after_accept", "times": 1})
    started = installation.manage("shell", "-v0", "--no-imports", "-c", START)
    assert started.returncode == 0, started.stderr

    time.sleep(2)
    assert has_state(installation, "queued")()
    installation.start_scheduler()
    worker = installation.start_worker()
    must(lambda: own_sandbox.state()["files"])
    assert installation.query("SELECT state FROM enrichment_batch") == [("sending",)]
    installation.kill(worker)
    installation.start_worker()
    installation.start_worker()
    must(has_state(installation, "completed"))

    (counts,) = installation.query(
        "SELECT rows_total, rows_found + rows_not_found, rows_uncertain, rows_waiting + rows_in_flight FROM enrichment_enrichmentjob"
    )
    assert counts == (900, 900, 0, 0)
    charges = own_sandbox.charges()
    assert max(Counter(str(row["input"]) for row in charges).values()) == 1
    assert len(charges) == installation.query("SELECT rows_found FROM enrichment_enrichmentjob")[0][0]
    assert len(own_sandbox.state()["files"]) == 2
    requests = own_sandbox.state()["requests"]
    assert sum(counted["429"] for counted in requests.values()) == 0
    assert own_sandbox.state()["accounts"]["user-one"]["secret_received"]
    assert installation.files_with(SECRET) == []


def test_batches_that_end_their_workers_are_left_out_and_the_rest_goes_on(
    installation: Installation, own_sandbox: SandboxProcess
) -> None:
    installation.environment |= {"BATCH_ROWS": "10"}
    installation.make_person_and_key()
    poison = "ROWS, POISON = 60, {3: 'Exit', 23: 'Memory', 43: 'Hang'}"
    started = installation.manage(
        "shell", "-v0", "--no-imports", "-c", START.replace("ROWS, POISON = 900, {}", poison)
    )
    assert started.returncode == 0, started.stderr

    installation.start_scheduler()
    for _ in range(2):
        installation.start_worker(app="tests.fakes.poisoned_worker")
    must(has_state(installation, "completed"), timeout_s=200)

    failed = installation.query(
        "SELECT position, reason_code FROM enrichment_enrichmentrow WHERE state = 'failed'"
    )
    first = min(position for position, _ in failed)
    assert sorted((position - first) // 10 for position, _ in failed) == [0] * 10 + [2] * 10 + [4] * 10
    assert {code for _, code in failed} == {"poison"}
    claims = "SELECT claims FROM enrichment_batch WHERE state = 'refused'"
    assert installation.query(claims) == [(4,)] * 3  # three that ended a worker; the fourth left it out
    assert installation.query("SELECT rows_found + rows_not_found FROM enrichment_enrichmentjob") == [(30,)]
    asked = [str(row["input"]) for row in own_sandbox.charges()]
    assert (
        len(asked)
        == len(set(asked))
        == installation.query("SELECT rows_found FROM enrichment_enrichmentjob")[0][0]
    )


def test_messages_that_come_three_times_and_again_after_a_second_pay_each_row_once(
    installation: Installation, own_sandbox: SandboxProcess
) -> None:
    own_sandbox.order("/control/credits", {"user_id": USER_ID, "credits": str(2 * ROWS)})
    installation.environment |= {"BATCH_ROWS": "20", "BATCHES_IN_FLIGHT": "4"}
    installation.make_person_and_key()
    own_sandbox.order(
        "/control/faults", {"route": "/bulk-search", "kind": "delay", "seconds": 2, "every": 4, "times": 3}
    )
    tripled = START.replace("900", str(ROWS)).replace("import io", "import io, tests.fakes.tripled_worker")
    started = installation.manage("shell", "-v0", "--no-imports", "-c", tripled)
    assert started.returncode == 0, started.stderr

    for number in range(2):
        installation.start_scheduler(f"beat-{number}", app="tests.fakes.tripled_worker")
        installation.start_worker(app="tests.fakes.tripled_worker")
    must(has_state(installation, "completed"), timeout_s=200)

    def deliveries() -> list[str]:
        log = (installation.folder / "processes.log").read_text()
        return re.findall(r"Task enrichment\.tasks\.run_job\[([^]]+)\] received", log)

    assert len(deliveries()) >= 3, "no message came three times"
    if os.environ.get("TEST_REDIS_URL"):
        # Perhaps only now: while the job runs its slices may hold every place that the workers have.
        must(lambda: len(deliveries()) > len(set(deliveries())), timeout_s=30)

    (found,) = installation.query("SELECT rows_found, rows_uncertain FROM enrichment_enrichmentjob")
    asked = [str(row["input"]) for row in own_sandbox.charges()]
    assert len(asked) == len(set(asked)) == found[0]
    assert found[1] == 0
    assert len(own_sandbox.state()["files"]) == ROWS // 20


def test_three_schedulers_do_what_one_does(installation: Installation, own_sandbox: SandboxProcess) -> None:
    installation.environment |= {"BATCH_ROWS": "30"}
    installation.make_person_and_key()
    started = installation.manage("shell", "-v0", "--no-imports", "-c", START.replace("900", "300"))
    assert started.returncode == 0, started.stderr

    schedulers = [installation.start_scheduler(f"beat-{n}") for n in range(3)]
    for _ in range(2):
        installation.start_worker()
    must(has_state(installation, "completed"))

    assert [scheduler.poll() for scheduler in schedulers] == [None, None, None]
    asked = [str(row["input"]) for row in own_sandbox.charges()]
    assert (
        len(asked)
        == len(set(asked))
        == installation.query("SELECT rows_found FROM enrichment_enrichmentjob")[0][0]
    )
    assert len(own_sandbox.state()["files"]) == 10
    (sums,) = installation.query(
        "SELECT kind, count(*) FROM keys_ledgerentry WHERE kind = 'reserved' GROUP BY kind"
    )
    assert sums[1] == 1

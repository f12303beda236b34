"""The embedded broker between real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

MESSAGES = 2_000
PRODUCERS = 2
CONSUMERS = 3

CONNECT = """
import json, sys
from pathlib import Path
from kombu import Connection, Exchange, Queue
from config import filesystem_broker
filesystem_broker.register()
options = filesystem_broker.transport_options(Path(sys.argv[1]))
queue = Queue("work", Exchange("work", type="direct"), routing_key="work")
"""
PRODUCE = (
    CONNECT
    + """
start, stop = int(sys.argv[2]), int(sys.argv[3])
with Connection("embedded://", transport_options=options) as connection:
    producer = connection.Producer()
    for number in range(start, stop):
        producer.publish({"id": number}, exchange=queue.exchange, routing_key="work", declare=[queue])
"""
)
CONSUME = (
    CONNECT
    + """
seen = []
def take(body, message):
    seen.append(body["id"])
    message.ack()
with Connection("embedded://", transport_options=options) as connection:
    with connection.Consumer(queue, callbacks=[take], accept=["json"]) as consumer:
        consumer.qos(prefetch_count=1)
        while not Path(sys.argv[2]).exists() or queue(connection.default_channel).queue_declare(passive=True).message_count:
            try:
                connection.drain_events(timeout=0.2)
            except TimeoutError:
                pass
print(json.dumps(seen))
"""
)


@dataclass
class CeleryWorker:
    process: subprocess.Popen[bytes]
    folder: Path
    environment: dict[str, str]

    @property
    def log(self) -> Path:
        return self.folder / "worker.log"

    def send(self, times: int) -> None:
        script = (
            "import sys, time; from latency_app import note\n"
            "for _ in range(int(sys.argv[1])): note.apply_async([time.time_ns()], queue='urgent'); time.sleep(0.1)"
        )
        command = [sys.executable, "-c", script, str(times)]
        subprocess.run(command, env=self.environment, cwd=self.folder, check=True, timeout=60)

    def latencies(self) -> list[float]:
        """Seconds between sending and starting, one for each task that ran."""
        path = self.folder / "latencies"
        return [float(value) for value in path.read_text().split()] if path.exists() else []

    def children(self) -> list[int]:
        table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True).stdout
        pairs = (line.split() for line in table.splitlines())
        return [int(pid) for pid, parent in pairs if int(parent) == self.process.pid]


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.worker
def test_every_message_arrives_once_when_producers_and_consumers_run_at_the_same_time(tmp_path: Path) -> None:
    all_sent = tmp_path / "all-sent"
    consumers = [start(CONSUME, tmp_path / "broker", all_sent) for _ in range(CONSUMERS)]
    share = MESSAGES // PRODUCERS
    producers = [start(PRODUCE, tmp_path / "broker", n * share, (n + 1) * share) for n in range(PRODUCERS)]

    errors = [producer.communicate(timeout=90)[1] for producer in producers]
    all_sent.touch()
    outputs = [consumer.communicate(timeout=90) for consumer in consumers]

    assert [*errors, *(error for _, error in outputs)] == [""] * (PRODUCERS + CONSUMERS)
    counts = Counter(number for output, _ in outputs for number in json.loads(output))
    assert set(counts) == set(range(MESSAGES))
    assert max(counts.values()) == 1


@pytest.mark.worker
def test_unread_message_waits_for_the_next_consumer_when_the_first_was_killed(tmp_path: Path) -> None:
    broker = tmp_path / "broker"
    start(PRODUCE, broker, 0, 5).communicate(timeout=60)
    hold = CONSUME.replace("message.ack()", "print('held', flush=True); import time; time.sleep(600)")
    held = start(hold, broker, tmp_path / "never")
    assert held.stdout is not None
    assert held.stdout.readline() == "held\n"

    held.kill()
    held.communicate(timeout=10)
    (tmp_path / "all-sent").touch()
    output, errors = start(CONSUME, broker, tmp_path / "all-sent").communicate(timeout=60)

    assert errors == ""
    assert sorted(json.loads(output)) == [1, 2, 3, 4]  # what the killed one held is the sweep's to send again


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[CeleryWorker]:
    """A Celery worker with two children, the project's settings and one task, which writes down how old its message is."""
    (tmp_path / "latency_app.py").write_text(
        "import time\n"
        "from pathlib import Path\n"
        "from celery import Celery\n"
        "from config import celery as config_celery\n"
        "app = Celery('latency', fixups=[])\n"
        f"data_dir = Path({str(tmp_path)!r})\n"
        "app.conf.update(config_celery.celery_settings(broker_url='embedded://', data_dir=data_dir, sweep_s=10.0))\n"
        "@app.task(name='note')\n"
        "def note(sent_ns):\n"
        "    with (data_dir / 'latencies').open('a') as file:\n"
        "        file.write(f'{(time.time_ns() - sent_ns) / 1e9}\\n')\n"
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{Path(__file__).parents[2]}:{tmp_path}",
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "TEST_DATA_DIR": str(tmp_path),
        "READY_FILE": str(tmp_path / "ready"),
    }
    with (tmp_path / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "latency_app", "worker", "-Q", "urgent,work", "-c", "2"],
            env=environment,
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
        started = CeleryWorker(process, tmp_path, environment)
        try:
            wait_until((tmp_path / "ready").exists, started.log)
            yield started
        finally:
            process.terminate()
            try:
                process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.mark.worker
def test_worker_starts_a_task_soon_after_it_was_sent(worker: CeleryWorker) -> None:
    worker.send(10)
    wait_until(lambda: len(worker.latencies()) == 10, worker.log)
    worker.process.terminate()

    assert worker.process.wait(timeout=40) == 0
    assert sorted(worker.latencies())[5] < 1.0  # the poll is 0.05 s; the rest is room for a busy machine
    assert list((worker.folder / "broker" / "processed").iterdir()) == []


@pytest.mark.worker
def test_worker_goes_on_after_its_idle_children_were_killed(worker: CeleryWorker) -> None:
    """An idle child waits for work; where children share one pipe, it dies with the lock on it."""
    for round_number in (1, 2, 3):
        for child in worker.children():
            os.kill(child, signal.SIGKILL)
        worker.send(2)
        wait_until(lambda done=round_number * 2: len(worker.latencies()) >= done, worker.log)


def wait_until(condition: Callable[[], bool], log: Path, timeout_s: float = 60.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"it did not come; the worker said:\n{log.read_text()}"
        time.sleep(0.05)

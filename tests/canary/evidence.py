"""Everything that the installation left behind, handed to the search; and the control, which must be found in each kind of it."""

from __future__ import annotations

import io
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import redis

from tests.canary.plants import Searched
from tests.canary.scene import BELONGS, ROOT, Scene

CONTROL = "control"
# Every kind of place; the control is planted in each, and the search must find it in each.
PLACES = (
    "logs",
    "database",
    "broker",
    "files",
    "pages",
    "exports",
    "audit log, exported",
    "commands",
    "processes",
    "coverage data",
    "crash reports",
)


def search_processes(scene: Scene, searched: Searched) -> dict[str, int]:
    """Command line and environment of every process of the installation; how many of each role."""
    found: dict[str, int] = {}
    decoy = subprocess.Popen(
        [
            "sleep",
            "60",
        ],
        env={"DATA_DIR": str(scene.data_dir), "PROCESS_ROLE": "decoy", "CONTROL": scene.value(CONTROL)},
    )
    try:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment, command = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
            except OSError:
                continue  # it has ended, or is somebody else's
            names = dict(pair.partition(b"=")[::2] for pair in environment.split(b"\0") if b"=" in pair)
            if names.get(b"DATA_DIR") != os.fsencode(scene.data_dir) or int(folder.name) == os.getpid():
                continue
            role = names.get(b"PROCESS_ROLE", b"").decode()
            found[role] = found.get(role, 0) + 1
            searched.look("processes", f"{role}, environment", environment, allowed=BELONGS.get(role, ()))
            searched.look("processes", f"{role}, command line", command)
    finally:
        decoy.kill()
        decoy.wait()
    return found


def search_coverage(scene: Scene, searched: Searched, key_name: str) -> None:
    """A command that holds a secret, run under the measurement of coverage: its data, and what it says."""
    data = scene.folder / "coverage.data"
    measured = [
        "-m",
        "coverage",
        "run",
        f"--data-file={data}",
        f"--context={scene.value(CONTROL)}",
        "manage.py",
        "key",
        "test",
        key_name,
    ]
    done = scene.run(*measured, with_secrets=True)
    assert data.exists(), done.stderr.decode(errors="replace")[-500:]
    searched.look("commands", "key test", done.stdout + done.stderr)
    searched.look("coverage data", data.name, data.read_bytes())


def search_crashes(scene: Scene, searched: Searched, before: set[Path]) -> None:
    """Images of processes that died, where the system writes them; and what the crashed ones said."""
    log = (scene.folder / "worker.log").read_bytes()
    start = log.find(b"Fatal Python error")
    assert start >= 0, "no worker has crashed"
    searched.look("crash reports", "worker.log, from the crash on", log[start : start + 200_000])
    # The control dies like a worker would that does not refuse to leave an image behind.
    report = subprocess.run(
        [
            sys.executable,
            "-X",
            "faulthandler",
            "-c",
            f"def {scene.value(CONTROL)}():\n import os; os.abort()\n{scene.value(CONTROL)}()",
        ],
        cwd=scene.folder,
        capture_output=True,
        preexec_fn=_let_it_dump,
        env={"PATH": os.environ.get("PATH", "")},
    )
    assert report.returncode == -signal.SIGABRT
    searched.look("crash reports", "the control's report", report.stderr)
    for path in images(scene) - before:
        searched.look("crash reports", path.name, path.read_bytes())
        path.unlink()


def _let_it_dump() -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def images(scene: Scene) -> set[Path]:
    """Images of memory in the folders where the installation's processes work."""
    folders = (ROOT, scene.folder, scene.data_dir)
    return {path for folder in folders for path in folder.glob("core*") if path.is_file()}


def search_broker(scene: Scene, searched: Searched) -> None:
    """What waits in the broker, after a message of the control's."""
    from config.celery import app  # late: the environment of this process had to be made first

    control = scene.value(CONTROL)
    app.send_task("canary.nobody", args=[control], queue="work")
    if not scene.broker_url.startswith("redis"):
        for path in (scene.data_dir / "broker").rglob("*"):
            if path.is_file():
                searched.look("broker", path.name, path.read_bytes())
        return
    with redis.Redis.from_url(scene.broker_url) as broker:
        for name in broker.scan_iter():
            kind = broker.type(name)
            if kind == b"list":
                values = broker.lrange(name, 0, -1)
            elif kind == b"hash":
                values = [part for pair in broker.hgetall(name).items() for part in pair]
            elif kind == b"set":
                values = list(broker.smembers(name))
            elif kind == b"zset":
                values = broker.zrange(name, 0, -1)
            else:
                values = [broker.get(name) or b""]
            searched.look("broker", name.decode(errors="replace"), b"\n".join([name, *values]))


def search_database(scene: Scene, searched: Searched) -> None:
    """The file of SQLite as it lies on the disk, what was deleted included; or every row of PostgreSQL, and the whole dump."""
    if not scene.database:
        with sqlite3.connect(scene.data_dir / "db.sqlite3") as database:
            dump = "\n".join(database.iterdump()).encode(errors="surrogatepass")
        searched.look("database", "dump of SQLite", dump)
        for path in scene.data_dir.glob("db.sqlite3*"):
            searched.look("database", path.name, path.read_bytes())
        return
    with psycopg.connect(scene.environment["DATABASE_URL"]) as connection:
        tables = connection.execute(
            "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        for (table,) in tables:
            text = io.BytesIO()
            with connection.cursor().copy(f"COPY {table} TO STDOUT") as rows:
                for piece in rows:
                    text.write(bytes(piece))
            searched.look("database", table, text.getvalue())


def search_files(scene: Scene, searched: Searched) -> None:
    """Everything below the data folder but `worker/` (where secrets live), the sandbox's state, and every process's output."""
    (scene.data_dir / "files").mkdir(exist_ok=True)
    (scene.data_dir / "files" / "control.csv").write_text(scene.value(CONTROL))
    for path in _files(scene.data_dir):
        if path.is_relative_to(scene.data_dir / "worker") or path.name.startswith("db.sqlite3"):
            continue
        searched.look("files", str(path.relative_to(scene.data_dir)), path.read_bytes())
    for path in _files(scene.folder / "sandbox"):
        searched.look("files", f"sandbox/{path.name}", path.read_bytes())
    for path in scene.folder.glob("*.log"):
        searched.look("logs", path.name, path.read_bytes())


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def wait_for_quiet(seconds: float = 1.0) -> None:
    """Until what was written last is on the disk."""
    time.sleep(seconds)

"""`python -m tests.canary`: status 0 when no planted secret was found and the control was found everywhere."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.canary.plants import Searched
from tests.canary.scene import KEYS, Scene


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="canary", description=__doc__)
    parser.add_argument("--keep", type=Path, help="an empty folder for everything that is left behind")
    options = parser.parse_args()
    if not sys.platform.startswith("linux"):
        say("The canary reads /proc, so it runs on Linux alone.")
        return 1
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="enrichment-desk-canary-") as folder:
        place = options.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        searched = _run(place)
    return _report(searched, time.monotonic() - started)


def _run(folder: Path) -> Searched:
    scene = Scene(folder)
    searched = Searched(list(scene.plants.values()))
    try:
        scene.data_dir.mkdir(mode=0o700)
        scene.start_stores()
        os.environ.clear()
        os.environ.update(scene.environment)

        import django  # late: the environment had to be made first

        django.setup()
        from django.db import connection  # likewise

        from tests.canary import evidence, journeys  # likewise

        before = evidence.images(scene)
        scene.place_secrets()
        scene.fill_stores()
        there = journeys.Journeys(scene, searched.look, say)
        there.set_up()
        scene.start()
        there.run()
        flown = scene.received()
        assert all(
            flown.get(f"user-{system}")
            for system in KEYS
            if system not in ("refused", "leaky", "segfault", "abort")
        ), flown
        roles = evidence.search_processes(scene, searched)
        assert {"web", "worker", "scheduler", "cli", "decoy"} <= set(roles), roles
        evidence.search_coverage(scene, searched, there.keys["environment"].name)
        connection.close()
        scene.stop()
        evidence.wait_for_quiet()
        evidence.search_crashes(scene, searched, before)
        evidence.search_broker(scene, searched)
        evidence.search_database(scene, searched)
        evidence.search_files(scene, searched)
    finally:
        scene.close()
    return searched


def _report(searched: Searched, seconds: float) -> int:
    from tests.canary.evidence import CONTROL, PLACES  # late, as above

    say("")
    say(f"{'place':<22}{'things':>8}{'KB':>10}  {'control':<10}secrets")
    is_well = True
    for place in PLACES:
        hits = [hit for hit in searched.hits if hit.place == place]
        controls = [hit for hit in hits if hit.source == CONTROL]
        leaks = [hit for hit in hits if hit.source != CONTROL]
        is_well &= bool(controls) and not leaks
        things, size = searched.things.get(place, 0), searched.sizes.get(place, 0) // 1024
        say(
            f"{place:<22}{things:>8,}{size:>10,}  {'found' if controls else 'NOT FOUND':<10}{len(leaks) or 'none'}"
        )
    for hit in searched.hits:
        if hit.source != CONTROL:
            say(f"LEAK  {hit.source}: {hit.shape}, in {hit.place}: {hit.name}")
    planted = len(searched.plants) - 1
    verdict = "none was found" if is_well else "NOT WELL"
    say(f"{planted} secrets planted, each in 10 shapes; {verdict}. {seconds:.0f} s")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())

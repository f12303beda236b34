"""The canary: secrets planted in a real installation are found nowhere, and the search is known to see."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.canary.plants import Searched, make_plant, shapes

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.worker
@pytest.mark.timeout(540)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_planted_secrets_are_found_nowhere_and_the_control_everywhere() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.canary"], cwd=ROOT, capture_output=True, text=True, timeout=520
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "none was found" in done.stdout


@pytest.mark.parametrize(
    "left",
    [
        lambda value: value.encode(),
        lambda value: json.dumps({"said": f"<{value}>"}).encode(),
        lambda value: quote(value, safe="").encode(),
        lambda value: value[: len(value) * 2 // 3].encode(),
        lambda value: value[len(value) // 3 :].encode(),
        lambda value: value[::-1].encode(),
        lambda value: value.encode().hex().encode(),
        lambda value: value.encode().hex().upper().encode(),
        lambda value: value.encode("utf-16-le"),
        *(
            lambda value, before=before: base64.b64encode(f"{before}{value} and more".encode())
            for before in ("", "a", "ab", "Authorization: Bearer ")
        ),
    ],
)
def test_search_finds_a_secret_in_every_shape(left: object) -> None:
    assert callable(left)
    plant, other = make_plant("planted", '$k/"{}+='), make_plant("other")
    searched = Searched([plant, other])

    searched.look("logs", "x.log", b"before " + left(plant.value) + b" after")
    searched.look("logs", "y.log", b"nothing")

    assert [(hit.source, hit.name) for hit in searched.hits] == [("planted", "x.log")]
    assert searched.things == {"logs": 2}


def test_search_leaves_out_what_belongs_to_a_place() -> None:
    plant = make_plant("of workers")
    searched = Searched([plant])

    searched.look("processes", "worker", plant.value.encode(), allowed={"of workers"})
    searched.look("processes", "web", plant.value.encode(), allowed=())

    assert [hit.name for hit in searched.hits] == ["web"]
    assert len(shapes(plant.core)) == 10

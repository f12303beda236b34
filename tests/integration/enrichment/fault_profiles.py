"""Provider fault profiles by name, and the state in which each must end. `docs/reliability.md` shows this table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SUBMIT, FILES, ITEMS = "/bulk-search", "/search-files/read", "/bulk-single-searchs/read"


@dataclass(frozen=True)
class Profile:
    """What goes wrong while a list of four rows runs, and what must become of it.

    `faults` are armed and `switches` set before the start; `lines` are the rows. `job` is the state at the end with the
    reason of a pause, `rows` the rows by state, `charged` how many rows the provider charged, `submits` how often the
    list was sent. A profile that pauses is mended and resumed afterwards, and must then end with each row paid once.
    """

    name: str
    job: str
    rows: Mapping[str, int]
    charged: int
    submits: int = 1
    faults: tuple[Mapping[str, Any], ...] = ()
    switches: Mapping[str, Any] = field(default_factory=dict)
    credits: str = ""
    lines: tuple[str, ...] = tuple(f"{name}@sbx-found.example" for name in ("ann", "bob", "cleo", "dora"))


def on(route: str, kind: str, **more: Any) -> Mapping[str, Any]:
    return {"route": route, "kind": kind, **more}


def sent(name: str, kind: str, **more: Any) -> Profile:
    """The submit arrived and its answer did not: it is found in the listing, and nothing is sent twice."""
    return Profile(name, "completed", {"found": 4}, 4, faults=(on(SUBMIT, kind, **more),))


def vanished(name: str, kind: str, **more: Any) -> Profile:
    """Nobody knows whether the submit arrived, and it did not: no listing shows it, so a person decides."""
    return Profile(name, "completed", {"uncertain": 4}, 0, faults=(on(SUBMIT, kind, **more),))


def refused(name: str, reason: str, kind: str = "status", **more: Any) -> Profile:
    """A definite no: nothing was created, the job pauses and says why."""
    return Profile(name, f"paused: {reason}", {"waiting": 4}, 0, faults=(on(SUBMIT, kind, **more),))


def read(name: str, route: str, kind: str, **more: Any) -> Profile:
    """A free read fails a few times: it is asked again, and nothing is lost."""
    return Profile(name, "completed", {"found": 4}, 4, faults=(on(route, kind, **{"times": 3, **more}),))


PROFILES = (
    # The submit was accepted and charged.
    sent("reset after the submit was accepted", "reset_after_accept"),
    sent("silence after the submit was accepted", "hang_after_accept"),
    sent("answer drips past the deadline", "drip", seconds=0.2),
    sent("answer is late, within the deadline", "delay", seconds=0.3),
    sent("answer broken off in the middle", "truncated"),
    sent("500 after the submit was accepted", "status", status=500, accept=True),
    sent("502 after the submit was accepted", "html", status=502),
    sent("503 after the submit was accepted", "status", status=503, accept=True),
    sent("504 after the submit was accepted", "html", status=504),
    sent("408 after the submit was accepted", "status", status=408, accept=True),
    sent("web page with 200", "html"),
    sent("empty body with 200", "empty"),
    sent("plain text with 200", "text"),
    sent("a list where an object belongs", "list"),
    sent("an object without success and id", "bare"),
    sent("12 MB of nothing", "oversize"),
    sent("compressed answer that unpacks to 12 MB", "compressed"),
    # The submit was not accepted, and nobody says so.
    vanished("reset before the submit was read", "reset_before"),
    vanished("500, nothing accepted", "status", status=500),
    vanished("503, nothing accepted", "status", status=503),
    vanished("408, nothing accepted", "status", status=408),
    vanished("web page with 200, nothing accepted", "html", accept=False),
    vanished("empty body with 200, nothing accepted", "empty", accept=False),
    # Nothing was created, and the answer says so.
    Profile(
        "429 twice",
        "completed",
        {"found": 4},
        4,
        submits=3,
        faults=(on(SUBMIT, "status", status=429, times=2),),
    ),
    refused("401", "key", status=401),
    refused("403", "provider", status=403),
    refused("402 that names a field", "provider", "refusal", status=402, word="PaymentRequiredError"),
    refused("403 that names a field", "provider", "refusal", status=403, word="ForbiddenError"),
    refused("404", "provider", status=404),
    refused("302 to another place", "provider", status=302),
    refused("422", "provider", status=422),
    refused("unpaid subscription", "key", "refusal", word="UnpaidSubscription"),
    refused("too few credits, in words", "credits", "refusal", word="InsufficientCredits"),
    Profile("too few credits for the list", "paused: credits", {"waiting": 4}, 0, credits="0.2"),
    Profile("key revoked", "paused: key", {"waiting": 4}, 0, switches={"key_revoked": True}),
    Profile(
        "fields refused",
        "completed",
        {"failed": 4},
        0,
        faults=(on(SUBMIT, "refusal", word="validation_string_empty"),),
    ),
    # Rows that end in another way than found.
    Profile(
        "rows not accepted",
        "completed",
        {"found": 2, "failed": 2},
        2,
        lines=(
            "a@sbx-found.example",
            "b@sbx-badinput.example",
            "c@sbx-found.example",
            "d@sbx-badinput.example",
        ),
    ),
    Profile(
        "rows that end with an unknown status",
        "completed",
        {"found": 3, "uncertain": 1},
        3,
        lines=(
            "a@sbx-found.example",
            "b@sbx-unknownstatus.example",
            "c@sbx-found.example",
            "d@sbx-found.example",
        ),
    ),
    # Reads: they are free, so they are asked again.
    read("progress: 500 three times", FILES, "status", status=500),
    read("progress: reset three times", FILES, "reset_before"),
    read("progress: web page three times", FILES, "html"),
    read("progress: 429 three times", FILES, "status", status=429),
    read("answers: 503 three times", ITEMS, "status", status=503),
    read("answers: broken off three times", ITEMS, "truncated"),
    read("answers: refused in words three times", ITEMS, "refusal", word="SearchNotFound"),
    Profile(
        "listing lags behind a lost submit",
        "completed",
        {"found": 4},
        4,
        faults=(on(SUBMIT, "reset_after_accept"),),
        switches={"visibility_lag_s": 40},
    ),
)

"""What else can go wrong at the provider while processes are killed: one call each, by lot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SUBMIT: Final = "/bulk-search"
READS: Final = {"progress": "/search-files/read", "answers": "/bulk-single-searchs/read"}

# The answer to one call is spoiled, on whatever route.
SPOILED: Final[Mapping[str, Mapping[str, Any]]] = {
    "500": {"kind": "status", "status": 500},
    "503": {"kind": "status", "status": 503},
    "408": {"kind": "status", "status": 408},
    "web page": {"kind": "html"},
    "nothing": {"kind": "empty"},
    "text": {"kind": "text"},
    "list": {"kind": "list"},
    "bare object": {"kind": "bare"},
    "12 MB": {"kind": "oversize"},
    "compressed": {"kind": "compressed"},
}
# Icypeas says no, and the job pauses until a person has mended it.
REFUSED: Final[Mapping[str, Mapping[str, Any]]] = {
    "401": {"kind": "status", "status": 401},
    "403": {"kind": "status", "status": 403},
    "302": {"kind": "status", "status": 302},
    "unpaid": {"kind": "refusal", "word": "UnpaidSubscriptionError"},
}


def _all() -> dict[str, Mapping[str, Any]]:
    known: dict[str, Mapping[str, Any]] = {}
    for name, fault in SPOILED.items():
        known[f"submit: {name}, accepted"] = {"route": SUBMIT, "accept": True, **fault}
        known[f"submit: {name}, not accepted"] = {"route": SUBMIT, "accept": False, **fault}
        known |= {f"{what}: {name}": {"route": route, **fault} for what, route in READS.items()}
    for what, route in {"submit": SUBMIT, **READS}.items():
        known[f"{what}: 429"] = {"route": route, "kind": "status", "status": 429}
        known[f"{what}: reset before"] = {"route": route, "kind": "reset_before"}
        known[f"{what}: broken off"] = {"route": route, "kind": "truncated"}
        known[f"{what}: late"] = {"route": route, "kind": "delay", "seconds": 2.0}
        known[f"{what}: drips"] = {"route": route, "kind": "drip", "seconds": 0.02}
    known["submit: reset after"] = {"route": SUBMIT, "kind": "reset_after_accept"}
    known["submit: silence"] = {"route": SUBMIT, "kind": "hang_after_accept", "seconds": 2.0}
    known |= {f"submit: {name}": {"route": SUBMIT, **fault} for name, fault in REFUSED.items()}
    known["submit: too few credits"] = {
        "route": SUBMIT,
        "kind": "refusal",
        "word": "InsufficientCreditsError",
    }
    known["answers: 401"] = {"route": READS["answers"], **REFUSED["401"]}
    known["answers: refused in words"] = {
        "route": READS["answers"],
        "kind": "refusal",
        "word": "SearchNotFoundError",
    }
    return known


TROUBLES: Final = _all()

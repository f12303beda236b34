"""Scopes: operation × mode, each with a plain sentence, and presets for the usual workloads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# The series of charts; whatever belongs to none of them is among the others, the last.
SERIES = ("Find emails", "Company profiles", "Reverse look-up", "Verify emails", "Person profiles")
OTHER = "Other"


@dataclass(frozen=True)
class Workload:
    """What keys know of an operation. `title` stands over its `scopes` (scope → what a key with it may do), `words` say
    what is done, to one thing and to several; `series` is its place in charts, or ""."""

    name: str
    title: str
    scopes: Mapping[str, str]
    words: tuple[str, str, str]
    series: str = ""


# Keys know no operation: these are told by the app that has them, when it starts.
WORKLOADS: dict[str, Workload] = {}
SCOPES: dict[str, str] = {}
TITLES: dict[str, str] = {}  # of each scope


def declare(workload: Workload) -> None:
    """Let keys be granted the scopes of a workload. Raises `ValueError` for a series that there is not."""
    if workload.series not in ("", *SERIES):
        raise ValueError(f"{workload.name}: there is no series {workload.series!r}: {', '.join(SERIES)}")
    WORKLOADS[workload.name] = workload
    SCOPES.update(workload.scopes)
    TITLES.update(dict.fromkeys(workload.scopes, workload.title))


def series_of(name: str) -> int:
    """The number of an operation's series; the others' for an unknown one."""
    workload = WORKLOADS.get(name)
    return SERIES.index(workload.series) if workload and workload.series else len(SERIES)


ACCOUNT_READ = "account:read"  # free calls; every usable key has it


@dataclass(frozen=True)
class Preset:
    """A usual workload: its scopes, where it belongs, and where it should run."""

    label: str
    environment: str
    scopes: tuple[str, ...]
    runs_in: str


PRESETS: dict[str, Preset] = {
    "form_handling": Preset(
        "Form handling",
        "prod",
        ("email-verification:single", "email-search:single"),
        "A backend service that answers the form; never the page itself.",
    ),
    "bulk_verification": Preset(
        "Bulk verification",
        "prod",
        ("email-verification:bulk",),
        "An internal job runner.",
    ),
    "crm_sync": Preset(
        "CRM sync",
        "prod",
        ("email-verification:bulk", "email-search:bulk", "scrape-company:bulk"),
        "An integration service between the CRM and this app.",
    ),
    "profile_lookup": Preset(
        "Profile look-up",
        "prod",
        ("reverse-lookup:single", "scrape-profile:single", "scrape-company:single"),
        "The server-side layer of a product.",
    ),
    "one_off_testing": Preset(
        "One-off testing",
        "dev",
        ("email-search:single", "email-verification:single"),
        "Local development, with a secret of its own.",
    ),
}


class ScopeError(Exception):
    """A scope or preset that does not exist; the message lists what does."""


def parse_scopes(text: str) -> list[str]:
    """`all`, a preset's name, or scopes parted by commas → sorted scopes. Raises `ScopeError`."""
    wanted = [part.strip() for part in text.replace(" ", ",").split(",") if part.strip()]
    if wanted == ["all"]:
        return sorted(SCOPES)
    scopes: set[str] = set()
    for part in wanted:
        if part.replace("-", "_") in PRESETS:
            scopes.update(PRESETS[part.replace("-", "_")].scopes)
        elif part in SCOPES:
            scopes.add(part)
        else:
            raise ScopeError(
                f"Unknown scope {part!r}. Scopes: {', '.join(SCOPES)}. Presets: {', '.join(PRESETS)}. Or: all."
            )
    if not scopes:
        raise ScopeError("A key needs at least one scope.")
    return sorted(scopes)

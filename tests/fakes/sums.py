"""The sums of calls, made anew from the calls one by one: what the kept ones are held against."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC
from typing import Any

from keys.choices import POLICY_OUTCOMES
from keys.models import Call, CallHour, JobUse


def hours_from_calls() -> dict[tuple[Any, ...], tuple[Any, ...]]:
    sums: dict[tuple[Any, ...], list[Any]] = defaultdict(lambda: [0, 0, None, None, ""])
    for call in Call.objects.order_by("id"):
        hour = call.at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        line = sums[call.key_id, hour, call.scope, call.outcome]
        line[0] += 1
        line[1] += call.rows
        line[2:] = call.at, call.job, call.person
    return {name: tuple(line) for name, line in sums.items()}


def jobs_from_calls() -> dict[tuple[Any, ...], tuple[Any, ...]]:
    sums: dict[tuple[Any, ...], list[Any]] = {}
    for call in Call.objects.order_by("id"):
        line = sums.setdefault((call.key_id, call.job or 0, call.person), [call.at, None, 0, 0, 0, ""])
        is_refused = call.outcome in POLICY_OUTCOMES
        line[1], line[5] = call.at, call.job_text
        line[2] += not is_refused
        line[4] += is_refused
        line[3] += call.rows if call.outcome == "ok" and call.scope != "account:read" else 0
    return {name: tuple(line) for name, line in sums.items()}


def kept_hours() -> dict[tuple[Any, ...], tuple[Any, ...]]:
    names = ("key_id", "hour", "scope", "outcome", "calls", "rows", "last_at", "last_job", "last_by")
    return {row[:4]: row[4:] for row in CallHour.objects.values_list(*names)}


def kept_jobs() -> dict[tuple[Any, ...], tuple[Any, ...]]:
    names = (
        "key_id",
        "job",
        "person",
        "first_at",
        "last_at",
        "calls",
        "rows",
        "refused",
        "job_text",
    )
    return {row[:3]: row[3:] for row in JobUse.objects.values_list(*names)}


def assert_sums_fit() -> None:
    """The kept sums say what the calls say, to the last row."""
    assert kept_hours() == hours_from_calls()
    assert kept_jobs() == jobs_from_calls()

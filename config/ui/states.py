"""How states look: icon, tone and word. The states themselves belong to the apps' `choices`."""

from __future__ import annotations

from typing import NamedTuple


class Look(NamedTuple):
    """`tone` is a class suffix: ok, warn, bad, info (the accent) or quiet."""

    icon: str
    tone: str
    word: str


JOB = {
    "draft": Look("circle-dashed", "quiet", "Draft"),
    "ready": Look("circle-dot", "quiet", "Ready"),
    "awaiting_approval": Look("hourglass", "warn", "Awaiting approval"),
    "queued": Look("clock", "quiet", "Queued"),
    "running": Look("loader", "info", "Running"),
    "paused": Look("circle-pause", "warn", "Paused"),
    "cancelling": Look("circle-slash", "info", "Cancelling"),
    "cancelled": Look("circle-slash", "quiet", "Cancelled"),
    "completed": Look("circle-check", "ok", "Completed"),
    "failed": Look("circle-x", "bad", "Failed"),
}
ROW = {
    "found": Look("circle-check", "ok", "Found"),
    "not_found": Look("circle-dashed", "quiet", "Not found"),
    "cached": Look("database", "quiet", "Cached"),
    "skipped": Look("minus", "quiet", "Skipped"),
    "failed": Look("circle-x", "bad", "Failed"),
    "uncertain": Look("circle-question-mark", "warn", "Uncertain"),
    "in_flight": Look("send", "info", "In flight"),
    "waiting": Look("clock", "quiet", "Waiting"),
    # Verdicts of a verification, which stand in the place of found and not found.
    "deliverable": Look("circle-check", "ok", "Deliverable"),
    "risky": Look("triangle-alert", "warn", "Risky"),
    "undeliverable": Look("circle-dashed", "quiet", "Undeliverable"),
    "unknown": Look("circle-dashed", "quiet", "Unknown"),
}
KEY = {
    "draft": Look("circle-dashed", "quiet", "Draft"),
    "active": Look("circle-check", "ok", "Active"),
    "rotating": Look("refresh-cw", "info", "Rotating"),
    "quarantined": Look("shield-off", "bad", "Quarantined"),
    "revoked": Look("ban", "quiet", "Revoked"),
    "expired": Look("clock", "warn", "Expired"),
}
CALL = {
    "ok": Look("circle-check", "ok", "ok"),
    "vendor_401": Look("circle-x", "bad", "key refused"),
    "vendor_403": Look("circle-x", "bad", "forbidden"),
    "vendor_429": Look("circle-alert", "warn", "too many calls"),
    "vendor_5xx": Look("circle-alert", "warn", "Icypeas failed"),
    "vendor_rejected": Look("circle-x", "bad", "input refused"),
    "unpaid": Look("circle-x", "bad", "subscription unpaid"),
    "out_of_credits": Look("circle-x", "bad", "out of credits"),
    "not_sent": Look("circle-alert", "warn", "not sent"),
    "uncertain": Look("circle-question-mark", "warn", "outcome unknown"),
    "read_failed": Look("circle-alert", "warn", "reading failed"),
    "policy_scope": Look("lock", "warn", "refused: scope"),
    "policy_environment": Look("lock", "warn", "refused: environment"),
    "policy_budget": Look("lock", "warn", "refused: budget"),
    "policy_state": Look("lock", "warn", "refused: state"),
    "secret_missing": Look("wrench", "warn", "no secret"),
}
CHECK = {
    "ok": Look("circle-check", "ok", "ok"),
    "bad": Look("circle-x", "bad", "not ok"),
    "warn": Look("triangle-alert", "warn", "look at this"),
    "running": Look("loader", "info", "running"),
    "not_reached": Look("circle-dashed", "quiet", "not reached"),
}
KINDS = {"job": JOB, "row": ROW, "key": KEY, "call": CALL, "check": CHECK}

# The order of the stacked bar and its legend; it never changes, so that people learn it.
BAR_ORDER = ("found", "not_found", "cached", "skipped", "failed", "uncertain", "in_flight", "waiting")
OPEN_ROW_STATES = ("in_flight", "waiting")

FINDING_WORDS = {"excepted": "excepted", "fixed": "fixed", "back": "came back"}
BANNER_ICONS = {"info": "info", "ok": "circle-check", "warn": "triangle-alert", "bad": "circle-x"}


def look_of(kind: str, value: str) -> Look:
    """The look of a state; one that this table does not know is shown by its own name, never hidden."""
    known = KINDS[kind].get(value)
    return known or Look("circle-dashed", "quiet", value.replace("_", " ").capitalize())

"""States of key records, outcomes of calls, kinds of ledger entries."""

from django.db import models


class Realm(models.TextChoices):
    """Sandbox money and real money never mix."""

    SANDBOX = "sandbox", "Sandbox"
    LIVE = "live", "Live"


class KeyState(models.TextChoices):
    DRAFT = "draft", "Draft"
    ACTIVE = "active", "Active"
    ROTATING = "rotating", "Rotating"
    QUARANTINED = "quarantined", "Quarantined"
    REVOKED = "revoked", "Revoked"
    EXPIRED = "expired", "Expired"


USABLE_STATES = (KeyState.ACTIVE, KeyState.ROTATING)


class Outcome(models.TextChoices):
    """What a call ended in; `policy_…` and `secret_missing` are our own refusals, made before any request."""

    OK = "ok", "ok"
    VENDOR_401 = "vendor_401", "key refused (401)"
    VENDOR_403 = "vendor_403", "forbidden (403)"
    VENDOR_429 = "vendor_429", "too many calls (429)"
    VENDOR_5XX = "vendor_5xx", "Icypeas failed (5xx)"
    VENDOR_REJECTED = "vendor_rejected", "input refused"
    UNPAID = "unpaid", "subscription unpaid"
    OUT_OF_CREDITS = "out_of_credits", "out of credits"
    NOT_SENT = "not_sent", "not sent"
    UNCERTAIN = "uncertain", "outcome unknown"
    READ_FAILED = "read_failed", "reading failed"
    POLICY_SCOPE = "policy_scope", "refused: scope"
    POLICY_ENVIRONMENT = "policy_environment", "refused: environment"
    POLICY_BUDGET = "policy_budget", "refused: budget"
    POLICY_STATE = "policy_state", "refused: state"
    SECRET_MISSING = "secret_missing", "no secret"


POLICY_OUTCOMES = (
    Outcome.POLICY_SCOPE,
    Outcome.POLICY_ENVIRONMENT,
    Outcome.POLICY_BUDGET,
    Outcome.POLICY_STATE,
    Outcome.SECRET_MISSING,
)


class EntryKind(models.TextChoices):
    """reserved = charged + released + open, for every job, always."""

    RESERVED = "reserved", "reserved"
    CHARGED = "charged", "charged"
    RELEASED = "released", "released"


class FindingCode(models.TextChoices):
    """What a finding says; part of addresses. The labels are the words of the filter."""

    OUTCOME = "outcome", "Refused by Icypeas"
    SECRET = "secret", "Secret not found"
    FINGERPRINT = "fingerprint", "Workers hold different secrets"
    ACCOUNT = "account", "Two secrets on one account"
    SHARING = "sharing", "Shared across environments"
    SYSTEMS = "systems", "Shared across systems"
    WARNING = "warning", "Warning about the secret"
    OWNER = "owner", "No owner"
    OWNER_DISABLED = "owner_disabled", "Owner disabled"
    DEPUTY = "deputy", "No deputy"
    DEPUTY_DISABLED = "deputy_disabled", "Deputy disabled"
    ROTATION = "rotation", "Rotation due or late"
    EXPIRY = "expiry", "Expiry near or past"
    UNUSED = "unused", "Unused"
    SCOPE = "scope", "Scope never used"
    NAME = "name", "Name and record disagree"


class Tone(models.TextChoices):
    BAD = "bad", "Bad"
    WARN = "warn", "Warning"


# The key's `severity` by the worst of its findings.
SEVERITY = {Tone.BAD: 2, Tone.WARN: 1}

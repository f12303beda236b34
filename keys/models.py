"""Accounts, key records, the calls they let out, the money ledger and the limiter's rows."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models

from keys.choices import USABLE_STATES, EntryKind, FindingCode, KeyState, Outcome, Realm, Tone
from keys.clock import utc_today


class Account(models.Model):
    """One Icypeas account: one secret, one balance, one set of rate limits. Several key records may share it.

    The balance is what a worker last read; `balance_asked_at` is when the read that gave it was sent, so that
    later charges are known to be missing from it.
    """

    name = models.CharField(max_length=60, unique=True)
    realm = models.CharField(max_length=10, choices=Realm.choices)
    email = models.EmailField(blank=True, help_text="The account owner's address; Icypeas may ask for it.")
    user_id = models.CharField(
        max_length=60, blank=True, help_text="Only when Icypeas asks for it in bulk calls."
    )
    # Where a worker finds the account's API secret, which signs webhooks and, where wanted, our requests.
    api_secret_ref = models.CharField(max_length=200, blank=True)
    signs_requests = models.BooleanField(default=False)
    hook_token = models.CharField(
        max_length=64, blank=True, db_index=True, help_text="The unguessable part of the webhooks' address."
    )
    balance = models.DecimalField(max_digits=14, decimal_places=3, null=True, blank=True)
    balance_asked_at = models.DateTimeField(null=True, blank=True)
    balance_wanted_at = models.DateTimeField(
        null=True, blank=True, help_text="A person asked for a fresh reading."
    )
    balance_error = models.CharField(max_length=300, blank=True)
    balance_failed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class KeyRecord(models.Model):
    """A named grant: which workload may do what with which account's secret. Never the secret itself.

    `name` is `<environment>_<system>_<label>`, stored at creation and never parsed. `secret_ref` says where a worker
    finds the secret (`env:NAME`, `file:PATH`); `previous_secret_ref` is the one before, for overlap and proof of death.
    """

    name = models.CharField(max_length=120, unique=True)
    environment = models.CharField(max_length=20)
    system = models.CharField(max_length=40)
    label = models.CharField(max_length=40)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="owned_keys"
    )
    deputy = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="deputised_keys",
    )
    team = models.ForeignKey(
        "people.Team", on_delete=models.PROTECT, null=True, blank=True, related_name="keys"
    )
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="keys")
    purpose = models.CharField(max_length=300)
    scopes = models.JSONField(default=list)
    # The day on which each scope was granted, as ISO text; one without a day is as old as the record.
    scopes_since = models.JSONField(default=dict)
    state = models.CharField(max_length=12, choices=KeyState.choices, default=KeyState.DRAFT)
    daily_cap = models.DecimalField(max_digits=12, decimal_places=1, null=True, blank=True)
    time_zone = models.CharField(max_length=60, default="UTC")  # of its hours, and of the days of its cap
    # When it is meant to be used (`keys.hours`): ISO weekdays such as "12345", empty for every day; no hours: all day.
    hours_days = models.CharField(max_length=7, blank=True)
    hours_begin = models.TimeField(null=True, blank=True)
    hours_end = models.TimeField(null=True, blank=True)
    rotate_by = models.DateField()
    rotation_days = models.PositiveIntegerField(default=90)
    expires_at = models.DateField(null=True, blank=True)
    secret_ref = models.CharField(max_length=200)
    was_used_before = models.BooleanField(
        default=False, help_text="The secret was in use before this record was made, so older use is unknown."
    )
    previous_secret_ref = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    # When it was last made to let calls out (completed, activated, released); None: it has since its creation, or never did.
    usable_since = models.DateTimeField(null=True, blank=True)
    # Last use through this app, written by the gate at most once a minute per key.
    last_used_at = models.DateTimeField(null=True, blank=True, db_index=True)
    last_used_operation = models.CharField(max_length=40, blank=True)
    last_used_job = models.BigIntegerField(null=True, blank=True)
    last_used_by = models.CharField(max_length=120, blank=True)
    last_used_worker = models.CharField(max_length=120, blank=True)
    last_used_outcome = models.CharField(max_length=20, choices=Outcome.choices, blank=True)
    last_used_rows = models.PositiveIntegerField(default=0)
    # Whether Icypeas lets the key in: the last outcome that says so, of any call, and since when it is that one.
    let_in_outcome = models.CharField(max_length=20, choices=Outcome.choices, blank=True)
    let_in_at = models.DateTimeField(null=True, blank=True)
    # The worst of its findings that counts: 2 bad, 1 a warning, 0 none. Written by `keys.findings` alone.
    severity = models.PositiveSmallIntegerField(default=0, editable=False, db_index=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def rest_of_name(self) -> str:
        """What follows the environment, for display beside its tag."""
        return self.name.removeprefix(self.environment)

    @property
    def is_expired(self) -> bool:
        """Its last day is over, so it lets nothing out whatever its state says."""
        return self.expires_at is not None and self.expires_at < utc_today()

    @property
    def shown_state(self) -> str:
        """The state as people see it: one that could be used and whose last day is over is *expired*."""
        return KeyState.EXPIRED if self.state in USABLE_STATES and self.is_expired else self.state

    @property
    def shown_state_label(self) -> str:
        return str(KeyState(self.shown_state).label)


class FormerName(models.Model):
    """A name that a key record had. It stays the record's: old addresses and commands find it, no other record takes it."""

    name = models.CharField(max_length=120, unique=True)
    key = models.ForeignKey(KeyRecord, on_delete=models.PROTECT, related_name="former_names")
    until = models.DateTimeField()

    class Meta:
        ordering = ("-until",)

    def __str__(self) -> str:
        return self.name


class Call(models.Model):
    """One HTTP request that the gate let out, or a refusal that it made. A job is a number and a text here.

    Written by `calls.write` alone, which keeps `CallHour` and `JobUse`; removed by retention, which leaves those two.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    # Every index below begins with it.
    key = models.ForeignKey(KeyRecord, on_delete=models.PROTECT, related_name="calls", db_index=False)
    fingerprint = models.CharField(max_length=12, blank=True)
    route = models.CharField(max_length=60)
    scope = models.CharField(max_length=60)
    job = models.BigIntegerField(null=True, blank=True, db_index=True)
    job_text = models.CharField(max_length=200, blank=True)
    person = models.CharField(max_length=120, blank=True)
    worker = models.CharField(max_length=120)
    at = models.DateTimeField()
    duration_ms = models.PositiveIntegerField(default=0)
    outcome = models.CharField(max_length=20, choices=Outcome.choices)
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    message = models.CharField(max_length=300, blank=True)
    rows = models.PositiveIntegerField(default=0)
    is_probe = models.BooleanField(default=False)

    class Meta:
        ordering = ("-id",)
        indexes = (
            models.Index(fields=["key", "-id"]),
            # The page of all calls, one for each filter that may leave few of a million.
            models.Index(fields=["key", "-at", "-id"], name="call_by_time"),
            models.Index(fields=["key", "scope", "-at", "-id"], name="call_by_scope"),
            models.Index(fields=["key", "person", "-at", "-id"], name="call_by_person"),
            models.Index(
                fields=["key", "-at", "-id"], condition=~models.Q(outcome=Outcome.OK), name="call_not_ok"
            ),
            models.Index(
                fields=["key", "outcome", "-at", "-id"],
                condition=~models.Q(outcome=Outcome.OK),
                name="call_by_outcome",
            ),
        )

    def __str__(self) -> str:
        return f"{self.route} {self.outcome}"


class CallHour(models.Model):
    """Calls of one key in one hour (UTC), by scope and outcome: what charts and grids read. Kept for ever.

    `rows` is what the calls carried. `last_…` is the last of them.
    """

    key = models.ForeignKey(KeyRecord, on_delete=models.PROTECT, related_name="+", db_index=False)
    hour = models.DateTimeField()
    scope = models.CharField(max_length=60)
    outcome = models.CharField(max_length=20, choices=Outcome.choices)
    calls = models.PositiveIntegerField(default=0)
    rows = models.PositiveBigIntegerField(default=0)
    last_at = models.DateTimeField()
    last_job = models.BigIntegerField(null=True, blank=True)
    last_by = models.CharField(max_length=120, blank=True)

    class Meta:
        ordering = ("hour", "id")
        # With what is summed: on PostgreSQL the index answers alone, and the hours of a key lie all over the table.
        indexes = (
            models.Index(
                fields=["key", "scope", "-hour"],
                include=["outcome", "calls", "rows"],
                name="sums_of_hour_by_scope",
            ),
        )
        constraints = (
            models.UniqueConstraint(fields=["key", "hour", "scope", "outcome"], name="one_sum_per_hour"),
        )

    def __str__(self) -> str:
        return f"{self.calls} calls, {self.scope} {self.outcome}"


class JobUse(models.Model):
    """What one job of one person did with one key: who used it needs no look at the calls. Kept for ever.

    `job` is 0 for calls without one; `calls` were let out, `refused` were not; `rows` were sent in paid calls that went well.
    """

    key = models.ForeignKey(KeyRecord, on_delete=models.PROTECT, related_name="+", db_index=False)
    job = models.BigIntegerField(default=0)
    job_text = models.CharField(max_length=200, blank=True)
    person = models.CharField(max_length=120, blank=True)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    calls = models.PositiveIntegerField(default=0)
    rows = models.PositiveBigIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ("-last_at", "-id")
        indexes = (models.Index(fields=["key", "-last_at"], name="job_use_by_time"),)
        constraints = (models.UniqueConstraint(fields=["key", "job", "person"], name="one_use_per_job"),)

    def __str__(self) -> str:
        return f"job {self.job}, {self.person}"


class LedgerEntry(models.Model):
    """One movement of credits. Append-only; `credits` is never negative, `kind` gives the direction."""

    at = models.DateTimeField()
    kind = models.CharField(max_length=10, choices=EntryKind.choices)
    credits = models.DecimalField(max_digits=14, decimal_places=3)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    key = models.ForeignKey(KeyRecord, on_delete=models.PROTECT, related_name="+")
    team = models.ForeignKey("people.Team", on_delete=models.PROTECT, null=True, related_name="+")
    operation = models.CharField(max_length=40)
    job = models.BigIntegerField(db_index=True)
    batch = models.BigIntegerField(null=True, blank=True)
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ("id",)
        indexes = (
            models.Index(fields=["account", "kind", "at"]),
            models.Index(fields=["key", "kind", "at"]),
            models.Index(fields=["team", "kind", "at"]),
            models.Index(fields=["kind", "at"], name="ledger_by_kind"),
        )
        constraints = (
            models.CheckConstraint(condition=models.Q(credits__gte=0), name="ledger_not_negative"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.credits} job {self.job}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("Ledger entries are append-only.")
        super().save(*args, **kwargs)


class LedgerMark(models.Model):
    """How far the ledger is folded (one row). The entries stay the truth; whoever sums them starts after the mark.

    `up_to` is the last entry that is in `holds`, changed with them in one transaction. `charged_until` is a full hour: all
    charges before it are in `ChargeHour`, whose earlier hours no longer change.
    """

    up_to = models.BigIntegerField(default=0)
    charged_until = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"folded up to {self.up_to}"


class ChargeHour(models.Model):
    """Credits that were charged to one key in one hour (UTC), by operation and by the person of the job."""

    key = models.ForeignKey(KeyRecord, on_delete=models.PROTECT, related_name="+", db_index=False)
    hour = models.DateTimeField()
    operation = models.CharField(max_length=40)
    person = models.CharField(max_length=120, blank=True)
    credits = models.DecimalField(max_digits=14, decimal_places=3)

    class Meta:
        ordering = ("hour", "id")
        constraints = (
            models.UniqueConstraint(
                fields=["key", "hour", "operation", "person"], name="one_charge_per_hour"
            ),
        )

    def __str__(self) -> str:
        return f"{self.credits} for {self.operation}"


class LedgerHold(models.Model):
    """What one job still held at the mark: reserved, and neither charged nor released. Nothing held, no row."""

    mark = models.ForeignKey(LedgerMark, on_delete=models.CASCADE, related_name="holds")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    key = models.ForeignKey(KeyRecord, on_delete=models.PROTECT, related_name="+")
    job = models.BigIntegerField()
    credits = models.DecimalField(max_digits=14, decimal_places=3)

    class Meta:
        ordering = ("id",)
        constraints = (models.UniqueConstraint(fields=["account", "key", "job"], name="one_hold_per_job"),)

    def __str__(self) -> str:
        return f"job {self.job} holds {self.credits}"


class Budget(models.Model):
    """What a team, or a key, may spend in each month from `first_month` (its first day) on; no credits: no budget.

    Append-only: of those that have begun the latest holds, and a correction comes before what it corrects.
    """

    team = models.ForeignKey("people.Team", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    key = models.ForeignKey(KeyRecord, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    realm = models.CharField(max_length=10, choices=Realm.choices)
    first_month = models.DateField()
    credits = models.DecimalField(max_digits=14, decimal_places=3, null=True, blank=True)
    set_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    set_at = models.DateTimeField(auto_now_add=True)
    reason = models.CharField(max_length=300)

    class Meta:
        ordering = ("-first_month", "-id")
        constraints = (
            models.CheckConstraint(
                condition=models.Q(team__isnull=True) ^ models.Q(key__isnull=True),
                name="budget_of_team_or_key",
            ),
        )

    def __str__(self) -> str:
        return f"{self.owner} from {self.first_month:%B %Y}"

    @property
    def owner(self) -> str:
        return str(self.team or self.key)


class BudgetNotice(models.Model):
    """A share of a month's budget that was reached, written once. `threshold` is 50, 80 or 100 percent."""

    team = models.ForeignKey("people.Team", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    key = models.ForeignKey(KeyRecord, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    realm = models.CharField(max_length=10, choices=Realm.choices)
    month = models.DateField()
    threshold = models.PositiveSmallIntegerField()
    committed = models.DecimalField(max_digits=14, decimal_places=3)
    credits = models.DecimalField(max_digits=14, decimal_places=3)
    at = models.DateTimeField()

    class Meta:
        ordering = ("-at",)
        constraints = (
            models.UniqueConstraint(
                fields=["team", "realm", "month", "threshold"],
                condition=models.Q(team__isnull=False),
                name="one_notice_per_team",
            ),
            models.UniqueConstraint(
                fields=["key", "month", "threshold"],
                condition=models.Q(key__isnull=False),
                name="one_notice_per_key",
            ),
        )

    def __str__(self) -> str:
        return f"{self.team or self.key} reached {self.threshold} % of its budget"


class BalanceReading(models.Model):
    """A balance that differed from the one read before, so that spending can be compared with what Icypeas says."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="readings")
    credits = models.DecimalField(max_digits=14, decimal_places=3)
    asked_at = models.DateTimeField()

    class Meta:
        ordering = ("asked_at",)
        indexes = (models.Index(fields=["account", "asked_at"]),)

    def __str__(self) -> str:
        return f"{self.credits} at {self.asked_at}"


class RateSlot(models.Model):
    """The limiter's memory of one route of one account: moments in microseconds since 1970 by the database's clock.

    `next_free_us` is the next free slot, `kept_us` the moment from which a person's call will want one (0: nobody's), and
    `person_us` the last slot that a person had.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    route = models.CharField(max_length=60)
    next_free_us = models.BigIntegerField(default=0)
    kept_us = models.BigIntegerField(default=0)
    person_us = models.BigIntegerField(default=0)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["account", "route"], name="one_slot_per_route"),)

    def __str__(self) -> str:
        return f"{self.account_id} {self.route}"


class Breaker(models.Model):
    """Whether paid calls of an account may go: paid calls without a clear answer in a row, and when the next may try."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, related_name="+")
    unclear = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.account_id}: {self.unclear} unclear"


class Worker(models.Model):
    """A worker group that was seen at work. `environments` are those that it serves; empty until it has reported.
    `ended_at` is when it said that it ends; one that was killed says nothing, and is silent. Without `reports` it is a
    command at a terminal, which works on one job and says nothing of secrets."""

    name = models.CharField(max_length=120, unique=True)
    release = models.CharField(max_length=60, blank=True)
    environments = models.JSONField(default=list)
    started_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField(db_index=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    reports = models.BooleanField(default=True)

    class Meta:
        ordering = ("-seen_at",)

    def __str__(self) -> str:
        return self.name


class Presence(models.Model):
    """What one worker found at one reference when it last looked: a fingerprint, or the problem. `changed_at` is when that
    last became another, `previous_fingerprint` what stood there before, and `shorter_by` by how many characters it then got
    shorter. `length` is the number of characters, and shown nowhere (decision 0028)."""

    worker = models.CharField(max_length=120)
    reference = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=12, blank=True, db_index=True)
    previous_fingerprint = models.CharField(max_length=12, blank=True)
    length = models.PositiveIntegerField(default=0)
    shorter_by = models.PositiveIntegerField(default=0)
    problem = models.CharField(max_length=300, blank=True)
    warnings = models.JSONField(default=list)
    release = models.CharField(max_length=60, blank=True)
    seen_at = models.DateTimeField(db_index=True)
    changed_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["worker", "reference"], name="one_sight_per_worker"),)
        indexes = (models.Index(fields=["reference"]),)

    def __str__(self) -> str:
        return f"{self.worker}: {self.reference} {self.fingerprint or self.problem}"


class KeyTest(models.Model):
    """A test of a key with free calls: asked for by a person, made by a worker. `checks` are lists of name, state, value
    and note, in their order."""

    key = models.ForeignKey(KeyRecord, on_delete=models.CASCADE, related_name="tests")
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField()
    done_at = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=120, blank=True)
    checks = models.JSONField(default=list)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"test of {self.key_id}"


class Finding(models.Model):
    """Something about a key that a person should look at. One row a key and code for ever: `closed_at` is when it was over,
    and `times` counts how often it began, so that one that *came back* is told from a new one.

    While an exception runs (`excepted_until`, its last day) the finding does not count. `keys.findings` alone writes here.
    """

    key = models.ForeignKey(KeyRecord, on_delete=models.CASCADE, related_name="findings")
    code = models.CharField(max_length=20, choices=FindingCode.choices)
    tone = models.CharField(max_length=4, choices=Tone.choices)
    title = models.CharField(max_length=200)
    evidence = models.CharField(max_length=600)
    scopes = models.JSONField(default=list)  # those that were never used, for `FindingCode.SCOPE`
    opened_at = models.DateTimeField()
    due = models.DateField()
    times = models.PositiveIntegerField(default=1)
    seen_at = models.DateTimeField()  # when it was last found, to the hour
    closed_at = models.DateTimeField(null=True, blank=True)
    excepted_until = models.DateField(null=True, blank=True)
    exception_reason = models.CharField(max_length=500, blank=True)
    excepted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    excepted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("due", "id")
        constraints = (models.UniqueConstraint(fields=["key", "code"], name="one_finding_per_code"),)
        indexes = (
            models.Index(
                fields=["due", "id"], condition=models.Q(closed_at__isnull=True), name="open_findings_by_due"
            ),
        )

    def __str__(self) -> str:
        return f"{self.key_id}: {self.title}"

    @property
    def look(self) -> str:
        """How the component shows it: open, back, excepted or fixed."""
        if self.closed_at:
            return "fixed"
        return "excepted" if self.excepted_until else "back" if self.times > 1 else "open"

    @property
    def shown_tone(self) -> str:
        return "quiet" if self.excepted_until else self.tone

    @property
    def icon(self) -> str:
        is_dated = self.code in (FindingCode.ROTATION, FindingCode.EXPIRY)
        return "calendar" if self.excepted_until else "clock" if is_dated else "circle-alert"

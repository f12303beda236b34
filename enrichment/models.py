"""Uploads, jobs, rows, questions, answers and the batches that carry questions to Icypeas."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.db import models

from enrichment.choices import (
    ACTIVE,
    SILENT_PAUSES,
    TERMINAL,
    BatchState,
    HookState,
    JobState,
    Mode,
    PauseReason,
    RowState,
    Source,
)
from keys.choices import Realm


class Upload(models.Model):
    """A file as it came, and how it was read. `layout` is `csv_import.Layout` as JSON."""

    file = models.FileField(upload_to="uploads/%Y/%m/", max_length=300)
    name = models.CharField(max_length=200)
    sha256 = models.CharField(max_length=64, db_index=True)
    size = models.BigIntegerField()
    layout = models.JSONField()
    header = models.JSONField()
    blank_lines = models.PositiveIntegerField(default=0)
    first_wide_row = models.PositiveIntegerField(null=True, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Price(models.Model):
    """Credits for one answer of an operation from a day on. Append-only: the latest that holds counts."""

    operation = models.CharField(max_length=40)
    realm = models.CharField(max_length=10, choices=Realm.choices)
    credits = models.DecimalField(max_digits=10, decimal_places=3)
    charged_when_empty = models.BooleanField(default=False)
    valid_from = models.DateField()
    source = models.CharField(max_length=300)
    entered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    entered_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-valid_from", "-id")
        indexes = (models.Index(fields=["operation", "realm", "-valid_from"]),)

    def __str__(self) -> str:
        noun = "credit" if 0 < self.credits <= 1 else "credits"
        return f"{self.credits.normalize():f} {noun} for {self.operation} from {self.valid_from:%d %b %Y}"


class EnrichmentJob(models.Model):
    """One run of one operation over a list, or over one form.

    The eight `rows_…` counters change in the transaction that changes the rows and sum to `rows_total`.
    `useful_results` changes with them: rows whose answer is what was hoped for, found here or known before.
    `price` and `charged_when_empty` are pinned at the start. `fresh_after` is the oldest answer that is reused.
    """

    name = models.CharField(max_length=200)
    operation = models.CharField(max_length=40)
    mode = models.CharField(max_length=6, choices=Mode.choices, default=Mode.BULK)
    source = models.CharField(max_length=10, choices=Source.choices, default=Source.BROWSER)
    state = models.CharField(max_length=12, choices=JobState.choices, default=JobState.DRAFT, db_index=True)
    pause_reason = models.CharField(
        max_length=10, choices=PauseReason.choices, default=PauseReason.NONE, blank=True
    )
    state_text = models.CharField(
        max_length=300, blank=True, help_text="Why it is paused, failed or waits, as a sentence."
    )
    environment = models.CharField(max_length=20, blank=True)
    realm = models.CharField(max_length=10, choices=Realm.choices, blank=True)
    key = models.ForeignKey(
        "keys.KeyRecord", on_delete=models.PROTECT, null=True, blank=True, related_name="jobs"
    )
    purpose = models.CharField(max_length=300, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="jobs")
    team = models.ForeignKey(
        "people.Team", on_delete=models.PROTECT, null=True, blank=True, related_name="jobs"
    )
    upload = models.ForeignKey(Upload, on_delete=models.PROTECT, null=True, blank=True, related_name="jobs")
    mapping = models.JSONField(default=dict, blank=True, help_text="Input field → column index.")
    query = models.JSONField(default=dict, blank=True, help_text="Icypeas' query of a search for leads.")
    # The finished job whose rows this one goes on with, and the position there of each row here, in their order.
    continues = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="continued_by"
    )
    continued_rows = models.JSONField(default=list, blank=True)
    freshness_days = models.PositiveIntegerField(default=90)
    fresh_after = models.DateTimeField(null=True, blank=True)
    attempt = models.PositiveIntegerField(default=1, help_text="Rises when failed rows are sent again.")
    # Calls that cannot be looked up: so many credits may be paid again without asking a person; set before the start.
    pay_again_limit = models.DecimalField(max_digits=14, decimal_places=3, default=Decimal(0))
    paid_again = models.DecimalField(max_digits=14, decimal_places=3, default=Decimal(0))
    sample_rows = models.PositiveIntegerField(
        default=0, help_text="So many random rows are asked before the others; 0: all at once."
    )
    # Set when the sample's rows have their answers, with how many were asked and how many answers are good.
    sampled_at = models.DateTimeField(null=True, blank=True)
    sample_asked = models.PositiveIntegerField(default=0)
    sample_good = models.PositiveIntegerField(default=0)
    start_token = models.CharField(max_length=64, unique=True)
    price = models.DecimalField(max_digits=10, decimal_places=3, default=Decimal(0))
    charged_when_empty = models.BooleanField(default=False)
    price_version = models.ForeignKey(
        Price, on_delete=models.PROTECT, null=True, blank=True, related_name="jobs"
    )
    estimate_min = models.DecimalField(max_digits=14, decimal_places=3, default=Decimal(0))
    estimate_expected = models.DecimalField(max_digits=14, decimal_places=3, default=Decimal(0))
    estimate_max = models.DecimalField(max_digits=14, decimal_places=3, default=Decimal(0))
    rows_total = models.PositiveIntegerField(default=0)
    rows_found = models.PositiveIntegerField(default=0)
    rows_not_found = models.PositiveIntegerField(default=0)
    rows_cached = models.PositiveIntegerField(default=0)
    rows_skipped = models.PositiveIntegerField(default=0)
    rows_failed = models.PositiveIntegerField(default=0)
    rows_uncertain = models.PositiveIntegerField(default=0)
    rows_in_flight = models.PositiveIntegerField(default=0)
    rows_waiting = models.PositiveIntegerField(default=0)
    useful_results = models.PositiveIntegerField(default=0)
    # The draft's row check: how far it got, and what it found ({"skipped": {code: {…}}, "warnings": {code: {…}}}).
    is_checked = models.BooleanField(default=False)
    check_generation = models.PositiveIntegerField(
        default=0, help_text="A newer check makes an older one stop."
    )
    skip_codes = models.JSONField(
        default=list, blank=True, help_text="Warnings whose rows the person chose to skip."
    )
    check_error = models.CharField(max_length=500, blank=True)
    findings = models.JSONField(default=dict, blank=True)
    corrections = models.JSONField(
        default=dict,
        blank=True,
        help_text="What a person put in the place of a draft's cells, by position; a new check of the same rows keeps it.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True, db_index=True)
    prepared_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    heard_at = models.DateTimeField(null=True, blank=True, help_text="Last answer of Icypeas for this job.")
    paused_at = models.DateTimeField(null=True, blank=True)
    holds_reservation = models.BooleanField(
        default=True,
        help_text="False after a long pause: the waiting rows are not covered until it is resumed.",
    )
    # Set while a wake-up is on its way or a slice is at work; old values are swept. `slice_at` is the slice's last beat.
    dispatched_at = models.DateTimeField(null=True, blank=True)
    slice_at = models.DateTimeField(null=True, blank=True)
    next_due_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        indexes = (
            models.Index(fields=["state", "-id"]),
            models.Index(fields=["team", "-id"]),
            models.Index(fields=["operation", "realm", "-id"]),
        )

    def __str__(self) -> str:
        return f"#{self.pk} {self.name}"

    @property
    def counts(self) -> dict[str, int]:
        """Rows by state, in the bar's order."""
        return {state.value: getattr(self, f"rows_{state.value}") for state in RowState}

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @property
    def is_finished(self) -> bool:
        return self.state in TERMINAL

    @property
    def rows_answered(self) -> int:
        """Rows that have an answer."""
        return self.rows_found + self.rows_not_found + self.rows_cached

    @property
    def rows_open(self) -> int:
        return self.rows_waiting + self.rows_in_flight

    @property
    def is_sampling(self) -> bool:
        """Only the rows of the sample may be sent."""
        return self.sample_rows > 0 and self.sampled_at is None

    @property
    def is_silent(self) -> bool:
        """Paused for a reason for which not even answers can be read."""
        return self.state == JobState.PAUSED and self.pause_reason in SILENT_PAUSES


class Question(models.Model):
    """One normal form of one operation in one realm: asked once, answered for every row of every job.

    `busy_batch` is the batch that carries it now (or may have: an uncertain one keeps it).
    """

    realm = models.CharField(max_length=10, choices=Realm.choices)
    operation = models.CharField(max_length=40)
    digest = models.CharField(max_length=32)
    inputs = models.JSONField()
    latest_answer = models.ForeignKey("Answer", on_delete=models.SET_NULL, null=True, related_name="+")
    busy_batch = models.ForeignKey(
        "Batch", on_delete=models.SET_NULL, null=True, related_name="busy_questions"
    )

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["realm", "operation", "digest"], name="one_question_per_normal_form"
            ),
        )

    def __str__(self) -> str:
        return f"{self.operation} {self.digest}"


class Answer(models.Model):
    """What Icypeas said for one question at one time. `raw` is its item as received; `job` is the job that paid."""

    question = models.ForeignKey(Question, on_delete=models.CASCADE, related_name="answers")
    job = models.ForeignKey(EnrichmentJob, on_delete=models.PROTECT, related_name="+")
    batch = models.ForeignKey("Batch", on_delete=models.PROTECT, related_name="+")
    verdict = models.CharField(max_length=14)
    is_good = models.BooleanField()
    result = models.JSONField(default=dict)
    raw = models.JSONField(default=dict)
    raw_status = models.CharField(max_length=40, blank=True)
    provider_id = models.CharField(max_length=128)
    credits = models.DecimalField(max_digits=10, decimal_places=3)
    answered_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.verdict} for {self.question_id}"


class EnrichmentRow(models.Model):
    """One line of the upload. `cells` are the original cells; `inputs` the normal form that would be sent; `told` what a
    person put in the place of cells that could not be asked (input field → text).

    `is_lead` marks the one row of the job that stands for its question: it carries reservation and charge.
    """

    ACCEPTED_PAID = "accepted_paid"  # reason of a failed row that was uncertain and is counted as paid

    job = models.ForeignKey(EnrichmentJob, on_delete=models.CASCADE, related_name="rows")
    position = models.PositiveIntegerField()
    cells = models.JSONField()
    inputs = models.JSONField(default=dict)
    told = models.JSONField(null=True, blank=True)
    digest = models.CharField(max_length=32, blank=True)
    state = models.CharField(max_length=10, choices=RowState.choices, default=RowState.WAITING)
    reason_code = models.CharField(max_length=40, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    warning = models.CharField(max_length=40, blank=True)
    is_lead = models.BooleanField(default=False)
    in_sample = models.BooleanField(default=False)
    question = models.ForeignKey(
        Question, on_delete=models.PROTECT, null=True, blank=True, related_name="rows"
    )
    answer = models.ForeignKey(Answer, on_delete=models.PROTECT, null=True, blank=True, related_name="rows")

    class Meta:
        ordering = ("job", "position")
        constraints = (models.UniqueConstraint(fields=["job", "position"], name="one_row_per_position"),)
        indexes = (
            models.Index(fields=["job", "state", "position"]),
            models.Index(fields=["job", "question"]),
            models.Index(fields=["job", "digest"]),
        )

    def __str__(self) -> str:
        return f"row {self.position} of job {self.job_id}"

    @property
    def credits(self) -> Decimal | None:
        """Credits that this row cost: only the lead row pays. None while unknown."""
        if self.state in (RowState.WAITING, RowState.IN_FLIGHT, RowState.UNCERTAIN):
            return None
        if self.reason_code == self.ACCEPTED_PAID:
            return self.job.price if self.is_lead else Decimal(0)
        return self.answer.credits if self.answer and self.is_lead else Decimal(0)


class Batch(models.Model):
    """What one paid call carries, and the intent of its current attempt.

    `lease_until` and `fence` say who works on it; every write of a worker asks for its own fence. `name` is unique and
    is what a lost submit is looked up by; items are looked up by their external ids. `attempt` counts intents: a
    second one is made only when the first surely reached nobody (`calls` keep the story of each).
    """

    job = models.ForeignKey(EnrichmentJob, on_delete=models.PROTECT, related_name="batches")
    account = models.ForeignKey("keys.Account", on_delete=models.PROTECT, related_name="+")
    number = models.PositiveIntegerField()
    mode = models.CharField(max_length=6, choices=Mode.choices)
    state = models.CharField(max_length=10, choices=BatchState.choices, default=BatchState.READY)
    size = models.PositiveIntegerField()
    price = models.DecimalField(max_digits=10, decimal_places=3)
    claims = models.PositiveIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=120, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    name = models.CharField(max_length=80, blank=True, db_index=True)
    request_hash = models.CharField(max_length=64, blank=True)
    fingerprint = models.CharField(max_length=12, blank=True)
    intent_at = models.DateTimeField(null=True, blank=True)
    provider_ref = models.CharField(
        max_length=128, blank=True, help_text="File id, or search id of a single."
    )
    sent_at = models.DateTimeField(null=True, blank=True)
    # A list: {"pages" read in this pass, "cursor" where the next one begins, "seen": the items of the last one,
    # "failed" reads there}; a page of leads: {"token" of the page before, "next": that of the page after}.
    cursor = models.JSONField(null=True, blank=True)
    passes = models.PositiveIntegerField(default=0)
    looks = models.PositiveIntegerField(default=0)
    looked_at = models.DateTimeField(null=True, blank=True)
    next_at = models.DateTimeField(null=True, blank=True)
    unmatched = models.JSONField(null=True, blank=True)  # an answer that fits none of the rows, as it came
    message = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("job", "number")
        constraints = (models.UniqueConstraint(fields=["job", "number"], name="one_batch_per_number"),)
        indexes = (
            models.Index(fields=["account", "state", "next_at"]),
            models.Index(fields=["state", "lease_until"]),
        )

    def __str__(self) -> str:
        return f"batch {self.number} of job {self.job_id}"


class BatchItem(models.Model):
    """One question in one batch. `external_id` comes back with most answers; `provider_id` is the search's own id, as soon
    as a call named it, and finds it in a listing that says no external id. `other` is a second, different answer under the
    same external id, as it came: the first one stands."""

    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="items")
    question = models.ForeignKey(Question, on_delete=models.PROTECT, related_name="+")
    external_id = models.CharField(max_length=60)
    provider_id = models.CharField(max_length=128, blank=True)
    is_settled = models.BooleanField(default=False)
    other = models.JSONField(null=True, blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["batch", "external_id"], name="one_item_per_external_id"),
        )
        indexes = (models.Index(fields=["external_id"]),)

    def __str__(self) -> str:
        return self.external_id


class LeadCount(models.Model):
    """How many leads a query has: asked on a page, answered by a worker. `error` says why there is no answer."""

    operation = models.CharField(max_length=40)
    query = models.JSONField()
    digest = models.CharField(max_length=32, db_index=True)
    key = models.ForeignKey("keys.KeyRecord", on_delete=models.CASCADE, related_name="+")
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    asked_at = models.DateTimeField(db_index=True)
    answered_at = models.DateTimeField(null=True)
    total = models.PositiveIntegerField(null=True)
    error = models.CharField(max_length=300, blank=True)

    def __str__(self) -> str:
        return f"{self.operation}: {self.total if self.answered_at else 'asked'}"


class HookCall(models.Model):
    """A webhook as it came: a hint that something at Icypeas has ended, until a worker has checked its signature.

    Of its data only ids are kept; what it claims is read from Icypeas. The same call twice is one row.
    """

    account = models.ForeignKey("keys.Account", on_delete=models.CASCADE, related_name="+")
    received_at = models.DateTimeField(db_index=True)
    stamp = models.CharField(max_length=40)
    signature = models.CharField(max_length=64)
    digest = models.CharField(max_length=32)
    ids = models.JSONField()  # file and search ids, external ids
    state = models.CharField(max_length=8, choices=HookState.choices, default=HookState.WAITING)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["account", "digest"], name="one_row_per_hook"),)
        indexes = (models.Index(fields=["state", "received_at"]),)

    def __str__(self) -> str:
        return f"{self.state} hook of {self.account_id}"


class JobEvent(models.Model):
    """What happened to a job, in plain words, newest first on its page."""

    job = models.ForeignKey(EnrichmentJob, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField()
    icon = models.CharField(max_length=30)
    tone = models.CharField(max_length=6, blank=True)
    text = models.CharField(max_length=300)
    person = models.CharField(max_length=120, blank=True)

    class Meta:
        ordering = ("-id",)
        indexes = (models.Index(fields=["job", "-id"]),)

    def __str__(self) -> str:
        return self.text

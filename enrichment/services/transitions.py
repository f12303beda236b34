"""The only ways in which rows and jobs change state, so that counters and story always fit."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import transaction
from django.db.models import Case, Count, F, QuerySet, Value, When

from enrichment.choices import ANSWERED_ROWS, OPEN_ROWS, WORKED_ON, JobState, PauseReason, RowState
from enrichment.models import EnrichmentJob, EnrichmentRow, JobEvent
from keys.clock import db_now


def lock_job(job_id: int) -> EnrichmentJob:
    """The job, locked until the transaction ends."""
    return (
        EnrichmentJob.objects.select_for_update(no_key=True, of=("self",))
        .select_related("key")
        .get(id=job_id)
    )


def lock_jobs(job_ids: set[int]) -> dict[int, EnrichmentJob]:
    """Several jobs, locked in the order of their ids so that two transactions never wait for each other."""
    jobs = EnrichmentJob.objects.select_for_update(no_key=True, of=("self",)).select_related("key")
    return {job.id: job for job in jobs.filter(id__in=job_ids).order_by("id")}


def move_rows(job_id: int, rows: QuerySet[EnrichmentRow], to: RowState, **changes: Any) -> int:
    """Move `rows` (all of one locked job) to a state and keep the counters; how many moved."""
    before = dict(rows.order_by().values_list("state").annotate(Count("id")))
    if not before:
        return 0
    # Counted before they move: `rows` may be chosen by the state that they leave. An answered row stays answered.
    useful = rows.filter(question__latest_answer__is_good=True).count() if to in ANSWERED_ROWS else 0
    moved = rows.update(state=to, **changes)
    if moved != sum(before.values()):
        # PostgreSQL sees more with each statement: answers of another job made rows into some of `rows` in between.
        _recount(job_id)
        return moved
    deltas: dict[str, int] = {f"rows_{to.value}": moved, "useful_results": useful}
    for state, count in before.items():
        deltas[f"rows_{state}"] = deltas.get(f"rows_{state}", 0) - count
    EnrichmentJob.objects.filter(id=job_id).update(
        **{name: F(name) + delta for name, delta in deltas.items()}
    )
    return moved


def _recount(job_id: int) -> None:
    """The counters of a locked job from its rows."""
    rows = EnrichmentRow.objects.filter(job_id=job_id).order_by()
    counts = dict(rows.values_list("state").annotate(Count("id")))
    useful = rows.filter(state__in=ANSWERED_ROWS, answer__is_good=True).count()
    EnrichmentJob.objects.filter(id=job_id).update(
        useful_results=useful, **{f"rows_{state.value}": counts.get(state, 0) for state in RowState}
    )


def heard(job_ids: Collection[int]) -> None:
    """A clear answer came: what the page says of the last try is over. A job that was stopped meanwhile says why."""
    text = Case(When(state=JobState.RUNNING, then=Value("")), default=F("state_text"))
    EnrichmentJob.objects.filter(id__in=job_ids).update(heard_at=db_now(), state_text=text)


def tell(job_id: int, text: str, *, icon: str, tone: str = "", person: str = "") -> None:
    """Add a line to the job's story."""
    JobEvent.objects.create(job_id=job_id, at=db_now(), text=text[:300], icon=icon, tone=tone, person=person)


def reopen(job: EnrichmentJob) -> None:
    """Let a locked job be worked on again because rows of it are open again. One that was cancelled goes back to
    cancelling, which sends nothing and ends when its rows have come back; one that is active stays what it is."""
    back = {JobState.COMPLETED: JobState.RUNNING, JobState.CANCELLED: JobState.CANCELLING}
    EnrichmentJob.objects.filter(id=job.id).update(
        state=back.get(JobState(job.state), job.state), finished_at=None, next_due_at=db_now()
    )


def pause(job: EnrichmentJob, reason: PauseReason, text: str) -> None:
    """Pause a locked, running job for a reason that is not a person's. Nothing is lost; reservations stay."""
    if job.state not in (JobState.RUNNING, JobState.QUEUED):
        return
    EnrichmentJob.objects.filter(id=job.id).update(
        state=JobState.PAUSED,
        pause_reason=reason,
        state_text=text[:300],
        paused_at=db_now(),
        next_due_at=db_now(),
    )
    tell(job.id, text, icon="circle-pause", tone="warn")


def pause_fellows(job: EnrichmentJob, reason: PauseReason, text: str, *, is_key_alone: bool = False) -> None:
    """Icypeas refused the account, or one key of it: other jobs would only be told the same, so they pause before they
    ask. During a rotation another key of the account may well be accepted. Not inside a transaction that locks a job."""
    assert job.key is not None
    jobs = EnrichmentJob.objects.filter(state__in=(JobState.QUEUED, JobState.RUNNING)).exclude(id=job.id)
    jobs = jobs.filter(key=job.key) if is_key_alone else jobs.filter(key__account=job.key.account_id)
    for fellow_id in list(jobs.order_by("id").values_list("id", flat=True)):
        with transaction.atomic():
            pause(lock_job(fellow_id), reason, f"{text} Job #{job.id} was told so.")


def finish_if_done(job_id: int) -> bool:
    """End the job when no row is open; any worker may try, the state decides. True when the job has ended."""
    with transaction.atomic():
        job = lock_job(job_id)
        if job.state not in WORKED_ON or job.state == JobState.QUEUED:
            return job.is_finished
        if job.rows_open or EnrichmentRow.objects.filter(job=job, state__in=OPEN_ROWS).exists():
            return False
        if job.state == JobState.CANCELLING:
            state, text, icon = (
                JobState.CANCELLED,
                "Cancelled; every row that was at Icypeas has come back",
                "circle-slash",
            )
            if job.rows_uncertain:
                rows = "1 row is" if job.rows_uncertain == 1 else f"{job.rows_uncertain:,} rows are"
                text = f"Cancelled; {rows} uncertain, every other row that was at Icypeas has come back"
        else:
            state, text, icon = JobState.COMPLETED, "Finished", "circle-check"
            if job.rows_uncertain:
                text = f"Finished with {job.rows_uncertain:,} uncertain rows"
        EnrichmentJob.objects.filter(id=job.id).update(
            state=state,
            pause_reason=PauseReason.NONE,
            state_text="",
            finished_at=db_now(),
            next_due_at=None,
        )
        tell(job.id, text, icon=icon, tone="ok" if state == JobState.COMPLETED else "")
    return True


def pause_after_sample(job_id: int) -> bool:
    """Pause a job whose sample has its answers, for a person to say whether the rest is worth it. True when it was paused."""
    with transaction.atomic():
        job = lock_job(job_id)
        if job.state != JobState.RUNNING or not job.is_sampling:
            return False
        sample = EnrichmentRow.objects.filter(job=job, in_sample=True)
        if sample.filter(state__in=OPEN_ROWS).exists():
            return False
        answered = sample.filter(state__in=ANSWERED_ROWS)
        job.sampled_at = db_now()
        job.sample_asked = answered.count()
        job.sample_good = answered.filter(answer__is_good=True).count()
        job.save(update_fields=["sampled_at", "sample_asked", "sample_good"])
        # What the other rows can cost is reserved when a person goes on.
        EnrichmentJob.objects.filter(id=job_id).update(holds_reservation=False)
        pause(
            job,
            PauseReason.SAMPLE,
            f"The sample is done: {job.sample_good:,} of {job.sample_asked:,} answers are what you hoped for. "
            "Look at the figures, then go on or cancel.",
        )
    return True

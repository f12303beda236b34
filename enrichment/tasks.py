"""Celery tasks: an id in, one service call. Messages are wake-ups; the rows are the work."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from celery import shared_task
from django.conf import settings

from enrichment import roll_call, watchdog
from enrichment.services import (
    balances,
    decisions,
    hooks,
    key_tests,
    lead_counts,
    processing,
    reservations,
    uploads,
)
from keys import calls, findings, ledger, reminders
from keys.services import worker_seen
from people import digests, seals

__all__ = ("roll_call", "watchdog")  # their receivers are connected by this import, in every worker

URGENT, WORK = "urgent", "work"


@shared_task
def run_job(job_id: int) -> None:
    """One slice of a job. Where its time was over before its work, the next one is behind whoever else waits, at once:
    the sweep would come seconds later."""
    if processing.run_slice(job_id):
        _ring(job_id, is_urgent=processing.is_for_person(job_id))


def _ring(job_id: int, *, is_urgent: bool) -> None:
    """Wake a job, unless somebody else did."""
    if processing.mark_dispatched(job_id):
        # After that time it is sent again, and the older message would be a second slice of the same job.
        run_job.apply_async(
            (job_id,), queue=URGENT if is_urgent else WORK, expires=max(settings.LEASE_S, 10.0)
        )


@shared_task
def run_check(job_id: int) -> None:
    """Read and check the list of a draft."""
    worker_seen()
    uploads.check_rows(job_id)


@shared_task
def read_balance(account_id: int) -> None:
    """A person wants to see a fresh balance."""
    worker_seen()
    balances.read_balance(account_id)


@shared_task
def test_key(test_id: int) -> None:
    """A person wants to know whether a key works."""
    worker_seen()
    key_tests.run(test_id)


@shared_task
def count_leads(count_id: int) -> None:
    """A person wants to know how many leads a search has."""
    worker_seen()
    lead_counts.answer(count_id)


@shared_task
def heed_hooks(account_id: int) -> None:
    """Webhooks came: check them, and look at what they name."""
    worker_seen()
    for job_id, is_urgent in hooks.heed(account_id):
        _ring(job_id, is_urgent=is_urgent)


@shared_task
def send_digest(person_id: int) -> None:
    """The notices of a person by mail."""
    digests.send(person_id)


@shared_task
def sweep_due() -> None:
    """Wake what is due and was not woken: this alone finishes every job when messages get lost."""
    worker_seen()
    for job_id, is_urgent in processing.due_jobs():
        _ring(job_id, is_urgent=is_urgent)
    for job_id in uploads.due_checks():
        run_check.apply_async((job_id,), queue=WORK)
    for test_id in key_tests.due_tests():
        test_key.apply_async((test_id,), queue=URGENT, expires=max(settings.SWEEP_S, 10.0))
    decisions.accept_overdue()
    decisions.end_rows_asked_elsewhere()
    reservations.give_back_overdue()
    lead_counts.forget()
    hooks.forget()
    calls.forget_old()
    ledger.fold()
    seals.seal_new()
    for account_id in hooks.waiting_accounts():
        heed_hooks.apply_async((account_id,), queue=URGENT)
    for account_id in balances.due_accounts():
        read_balance.apply_async((account_id,), queue=URGENT)
    findings.sweep()
    reminders.sweep()
    for person_id in digests.due_people():
        send_digest.apply_async((person_id,), queue=WORK, expires=max(settings.SWEEP_S, 10.0))

"""The send path of everything that is paid.

Every paid call: claim (lease and fence) → gate → intent committed → send outside any transaction → record where the
fence is still ours. After a crash, or an answer that never came, the batch is looked up and never sent again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.urls import reverse

from enrichment import operations
from enrichment.choices import BatchState, JobState, Mode, PauseReason, RowState
from enrichment.models import Batch, BatchItem, EnrichmentJob, EnrichmentRow, Question
from enrichment.providers.base import (
    BadInputError,
    BulkRequest,
    FindRequest,
    ItemState,
    KeyRejectedError,
    LeadPage,
    NotSentError,
    Provider,
    ProviderError,
    ProviderItem,
    RateLimitedError,
    RefusedError,
    SingleRequest,
    UncertainOutcomeError,
)
from enrichment.services import consequences, leases, reservations
from enrichment.services.answers import (
    CANCELLED,
    NO_ANSWER,
    NO_ANSWER_TEXT,
    close,
    hold,
    leave_uncertain,
    record_items,
    return_rows,
)
from enrichment.services.provider_call import call, errand_for, keep_look, keep_slot, persist
from enrichment.services.transitions import heard, lock_job, move_rows, pause, pause_fellows, tell
from keys import gate, limiter
from keys.clock import db_now
from keys.models import Account

MAX_CLAIMS = 3  # a batch that took three workers down before it was sent is not tried a fourth time
PATIENT_TRIES = 3  # after a 429 so many waits are no longer than the window of the route
MOST_WAIT_S = 60.0
POISON = "poison"
POISON_TEXT = "This batch stopped three workers before it was sent, so it is left out; nothing was charged."
REFUSED = "refused"


class NothingSentError(Exception):
    """The batch was not sent and is free again: the job no longer runs, or another worker has it."""


def send(batch: Batch) -> None:
    """Send one claimed READY batch. Leaves it SENT, DOUBT, REFUSED or READY (to be tried again), or dissolved.

    Raises `BusyError` when the limiter's next slot is too far away (the batch is READY and free).
    """
    job = EnrichmentJob.objects.select_related("key", "created_by").get(id=batch.job_id)
    operation = operations.get(job.operation)
    # A route that answers at once has another one for a row alone.
    is_alone = job.mode == Mode.SINGLE or (batch.mode == Mode.DIRECT and batch.size == 1)
    route = operation.single_route if is_alone else operation.bulk_route
    errand = errand_for(job, route=route, scope=operation.scope(job.mode), rows=batch.size)
    items = list(BatchItem.objects.filter(batch=batch).select_related("question").order_by("id"))
    if batch.mode == Mode.SINGLE:
        keep_look(batch)
    # Read now: between intent and send nothing may wait, not even for the database.
    webhook_url = hook_url(batch.account)
    with leases.heartbeat(batch):
        try:
            receipt = call(
                errand,
                lambda provider: _submit(provider, job, batch, items, webhook_url),
                between=_intent(batch, items),
            )
        except limiter.BusyError:
            Batch.objects.filter(id=batch.id, fence=batch.fence).update(
                lease_until=None, claims=batch.claims - 1
            )
            raise
        except gate.GateRefusedError as error:
            _back_to_waiting(
                batch, pause_for=consequences.pause_reason(error), text=f"Paused: {error.message}"
            )
        except NothingSentError:
            dissolve(batch)
        except NotSentError as error:
            _try_again(batch, error)
        except RateLimitedError as error:
            wait_s = _wait_after_too_many(batch, error)
            # Other batches and jobs would only be told the same: the route waits as long as this batch does.
            limiter.hold_back(account_id=batch.account_id, route=route, seconds=wait_s)
            next_try = db_now() + timedelta(seconds=wait_s)
            text = f"Icypeas refuses for too many calls (429). The next try is at {next_try:%H:%M:%S} UTC."
            _try_again(batch, error, wait_s=wait_s, text=text)
        except UncertainOutcomeError as error:
            _doubt(batch, error)
        except BadInputError as error:
            _refused(batch, error)
        except RefusedError as error:
            reason, text = consequences.pause_for(error)
            _back_to_waiting(batch, reason, text)
            if consequences.is_about_account(error):  # any other may be about this batch alone
                pause_fellows(job, reason, text, is_key_alone=isinstance(error, KeyRejectedError))
        else:
            if isinstance(receipt, str) and batch.mode == Mode.SINGLE:
                _sent_alone(batch, receipt)
            elif isinstance(receipt, str):
                # Also a list of a route that answers at once, where Icypeas chose to answer later.
                _sent(batch, receipt, Mode.BULK)
            elif isinstance(receipt, LeadPage):
                persist(partial(_fetched, batch, receipt))
            else:
                persist(partial(_answered, batch, receipt))


def _intent(batch: Batch, items: list[BatchItem]) -> Callable[[gate.Permit], None]:
    """Commit that this batch is about to be sent, unless the job was stopped or the lease is no longer ours."""

    def commit(permit: gate.Permit) -> None:
        request = json.dumps([[item.external_id, item.question.inputs] for item in items], sort_keys=True)
        with transaction.atomic():
            job = lock_job(batch.job_id)
            if job.state != JobState.RUNNING:
                raise NothingSentError
            batch.intent_at = db_now()
            changed = Batch.objects.filter(id=batch.id, fence=batch.fence, state=BatchState.READY).update(
                state=BatchState.SENDING,
                attempt=batch.attempt + 1,
                request_hash=hashlib.sha256(request.encode()).hexdigest(),
                fingerprint=permit.fingerprint,
                intent_at=batch.intent_at,
                lease_until=batch.intent_at + leases.lease_end(),
                looks=0,
                looked_at=None,
            )
            if not changed:
                raise NothingSentError
            move_rows(job.id, _rows_of(batch).filter(state=RowState.WAITING), RowState.IN_FLIGHT)

    return commit


def _submit(
    provider: Provider, job: EnrichmentJob, batch: Batch, items: list[BatchItem], webhook_url: str
) -> str | LeadPage | Sequence[ProviderItem]:
    """Send the batch: the id to read its progress by, or the answers where the call brings them."""
    if batch.mode == Mode.SINGLE:
        (item,) = items
        return provider.submit_single(
            SingleRequest(job.operation, item.question.inputs, item.external_id, webhook_url)
        )
    if operations.get(job.operation).is_search:
        token = (batch.cursor or {}).get("token", "")
        ids = [item.external_id for item in items]
        return provider.find(FindRequest(job.operation, job.query, ids, token))
    request = BulkRequest(
        operation=job.operation,
        name=batch.name,
        rows=[item.question.inputs for item in items],
        external_ids=[item.external_id for item in items],
        webhook_url=webhook_url,
    )
    return provider.submit_bulk(request) if batch.mode == Mode.BULK else provider.ask(request)


def hook_url(account: Account) -> str:
    """Where Icypeas may tell that something has ended; "" where nobody could reach us or check the signature."""
    if not (settings.PUBLIC_URL and account.hook_token and account.api_secret_ref):
        return ""
    return str(settings.PUBLIC_URL) + reverse("enrichment:hook", args=[account.hook_token])


def _rows_of(batch: Batch) -> QuerySet[EnrichmentRow]:
    """Rows of the batch's job whose question is in it and not settled."""
    questions = BatchItem.objects.filter(batch=batch, is_settled=False).values("question_id")
    return EnrichmentRow.objects.filter(job_id=batch.job_id, question_id__in=questions)


def _sent(batch: Batch, ref: str, mode: Mode) -> None:
    """Icypeas answers later: from now on the batch is followed as `mode`."""
    now = db_now()
    # Counted from the send: while its answer was on the way, Icypeas was at work.
    first = settings.SINGLE_FIRST_LOOK_S if mode == Mode.SINGLE else settings.FILE_FIRST_LOOK_S
    look_at = (batch.intent_at or now) + timedelta(seconds=first)
    Batch.objects.filter(id=batch.id, fence=batch.fence).update(
        state=BatchState.SENT,
        mode=mode,
        provider_ref=ref,
        sent_at=now,
        next_at=look_at,
        lease_until=None,
        claims=0,
        message="",
    )
    heard([batch.job_id])
    if mode == Mode.SINGLE:
        keep_slot(batch.account_id, look_at)


def _sent_alone(batch: Batch, ref: str) -> None:
    with transaction.atomic():
        BatchItem.objects.filter(batch=hold(batch)).update(provider_id=ref)
    _sent(batch, ref, Mode.SINGLE)


def _answered(batch: Batch, items: Sequence[ProviderItem]) -> None:
    """The call brought its answers. Searches that still run are read later, by their ids; a row that the call left out, or
    named without an id, may have been paid, and is left to a person."""
    with transaction.atomic():
        record_items(batch, items)
        left = {item.external_id: item for item in BatchItem.objects.filter(batch=batch, is_settled=False)}
        for item in items:
            if (
                item.state is ItemState.PENDING
                and item.external_id in left
                and item.provider_id != item.external_id
            ):
                left[item.external_id].provider_id = item.provider_id
        if any(not item.provider_id for item in left.values()):
            lost = BatchItem.objects.filter(id__in=[i.id for i in left.values() if not i.provider_id])
            leave_uncertain(batch, code=NO_ANSWER, text=NO_ANSWER_TEXT, items=lost)
            lost.update(is_settled=True)  # nothing finds them: they must not keep the others' batch open
        BatchItem.objects.bulk_update([item for item in left.values() if item.provider_id], ["provider_id"])
        if not any(item.provider_id for item in left.values()):
            close(batch)
            heard([batch.job_id])
            return
        # With the ids or not at all: searches that can be read must not count as a call that nothing looks up.
        _sent(batch, "", Mode.SINGLE)


def _fetched(batch: Batch, page: LeadPage) -> None:
    """A page of leads fills the first places of the batch; the others wait for the next page, if there is one."""
    with transaction.atomic():
        record_items(batch, page.items)
        job = lock_job(batch.job_id)
        left = BatchItem.objects.filter(batch=batch, is_settled=False)
        return_rows(job, _rows_of(batch).filter(state=RowState.IN_FLIGHT))
        Question.objects.filter(busy_batch=batch).update(busy_batch=None)
        left.delete()
        reservations.trim(job, batch=batch.id)
        Batch.objects.filter(id=batch.id, fence=batch.fence).update(
            size=len(page.items), cursor={**(batch.cursor or {}), "next": page.token}, sent_at=db_now()
        )
        close(batch)
        heard([job.id])


def _doubt(batch: Batch, error: UncertainOutcomeError) -> None:
    """It may have arrived. From here on the batch is looked up, or given up where that cannot be; nothing sends it again.
    What came and fits no row is kept: it may have been paid for, and a person can read it."""
    Batch.objects.filter(id=batch.id, fence=batch.fence, state=BatchState.SENDING).update(
        state=BatchState.DOUBT,
        lease_until=None,
        next_at=db_now(),
        message=error.message[:300],
        unmatched=error.answer,
    )
    tell(
        batch.job_id,
        f"Batch {batch.number} got no clear answer: {error.message.rstrip('.')}. {what_next(batch)}",
        icon="triangle-alert",
        tone="warn",
    )


def what_next(batch: Batch) -> str:
    """What becomes of a batch that may have arrived, as a sentence."""
    if batch.mode == Mode.DIRECT:
        return "Such a call cannot be looked up."
    return "We look it up and do not send it again."


def _wait_after_too_many(batch: Batch, error: RateLimitedError) -> float:
    """Seconds until a batch is tried again after a 429: the window of its route, and ever longer from the fourth try on,
    since then it is no burst that passes."""
    tries = batch.attempt + 1  # `batch` was read before this one
    wait_s = error.retry_after_s * 2.0 ** min(max(tries - PATIENT_TRIES, 0), 10)
    return min(wait_s, max(MOST_WAIT_S, error.retry_after_s)) / max(settings.ICYPEAS_RATE_FACTOR, 1)


def _try_again(
    batch: Batch, error: ProviderError, *, wait_s: float | None = None, text: str | None = None
) -> None:
    """Nothing was created: the same batch is sent again later. The page says `text`, or what went wrong."""
    if wait_s is None:
        wait_s = min(settings.RETRY_S * 2 ** min(batch.attempt, 6), max(settings.RETRY_S, MOST_WAIT_S))
    with transaction.atomic():
        job = lock_job(batch.job_id)
        if job.state != JobState.RUNNING:
            _dissolve_locked(batch, job)
            return
        hold(batch)
        Batch.objects.filter(id=batch.id, fence=batch.fence).update(
            state=BatchState.READY,
            lease_until=None,
            claims=0,
            next_at=db_now() + timedelta(seconds=wait_s),
            message=error.message[:300],
        )
        move_rows(job.id, _rows_of(batch).filter(state=RowState.IN_FLIGHT), RowState.WAITING)
        EnrichmentJob.objects.filter(id=job.id).update(state_text=(text or error.message)[:300])


def _refused(batch: Batch, error: BadInputError) -> None:
    """Icypeas named fields that it does not accept: nothing was created, and the same request would be refused again."""
    with transaction.atomic():
        job = lock_job(batch.job_id)
        hold(batch)
        text = f"Icypeas refused this batch: {error.message}. Nothing was charged."
        _fail_rows(batch, job, code=REFUSED, text=text)
        Batch.objects.filter(id=batch.id, fence=batch.fence).update(
            state=BatchState.REFUSED, lease_until=None, message=error.message[:300], done_at=db_now()
        )
        tell(job.id, text, icon="circle-x", tone="bad")


def _fail_rows(batch: Batch, job: EnrichmentJob, *, code: str, text: str) -> None:
    """Rows that surely cost nothing: failed, with their reservation back."""
    move_rows(job.id, _rows_of(batch), RowState.FAILED, reason_code=code, reason=text[:300])
    Question.objects.filter(busy_batch=batch).update(busy_batch=None)
    reservations.trim(job, batch=batch.id, note=code)


def _back_to_waiting(batch: Batch, pause_for: PauseReason, text: str) -> None:
    """Nothing was created; the rows wait again and the job pauses, since every other batch would end the same."""
    with transaction.atomic():
        job = lock_job(batch.job_id)
        _dissolve_locked(batch, job)
        pause(job, pause_for, text)


def dissolve(batch: Batch) -> None:
    """Take an unsent batch apart: its questions are free and its rows wait (or stay what the stop made of them). One that
    was sent after all is left to whoever follows it: taken apart, it would be sent and paid a second time."""
    with transaction.atomic():
        job = lock_job(batch.job_id)
        if hold(batch).state == BatchState.READY:
            _dissolve_locked(batch, job)
        else:
            Batch.objects.filter(id=batch.id, fence=batch.fence).update(lease_until=None)


def _dissolve_locked(batch: Batch, job: EnrichmentJob) -> None:
    hold(batch)
    return_rows(job, _rows_of(batch).filter(state=RowState.IN_FLIGHT))
    reservations.trim(job, note=CANCELLED)
    Question.objects.filter(busy_batch=batch).update(busy_batch=None)
    Batch.objects.filter(id=batch.id).delete()


def quarantine(batch: Batch) -> None:
    """A claimed batch that keeps ending its workers before anything is sent."""
    with transaction.atomic():
        job = lock_job(batch.job_id)
        hold(batch)
        _fail_rows(batch, job, code=POISON, text=POISON_TEXT)
        Batch.objects.filter(id=batch.id, fence=batch.fence).update(
            state=BatchState.REFUSED, lease_until=None, message=POISON_TEXT[:300], done_at=db_now()
        )
        tell(job.id, f"Batch {batch.number} quarantined. {POISON_TEXT}", icon="circle-x", tone="bad")

"""The send path: the only module that makes a provider client, and so the only way to Icypeas.

Every paid call: claim (lease and fence) → gate → intent committed → send outside any transaction → record where the
fence is still ours. After a crash, or an answer that never came, the batch is looked up and never sent again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from django.db.models import Case, F, QuerySet, Value, When
from django.urls import reverse

from enrichment import operations
from enrichment.choices import BatchState, JobState, Mode, PauseReason, RowState, Source
from enrichment.models import Batch, BatchItem, EnrichmentJob, EnrichmentRow, Question
from enrichment.providers import factory
from enrichment.providers.base import (
    ACCOUNT_STATUSES,
    BadInputError,
    Balance,
    BulkRequest,
    FilePage,
    FindRequest,
    ItemPage,
    ItemState,
    KeyRejectedError,
    LeadPage,
    NotSentError,
    OutOfCreditsError,
    Provider,
    ProviderError,
    ProviderItem,
    RateLimitedError,
    ReadFailedError,
    RefusedError,
    SingleRequest,
    UncertainOutcomeError,
    UnpaidError,
)
from enrichment.providers.icypeas.routes import ROUTES, interval_s
from enrichment.services import reservations
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
from enrichment.services.transitions import lock_job, move_rows, pause, pause_fellows, tell
from keys import gate, limiter
from keys.choices import Outcome
from keys.clock import db_now
from keys.models import Account, KeyRecord
from keys.use import operation_words

log = logging.getLogger(__name__)

T = TypeVar("T")

BEATS = 3  # in HEARTBEAT_S; a slice that misses so many counts as gone
RECORD_PAUSES_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
MAX_CLAIMS = 3  # a batch that took three workers down before it was sent is not tried a fourth time
PATIENT_TRIES = 3  # after a 429 so many waits are no longer than the window of the route
MOST_WAIT_S = 60.0
POISON = "poison"
POISON_TEXT = "This batch stopped three workers before it was sent, so it is left out; nothing was charged."
REFUSED = "refused"
FILES, ITEMS, BALANCE = "files-read", "items-read", "subscription-information"


def lease_end() -> timedelta:
    return timedelta(seconds=settings.LEASE_S)


@contextmanager
def heartbeat(batch: Batch) -> Iterator[None]:
    """Keep the lease, and tell that the slice lives, while a call lasts. The fence in the condition makes a taken-over
    batch stay taken over."""
    done = threading.Event()

    def beat() -> None:
        try:
            while not done.wait(min(settings.HEARTBEAT_S / BEATS, settings.LEASE_S / 3)):
                try:
                    now = db_now()
                    # A lease that was let go stays so: a beat that comes late would keep others waiting for nothing.
                    held = Batch.objects.filter(id=batch.id, fence=batch.fence, lease_until__isnull=False)
                    if held.update(lease_until=now + lease_end()):
                        EnrichmentJob.objects.filter(id=batch.job_id, slice_at__isnull=False).update(
                            slice_at=now
                        )
                except DatabaseError as error:  # a busy or restarted database: the next beat may get through
                    log.warning("batch %s: no heartbeat: %s", batch.id, type(error).__name__)
                    connection.close()
        finally:
            connection.close()

    thread = threading.Thread(target=beat, name=f"lease-{batch.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _call(
    errand: gate.Errand,
    work: Callable[[Provider], T],
    *,
    between: Callable[[gate.Permit], None] | None = None,
    max_wait_s: float = 3.0,
) -> T:
    """Through the gate, one call, recorded. `between` commits the intent after the gate and before the send. A slot of the
    limiter that is more than `max_wait_s` away is not taken.

    Raises `GateRefusedError`, `BusyError`, the provider's errors, and whatever `between` raises (then nothing was sent).
    """
    permit = gate.admit(errand, max_wait_s=min(max_wait_s, settings.LEASE_S / 3))
    started = time.monotonic()
    if between is not None:
        between(permit)
    intent_at, started = started, time.monotonic()
    try:
        if started - intent_at > settings.LEASE_S / 2:
            # A process that stood still in between: others may have looked for this call already, in vain.
            raise NotSentError("The worker stood still before it sent this; nothing left this machine.")
        with closing(_provider(permit)) as provider:
            answer = work(provider)
    except ProviderError as error:
        gate.record(
            permit, outcome_of(error), status=error.status, message=error.message, duration_ms=_ms(started)
        )
        if isinstance(error, RateLimitedError):
            limiter.hold_back(
                account_id=permit.account.id,
                route=errand.route,
                seconds=error.retry_after_s / max(settings.ICYPEAS_RATE_FACTOR, 1),
            )
        raise
    try:
        _persist(partial(gate.record, permit, Outcome.OK, duration_ms=_ms(started)))
    except DatabaseError as fault:  # the answer counts for more than its line among the calls
        log.error("a call of %s is not among the calls: %s", permit.key.name, type(fault).__name__)
    return answer


def _persist(record: Callable[[], None]) -> None:
    """Write down what a call brought. An answer that nothing looks up exists only here, so a database that is busy, or was
    restarted, is tried again for as long as it takes such a thing to pass."""
    for pause_s in (*RECORD_PAUSES_S, None):
        try:
            return record()
        except (OperationalError, InterfaceError) as error:
            if pause_s is None or connection.in_atomic_block:
                raise
            log.warning("what a call brought is not written down yet: %s", type(error).__name__)
            connection.close()
            time.sleep(pause_s)


def _provider(permit: gate.Permit) -> Provider:
    try:
        return factory.make_provider(
            base_url=settings.ICYPEAS_BASE_URL,
            secret=permit.resolved.secret.reveal(),
            user_id=permit.account.user_id,
            api_secret=permit.api_secret.secret.reveal() if permit.api_secret else None,
        )
    except ValueError as error:  # an address of Icypeas that is none: whoever set it can mend it
        reason = str(error)
    raise NotSentError(reason)


def _ms(started: float) -> int:
    return int((time.monotonic() - started) * 1000)


def outcome_of(error: ProviderError) -> Outcome:
    """The call's outcome for an error of the tree."""
    for kind, outcome in (
        (NotSentError, Outcome.NOT_SENT),
        (RateLimitedError, Outcome.VENDOR_429),
        (UncertainOutcomeError, Outcome.UNCERTAIN),
        (KeyRejectedError, Outcome.VENDOR_401),
        (UnpaidError, Outcome.UNPAID),
        (OutOfCreditsError, Outcome.OUT_OF_CREDITS),
    ):
        if isinstance(error, kind):
            return outcome
    if isinstance(error, ReadFailedError):
        return Outcome.VENDOR_5XX if error.status and error.status >= 500 else Outcome.READ_FAILED
    return Outcome.VENDOR_403 if error.status == 403 else Outcome.VENDOR_REJECTED


def slot_s(route: str) -> float:
    """Seconds between two calls of a route."""
    return interval_s(ROUTES[route]) / settings.ICYPEAS_RATE_FACTOR


def keep_look(batch: Batch) -> None:
    """What is sent for a person now is looked for in a moment, and its slot of reading is to be free then."""
    keep_slot(batch.account_id, db_now() + timedelta(seconds=settings.SINGLE_FIRST_LOOK_S))


def keep_slot(account_id: int, at: datetime) -> None:
    """No list may take the slot of reading at `at`."""
    limiter.keep_slot(account_id=account_id, route=ITEMS, at=at, interval_s=slot_s(ITEMS))


def read_ahead_s() -> float:
    """How far ahead of its time a list may take a slot of reading. Whatever is sent for a person now is looked for
    `SINGLE_FIRST_LOOK_S` later, and must not meet a slot that was taken before it could keep one."""
    return max(settings.SINGLE_FIRST_LOOK_S - slot_s(ITEMS), 0.0)


def person_waits_s() -> float:
    """How long a look for a person may wait for its slot: another person's may have just gone."""
    return max(3.0, 2 * slot_s(ITEMS))


def errand_for(
    job: EnrichmentJob, *, route: str, scope: str, rows: int = 0, is_for_person: bool = False
) -> gate.Errand:
    """What the gate must know about a call for this job."""
    operation = operations.get(job.operation)
    assert job.key_id is not None
    # A look-up is named after whom it asks for, and calls and their sums outlive every row: they are told what was done.
    text = operation_words(operation.name, 1) if job.source == Source.LOOKUP else job.name
    return gate.Errand(
        key_id=job.key_id,
        environment=job.environment,
        scope=scope,
        route=route,
        interval_s=slot_s(route),
        job=job.id,
        job_text=text,
        person=job.created_by.name,
        operation=operation.name,
        rows=rows,
        is_for_person=is_for_person,
    )


# --- paid: one batch ---------------------------------------------------------------------------------------------------


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
    with heartbeat(batch):
        try:
            receipt = _call(
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
            _back_to_waiting(batch, pause_for=pause_reason(error), text=f"Paused: {error.message}")
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
            _doubt(batch, error.message)
        except BadInputError as error:
            _refused(batch, error)
        except RefusedError as error:
            reason, text = pause_for(error)
            _back_to_waiting(batch, reason, text)
            pause_fellows(job, reason, text, is_key_alone=isinstance(error, KeyRejectedError))
        else:
            if isinstance(receipt, str) and batch.mode == Mode.SINGLE:
                _sent_alone(batch, receipt)
            elif isinstance(receipt, str):
                # Also a list of a route that answers at once, where Icypeas chose to answer later.
                _sent(batch, receipt, Mode.BULK)
            elif isinstance(receipt, LeadPage):
                _persist(partial(_fetched, batch, receipt))
            else:
                _persist(partial(_answered, batch, receipt))


def _intent(batch: Batch, items: list[BatchItem]) -> Callable[[gate.Permit], None]:
    """Commit that this batch is about to be sent, unless the job was stopped or the lease is no longer ours."""

    def commit(permit: gate.Permit) -> None:
        request = json.dumps([[item.external_id, item.question.inputs] for item in items], sort_keys=True)
        with transaction.atomic():
            job = lock_job(batch.job_id)
            if job.state != JobState.RUNNING:
                raise NothingSentError
            changed = Batch.objects.filter(id=batch.id, fence=batch.fence, state=BatchState.READY).update(
                state=BatchState.SENDING,
                attempt=batch.attempt + 1,
                request_hash=hashlib.sha256(request.encode()).hexdigest(),
                fingerprint=permit.fingerprint,
                intent_at=db_now(),
                lease_until=db_now() + lease_end(),
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
    first = settings.SINGLE_FIRST_LOOK_S if mode == Mode.SINGLE else settings.FILE_FIRST_LOOK_S
    Batch.objects.filter(id=batch.id, fence=batch.fence).update(
        state=BatchState.SENT,
        mode=mode,
        provider_ref=ref,
        sent_at=now,
        next_at=now + timedelta(seconds=first),
        lease_until=None,
        claims=0,
        message="",
    )
    _heard(batch.job_id)
    if mode == Mode.SINGLE:
        keep_look(batch)


def _heard(job_id: int) -> None:
    """A clear answer came: what the page says of the last try is over. A job that was stopped meanwhile says why."""
    text = Case(When(state=JobState.RUNNING, then=Value("")), default=F("state_text"))
    EnrichmentJob.objects.filter(id=job_id).update(heard_at=db_now(), state_text=text)


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
            _heard(batch.job_id)
            return
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
        _heard(job.id)


def _doubt(batch: Batch, message: str) -> None:
    """It may have arrived. From here on the batch is looked up, or given up where that cannot be; nothing sends it again."""
    Batch.objects.filter(id=batch.id, fence=batch.fence, state=BatchState.SENDING).update(
        state=BatchState.DOUBT, lease_until=None, next_at=db_now(), message=message[:300]
    )
    tell(
        batch.job_id,
        f"Connection to Icypeas broke on batch {batch.number}: {message}. {what_next(batch)}",
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


def pause_reason(error: gate.GateRefusedError) -> PauseReason:
    """A missing scope or a cap stops sending only; without the key itself nothing can be read either."""
    is_about_sending = error.outcome in (Outcome.POLICY_SCOPE, Outcome.POLICY_BUDGET)
    return PauseReason.POLICY if is_about_sending else PauseReason.KEY


def is_about_account(error: RefusedError) -> bool:
    """Whether a refusal would meet any other call of the account as well."""
    return isinstance(error, (KeyRejectedError, UnpaidError)) or error.status in ACCOUNT_STATUSES


def pause_for(error: RefusedError) -> tuple[PauseReason, str]:
    """Why a job pauses after a refusal, and what its page says."""
    if isinstance(error, KeyRejectedError):
        hint = (
            "the key is unknown, or the account's user id is needed"
            if error.needs_user_id
            else "the key is wrong or API access is off"
        )
        return (
            PauseReason.KEY,
            f"Paused: Icypeas refused the key (401): {hint}. A key admin can test it; then press Resume.",
        )
    if isinstance(error, UnpaidError):
        return (
            PauseReason.KEY,
            "Paused: the Icypeas subscription is unpaid. Pay it at Icypeas, then press Resume.",
        )
    if isinstance(error, OutOfCreditsError):
        return (
            PauseReason.CREDITS,
            "Paused: Icypeas says the credits do not suffice. Buy credits at Icypeas, then press Resume.",
        )
    return (
        PauseReason.PROVIDER,
        f"Paused: Icypeas refused the call: {error.message}. Nothing was charged for it.",
    )


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


# --- free: reads ---------------------------------------------------------------------------------------------------------


def read_files(job: EnrichmentJob, cursor: object | None) -> FilePage:
    """One page of the account's bulks, read with the job's key."""
    errand = errand_for(job, route=FILES, scope=gate.ACCOUNT_READ)
    return _call(errand, lambda provider: provider.list_files(cursor=cursor))


def read_file_items(job: EnrichmentJob, batch: Batch, cursor: object | None) -> ItemPage:
    """One page of one finished bulk, judged by what was asked."""
    errand = errand_for(job, route=ITEMS, scope=gate.ACCOUNT_READ, rows=min(batch.size, 100))

    def read(provider: Provider) -> ItemPage:
        page = provider.read_file_items(batch.provider_ref, operation=job.operation, cursor=cursor)
        if operations.get(job.operation).direct_rows:
            page = _named_by_place(batch, page)
        return _judged(provider, page, BatchItem.objects.filter(batch=batch))

    with heartbeat(batch):
        return _call(errand, read, max_wait_s=read_ahead_s())


def _named_by_place(batch: Batch, page: ItemPage) -> ItemPage:
    """Items of a list that was sent without external ids, under those of the rows at their places. Icypeas counts places
    from 0, and an integrator saw 1; a page that tells neither names nobody."""
    ids = list(BatchItem.objects.filter(batch=batch).order_by("id").values_list("external_id", flat=True))
    places = {found.order for found in page.items if found.order is not None}
    if 0 in places and len(ids) not in places:
        first = 0
    elif len(ids) in places and 0 not in places:
        first = 1
    else:
        return page
    by_place = dict(enumerate(ids, start=first))
    items = [
        found
        if found.external_id or found.order is None
        else replace(found, external_id=by_place.get(found.order, ""))
        for found in page.items
    ]
    return replace(page, items=items)


def read_singles(
    job: EnrichmentJob, cursor: object | None, known: Mapping[str, str], *, is_for_person: bool
) -> ItemPage:
    """One page of the account's single searches, newest first. `known` has the external ids of searches whose own id we
    know: an item is that search whatever else it says."""
    errand = errand_for(job, route=ITEMS, scope=gate.ACCOUNT_READ, rows=1, is_for_person=is_for_person)

    def read(provider: Provider) -> ItemPage:
        page = provider.read_single_items(operation=None, cursor=cursor)
        page = replace(page, items=[_named(found, known) for found in page.items])
        return _judged(provider, page, BatchItem.objects.filter(batch__mode=Mode.SINGLE))

    return _call(errand, read, max_wait_s=person_waits_s())


def read_single(job: EnrichmentJob, item: BatchItem, *, is_for_person: bool) -> ProviderItem | None:
    """One search by its own id; None while Icypeas does not show it."""
    errand = errand_for(job, route=ITEMS, scope=gate.ACCOUNT_READ, rows=1, is_for_person=is_for_person)
    question = item.question

    def read(provider: Provider) -> ProviderItem | None:
        found = provider.read_item(item.provider_id, operation=question.operation)
        if found is None:
            return None
        found = replace(found, external_id=item.external_id)
        return provider.judge(found, operation=question.operation, inputs=question.inputs)

    return _call(errand, read, max_wait_s=person_waits_s())


def _named(found: ProviderItem, known: Mapping[str, str]) -> ProviderItem:
    external_id = known.get(found.provider_id)
    return found if external_id is None else replace(found, external_id=external_id)


def _judged(provider: Provider, page: ItemPage, items: QuerySet[BatchItem]) -> ItemPage:
    """The page with verdicts by the operation and the inputs that each item was asked with; foreign items stay as they are."""
    ours = {
        item.external_id: item.question
        for item in items.filter(
            external_id__in=[found.external_id for found in page.items if found.external_id]
        ).select_related("question")
    }
    judged = []
    for found in page.items:
        question = ours.get(found.external_id)
        if question is not None:
            found = provider.judge(found, operation=question.operation, inputs=question.inputs)
        judged.append(found)
    return replace(page, items=judged)


def count_leads(key: KeyRecord, operation_name: str, query: Mapping[str, Any], *, person: str) -> int:
    """How many leads a query has; free."""
    operation = operations.get(operation_name)
    errand = gate.Errand(
        key_id=key.id,
        environment=key.environment,
        scope=operation.scope(Mode.BULK),
        route=operation.count_route,
        interval_s=slot_s(operation.count_route),
        person=person,
        operation=operation.name,
    )
    return _call(errand, lambda provider: provider.count(operation.name, query))


def read_balance(key: KeyRecord, *, person: str = "", is_probe: bool = False) -> Balance:
    """The balance of the key's account."""
    errand = gate.Errand(
        key_id=key.id,
        environment=key.environment,
        scope=gate.ACCOUNT_READ,
        route=BALANCE,
        interval_s=slot_s(BALANCE),
        person=person,
        operation="balance",
        is_probe=is_probe,
    )
    return _call(errand, lambda provider: provider.read_balance(email=key.account.email))

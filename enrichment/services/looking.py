"""Looking: how far Icypeas is with what was sent, and what became of what is in doubt. One read serves every job of an account."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Min, QuerySet

from enrichment import operations
from enrichment.choices import BatchState, JobState, Mode
from enrichment.models import Batch, BatchItem, EnrichmentJob
from enrichment.providers.base import ItemState, ProviderFile, ProviderItem
from enrichment.services import answers, batching, collecting, decisions, provider_call, reads, send_path
from enrichment.services.transitions import finish_if_done, heard, tell
from keys import limiter
from keys.clock import db_now

FILE_PAGES = 20
SINGLE_PAGES = 5
LOOKS = 2
NOT_SEEN = "not_seen"
NOT_SEEN_TEXT = (
    "No clear answer came after we sent this, and Icypeas does not list it. It may have been charged."
)
NO_LOOK_UP = "no_look_up"
NO_LOOK_UP_TEXT = (
    "No clear answer came after we sent this, and such a call cannot be looked up. It may have been charged."
)
TOO_LATE = "too_late"
TOO_LATE_TEXT = "Icypeas accepted this and gave no answer within a day. It may have been charged."
UNREADABLE = "unreadable"
UNREADABLE_TEXT = "The job was cancelled, and for a day Icypeas refused to tell what became of this. It may have been charged."
BY_ID = 5  # searches that one look asks for by their own ids; each takes a slot of reading
CLOCK_SKEW = timedelta(minutes=10)  # between the database's clock and Icypeas'


def doubt_crashed_sends(job: EnrichmentJob) -> int:
    """A send whose lease is over has lost its worker between intent and record: from now on it is looked up."""
    now = db_now()
    assert job.key is not None
    crashed = Batch.objects.filter(account_id=job.key.account_id, state=BatchState.SENDING)
    count = 0
    for batch in crashed.filter(lease_until__lt=now):
        with transaction.atomic():
            changed = Batch.objects.filter(id=batch.id, fence=batch.fence, lease_until__lt=now).update(
                state=BatchState.DOUBT, fence=F("fence") + 1, lease_until=None, next_at=now
            )
            if changed:
                count += 1
                tell(
                    batch.job_id,
                    f"A worker stopped while it sent batch {batch.number}. {send_path.what_next(batch)}",
                    icon="triangle-alert",
                    tone="warn",
                )
                EnrichmentJob.objects.filter(id=batch.job_id).update(next_due_at=now)
    return count


def look(job: EnrichmentJob) -> bool:
    """Read the progress of the account's bulks and singles, if any of this job is due. One read serves every job."""
    assert job.key is not None
    due = Batch.objects.filter(job=job, state__in=(BatchState.SENT, BatchState.DOUBT), next_at__lte=db_now())
    modes = set(due.values_list("mode", flat=True))
    ways = {Mode.BULK: look_at_files, Mode.SINGLE: look_at_singles, Mode.DIRECT: give_up_direct}
    for mode in modes:
        ways[Mode(mode)](job)
    if modes:
        _give_up_late(job, modes)
    return bool(modes)


def give_up_direct(job: EnrichmentJob) -> None:
    """Calls that may have arrived and that no listing knows: within the limit that was set before the start they are
    paid again, beyond it a person decides."""
    lost = Batch.objects.filter(job=job, mode=Mode.DIRECT, state=BatchState.DOUBT)
    for batch_id in list(lost.order_by("number").values_list("id", flat=True)):
        claimed = batching.claim(batch_id, BatchState.DOUBT)
        if claimed is not None and not decisions.pay_again(claimed):
            with transaction.atomic():
                answers.hold(claimed)
                answers.leave_uncertain(claimed, code=NO_LOOK_UP, text=NO_LOOK_UP_TEXT)
                answers.close(claimed)


def _give_up_late(job: EnrichmentJob, modes: Iterable[str]) -> None:
    """What was accepted and never ended: it would keep its job open and be looked for without end."""
    assert job.key is not None
    before = db_now() - timedelta(seconds=settings.ANSWER_S)
    late = Batch.objects.filter(
        account_id=job.key.account_id, mode__in=modes, state=BatchState.SENT, sent_at__lt=before
    )
    sought = [batch.id for batch in late if batch.mode != Mode.SINGLE or _was_asked_for(job, batch)]
    _give_up(late.filter(id__in=sought), (BatchState.SENT,), code=TOO_LATE, text=TOO_LATE_TEXT)


def _was_asked_for(job: EnrichmentJob, batch: Batch) -> bool:
    """Ask for searches by their own ids before they are given up, a few at each look: a listing shows the newest only.
    Whether each was asked for."""
    asked = set((batch.cursor or {}).get("asked", ()))
    left = BatchItem.objects.filter(batch=batch, is_settled=False).exclude(provider_id="")
    items = list(left.exclude(external_id__in=asked).select_related("question").order_by("id")[:BY_ID])
    for item in items:
        _ask_for(job, batch, item, is_for_person=False)
        asked.add(item.external_id)
        Batch.objects.filter(id=batch.id).update(cursor={"asked": sorted(asked)})
    return not left.exclude(external_id__in=asked).exists()


def _ask_for(job: EnrichmentJob, batch: Batch, item: BatchItem, *, is_for_person: bool) -> bool:
    """Ask for one search by its own id; whether Icypeas has it."""
    found = reads.read_single(job, item, is_for_person=is_for_person)
    if found is not None:
        _take_in(batch, found)
    return found is not None


def give_up_cancelled(job_id: int) -> bool:
    """What a cancelled job holds at Icypeas and may not read, as when its key is refused: nobody would resume it, so it
    ends after a day. A paused job waits for its person instead. True when something was given up."""
    unread = (BatchState.SENT, BatchState.DOUBT, BatchState.COLLECTING)
    before = db_now() - timedelta(seconds=settings.ANSWER_S)
    held = Batch.objects.filter(
        job=job_id, job__state=JobState.CANCELLING, state__in=unread, intent_at__lt=before
    )
    return _give_up(held, unread, code=UNREADABLE, text=UNREADABLE_TEXT)


def _give_up(batches: QuerySet[Batch], states: Sequence[BatchState], *, code: str, text: str) -> bool:
    """Leave the open questions of each batch to a person; whether there were any."""
    given_up = False
    for batch_id in list(batches.values_list("id", flat=True)):
        claimed = batching.claim(batch_id, *states)
        if claimed is not None:
            with transaction.atomic():
                answers.hold(claimed)
                answers.leave_uncertain(claimed, code=code, text=text)
                answers.close(claimed)
            given_up = True
    return given_up


def look_at_files(job: EnrichmentJob) -> None:
    # With answers to fetch there is time; without any, waiting for the next look would be all that is done.
    is_idle = not Batch.objects.filter(job=job, state=BatchState.COLLECTING).exists()
    batches = _take_turn(job, settings.FILE_LOOK_S / (2 if is_idle else 1))
    by_ref = {batch.provider_ref: batch for batch in batches if batch.state == BatchState.SENT}
    by_name = {batch.name: batch for batch in batches if batch.state == BatchState.DOUBT}
    oldest = min((batch.intent_at for batch in batches if batch.intent_at), default=None)
    cursor: object | None = None
    for _page in range(FILE_PAGES):
        page = reads.read_files(job, cursor)
        for file in page.files:
            batch = by_ref.pop(file.file_id, None)
            if batch is not None:
                _progress(batch, file)
            batch = by_name.pop(file.name, None)
            if batch is not None:
                _adopt(batch, file.file_id)
        cursor = page.cursor
        if cursor is None or _older_than(page.files, oldest) or not (by_ref or by_name):
            break
    # Also one that is older than all pages that we read: no later look would go further back.
    for batch in by_name.values():
        _not_seen(batch)
    heard({batch.job_id for batch in batches})


def _take_turn(job: EnrichmentJob, again_s: float) -> list[Batch]:
    """The account's bulks to look for. Setting their next time first keeps other workers from reading the same."""
    assert job.key is not None
    now = db_now()
    sought = Batch.objects.filter(
        account_id=job.key.account_id, mode=Mode.BULK, state__in=(BatchState.SENT, BatchState.DOUBT)
    ).select_related("job")
    batches = list(sought)
    taken = sought.filter(id__in=[batch.id for batch in batches])
    taken.update(next_at=now + timedelta(seconds=again_s))
    for age_s, gap_s in settings.LOOK_GAPS_S:
        taken.filter(intent_at__lt=now - timedelta(seconds=age_s)).update(
            next_at=now + timedelta(seconds=max(gap_s, again_s))
        )
    return batches


def _older_than(files: object, oldest: datetime | None) -> bool:
    """Whether a page, newest first, has reached files from before the oldest batch that is sought."""
    assert isinstance(files, (list, tuple))
    times = [file.created_at for file in files if isinstance(file, ProviderFile) and file.created_at]
    return bool(oldest and times and min(times) < oldest - CLOCK_SKEW)


def _progress(batch: Batch, file: ProviderFile) -> None:
    if file.is_finished:
        now = db_now()
        Batch.objects.filter(id=batch.id, state=BatchState.SENT).update(
            state=BatchState.COLLECTING, next_at=now, cursor=None, claims=0
        )
        EnrichmentJob.objects.filter(id=batch.job_id).update(next_due_at=now)


def _adopt(batch: Batch, ref: str) -> None:
    """The send had arrived: go on with what Icypeas holds, as if the answer had come."""
    now = db_now()
    changed = Batch.objects.filter(id=batch.id, state=BatchState.DOUBT).update(
        state=BatchState.SENT, provider_ref=ref, sent_at=now, next_at=now, message="", claims=0
    )
    if changed:
        tell(
            batch.job_id,
            f"Batch {batch.number} was found at Icypeas: {batch.size:,} rows go on, none was sent twice",
            icon="circle-check",
            tone="ok",
        )
        EnrichmentJob.objects.filter(id=batch.job_id).update(next_due_at=now)


def _not_seen(batch: Batch) -> None:
    """A complete listing did not have it. It counts as a look only after the settle time, and two looks decide."""
    now = db_now()
    assert batch.intent_at is not None
    settled = batch.intent_at + timedelta(seconds=settings.SETTLE_S)
    mine = Batch.objects.filter(id=batch.id, state=BatchState.DOUBT, looks=batch.looks)
    if now < settled:
        mine.update(next_at=min(settled, now + timedelta(seconds=settings.FILE_LOOK_S)))
        return
    second = settings.SECOND_LOOK_S
    if batch.looks == 0:
        mine.update(looks=1, looked_at=now, next_at=now + timedelta(seconds=second))
        return
    if batch.looked_at and now < batch.looked_at + timedelta(seconds=second):
        mine.update(next_at=batch.looked_at + timedelta(seconds=second))
        return
    with transaction.atomic():
        if mine.update(looks=LOOKS, looked_at=now, state=BatchState.UNCERTAIN, next_at=None, done_at=now):
            answers.leave_uncertain(batch, code=NOT_SEEN, text=NOT_SEEN_TEXT)


def look_at_singles(job: EnrichmentJob) -> None:
    """One list read covers a hundred look-ups: settle those that are final, adopt those in doubt. Reads nothing when
    another worker has just begun to."""
    assert job.key is not None
    account_id = job.key.account_id
    is_for_person = _take_look(account_id)
    if is_for_person is None:
        return
    batches = list(_singles(account_id).select_related("job"))
    items = list(BatchItem.objects.filter(batch__in=batches, is_settled=False).select_related("question"))
    by_id = {batch.id: batch for batch in batches}
    sought = {item.external_id: item for item in items}
    known = {item.provider_id: item.external_id for item in items if item.provider_id}
    settled: set[int] = set()
    cursor: object | None = None
    for _page in range(SINGLE_PAGES):
        try:
            page = reads.read_singles(job, cursor, known, is_for_person=is_for_person)
        except limiter.BusyError as busy:
            _singles(account_id).filter(id__in=by_id).update(
                next_at=db_now() + timedelta(seconds=busy.wait_s)
            )
            raise
        for found in page.items:
            item = sought.get(found.external_id)
            if item is None or item.provider_id not in ("", found.provider_id):
                continue
            del sought[item.external_id]
            others = [
                each for each in page.items if each.external_id == item.external_id and each is not found
            ]
            if _take_in(by_id[item.batch_id], found, others):
                settled.add(by_id[item.batch_id].job_id)
        cursor = page.cursor
        if cursor is None or not sought:
            break
    _look_deeper(job, by_id, sought, is_cut=cursor is not None, is_for_person=is_for_person)
    for job_id in settled:  # people wait for its page
        finish_if_done(job_id)
    _keep_next_look(account_id)
    EnrichmentJob.objects.filter(id__in={batch.job_id for batch in batches}).update(heard_at=db_now())


def _singles(account_id: int) -> QuerySet[Batch]:
    """Searches of single rows whose end is not known."""
    return Batch.objects.filter(
        account_id=account_id, mode=Mode.SINGLE, state__in=(BatchState.SENT, BatchState.DOUBT)
    )


def _take_look(account_id: int) -> bool | None:
    """The right to look for everything that is due, by setting when each is due again; whether a person waits for one of
    them. None when nothing is due, or another worker was first."""
    now = db_now()
    is_for_person: bool | None = None
    for batch in _singles(account_id).filter(next_at__lte=now):
        age_s = (now - batch.sent_at).total_seconds() if batch.sent_at else 0.0
        # The longer it takes, the longer until the next look: a search that never ends must not read for ever.
        again_s = min(max(settings.SINGLE_LOOK_S, age_s / 2), settings.SINGLE_LOOK_MOST_S)
        mine = Batch.objects.filter(id=batch.id, next_at=batch.next_at)
        if mine.update(next_at=now + timedelta(seconds=again_s)):
            is_for_person = bool(is_for_person) or age_s < settings.SINGLE_LOOK_MOST_S
    return is_for_person


def _take_in(batch: Batch, found: ProviderItem, others: Sequence[ProviderItem] = ()) -> bool:
    """What a look brought about one search; `others` are listed under the same external id. True when its batch is over."""
    if batch.state == BatchState.DOUBT:
        _adopt(batch, found.provider_id)
        BatchItem.objects.filter(batch=batch, external_id=found.external_id).update(
            provider_id=found.provider_id
        )
    if found.state is ItemState.PENDING:
        return False
    claimed = batching.claim(batch.id, BatchState.SENT, BatchState.DOUBT)
    if claimed is None:
        return False
    if claimed.claims > send_path.MAX_CLAIMS:
        collecting.leave_unread(claimed)
        return True
    with transaction.atomic():  # or a kill in between would leave what is settled to nobody
        answers.record_items(claimed, [found, *others])
        return _settle(claimed)


def _look_deeper(
    job: EnrichmentJob,
    batches: dict[int, Batch],
    sought: dict[str, BatchItem],
    *,
    is_cut: bool,
    is_for_person: bool,
) -> None:
    """Searches that the listing did not show. Those that may lie behind the pages that we read, or that began with a call
    whose kind it may not list at all, are asked for by their own ids, a few at each look and by lot, so that one without
    end keeps no other back; what is in doubt and has none, or is not found by it, is not there."""
    known: list[BatchItem] = []
    there: set[int] = set()
    missed: set[int] = set()
    for item in sought.values():
        if item.provider_id and (is_cut or operations.get(item.question.operation).direct_rows):
            known.append(item)
        else:
            missed.add(item.batch_id)
    for item in random.sample(known, min(len(known), BY_ID)):
        is_there = _ask_for(job, batches[item.batch_id], item, is_for_person=is_for_person)
        (there if is_there else missed).add(item.batch_id)
    for batch_id in missed - there:
        if batches[batch_id].state == BatchState.DOUBT:
            _not_seen(batches[batch_id])


def _keep_next_look(account_id: int) -> None:
    """The slot of reading at which the next look for a person comes."""
    young = db_now() - timedelta(seconds=settings.SINGLE_LOOK_MOST_S)
    next_at = _singles(account_id).filter(sent_at__gte=young).aggregate(at=Min("next_at"))["at"]
    if next_at is not None:
        provider_call.keep_slot(account_id, next_at)


def _settle(batch: Batch) -> bool:
    """Free the claim; a batch without open questions is done. True when it is."""
    if answers.unsettled(batch):
        Batch.objects.filter(id=batch.id, fence=batch.fence).update(lease_until=None, claims=0)
        return False
    answers.close(batch)
    EnrichmentJob.objects.filter(id=batch.job_id).update(next_due_at=db_now())
    return True

"""Reads, which cost nothing: progress, answers, counts of leads, the balance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.db.models import QuerySet

from enrichment import operations
from enrichment.choices import Mode
from enrichment.models import Batch, BatchItem, EnrichmentJob
from enrichment.providers.base import Balance, FilePage, ItemPage, Provider, ProviderItem
from enrichment.services import leases
from enrichment.services.provider_call import (
    BALANCE,
    FILES,
    ITEMS,
    call,
    errand_for,
    person_waits_s,
    read_ahead_s,
    slot_s,
)
from keys import gate
from keys.models import KeyRecord


def read_files(job: EnrichmentJob, cursor: object | None) -> FilePage:
    """One page of the account's bulks, read with the job's key."""
    errand = errand_for(job, route=FILES, scope=gate.ACCOUNT_READ)
    return call(errand, lambda provider: provider.list_files(cursor=cursor))


def read_file_items(job: EnrichmentJob, batch: Batch, cursor: object | None) -> ItemPage:
    """One page of one finished bulk, judged by what was asked."""
    errand = errand_for(job, route=ITEMS, scope=gate.ACCOUNT_READ, rows=min(batch.size, 100))

    def read(provider: Provider) -> ItemPage:
        page = provider.read_file_items(batch.provider_ref, operation=job.operation, cursor=cursor)
        if operations.get(job.operation).direct_rows:
            page = _named_by_place(batch, page)
        return _judged(provider, page, BatchItem.objects.filter(batch=batch))

    with leases.heartbeat(batch):
        return call(errand, read, max_wait_s=read_ahead_s())


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

    return call(errand, read, max_wait_s=person_waits_s())


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

    return call(errand, read, max_wait_s=person_waits_s())


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
    return call(errand, lambda provider: provider.count(operation.name, query))


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
    return call(errand, lambda provider: provider.read_balance(email=key.account.email))

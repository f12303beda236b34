"""How many leads a query has: asked by a page, answered by a worker, known for a few minutes. Counting is free."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db.models import Q

from enrichment.models import LeadCount
from enrichment.operations.base import digest
from enrichment.providers.base import ProviderError, RateLimitedError
from enrichment.services import reads
from keys import gate, limiter
from keys.clock import db_now
from keys.models import KeyRecord
from people.models import User

FRESH = timedelta(minutes=10)
KEPT = timedelta(days=7)
_TRIES = 5


def note(person: User, key: KeyRecord, operation: str, query: Mapping[str, Any]) -> tuple[LeadCount, bool]:
    """The count of a query, and whether it must be asked for: one that was answered a moment ago, or is on its way,
    serves everybody with the same money."""
    now = db_now()
    name = digest({"query": repr(sorted_deeply(query))})
    same = LeadCount.objects.filter(
        operation=operation, digest=name, key__account_id=key.account_id, error=""
    ).filter(
        Q(answered_at__gte=now - FRESH)
        | Q(answered_at__isnull=True, asked_at__gte=now - timedelta(seconds=10))
    )
    known = same.order_by("-id").first()
    if known is not None:
        return known, False
    count = LeadCount.objects.create(
        operation=operation, query=dict(query), digest=name, key=key, asked_by=person, asked_at=now
    )
    return count, True


def sorted_deeply(value: Any) -> Any:
    """A query in an order that does not depend on how its form was filled in."""
    if isinstance(value, Mapping):
        return sorted((key, sorted_deeply(entry)) for key, entry in value.items())
    return sorted(map(str, value)) if isinstance(value, list) else value


def answer(count_id: int) -> None:
    """Ask Icypeas, in a worker. A count that has gone, or has its answer, is a quiet end."""
    count = LeadCount.objects.select_related("key", "asked_by").filter(id=count_id, answered_at=None).first()
    if count is None:
        return
    total, error = None, ""
    for _try in range(_TRIES):
        try:
            total = reads.count_leads(count.key, count.operation, count.query, person=count.asked_by.name)
            break
        except (limiter.BusyError, RateLimitedError):
            error = "Too many counts at once. Change a filter, or press Count again in a moment."
        except (gate.GateRefusedError, ProviderError) as refused:
            error = refused.message
            break
    LeadCount.objects.filter(id=count.id, answered_at=None).update(
        total=total, error="" if total is not None else error[:300], answered_at=db_now()
    )


def forget() -> int:
    """Drop counts that nobody needs any more; how many."""
    return LeadCount.objects.filter(asked_at__lt=db_now() - KEPT).delete()[0]

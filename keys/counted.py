"""What counts against a day or a month: what jobs reserved in it, less what they gave back of that.

A job may reserve again later: rows are sent again, it goes on after its sample or a long pause. Each reservation counts in
the time in which it was made, and what the job charges or gives back belongs to its oldest reservation that is still open.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from django.db.models import Q, QuerySet

from keys.choices import EntryKind
from keys.credit_sum import CreditSum
from keys.models import LedgerEntry

ZERO = Decimal(0)


@dataclass(frozen=True)
class Counted:
    """Credits of one span of time: `committed` is reserved in it and not given back, `charged` the part that is paid."""

    committed: Decimal = ZERO
    charged: Decimal = ZERO

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.committed + other.committed, self.charged + other.charged)


@dataclass
class _Reservation:
    open: Decimal
    counts: bool


def counted(entries: QuerySet[LedgerEntry], begin: datetime, end: datetime | None = None) -> Counted:
    """What counts of these entries from `begin` until `end`, which is not in it (None: until now)."""
    inside = Q(at__gte=begin)
    if end is not None:
        inside &= Q(at__lt=end)
    reserved = entries.filter(kind=EntryKind.RESERVED)
    jobs = reserved.filter(inside).order_by().values("job")
    # Few: jobs that reserved both in this time and before or after it. Their entries are read one by one.
    split = list(reserved.filter(~inside, job__in=jobs).order_by().values_list("job", flat=True).distinct())
    sums = (
        entries.filter(job__in=jobs)
        .exclude(job__in=split)
        .aggregate(
            **{kind.value: CreditSum("credits", filter=Q(kind=kind), default=ZERO) for kind in EntryKind}
        )
    )
    whole = Counted(sums["reserved"] - sums["released"], sums["charged"])
    if not split:
        return whole
    lines = entries.filter(job__in=split).order_by("job", "id").values_list("job", "kind", "credits", "at")
    parts = (
        _part(((kind, credits, begin <= at and (end is None or at < end)) for _, kind, credits, at in of_job))
        for _, of_job in groupby(lines.iterator(), key=lambda line: line[0])
    )
    return sum(parts, whole)


def _part(entries: Iterable[tuple[str, Decimal, bool]]) -> Counted:
    """The part of one job, from its entries as they were made: kind, credits, whether it was in the time."""
    held: list[_Reservation] = []
    committed = charged = ZERO
    for kind, credits, is_inside in entries:
        if kind == EntryKind.RESERVED:
            held.append(_Reservation(credits, is_inside))
            committed += credits if is_inside else ZERO
            continue
        for reservation in held:
            share = min(credits, reservation.open)
            reservation.open -= share
            credits -= share
            if not reservation.counts:
                continue
            if kind == EntryKind.CHARGED:
                charged += share
            else:
                committed -= share
    return Counted(committed, charged)

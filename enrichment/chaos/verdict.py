"""Both ledgers compared: ours and the one that the sandbox keeps for itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Count

from enrichment.choices import OPEN_ROWS, RowState
from enrichment.models import BatchItem, EnrichmentJob, EnrichmentRow
from keys import ledger


@dataclass(frozen=True)
class Verdict:
    """The four sets, as sorted texts, the rows that failed, by reason, and the sums of both ledgers.

    `lost`        rows without a final state, rows that are gone, answers that were charged and never kept
    `unexpected`  charges at the provider for nothing that we sent, and a difference between the two ledgers
    `duplicated`  questions that the provider charged more than once
    `uncertain`   rows that wait for a person; what they may have cost is still reserved
    """

    lost: list[str]
    unexpected: list[str]
    duplicated: list[str]
    uncertain: list[str]
    failed: dict[str, int]
    charged_here: Decimal
    charged_there: Decimal
    at_risk: Decimal

    @property
    def is_clean(self) -> bool:
        """Nothing lost, nothing unexpected, nothing paid twice. Uncertain rows are allowed: they are named."""
        return not (self.lost or self.unexpected or self.duplicated)


def compare(job: EnrichmentJob, *, rows: int, charges: Iterable[Mapping[str, Any]]) -> Verdict:
    """`rows` is how many the upload had; `charges` is the sandbox's ledger (`GET /control/charges`)."""
    question_of = dict(BatchItem.objects.filter(batch__job=job).values_list("external_id", "question_id"))
    paid: Counter[int] = Counter()
    unexpected, there = [], Decimal(0)
    for charge in charges:
        there += Decimal(charge["credits"])
        question = question_of.get(str(charge["external_id"]))
        if question is None:
            unexpected.append(f"charge {charge['id']} for {charge['external_id']}")
        else:
            paid[question] += 1

    mine = EnrichmentRow.objects.filter(job=job)
    lost = [
        f"row {position}" for position in mine.filter(state__in=OPEN_ROWS).values_list("position", flat=True)
    ]
    lost += [f"row gone: {rows - mine.count()} of {rows}"] if mine.count() != rows else []
    uncertain = mine.filter(state=RowState.UNCERTAIN)
    answered = set(mine.filter(answer__isnull=False).values_list("question_id", flat=True))
    doubtful = set(uncertain.values_list("question_id", flat=True))
    lost += [
        f"question {question} was paid and has no answer"
        for question in paid
        if question not in answered | doubtful
    ]

    sums = ledger.job_sums(job.id)
    charged_in_doubt = sum(times for question, times in paid.items() if question in doubtful) * job.price
    duplicates = sum(times - 1 for times in paid.values()) * job.price
    if there != sums.charged + charged_in_doubt + duplicates + len(unexpected) * job.price:
        unexpected.append(
            f"the ledgers differ: {sums.charged} here, {there} there, {charged_in_doubt} in doubt"
        )
    return Verdict(
        lost=sorted(lost),
        unexpected=unexpected,
        duplicated=sorted(
            f"question {question}: {times} times" for question, times in paid.items() if times > 1
        ),
        uncertain=[
            f"row {position}"
            for position in uncertain.order_by("position").values_list("position", flat=True)
        ],
        failed=dict(
            mine.filter(state=RowState.FAILED)
            .values("reason_code")
            .annotate(rows=Count("id"))
            .values_list("reason_code", "rows")
        ),
        charged_here=sums.charged,
        charged_there=there,
        at_risk=sums.open,
    )

"""Searches for leads: a free count while a person types, then a job whose rows are the places of the list."""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from enrichment import operations, tasks
from enrichment.choices import JobState, Source
from enrichment.models import EnrichmentJob, LeadCount
from enrichment.operations.leads import words_of
from enrichment.services import lead_counts, submission, uploads
from keys.models import KeyRecord
from people import audit


def ask_for_count(actor: audit.Actor, operation: str, query: Mapping[str, Any], key: KeyRecord) -> LeadCount:
    """The count of a query, known already or on its way."""
    assert actor.user is not None
    count, is_new = lead_counts.note(actor.user, key, operation, query)
    if is_new:
        submission.wake(tasks.count_leads, count.id, queue=tasks.URGENT)
    return count


def name_of(operation: str, query: Mapping[str, Any]) -> str:
    """A search in a few words: its filters' values."""
    chosen = operations.get(operation)
    words = "; ".join(value for _, value in words_of(chosen.filters, query))
    return f"{chosen.label}: {words}"[:150]


def fetch(
    actor: audit.Actor,
    *,
    operation: str,
    query: Mapping[str, Any],
    wanted: int,
    key: KeyRecord,
    purpose: str,
    token: str,
    pay_again_limit: Decimal = Decimal(0),
) -> EnrichmentJob:
    """Start a job that fetches `wanted` leads. Pressing twice starts it once. Raises `SubmissionError`; then there is no job."""
    token = submission.token_of(token, operation, {**query, "wanted": wanted})
    earlier = EnrichmentJob.objects.filter(start_token=token).exclude(state=JobState.CANCELLED).first()
    if earlier is not None:
        return earlier
    if not 1 <= wanted <= settings.MAX_LEADS:
        raise submission.SubmissionError(
            f"Fetch 1 to {settings.MAX_LEADS:,} leads at a time.", field="wanted"
        )
    name = name_of(operation, query)
    draft = uploads.create_draft(
        actor,
        operation=operation,
        stream=_places(f"{name} #{secrets.token_hex(3)}", wanted),
        file_name="search.csv",
        source=Source.BROWSER,
        mapping={"search": 0, "place": 1},
        has_header=True,
        delimiter=",",
        encoding="utf-8",
        name=name,
    )
    try:
        with transaction.atomic():
            EnrichmentJob.objects.filter(id=draft.id).update(query=dict(query), start_token=token)
    except IntegrityError:  # pressed twice within the same moment
        submission.discard_draft(actor, draft.id, reason="pressed twice")
        return EnrichmentJob.objects.get(start_token=token)
    uploads.check_rows(draft.id)
    order = submission.StartOrder(
        key=key,
        purpose=purpose,
        freshness_days=0,
        token=token,
        is_again=True,
        pay_again_limit=pay_again_limit,
    )
    try:
        return submission.start_job(actor, draft.id, order)
    except submission.SubmissionError:
        submission.discard_draft(actor, draft.id, reason="the search was refused")
        # The same form is sent again when its fault is mended.
        EnrichmentJob.objects.filter(id=draft.id).update(start_token=secrets.token_hex(16))
        raise


def _places(search: str, wanted: int) -> io.BytesIO:
    """The list of a search: its name and the places 1 to `wanted`."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["search", "place"])
    writer.writerows((search, place) for place in range(1, wanted + 1))
    return io.BytesIO(text.getvalue().encode())

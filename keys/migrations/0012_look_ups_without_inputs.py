"""Calls of look-ups, and their sums, say what was done; before, they bore the name of whom or what was looked up."""

from __future__ import annotations

from itertools import islice
from typing import Any

from django.db import migrations

AT_ONCE = 1000
DONE = {
    "domain-search": "scan 1 domain",
    "email-search": "find 1 email",
    "email-verification": "verify 1 email",
    "find-company": "find 1 company page",
    "find-profile": "find 1 profile address",
    "reverse-lookup": "look up 1 email",
    "scrape-company": "read 1 company profile",
    "scrape-profile": "read 1 profile",
}


def rename(apps: Any, schema_editor: Any) -> None:
    """A job is a number here, so the jobs themselves tell which were look-ups, and of what."""
    jobs = apps.get_model("enrichment", "EnrichmentJob").objects.filter(source="lookup").order_by("id")
    for operation in list(jobs.order_by().values_list("operation", flat=True).distinct()):
        text = DONE.get(operation, operation.replace("-", " "))
        numbers = jobs.filter(operation=operation).values_list("id", flat=True).iterator(chunk_size=AT_ONCE)
        while group := list(islice(numbers, AT_ONCE)):
            for name in ("Call", "JobUse"):
                apps.get_model("keys", name).objects.filter(job__in=group).update(job_text=text)


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0011_sums_of_hours_in_their_index"),
        ("enrichment", "0010_ids_of_any_length_and_second_answers"),
    ]

    operations = [migrations.RunPython(rename, migrations.RunPython.noop)]

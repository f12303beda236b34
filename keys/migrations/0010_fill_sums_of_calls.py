"""The sums of the calls that are there already."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from itertools import islice
from typing import Any

from django.db import migrations
from django.db.models import Count, Max, Min, Q, Sum
from django.db.models.functions import Coalesce, TruncHour

REFUSED = ("policy_scope", "policy_environment", "policy_budget", "policy_state", "secret_missing")
AT_ONCE = 1000


def fill(apps: Any, schema_editor: Any) -> None:
    """Group the calls by hour and by job; the last call of each group says who it was."""
    call, hour, use = (apps.get_model("keys", name) for name in ("Call", "CallHour", "JobUse"))
    hours = call.objects.order_by().values("key_id", "scope", "outcome", on_hour=TruncHour("at", tzinfo=UTC))
    hours = hours.annotate(n=Count("id"), carried=Sum("rows"), until=Max("at"), last=Max("id"))
    for group, last in _with_last_calls(call, hours):
        hour.objects.bulk_create(
            hour(
                key_id=row["key_id"],
                hour=row["on_hour"],
                scope=row["scope"],
                outcome=row["outcome"],
                calls=row["n"],
                rows=row["carried"],
                last_at=row["until"],
                last_job=last[row["last"]].job,
                last_by=last[row["last"]].person,
            )
            for row in group
        )
    refused = Q(outcome__in=REFUSED)
    sent = Q(outcome="ok") & ~Q(scope="account:read")
    jobs = call.objects.order_by().values("key_id", "person", of_job=Coalesce("job", 0))
    jobs = jobs.annotate(
        n=Count("id", filter=~refused),
        no=Count("id", filter=refused),
        carried=Sum("rows", filter=sent, default=0),
        since=Min("at"),
        until=Max("at"),
        last=Max("id"),
    )
    for group, last in _with_last_calls(call, jobs):
        use.objects.bulk_create(
            use(
                key_id=row["key_id"],
                job=row["of_job"],
                job_text=last[row["last"]].job_text,
                person=row["person"],
                first_at=row["since"],
                last_at=row["until"],
                calls=row["n"],
                refused=row["no"],
                rows=row["carried"],
            )
            for row in group
        )


def _with_last_calls(call: Any, groups: Any) -> Iterator[tuple[list[dict[str, Any]], dict[int, Any]]]:
    """Groups, some at a time, with the last call of each by its id."""
    rows = groups.iterator(chunk_size=AT_ONCE)
    while group := list(islice(rows, AT_ONCE)):
        found = call.objects.in_bulk([row["last"] for row in group])
        yield group, found


class Migration(migrations.Migration):
    dependencies = [("keys", "0009_calls_in_sums")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]

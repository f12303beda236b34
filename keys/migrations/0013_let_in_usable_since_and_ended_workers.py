"""Whether a key is let in is told apart from how its last use ended, since when a record lets calls out from its creation, and a
worker that said that it ends from one that is silent, and from a command that works as one."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models
from django.db.models import F, OuterRef, Q, Subquery

LET_IN = ("ok", "vendor_401", "vendor_403", "unpaid")


def fill(apps: Any, schema_editor: Any) -> None:
    """What the last use says of the key, and the last time that the history has a record made usable."""
    records = apps.get_model("keys", "KeyRecord").objects
    records.filter(last_used_outcome__in=LET_IN).update(
        let_in_outcome=F("last_used_outcome"), let_in_at=F("last_used_at")
    )
    usable = Q(action__in=("key.activated", "key.released")) | Q(detail__state=["draft", "active"])
    entries = apps.get_model("people", "AuditEntry").objects.filter(
        usable, object_type="keyrecord", object_id=OuterRef("pk")
    )
    records.update(usable_since=Subquery(entries.order_by("-id").values("at")[:1]))


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0012_look_ups_without_inputs"),
        ("people", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="keyrecord",
            name="let_in_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="keyrecord",
            name="let_in_outcome",
            field=models.CharField(
                blank=True,
                choices=[
                    ("ok", "ok"),
                    ("vendor_401", "key refused (401)"),
                    ("vendor_403", "forbidden (403)"),
                    ("vendor_429", "too many calls (429)"),
                    ("vendor_5xx", "Icypeas failed (5xx)"),
                    ("vendor_rejected", "input refused"),
                    ("unpaid", "subscription unpaid"),
                    ("out_of_credits", "out of credits"),
                    ("not_sent", "not sent"),
                    ("uncertain", "outcome unknown"),
                    ("read_failed", "reading failed"),
                    ("policy_scope", "refused: scope"),
                    ("policy_environment", "refused: environment"),
                    ("policy_budget", "refused: budget"),
                    ("policy_state", "refused: state"),
                    ("secret_missing", "no secret"),
                ],
                max_length=20,
            ),
        ),
        migrations.AddField(
            model_name="keyrecord",
            name="usable_since",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="worker",
            name="ended_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="worker",
            name="reports",
            field=models.BooleanField(default=True),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]

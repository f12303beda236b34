"""Emptying a table is no deletion of rows, so the triggers of 0002 do not see it: these do, also for a TRUNCATE … CASCADE
of a table that the log refers to."""

from django.db import migrations

ON = """
CREATE TRIGGER audit_entry_kept_whole BEFORE TRUNCATE ON people_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_seal_kept_whole BEFORE TRUNCATE ON people_auditseal
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
"""
OFF = """
DROP TRIGGER audit_seal_kept_whole ON people_auditseal;
DROP TRIGGER audit_entry_kept_whole ON people_auditentry;
"""


def run(order):
    def on_postgresql(apps, schema_editor):
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(order, params=None)

    return on_postgresql


class Migration(migrations.Migration):
    dependencies = [
        ("people", "0003_notices"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="auditentry",
            options={"base_manager_name": "objects", "ordering": ("-id",)},
        ),
        migrations.AlterModelOptions(
            name="auditseal",
            options={"base_manager_name": "objects", "ordering": ("id",)},
        ),
        migrations.RunPython(run(ON), run(OFF)),
    ]

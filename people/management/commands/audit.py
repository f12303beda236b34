"""`manage.py audit`: check the chain of the audit log, and take the log home."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from people import audit, audit_export, seals
from people.models import AuditEntry


class Command(BaseCommand):
    help = "Check the chain of the audit log (exit status 1 where it does not hold), or write the log as CSV."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="verify|export")
        verify = actions.add_parser("verify", help="walk the chain")
        verify.add_argument(
            "--expect",
            default="",
            metavar="COUNT:HEAD",
            help="what an earlier check printed, or a head from the log of a worker: the chain must still hold it, so that a "
            "cut-off end shows",
        )
        actions.add_parser("export", help="every entry as CSV on standard output, oldest first")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        if action == "export":
            self._export()
        elif not self._verify(options["expect"]):
            sys.exit(1)

    def _verify(self, expected: str) -> bool:
        verdict = (
            seals.verify()
        )  # before anything is sealed, which would hide an entry whose seal was taken away
        for fault in verdict.faults:
            self.stdout.write(f"NOT OK  entry {fault.entry} {fault.text}")
        sealed = sum(iter(seals.seal_new, 0))
        if sealed and any(fault.text == seals.UNSEALED for fault in verdict.faults):
            self.stdout.write(
                f"        {sealed:,} without a seal, sealed now: the next check does not tell of them"
            )
        is_held = not expected or seals.holds(expected)
        if not is_held:
            self.stdout.write(f"NOT OK  the chain does not hold {expected}: entries were cut off or changed")
        is_well = is_held and not verdict.faults
        self.stdout.write(f"{'ok' if is_well else 'NOT OK'}      {seals.noted()}")
        return is_well

    def _export(self) -> None:
        entries = AuditEntry.objects.order_by("id")
        last = entries.last()
        if last is not None:  # told as the browser tells it, about the entry up to which the log was taken
            taken = {"entries": entries.count()}
            audit.record(audit.terminal_actor(None), "person.took_activity", last, detail=taken)
        for chunk in audit_export.write(entries):
            self.stdout.write(chunk, ending="")

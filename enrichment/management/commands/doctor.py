"""What is wrong with this installation, as a table; exit status 0 only when nothing is."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from enrichment import doctor

MARKS = {doctor.OK: "[green]ok[/]", doctor.WARN: "[yellow]look[/]", doctor.BAD: "[red]wrong[/]"}


class Command(BaseCommand):
    help = (
        "Look at settings, folders, database, broker, workers, scheduler, secrets (present or not, never shown), accounts, "
        "people and the audit log. Changes nothing and calls nobody."
    )
    requires_system_checks = []  # what they find is a part of the answer

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one object a line instead of a table")

    def handle(self, *args: Any, **options: Any) -> None:
        out: Any = self.stdout
        found = []
        table = Table("", "What", "Found", "What to do", box=None, pad_edge=False)
        for diagnosis in doctor.examine():
            found.append(diagnosis)
            if options["json"]:
                self.stdout.write(json.dumps(asdict(diagnosis)))
            table.add_row(
                MARKS[diagnosis.state], diagnosis.area, escape(diagnosis.text), escape(diagnosis.todo)
            )
        if not options["json"]:
            Console(file=out, highlight=False, width=None if out.isatty() else 160).print(table)
        if any(diagnosis.state == doctor.BAD for diagnosis in found):
            raise SystemExit(1)

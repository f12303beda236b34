"""`manage.py sandbox`: the local Icypeas, with the options of its own command line."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from enrichment.providers.icypeas.sandbox import cli


class Command(BaseCommand):
    help = "Run a local Icypeas with invented data until it is stopped."
    # It uses neither the database nor any app, and must start where those are not set up yet.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        cli.add_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        status = cli.serve(argparse.Namespace(**options), os.environ)
        if status:
            sys.exit(status)

#!/usr/bin/env python
"""The one command-line entry point."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
    os.environ.setdefault("PROCESS_ROLE", "web" if "runserver" in sys.argv[1:2] else "cli")
    from django.core.management import execute_from_command_line  # after the role is known

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()

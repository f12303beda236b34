"""`manage.py person`: people without a browser, through the same services and audit as everything else."""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from rich.console import Console
from rich.table import Table

from people import selectors, services
from people.audit import terminal_actor
from people.models import User
from people.rights import Role


class Command(BaseCommand):
    help = "Make people, list and change them, and set passwords. A password comes from an environment variable, never from the command line."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(
            dest="action", required=True, metavar="create|list|roles|disable|enable|password"
        )
        create = actions.add_parser("create", help="make a person")
        create.add_argument("--email", required=True, help="the log-in")
        create.add_argument("--name", required=True)
        create.add_argument(
            "--role",
            required=True,
            action="append",
            metavar="R",
            help=f"{', '.join(Role.values)}; may be given several times",
        )
        create.add_argument("--team", default="", metavar="T", help="made when it is new")
        create.add_argument(
            "--password-env", default="", metavar="VAR", help="environment variable that holds the password"
        )
        create.add_argument("--reason", default="", help="why with these roles; kept in the history")
        actions.add_parser("list", help="who is there, with roles and teams")
        roles = actions.add_parser("roles", help="give a person other roles, or another team")
        roles.add_argument("--email", required=True)
        roles.add_argument(
            "--role",
            action="append",
            default=[],
            metavar="R",
            help=f"all roles that the person shall have: {', '.join(Role.values)}; none given: as before",
        )
        roles.add_argument("--team", default=None, metavar="T", help="made when it is new; '' for no team")
        roles.add_argument("--reason", required=True, help="kept in the history")
        for name, words in (
            ("disable", "let a person log in no more; their sessions end"),
            ("enable", "let a disabled person log in again"),
        ):
            access = actions.add_parser(name, help=words)
            access.add_argument("--email", required=True)
            access.add_argument("--reason", required=True, help="kept in the history")
        password = actions.add_parser("password", help="set a person's password")
        password.add_argument("--email", required=True)
        password.add_argument(
            "--password-env",
            required=True,
            metavar="VAR",
            help="environment variable that holds the password",
        )

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        actions = {
            "create": self._create,
            "list": self._list,
            "roles": self._roles,
            "disable": self._disable,
            "enable": self._enable,
            "password": self._password,
        }
        try:
            actions[action](options)
        except services.PersonError as error:
            raise CommandError(str(error)) from error

    def _create(self, options: dict[str, Any]) -> None:
        password = _password_in(options["password_env"]) if options["password_env"] else None
        person = services.create_person(
            terminal_actor(None),
            email=options["email"],
            name=options["name"],
            roles=options["role"],
            team=options["team"],
            password=password,
            reason=options["reason"],
        )
        team = f", team {person.team.name}" if person.team else ""
        self.stdout.write(f"{person.name} <{person.email}> is made: {person.role_label}{team}.")
        if password is None:
            self.stdout.write(
                "Nobody can log in as them before a password is set: "
                f"NEW='…' manage.py person password --email {person.email} --password-env NEW"
            )

    def _list(self, options: dict[str, Any]) -> None:
        people = selectors.list_people()
        if not people:
            self.stdout.write("There is nobody yet. Make the first: manage.py person create --help")
            return
        table = Table("Name", "E-mail", "Roles", "Team", "Can log in", box=None, pad_edge=False)
        for person in people:
            table.add_row(
                person.name,
                person.email,
                person.role_label,
                person.team.name if person.team else "no team",
                _log_in_words(person),
            )
        _console(self).print(table)

    def _roles(self, options: dict[str, Any]) -> None:
        actor, person = terminal_actor(None), _person(options["email"])
        with transaction.atomic():  # a team that was made for a refused change goes with it
            team = person.team
            if options["team"] is not None:
                team = None
            if options["team"]:
                team = services.ensure_team(actor, options["team"], reason=options["reason"])
            person = services.change_person(
                actor,
                person,
                roles=options["role"] or person.roles,
                team=team,
                reason=options["reason"],
            )
        words = f", team {person.team.name}" if person.team else ", no team"
        self.stdout.write(f"{person.name} <{person.email}>: {person.role_label}{words}.")

    def _disable(self, options: dict[str, Any]) -> None:
        person = services.disable_person(
            terminal_actor(None), _person(options["email"]), reason=options["reason"]
        )
        self.stdout.write(f"{person.email} is disabled; their open sessions are over.")
        self.stdout.write("Key records that they own stay active with a finding, and jobs that run go on.")

    def _enable(self, options: dict[str, Any]) -> None:
        person = services.enable_person(
            terminal_actor(None), _person(options["email"]), reason=options["reason"]
        )
        self.stdout.write(f"{person.email} can log in again.")

    def _password(self, options: dict[str, Any]) -> None:
        person = _person(options["email"])
        services.set_password(terminal_actor(None), person, _password_in(options["password_env"]))
        self.stdout.write(f"{person.email} has a new password; their open sessions are over.")


def _person(email: str) -> User:
    email = User.objects.normalize_email(email)
    person = User.objects.select_related("team").filter(email=email).first()
    if person is None:
        raise CommandError(f"There is no person with the address {email}. See: manage.py person list")
    return person


def _password_in(variable: str) -> str:
    password = os.environ.get(variable, "")
    if not password:
        raise CommandError(
            f"The environment variable {variable} is missing or empty, so nothing was changed."
        )
    return password


def _log_in_words(person: User) -> str:
    if not person.is_active:
        return "no, disabled"
    return "yes" if person.has_usable_password() else "no, without a password"


def _console(command: BaseCommand) -> Console:
    """A console on the command's own output; wide when nobody looks, so that programs get whole lines."""
    out: Any = command.stdout
    return Console(file=out, highlight=False, width=None if out.isatty() else 200)

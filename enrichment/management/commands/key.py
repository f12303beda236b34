"""`manage.py key`: key records without a browser, through the same services and audit as the pages.

It stands in this app because `key test` calls the provider; every rule is in `keys`.
"""

from __future__ import annotations

import sys
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone
from rich.console import Console
from rich.table import Table

from enrichment.services import key_tests
from keys import findings, hours, ledger, scopes, secrets, selectors, services, state_page, use
from keys.lifecycle import MOVES, Step
from keys.models import KeyRecord
from people import audit
from people.models import User
from people.services import ensure_team

STEP_WORDS = {
    Step.ACTIVATE: "make a complete draft active",
    Step.QUARANTINE: "let nothing out from the next call on; can be taken back",
    Step.RELEASE: "make a quarantined record active again",
    Step.REVOKE: "let nothing out, for good; cannot be taken back",
}
STEPS = {step.value: step for step, move in MOVES.items() if move.is_offered}
MARKS = {"ok": "ok", "warn": "look", "bad": "NOT OK", "not reached": "-"}


class Command(BaseCommand):
    help = "Make, list, show, test and change key records. A former name is understood. Secrets are never arguments: a record holds only where to find one."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(
            dest="action", required=True, metavar="create|list|show|test|rename|renew|" + "|".join(STEPS)
        )
        _add_create(actions.add_parser("create", help="make a key record; the last line printed is its name"))
        actions.add_parser("list", help="all records, those with findings first")
        show = actions.add_parser("show", help="everything about one record, its secret excepted")
        show.add_argument("name")
        test = actions.add_parser(
            "test",
            help="check reference, address, key and balance with one free call; status 0 when all is well",
        )
        test.add_argument("name")
        rename = actions.add_parser("rename", help="another name; the old one stays reserved and leads here")
        rename.add_argument("name")
        rename.add_argument("--system", default="", metavar="S", help="default: as it is")
        rename.add_argument("--label", default="", metavar="L", help="default: as it is")
        rename.add_argument("--reason", required=True, help="kept in the history")
        renew = actions.add_parser("renew", help="another last day")
        renew.add_argument("name")
        renew.add_argument("--expires", required=True, metavar="YYYY-MM-DD|never")
        renew.add_argument("--reason", required=True, help="kept in the history")
        for name, step in STEPS.items():
            change = actions.add_parser(name, help=STEP_WORDS[step])
            change.add_argument("name")
            change.add_argument("--reason", required=True, help="kept in the history")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        actions = {
            "create": self._create,
            "list": self._list,
            "show": self._show,
            "test": self._test,
            "rename": self._rename,
            "renew": self._renew,
        }
        try:
            if action in STEPS:
                self._step(STEPS[action], options)
            else:
                actions[action](options)
        except services.KeyRecordError as error:
            raise CommandError(f"Nothing was changed: {error}") from error

    def _create(self, options: dict[str, Any]) -> None:
        actor, reason = audit.terminal_actor(None), options["purpose"]
        try:
            chosen = scopes.parse_scopes(options["scopes"])
            with transaction.atomic():  # a team that was made for a refused record goes with it
                spec = services.KeySpec(
                    environment=options["environment"],
                    system=options["system"],
                    label=options["label"],
                    owner=_person(options["owner"], "--owner"),
                    deputy=_person(options["deputy"], "--deputy") if options["deputy"] else None,
                    team=ensure_team(actor, options["team"], reason=reason) if options["team"] else None,
                    purpose=options["purpose"],
                    scopes=chosen,
                    secret_ref=options["secret"],
                    account=options["account"],
                    daily_cap=_credits(options["daily_cap"]),
                    rotation_days=options["rotation_days"],
                    rotate_by=_day(options["rotate_by"], "--rotate-by"),
                    expires_at=_day(options["expires"], "--expires"),
                    hours=hours.Hours(
                        hours.parse_days(options["days"]),
                        *hours.parse_span(options["hours"]),
                        options["time_zone"],
                    ),
                    was_used_before=options["used_before"],
                )
                key = services.create_key(actor, spec)
        except (scopes.ScopeError, hours.HoursError, services.KeyRecordError) as error:
            raise CommandError(f"Not made: {error}") from error
        missing = selectors.missing_for_activation(key)
        self.stdout.write(f"A key record on the account {key.account.name}, rotate by {key.rotate_by}.")
        if missing:
            self.stdout.write(f"It is a draft and lets nothing out: it needs {', '.join(missing)}.")
        self.stdout.write(key.name)

    def _list(self, options: dict[str, Any]) -> None:
        findings.refresh()  # also where no scheduler runs
        keys = list(findings.with_findings(selectors.all_keys()).order_by("-severity", "name"))
        if not keys:
            self.stdout.write("There is no key record yet. Make the first: manage.py key create --help")
            return
        spent = use.charged_by_key()
        table = Table(
            "Name",
            "State",
            "Owner",
            "Account",
            "Last used",
            "Credits, 30 days",
            "Findings",
            box=None,
            pad_edge=False,
        )
        table.columns[0].no_wrap = True
        table.columns[5].justify = "right"
        for key in keys:
            found = "; ".join(finding.title for finding in findings.findings_of(key))
            table.add_row(
                key.name,
                key.shown_state_label,
                key.owner.name if key.owner else "no owner",
                key.account.name,
                _last_use(key),
                f"{spent.get(key.id, Decimal(0)):,.1f}",
                found or "none",
            )
        _console(self).print(table)

    def _show(self, options: dict[str, Any]) -> None:
        key = self._key(options["name"])
        findings.refresh([key.id])
        left = ledger.available(key.account)
        missing = selectors.missing_for_activation(key)
        facts = {
            "Name": key.name,
            "Named before": ", ".join(former.name for former in key.former_names.all()) or "never otherwise",
            "State": key.shown_state_label + (f", needs {', '.join(missing)}" if missing else ""),
            "Purpose": key.purpose,
            "Owner": _named(key.owner, "no owner"),
            "Deputy": _named(key.deputy, "no deputy"),
            "Team": key.team.name if key.team else "no team",
            "Account": f"{key.account.name}, {key.account.realm}",
            "Available": f"{ledger.words(left.credits)} credits"
            if left.credits is not None
            else "never read",
            "Scopes": ", ".join(key.scopes),
            "Secret reference": key.secret_ref,
            "Previous reference": key.previous_secret_ref or "none yet",
            "Daily cap": "no cap" if key.daily_cap is None else f"{ledger.words(key.daily_cap)} credits",
            "Rotate by": f"{key.rotate_by}, every {key.rotation_days} days",
            "Expires": str(key.expires_at or "no expiry"),
            "Hours": hours.of(key).words
            + ("" if hours.of(key).holds(timezone.now()) else ", now is outside"),
            "Last used": _last_use(key),
            "Findings": "; ".join(finding.title for finding in findings.findings_of(key)) or "none",
        }
        table = Table(box=None, show_header=False, pad_edge=False)
        for label, value in facts.items():
            table.add_row(label, value)
        _console(self).print(table)

    def _test(self, options: dict[str, Any]) -> None:
        secrets.act_as_worker()
        key = self._key(options["name"])
        audit.record(audit.terminal_actor(None), "key.tested", key)
        checks = key_tests.run_checks(key)
        console = _console(self)
        console.print(f"Test of {key.name}", markup=False)
        for name in key_tests.STEPS:
            check = checks.get(name, key_tests.NOT_REACHED)
            console.print(f"{MARKS[check.state]:<8}{name:<26}{check.value}", markup=False, soft_wrap=True)
            if check.note:
                console.print(f"{'':<34}{check.note}", markup=False, soft_wrap=True)
        if len(checks) < len(key_tests.STEPS) or any(check.state == "bad" for check in checks.values()):
            sys.exit(1)

    def _rename(self, options: dict[str, Any]) -> None:
        key = self._key(options["name"])
        before = key.name
        key = services.rename_key(
            audit.terminal_actor(None),
            key,
            system=options["system"] or key.system,
            label=options["label"] or key.label,
            reason=options["reason"],
        )
        self.stdout.write(f"{before} is now named {key.name}. The old name stays reserved and leads here.")
        self.stdout.write(key.name)

    def _renew(self, options: dict[str, Any]) -> None:
        day = None if options["expires"] == "never" else _day(options["expires"], "--expires")
        key = services.renew_key(
            audit.terminal_actor(None), self._key(options["name"]), expires_at=day, reason=options["reason"]
        )
        self.stdout.write(f"{key.name}: last day {key.expires_at or 'none'}.")

    def _step(self, step: Step, options: dict[str, Any]) -> None:
        key = self._key(options["name"])
        held = ledger.open_jobs(key)
        key = services.change_state(audit.terminal_actor(None), key, step, reason=options["reason"])
        self.stdout.write(state_page.DONE[step].format(name=key.name))
        if held and step in (Step.QUARANTINE, Step.REVOKE):
            jobs = ", ".join(f"#{job}" for job in held)
            self.stdout.write(f"Jobs that pause at their next call: {jobs}.")

    def _key(self, name: str) -> KeyRecord:
        """The record of that name; a former one is understood, and said on the error stream."""
        named = selectors.find_key(name)
        if named is None:
            raise CommandError(f"There is no key record {name!r}. See: manage.py key list")
        if named.news:
            self.stderr.write(named.news)
        return named.key


def _add_create(parser: CommandParser) -> None:
    parser.add_argument(
        "--environment", required=True, metavar="E", help=", ".join(settings.KEY_ENVIRONMENTS)
    )
    parser.add_argument(
        "--system", required=True, metavar="S", help="the service or workflow, such as crm_sync"
    )
    parser.add_argument(
        "--label", required=True, metavar="L", help="the owner part of the name, such as revops"
    )
    parser.add_argument("--owner", required=True, metavar="EMAIL", help="a person of this app")
    parser.add_argument("--deputy", default="", metavar="EMAIL", help="needed outside sandbox and dev")
    parser.add_argument(
        "--team", default="", metavar="T", help="made when it is new; needed outside sandbox and dev"
    )
    parser.add_argument("--purpose", required=True, metavar="TEXT")
    parser.add_argument(
        "--scopes",
        required=True,
        metavar="LIST|PRESET|all",
        help=f"scopes parted by commas, a preset ({', '.join(scopes.PRESETS)}), or all (sandbox and dev only)",
    )
    parser.add_argument(
        "--secret",
        required=True,
        metavar="REF",
        help="where a worker finds the secret: env:ICYPEAS_KEY_NAME, file:NAME, vault:PATH#FIELD or aws-sm:NAME#FIELD",
    )
    parser.add_argument(
        "--used-before",
        action="store_true",
        help="the secret was in use before this record: its older use is unknown, not never",
    )
    parser.add_argument(
        "--account", default="", metavar="A", help="made when it is new; default: the first one"
    )
    parser.add_argument("--daily-cap", default="", metavar="N", help="credits that jobs may reserve in a day")
    parser.add_argument("--rotation-days", type=int, default=90, metavar="N")
    parser.add_argument(
        "--rotate-by", default="", metavar="YYYY-MM-DD", help="default: the rotation days from today"
    )
    parser.add_argument("--expires", default="", metavar="YYYY-MM-DD")
    parser.add_argument(
        "--hours", default="", metavar="22:00-10:00", help="advice: when it is meant to be used"
    )
    parser.add_argument("--days", default="", metavar="mon-fri", help="default: every day")
    parser.add_argument("--time-zone", default="UTC", metavar="Europe/Berlin", help="of hours and daily cap")


def _person(email: str, option: str) -> User:
    email = User.objects.normalize_email(email)
    person = User.objects.filter(email=email).first()
    if person is None:
        raise CommandError(
            f"{option}: there is no person with the address {email}. "
            "Make one first: manage.py person create --email … --name … --role …"
        )
    return person


def _credits(text: str) -> Decimal | None:
    try:
        value = Decimal(text) if text else None
    except InvalidOperation as error:
        raise CommandError("--daily-cap takes a number of credits.") from error
    if value is not None and not value.is_finite():
        raise CommandError("--daily-cap takes a number of credits.")
    return value


def _day(text: str, option: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise CommandError(f"{option} takes a day as YYYY-MM-DD.") from error


def _named(person: User | None, otherwise: str) -> str:
    return f"{person.name} <{person.email}>" if person else otherwise


def _last_use(key: KeyRecord) -> str:
    last = use.last_use(key)
    if last.at is None:
        return f"{last.text}, {last.detail}"
    since = "idle since " if last.state == "idle" else ""
    return f"{since}{timezone.localtime(last.at):%Y-%m-%d %H:%M %Z}, {last.detail}"


def _console(command: BaseCommand) -> Console:
    """A console on the command's own output; wide when nobody looks, so that programs get whole lines."""
    out: Any = command.stdout
    return Console(file=out, highlight=False, width=None if out.isatty() else 200)

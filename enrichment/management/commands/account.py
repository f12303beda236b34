"""Accounts at Icypeas from the terminal: what they hold, the user id, signed requests, webhooks."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from enrichment.services import send_path
from keys import services
from keys.models import Account
from people import audit

SWITCH = ["on", "off"]


class Command(BaseCommand):
    help = "Show and change accounts. Secrets are named by reference, never given."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="every account")
        change = actions.add_parser("set", help="change one; without options it is shown")
        change.add_argument("name")
        change.add_argument("--email", help="the owner's address, where Icypeas asks for it with the balance")
        change.add_argument("--user-id", help="only when Icypeas answers UserNotFound to lists")
        change.add_argument(
            "--api-secret",
            metavar="REFERENCE",
            help="where workers find the API secret, e.g. env:ICYPEAS_API_SECRET",
        )
        change.add_argument("--sign-requests", choices=SWITCH, help="sign each request with the API secret")
        change.add_argument("--webhooks", choices=SWITCH, help="a new secret address for webhooks, or none")
        change.add_argument("--reason", default="", help="kept in the history; needed for a change")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "list":
            for each in Account.objects.order_by("name"):
                self._show(each)
            return
        account = Account.objects.filter(name=options["name"]).first()
        if account is None:
            names = ", ".join(Account.objects.values_list("name", flat=True)) or "none"
            raise CommandError(f"There is no account {options['name']!r}. Accounts: {names}.", returncode=2)
        changes = {
            "email": options["email"],
            "user_id": options["user_id"],
            "api_secret_ref": options["api_secret"],
            "signs_requests": None if options["sign_requests"] is None else options["sign_requests"] == "on",
            "has_webhooks": None if options["webhooks"] is None else options["webhooks"] == "on",
        }
        told = {name: value for name, value in changes.items() if value is not None}
        if told:
            try:
                account = services.change_account(
                    audit.terminal_actor(None), account, told, reason=options["reason"]
                )
            except services.KeyRecordError as error:
                hint = " Give it with --reason." if "reason" in error.fields else ""
                raise CommandError(f"Nothing was changed: {error}{hint}", returncode=2) from None
        self._show(account)

    def _show(self, account: Account) -> None:
        balance = "unknown" if account.balance is None else f"{account.balance.normalize():f} credits"
        self.stdout.write(f"{account.name} ({account.realm}), balance {balance}")
        self.stdout.write(f"  owner's address  {account.email or '-'}")
        self.stdout.write(f"  user id          {account.user_id or '-'}")
        self.stdout.write(f"  API secret       {account.api_secret_ref or '-'}")
        self.stdout.write(f"  signed requests  {'on' if account.signs_requests else 'off'}")
        url = send_path.hook_url(account)
        if url:
            self.stdout.write(f"  webhooks         {url}")
        elif account.hook_token:
            why = (
                "PUBLIC_URL is not set"
                if not settings.PUBLIC_URL
                else "without an API secret nobody could check them"
            )
            self.stdout.write(f"  webhooks         not used: {why}")
        else:
            self.stdout.write("  webhooks         off")

"""Reads about accounts, key records and calls."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from keys import findings, ledger, presence
from keys.choices import USABLE_STATES, Realm
from keys.models import Account, KeyRecord
from people.models import User


@dataclass(frozen=True)
class KeyFilter:
    """Filter of the inventory; it is the address."""

    view: str = ""
    environment: str = ""
    team: int | None = None
    state: str = ""
    scope: str = ""
    finding: str = ""
    search: str = ""

    @property
    def is_set(self) -> bool:
        return any((self.environment, self.team, self.state, self.scope, self.finding, self.search))


def environments() -> list[str]:
    """Environments that a key may belong to, in the order of this installation."""
    return list(settings.KEY_ENVIRONMENTS)


NAME_PART = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
PART_LENGTH = 40


def name_part_problem(value: str, label: str) -> str | None:
    """Why `value` cannot stand in a key's name, or None. `label` says which part it is."""
    if not NAME_PART.fullmatch(value):
        return f"The {label} of the name takes small letters, digits and single underscores, for example crm_sync."
    if len(value) > PART_LENGTH:
        return f"The {label} of the name may have {PART_LENGTH} characters; this has {len(value)}."
    return None


@dataclass(frozen=True)
class NamePreview:
    """A name as it forms. `environment` and `rest` are shown, `problem` says why it cannot be, `variable` is where the
    secret would stand by custom."""

    environment: str
    rest: str
    problem: str
    is_complete: bool
    is_empty: bool

    @property
    def name(self) -> str:
        return f"{self.environment}_{self.rest}"

    @property
    def variable(self) -> str:
        return f"env:ICYPEAS_KEY_{self.name.upper()}"


def name_preview(environment: str, system: str, label: str) -> NamePreview:
    """What the three parts make together, and what is wrong with it."""
    parts = {"system": system, "owner part": label}
    rest = f"{system or '…'}_{label or '…'}"
    is_complete = bool(environment and system and label)
    problem = next(
        (said for name, part in parts.items() if part and (said := name_part_problem(part, name))), None
    )
    if not problem and is_complete and KeyRecord.objects.filter(name=f"{environment}_{rest}").exists():
        problem = f"There is a key named {environment}_{rest} already."
    return NamePreview(
        environment or "…",
        rest,
        problem or "",
        is_complete and not problem,
        not (environment or system or label),
    )


def all_keys() -> QuerySet[KeyRecord]:
    return KeyRecord.objects.select_related("account", "owner", "deputy", "team")


def _view(view: str, user: User) -> Q:
    """What belongs to a saved view of the inventory; an unknown one shows everything."""
    usable = Q(state__in=USABLE_STATES)
    views = {
        "findings": Q(severity__gt=0),
        "mine": Q(owner=user) | Q(deputy=user),
        "unused": usable & findings.is_unused(),
        "rotation": usable & Q(rotate_by__lte=timezone.localdate() + findings.DUE_SOON),
        "inactive": ~usable,
    }
    return views.get(view, Q())


def count_views(user: User) -> dict[str, int]:
    """Records in each saved view, and how many accounts all of them use (`accounts`)."""
    return KeyRecord.objects.order_by().aggregate(
        all=Count("id"),
        **{
            view: Count("id", filter=_view(view, user))
            for view in ("findings", "mine", "unused", "rotation", "inactive")
        },
        accounts=Count("account", distinct=True),
    )


def filter_keys(wanted: KeyFilter, user: User) -> QuerySet[Any]:
    """Key records of one filter, by name, with their findings."""
    keys = findings.with_findings(all_keys()).filter(_view(wanted.view, user))
    for name in ("environment", "state"):
        if getattr(wanted, name):
            keys = keys.filter(**{name: getattr(wanted, name)})
    if wanted.team:
        keys = keys.filter(team_id=wanted.team)
    if wanted.scope:
        keys = keys.filter(scopes__icontains=f'"{wanted.scope}"')
    if wanted.finding:
        keys = keys.filter(findings.has_finding(wanted.finding))
    if wanted.search:
        keys = keys.filter(
            Q(name__icontains=wanted.search)
            | Q(purpose__icontains=wanted.search)
            | Q(owner__name__icontains=wanted.search)
        )
    return keys.order_by("name")


def missing_for_activation(key: KeyRecord) -> list[str]:
    """What keeps a draft from becoming active, as words. Empty when nothing does."""
    missing = []
    if key.owner is None or not key.owner.is_active:
        missing.append("an active owner")
    if key.environment not in settings.RELAXED_ENVIRONMENTS:
        if key.deputy is None or not key.deputy.is_active:
            missing.append("an active deputy")
        elif key.deputy_id == key.owner_id:
            missing.append("a deputy who is not the owner")
        if key.team is None:
            missing.append("a team")
    if not key.purpose:
        missing.append("a purpose")
    if not key.scopes:
        missing.append("a scope")
    if not key.secret_ref:
        missing.append("a secret reference")
    if key.pk and any(other.environment != key.environment for other in presence.sharing(key)):
        missing.append("a secret that no other environment holds")
    return missing


def shown_balance() -> dict[str, Any] | None:
    """The account for the foot of the navigation: the live one with a reading, else the sandbox."""
    accounts = list(Account.objects.filter(balance__isnull=False).order_by("id"))
    if not accounts:
        return None
    account = next((account for account in accounts if account.realm == Realm.LIVE), accounts[0])
    left = ledger.available(account)
    return {"credits": left.credits, "of": left.balance, "read_at": left.read_at, "account": account.name}


def accounts_with_available() -> list[tuple[Account, ledger.Available]]:
    return [(account, ledger.available(account)) for account in Account.objects.order_by("id")]


def has_only_sandbox_money() -> bool:
    """No live account was ever read: whatever is spent here is invented."""
    return not Account.objects.filter(realm=Realm.LIVE, balance__isnull=False).exists()


def account_of_hook(token: str) -> Account | None:
    """The account whose webhooks come to this address."""
    if len(token) < 32:
        return None
    # The database compares by index; a length of 43 random characters leaves nothing to learn from its time.
    return Account.objects.filter(hook_token=token).exclude(api_secret_ref="").first()

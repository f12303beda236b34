"""Reads about accounts, key records and calls."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Count, Q, QuerySet

from keys import findings, ledger, presence
from keys.choices import USABLE_STATES, KeyState, Realm
from keys.clock import utc_today
from keys.models import Account, FormerName, KeyRecord
from people.models import User


@dataclass(frozen=True)
class KeyFilter:
    """Filter of the inventory; it is the address. `owner` owns a record, `person` owns it or stands in; `unused` is a
    number of days."""

    view: str = ""
    environment: str = ""
    owner: int | None = None
    person: int | None = None
    team: int | None = None
    state: str = ""
    scope: str = ""
    finding: str = ""
    unused: int | None = None
    search: str = ""

    @property
    def is_set(self) -> bool:
        return any(
            (
                self.environment,
                self.owner,
                self.person,
                self.team,
                self.state,
                self.scope,
                self.finding,
                self.unused,
                self.search,
            )
        )


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


def name_preview(environment: str, system: str, label: str, of: KeyRecord | None = None) -> NamePreview:
    """What the three parts make together, and what is wrong with it; `of` is the record that would take it."""
    parts = {"system": system, "owner part": label}
    rest = f"{system or '…'}_{label or '…'}"
    is_complete = bool(environment and system and label)
    problem = next(
        (said for name, part in parts.items() if part and (said := name_part_problem(part, name))), None
    )
    if not problem and is_complete:
        problem = name_taken(f"{environment}_{rest}", of=of)
    return NamePreview(
        environment or "…",
        rest,
        problem or "",
        is_complete and not problem,
        not (environment or system or label),
    )


def name_taken(name: str, *, of: KeyRecord | None = None) -> str:
    """Why no record, or not the record `of`, may take a name; "" when it is free. A record may go back to a name of its own.

    In this order: a rename moves a name from the one table to the other in one transaction, so looking at the records
    first never misses it.
    """
    if KeyRecord.objects.filter(name=name).exists():
        if of is not None and of.name == name:
            return f"{name} is its name already."
        return f"There is a key named {name} already."
    former = FormerName.objects.select_related("key").filter(name=name).first()
    if former is None or (of is not None and former.key_id == of.id):
        return ""
    until = findings.words_of_day(former.until.date())
    return f"{name} was the name of {former.key.name} until {until} and stays reserved."


@dataclass(frozen=True)
class Named:
    """The record that a name leads to. `news` says so when the name is a former one."""

    key: KeyRecord
    news: str = ""


def find_key(name: str) -> Named | None:
    """The record of that name, or the one that had it before."""
    key = all_keys().filter(name=name).first()
    if key is not None:
        return Named(key)
    former = FormerName.objects.filter(name=name).first()
    if former is None:
        return None
    key = all_keys().get(id=former.key_id)
    return Named(key, f"{name} is now named {key.name}.")


def all_keys() -> QuerySet[KeyRecord]:
    return KeyRecord.objects.select_related("account", "owner", "deputy", "team")


def _view(view: str, user: User) -> Q:
    """What belongs to a saved view of the inventory; an unknown one shows everything."""
    usable = Q(state__in=USABLE_STATES)
    views = {
        "findings": Q(severity__gt=0),
        "mine": Q(owner=user) | Q(deputy=user),
        "unused": usable & findings.is_unused(),
        "rotation": usable & Q(rotate_by__lte=utc_today() + findings.DUE_SOON),
        "inactive": ~usable | _is_expired(),
    }
    return views.get(view, Q())


def _is_expired() -> Q:
    """Records that are shown as expired: `KeyRecord.shown_state` as a condition of the database."""
    return Q(state=KeyState.EXPIRED) | Q(
        state__in=USABLE_STATES, expires_at__isnull=False, expires_at__lt=utc_today()
    )


def _in_state(state: str) -> Q:
    if state == KeyState.EXPIRED:
        return _is_expired()
    return Q(state=state) & ~_is_expired()


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
    if wanted.environment:
        keys = keys.filter(environment=wanted.environment)
    if wanted.state:
        keys = keys.filter(_in_state(wanted.state))
    if wanted.owner:
        keys = keys.filter(owner_id=wanted.owner)
    if wanted.person:
        keys = keys.filter(Q(owner_id=wanted.person) | Q(deputy_id=wanted.person))
    if wanted.team:
        keys = keys.filter(team_id=wanted.team)
    if wanted.scope:
        keys = keys.filter(scopes__icontains=f'"{wanted.scope}"')
    if wanted.finding:
        keys = keys.filter(findings.has_finding(wanted.finding))
    if wanted.unused:
        keys = keys.filter(findings.is_unused(wanted.unused), state__in=USABLE_STATES)
    if wanted.search:
        renamed = FormerName.objects.filter(name__icontains=wanted.search).values("key")
        keys = keys.filter(
            Q(name__icontains=wanted.search)
            | Q(purpose__icontains=wanted.search)
            | Q(owner__name__icontains=wanted.search)
            | Q(id__in=renamed)
        )
    return keys.order_by("name")


def people_with_keys() -> list[User]:
    """Whoever owns a record, disabled people among them: the choices of the filter."""
    owners = KeyRecord.objects.filter(owner__isnull=False).order_by().values("owner")
    return list(User.objects.filter(id__in=owners).order_by("name", "id"))


def count_keys_of(person: User) -> tuple[int, int]:
    """Records that a person owns and records that they stand in for; those that are revoked need nobody."""
    kept = KeyRecord.objects.exclude(state=KeyState.REVOKED)
    return kept.filter(owner=person).count(), kept.filter(deputy=person).count()


def missing_for_activation(key: KeyRecord) -> list[str]:
    """What keeps a draft from becoming active, as words. Empty when nothing does."""
    return list(requirements(key).values())


def requirements(key: KeyRecord) -> dict[str, str]:
    """What an active record needs and this one lacks, by the field that would give it."""
    missing = {}
    if key.owner is None or not key.owner.is_active:
        missing["owner"] = "an active owner"
    if key.environment not in settings.RELAXED_ENVIRONMENTS:
        if key.deputy is None or not key.deputy.is_active:
            missing["deputy"] = "an active deputy"
        elif key.deputy_id == key.owner_id:
            missing["deputy"] = "a deputy who is not the owner"
        if key.team is None:
            missing["team"] = "a team"
    if not key.purpose:
        missing["purpose"] = "a purpose"
    if not key.scopes:
        missing["scopes"] = "a scope"
    if not key.secret_ref:
        missing["secret_ref"] = "a secret reference"
    elif presence.is_shared_elsewhere(key):
        missing["secret_ref"] = "a secret that no other environment holds"
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

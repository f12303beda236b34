"""Changes to accounts and key records."""

from __future__ import annotations

import secrets as random_secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from keys.choices import KeyState, Realm
from keys.clock import db_now
from keys.models import Account, BalanceReading, KeyRecord, Worker
from keys.scopes import SCOPES
from keys.secrets import SecretError, check_reference
from keys.selectors import missing_for_activation, name_part_problem
from people import audit
from people.models import Team, User

ACCOUNT_LENGTH, REFERENCE_LENGTH = 60, 200
PROBE_EVERY_S = 60.0  # one test run a minute and account, whatever the rate factor


class KeyRecordError(Exception):
    """A key record cannot be made or changed as asked. `fields` maps a field's name to its sentence."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(" ".join(fields.values()))
        self.fields = fields


@dataclass(frozen=True)
class KeySpec:
    """Everything a person decides about a key record. The name is built from environment, system and label."""

    environment: str
    system: str
    label: str
    owner: User | None
    purpose: str
    scopes: Sequence[str]
    secret_ref: str
    deputy: User | None = None
    team: Team | None = None
    account: str = ""
    daily_cap: Decimal | None = None
    rotate_by: date | None = None
    rotation_days: int = 90
    expires_at: date | None = None
    previous_secret_ref: str = ""
    was_used_before: bool = False

    @property
    def name(self) -> str:
        return f"{self.environment}_{self.system}_{self.label}"


def _problems(spec: KeySpec) -> dict[str, str]:
    found: dict[str, str] = {}
    if spec.environment not in settings.KEY_ENVIRONMENTS:
        found["environment"] = f"Choose one of {', '.join(settings.KEY_ENVIRONMENTS)}."
    for part, label in (("system", "system"), ("label", "owner part")):
        problem = name_part_problem(getattr(spec, part), label)
        if problem:
            found[part] = problem
    if spec.owner is None or not spec.owner.is_active:
        found["owner"] = "A key needs an owner who can log in."
    if not spec.purpose.strip():
        found["purpose"] = "Say in a sentence what the key is for."
    elif len(spec.purpose) > 300:
        found["purpose"] = f"The purpose may have 300 characters; this has {len(spec.purpose)}."
    unknown = sorted(set(spec.scopes) - set(SCOPES))
    if unknown:
        found["scopes"] = f"Unknown scope {', '.join(unknown)}."
    elif not spec.scopes:
        found["scopes"] = "Choose at least one scope."
    elif set(spec.scopes) == set(SCOPES) and spec.environment not in settings.RELAXED_ENVIRONMENTS:
        found["scopes"] = "All scopes at once are for sandbox and dev only. Choose what this workload needs."
    for name in ("secret_ref", "previous_secret_ref"):
        reference = getattr(spec, name)
        if reference or name == "secret_ref":
            try:
                check_reference(reference)
            except SecretError as error:
                found[name] = str(error)
            else:
                if len(reference) > REFERENCE_LENGTH:
                    found[name] = f"A reference may have {REFERENCE_LENGTH} characters."
    if len(spec.account) > ACCOUNT_LENGTH:
        found["account"] = f"The name of an account may have {ACCOUNT_LENGTH} characters."
    if spec.daily_cap is not None and spec.daily_cap < 0:
        found["daily_cap"] = "A cap is 0 or more."
    if spec.rotation_days < 1:
        found["rotation_days"] = "At least one day."
    return found


def realm_of(environment: str) -> Realm:
    return Realm.SANDBOX if environment == "sandbox" else Realm.LIVE


def ensure_account(name: str, environment: str) -> Account:
    """The account of that name, made when new; without a name, the first account of the environment's realm."""
    realm = realm_of(environment)
    if not name:
        existing = Account.objects.filter(realm=realm).order_by("id").first()
        if existing:
            return existing
        name = "Sandbox" if realm == Realm.SANDBOX else "Main"
    account = Account.objects.filter(name__iexact=name).first()
    if account is None:
        return Account.objects.create(name=name, realm=realm)
    if account.realm != realm:
        raise KeyRecordError(
            {
                "account": f"{account.name} is a {account.realm} account; a {environment} key needs a {realm} one."
            }
        )
    return account


def create_key(actor: audit.Actor, spec: KeySpec, *, reason: str = "") -> KeyRecord:
    """Make a key record: active when complete, else a draft that says what is missing. Raises `KeyRecordError`."""
    found = _problems(spec)
    if "system" not in found and "label" not in found and KeyRecord.objects.filter(name=spec.name).exists():
        found["label"] = f"There is a key named {spec.name} already."
    if found:
        raise KeyRecordError(found)
    try:
        with transaction.atomic():
            key = KeyRecord(
                name=spec.name, environment=spec.environment, system=spec.system, label=spec.label
            )
            _apply(key, spec)
            key.state = KeyState.DRAFT if missing_for_activation(key) else KeyState.ACTIVE
            key.save()
            audit.record(actor, "key.created", key, reason=reason, detail=_facts(key))
    except IntegrityError as error:
        raise KeyRecordError({"label": f"There is a key named {spec.name} already."}) from error
    return key


def change_key(actor: audit.Actor, key: KeyRecord, spec: KeySpec, *, reason: str) -> KeyRecord:
    """Change everything but the name (environment, system and label stay). Needs a reason. Raises `KeyRecordError`."""
    found = _problems(spec)
    if not reason.strip():
        found["reason"] = "Say why: the history keeps it."
    if found:
        raise KeyRecordError(found)
    with transaction.atomic():
        key = KeyRecord.objects.select_for_update().get(id=key.id)
        before = _facts(key)
        _apply(key, spec)
        if key.state in (KeyState.DRAFT, KeyState.ACTIVE):
            key.state = KeyState.DRAFT if missing_for_activation(key) else KeyState.ACTIVE
        key.save()
        after = _facts(key)
        changed = {name: [before[name], after[name]] for name in after if before[name] != after[name]}
        audit.record(actor, "key.changed", key, reason=reason, detail=changed)
    return key


def _apply(key: KeyRecord, spec: KeySpec) -> None:
    key.owner, key.deputy, key.team = spec.owner, spec.deputy, spec.team
    key.account = ensure_account(spec.account, key.environment)
    key.purpose = " ".join(spec.purpose.split())
    key.scopes = sorted(set(spec.scopes))
    is_replaced = bool(key.secret_ref) and key.secret_ref != spec.secret_ref
    if is_replaced and spec.previous_secret_ref in ("", key.previous_secret_ref):
        key.previous_secret_ref = key.secret_ref  # nobody named another: the one replaced stays known
    else:
        key.previous_secret_ref = spec.previous_secret_ref
    key.secret_ref = spec.secret_ref
    key.was_used_before = spec.was_used_before
    key.daily_cap = spec.daily_cap
    key.rotation_days = spec.rotation_days
    key.rotate_by = spec.rotate_by or timezone.localdate() + timedelta(days=spec.rotation_days)
    key.expires_at = spec.expires_at


def _facts(key: KeyRecord) -> dict[str, str]:
    return {
        "state": key.state,
        "owner": key.owner.email if key.owner else "",
        "deputy": key.deputy.email if key.deputy else "",
        "team": str(key.team or ""),
        "account": str(key.account),
        "purpose": key.purpose,
        "scopes": ", ".join(key.scopes),
        "secret reference": key.secret_ref,
        "previous reference": key.previous_secret_ref,
        "used before this record": "yes" if key.was_used_before else "",
        "daily cap": "" if key.daily_cap is None else f"{key.daily_cap.normalize():f}",
        "rotate by": str(key.rotate_by),
        "expires": str(key.expires_at or ""),
    }


def ask_for_balance(account: Account) -> bool:
    """A person wants a fresh reading: at most one a minute is asked for. True when this call asked."""
    floor = db_now() - timedelta(minutes=1)
    return bool(
        Account.objects.filter(
            Q(balance_asked_at__isnull=True) | Q(balance_asked_at__lt=floor),
            Q(balance_wanted_at__isnull=True) | Q(balance_wanted_at__lt=floor),
            id=account.id,
        ).update(balance_wanted_at=db_now())
    )


def store_balance(account: Account, *, credits: Decimal, asked_at: datetime, user_id: str = "") -> None:
    """Keep a reading; an older one never replaces a newer one. One that differs from the one before is kept for good."""
    last = (
        BalanceReading.objects.filter(account=account, asked_at__lte=asked_at).order_by("-asked_at").first()
    )
    if last is None or last.credits != credits:
        BalanceReading.objects.create(account=account, credits=credits, asked_at=asked_at)
    Account.objects.filter(
        Q(balance_asked_at__isnull=True) | Q(balance_asked_at__lt=asked_at), id=account.id
    ).update(
        balance=credits,
        balance_asked_at=asked_at,
        balance_wanted_at=None,
        balance_error="",
        balance_failed_at=None,
    )


def store_balance_error(account: Account, message: str) -> None:
    """The balance could not be read; pages show the last reading with its age, and why."""
    Account.objects.filter(id=account.id).update(
        balance_error=message[:300], balance_failed_at=db_now(), balance_wanted_at=None
    )


def worker_seen() -> None:
    """A worker is at work: pages that wait for one look here."""
    now = db_now()
    if not Worker.objects.filter(name=settings.WORKER_NAME).update(seen_at=now, release=settings.RELEASE):
        Worker.objects.get_or_create(
            name=settings.WORKER_NAME, defaults={"seen_at": now, "release": settings.RELEASE}
        )


ACCOUNT_FIELDS = ("email", "user_id", "api_secret_ref", "signs_requests", "hook_token")


def change_account(
    actor: audit.Actor, account: Account, changes: Mapping[str, object], *, reason: str = ""
) -> Account:
    """Change `email`, `user_id`, `api_secret_ref`, `signs_requests`, and by `has_webhooks` the secret address of webhooks:
    True makes a new one. Raises `KeyRecordError`."""
    with transaction.atomic():
        account = Account.objects.select_for_update().get(id=account.id)
        before = {name: getattr(account, name) for name in ACCOUNT_FIELDS}
        for name, value in changes.items():
            if name == "has_webhooks":
                account.hook_token = random_secrets.token_urlsafe(32) if value else ""
            else:
                setattr(account, name, value.strip() if isinstance(value, str) else value)
        found = {}
        if account.api_secret_ref:
            try:
                check_reference(account.api_secret_ref)
            except SecretError as error:
                found["api_secret_ref"] = str(error)
        elif account.signs_requests or account.hook_token:
            found["api_secret_ref"] = (
                "Signed requests and webhooks need the API secret: name where workers find it."
            )
        if found:
            raise KeyRecordError(found)
        changed = [name for name, value in before.items() if getattr(account, name) != value]
        account.save(update_fields=ACCOUNT_FIELDS)
        if changed:
            # The address is a secret of its own kind: that it changed is told, what it is is not.
            detail = {
                name: "changed" if name == "hook_token" else str(getattr(account, name)) for name in changed
            }
            audit.record(actor, "account.changed", account, reason=reason, detail=detail)
    return account

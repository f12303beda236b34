"""Changes to accounts and key records."""

from __future__ import annotations

import secrets as random_secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from keys import findings, ledger
from keys import hours as key_hours
from keys.choices import USABLE_STATES, KeyState, Realm
from keys.clock import db_now, utc_today
from keys.hours import Hours
from keys.lifecycle import FINAL, MOVES, Step
from keys.models import Account, BalanceReading, FormerName, KeyRecord, Worker
from keys.scopes import SCOPES
from keys.secrets import SecretError, check_reference
from keys.selectors import missing_for_activation, name_part_problem, name_taken, requirements
from people import audit
from people.models import AuditEntry, Team, User
from people.rights import Right
from people.selectors import who_can

ACCOUNT_LENGTH, REFERENCE_LENGTH = 60, 200
PROBE_EVERY_S = 60.0  # one test run a minute and account, whatever the rate factor


class KeyRecordError(Exception):
    """A key record cannot be made or changed as asked. `fields` maps a field's name to its sentence."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(" ".join(fields.values()))
        self.fields = fields


class StaleError(KeyRecordError):
    """The record was changed after its form was opened, so nothing was written. `facts` names what was changed of what a
    form shows, as the history does; None when the history does not tell what was."""

    def __init__(self, message: str, facts: Sequence[str] | None) -> None:
        super().__init__({"version": message})
        self.facts = facts


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
    hours: Hours = key_hours.ANY_TIME
    was_used_before: bool = False

    @property
    def name(self) -> str:
        return f"{self.environment}_{self.system}_{self.label}"


SCOPES_MISSING = "Choose at least one scope."


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
        found["scopes"] = SCOPES_MISSING
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
    return {**found, **key_hours.problems(spec.hours)}


def realm_of(environment: str) -> Realm:
    return Realm.SANDBOX if environment == "sandbox" else Realm.LIVE


def ensure_account(actor: audit.Actor, name: str, environment: str, *, reason: str) -> Account:
    """The account of that name, made when new; without a name, the first account of the environment's realm. Inside the
    transaction of the record that needs it."""
    realm = realm_of(environment)
    if not name:
        existing = Account.objects.filter(realm=realm).order_by("id").first()
        if existing:
            return existing
        name = "Sandbox" if realm == Realm.SANDBOX else "Main"
    account = Account.objects.filter(name__iexact=name).first()
    if account is None:
        account = Account.objects.create(name=name, realm=realm)
        audit.record(actor, "account.created", account, reason=reason, detail={"realm": realm.value})
        return account
    if account.realm != realm:
        raise KeyRecordError(
            {
                "account": f"{account.name} is a {account.realm} account; a {environment} key needs a {realm} one."
            }
        )
    return account


REASON_MISSING = "Say why: the history keeps it."


def create_key(actor: audit.Actor, spec: KeySpec, *, reason: str = "") -> KeyRecord:
    """Make a key record: active when complete, else a draft that says what is missing. Its purpose is why it is made, where no
    other reason is given. Raises `KeyRecordError`."""
    reason = reason.strip() or spec.purpose
    found = _problems(spec)
    if "system" not in found and "label" not in found and (taken := name_taken(spec.name)):
        found["label"] = taken
    if found:
        raise KeyRecordError(found)
    try:
        with transaction.atomic():
            key = KeyRecord(
                name=spec.name, environment=spec.environment, system=spec.system, label=spec.label
            )
            _apply(actor, key, spec, reason)
            key.state = KeyState.DRAFT if missing_for_activation(key) else KeyState.ACTIVE
            if taken := name_taken(spec.name):  # somebody was faster
                raise KeyRecordError({"label": taken})
            key.save()
            audit.record(actor, "key.created", key, reason=reason, detail=_facts(key))
            findings.refresh([key.id])
    except IntegrityError as error:
        raise KeyRecordError({"label": f"There is a key named {spec.name} already."}) from error
    return key


def change_key(
    actor: audit.Actor, key: KeyRecord, spec: KeySpec, *, reason: str, version: str | None = None
) -> KeyRecord:
    """Change everything but the name (environment, system and label stay). Needs a reason. A draft becomes active once it
    is complete; an active record stays active, so what it needs cannot be taken away. `version` is the `version_of` the
    record that `spec` was made from: when it stands no more, `StaleError`. Raises `KeyRecordError`."""
    found = _problems(spec)
    if not reason.strip():
        found["reason"] = REASON_MISSING
    if found:
        raise KeyRecordError(found)
    with transaction.atomic():
        key = _lock(key)
        if version is not None:
            _check_version(key, version)
        before, lacked, account = _facts(key), requirements(key), key.account
        was_expired = key.is_expired
        _apply(actor, key, spec, reason)
        if was_expired and not key.is_expired:
            key.usable_since = db_now()
        if key.account != account:
            _keep_account(key, account)
        lacks = requirements(key)
        if key.state == KeyState.DRAFT and not lacks:
            key.state, key.usable_since = KeyState.ACTIVE, db_now()
        elif key.state in USABLE_STATES:
            after = _facts(key)
            kept = {name for name in lacks if before.get(name) == after.get(name)}
            _keep_complete(lacks, {name: words for name, words in lacked.items() if name in kept})
        key.save()
        _record_changes(actor, key, before, reason)
    return key


CHANGES = ("key.changed", "key.renamed", *(move.action for move in MOVES.values()))


def _changes_of(key: KeyRecord) -> QuerySet[AuditEntry]:
    return AuditEntry.objects.filter(object_type="keyrecord", object_id=key.id, action__in=CHANGES)


def version_of(key: KeyRecord) -> str:
    """What a form keeps of the record that it shows: when it was last changed, and the number of the line in the history
    that tells it, so that what came after can be named."""
    last = _changes_of(key).order_by("-id").values_list("id", flat=True).first()
    return f"{key.updated_at.isoformat()} {last or 0}"


def _check_version(key: KeyRecord, version: str) -> None:
    """Raise `StaleError` when a locked record is no more what a form showed."""
    changed_at, _, last = version.partition(" ")
    if changed_at == key.updated_at.isoformat():
        return
    since = int(last) if last.isdecimal() and len(last) < 19 else 0
    entries = _changes_of(key).filter(id__gt=since).select_related("actor").order_by("id")[:20]
    said, facts = [], []
    for entry in entries:
        is_edit = entry.action == "key.changed"
        what = ", ".join(entry.detail) if is_edit and entry.detail else entry.words.lower()
        said.append(f"{entry.actor.name if entry.actor else entry.via}: {what}")
        facts += list(entry.detail) if is_edit else []
    raise StaleError(
        f"{'; '.join(said) or 'Nobody knows what'}. Nothing was written.", facts if said else None
    )


def _lock(key: KeyRecord) -> KeyRecord:
    """The record, locked until the transaction ends. Raises `KeyRecordError` for one that is only to be read."""
    locked = KeyRecord.objects.select_for_update(no_key=True).get(id=key.id)
    if locked.state in FINAL:
        raise KeyRecordError(
            {
                "state": f"{locked.name} is {KeyState(locked.state).label.lower()} for good: it can be read and no more "
                "be changed. Make a new record where one is needed."
            }
        )
    return locked


def _keep_complete(lacks: Mapping[str, str], lacked: Mapping[str, str]) -> None:
    """An active record does not lose what it needs by a change. `lacked` is what was missing before and is left as it was
    (its deputy was disabled, say): that is a finding and holds up nothing."""
    lost = {name: words for name, words in lacks.items() if lacked.get(name) != words}
    if lost:
        raise KeyRecordError(
            {name: f"An active record needs {words}. Quarantine it first." for name, words in lost.items()}
        )


def _keep_account(key: KeyRecord, account: Account) -> None:
    """Jobs under way keep their record on its account: only there their credits are set aside and their rows are found.
    The lock keeps reservations back until the change is committed."""
    Account.objects.select_for_update(no_key=True).get(id=account.id)
    held = ledger.open_jobs(key)
    if held:
        jobs = ", ".join(f"#{job}" for job in [*held][:5]) + ("…" if len(held) > 5 else "")
        credits = ledger.words(sum(held.values(), Decimal(0)))
        one = len(held) == 1
        raise KeyRecordError(
            {
                "account": f"{'Job' if one else 'Jobs'} {jobs} {'holds' if one else 'hold'} {credits} credits on {account.name}. "
                f"Wait until {'it is' if one else 'they are'} over, decide {'its' if one else 'their'} uncertain rows, or cancel; "
                "or make another record for the other account."
            }
        )


def _record_changes(actor: audit.Actor, key: KeyRecord, before: Mapping[str, str], reason: str) -> None:
    after = _facts(key)
    changed = {name: [before[name], after[name]] for name in after if before[name] != after[name]}
    audit.record(actor, "key.changed", key, reason=reason, detail=changed)
    findings.refresh([key.id])


def rename_key(actor: audit.Actor, key: KeyRecord, *, system: str, label: str, reason: str) -> KeyRecord:
    """Give a record another system or owner part. The old name stays its own for good; its environment, the reference of
    its secret, its calls, jobs and credits stay what they are. Raises `KeyRecordError`."""
    found = {} if reason.strip() else {"reason": REASON_MISSING}
    for name, part, words in (("system", system, "system"), ("label", label, "owner part")):
        if problem := name_part_problem(part, words):
            found[name] = problem
    if found:
        raise KeyRecordError(found)
    name = f"{key.environment}_{system}_{label}"
    try:
        with transaction.atomic():
            key = _lock(key)
            if taken := name_taken(name, of=key):
                raise KeyRecordError({"label": taken})
            FormerName.objects.filter(name=name, key=key).delete()  # back to a name of its own
            FormerName.objects.create(name=key.name, key=key, until=db_now())
            before, key.name, key.system, key.label = key.name, name, system, label
            key.save(update_fields=["name", "system", "label", "updated_at"])
            audit.record(actor, "key.renamed", key, reason=reason, detail={"from": before, "to": name})
            findings.refresh([key.id])
    except IntegrityError as error:
        raise KeyRecordError({"label": f"There is a key named {name} already."}) from error
    return key


def change_state(actor: audit.Actor, key: KeyRecord, step: Step, *, reason: str) -> KeyRecord:
    """Move a record along one line of `lifecycle.MOVES`; calls see it from the next one on. Raises `KeyRecordError`."""
    if not reason.strip():
        raise KeyRecordError({"reason": REASON_MISSING})
    move = MOVES[step]
    with transaction.atomic():
        key = _lock(key)
        if key.state not in move.before:
            states = " or ".join(KeyState(state).label.lower() for state in move.before)
            raise KeyRecordError(
                {
                    "state": f"{key.name} is {KeyState(key.state).label.lower()}. *{step.label}* is for a record that is {states}."
                }
            )
        missing = missing_for_activation(key) if move.is_complete else []
        if missing:
            raise KeyRecordError({"state": _missing_first(key, missing)})
        before, key.state = key.state, move.after
        if before not in USABLE_STATES and key.state in USABLE_STATES:
            key.usable_since = db_now()
        key.save(update_fields=["state", "usable_since", "updated_at"])
        audit.record(actor, move.action, key, reason=reason, detail={"from": before, "to": move.after.value})
        findings.refresh([key.id])
    return key


def _missing_first(key: KeyRecord, missing: Sequence[str]) -> str:
    return f"{key.name} needs {', '.join(missing)} first. {who_can(Right.MANAGE_KEYS)} can add it."


def _is_later(day: date | None, other: date | None) -> bool:
    """Whether one last day is after another; none is after every day."""
    return other is not None and (day is None or day > other)


def renew_key(actor: audit.Actor, key: KeyRecord, *, expires_at: date | None, reason: str) -> KeyRecord:
    """Give a record another last day, or none; one that had expired lets calls out again. One that could be used gains no
    time while it lacks what an active record needs. Raises `KeyRecordError`."""
    found = {} if reason.strip() else {"reason": REASON_MISSING}
    if expires_at is not None and expires_at < utc_today():
        found["expires_at"] = "That day is over. Choose a day to come, or none."
    if found:
        raise KeyRecordError(found)
    with transaction.atomic():
        key = _lock(key)
        before, gains_time = _facts(key), _is_later(expires_at, key.expires_at)
        was_expired = key.is_expired
        key.expires_at = expires_at
        if key.state == KeyState.EXPIRED:
            key.state = KeyState.ACTIVE
        if was_expired and not key.is_expired:
            key.usable_since = db_now()  # the time in which nobody could use it is no rest
        missing = missing_for_activation(key) if key.state in USABLE_STATES and gains_time else []
        if missing:
            raise KeyRecordError({"expires_at": _missing_first(key, missing)})
        key.save(update_fields=["expires_at", "state", "usable_since", "updated_at"])
        _record_changes(actor, key, before, reason)
    return key


@dataclass(frozen=True)
class Handover:
    """Who takes records over. With `leaver`, only what that person holds changes hands: ownership goes to `owner`, standing
    in to `deputy`. Without, every record gets whoever is named."""

    owner: User | None = None
    deputy: User | None = None
    leaver: User | None = None

    def people_of(self, key: KeyRecord) -> tuple[User | None, User | None]:
        """Owner and deputy of a record afterwards."""
        owner, deputy = key.owner, key.deputy
        if self.owner and self.leaver in (None, key.owner):
            owner = self.owner
        if self.deputy and self.leaver in (None, key.deputy):
            deputy = self.deputy
        return owner, deputy


@dataclass(frozen=True)
class HandedOver:
    """What became of one record: `refusal` says why nothing did, "" when it changed."""

    key: KeyRecord
    refusal: str = ""


def hand_over(
    actor: audit.Actor, keys: Sequence[KeyRecord], handover: Handover, *, reason: str
) -> list[HandedOver]:
    """Change owner or deputy of many records, each in a transaction of its own: what is refused keeps nobody else back.
    Raises `KeyRecordError` for what is wrong with all of them."""
    found = {} if reason.strip() else {"reason": REASON_MISSING}
    for name in ("owner", "deputy"):
        person: User | None = getattr(handover, name)
        if person is not None and (not person.is_active or person == handover.leaver):
            found[name] = f"{person.name} cannot take them over: choose somebody else who can log in."
    if handover.owner is None and handover.deputy is None:
        found["owner"] = "Choose a new owner, a new deputy, or both."
    if found:
        raise KeyRecordError(found)
    return [_hand_over_one(actor, key, handover, reason) for key in keys]


def _hand_over_one(actor: audit.Actor, key: KeyRecord, handover: Handover, reason: str) -> HandedOver:
    try:
        with transaction.atomic():
            key = _lock(key)
            before, lacked = _facts(key), requirements(key)
            owner, deputy = handover.people_of(key)
            if (owner, deputy) == (key.owner, key.deputy):
                return HandedOver(
                    key, "Nothing to change: these people hold it already, or the leaver holds no part of it."
                )
            key.owner, key.deputy = owner, deputy
            _keep_complete_people(key, lacked)
            key.save(update_fields=["owner", "deputy", "updated_at"])
            _record_changes(actor, key, before, reason)
    except KeyRecordError as error:
        return HandedOver(key, str(error))
    return HandedOver(key)


def _keep_complete_people(key: KeyRecord, lacked: Mapping[str, str]) -> None:
    """Who answers for a record is checked in every state: a quarantined one needs the two as well."""
    lost = {
        name: words
        for name, words in requirements(key).items()
        if name in ("owner", "deputy") and lacked.get(name) != words
    }
    if lost:
        raise KeyRecordError({name: f"It would lack {words}." for name, words in lost.items()})


def remove_scopes(actor: audit.Actor, key: KeyRecord, scopes: Sequence[str], *, reason: str) -> KeyRecord:
    """Take some scopes from a record, whatever else is wrong with it. Needs a reason. Raises `KeyRecordError`."""
    found = {} if reason.strip() else {"reason": REASON_MISSING}
    with transaction.atomic():
        key = _lock(key)
        before, gone = list(key.scopes), set(scopes) & set(key.scopes)
        if not gone:
            found["scopes"] = "Choose a scope that the record has."
        elif gone == set(before):
            found["scopes"] = "A record keeps at least one scope. Revoke it when nobody needs it."
        if found:
            raise KeyRecordError(found)
        _grant(key, [scope for scope in before if scope not in gone])
        key.save(update_fields=["scopes", "scopes_since", "updated_at"])
        changed = {"scopes": [", ".join(before), ", ".join(key.scopes)]}
        audit.record(actor, "key.changed", key, reason=reason, detail=changed)
        findings.refresh([key.id])
    return key


def _grant(key: KeyRecord, scopes: Sequence[str]) -> None:
    """The record's scopes, each with the day on which it got it."""
    today = db_now().astimezone(UTC).date()
    before = dict.fromkeys(key.scopes, (key.created_at.date() if key.created_at else today).isoformat())
    before.update({scope: day for scope, day in key.scopes_since.items() if scope in before})
    key.scopes = sorted(set(scopes))
    key.scopes_since = {scope: before.get(scope, today.isoformat()) for scope in key.scopes}


def _apply(actor: audit.Actor, key: KeyRecord, spec: KeySpec, reason: str) -> None:
    key.owner, key.deputy, key.team = spec.owner, spec.deputy, spec.team
    key.account = ensure_account(actor, spec.account, key.environment, reason=reason)
    key.purpose = " ".join(spec.purpose.split())
    _grant(key, spec.scopes)
    is_replaced = bool(key.secret_ref) and key.secret_ref != spec.secret_ref
    if is_replaced and spec.previous_secret_ref in ("", key.previous_secret_ref):
        key.previous_secret_ref = key.secret_ref  # nobody named another: the one replaced stays known
    else:
        key.previous_secret_ref = spec.previous_secret_ref
    key.secret_ref = spec.secret_ref
    key.was_used_before = spec.was_used_before
    key.daily_cap = spec.daily_cap
    key.rotation_days = spec.rotation_days
    key.rotate_by = spec.rotate_by or utc_today() + timedelta(days=spec.rotation_days)
    key.expires_at = spec.expires_at
    key.time_zone = spec.hours.zone
    key.hours_days = "" if spec.hours.days == key_hours.ALL_DAYS else spec.hours.days
    key.hours_begin, key.hours_end = spec.hours.begin, spec.hours.end


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
        "rotation days": str(key.rotation_days),
        "rotate by": str(key.rotate_by),
        "expires": str(key.expires_at or ""),
        # Without commas: the history would read it as a list.
        "hours": key_hours.of(key).words.replace(", ", " ") if key_hours.of(key).is_set else "",
        "time zone": key.time_zone,
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


def worker_seen(*, reports: bool = True) -> None:
    """A worker is at work: pages that wait for one look here. `reports`: it will say what it finds at secrets' references."""
    now = db_now()
    mine = Worker.objects.filter(name=settings.WORKER_NAME)
    if not mine.update(seen_at=now, release=settings.RELEASE, ended_at=None):
        Worker.objects.get_or_create(
            name=settings.WORKER_NAME,
            defaults={"seen_at": now, "release": settings.RELEASE, "reports": reports},
        )


def worker_ends() -> None:
    """This worker ends: from now on nobody counts it. What it last found stays, for the one that comes after it."""
    Worker.objects.filter(name=settings.WORKER_NAME).update(ended_at=db_now())


def command_ends() -> None:
    """This command, which was a worker for its length, ends and leaves nothing of a worker."""
    Worker.objects.filter(name=settings.WORKER_NAME, reports=False).delete()


ACCOUNT_FIELDS = ("email", "user_id", "api_secret_ref", "signs_requests", "hook_token")


def change_account(
    actor: audit.Actor, account: Account, changes: Mapping[str, object], *, reason: str
) -> Account:
    """Change `email`, `user_id`, `api_secret_ref`, `signs_requests`, and by `has_webhooks` the secret address of webhooks:
    True makes a new one. Needs a reason. Raises `KeyRecordError`."""
    if not reason.strip():
        raise KeyRecordError({"reason": REASON_MISSING})
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

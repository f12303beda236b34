"""Small functions that put rows into the database; every argument has a usable default."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from enrichment.choices import Source
from enrichment.models import EnrichmentJob
from enrichment.services import submission, uploads
from keys.choices import KeyState, Realm
from keys.models import Account, KeyRecord
from keys.scopes import SCOPES
from people.audit import Actor
from people.models import RoleGrant, Team, User

_numbers = itertools.count(1)


def make_team(name: str = "") -> Team:
    return Team.objects.create(name=name or f"Team {next(_numbers)}")


def make_user(
    email: str = "",
    *,
    name: str = "",
    role: str | None = "operator",
    team: Team | None = None,
    password: str | None = None,
    **more: Any,
) -> User:
    """A person with one role (none with `role=None`) who can log in when a password is given."""
    number = next(_numbers)
    user = User(
        email=email or f"person{number}@desk.example", name=name or f"Person {number}", team=team, **more
    )
    if password is None:
        user.set_unusable_password()
    else:
        user.set_password(password)
    user.save()
    if role is not None:
        RoleGrant.objects.create(user=user, role=role)
    return user


def make_account(
    name: str = "", *, realm: str = Realm.SANDBOX, balance: Decimal | int | None = None, **more: Any
) -> Account:
    """An account; with a balance, one that was read just now."""
    if balance is not None:
        more = {"balance": Decimal(balance), "balance_asked_at": timezone.now(), **more}
    return Account.objects.create(name=name or f"Account {next(_numbers)}", realm=realm, **more)


def make_key(
    name: str = "",
    *,
    owner: User | None = None,
    account: Account | None = None,
    environment: str = "sandbox",
    scopes: Sequence[str] | None = None,
    state: str = KeyState.ACTIVE,
    secret_ref: str = "env:ICYPEAS_API_KEY",
    **more: Any,
) -> KeyRecord:
    """An active key record of the sandbox with every scope."""
    label = f"label{next(_numbers)}"
    name = name or f"{environment}_lists_{label}"
    system, _, label = name.removeprefix(f"{environment}_").rpartition("_")
    realm = Realm.SANDBOX if environment == "sandbox" else Realm.LIVE
    return KeyRecord.objects.create(
        **{
            "name": name,
            "environment": environment,
            "system": system,
            "label": label,
            "owner": owner or make_user(),
            "account": account or make_account(realm=realm),
            "purpose": "Clean lists before a campaign",
            "scopes": sorted(SCOPES) if scopes is None else list(scopes),
            "state": state,
            "secret_ref": secret_ref,
            "rotate_by": timezone.localdate() + timedelta(days=90),
            **more,
        }
    )


def addresses(count: int, *, stem: str = "ann") -> list[str]:
    """Different e-mail addresses that the sandbox charges for."""
    return [f"{stem}{number}@company{number}.example" for number in range(1, count + 1)]


def make_job(
    rows: int | Sequence[str] = 3,
    *,
    created_by: User | None = None,
    operation: str = "email-verification",
    file_name: str = "list.csv",
    source: str = Source.BROWSER,
    **changes: Any,
) -> EnrichmentJob:
    """A checked draft, made by the services from a CSV with one column `email` (or the lines given, header first for
    another operation). `changes` are written to the job afterwards."""
    lines = addresses(rows) if isinstance(rows, int) else list(rows)
    if operation == "email-verification":
        lines = ["email", *lines]
    text = "\n".join(lines) + "\n"
    return make_job_from_file(
        text.encode(),
        created_by=created_by,
        operation=operation,
        file_name=file_name,
        source=source,
        **changes,
    )


def make_job_from_file(
    content: bytes,
    *,
    created_by: User | None = None,
    operation: str = "email-verification",
    file_name: str = "list.csv",
    source: str = Source.BROWSER,
    **changes: Any,
) -> EnrichmentJob:
    """A checked draft, made by the services from the bytes of a file."""
    job = uploads.create_draft(
        Actor(created_by or make_user()),
        operation=operation,
        stream=io.BytesIO(content),
        file_name=file_name,
        source=source,
    )
    uploads.check_rows(job.id)
    if changes:
        EnrichmentJob.objects.filter(id=job.id).update(**changes)
    job.refresh_from_db()
    return job


def make_numbered_job(number: int, **fields: Any) -> EnrichmentJob:
    """A job of that number, where only who may open it matters."""
    person = fields.pop("created_by", None) or make_user()
    return EnrichmentJob.objects.create(
        id=number, created_by=person, team=person.team, operation="email-verification", **fields
    )


def start(job: EnrichmentJob, key: KeyRecord, **order: Any) -> EnrichmentJob:
    """Start a draft as the person who made it."""
    told = {"purpose": "Spring campaign", "freshness_days": 90, "token": job.start_token, **order}
    return submission.start_job(Actor(job.created_by), job.id, submission.StartOrder(key=key, **told))

"""Changes to people and teams."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from people import audit
from people.models import RoleGrant, Team, User
from people.rights import Role


class PersonError(Exception):
    """A person cannot be made or changed as asked; the message says why and what to do."""


def ensure_team(name: str) -> Team:
    """The team of that name, made when it is new. Names compare without case."""
    name = " ".join(name.split())
    return Team.objects.filter(name__iexact=name).first() or Team.objects.create(name=name)


def create_person(
    actor: audit.Actor,
    *,
    email: str,
    name: str,
    roles: Sequence[str],
    team: str = "",
    password: str | None = None,
    time_zone: str = "UTC",
    is_demo: bool = False,
) -> User:
    """Make a person. Without a password nobody can log in as them until one is set.

    Raises `PersonError` for a bad or taken address, an unknown role, or a weak password.
    """
    email = User.objects.normalize_email(email)
    try:
        validate_email(email)
    except ValidationError as error:
        raise PersonError(f"{email!r} is not an e-mail address.") from error
    if not name.strip():
        raise PersonError("A person needs a name.")
    unknown = sorted(set(roles) - set(Role.values))
    if unknown or not roles:
        raise PersonError(f"Unknown role {', '.join(unknown) or '(none)'}. Roles: {', '.join(Role.values)}.")
    if User.objects.filter(email=email).exists():
        raise PersonError(f"There is a person with the address {email} already.")
    user = User(email=email, name=" ".join(name.split()), time_zone=time_zone, is_demo=is_demo)
    if password is None:
        user.set_unusable_password()
    else:
        _take_password(user, password)
    with transaction.atomic():
        user.team = ensure_team(team) if team else None
        user.save()
        RoleGrant.objects.bulk_create([RoleGrant(user=user, role=role) for role in dict.fromkeys(roles)])
        audit.record(actor, "person.created", user, detail={"roles": list(roles), "team": team})
    return user


def set_password(actor: audit.Actor, user: User, password: str) -> None:
    """Give a person a (new) password; their open sessions end. Raises `PersonError` for a weak one."""
    _take_password(user, password)
    with transaction.atomic():
        user.save(update_fields=["password"])
        audit.record(actor, "person.password_set", user)


def _take_password(user: User, password: str) -> None:
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise PersonError("The password was not taken. " + " ".join(error.messages)) from error
    user.set_password(password)

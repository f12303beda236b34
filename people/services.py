"""Changes to people and teams."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Q

from people import audit
from people.models import RoleGrant, Team, User
from people.rights import RIGHTS, Right, Role


class PersonError(Exception):
    """A person cannot be made or changed as asked; the message says why and what to do. `field` is what it is about."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def ensure_team(actor: audit.Actor, name: str, *, reason: str = "") -> Team:
    """The team of that name, made when it is new. Names compare without case. Inside the transaction of whatever needs it."""
    name = " ".join(name.split())
    team = Team.objects.filter(name__iexact=name).first()
    if team is None:
        team = Team.objects.create(name=name)
        audit.record(actor, "team.created", team, reason=reason)
    return team


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
    reason: str = "",
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
        user.team = ensure_team(actor, team, reason=reason) if team else None
        user.save()
        RoleGrant.objects.bulk_create([RoleGrant(user=user, role=role) for role in dict.fromkeys(roles)])
        detail = {"roles": list(roles), "team": team}
        audit.record(actor, "person.created", user, reason=reason, detail=detail)
    return user


def change_person(
    actor: audit.Actor, user: User, *, roles: Sequence[str], team: Team | None, reason: str
) -> User:
    """Give a person other roles or another team; both hold from their next request on. Raises `PersonError`."""
    _check_reason(reason)
    unknown = sorted(set(roles) - set(Role.values))
    if unknown:
        raise PersonError(
            f"Unknown role {', '.join(unknown)}. Roles: {', '.join(Role.values)}.", field="roles"
        )
    with transaction.atomic():
        user = _lock(user)
        before = {"roles": ", ".join(sorted(user.roles)), "team": str(user.team or "")}
        if user.may(Right.MANAGE_PEOPLE) and not _gives(roles, Right.MANAGE_PEOPLE):
            if actor.user == user:
                raise PersonError(
                    f"You cannot take away your own right to {Right.MANAGE_PEOPLE.label}: somebody else who holds it can.",
                    field="roles",
                )
            _keep_one_holder(user)
        user.team = team
        user.save(update_fields=["team"])
        RoleGrant.objects.filter(user=user).exclude(role__in=roles).delete()
        missing = set(roles) - set(RoleGrant.objects.filter(user=user).values_list("role", flat=True))
        RoleGrant.objects.bulk_create([RoleGrant(user=user, role=role) for role in sorted(missing)])
        after = {"roles": ", ".join(sorted(set(roles))), "team": str(team or "")}
        changed = {name: [before[name], after[name]] for name in after if before[name] != after[name]}
        audit.record(actor, "person.changed", user, reason=reason, detail=changed)
    return User.objects.prefetch_related("role_grants").get(id=user.id)


def disable_person(actor: audit.Actor, user: User, *, reason: str) -> User:
    """Nobody can log in as this person any more, and their open sessions end with their next request. Their jobs and key
    records stay. Raises `PersonError`."""
    _check_reason(reason)
    if actor.user == user:
        raise PersonError("You cannot disable yourself: somebody else who may can.")
    with transaction.atomic():
        user = _lock(user)
        if not user.is_active:
            raise PersonError(f"{user.name} is disabled already.")
        if user.may(Right.MANAGE_PEOPLE):
            _keep_one_holder(user)
        user.is_active = False
        user.save(update_fields=["is_active"])
        audit.record(actor, "person.disabled", user, reason=reason)
    return user


def enable_person(actor: audit.Actor, user: User, *, reason: str) -> User:
    """Let a disabled person log in again, with the roles that they had. Raises `PersonError`."""
    _check_reason(reason)
    with transaction.atomic():
        user = _lock(user)
        if user.is_active:
            raise PersonError(f"{user.name} can log in already.")
        user.is_active = True
        user.save(update_fields=["is_active"])
        audit.record(actor, "person.enabled", user, reason=reason)
    return user


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise PersonError("Say why: the history keeps it.", field="reason")


def _gives(roles: Sequence[str], right: Right) -> bool:
    return any(right in RIGHTS.get(role, frozenset()) for role in roles)


def _lock(user: User) -> User:
    """The person, locked together with whoever manages people: two of them who disable each other wait for one another,
    and the second finds nobody left."""
    holders = Q(role_grants__role__in=[role for role in RIGHTS if _gives([role], Right.MANAGE_PEOPLE)])
    ids = {user.id, *User.objects.filter(holders).values_list("id", flat=True)}
    locked = User.objects.select_for_update(no_key=True).filter(id__in=ids).order_by("id")
    return next(one for one in locked if one.id == user.id)


def _keep_one_holder(user: User) -> None:
    """Somebody who may manage people must be left."""
    others = User.objects.filter(is_active=True).exclude(id=user.id).prefetch_related("role_grants")
    if not any(other.may(Right.MANAGE_PEOPLE) for other in others):
        raise PersonError(
            f"{user.name} is the last person who can {Right.MANAGE_PEOPLE.label}. Give somebody else such a role first.",
            field="roles",
        )


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

"""Reads about people."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Replace
from django.utils import timezone

from people.models import AuditEntry, Team, User
from people.rights import Right, Role, roles_with


def people_with(right: Right, *, limit: int = 3) -> list[User]:
    """Active people who hold `right`: whom a refusal names."""
    return list(everyone_with(right)[:limit])


def everyone_with(right: Right) -> QuerySet[User]:
    """All active people who hold `right`: whom a notice reaches."""
    roles = [role for role in Role.values if Role(role).label in roles_with(right)]
    return User.objects.filter(is_active=True, role_grants__role__in=roles).distinct()


def who_can(right: Right) -> str:
    """ "Mira Okafor or Leo Brandt", or the roles when nobody holds the right yet. Begins a sentence."""
    names = [user.name for user in people_with(right)]
    if names:
        return _any_of(names)
    roles = _any_of([role.lower() for role in roles_with(right)])
    return f"{'An' if roles[0] in 'aeiou' else 'A'} {roles}"


def _any_of(words: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


# What the first word of an action is about: the filter of the activity page.
AREAS = {
    "key.": "Keys",
    "account.": "Accounts",
    "job.": "Jobs",
    "price.": "Prices",
    "budget.": "Budgets",
    "person.": "People",
    "team.": "Teams",
}


def active_owners() -> QuerySet[User]:
    return User.objects.filter(is_active=True).order_by("name")


def list_people() -> list[User]:
    return list(User.objects.select_related("team").prefetch_related("role_grants").order_by("name", "id"))


def list_teams() -> list[Team]:
    return list(Team.objects.order_by("name"))


def filter_activity(
    *,
    search: str = "",
    action: str = "",
    person: int | None = None,
    since: date | None = None,
    until: date | None = None,
) -> QuerySet[AuditEntry]:
    """Audit entries of one filter; days are the viewer's, both included."""
    entries = AuditEntry.objects.select_related("actor")
    if search:
        # The action as the page writes it: "budget.set" is found as "Budget set".
        with_spaces = Replace(Replace("action", Value("."), Value(" ")), Value("_"), Value(" "))
        entries = entries.alias(said=with_spaces).filter(
            Q(object_text__icontains=search)
            | Q(actor__name__icontains=search)
            | Q(reason__icontains=search)
            | Q(said__icontains=search)
        )
    if action:
        entries = entries.filter(action__startswith=action)
    if person:
        entries = entries.filter(actor_id=person)
    if since:
        entries = entries.filter(at__gte=_start_of(since))
    if until:
        entries = entries.filter(at__lt=_start_of(until + timedelta(days=1)))
    return entries


def _start_of(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=timezone.get_current_timezone())


def list_activity(
    entries: QuerySet[AuditEntry], *, before_id: int | None = None, limit: int = 50
) -> list[AuditEntry]:
    """Entries newest first, one more than `limit` when there are older ones."""
    if before_id:
        entries = entries.filter(id__lt=before_id)
    return list(entries.order_by("-id")[: limit + 1])


def people_in_activity() -> list[User]:
    """Whoever did something that is told."""
    return list(
        User.objects.filter(id__in=AuditEntry.objects.order_by().values("actor").distinct()).order_by("name")
    )


def history_of(object_type: str, object_id: int, *, limit: int = 20) -> list[AuditEntry]:
    entries = AuditEntry.objects.filter(object_type=object_type, object_id=object_id)
    return list(entries.select_related("actor").order_by("-id")[:limit])

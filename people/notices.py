"""Notices: what a person should know, told once. Every notice of the app goes through `tell`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils import timezone

from people.models import Notice, User

KEPT = timedelta(days=365)


@dataclass(frozen=True)
class News:
    """One occasion, and whom it concerns. `title` and `text` are mailed, too: names of keys, dates and numbers, never rows of
    people or secrets."""

    people: Sequence[User]
    kind: str
    dedupe: str
    title: str
    text: str = ""
    url: str = ""


def tell(news: Sequence[News]) -> int:
    """Leave a notice for everybody who can log in and was not told of that occasion yet; how many notices.

    Whoever tells of the same occasion in the same moment is stopped by the unique key.
    """
    wanted = {(person.id, one.dedupe): one for one in news for person in one.people if person.is_active}
    if not wanted:
        return 0
    told = Notice.objects.filter(dedupe__in={dedupe for _, dedupe in wanted})
    known = set(told.values_list("person_id", "dedupe"))
    left = [
        Notice(
            person_id=number,
            kind=one.kind,
            dedupe=dedupe,
            title=one.title[:200],
            text=one.text[:700],
            url=one.url,
            at=timezone.now(),
        )
        for (number, dedupe), one in wanted.items()
        if (number, dedupe) not in known
    ]
    Notice.objects.bulk_create(left, ignore_conflicts=True)
    return len(left)


def of(person: User) -> QuerySet[Notice]:
    """The notices of one person; nobody reads another's."""
    return Notice.objects.filter(person=person)


def count_unread(person: User) -> int:
    return of(person).filter(read_at__isnull=True).count()


def list_notices(person: User, *, before_id: int | None = None, limit: int = 50) -> list[Notice]:
    """Newest first, one more than `limit` when there are older ones."""
    found = of(person)
    if before_id:
        found = found.filter(id__lt=before_id)
    return list(found.order_by("-id")[: limit + 1])


def mark_read(person: User, number: int | None = None) -> int:
    """One notice, or all, were read; how many became so."""
    unread = of(person).filter(read_at__isnull=True)
    if number is not None:
        unread = unread.filter(id=number)
    return unread.update(read_at=timezone.now())


def forget(now: datetime) -> None:
    """Notices go after a year."""
    Notice.objects.filter(at__lt=now - KEPT).delete()

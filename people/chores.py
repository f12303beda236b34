"""Periodic work that several schedulers and workers come upon: the first one in a while does it."""

from __future__ import annotations

from datetime import datetime, timedelta

from people.models import Chore


def claim(name: str, *, every: timedelta, now: datetime) -> bool:
    """Whether it is this caller's turn: true once in `every`, for one of those who ask at the same time."""
    if Chore.objects.filter(name=name, begun_at__lte=now - every).update(begun_at=now):
        return True
    if Chore.objects.filter(name=name).exists():
        return False
    return Chore.objects.get_or_create(name=name, defaults={"begun_at": now})[1]

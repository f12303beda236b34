"""The audit log: one line per change, in the transaction of the change."""

from __future__ import annotations

import getpass
import socket
from dataclasses import dataclass
from typing import Any

from django.db import models

from people.models import AuditEntry, User


@dataclass(frozen=True)
class Actor:
    """Who acts: a person (None for the app itself) and the door they came through."""

    user: User | None
    via: str = "browser"

    @property
    def text(self) -> str:
        return self.user.name if self.user else "Enrichment desk"


SYSTEM = Actor(None, "worker")


def terminal_actor(on_behalf_of: User | None) -> Actor:
    """The person at a terminal: "terminal, OS user, host, on behalf of EMAIL"."""
    try:
        os_user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        os_user = "unknown user"
    via = f"terminal, {os_user}, {socket.gethostname()}"
    return Actor(on_behalf_of, f"{via}, on behalf of {on_behalf_of.email}" if on_behalf_of else via)


def record(
    actor: Actor, action: str, obj: models.Model, *, reason: str = "", detail: dict[str, Any] | None = None
) -> AuditEntry:
    """Append one entry about `obj`. `detail` is shown to people: ids, numbers and names of fields, never a secret."""
    return AuditEntry.objects.create(
        actor=actor.user,
        via=actor.via[:200],
        action=action,
        object_type=obj._meta.model_name or "",
        object_id=obj.pk,
        object_text=str(obj)[:200],
        reason=reason[:500],
        detail=detail or {},
    )

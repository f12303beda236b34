"""The web process of the canary: the real one, in which making a key record ends in an error nobody foresaw."""

from __future__ import annotations

from typing import Any

from config.wsgi import application
from keys import services

__all__ = ("application",)

EXPLODE = "explode"
_create_key = services.create_key


def create_or_explode(actor: Any, spec: Any, **more: Any) -> Any:
    if spec.system == EXPLODE:
        pasted = spec.purpose  # a local variable, as a debug page shows them
        raise RuntimeError(f"the canary breaks a view ({len(pasted)})")
    return _create_key(actor, spec, **more)


services.create_key = create_or_explode

"""System checks of a process's set-up."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning, register


@register()
def check_environments(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """What this process serves must exist."""
    unknown = sorted(set(settings.ENVIRONMENTS) - set(settings.KEY_ENVIRONMENTS))
    if unknown:
        return [
            Warning(
                f"ENVIRONMENTS names {', '.join(unknown)}, which KEY_ENVIRONMENTS does not have.",
                hint="Correct one of the two.",
                id="keys.W001",
            )
        ]
    return []

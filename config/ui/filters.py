"""Number filters for templates: `{{ value|credits }}`, `{{ part|share:whole }}`."""

from __future__ import annotations

from datetime import datetime

from config.ui import numbers
from config.ui.registry import register
from config.ui.states import Look, look_of

register.filter("credits", numbers.credits)
register.filter("credit_word", numbers.credit_word)
register.filter("number", numbers.number)
register.filter("percent", numbers.percent)
register.filter("share", numbers.share)
register.filter("duration", numbers.duration)
register.filter("initials", numbers.initials)


@register.filter
def exact(moment: datetime | None) -> str:
    """A moment in full, in the viewer's zone with its name."""
    return numbers.exact(moment) if moment else numbers.UNKNOWN


@register.filter
def full_stop(words: object) -> str:
    """What a person wrote, as a sentence that another one may follow."""
    said = str(words).rstrip()
    return said if said.endswith((".", "!", "?", "…")) else f"{said}."


@register.filter
def check_look(state: str) -> Look:
    """The look of a state in a checklist."""
    return look_of("check", str(state))


@register.filter
def is_theme(cookie: str | None, theme: str) -> bool:
    """Whether the theme cookie says `theme`; anything but light and dark is the system's."""
    return (cookie if cookie in ("light", "dark") else "system") == theme

"""The tag library that the modules beside this one fill, and what they share to draw a component."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from django import template
from django.conf import settings
from django.forms.utils import flatatt
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe

from config.ui.states import Look

register = template.Library()


def draw(component: str, **context: object) -> SafeString:
    """`templates/components/<component>.html`, which sees nothing but `context`."""
    if not settings.DEBUG and _PLAIN.issuperset(map(type, context.values())):
        return _draw_once(component, tuple((name, type(value), value) for name, value in context.items()))
    return _draw(component, context)


_PLAIN = frozenset({str, SafeString, int, bool, type(None), Look})


@lru_cache(maxsize=8_192)
def _draw_once(component: str, given: tuple[tuple[str, type, object], ...]) -> SafeString:
    """A component whose context is plain values looks the same each time; a list shows the same states, people and names
    over and over. The types are part of what is remembered: 1 and True are equal and do not look alike."""
    return _draw(component, {name: value for name, _, value in given})


def _draw(component: str, context: Mapping[str, object]) -> SafeString:
    # Stripped: a line break at the end of a component would be a space before the comma that follows it.
    return mark_safe(render_to_string(f"components/{component}.html", dict(context)).strip())


def attributes(given: Mapping[str, object]) -> SafeString:
    """HTML attributes from keyword arguments: `hx_get=url` is hx-get="…", True is a bare name, empty ones are left out.

    `style` and `hx-on…` raise ValueError: the page's Content-Security-Policy would drop both in silence.
    """
    named = {name.rstrip("_").replace("_", "-"): value for name, value in given.items()}
    if refused := [name for name in named if name == "style" or name.startswith(("hx-on", "on"))]:
        raise ValueError(f"not allowed by the Content-Security-Policy: {', '.join(refused)}")
    return flatatt({name: value for name, value in named.items() if value is not None and value != ""})

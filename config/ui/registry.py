"""The tag library that the modules beside this one fill, and what they share to draw a component."""

from __future__ import annotations

from collections.abc import Mapping

from django import template
from django.forms.utils import flatatt
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe

register = template.Library()


def draw(component: str, **context: object) -> SafeString:
    """`templates/components/<component>.html`, which sees nothing but `context`."""
    # Stripped: a line break at the end of a component would be a space before the comma that follows it.
    return mark_safe(render_to_string(f"components/{component}.html", context).strip())


def attributes(given: Mapping[str, object]) -> SafeString:
    """HTML attributes from keyword arguments: `hx_get=url` is hx-get="…", True is a bare name, empty ones are left out.

    `style` and `hx-on…` raise ValueError: the page's Content-Security-Policy would drop both in silence.
    """
    named = {name.rstrip("_").replace("_", "-"): value for name, value in given.items()}
    if refused := [name for name in named if name == "style" or name.startswith(("hx-on", "on"))]:
        raise ValueError(f"not allowed by the Content-Security-Policy: {', '.join(refused)}")
    return flatatt({name: value for name, value in named.items() if value is not None and value != ""})

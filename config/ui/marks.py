"""Small things inside a line: icons, states, names of keys, people, times."""

from __future__ import annotations

import re
from datetime import date, datetime
from functools import lru_cache

import lucide
from django.utils import timezone
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from config.ui import numbers
from config.ui.registry import draw, register
from config.ui.states import look_of


@register.simple_tag
def icon(name: str, size: int = 16, css: str = "") -> SafeString:
    """A Lucide icon, 16 px unless told, hidden from screen readers: the word stands beside it."""
    return _icon(str(name), size, str(css))


@lru_cache(maxsize=512)
def _icon(name: str, size: int, css: str) -> SafeString:
    """Raises `lucide.IconDoesNotExist` for a name that the icon set does not have."""
    # `_render_icon` is what the package's own template tags call; they add nothing but the cast to safe.
    svg = lucide._render_icon(name, size, stroke_width="1.75", aria_hidden="true", focusable="false")
    svg = re.sub(r">\s+<", "><", svg).strip()
    return mark_safe(svg.replace("<svg ", f'<svg class="{escape(f"icon {css}".strip())}" ', 1))


@register.simple_tag
def state(kind: str, value: str, pill: bool = False, word: str = "", mono: bool = False) -> SafeString:
    """Icon and word of a state. `kind` is job, row, key, call or check; a pill stands only beside a page title."""
    look = look_of(kind, str(value))
    return draw("state", look=look, word=word or look.word, pill=pill, mono=mono, spin=look.icon == "loader")


@register.simple_tag
def key_name(key: object, env: str = "", href: str = "", title: bool = False) -> SafeString:
    """A key's name, its environment as a tag, the rest following so that copying gives the whole name.

    `key` is a record with `name` and `environment`, or the name; then `env` says the environment, since a name
    is never parsed. A name that does not begin with its environment is shown as it is.
    """
    name = str(getattr(key, "name", key))
    environment = str(env or getattr(key, "environment", ""))
    rest = name.removeprefix(environment) if environment and name.startswith(f"{environment}_") else ""
    return draw(
        "key_name",
        environment=environment if rest else "",
        # A long name may be broken behind each underscore.
        name=mark_safe("_<wbr>".join(escape(part) for part in (rest or name).split("_"))),
        known=environment in ("prod", "staging", "dev", "sandbox"),
        href=href,
        title=title,
    )


@register.simple_tag
def env_tag(environment: str) -> SafeString:
    """The environment alone, as the tag that key names begin with."""
    return draw(
        "env_tag", environment=environment, known=str(environment) in ("prod", "staging", "dev", "sandbox")
    )


@register.simple_tag
def scope(name: str) -> SafeString:
    """A scope or another short piece of code, mono on a soft ground."""
    return draw("scope", name=name)


@register.simple_tag
def sample(value: str) -> SafeString:
    """A cell of an uploaded file, cut at 40 characters with the whole in its title."""
    text = str(value)
    return draw(
        "sample", text=text if len(text) <= 40 else f"{text[:39]}…", whole=text, is_empty=not text.strip()
    )


@register.simple_tag
def avatar(name: str) -> SafeString:
    """Initials in a circle; the name stands beside it, so it is hidden from screen readers."""
    return draw("avatar", initials=numbers.initials(str(name)))


@register.simple_tag
def person(name: object, href: str = "") -> SafeString:
    """Avatar and name; nobody is said in words."""
    return draw(
        "person", name=str(name) if name else "", initials=numbers.initials(str(name or "")), href=href
    )


@register.simple_tag
def when(moment: datetime | date | None, style: str = "relative", empty: str = "never") -> SafeString:
    """A time with its exact value on hover and focus.

    `style`: relative (up to 24 h, then the date), clock (10:42:07, with the date when it is not today), short
    (10:42), day (17 Nov). None gives `empty`, in the quiet colour.
    """
    if moment is None:
        return draw("when_empty", text=empty)
    now = timezone.now()
    if not isinstance(moment, datetime):
        return draw(
            "when", text=numbers.day(moment, now), exact=f"{moment:%d %b %Y}".lstrip("0"), iso=str(moment)
        )
    local, here = timezone.localtime(moment), timezone.localtime(now)
    if style == "clock":
        text = (
            f"{local:%H:%M:%S}"
            if local.date() == here.date()
            else f"{numbers.day(moment, now)} {local:%H:%M}"
        )
    elif style == "short":
        text = (
            f"{local:%H:%M}" if local.date() == here.date() else f"{numbers.day(moment, now)} {local:%H:%M}"
        )
    elif style == "day":
        text = numbers.day(moment, now)
    elif style == "relative":
        text = numbers.relative(moment, now)
    else:
        raise ValueError(f"unknown style of time: {style!r}")
    return draw("when", text=text, exact=numbers.exact(moment), iso=numbers.machine(moment))


@register.simple_tag
def kbd(keys: str) -> SafeString:
    """Keys to press, separated by spaces: `{% kbd "g o" %}`."""
    return draw("kbd", keys=str(keys).split())

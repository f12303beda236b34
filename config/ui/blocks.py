"""Parts of a page: sections, banners, figures with a word, lists of things that happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.utils.safestring import SafeString

from config.ui.registry import attributes, draw, register
from config.ui.states import BANNER_ICONS, FINDING_WORDS


@register.simple_tag
def crumb(label: object, href: str = "") -> SafeString:
    """One step of the breadcrumb; the last has no `href`."""
    return draw("crumb", label=label, href=href)


@register.simple_block_tag
def section(
    content: str, title: str, note: str = "", id: str = "", actions: str = "", level: int = 2
) -> SafeString:
    """A part of a page under its own heading. `actions` stand right: `{% actions as some_name %}…{% endactions %}`."""
    return draw("section", content=content, title=title, note=note, id=id, actions=actions, level=level)


@register.simple_block_tag
def actions(content: str) -> SafeString:
    """Buttons in a row. With `as name` they are kept for the `actions` of a banner, section or finding."""
    return draw("actions", content=content)


@register.simple_block_tag
def banner(
    content: str, tone: str, title: str = "", icon: str = "", actions: str = "", role: str = "", id: str = ""
) -> SafeString:
    """Bold what, then why and what to do. `tone`: info, ok, warn, bad. `role="alert"` only for what the last key press
    caused. One a page: the worst wins."""
    return draw(
        "banner",
        content=content,
        tone=tone,
        title=title,
        icon=icon or BANNER_ICONS[tone],
        actions=actions,
        attributes=attributes({"role": role, "id": id}),
    )


@register.simple_block_tag
def finding(
    content: str,
    title: str,
    icon: str = "circle-alert",
    tone: str = "warn",
    href: str = "",
    state: str = "open",
    actions: str = "",
) -> SafeString:
    """A list item (in `<ul class="findings">`): icon, title, evidence, one fix. `state`: open, excepted, fixed, back; all but
    the first stand as a word beside the title."""
    return draw(
        "finding",
        content=content,
        title=title,
        icon=icon,
        tone=tone,
        href=href,
        state=state,
        word=FINDING_WORDS.get(state, ""),
        actions=actions,
    )


@register.simple_block_tag
def stats(content: str, label: str = "") -> SafeString:
    """Three or four `stat` between two hairlines."""
    return draw("stats", content=content, label=label)


@register.simple_tag
def stat(
    label: str, value: object, note: str = "", unit: str = "", href: str = "", extra: str = "", size: str = ""
) -> SafeString:
    """Label, figure, one explaining line. `href` opens the rows behind it; `extra` is a sparkline; None is *unknown*."""
    return draw(
        "stat",
        label=label,
        value="unknown" if value is None else value,
        note=note,
        unit=unit,
        href=href,
        extra=extra,
        size=size,
    )


@register.simple_block_tag
def facts(content: str, layout: str = "rows") -> SafeString:
    """A `<dl>` of `fact`. `layout`: rows (label left, value follows), sums (value right), grid (label above)."""
    return draw("facts", content=content, layout=layout)


@register.simple_block_tag
def fact(content: str, label: str, strong: bool = False, quiet: bool = False) -> SafeString:
    """One fact; an empty value says why it is empty."""
    return draw("fact", content=content, label=label, strong=strong, quiet=quiet)


@register.simple_tag
def wizard(items: Sequence[Mapping[str, object]], label: str = "Steps") -> SafeString:
    """The steps of a wizard in a row: `{"label", "state": "done" | "current" | "todo", "url"}`."""
    return draw("wizard", items=items, label=label)


@register.simple_block_tag
def steps(content: str) -> SafeString:
    """Numbered steps down a line, made of `step`."""
    return draw("steps", content=content)


@register.simple_block_tag
def step(content: str, number: int, title: str, state: str = "todo", note: str = "") -> SafeString:
    """`state`: done, current (the only boxed one), open (could be done as well), todo, blocked. The content is the
    evidence, or the work of the current step; a locked step says what opens it in `note`."""
    return draw(
        "step", content=content.strip() and content, number=number, title=title, state=state, note=note
    )


@register.simple_tag
def checklist(items: Sequence[Mapping[str, object]]) -> SafeString:
    """`{"name", "state": "ok" | "bad" | "warn" | "running" | "not_reached", "value", "note"}`."""
    return draw("checklist", items=items)


@register.simple_tag
def timeline(items: Sequence[Mapping[str, object]], style: str = "clock") -> SafeString:
    """Newest first: `{"icon", "tone", "text", "at", "by", "note", "url"}`; `style` as of `when`."""
    return draw("timeline", items=items, style=style)


@register.simple_block_tag
def side_panel(
    content: str,
    id: str,
    title: str,
    close: str,
    sub: str = "",
    previous: str = "",
    next: str = "",
    target: str = "",
) -> SafeString:
    """Right of its table; the three addresses work without script, Esc follows `close`. With `target` they swap it."""
    return draw(
        "side_panel",
        content=content,
        id=id,
        title=title,
        sub=sub,
        close=close,
        previous=previous,
        next=next,
        target=target,
    )


@register.simple_tag
def toast(title: str, note: str = "", tone: str = "ok", href: str = "", link: str = "") -> SafeString:
    """News of something done; goes into the region `#toasts`."""
    return draw("toast", title=title, note=note, tone=tone, icon=BANNER_ICONS[tone], href=href, link=link)


@register.simple_tag
def skeleton(lines: int = 5) -> SafeString:
    """Grey lines in the size of what comes, shown after 300 ms by `.htmx-indicator`; never for polls."""
    return draw("skeleton", lines=range(lines))


@register.simple_block_tag
def empty(content: str, title: str, icon: str = "", actions: str = "", small: bool = False) -> SafeString:
    """What will appear here, why it is empty (no data, filter, no right) and one action."""
    return draw("empty", content=content, title=title, icon=icon, actions=actions, small=small)

"""What a person presses, opens or fills in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from django.forms import BaseForm, BoundField, CheckboxInput, PasswordInput
from django.utils.safestring import SafeString

from config.ui.registry import attributes, draw, register

VARIANTS = {"primary", "secondary", "quiet", "danger", "danger-fill"}


@register.simple_block_tag
def button(
    content: str,
    variant: str = "secondary",
    icon: str = "",
    href: str = "",
    type: str = "button",
    disabled: bool = False,
    reason: str = "",
    size: str = "",
    wide: bool = False,
    icon_after: str = "",
    attrs: Mapping[str, object] | None = None,
    **more: object,
) -> SafeString:
    """A button, or a link that looks like one when `href` is given.

    `size` is small or large. `disabled` needs a `reason` that names who may or what is missing; it stands beside
    the button. Any other keyword becomes an attribute (`name`, `value`, `hx_post`, `data_dialog`, `aria_label`).
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown button variant: {variant!r}")
    return draw(
        "button",
        label=content.strip() and SafeString(content.strip()),
        variant=variant,
        icon=icon,
        icon_after=icon_after,
        href=href,
        type=type,
        disabled=disabled,
        reason=reason,
        size=size,
        wide=wide,
        attributes=attributes({**(attrs or {}), **more}),
    )


@register.simple_tag
def icon_button(icon: str, label: str, href: str = "", type: str = "button", **more: object) -> SafeString:
    """A lone icon: close, copy, previous, next. `label` is its name and its tooltip."""
    return draw("icon_button", icon=icon, label=label, href=href, type=type, attributes=attributes(more))


@register.simple_tag
def copy_button(text: str, label: str = "Copy", icon_only: bool = True) -> SafeString:
    """Puts `text` on the clipboard. Shown only where script runs."""
    return draw("copy_button", text=text, label=label, icon_only=icon_only)


@register.simple_tag
def chip(
    label: str,
    value: str = "",
    remove: str = "",
    options: Sequence[Mapping[str, object]] | None = None,
    href: str = "",
    add: bool = False,
    **more: object,
) -> SafeString:
    """A filter. Set: label, **value** and `remove`, the address without it. Unset: a menu of `options`
    (`{"label", "url", "count", "is_current"}`) or a link `href`. `add` draws the dashed one."""
    return draw(
        "chip",
        label=label,
        value=value,
        remove=remove,
        options=options,
        href=href,
        add=add,
        attributes=attributes(more),
    )


@register.simple_block_tag
def filter_bar(
    content: str,
    action: str = "",
    query: str = "",
    placeholder: str = "Search",
    clear: str = "",
    note: str = "",
    hidden: Iterable[tuple[str, object]] = (),
    target: str = "",
    name: str = "q",
    has_search: bool = True,
) -> SafeString:
    """Search field, chips (the content), *Clear* and a note, as one GET form. `hidden` keeps the other filters
    (pairs of name and value) when the search is sent. With `target` the region is swapped while typing."""
    return draw(
        "filter_bar",
        content=content,
        action=action,
        query=query,
        placeholder=placeholder,
        clear=clear,
        note=note,
        hidden=list(hidden),
        target=target,
        name=name,
        has_search=has_search,
    )


@register.simple_tag
def tabs(items: Sequence[Mapping[str, object]], label: str = "Views", target: str = "") -> SafeString:
    """Saved views or operations as links: `{"label", "url", "count", "is_current"}`."""
    return draw("tabs", items=items, label=label, target=target)


@register.simple_tag
def segmented(items: Sequence[Mapping[str, object]], label: str, target: str = "") -> SafeString:
    """Two or three ways to see the same thing, as joined links: `{"label", "url", "is_current"}`."""
    return draw("segmented", items=items, label=label, target=target)


@register.simple_block_tag
def menu(
    content: str,
    label: str,
    icon: str = "",
    variant: str = "secondary",
    size: str = "",
    align: str = "end",
    icon_only: bool = False,
    heading: str = "",
) -> SafeString:
    """A `<details>` whose summary looks like a button; fill it with `menu_item` and `menu_line`."""
    return draw(
        "menu",
        content=content,
        label=label,
        icon=icon,
        variant=variant,
        size=size,
        align=align,
        icon_only=icon_only,
        heading=heading,
    )


@register.simple_tag
def menu_item(
    label: str,
    href: str = "",
    icon: str = "",
    note: str = "",
    danger: bool = False,
    current: bool = False,
    **more: object,
) -> SafeString:
    """A link, or without `href` a submit button of the form around it. `note` says the difference to its neighbours."""
    return draw(
        "menu_item",
        label=label,
        href=href,
        icon=icon,
        note=note,
        danger=danger,
        current=current,
        attributes=attributes(more),
    )


@register.simple_tag
def menu_line() -> SafeString:
    """A hairline between groups of a menu."""
    return draw("menu_line")


@register.simple_block_tag
def dialog(content: str, id: str, title: str, wide: bool = False, is_open: bool = False) -> SafeString:
    """A native dialog, opened by any control with `data-dialog="<id>"` (give that control an `href` to a page with the
    same content: it works without script). End the content with `dialog_actions`. `is_open` opens it at once,
    as after a 422."""
    return draw("dialog", content=content, id=id, title=title, wide=wide, is_open=is_open)


@register.simple_block_tag
def dialog_actions(content: str) -> SafeString:
    """The foot of a dialog: the safe button first and focused (`data_close=True`, `autofocus=True`), the verb last."""
    return draw("dialog_actions", content=content)


@register.simple_tag
def field(
    bound: BoundField,
    hint: str = "",
    optional: str | bool = True,
    locked: str = "",
    label: str = "",
    hide_label: bool = False,
    **more: object,
) -> SafeString:
    """Label, control, hint and errors of a form field, tied together for screen readers.

    Required is the norm, so what is not says *optional* (`optional="optional below 5 credits"` says more, False
    says nothing). `locked` disables the control and says who may change it. Other keywords become attributes.
    """
    hint = str(locked or hint or bound.help_text)
    control_id = bound.id_for_label or bound.auto_id
    described = [f"{bound.auto_id}_helptext"] * bool(hint) + [f"{bound.auto_id}_error"] * bool(bound.errors)
    attributes(more)  # refuses what the policy would drop
    widget_attrs: dict[str, str | bool] = {
        name.rstrip("_").replace("_", "-"): value if isinstance(value, bool) else str(value)
        for name, value in more.items()
        if value
        not in (None, "")  # a template's way to say that an attribute such as `disabled` is not wanted
    }
    is_group = bound.use_fieldset
    if described and not is_group:
        widget_attrs["aria-describedby"] = " ".join(described)
    if locked:
        widget_attrs["disabled"] = True
    is_optional = not bound.field.required and not isinstance(bound.field.widget, CheckboxInput)
    return draw(
        "field",
        bound=bound,
        control=bound.as_widget(attrs=widget_attrs),
        control_id=control_id,
        hint=hint,
        described=" ".join(described),
        label=label or bound.label,
        hide_label=hide_label,
        optional=("optional" if optional is True else optional) if is_optional else "",
        is_check=isinstance(bound.field.widget, CheckboxInput),
        is_group=is_group,
        is_password=isinstance(bound.field.widget, PasswordInput),
        is_locked=bool(locked),
    )


@register.simple_tag
def form_errors(form: BaseForm, title: str = "This was not saved.") -> SafeString:
    """What is wrong with a form as a whole, above its fields; nothing when nothing is."""
    return (
        draw("form_errors", errors=form.non_field_errors(), title=title) if form.is_bound else SafeString("")
    )


@register.simple_block_tag
def selection_bar(
    content: str, name: str = "row", count: int = 0, noun: str = "row", all_label: str = "", all_url: str = ""
) -> SafeString:
    """Stands above a table; counts the ticked boxes called `name`. The content are actions with their cost."""
    return draw(
        "selection_bar",
        content=content,
        name=name,
        count=count,
        noun=noun,
        all_label=all_label,
        all_url=all_url,
    )


@register.simple_tag
def pager(
    shown: str, newer: str = "", older: str = "", size: int = 50, target: str = "", newer_word: str = "Newer"
) -> SafeString:
    """*Newer* / *Next 50* of a keyset list; an empty address disables its side. `shown` says what is on the page."""
    return draw(
        "pager", shown=shown, newer=newer, older=older, size=size, target=target, newer_word=newer_word
    )


@register.simple_tag
def live_switch() -> SafeString:
    """Stops and starts the polling of this page; stands in the `live` block."""
    return draw("live_switch")


@register.simple_tag
def new_rows(shown: int, href: str, target: str = "", noun: str = "row") -> SafeString:
    """*128 new rows, show*: appears when the polled region's `data-answered` has grown past `shown`."""
    return draw("new_rows", shown=shown, href=href, target=target, noun=noun)

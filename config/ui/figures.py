"""Numbers as shapes: stacked bar and legend, meter, sparkline, chart of days. All are SVG from the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.utils.safestring import SafeString

from config.ui import charts, numbers
from config.ui.registry import draw, register


@register.simple_tag
def stacked_bar(
    counts: Mapping[str, int], size: str = "", live: bool = True, found: str = "", not_found: str = ""
) -> SafeString:
    """`counts` by row state, missing ones are 0. `size="small"` in lists; `live=False` drops the two open states."""
    parts = charts.segments(counts, charts.bar_labels(found, not_found), is_live=live)
    return draw(
        "stacked_bar",
        parts=[part for part in parts if part.count and part.state != "waiting"],
        has_open_end=bool(counts.get("waiting")),
        height=8 if size == "small" else 14,
        sentence=charts.bar_sentence(parts),
        small=size == "small",
    )


@register.simple_tag
def legend(
    counts: Mapping[str, int],
    urls: Mapping[str, str] | None = None,
    live: bool = True,
    found: str = "",
    not_found: str = "",
    id: str = "",
) -> SafeString:
    """Swatch, name, number and share of each state; `urls` (by state) open the rows behind it. In a polled region give
    an `id`: each link gets one made from it, and so keeps the focus when the region is swapped."""
    parts = charts.segments(counts, charts.bar_labels(found, not_found), is_live=live)
    return draw("legend", parts=[(part, (urls or {}).get(part.state, "")) for part in parts], id=id)


@register.simple_tag
def custom_bar(parts: Sequence[Mapping[str, object]], label: str = "") -> SafeString:
    """A bar and legend of other parts than row states, as in the row check before a start.

    `{"state", "label", "count", "note", "url"}`; `state` names the colour of a row state.
    """
    places = charts.slots([int(str(part["count"])) for part in parts])
    drawn = [{**part, "slot": slot} for part, slot in zip(parts, places, strict=True)]
    said = ", ".join(f"{numbers.number(part['count'])} {str(part['label']).lower()}" for part in parts)
    return draw("custom_bar", parts=drawn, sentence=f"{label}: {said}".lstrip(": "))


@register.simple_tag
def meter(fraction: object, label: str, warn_below: float = 0.0, warn_above: float = 2.0) -> SafeString:
    """A thin bar with its percentage: confidence, budget used. Amber outside the two bounds. `fraction` is 0 to 1."""
    value = min(max(float(numbers.decimal_or_none(fraction) or 0), 0.0), 1.0)
    raw = float(numbers.decimal_or_none(fraction) or 0)
    return draw(
        "meter",
        width=charts.as_percent(value),
        text=f"{raw * 100:.0f}{numbers.NBSP}%",
        label=label,
        warn=raw < warn_below or raw > warn_above,
    )


@register.simple_tag
def sparkline(values: Sequence[object], label: str = "") -> SafeString:
    """88 × 22 px over the values, oldest first."""
    return draw("sparkline", spark=charts.sparkline(values, label))


@register.simple_tag
def day_chart(
    days: Sequence[Mapping[str, object]],
    series: Sequence[str],
    unit: str = "credits",
    cap: object = None,
    cap_label: str = "",
    note: str = "",
) -> SafeString:
    """Stacked bars per day with axis, legend and the same data as a table behind *Show as table*.

    See `charts.day_chart` for `days`; every bar with a `url` opens what is behind it.
    """
    chart = charts.day_chart(days, series, unit=unit, cap=cap, cap_label=cap_label)
    # The table, like the legend, leaves out a series that never has a value.
    shown = [number - 1 for number, _, _ in chart.legend] or list(range(len(series)))
    return draw(
        "day_chart",
        chart=chart,
        height=charts.CHART_HEIGHT,
        top=charts.CHART_TOP,
        base=charts.CHART_BASE,
        hit=charts.CHART_BASE - charts.CHART_TOP,
        has_links=any(day.url for day in chart.days),
        rows=[{**day, "values": [charts.values_of(day)[index] for index in shown]} for day in days],
        series=[series[index] for index in shown],
        digits=1 if unit == "credits" else 0,
        has_marks=bool(chart.marks),
        unit=unit,
        note=note,
    )

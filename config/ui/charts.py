"""Geometry of the server-rendered SVG: x in percent of the width, y in pixels, so that text never scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import floor, log10

from config.ui import numbers
from config.ui.states import BAR_ORDER, OPEN_ROW_STATES, ROW

GAP_PX = 1.5
SLIVER = Decimal("0.003")  # below this share a part is drawn 2 px wide, so that one row of a million shows
SLIVER_PX = 2 + GAP_PX

SPARK_WIDTH, SPARK_HEIGHT = 88, 22
CHART_HEIGHT, CHART_TOP, CHART_BASE = 168, 14, 148
CAP_FITS = 5  # times the highest bar that a cap may stand above it
MARK_ROOM = 0.27  # of the width, between two marks with words
MARK_EDGE = 0.12  # nearer to an edge the word begins or ends at its mark


@dataclass(frozen=True)
class Slot:
    """Where one part of a bar is drawn. `x` and `width` are percent as text, the rest are pixels.

    A sliver is 2 px wide at `x` plus `push`, on a patch of ground that parts it from its neighbours.
    """

    x: str
    width: str
    is_sliver: bool
    push: float = 0.0
    ground_push: float = 0.0
    ground_width: float = 0.0


@dataclass(frozen=True)
class Segment:
    """One row state of a stacked bar and of its legend."""

    state: str
    label: str
    count: int
    share: str
    slot: Slot


def slots(counts: Sequence[int]) -> list[Slot]:
    """Places of the parts of a bar, in their order. Parts too thin to see become slivers side by side."""
    total = sum(counts)
    places: list[Slot] = []
    before, run = 0, 0  # rows left of this part; slivers directly before it
    for index, count in enumerate(counts):
        portion = Decimal(count) / total if total else Decimal(0)
        x = Decimal(before) / total if total else Decimal(0)
        before += count
        if not 0 < portion < SLIVER:
            run = run if count == 0 else 0
            places.append(Slot(as_percent(x), as_percent(portion), is_sliver=False))
            continue
        later = [other for other in counts[index + 1 :] if other]
        if all(Decimal(other) / total < SLIVER for other in later):
            # Nothing wide follows: count from the right edge, or the sliver would be cut off there.
            left = SLIVER_PX * (len(later) + 1)
            places.append(Slot("100%", "0%", True, push=GAP_PX - left, ground_push=-left, ground_width=left))
        else:
            pushed = SLIVER_PX * run
            places.append(
                Slot(
                    as_percent(x), "0%", True, push=pushed + GAP_PX, ground_width=pushed + SLIVER_PX + GAP_PX
                )
            )
        run += 1
    return places


def bar_labels(found: str = "", not_found: str = "") -> dict[str, str]:
    """Words of the eight states; an operation may have its own for the first two."""
    words = {state: ROW[state].word for state in BAR_ORDER}
    return words | {key: word for key, word in (("found", found), ("not_found", not_found)) if word}


def segments(counts: Mapping[str, int], labels: Mapping[str, str], *, is_live: bool) -> list[Segment]:
    """Parts in the fixed order. A finished job has no open states, so they drop out, unless rows are left in them."""
    numbers_of = [int(counts.get(state, 0)) for state in BAR_ORDER]
    total = sum(numbers_of)
    return [
        Segment(state, labels[state], count, numbers.share(count, total), slot)
        for state, count, slot in zip(BAR_ORDER, numbers_of, slots(numbers_of), strict=True)
        if is_live or count or state not in OPEN_ROW_STATES
    ]


def as_percent(fraction: Decimal | float) -> str:
    return f"{float(fraction) * 100:.3f}%"


def bar_sentence(parts: Sequence[Segment]) -> str:
    """What the bar says, for those who do not see it: every number, and the sum."""
    total = sum(part.count for part in parts)
    said = ", ".join(f"{numbers.number(part.count)} {part.label.lower()}" for part in parts if part.count)
    return f"{numbers.number(total)} rows: {said}" if said else "No rows"


@dataclass(frozen=True)
class Sparkline:
    line: str
    area: str
    sentence: str
    width: int = SPARK_WIDTH
    height: int = SPARK_HEIGHT


def sparkline(values: Sequence[object], label: str) -> Sparkline:
    """A line of 88 × 22 px over the values, zero at the bottom; nothing but zeros is a flat line there."""
    credits = [numbers.decimal_or_none(value) or Decimal(0) for value in values]
    amounts = [float(value) for value in credits] or [0.0]
    top = max(amounts) or 1.0
    step = SPARK_WIDTH / max(len(amounts) - 1, 1)
    base = SPARK_HEIGHT - 1
    points = [
        f"{index * step:.1f},{base - amount / top * (base - 2):.1f}" for index, amount in enumerate(amounts)
    ]
    if len(points) == 1:
        points.append(f"{SPARK_WIDTH},{points[0].split(',')[1]}")
    line = " ".join(points)
    total = numbers.credits(sum(credits, Decimal(0)))
    return Sparkline(line, f"0,{base} {line} {SPARK_WIDTH},{base}", f"{label}, together {total}".lstrip(", "))


@dataclass(frozen=True)
class Piece:
    """One colour of one bar; `y` and `height` in pixels."""

    series: int
    y: float
    height: float


@dataclass(frozen=True)
class Day:
    """One bar. `x`, `width` and `anchor_x` (of the label) in percent as text, `title` is what pointing at it says."""

    label: str
    title: str
    url: str
    x: str
    width: str
    anchor: str
    anchor_x: str
    is_labelled: bool
    pieces: Sequence[Piece] = field(default_factory=tuple)


@dataclass(frozen=True)
class Mark:
    """Something that happened on a day: a dashed line through its middle, with a word above where there is room."""

    x: str
    words: str
    is_worded: bool
    anchor: str


@dataclass(frozen=True)
class DayChart:
    days: Sequence[Day]
    grid: Sequence[tuple[float, str]]  # y in px, label
    legend: Sequence[tuple[int, str, str]]  # series number, name, total
    cap: tuple[float, str] | None
    sentence: str
    total: str
    marks: Sequence[Mark] = ()


def nice_top(value: float) -> float:
    """The next round number at or above `value` that halves well: 1, 2, 4, 6, 8, 10, 12, 14, 20 times a power of ten."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** floor(log10(value))
    return next(
        step * unit for step in (1, 1.2, 1.4, 1.6, 2, 2.4, 3, 4, 6, 8, 10, 20) if step * unit >= value
    )


def day_chart(
    days: Sequence[Mapping[str, object]],
    series: Sequence[str],
    *,
    unit: str,
    cap: object = None,
    cap_label: str = "",
    labelled_every: int = 10,
) -> DayChart:
    """Stacked bars, one a day.

    `days` holds `{"label": "19 Oct", "values": [credits of each series], "url": "", "mark": ""}`, oldest first. Up to six
    series; the caller sums the rest into the last one. `cap` is drawn as a dashed line, a `mark` is what happened that day.
    """
    rows = [[float(numbers.decimal_or_none(value) or 0) for value in values_of(day)] for day in days]
    limit = numbers.decimal_or_none(cap)
    peak = max((sum(row) for row in rows), default=0.0)
    # A cap that is far away would press the bars flat: its line stands at the upper edge then, and says so.
    is_far = limit is not None and 0 < peak < float(limit) / CAP_FITS
    top = nice_top(peak if is_far else max(peak, float(limit or 0)))
    if unit != "credits" and top % 2:
        top += 1  # things that are counted have no halves
    height = CHART_BASE - CHART_TOP
    slot = 100 / max(len(rows), 1)
    drawn = []
    for index, (day, row) in enumerate(zip(days, rows, strict=True)):
        y, pieces = float(CHART_BASE), []
        for number, amount in enumerate(row, start=1):
            tall = amount / top * height
            if tall > 0:
                y -= tall
                # A pixel of ground parts two colours; thin slices keep what they have.
                pieces.append(Piece(number, round(y, 2), round(max(tall - (1 if tall > 2 else 0), 0.75), 2)))
        last = index == len(rows) - 1
        drawn.append(
            Day(
                label=str(day["label"]),
                title=f"{day['label']}: {numbers.credits(sum(_decimals(day), Decimal(0)))} {unit}",
                url=str(day.get("url") or ""),
                x=f"{index * slot + slot * 0.16:.3f}%",
                width=f"{slot * 0.68:.3f}%",
                anchor="end" if last else "start" if index == 0 else "middle",
                anchor_x="100%" if last else "0" if index == 0 else f"{index * slot + slot / 2:.3f}%",
                is_labelled=last
                or (index % labelled_every == 0 and len(rows) - 1 - index > labelled_every / 2),
                pieces=tuple(pieces),
            )
        )
    totals = [sum((_decimals(day)[i] for day in days), Decimal(0)) for i in range(len(series))]
    whole = sum(totals, Decimal(0))
    said = ", ".join(f"{name} {numbers.credits(total)}" for name, total in zip(series, totals, strict=True))
    return DayChart(
        days=drawn,
        grid=[
            (round(CHART_BASE - part * height, 2), numbers.number(Decimal(str(top)) * Decimal(str(part))))
            for part in (0, 0.5, 1)
        ],
        legend=[
            (i, name, numbers.credits(totals[i - 1]))
            for i, name in enumerate(series, start=1)
            if totals[i - 1]
        ],
        cap=_cap(limit, cap_label, top, is_far=is_far),
        sentence=f"{numbers.credits(whole)} {unit} in {len(rows)} days: {said}" if rows else "Nothing yet",
        total=numbers.credits(whole),
        marks=_marks(days),
    )


def _cap(limit: Decimal | None, label: str, top: float, *, is_far: bool) -> tuple[float, str] | None:
    if not limit:
        return None
    if is_far:
        return float(CHART_TOP), f"{label}, far above"
    return round(CHART_BASE - float(limit) / top * (CHART_BASE - CHART_TOP), 2), label


def _marks(days: Sequence[Mapping[str, object]]) -> list[Mark]:
    """Words stand above marks that have room for them; the others tell theirs when pointed at, and in the table."""
    found: list[Mark] = []
    slot, worded = 100 / max(len(days), 1), -len(days)
    for index, day in enumerate(days):
        if words := str(day.get("mark") or ""):
            has_room = index - worded >= MARK_ROOM * len(days)
            worded = index if has_room else worded
            share = (index + 0.5) / len(days)
            anchor = "start" if share < MARK_EDGE else "end" if share > 1 - MARK_EDGE else "middle"
            found.append(Mark(f"{index * slot + slot / 2:.3f}%", words, has_room, anchor))
    return found


def values_of(day: Mapping[str, object]) -> Sequence[object]:
    """The values of one day, one a series."""
    values = day["values"]
    assert isinstance(values, list | tuple), "values is a list, one entry a series"
    return values


def _decimals(day: Mapping[str, object]) -> list[Decimal]:
    return [numbers.decimal_or_none(value) or Decimal(0) for value in values_of(day)]

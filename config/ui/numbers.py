"""How numbers, spans and times read on a page. Plain functions, registered as filters in `filters.py`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from django.utils import timezone

NBSP = "\u00a0"
UNKNOWN = "unknown"
DAY_S = 86_400


def decimal_or_none(value: object) -> Decimal | None:
    """The value as a `Decimal`, or None where it is no number at all."""
    if value is None or value == "":
        return None
    try:
        result = value if isinstance(value, Decimal) else Decimal(str(value))
    except InvalidOperation:
        return None
    return result if result.is_finite() else None


def credits(value: object, digits: int | None = None) -> str:
    """Credits as read: 5,214 or 271.2, to the thousandths that a price may have. With `digits` at least that many, as in
    table columns (`|credits:1`); 0 rounds to whole ones, for what is estimated anyway."""
    number = decimal_or_none(value)
    if number is None:
        return UNKNOWN
    if digits != 0:
        thousandths = number.quantize(Decimal("0.001"), ROUND_HALF_UP).normalize()
        digits = max(digits or 0, -int(thousandths.as_tuple().exponent), 0)
    rounded = number.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{rounded + 0:,.{digits}f}"


def credit_word(value: object) -> str:
    """The noun behind a price: 0.1 credit, 1 credit, 10 credits."""
    number = decimal_or_none(value)
    return "credit" if number is not None and 0 < number <= 1 else "credits"


def number(value: object) -> str:
    """A count with thousands separators: 12,400."""
    amount = decimal_or_none(value)
    if amount is None:
        return UNKNOWN
    return f"{amount:,.0f}" if amount == amount.to_integral_value() else f"{amount.normalize():,f}"


def percent(value: object) -> str:
    """A fraction as a share, one digit: 0.614 is 61.4 %. What is not nothing is never 0, what is not all never 100."""
    fraction = decimal_or_none(value)
    if fraction is None:
        return UNKNOWN
    if fraction in (0, 1):
        return f"{fraction * 100:.0f}{NBSP}%"
    shown = (fraction * 100).quantize(Decimal("0.1"), ROUND_HALF_UP)
    if shown == 0:
        return f"<0.1{NBSP}%"
    if shown == 100:
        return f">99.9{NBSP}%" if fraction < 1 else f"100{NBSP}%"
    return f"{shown:,}{NBSP}%"


def share(part: object, whole: object) -> str:
    """`part` of `whole` as a percentage; nothing of nothing is 0 %."""
    numerator, denominator = decimal_or_none(part), decimal_or_none(whole)
    if numerator is None or denominator is None:
        return UNKNOWN
    return percent(numerator / denominator if denominator else 0)


def duration(value: object) -> str:
    """A span, given as seconds or `timedelta`, in its two largest units: 14 min 20 s, 2 h 5 min, 1.8 s."""
    amount = Decimal(str(value.total_seconds())) if isinstance(value, timedelta) else decimal_or_none(value)
    if amount is None:
        return UNKNOWN
    amount = max(amount, Decimal(0))
    tenths = amount.quantize(Decimal("0.1"), ROUND_HALF_UP)
    if tenths < 10 and tenths != tenths.to_integral_value():
        return f"{tenths}{NBSP}s"
    left = int(amount.to_integral_value(ROUND_HALF_UP))
    parts: list[str] = []
    for unit, seconds in (("d", DAY_S), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, seconds)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{NBSP}{unit}")
        elif parts:
            break  # 2 h 0 min 5 s reads as 2 h
    return " ".join(parts[:2])


def relative(moment: datetime, now: datetime) -> str:
    """How long ago, or how far ahead, up to 24 h; then the date."""
    seconds = (now - moment).total_seconds()
    if abs(seconds) >= DAY_S:
        return day(moment, now)
    whole = int(abs(seconds))
    if whole < 1:
        return "now"
    if whole < 60:
        span = f"{whole}{NBSP}s"
    elif whole < 3600:
        span = f"{whole // 60}{NBSP}min"
    else:
        span = f"{whole // 3600}{NBSP}h"
    return f"{span} ago" if seconds > 0 else f"in {span}"


def day(moment: datetime | date, now: datetime) -> str:
    """17 Nov, with the year unless it is this one."""
    shown = timezone.localtime(moment) if isinstance(moment, datetime) else moment
    text = f"{shown.day} {shown:%b}"
    return text if shown.year == timezone.localtime(now).year else f"{text} {shown.year}"


def exact(moment: datetime) -> str:
    """17 Nov 2026, 10:42:07 CET: in the viewer's zone, with its name."""
    shown = timezone.localtime(moment)
    return f"{shown.day} {shown:%b %Y, %H:%M:%S %Z}"


def machine(moment: datetime) -> str:
    """ISO 8601 in UTC, for `datetime` attributes."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def initials(name: str) -> str:
    """Two letters that stand for a person: first and last word."""
    words = name.split()
    if not words:
        return "?"
    return "".join(word[0] for word in (words[0], words[-1])[: len(words)]).upper()

"""Hours in which a key is meant to be used: advice, in the key's own time zone. Outside of them nothing is refused.

Hours that span midnight belong to the day on which they begin: "Mon–Fri, 22:00 to 10:00" holds on Saturday at 05:00 too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django.db.models import Max, Sum
from django.utils import timezone

from keys.choices import POLICY_OUTCOMES, Outcome
from keys.models import Call, CallHour, KeyRecord
from keys.scopes import ACCOUNT_READ

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
ALL_DAYS = "1234567"


@dataclass(frozen=True)
class Hours:
    """`days` are ISO weekdays in their order ("12345"), empty for every day; without `begin` and `end` the whole day."""

    days: str = ""
    begin: time | None = None
    end: time | None = None
    zone: str = "UTC"

    @property
    def is_set(self) -> bool:
        return bool(self.days) or self.begin is not None

    @property
    def words(self) -> str:
        """ "Mon–Fri, 22:00 to 10:00 Europe/Berlin"."""
        if not self.is_set:
            return "any time"
        days = _words_of_days(self.days) if self.days else "any day"
        if self.begin is None or self.end is None:
            return f"{days}, all day, {self.zone}"
        return f"{days}, {self.begin:%H:%M} to {self.end:%H:%M} {self.zone}"

    def holds(self, moment: datetime) -> bool:
        """Whether the key is meant to be used at that moment."""
        there = moment.astimezone(ZoneInfo(self.zone))
        days, today = self.days or ALL_DAYS, str(there.isoweekday())
        if self.begin is None or self.end is None:
            return today in days
        now = there.time()
        if self.begin < self.end:
            return today in days and self.begin <= now < self.end
        yesterday = str((there - timedelta(days=1)).isoweekday())
        return (today in days and now >= self.begin) or (yesterday in days and now < self.end)


ANY_TIME = Hours()


def of(key: KeyRecord) -> Hours:
    return Hours(key.hours_days, key.hours_begin, key.hours_end, key.time_zone)


def advice(key: KeyRecord, moment: datetime | None = None) -> str:
    """A sentence when the moment is outside the key's hours, else ""."""
    hours = of(key)
    if hours.holds(moment or timezone.now()):
        return ""
    return (
        f"This is outside the hours of {key.name}: {hours.words}. That is advice, nothing is refused; "
        "calls outside of them are counted on the key's page."
    )


@dataclass(frozen=True)
class Outside:
    """Calls of a key outside its hours."""

    calls: int
    last_at: datetime | None


def outside(key: KeyRecord, days: int = 30) -> Outside:
    """How many calls went out outside the key's hours in the last days. Balance checks, tests and refusals do not count.

    From the hourly sums; only an hour in which the key's hours begin or end is counted call by call.
    """
    hours = of(key)
    if not hours.is_set:
        return Outside(0, None)
    sent: dict[str, Any] = {"key": key, "outcome__in": [one for one in Outcome if one not in POLICY_OUTCOMES]}
    sums = CallHour.objects.filter(hour__gte=timezone.now() - timedelta(days=days), **sent)
    calls, last_at = 0, None
    per_hour = sums.exclude(scope=ACCOUNT_READ).order_by("hour").values_list("hour")
    for hour, count, last in per_hour.annotate(Sum("calls"), Max("last_at")):
        is_inside = {hours.holds(hour + timedelta(minutes=minute)) for minute in (*range(0, 60, 5), 59)}
        if is_inside == {True}:
            continue
        if is_inside == {True, False}:
            within = Call.objects.filter(at__gte=hour, at__lt=hour + timedelta(hours=1), **sent)
            found = within.exclude(scope=ACCOUNT_READ).order_by("at").values_list("at", flat=True)
            strays = [at for at in found if not hours.holds(at)]
            count, last = len(strays), strays[-1] if strays else last_at
        calls, last_at = calls + count, last
    return Outside(calls, last_at)


def _words_of_days(days: str) -> str:
    """Runs of three and more days are a span: "Mon–Fri, Sun"."""
    runs: list[list[int]] = []
    for number in map(int, days):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = []
    for run in runs:
        names = [DAYS[number - 1] for number in run]
        words.append(f"{names[0]}–{names[-1]}" if len(names) > 2 else ", ".join(names))
    return ", ".join(words)


class HoursError(Exception):
    """Hours that cannot be read; the message says how to write them."""


def parse_days(text: str) -> str:
    """ "mon-fri,sun" → "123457"; nothing → "". Raises `HoursError`."""
    found: set[int] = set()
    for part in filter(None, (part.strip().lower() for part in text.split(","))):
        first, dash, last = part.partition("-")
        try:
            begin, end = (_number_of(name) for name in (first, last if dash else first))
        except ValueError:
            raise HoursError(f"{part!r} is no day. Write days as mon-fri or mon,wed,sat.") from None
        found.update(range(begin, end + 1) if begin <= end else [*range(begin, 8), *range(1, end + 1)])
    return "" if len(found) == len(DAYS) else tidy_days(map(str, found))


def _number_of(name: str) -> int:
    return [day.lower() for day in DAYS].index(name.strip()[:3]) + 1


def tidy_days(days: Sequence[str] | map[str]) -> str:
    return "".join(sorted(set(days)))


SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def parse_span(text: str) -> tuple[time | None, time | None]:
    """ "22:00-10:00" → its two times; nothing → None twice. Raises `HoursError`."""
    if not text.strip():
        return None, None
    match = SPAN.fullmatch(text.strip())
    if match is None:
        raise HoursError(f"{text!r} are no hours. Write them as 22:00-10:00.")
    first, second, third, fourth = map(int, match.groups())
    return time(first, second), time(third, fourth)


def problems(hours: Hours) -> dict[str, str]:
    """What is wrong with hours, by the field that shows it."""
    found = {}
    if hours.zone not in available_timezones():
        found["time_zone"] = f"There is no time zone {hours.zone}. Write it as Europe/Berlin."
    if set(hours.days) - set(ALL_DAYS):
        found["hours_days"] = "Choose days of the week."
    if (hours.begin is None) != (hours.end is None):
        found["hours_end" if hours.end is None else "hours_begin"] = (
            "Give both hours, or neither for the whole day."
        )
    elif hours.begin is not None and hours.begin == hours.end:
        found["hours_end"] = "The hours end when they begin. Leave both empty for the whole day."
    return found

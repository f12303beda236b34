"""The filter of a key's calls: it is the address, and what makes no sense in it is left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms

from keys.choices import Outcome
from keys.scopes import ACCOUNT_READ, SCOPES

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FAILED, REFUSED = "failed", "refused"
GROUPS = {FAILED: "did not go well", REFUSED: "refused by our rules"}


@dataclass(frozen=True)
class Place:
    """Where a page begins: after the call of that moment and number."""

    at: datetime
    number: int

    def __str__(self) -> str:
        return f"{(self.at - EPOCH) // MICROSECOND}-{self.number}"


@dataclass(frozen=True)
class CallFilter:
    """`outcome` is an outcome or one of `GROUPS`; `day` is the viewer's; `job` 0 means calls without one."""

    outcome: str = ""
    scope: str = ""
    day: date | None = None
    person: str = ""
    job: int | None = None
    before: Place | None = None

    @property
    def is_set(self) -> bool:
        return any((self.outcome, self.scope, self.day, self.person)) or self.job is not None

    def address(self, **changes: Any) -> str:
        """The query string of this filter with some of it changed; at the first page unless `before` is told."""
        wanted = replace(self, **{"before": None, **changes})
        named = {
            "outcome": wanted.outcome,
            "scope": wanted.scope,
            "day": wanted.day,
            "person": wanted.person,
            "job": wanted.job,
            "before": wanted.before,
        }
        return f"?{urlencode({name: value for name, value in named.items() if value not in ('', None)})}"


class PlaceField(forms.CharField):
    def clean(self, value: Any) -> Any:
        moment, _, number = super().clean(value).partition("-")
        if not moment.isdecimal() or not number.isdecimal() or len(moment) > 17 or len(number) > 18:
            return None
        try:
            return Place(EPOCH + int(moment) * MICROSECOND, int(number))
        except OverflowError:
            return None


class CallFilterForm(forms.Form):
    outcome = forms.ChoiceField(required=False, choices=[*GROUPS.items(), *Outcome.choices])
    scope = forms.ChoiceField(
        required=False, choices=lambda: [(name, name) for name in (*SCOPES, ACCOUNT_READ)]
    )
    day = forms.DateField(required=False)
    person = forms.CharField(required=False, max_length=120)
    job = forms.IntegerField(required=False, min_value=0, max_value=2**62)
    before = PlaceField(required=False, max_length=40)

    def wanted(self) -> CallFilter:
        self.is_valid()
        told = self.cleaned_data
        return CallFilter(
            outcome=told.get("outcome") or "",
            scope=told.get("scope") or "",
            day=told.get("day"),
            person=told.get("person") or "",
            job=told.get("job"),
            before=told.get("before"),
        )

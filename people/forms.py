"""The log-in, and the filter of the activity page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from urllib.parse import urlencode

from django import forms
from django.contrib.auth.forms import AuthenticationForm

from people.models import Team, User
from people.rights import RIGHTS, Role


class LogInForm(AuthenticationForm):
    """E-mail and password. The address is folded before anything counts tries, or capitals would start a new count."""

    def clean_username(self) -> str:
        return User.objects.normalize_email(self.cleaned_data["username"])


@dataclass(frozen=True)
class ActivityFilter:
    """Which entries are shown; it is the address. `before` is the id that a page ends above."""

    search: str = ""
    action: str = ""
    person: int | None = None
    since: date | None = None
    until: date | None = None
    before: int | None = None

    @property
    def is_set(self) -> bool:
        return any((self.search, self.action, self.person, self.since, self.until))

    def address(self, **changes: object) -> str:
        """The query string of this filter with some parts changed; a changed filter starts at the newest entry."""
        given = {**asdict(self), "before": None, **changes}
        given["q"] = given.pop("search")
        return "?" + urlencode({name: value for name, value in given.items() if value})


class ActivityFilterForm(forms.Form):
    q = forms.CharField(required=False, max_length=100)
    action = forms.CharField(required=False, max_length=30)
    person = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    since = forms.DateField(required=False)
    until = forms.DateField(required=False)
    before = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)

    def wanted(self) -> ActivityFilter:
        """The filter; what makes no sense in an address is left out of it, and days the wrong way round are turned."""
        self.is_valid()
        cleaned = self.cleaned_data
        since, until = cleaned.get("since"), cleaned.get("until")
        if since and until and since > until:
            since, until = until, since
        return ActivityFilter(
            cleaned.get("q") or "",
            cleaned.get("action") or "",
            cleaned.get("person"),
            since,
            until,
            cleaned.get("before"),
        )


class PersonForm(forms.Form):
    """Roles and team of a person, and why they change."""

    roles = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        choices=[(role, Role(role).label) for role in RIGHTS],
        help_text="Somebody with several roles may do all of it; without one they see nothing.",
    )
    team = forms.ModelChoiceField(
        queryset=Team.objects.all(),
        required=False,
        empty_label="No team",
        help_text="Whose jobs and rows they see, unless a role shows all.",
    )
    reason = forms.CharField(
        max_length=500,
        label="Why this change?",
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="The history keeps it.",
    )


class AccessForm(forms.Form):
    """Why a person is disabled, or let in again."""

    reason = forms.CharField(
        max_length=500,
        label="Why?",
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="The history keeps it.",
    )

"""The form of a monthly budget."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from django import forms
from django.utils import timezone

from keys.choices import Realm
from keys.models import KeyRecord
from people.models import Team

MONTHS = 12  # that can be chosen, the present one first


class BudgetForm(forms.Form):
    """Whose budget, how much from which month, and why. An empty amount takes the budget away."""

    owner = forms.ChoiceField(label="Team or key")
    credits = forms.DecimalField(
        label="Credits a month",
        required=False,
        min_value=0,
        max_digits=14,
        decimal_places=1,
        help_text="Leave empty for no budget.",
    )
    first_month = forms.TypedChoiceField(label="From", coerce=date.fromisoformat)
    reason = forms.CharField(
        label="Why?",
        max_length=300,
        widget=forms.TextInput(attrs={"placeholder": "Agreed for the autumn campaign"}),
        error_messages={"required": "Say why: the audit log keeps it."},
    )

    def __init__(
        self, data: Mapping[str, Any] | None = None, initial: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(data, initial=dict(initial or {}))
        self.teams = {
            f"team-{team.id}-{realm}": (team, realm) for team in Team.objects.all() for realm in Realm
        }
        self.keys = {f"key-{key.id}": key for key in KeyRecord.objects.select_related("account")}
        owner, month = self.fields["owner"], self.fields["first_month"]
        assert isinstance(owner, forms.ChoiceField)
        assert isinstance(month, forms.ChoiceField)
        teams = [
            (value, f"{team}, {realm.label.lower()} money") for value, (team, realm) in self.teams.items()
        ]
        owner.choices = [("Teams", teams), ("Keys", [(value, key.name) for value, key in self.keys.items()])]
        owner.error_messages["invalid_choice"] = "Choose a team or a key of the list."
        month.choices = [(first.isoformat(), f"{first:%B %Y}") for first in _months()]
        month.error_messages["invalid_choice"] = "Choose this month or one of the next eleven."

    def chosen(self) -> dict[str, Any]:
        """`team` and `realm`, or `key`: what `set_budget` takes."""
        value = self.cleaned_data["owner"]
        if value in self.keys:
            return {"key": self.keys[value]}
        team, realm = self.teams[value]
        return {"team": team, "realm": realm.value}


def _months() -> list[date]:
    today = timezone.localdate()
    count = [today.year * 12 + today.month - 1 + ahead for ahead in range(MONTHS)]
    return [date(months // 12, months % 12 + 1, 1) for months in count]

"""Forms about findings: the filter in the address, an exception, scopes to remove."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms

from keys.choices import FindingCode, Tone
from keys.finding_exceptions import EXCEPTED_AT_MOST, last_day_of_exception
from keys.finding_selectors import DUE, VIEWS, FindingFilter
from keys.forms import ScopeBox
from keys.scopes import SCOPES


class FindingFilterForm(forms.Form):
    """The address of the findings page as a filter; what makes no sense in it is left out."""

    view = forms.ChoiceField(required=False, choices=list(VIEWS.items()))
    code = forms.ChoiceField(required=False, choices=[("", ""), *FindingCode.choices])
    tone = forms.ChoiceField(required=False, choices=[("", ""), *Tone.choices])
    owner = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    due = forms.ChoiceField(required=False, choices=[("", ""), *DUE.items()])
    q = forms.CharField(required=False, max_length=100)

    def wanted(self) -> FindingFilter:
        self.is_valid()
        given = {name: self.cleaned_data.get(name) for name in self.fields}
        return FindingFilter(
            view=given["view"] or "",
            code=given["code"] or "",
            tone=given["tone"] or "",
            owner=given["owner"],
            due=given["due"] or "",
            search=given["q"] or "",
        )


class ReasonForm(forms.Form):
    """Why; the history keeps it."""

    reason = forms.CharField(
        max_length=500,
        label="Why?",
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="The history keeps it.",
        error_messages={"required": "Say why: the history keeps it."},
    )

    def take_errors(self, fields: Mapping[str, str]) -> None:
        """Show what a service refused at the fields that it names."""
        for name, sentence in fields.items():
            self.add_error(name if name in self.fields else None, sentence)


class ExceptionForm(ReasonForm):
    """Until when a finding may rest, and why."""

    until = forms.DateField(
        label="Until",
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
        help_text=f"Its last day, {EXCEPTED_AT_MOST.days} days ahead at most. After it the finding counts again.",
    )
    field_order = ("until", "reason")

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data)
        self.fields["until"].widget.attrs["max"] = last_day_of_exception().isoformat()


class RemoveScopesForm(ReasonForm):
    """Which of the scopes that were never used go, and why."""

    scopes = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Tick a scope to remove."},
    )
    field_order = ("scopes", "reason")

    def __init__(self, scopes: Sequence[str], data: Mapping[str, Any] | None = None) -> None:
        self._offered = list(scopes)
        super().__init__(data, initial={"scopes": self._offered})
        field = self.fields["scopes"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(scope, scope) for scope in scopes]

    def boxes(self) -> list[ScopeBox]:
        """The scopes as boxes to tick, each with its sentence."""
        ticked = set(self["scopes"].value() or ())
        return [ScopeBox(scope, SCOPES.get(scope, ""), scope in ticked) for scope in self._offered]

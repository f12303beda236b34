"""Forms of the job page."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import QueryDict

from enrichment.services.decisions import Act, Chosen


class CancelForm(forms.Form):
    """Why a job is cancelled; the reason stands in the audit log."""

    reason = forms.CharField(
        label="Why?",
        required=False,
        max_length=300,
        widget=forms.TextInput(attrs={"placeholder": "Wrong list"}),
    )


class DecisionForm(forms.Form):
    """What becomes of uncertain batches. `batches` are `Chosen` as text; the reason stands in the audit log."""

    act = forms.ChoiceField(choices=Act.choices, error_messages={"required": "Choose what to do."})
    reason = forms.CharField(
        label="Why?",
        max_length=200,
        error_messages={"required": "Say why: the reason stands in the audit log."},
        widget=forms.TextInput(attrs={"placeholder": "Icypeas' support says that it never arrived"}),
    )
    is_confirmed = forms.BooleanField(required=False)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        tokens = self.data.getlist("batch") if isinstance(self.data, QueryDict) else []
        chosen = [Chosen.read(token) for token in tokens]
        if not tokens:
            self.add_error(None, "Choose at least one batch.")
        elif None in chosen:
            self.add_error(None, "This page is out of date. Look at it again and choose anew.")
        else:
            data["batches"] = chosen
        return data

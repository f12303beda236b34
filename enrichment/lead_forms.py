"""The form of a search for leads, made from its operation's filters; and that of going on with a finished job."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings

from enrichment.operations.base import CHOICES, GROWTH, WORDS, Filter, Operation
from enrichment.operations.leads import FilterError, build_query
from enrichment.selectors import KeyChoice
from enrichment.services.chains import Offer
from keys.models import KeyRecord

_MOST = 10**12


class SearchForm(forms.Form):
    """Filters of `operation`. `cleaned_data["query"]` is Icypeas' query."""

    def __init__(self, operation: Operation, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.operation = operation
        for each in operation.filters:
            self._add(each)

    def _add(self, each: Filter) -> None:
        # A list is pasted with its line ends, which a field of one line swallows.
        attrs = {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none", "rows": 1}
        if each.kind == WORDS:
            self.fields[each.id] = forms.CharField(
                label=each.label,
                required=False,
                max_length=6_000,
                help_text=each.hint,
                widget=forms.Textarea(attrs=attrs),
            )
            self.fields[f"{each.id}_not"] = forms.CharField(
                label=f"{each.label}, but not",
                required=False,
                max_length=6_000,
                widget=forms.Textarea(attrs=attrs),
            )
        elif each.kind == CHOICES:
            for name, label, hint in (
                (each.id, each.label, each.hint),
                (f"{each.id}_not", f"{each.label}, but not", ""),
            ):
                self.fields[name] = forms.MultipleChoiceField(
                    label=label,
                    required=False,
                    choices=[(value, value) for value in each.choices],
                    help_text=hint,
                    widget=forms.CheckboxSelectMultiple,
                )
        else:
            least = -100 if each.kind == GROWTH else 0
            for end, word in (("from", "from"), ("to", "to")):
                self.fields[f"{each.id}_{end}"] = forms.IntegerField(
                    label=f"{each.label}, {word}",
                    required=False,
                    min_value=least,
                    max_value=_MOST,
                    help_text=each.hint if end == "from" else "",
                    widget=forms.NumberInput(attrs={"inputmode": "numeric"}),
                )

    def clean(self) -> dict[str, Any]:
        cleaned = dict(super().clean() or {})
        if any(name in self.errors for name in self.filter_names):
            return cleaned
        try:
            cleaned["query"] = build_query(self.operation.filters, cleaned)
        except FilterError as error:
            self.add_error(error.field or None, error.message)
        return cleaned

    @property
    def filter_names(self) -> list[str]:
        return [
            name
            for each in self.operation.filters
            for name in (each.id, f"{each.id}_not", f"{each.id}_from", f"{each.id}_to")
            if name in self.fields
        ]

    def groups(self, *, is_more: bool) -> list[dict[str, Any]]:
        """Filters as they stand on the page: what is wanted, and beside or behind it what is not."""
        found = []
        for each in self.operation.filters:
            if each.is_more != is_more:
                continue
            names = [name for name in (each.id, f"{each.id}_from", f"{each.id}_to") if name in self.fields]
            not_name = f"{each.id}_not"
            found.append(
                {
                    "fields": [self[name] for name in names],
                    "exclude": self[not_name] if not_name in self.fields else None,
                    "is_choices": each.kind == CHOICES,
                }
            )
        return found

    @property
    def main_groups(self) -> list[dict[str, Any]]:
        return self.groups(is_more=False)

    @property
    def more_groups(self) -> list[dict[str, Any]]:
        return self.groups(is_more=True)

    @property
    def opens_more(self) -> bool:
        """Something behind *More filters* is filled in or wrong."""
        more = [each for each in self.operation.filters if each.is_more]
        names = {
            name
            for each in more
            for name in self.filter_names
            if name == each.id or name.startswith(f"{each.id}_")
        }
        return any(name in self.errors or self.data.get(name) or self.initial.get(name) for name in names)


class FetchForm(SearchForm):
    """The filters, and what a person decides about fetching. `cleaned_data` has `key_record` beside `query`."""

    token = forms.CharField(max_length=64, widget=forms.HiddenInput)
    wanted = forms.IntegerField(
        label="Leads to fetch", min_value=1, widget=forms.NumberInput(attrs={"inputmode": "numeric"})
    )
    key = forms.ChoiceField(label="Key")
    purpose = forms.CharField(
        label="What is this for?",
        required=False,
        max_length=300,
        widget=forms.TextInput(attrs={"placeholder": "Outbound list for the spring campaign"}),
    )
    pay_again = forms.DecimalField(
        label="Accept paying again, up to",
        required=False,
        min_value=Decimal(0),
        max_value=Decimal(100_000),
        decimal_places=3,
        help_text="Credits. A page whose answer is lost cannot be looked up; with 0 you decide about it afterwards.",
    )

    def __init__(self, operation: Operation, choices: Sequence[KeyChoice], *args: Any, **kwargs: Any) -> None:
        super().__init__(operation, *args, **kwargs)
        self.key_choices = choices
        self.offered: dict[str, KeyRecord] = {
            str(choice.key.id): choice.key for choice in choices if not choice.refusal
        }
        key_field, wanted = self.fields["key"], self.fields["wanted"]
        assert isinstance(key_field, forms.ChoiceField)
        assert isinstance(wanted, forms.IntegerField)
        key_field.choices = [(number, key.name) for number, key in self.offered.items()]
        key_field.error_messages["required"] = "Choose the key that pays."
        wanted.max_value = settings.MAX_LEADS
        wanted.widget.attrs.update(min=1, max=settings.MAX_LEADS)
        wanted.error_messages["required"] = "Say how many leads to fetch."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if (cleaned.get("wanted") or 0) > settings.MAX_LEADS:
            self.add_error("wanted", f"At most {settings.MAX_LEADS:,} leads at a time.")
        return {**cleaned, "key_record": self.offered.get(str(cleaned.get("key", "")))}


class GoOnForm(forms.Form):
    """Which operation goes on with which rows of a finished job."""

    operation = forms.ChoiceField(label="Continue with")
    rows = forms.ChoiceField(label="Rows")

    def __init__(
        self, offers: Sequence[Offer], good: int, total: int, good_label: str, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        operation, rows = self.fields["operation"], self.fields["rows"]
        assert isinstance(operation, forms.ChoiceField)
        assert isinstance(rows, forms.ChoiceField)
        operation.choices = [(offer.operation.name, offer.operation.label) for offer in offers]
        rows.choices = [
            ("good", f"the {good:,} row{'' if good == 1 else 's'} {good_label}"),
            ("all", f"all {total:,} rows"),
        ]

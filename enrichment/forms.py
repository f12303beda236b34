"""Forms of the way from a list to a job: upload, columns, reading, start; and the filter of the job list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, BinaryIO

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.utils import timezone

from enrichment import column_mapping, csv_import, operations, selectors
from enrichment.choices import JobState
from enrichment.operations.base import Operation
from keys.choices import Realm
from keys.models import KeyRecord
from people.models import User

FRESHNESS = {
    0: "none, ask every row again",
    7: "7 days old",
    30: "30 days old",
    90: "90 days old",
    365: "a year old",
}
PASTED_NAME = "pasted-list.csv"


class UploadForm(forms.Form):
    """A list as a file or as pasted text, one of the two."""

    file = forms.FileField(
        label="List",
        required=False,
        allow_empty_file=True,  # the reader has a better sentence for an empty file
        help_text="CSV or text with one row per line, up to 1,000,000 rows. Press, or drop the file here.",
        widget=forms.FileInput(attrs={"accept": ".csv,.txt,.tsv,text/csv,text/plain"}),
    )
    text = forms.CharField(
        label="Or paste rows",
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 7, "class": "mono", "spellcheck": "false"}),
        help_text="From a spreadsheet or a mail, with the header if there is one.",
    )
    name = forms.CharField(
        label="Name of the job",
        required=False,
        max_length=200,
        help_text="What it is called in the history. Without one, the file's name.",
    )

    encoding = forms.ChoiceField(
        label="Encoding", required=False, choices=[("", "found by itself"), *csv_import.ENCODINGS.items()]
    )
    delimiter = forms.ChoiceField(
        label="Delimiter",
        required=False,
        choices=[
            ("", "found by itself"),
            *((sign, name.capitalize()) for sign, name in csv_import.DELIMITERS.items()),
        ],
    )
    has_header = forms.TypedChoiceField(
        label="First row",
        required=False,
        choices=[("", "found by itself"), ("yes", "is the header"), ("no", "is a row like the others")],
        coerce=lambda value: value == "yes",
        empty_value=None,
    )

    def __init__(self, *args: Any, is_paste_too_large: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_paste_too_large = is_paste_too_large  # then nothing of the request could be read

    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        if self.is_paste_too_large:
            limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE / 1024 / 1024
            self.add_error(
                "text",
                f"Pasted rows may be up to {limit:,.0f} MB, and these are more. Save them as a CSV file and upload it above.",
            )
            return told
        has_file, has_text = bool(told.get("file")), bool((told.get("text") or "").strip())
        if has_file and has_text:
            self.add_error("text", "There is a file and there are pasted rows. Leave one of them out.")
        elif not has_file and not has_text and not self.errors:
            self.add_error("file", "Choose a file, or paste rows below.")
        return told

    @property
    def source_field(self) -> str:
        """Where the list came from, for a message about it."""
        return "file" if self.cleaned_data.get("file") else "text"

    @property
    def reading(self) -> dict[str, Any]:
        """How the list is to be read; None for what is found by itself. Pasted text has no encoding any more."""
        told = self.cleaned_data
        encoding = (told["encoding"] or None) if self.source_field == "file" else None
        return {
            "encoding": encoding,
            "delimiter": told["delimiter"] or None,
            "has_header": told["has_header"],
        }

    def stream(self) -> tuple[BinaryIO, str]:
        """The list's bytes, and what its file is called."""
        uploaded: UploadedFile[bytes] | None = self.cleaned_data.get("file")
        if uploaded is None:
            return csv_import.as_stream(self.cleaned_data["text"]), PASTED_NAME
        stream: BinaryIO = uploaded.file  # type: ignore[assignment]  # Django types the open file as its own wrapper
        return stream, uploaded.name or "list.csv"


class ColumnsForm(forms.Form):
    """Which column feeds which field of the operation; one select a field."""

    def __init__(
        self,
        operation: Operation,
        header: Sequence[str],
        data: Mapping[str, Any] | None = None,
        mapping: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(data, prefix="column", initial=dict(mapping or {}))
        self.operation = operation
        choices = [("", "not in this list"), *((str(index), name) for index, name in enumerate(header))]
        for field in operation.fields:
            self.fields[field.name] = forms.TypedChoiceField(
                label=field.label, choices=choices, required=False, coerce=int, empty_value=None
            )

    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        feeds: dict[int, str] = {}
        for name, column in list(told.items()):  # an error takes its field out
            if column in feeds:
                other = self.fields[feeds[column]].label
                self.add_error(name, f"This column feeds “{other}” already. One column can feed one field.")
            elif column is not None:
                feeds[column] = name
        if not self.errors:
            for group in self.operation.needs:
                if all(told.get(name) is None for name in group):
                    self._say_missing(group, told)
        return told

    def _say_missing(self, group: Sequence[str], told: Mapping[str, Any]) -> None:
        try:
            column_mapping.require_needed(self.operation, told)
        except column_mapping.MappingError as error:
            self.add_error(group[0], str(error))

    @property
    def shown(self) -> dict[str, int]:
        """What the selects show, taken or not."""
        values = {name: str(self[name].value()) for name in self.fields}
        return {name: int(value) for name, value in values.items() if value.isdecimal()}

    @property
    def mapping(self) -> dict[str, int]:
        return {name: column for name, column in self.cleaned_data.items() if column is not None}


class ReadingForm(forms.Form):
    """How the file is read."""

    encoding = forms.ChoiceField(label="Encoding", choices=list(csv_import.ENCODINGS.items()))
    delimiter = forms.ChoiceField(
        label="Delimiter",
        choices=[(sign, name.capitalize()) for sign, name in csv_import.DELIMITERS.items()],
    )
    has_header = forms.TypedChoiceField(
        label="First row",
        choices=[("yes", "is the header"), ("no", "is a row like the others")],
        coerce=lambda value: value == "yes",
    )


class StartForm(forms.Form):
    """The decisions at the start. `max_credits` is the most that the page said it can cost."""

    key = forms.ChoiceField(label="Key")
    freshness_days = forms.TypedChoiceField(label="Accept known answers up to", coerce=int)
    purpose = forms.CharField(
        label="What is this for?",
        max_length=300,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Managers see this in the history.",
        error_messages={"required": "Say what this is for: managers see it in the history."},
    )
    token = forms.CharField(widget=forms.HiddenInput, max_length=64)
    max_credits = forms.DecimalField(widget=forms.HiddenInput, required=False)
    pay_again = forms.DecimalField(
        label="Accept paying again, up to (credits)",
        required=False,
        min_value=0,
        max_digits=10,
        decimal_places=1,
        help_text="These calls answer at once, and a lost answer cannot be looked up. With 0, a person decides about each.",
    )
    again = forms.BooleanField(widget=forms.HiddenInput, required=False)
    sample = forms.BooleanField(widget=forms.HiddenInput, required=False)

    def __init__(
        self,
        offered: Sequence[selectors.KeyChoice],
        data: Mapping[str, Any] | None = None,
        initial: Mapping[str, Any] | None = None,
        *,
        can_pay_again: bool,
    ) -> None:
        super().__init__(data, initial={"pay_again": 0, **(initial or {})})
        self.records = {str(choice.key.id): choice for choice in offered}
        if not can_pay_again:
            del self.fields["pay_again"]
        key = self.fields["key"]
        assert isinstance(key, forms.ChoiceField)
        key.choices = [
            (number, str(choice.key)) for number, choice in self.records.items() if not choice.refusal
        ]
        key.error_messages["required"] = "No key may do this: see why below."
        freshness = self.fields["freshness_days"]
        assert isinstance(freshness, forms.ChoiceField)
        days = {settings.FRESHNESS_DAYS: f"{settings.FRESHNESS_DAYS} days old", **FRESHNESS}
        freshness.choices = [(str(number), words) for number, words in sorted(days.items())]
        refused = self.records.get(str(self.data.get("key", "")))
        # A request past the page meets the reason that the page shows for this key.
        reason = refused.refusal if refused else ""
        key.error_messages["invalid_choice"] = reason or "There is no such key here. Choose one of the list."

    @property
    def chosen_key(self) -> KeyRecord:
        return self.records[self.cleaned_data["key"]].key


class ChoiceForm(forms.Form):
    """Key and freshness from the address; whatever cannot be used is left to the page's own choice."""

    key = forms.IntegerField(required=False)
    freshness_days = forms.IntegerField(required=False, min_value=0, max_value=3650)


class PriceForm(forms.Form):
    """What one answer costs from a day on, and where that stands."""

    operation = forms.ChoiceField(label="Operation")
    realm = forms.ChoiceField(label="Money", choices=Realm.choices)
    credits = forms.DecimalField(
        label="Credits for one answer", max_digits=10, decimal_places=3, min_value=Decimal("0.001")
    )
    charged_when_empty = forms.BooleanField(label="Charged also when nothing is found", required=False)
    valid_from = forms.DateField(
        label="Holds from", widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
    )
    source = forms.CharField(
        label="Source",
        max_length=300,
        help_text="A contract, an invoice, an address: where others can look it up.",
        error_messages={"required": "Say where the price stands, so that others can look it up."},
    )

    def __init__(
        self, data: Mapping[str, Any] | None = None, initial: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(data, initial={"valid_from": timezone.localdate(), **dict(initial or {})})
        operation = self.fields["operation"]
        assert isinstance(operation, forms.ChoiceField)
        operation.choices = [(name, each.label) for name, each in operations.OPERATIONS.items()]


class JobFilterForm(forms.Form):
    """The address of the job list. A value that cannot be used is as if it were not there."""

    view = forms.ChoiceField(
        choices=[("running", "Running"), ("mine", "Mine"), ("drafts", "Drafts")], required=False
    )
    state = forms.ChoiceField(choices=JobState.choices, required=False)
    operation = forms.ChoiceField(required=False)
    environment = forms.ChoiceField(required=False)
    person = forms.TypedChoiceField(required=False, coerce=int, empty_value=None)
    q = forms.CharField(required=False, max_length=100)
    day = forms.DateField(required=False)
    before = forms.IntegerField(required=False, min_value=1, max_value=2**62)
    after = forms.IntegerField(required=False, min_value=0, max_value=2**62)

    def __init__(self, data: Mapping[str, Any], people: Sequence[User]) -> None:
        super().__init__(data)
        choices = {
            "operation": [(name, operation.label) for name, operation in operations.OPERATIONS.items()],
            "environment": [(name, name) for name in settings.KEY_ENVIRONMENTS],
            "person": [(str(person.id), person.name) for person in people],
        }
        for name, offered in choices.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = offered
        self.is_valid()

    def wanted(self) -> selectors.JobFilter:
        told = self.cleaned_data
        return selectors.JobFilter(
            view=told.get("view") or "",
            state=told.get("state") or "",
            operation=told.get("operation") or "",
            environment=told.get("environment") or "",
            person=told.get("person"),
            search=(told.get("q") or "").strip(),
            charged_on=told.get("day"),
        )

    @property
    def before_id(self) -> int | None:
        return self.cleaned_data.get("before")

    @property
    def after_id(self) -> int | None:
        return self.cleaned_data.get("after")

"""The forms of key records. What they collect is cleaned into a `KeySpec`; the rules are in `keys.services`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import QueryDict

from keys.choices import KeyState
from keys.models import Account, KeyRecord
from keys.scopes import PRESETS, SCOPES
from keys.secrets import SecretError, check_reference
from keys.selectors import KeyFilter, environments
from keys.services import KeySpec
from people.models import Team, User
from people.selectors import active_owners

REFERENCES = ("secret_ref", "previous_secret_ref")
GROUP_TITLES = {
    "email-search": "Find emails",
    "email-verification": "Verify emails",
    "domain-search": "Scan domains",
    "reverse-lookup": "Reverse look-up",
    "find-profile": "Find profile addresses",
    "find-company": "Find company pages",
    "scrape-profile": "Read profiles",
    "scrape-company": "Read company profiles",
    "leads": "Search people and companies",
}


@dataclass(frozen=True)
class ScopeBox:
    """One scope as a box to tick."""

    value: str
    sentence: str
    is_checked: bool

    @property
    def id(self) -> str:
        return "id_scopes_" + self.value.replace(":", "_")


class PersonField(forms.ModelChoiceField):  # type: ignore[type-arg]  # not generic at run time
    """A person, shown with the address: two people may share a name."""

    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.name}, {obj.email}"


def _text(**attrs: str) -> forms.TextInput:
    return forms.TextInput(
        attrs={"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none", **attrs}
    )


class KeyForm(forms.Form):
    """A key record. References that are none are thrown away before anything else sees them: whatever was pasted
    there may be a secret, so it is neither kept in the form nor shown again."""

    owner = PersonField(
        queryset=User.objects.none(), help_text="Answers for the key and is told about findings."
    )
    deputy = PersonField(
        queryset=User.objects.none(),
        required=False,
        empty_label="No deputy",
        help_text="Stands in for the owner. Needed outside sandbox and dev.",
    )
    team = forms.ModelChoiceField(
        queryset=Team.objects.none(),
        required=False,
        empty_label="No team",
        help_text="Its budget pays. Needed outside sandbox and dev.",
    )
    account = forms.ModelChoiceField(
        queryset=Account.objects.none(),
        required=False,
        label="Icypeas account",
        empty_label="The first one of the environment",
        help_text="Keys on one account share its secret, balance and limits.",
    )
    new_account = forms.CharField(
        required=False,
        max_length=60,
        label="Or a new account",
        widget=_text(),
        help_text="Wins over the choice beside it.",
    )
    purpose = forms.CharField(
        max_length=300,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="One sentence: which workload, and what for.",
    )
    preset = forms.ChoiceField(required=False, label="Start from a usual workload")
    scopes = forms.MultipleChoiceField(choices=[(scope, scope) for scope in SCOPES], required=False)
    secret_ref = forms.CharField(
        label="Secret reference",
        max_length=200,
        strip=True,
        widget=_text(**{"class": "input--mono", "placeholder": "env:ICYPEAS_KEY_…"}),
        help_text="Where the worker finds the secret: env:ICYPEAS_KEY_<NAME>, or file:NAME under its SECRETS_DIR. "
        "Never paste a secret here.",
    )
    previous_secret_ref = forms.CharField(
        label="Previous reference",
        required=False,
        max_length=200,
        widget=_text(**{"class": "input--mono"}),
        help_text="The one before, while both are valid.",
    )
    was_used_before = forms.BooleanField(
        required=False,
        label="This secret was in use before this record",
        help_text="Its older use is then shown as unknown, rather than as never.",
    )
    daily_cap = forms.DecimalField(
        required=False,
        label="Daily cap, credits",
        max_digits=12,
        decimal_places=1,
        min_value=0,
        help_text="No job may reserve more in one day. Empty: no cap.",
    )
    rotation_days = forms.IntegerField(label="Rotate every, days", min_value=1, max_value=3650, initial=90)
    rotate_by = forms.DateField(
        required=False,
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
        help_text="Empty: the days from today.",
    )
    expires_at = forms.DateField(
        required=False,
        label="Expires",
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
        help_text="Its last day. Empty: it does not expire.",
    )

    def __init__(self, data: QueryDict | None = None, *, initial: dict[str, Any] | None = None) -> None:
        self._refused: dict[str, str] = {}
        cleaned = None
        if data is not None:
            cleaned = data.copy()
            for name in REFERENCES:
                cleaned[name] = self._reference(name, cleaned.get(name, ""))
        super().__init__(cleaned, initial=initial)
        people = active_owners()
        for name in ("owner", "deputy"):
            field = self.fields[name]
            assert isinstance(field, PersonField)
            field.queryset = people
        for name, queryset in (("team", Team.objects.all()), ("account", Account.objects.all())):
            choice = self.fields[name]
            assert isinstance(choice, forms.ModelChoiceField)
            choice.queryset = queryset
        preset = self.fields["preset"]
        assert isinstance(preset, forms.ChoiceField)
        preset.choices = [("", "Choose…"), *((name, known.label) for name, known in PRESETS.items())]

    def _reference(self, name: str, given: str) -> str:
        """The reference, or nothing where it is none; the reason is kept for `clean`."""
        given = given.strip()
        if given:
            try:
                check_reference(given)
            except SecretError as error:
                self._refused[name] = str(error)
                return ""
        return given

    def clean(self) -> dict[str, Any]:
        for name, reason in self._refused.items():
            self.errors.pop(name, None)
            self.add_error(name, reason)
        return self.cleaned_data

    def scope_groups(self) -> list[tuple[str, list[ScopeBox]]]:
        """Scopes by operation, each with its sentence."""
        ticked = set(self["scopes"].value() or ())
        groups: dict[str, list[ScopeBox]] = {}
        for scope, sentence in SCOPES.items():
            operation = scope.partition(":")[0]
            groups.setdefault(operation, []).append(ScopeBox(scope, sentence, scope in ticked))
        return [(GROUP_TITLES[operation], boxes) for operation, boxes in groups.items()]

    def chosen_preset(self) -> str:
        """Where such a workload should run, once a preset was applied."""
        known = PRESETS.get(str(self["preset"].value() or ""))
        return f"{known.label}, usually {known.environment}. {known.runs_in}" if known else ""

    def typed(self) -> dict[str, Any]:
        """What was typed, as initial values for a fresh form, with the scopes of the chosen preset."""
        assert isinstance(self.data, QueryDict)
        values: dict[str, Any] = {name: self.data.get(name, "") for name in self.fields}
        preset = PRESETS.get(values["preset"])
        values["scopes"] = list(preset.scopes) if preset else self.data.getlist("scopes")
        if preset and "environment" in self.fields and not values["environment"]:
            values["environment"] = preset.environment
        return values

    def _spec(self, environment: str, system: str, label: str) -> KeySpec:
        given = self.cleaned_data
        account = given["new_account"] or (given["account"].name if given["account"] else "")
        return KeySpec(
            environment=environment,
            system=system,
            label=label,
            owner=given["owner"],
            purpose=given["purpose"],
            scopes=given["scopes"],
            secret_ref=given["secret_ref"],
            deputy=given["deputy"],
            team=given["team"],
            account=account,
            daily_cap=given["daily_cap"],
            rotate_by=given["rotate_by"],
            rotation_days=given["rotation_days"],
            expires_at=given["expires_at"],
            previous_secret_ref=given["previous_secret_ref"],
            was_used_before=given["was_used_before"],
        )

    def take_errors(self, fields: Mapping[str, str]) -> None:
        """Show a `KeyRecordError` at the fields that it names."""
        for name, sentence in fields.items():
            self.add_error(name if name in self.fields else None, sentence)


class KeyCreateForm(KeyForm):
    """A new record: its name is built from the first three fields."""

    environment = forms.ChoiceField(help_text="One key for each environment.")
    system = forms.CharField(
        max_length=40, widget=_text(placeholder="crm_sync"), help_text="The service or workflow."
    )
    label = forms.CharField(
        max_length=40,
        label="Owner part",
        widget=_text(placeholder="revops"),
        help_text="The team that runs it.",
    )

    field_order = ("environment", "system", "label")

    def __init__(self, data: QueryDict | None = None, *, initial: dict[str, Any] | None = None) -> None:
        super().__init__(data, initial=initial)
        environment = self.fields["environment"]
        assert isinstance(environment, forms.ChoiceField)
        environment.choices = [("", "Choose…"), *((name, name) for name in environments())]

    def spec(self) -> KeySpec:
        return self._spec(*(self.cleaned_data[name] for name in ("environment", "system", "label")))


class KeyEditForm(KeyForm):
    """Everything but the name, and why."""

    reason = forms.CharField(
        max_length=500,
        label="Why this change?",
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="The history keeps it.",
    )

    def __init__(
        self, key: KeyRecord, data: QueryDict | None = None, *, initial: dict[str, Any] | None = None
    ) -> None:
        self._key = key
        super().__init__(data, initial=initial or self._values())
        self.fields["rotate_by"].required = True
        self.fields["rotate_by"].help_text = ""
        account = self.fields["account"]
        assert isinstance(account, forms.ModelChoiceField)
        account.empty_label = None
        account.required = True

    def _values(self) -> dict[str, Any]:
        key = self._key
        named = ("purpose", "scopes", "secret_ref", "previous_secret_ref", "was_used_before", "daily_cap")
        values: dict[str, Any] = {name: getattr(key, name) for name in named}
        values.update({name: getattr(key, name) for name in ("rotation_days", "rotate_by", "expires_at")})
        values.update({name: getattr(key, f"{name}_id") for name in ("owner", "deputy", "team", "account")})
        return values

    def spec(self) -> KeySpec:
        return self._spec(self._key.environment, self._key.system, self._key.label)


class NameForm(forms.Form):
    """The three parts of a name while it forms."""

    environment = forms.CharField(required=False, max_length=60)
    system = forms.CharField(required=False, max_length=120)
    label = forms.CharField(required=False, max_length=120)

    def parts(self) -> dict[str, str]:
        """What was typed so far; a part that cannot be read counts as empty."""
        self.is_valid()
        return {name: self.cleaned_data.get(name) or "" for name in self.fields}


class KeyFilterForm(forms.Form):
    """The address of the inventory as a filter; what makes no sense in it is left out."""

    view = forms.CharField(required=False, max_length=20)
    environment = forms.CharField(required=False, max_length=20)
    team = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    state = forms.ChoiceField(required=False, choices=[("", ""), *KeyState.choices])
    scope = forms.ChoiceField(required=False, choices=[("", ""), *((scope, scope) for scope in SCOPES)])
    q = forms.CharField(required=False, max_length=100)

    def wanted(self) -> KeyFilter:
        self.is_valid()
        given = {name: self.cleaned_data.get(name) for name in self.fields}
        return KeyFilter(
            view=given["view"] or "",
            environment=given["environment"] or "",
            team=given["team"],
            state=given["state"] or "",
            scope=given["scope"] or "",
            search=given["q"] or "",
        )

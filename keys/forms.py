"""The forms of key records. What they collect is cleaned into a `KeySpec`; the rules are in `keys.services`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.http import QueryDict

from keys import hours
from keys.choices import FindingCode, KeyState
from keys.hours import Hours
from keys.models import Account, KeyRecord
from keys.scopes import PRESETS, SCOPES, TITLES
from keys.secrets import SecretError, check_reference
from keys.selectors import KeyFilter, environments, name_part_problem
from keys.services import REASON_MISSING, SCOPES_MISSING, Handover, KeySpec, StaleError, version_of
from people.models import Team, User
from people.selectors import active_owners

REFERENCES = ("secret_ref", "previous_secret_ref")
ID_DIGITS = 18  # the most that an id may have: a number of more may not fit the database


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
        return f"{obj.name}, {obj.email}{'' if obj.is_active else ', disabled'}"


def _text(**attrs: str) -> forms.TextInput:
    return forms.TextInput(
        attrs={"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none", **attrs}
    )


def _reason(label: str) -> forms.CharField:
    return forms.CharField(
        max_length=500,
        label=label,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="The history keeps it.",
        error_messages={"required": REASON_MISSING},
    )


def _day(**more: Any) -> forms.DateField:
    return forms.DateField(
        required=False, widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}), **more
    )


def _hour(label: str, hint: str) -> forms.TimeField:
    return forms.TimeField(
        required=False,
        label=label,
        widget=forms.TimeInput(format="%H:%M", attrs={"type": "time"}),
        help_text=hint,
    )


@dataclass(frozen=True)
class Applied:
    """What a preset changed in a form, as sentences; everything else is as it was typed."""

    label: str
    changes: tuple[str, ...]
    runs_in: str


class TakesErrors(forms.Form):
    """A form of which a service may still refuse something."""

    def take_errors(self, fields: Mapping[str, str]) -> None:
        """Show a `KeyRecordError` at the fields that it names."""
        for name, sentence in fields.items():
            self.add_error(name if name in self.fields else None, sentence)


class KeyForm(TakesErrors):
    """A key record. References that are none are thrown away before anything else sees them: whatever was pasted
    there may be a secret, so it is neither kept in the form nor shown again."""

    owner = PersonField(
        queryset=User.objects.none(),
        help_text="Answers for the key and is told about findings.",
        error_messages={"required": "Choose who answers for the key."},
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
        error_messages={"required": "Say in a sentence what the key is for."},
    )
    preset = forms.ChoiceField(required=False, label="Start from a usual workload")
    scopes = forms.MultipleChoiceField(choices=lambda: [(scope, scope) for scope in SCOPES], required=False)
    secret_ref = forms.CharField(
        label="Secret reference",
        max_length=200,
        strip=True,
        widget=_text(**{"class": "input--mono", "placeholder": "env:ICYPEAS_KEY_…"}),
        help_text="Where the worker finds the secret: env:ICYPEAS_KEY_<NAME>, or file:NAME under its SECRETS_DIR. "
        "Never paste a secret here.",
        error_messages={
            "required": "Say where the worker finds the secret: env:ICYPEAS_KEY_<NAME>, or file:NAME."
        },
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
        error_messages={"min_value": "A cap is 0 or more.", "invalid": "Write a number of credits, as 500."},
    )
    rotation_days = forms.IntegerField(
        label="Rotate every, days",
        min_value=1,
        max_value=3650,
        initial=90,
        error_messages=dict.fromkeys(
            ("required", "invalid", "min_value", "max_value"),
            "Say after how many days the key is due, from 1 to 3,650.",
        ),
    )
    rotate_by = _day(help_text="Empty: the days from today.")
    expires_at = _day(label="Expires", help_text="Its last day, in UTC. Empty: it does not expire.")
    hours_days = forms.MultipleChoiceField(
        required=False,
        label="Days",
        choices=[(str(number), day) for number, day in enumerate(hours.DAYS, start=1)],
        widget=forms.CheckboxSelectMultiple,
        help_text="None ticked: every day.",
    )
    hours_begin = _hour("From", "Empty, with the other: all day.")
    hours_end = _hour("Until", "May be the next morning: 22:00 to 10:00.")
    time_zone = forms.ChoiceField(
        required=False, help_text="Hours are read in it, and the days of the cap begin in it."
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
        preset, zone = self.fields["preset"], self.fields["time_zone"]
        assert isinstance(preset, forms.ChoiceField)
        assert isinstance(zone, forms.ChoiceField)
        preset.choices = [("", "Choose…"), *((name, known.label) for name, known in PRESETS.items())]
        zone.choices = [(name, name) for name in sorted(available_timezones())]
        self.applied: Applied | None = None

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
        # The service says so as well, but only when nothing else is wrong: a person mends all of it at once.
        if "scopes" not in self.errors and not self.cleaned_data.get("scopes"):
            self.add_error("scopes", SCOPES_MISSING)
        return self.cleaned_data

    def scope_groups(self) -> list[tuple[str, list[ScopeBox]]]:
        """Scopes by operation, each with its sentence."""
        ticked = set(self["scopes"].value() or ())
        groups: dict[str, list[ScopeBox]] = {}
        for scope, sentence in SCOPES.items():
            groups.setdefault(TITLES[scope], []).append(ScopeBox(scope, sentence, scope in ticked))
        return list(groups.items())

    def typed(self) -> dict[str, Any]:
        """What was typed, as initial values for a fresh form."""
        assert isinstance(self.data, QueryDict)
        lists = ("scopes", "hours_days")
        return {
            name: self.data.getlist(name) if name in lists else self.data.get(name, "")
            for name in self.fields
        }

    def with_preset(self, environment: str = "") -> tuple[dict[str, Any], Applied | None]:
        """What was typed with the chosen preset applied: its scopes instead of those that were ticked, and its environment
        where none was chosen. `environment` is the record's, where it is fixed."""
        values = self.typed()
        preset = PRESETS.get(values["preset"])
        if preset is None:
            return values, None
        before = set(values["scopes"])
        values["scopes"] = list(preset.scopes)
        changes = []
        for word, scopes in (
            ("Ticked", [scope for scope in SCOPES if scope in preset.scopes and scope not in before]),
            ("Unticked", [scope for scope in SCOPES if scope in before and scope not in preset.scopes]),
        ):
            if scopes:
                changes.append(f"{word} {', '.join(scopes)}.")
        chosen = environment or values.get("environment", "")
        if not chosen:
            values["environment"] = preset.environment
            changes.append(f"Set the environment to {preset.environment}.")
        elif chosen != preset.environment:
            changes.append(
                f"Left the environment at {chosen}; such a workload usually belongs to {preset.environment}."
            )
        if not changes:
            changes.append("It changed nothing: scopes and environment fit already.")
        return values, Applied(preset.label, tuple(changes), preset.runs_in)

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
            hours=Hours(
                hours.tidy_days(given["hours_days"]),
                given["hours_begin"],
                given["hours_end"],
                given["time_zone"] or "UTC",
            ),
            was_used_before=given["was_used_before"],
        )


class KeyCreateForm(KeyForm):
    """A new record: its name is built from the first three fields."""

    environment = forms.ChoiceField(
        help_text="One key for each environment.", error_messages={"required": "Choose an environment."}
    )
    system = forms.CharField(
        max_length=40,
        widget=_text(placeholder="crm_sync"),
        help_text="The service or workflow.",
        error_messages={"required": "Say which service or workflow uses the key."},
    )
    label = forms.CharField(
        max_length=40,
        label="Owner part",
        widget=_text(placeholder="revops"),
        help_text="The team that runs it.",
        error_messages={"required": "Say which team runs it."},
    )

    field_order = ("environment", "system", "label")

    def __init__(self, data: QueryDict | None = None, *, initial: dict[str, Any] | None = None) -> None:
        super().__init__(data, initial=initial)
        environment = self.fields["environment"]
        assert isinstance(environment, forms.ChoiceField)
        environment.choices = [("", "Choose…"), *((name, name) for name in environments())]

    def clean(self) -> dict[str, Any]:
        for part, words in (("system", "system"), ("label", "owner part")):
            problem = name_part_problem(self.cleaned_data[part], words) if part in self.cleaned_data else None
            if problem:
                self.add_error(part, problem)
        return super().clean()

    def spec(self) -> KeySpec:
        return self._spec(*(self.cleaned_data[name] for name in ("environment", "system", "label")))


# Which fields of the form give what the history names.
FIELDS_OF_FACT = {
    "account": ("account", "new_account"),
    "secret reference": ("secret_ref",),
    "previous reference": ("previous_secret_ref",),
    "used before this record": ("was_used_before",),
    "daily cap": ("daily_cap",),
    "rotation days": ("rotation_days",),
    "rotate by": ("rotate_by",),
    "expires": ("expires_at",),
    "hours": ("hours_days", "hours_begin", "hours_end"),
    "time zone": ("time_zone",),
}


class KeyEditForm(KeyForm):
    """Everything but the name, and why. `version` is what the record was when the form was opened; `news` says who changed
    it since."""

    reason = _reason("Why this change?")
    version = forms.CharField(required=False, max_length=80, widget=forms.HiddenInput)

    def __init__(
        self, key: KeyRecord, data: QueryDict | None = None, *, initial: dict[str, Any] | None = None
    ) -> None:
        self._key = key
        self.news, self.keeps_typed = "", True
        super().__init__(data, initial=initial or self._values())
        self.fields["rotate_by"].required = True
        self.fields["rotate_by"].help_text = ""
        self.fields["rotate_by"].error_messages["required"] = "Say by which day it is to be rotated."
        account, deputy = self.fields["account"], self.fields["deputy"]
        assert isinstance(account, forms.ModelChoiceField)
        account.empty_label = None
        account.required = True
        account.error_messages["required"] = "Choose the account."
        assert isinstance(deputy, PersonField)
        # One who was disabled stays a choice: else a change of something else would drop them unseen.
        deputy.queryset = active_owners() | User.objects.filter(id=key.deputy_id or 0)

    def _values(self) -> dict[str, Any]:
        key = self._key
        named = ("purpose", "scopes", "secret_ref", "previous_secret_ref", "was_used_before", "daily_cap")
        values: dict[str, Any] = {name: getattr(key, name) for name in named}
        dated = ("rotation_days", "rotate_by", "expires_at", "hours_begin", "hours_end", "time_zone")
        values.update({name: getattr(key, name) for name in dated})
        values["hours_days"] = list(key.hours_days)
        values.update({name: getattr(key, f"{name}_id") for name in ("owner", "deputy", "team", "account")})
        values["version"] = version_of(key)
        return values

    def with_changes_of_others(self, key: KeyRecord, error: StaleError) -> KeyEditForm:
        """A form with what was typed, and with what stands now where somebody changed it meanwhile (everywhere, when nobody
        can say where). `key` is the record as it is now."""
        fresh = KeyEditForm(key)
        changed = {name for fact in error.facts or () for name in FIELDS_OF_FACT.get(fact, (fact,))}
        typed = {name: value for name, value in self.typed().items() if name not in changed}
        fresh.keeps_typed = error.facts is not None
        kept = typed if fresh.keeps_typed else {"reason": typed["reason"]}
        fresh.initial.update({name: value for name, value in kept.items() if name != "version"})
        fresh.news = str(error)
        return fresh

    def spec(self) -> KeySpec:
        return self._spec(self._key.environment, self._key.system, self._key.label)


class RenameForm(TakesErrors):
    """Another name: the environment stays, since a key of another environment is another grant."""

    system = forms.CharField(max_length=40, widget=_text(), help_text="The service or workflow.")
    label = forms.CharField(
        max_length=40, label="Owner part", widget=_text(), help_text="The team that runs it."
    )
    reason = _reason("Why this name?")


class StateForm(TakesErrors):
    """Why a record changes its state."""

    reason = _reason("Why?")


class RenewForm(TakesErrors):
    """Another last day, and why."""

    expires_at = _day(label="New last day", help_text="In UTC. Empty: it does not expire any more.")
    reason = _reason("Why?")


class HandOverForm(TakesErrors):
    """Who takes a frozen set of records over. `keys` are their ids in one field: a form may have a few hundred only."""

    keys = forms.RegexField(
        rf"^[0-9]{{1,{ID_DIGITS}}}(,[0-9]{{1,{ID_DIGITS}}})*\Z", max_length=500_000, widget=forms.HiddenInput
    )
    words = forms.CharField(required=False, max_length=400, widget=forms.HiddenInput)
    leaver = forms.ModelChoiceField(queryset=User.objects.all(), required=False, widget=forms.HiddenInput)
    owner = PersonField(queryset=User.objects.none(), required=False, label="New owner")
    deputy = PersonField(queryset=User.objects.none(), required=False, label="New deputy")
    reason = _reason("Why this change?")

    def __init__(
        self,
        data: QueryDict | None = None,
        *,
        initial: dict[str, Any] | None = None,
        leaver: User | None = None,
    ) -> None:
        super().__init__(data, initial=initial)
        for name in ("owner", "deputy"):
            field = self.fields[name]
            assert isinstance(field, PersonField)
            field.queryset = active_owners().exclude(id=leaver.id) if leaver else active_owners()
            if leaver is None:
                field.empty_label = f"Leave each {name} as it is"
                continue
            holds = "they own" if name == "owner" else "they stand in for"
            field.label = f"Where {leaver.name} is {'the owner' if name == 'owner' else 'the deputy'}, now"
            field.empty_label = f"Leave the records {holds} as they are"

    def ids(self) -> list[int]:
        return [int(number) for number in self.cleaned_data["keys"].split(",")]

    def handover(self) -> Handover:
        given = self.cleaned_data
        return Handover(owner=given["owner"], deputy=given["deputy"], leaver=given["leaver"])


class NameForm(forms.Form):
    """The three parts of a name while it forms."""

    environment = forms.CharField(required=False, max_length=60)
    system = forms.CharField(required=False, max_length=120)
    label = forms.CharField(required=False, max_length=120)
    renames = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)

    def parts(self) -> dict[str, str]:
        """What was typed so far; a part that cannot be read counts as empty."""
        self.is_valid()
        return {name: self.cleaned_data.get(name) or "" for name in ("environment", "system", "label")}

    def renamed(self) -> int | None:
        """The record that would take the name, where it has one already."""
        self.is_valid()
        number: int | None = self.cleaned_data.get("renames")
        return number


class KeyFilterForm(forms.Form):
    """The address of the inventory as a filter; what makes no sense in it is left out."""

    view = forms.CharField(required=False, max_length=20)
    environment = forms.CharField(required=False, max_length=20)
    owner = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    person = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    team = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    unused = forms.IntegerField(required=False, min_value=1, max_value=3650)
    state = forms.ChoiceField(required=False, choices=[("", ""), *KeyState.choices])
    scope = forms.ChoiceField(
        required=False, choices=lambda: [("", ""), *((scope, scope) for scope in SCOPES)]
    )
    finding = forms.ChoiceField(required=False, choices=[("", ""), *FindingCode.choices])
    q = forms.CharField(required=False, max_length=100)

    def wanted(self) -> KeyFilter:
        self.is_valid()
        given = {name: self.cleaned_data.get(name) for name in self.fields}
        return KeyFilter(
            view=given["view"] or "",
            environment=given["environment"] or "",
            owner=given["owner"],
            person=given["person"],
            team=given["team"],
            unused=given["unused"],
            state=given["state"] or "",
            scope=given["scope"] or "",
            finding=given["finding"] or "",
            search=given["q"] or "",
        )

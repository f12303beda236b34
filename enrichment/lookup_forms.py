"""The form of one look-up, made from its operation's inputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django import forms

from enrichment.operations.base import Operation, Skipped
from enrichment.prices import PriceNow
from enrichment.selectors import KeyChoice
from keys.models import KeyRecord

# A form has room for both parts of a name, so that nothing needs to be divided.
LEFT_OUT = {"full_name"}
HINTS = {"domain": "A domain finds more than a name.", "company": "Used where there is no domain."}


class InputsForm(forms.Form):
    """What an operation can be told about one question; what it cannot ask is said at the field that would mend it."""

    def __init__(self, operation: Operation, left_out: Collection[str], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.operation = operation
        self.input_names = [field.name for field in operation.fields if field.name not in left_out]
        for field in operation.fields:
            if field.name in left_out:
                continue
            widget = forms.EmailInput if field.name == "email" else forms.TextInput
            # `required` is decided by the operation, which knows what may stand for what.
            self.fields[field.name] = forms.CharField(
                label=field.label,
                required=False,
                max_length=300,
                help_text=HINTS.get(field.name, ""),
                widget=widget(attrs={"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none"}),
            )

    @property
    def inputs(self) -> list[forms.BoundField]:
        """The operation's own fields, in its order."""
        return [self[name] for name in self.input_names]

    @property
    def names(self) -> list[forms.BoundField]:
        """Fields that stand side by side."""
        return [field for field in self.inputs if field.name in ("first_name", "last_name")]

    @property
    def others(self) -> list[forms.BoundField]:
        return [field for field in self.inputs if field.name not in ("first_name", "last_name")]

    def clean(self) -> dict[str, Any]:
        """`cleaned_data` gets `told`: input → text."""
        cleaned = dict(super().clean() or {})
        told = {name: cleaned.get(name, "") for name in self.input_names}
        if not any(name in self.errors for name in self.input_names):
            self._check_inputs(told)
        return {**cleaned, "told": told}

    def _check_inputs(self, told: Mapping[str, str]) -> None:
        """What the operation cannot ask is said at the field that would mend it."""
        for group in self.operation.needs:
            shown = [name for name in group if name in self.input_names]
            if not any(told[name].strip() for name in shown):
                labels = [str(self.fields[name].label).lower() for name in shown]
                self.add_error(shown[0], f"Fill in the {' or the '.join(labels)}.")
        if self.errors:
            return
        outcome = self.operation.check(told)
        if isinstance(outcome, Skipped):
            self.add_error(next(name for name in self.input_names if told[name].strip()), outcome.text)


class LookupForm(InputsForm):
    """Inputs of `operation`, key, purpose, and whether a known answer will do. `token` makes two presses one look-up.

    `cleaned_data` has `told` (input → text) and `key_record` beside the fields.
    """

    token = forms.CharField(max_length=64, widget=forms.HiddenInput)
    key = forms.ChoiceField(label="Key")
    purpose = forms.CharField(
        label="What is this for?",
        required=False,
        max_length=300,
        widget=forms.TextInput(attrs={"placeholder": "Reply to a pricing question"}),
    )
    use_known = forms.BooleanField(required=False, help_text="then it costs nothing")

    def __init__(
        self,
        operation: Operation,
        choices: Sequence[KeyChoice],
        freshness_days: int,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(operation, LEFT_OUT, *args, **kwargs)
        self.key_choices = choices
        self.offered: dict[str, KeyRecord] = {
            str(choice.key.id): choice.key for choice in choices if not choice.refusal
        }
        self.refused: dict[str, str] = {
            str(choice.key.id): choice.refusal for choice in choices if choice.refusal
        }
        self.fields["use_known"].label = f"Use a known answer up to {freshness_days} days old"
        key_field = self.fields["key"]
        assert isinstance(key_field, forms.ChoiceField)
        key_field.choices = [(number, key.name) for number, key in self.offered.items()]
        key_field.error_messages["required"] = "Choose the key that pays."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        refusal = self.refused.get(str(self.data.get(self.add_prefix("key"), "")))
        if refusal and "key" in self.errors:
            del self.errors["key"]
            self.add_error("key", refusal)
        return {**cleaned, "key_record": self.offered.get(str(cleaned.get("key", "")))}


def cost_text(price: PriceNow) -> str:
    """What stands on the button: "at most 1 credit", or the price where every answer costs."""
    if price.credits is None:
        return "price not known"
    amount = f"{price.credits.normalize():,f} credit{'' if price.credits == 1 else 's'}"
    return amount if price.charged_when_empty else f"at most {amount}"

"""Checks of request bodies. They collect every fault, since the vendor names all offending fields at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Fields:
    """A body under inspection. The readers return a usable value in any case; look at `errors` before using it."""

    body: dict[str, Any]
    errors: list[dict[str, str]] = field(default_factory=list)

    def refuse(self, name: str, message: str, text: str, type_: str = "ValidationError") -> None:
        """Note a fault: `message` is for machines, `text` for people."""
        self.errors.append({"field": name, "type": type_, "message": message, "humanReadableMessage": text})

    def text(self, name: str, *, is_required: bool = False) -> str:
        """A non-empty string; "" when the key is left out."""
        if name not in self.body:
            if is_required:
                self.refuse(name, "validation_required", f"{name} is required.")
            return ""
        return self._text(name, self.body[name])

    def _text(self, name: str, value: Any) -> str:
        if not is_text(value):
            self.refuse(name, "validation_string", f"{name} must be a string.")
            return ""
        if not value.strip():
            self.refuse(name, "validation_string_empty", f"{name} must not be empty.")
        return str(value)

    def url(self, name: str) -> str:
        """An http or https address; "" when the key is left out."""
        value = self.text(name)
        if value and not _is_url(value):
            self.refuse(name, "validation_url", f"{name} must be an http or https address.")
        return value

    def flag(self, name: str) -> bool | None:
        value = self.body.get(name)
        if name in self.body and not isinstance(value, bool):
            self.refuse(name, "validation_boolean", f"{name} must be true or false.")
            return None
        return value

    def choice(self, name: str, choices: list[str], *, is_required: bool = False) -> str:
        value = self.text(name, is_required=is_required)
        if value and value not in choices:
            self.refuse(name, "validation_choice", f"{name} must be one of {', '.join(choices)}.")
            return ""
        return value

    def limit(self, *, default: int, highest: int) -> int:
        value = self.body.get("limit", default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= highest:
            self.refuse("limit", "validation_limit", f"limit must be a whole number from 1 to {highest}.")
            return default
        return value

    def texts(self, name: str, *, least: int, most: int) -> list[str]:
        """A list of strings, `least` to `most` of them; [] when refused."""
        value = self.body.get(name)
        if name not in self.body:
            self.refuse(name, "validation_required", f"{name} is required.")
        elif not isinstance(value, list) or not all(is_text(entry) for entry in value):
            self.refuse(name, "validation_array", f"{name} must be an array of strings.")
        elif not least <= len(value) <= most:
            self.refuse(name, "validation_array_length", f"{name} must hold {least} to {most} entries.")
        else:
            return value
        return []

    def objects(self, name: str, keys: tuple[str, ...], *, most: int) -> list[list[str]]:
        """A list of 1 to `most` objects of texts, as the cells under `keys`, "" for what is left out; [] when refused."""
        value = self.body.get(name)
        if name not in self.body:
            self.refuse(name, "validation_required", f"{name} is required.")
        elif not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            self.refuse(name, "validation_array", f"{name} must be an array of objects.")
        elif not 1 <= len(value) <= most:
            self.refuse(name, "validation_array_length", f"{name} must hold 1 to {most} entries.")
        elif not all(is_text(entry.get(key, "")) for entry in value for key in keys):
            self.refuse(name, "validation_row", f"{name} must hold strings under {', '.join(keys)}.")
        else:
            return [[str(entry.get(key, "")) for key in keys] for entry in value]
        return []

    def custom(self) -> Fields:
        """The `custom` object as fields of its own, whose names carry the prefix `custom.`."""
        value = self.body.get("custom", {})
        if not isinstance(value, dict):
            self.refuse("custom", "validation_object", "custom must be an object.")
            value = {}
        return Fields({f"custom.{key}": entry for key, entry in value.items()}, self.errors)


def is_text(value: Any) -> bool:
    """A string that UTF-8 can carry: half a surrogate pair passes JSON, yet is no text."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)

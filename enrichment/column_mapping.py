"""Which column of a list feeds which input of an operation: a guess from names and values, and a person's word.

A mapping is a dictionary from the operation's field names to column indexes (from 0); a field that no column
feeds is absent, or None.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from enrichment import normal_forms
from enrichment.operations.base import InputField, Operation

# Below this a guess is only offered among the other columns. Below `SURE` a person should look at it.
ACCEPTED = 0.5
SURE = 0.8
_OFFERED = 0.3
_SAMPLE_VALUES = 5


class MappingError(ValueError):
    """A column mapping that cannot be used; `str()` says what is wrong and which names there are."""


@dataclass(frozen=True)
class Guess:
    """Where a field may come from. `column` is None when no column is likely; `values` are the first distinct,
    non-empty values of the column (at most five); `others` are further columns that look alike, best first."""

    column: int | None
    confidence: float  # 0..1
    values: list[str]
    others: list[int]


def recognise(
    operation: Operation, header: Sequence[str], sample_rows: Sequence[Sequence[str]]
) -> dict[str, Guess]:
    """A guess for each field of the operation, in the operation's order. One column feeds at most one field."""
    samples = [_values(sample_rows, column) for column in range(len(header))]
    scores = {
        field.name: [_score(field, name, values) for name, values in zip(header, samples, strict=True)]
        for field in operation.fields
    }
    chosen = _assign(scores)
    _settle_names(chosen, header, samples)
    guesses = {}
    for field in operation.fields:
        column, confidence = chosen.get(field.name, (None, 0.0))
        ranked = sorted(range(len(header)), key=lambda index: (-scores[field.name][index], index))
        used = {index for index, _ in chosen.values()}
        others = [index for index in ranked if index not in used and scores[field.name][index] >= _OFFERED]
        guesses[field.name] = Guess(
            column=column,
            confidence=round(confidence, 2),
            values=samples[column][:_SAMPLE_VALUES] if column is not None else [],
            others=others,
        )
    return guesses


def parse_map(pairs: Iterable[str], operation: Operation, header: Sequence[str]) -> dict[str, int]:
    """`field=Column` words to a mapping. Columns are named as in `header`, letter case and outer white space aside.

    Raises `MappingError` for a word without `=`, an unknown or repeated field, an unknown column, and for a mapping
    with which no row could be asked.
    """
    names = [field.name for field in operation.fields]
    mapping: dict[str, int] = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        name = name.strip().lower().replace("-", "_")
        if not equals:
            raise MappingError(
                f"“{pair}” is not of the form field=Column, for example {names[0]}={header[0]}."
            )
        if name not in names:
            raise MappingError(f"{operation.name} has no field “{name}”. Its fields are: {', '.join(names)}.")
        if name in mapping:
            raise MappingError(f"The field “{name}” is given twice. Only one column can feed it.")
        mapping[name] = _find_column(column, header)
    require_needed(operation, mapping)
    return mapping


def require_needed(operation: Operation, mapping: Mapping[str, int | None]) -> None:
    """Raises `MappingError` when a group of fields of which one is needed has no column."""
    for group in operation.needs:
        if all(mapping.get(name) is None for name in group):
            labels = [field.label for field in operation.fields if field.name in group]
            raise MappingError(
                f"No column gives the {' or the '.join(label.lower() for label in labels)}. Choose one."
            )


def apply(mapping: Mapping[str, int | None], cells: Sequence[str]) -> dict[str, str]:
    """The fields of one row, as they are in its cells; "" where a short row has no cell."""
    return {
        name: cells[column] if column < len(cells) else ""
        for name, column in mapping.items()
        if column is not None
    }


def _find_column(name: str, header: Sequence[str]) -> int:
    if name in header:
        return list(header).index(name)
    wanted = " ".join(name.split()).casefold()
    for index, column in enumerate(header):
        if " ".join(column.split()).casefold() == wanted:
            return index
    raise MappingError(f"The list has no column “{name}”. Its columns are: {', '.join(header)}.")


def _values(rows: Sequence[Sequence[str]], column: int) -> list[str]:
    """The distinct, non-empty values of a column, in their order."""
    found = (row[column].strip() for row in rows if column < len(row))
    return list(dict.fromkeys(value for value in found if value))


# ---------------------------------------------------------------------------------------------------------------
# Scores: what the header says, confirmed or doubted by the values

# Words that make a header about something of the company or the person, not about themselves ("Company city").
_OTHER_THINGS = frozenset(
    (
        *(
            "address",
            "adresse",
            "city",
            "code",
            "country",
            "count",
            "date",
            "employees",
            "fax",
            "id",
            "industry",
        ),
        *(
            "land",
            "linkedin",
            "opt",
            "out",
            "owner",
            "ort",
            "pays",
            "phone",
            "revenue",
            "size",
            "source",
            "stadt",
        ),
        *("state", "status", "street", "strasse", "telefon", "title", "type", "ville", "zip"),
    )
)


def _plain(name: str) -> str:
    """Letters and digits of a header, without accents and case, as words: "E-Mail-Adresse" → "e mail adresse"."""
    bare = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    # CRM exports write firstName as often as first_name.
    bare = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", bare)
    return " ".join(re.findall(r"[^\W_]+", bare.casefold()))


def _name_score(field: InputField, header: str) -> float:
    """1 for a spelling that we know, less for one that holds it among other words."""
    plain = _plain(header)
    joined = plain.replace(" ", "")
    best = 0.0
    for known in (field.label, field.name, *field.names):
        spelling = _plain(known)
        if joined == spelling.replace(" ", ""):
            return 1.0
        if re.sub(r" ?\d+$", "", plain) == spelling:
            best = max(best, 0.9)
        elif f" {spelling} " in f" {plain} " and not _OTHER_THINGS.intersection(
            plain.replace(spelling, "", 1).split()
        ):
            # "Work email of the person" is about an e-mail, "Email opt-out date" is about something else: the more
            # of the header is spoken for, the likelier.
            best = max(best, 0.45 + 0.4 * len(spelling) / len(plain))
    return best


def _is_email(value: str) -> bool:
    return re.fullmatch(r"(mailto:|[^<>@]*<)?[^@\s<>]+@[^@\s<>]+\.[^@\s<>.]{2,}>?", value.strip()) is not None


def _is_domain(value: str) -> bool:
    """A site of a company's own: links to its pages elsewhere are another column of a CRM."""
    if "@" in value or " " in value.strip():
        return False
    host = normal_forms.domain(value)
    return host is not None and normal_forms.registered_domain(host) not in normal_forms.LINK_PAGE_DOMAINS


def _is_words(value: str) -> bool:
    """Fit for a name of a person or company: has letters, is no address, site or phone number."""
    return any(char.isalpha() for char in value) and not _is_email(value) and "://" not in value


def _is_person(value: str) -> bool:
    return _is_words(value) and not _is_domain(value)


def _is_page_of(kind: str) -> Callable[[str], bool]:
    """A page on LinkedIn whose address says that it is of this kind."""
    return lambda value: normal_forms.kind_of_page(normal_forms.page(value) or "") == kind


_SHAPES: Mapping[str, Callable[[str], bool]] = {
    "email": _is_email,
    "domain": _is_domain,
    "company": _is_words,
    "first_name": _is_person,
    "last_name": _is_person,
    "full_name": _is_person,
    "job_title": _is_words,
    "profile_url": _is_page_of(normal_forms.PERSON),
    "company_url": _is_page_of(normal_forms.COMPANY),
}
# Shapes that speak for a field even where the header says nothing: how sure all values of the shape make us.
_TELLING = {"email": 0.85, "domain": 0.75, "profile_url": 0.9, "company_url": 0.9}


def _score(field: InputField, header: str, values: Sequence[str]) -> float:
    """How likely a column feeds a field, from 0 to 0.99."""
    named = _name_score(field, header)
    shape = _SHAPES.get(field.name)
    if shape is None or not values:
        # Nothing to confirm the name with.
        return 0.6 * named
    fitting = sum(map(shape, values)) / len(values)
    by_name = named * (0.5 + 0.49 * fitting)
    by_shape = _TELLING.get(field.name, 0.0) * fitting if fitting >= 0.6 else 0.0
    return max(by_name, by_shape)


def _assign(scores: Mapping[str, Sequence[float]]) -> dict[str, tuple[int, float]]:
    """Each column to the field that it fits best, the surest first; the leftmost column among equals."""
    ranked = sorted(
        ((score, name, column) for name, row in scores.items() for column, score in enumerate(row)),
        key=lambda entry: (-entry[0], entry[2]),
    )
    chosen: dict[str, tuple[int, float]] = {}
    used: set[int] = set()
    for score, name, column in ranked:
        if score < ACCEPTED:
            break
        if name not in chosen and column not in used:
            chosen[name] = (column, score)
            used.add(column)
    return chosen


def _settle_names(
    chosen: dict[str, tuple[int, float]], header: Sequence[str], samples: Sequence[Sequence[str]]
) -> None:
    """ "Name", "Nom", "Naam" is the last name beside a first name and the full name alone; which one, the other
    columns tell. A full name beside both parts adds nothing."""
    ambiguous = {"name", "nom", "naam", "nome", "nombre"}
    is_alone = {name: name in chosen and _plain(header[chosen[name][0]]) in ambiguous for name in _SHAPES}
    if is_alone["full_name"] and "first_name" in chosen and "last_name" not in chosen:
        chosen["last_name"] = (chosen["full_name"][0], 0.85 * chosen["full_name"][1])
        del chosen["full_name"]
    for part, other in (("last_name", "first_name"), ("first_name", "last_name")):
        if is_alone[part] and other not in chosen and "full_name" not in chosen:
            column, score = chosen[part]
            several = sum(" " in value for value in samples[column])
            if several * 2 > len(samples[column]):
                chosen["full_name"] = (column, 0.85 * score)
                del chosen[part]
    if "first_name" in chosen and "last_name" in chosen:
        chosen.pop("full_name", None)

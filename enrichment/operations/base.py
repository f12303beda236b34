"""What one operation is: its inputs, how columns are recognised, how a row becomes a question, what it
costs, which routes and scopes it needs, how its answers are read and which columns it appends.

An operation is one `Operation` instance in a file of its own, and nothing else: no other file has its name. Nothing here
knows Django.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from enrichment.providers.icypeas.direct import Layout
from enrichment.providers.icypeas.leads import Search
from enrichment.providers.icypeas.payloads import Rows


@dataclass(frozen=True)
class InputField:
    """One thing an operation can be told. `names` are header spellings that are recognised (lower case)."""

    name: str
    label: str
    names: Sequence[str]
    is_required: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Warning_:
    """Something odd about a row that is asked all the same. `code` groups, `text` is the sentence."""

    code: str
    text: str


@dataclass(frozen=True)
class Checked:
    """A row that can be asked: `inputs` in normal form (this is what is sent), and what looked odd."""

    inputs: Mapping[str, str]
    warnings: Sequence[Warning_] = ()


@dataclass(frozen=True)
class Skipped:
    """A row that cannot be asked. `code` groups the reasons, `text` is the sentence in the export."""

    code: str
    text: str


@dataclass(frozen=True)
class ResultColumn:
    """A column that the export appends: `icypeas_<name>`."""

    name: str
    label: str


WORDS, RANGE, CHOICES, GROWTH = "words", "range", "choices", "growth"
# What a text looks like that surely holds no comma.
COUNTRY_CODE = r"[A-Za-z]{2}"
WITHOUT_SPACE = r"\S+"


@dataclass(frozen=True)
class Filter:
    """One filter of a search. `name` is Icypeas' own, a point parts a filter inside of another.

    `kind`: words (texts to include and to leave out), range (from and to), choices (some of `choices`), growth (percent
    of six months, from and to). `is_more` filters stand behind *More filters*.

    A comma belongs to a name (`Technology, Information and Internet`), so it parts texts only where all of them look like
    `comma_parted`, a regular expression; "" for none.
    """

    name: str
    label: str
    kind: str = WORDS
    hint: str = ""
    choices: Sequence[str] = ()
    is_more: bool = False
    comma_parted: str = ""

    @property
    def id(self) -> str:
        """A name for forms and addresses."""
        return self.name.replace(".", "_")


@dataclass(frozen=True)
class Operation:
    """One thing that Icypeas does for us."""

    name: str  # email-search
    label: str  # Find emails
    noun: str  # email found / verification: what one credit price buys
    sentence: str  # one line for the picker
    icon: str
    fields: Sequence[InputField]
    check: Callable[[Mapping[str, str]], Checked | Skipped]
    price: Decimal | None  # credits for one answer; the default of the dated price table, None while unknown
    charged_when_empty: bool
    single_route: str
    bulk_route: str
    result_columns: Sequence[ResultColumn]
    wire: Rows | Layout | Search  # how the routes are spoken to, and their answers read
    scopes: Mapping[str, str]  # what a key may be granted, each with a sentence: "may …"
    words: tuple[str, str, str]  # what is done, to one thing and to several: verify, email, emails
    place: int  # in pickers
    good_verdicts: Sequence[str]  # which verdicts count as "found" in the bar
    # Groups of fields; of each group at least one must come from a column, or no row could be asked.
    needs: Sequence[Sequence[str]] = ()
    price_source: str = ""  # where the default stands
    # Rows in one call of a route that brings its answers itself and cannot be looked up; 0 where a call can be looked up.
    direct_rows: int = 0
    # Names of inputs in the normal form, where that differs from a field of the form: receipts show what was sent.
    asked_labels: Mapping[str, str] = field(default_factory=dict)
    found_label: str = "Found"
    not_found_label: str = "Not found"
    # The result column that is the answer itself, and its noun; both empty where the verdict is the answer.
    answer_column: str = ""
    answer_noun: str = ""
    # A cautious share of good answers, before there is a history of our own.
    first_hit_rate: Decimal = Decimal("0.5")
    scope_title: str = ""  # over its scopes in forms; its label where it says nothing
    series: str = ""  # of charts, one of `keys.scopes.SERIES`; others share the last
    # Searches for leads: a free route counts, and filters take the place of a list.
    count_route: str = ""
    filters: Sequence[Filter] = ()
    # On the look-up page, where one is asked: the tab, and the word on the button.
    look_up_label: str = ""
    verb: str = "Ask"

    @property
    def answer_words(self) -> str:
        """`an email`, `a profile page`."""
        return f"{'an' if self.answer_noun[:1] in 'aeiou' else 'a'} {self.answer_noun}"

    @property
    def is_search(self) -> bool:
        """Asked with filters instead of a list; its pages follow from each other."""
        return bool(self.filters)

    def scope(self, mode: str) -> str:
        """The scope that a key needs: `mode` is `single` or `bulk`; where there is one scope only, it serves both."""
        return f"{self.name}:{mode}" if len(self.scopes) > 1 else next(iter(self.scopes))

    def describe(self, inputs: Mapping[str, str]) -> str:
        """One line that names a question to a person: `Ann Lee, loxwell.example`."""
        name = " ".join(filter(None, (inputs.get("first_name"), inputs.get("last_name"))))
        others = [value for key, value in inputs.items() if key not in ("first_name", "last_name")]
        return ", ".join(filter(None, (name, *others)))


def digest(inputs: Mapping[str, str]) -> str:
    """The identity of a question within an operation: 32 hex of SHA-256 over its normal form,
    names and companies compared without case."""
    folded = {key: value.casefold() for key, value in sorted(inputs.items()) if value}
    text = json.dumps(folded, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def short(value: str) -> str:
    """A cell as a sentence quotes it."""
    return value if len(value) <= 60 else value[:59] + "…"


def result_text(value: Any) -> str:
    """A result value as one export cell."""
    if isinstance(value, list):
        return " ".join(str(v.get("email", v)) if isinstance(v, dict) else str(v) for v in value)
    return "" if value is None else str(value)

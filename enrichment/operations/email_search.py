"""Find e-mail addresses: a person's name and their company in, an address out."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from nameparser import HumanName

from enrichment import normal_forms

from .base import Checked, InputField, Operation, ResultColumn, Skipped, Warning_, short
from .company import COMPANY_FIELDS, NO_COMPANY, company_of, company_warnings

NO_NAME = "no_name"
SWAPPED_NAMES = "swapped_names"
HEADER_REPEATED = "header_repeated"
PLACEHOLDER = "placeholder"

_FIELDS = (
    InputField(
        name="first_name",
        label="First name",
        names=(
            "first name",
            "firstname",
            "first",
            "given name",
            "forename",
            "contact first name",
            "vorname",
            "rufname",
            "prénom",
            "nombre",
            "nombre de pila",
            "nome",
            "voornaam",
        ),
        hint="First or last name is needed, both are better.",
    ),
    InputField(
        name="last_name",
        label="Last name",
        names=(
            "last name",
            "lastname",
            "last",
            "surname",
            "family name",
            "contact last name",
            "nachname",
            "familienname",
            "zuname",
            "nom",
            "nom de famille",
            "apellido",
            "apellidos",
            "cognome",
            "achternaam",
            "familienaam",
        ),
        hint="First or last name is needed, both are better.",
    ),
    InputField(
        name="full_name",
        label="Full name",
        names=(
            "full name",
            "fullname",
            "name",
            "contact",
            "contact name",
            "person",
            "person name",
            "lead name",
            "ansprechpartner",
            "kontakt",
            "vollständiger name",
            "vor- und nachname",
            "nom complet",
            "nom et prénom",
            "nombre completo",
            "nombre y apellidos",
            "nome completo",
            "nome e cognome",
            "volledige naam",
            "naam",
        ),
        hint="Divided into first and last name where one of the two is missing.",
    ),
    *COMPANY_FIELDS,
)

# Given names that are hardly ever family names. Only such a name in the place of the last name, beside a first
# name that is none of them, is called swapped: a list with "Martin" or "Thomas" would accuse half of France.
_GIVEN_NAMES = frozenset(
    name.casefold()
    for name in (
        *(
            "Alessandro",
            "Alexandra",
            "Alice",
            "Amélie",
            "Ana",
            "Andrea",
            "Andreas",
            "Anita",
            "Anke",
            "Anna",
            "Anne",
        ),
        *(
            "Antje",
            "Barbara",
            "Beatriz",
            "Benjamin",
            "Birgit",
            "Camille",
            "Carla",
            "Carlos",
            "Carmen",
            "Caroline",
        ),
        *(
            "Céline",
            "Charlotte",
            "Chiara",
            "Christina",
            "Christine",
            "Christopher",
            "Claire",
            "Claudia",
            "Cristina",
        ),
        *(
            "Daniela",
            "Diana",
            "Elena",
            "Elisabeth",
            "Elizabeth",
            "Emily",
            "Emma",
            "Eva",
            "Federica",
            "Fernando",
        ),
        *(
            "Florian",
            "Francesca",
            "Francesco",
            "Françoise",
            "Gabriele",
            "Giovanni",
            "Giulia",
            "Giuseppe",
            "Hannah",
        ),
        *(
            "Heike",
            "Helena",
            "Ingrid",
            "Isabel",
            "Isabella",
            "Isabelle",
            "Jennifer",
            "Jessica",
            "Joanna",
            "Johanna",
        ),
        *(
            "Jonathan",
            "Jörg",
            "José",
            "Juan",
            "Julia",
            "Julie",
            "Jürgen",
            "Karen",
            "Karin",
            "Katarzyna",
            "Katharina",
        ),
        *(
            "Kathrin",
            "Katrin",
            "Kevin",
            "Laura",
            "Léa",
            "Lena",
            "Linda",
            "Lisa",
            "Luca",
            "Lucía",
            "Lukas",
            "Magdalena",
        ),
        *(
            "Małgorzata",
            "Manon",
            "Manuela",
            "Marco",
            "Margaret",
            "María",
            "Maria",
            "Marie",
            "Marina",
            "Markus",
            "Marta",
        ),
        *(
            "Martina",
            "Mary",
            "Matteo",
            "Matthias",
            "Melanie",
            "Michelle",
            "Miguel",
            "Mónica",
            "Monika",
            "Nathalie",
        ),
        *(
            "Nicole",
            "Olga",
            "Oliver",
            "Patricia",
            "Paula",
            "Petra",
            "Philippe",
            "Pilar",
            "Rachel",
            "Rebecca",
            "Renate",
        ),
        *(
            "Sabine",
            "Sandra",
            "Sanne",
            "Sara",
            "Sarah",
            "Sebastian",
            "Silvia",
            "Sofia",
            "Sofía",
            "Sophia",
            "Sophie",
        ),
        *(
            "Stefan",
            "Stefanie",
            "Stéphane",
            "Stephanie",
            "Susan",
            "Susanne",
            "Tatiana",
            "Teresa",
            "Tobias",
            "Tomasz",
        ),
        *("Uwe", "Valentina", "Valérie", "Veronika", "Victoria", "Virginie", "Wolfgang", "Yvonne", "Zoé"),
    )
)
_PLACEHOLDERS = frozenset(
    ("n/a", "n.a.", "na", "#n/a", "none", "null", "unknown", "empty", "tbd", "test", "xxx", "(self)")
)


def check(fields: Mapping[str, str]) -> Checked | Skipped:
    """A row with one part of a name, and a domain or a company, is asked; the domain wins over the company.

    Fields: `first_name`, `last_name`, `full_name`, `domain`, `company`, each may be absent or "".
    The question has `first_name`, `last_name` ("" when unknown) and `company`, which is the domain or the name.
    """
    values = {field.name: normal_forms.text(fields.get(field.name, "")) for field in _FIELDS}
    first_name, last_name = _name_parts(values)
    if not (first_name or last_name):
        return Skipped(NO_NAME, "There is neither a first nor a last name in this row.")
    company, domain = company_of(values)
    if not company:
        return NO_COMPANY
    inputs = {"first_name": first_name, "last_name": last_name, "company": company}
    return Checked(inputs, tuple(_warnings(values, inputs, domain)))


def _name_parts(values: Mapping[str, str]) -> tuple[str, str]:
    first_name, last_name, full_name = values["first_name"], values["last_name"], values["full_name"]
    if full_name and not (first_name and last_name):
        parsed = HumanName(full_name)
        if parsed.first or parsed.last:
            first_name, last_name = first_name or parsed.first, last_name or parsed.last
        else:
            # Only what the parser takes for a title ("Dr. Prof."): better asked than thrown away.
            last_name = last_name or full_name
    return normal_forms.text(first_name), normal_forms.text(last_name)


def _warnings(values: Mapping[str, str], inputs: Mapping[str, str], domain: str | None) -> list[Warning_]:
    """What looks odd, the weightiest first."""
    found: list[Warning_] = []
    if _is_header(values):
        found.append(Warning_(HEADER_REPEATED, "This looks like the header, repeated inside of the list."))
    found += company_warnings(values, domain)
    first_name, last_name = inputs["first_name"], inputs["last_name"]
    if first_name and last_name.casefold() in _GIVEN_NAMES and first_name.casefold() not in _GIVEN_NAMES:
        text = f"“{short(first_name)}” as first name and “{short(last_name)}” as last name may be swapped."
        found.append(Warning_(SWAPPED_NAMES, text))
    placeholders = [value for value in inputs.values() if value.casefold() in _PLACEHOLDERS]
    if placeholders:
        found.append(Warning_(PLACEHOLDER, f"“{placeholders[0]}” looks like a stand-in for a missing value."))
    return found


def _is_header(values: Mapping[str, str]) -> bool:
    """Each cell with something in it is a name of its own column."""
    return all(
        values[field.name].casefold() in (*field.names, field.label.casefold(), "") for field in _FIELDS
    )


EMAIL_SEARCH = Operation(
    name="email-search",
    label="Find emails",
    noun="email found",
    sentence="Find the work address of a person from their name and company.",
    icon="at-sign",
    fields=_FIELDS,
    check=check,
    needs=(("first_name", "last_name", "full_name"), ("domain", "company")),
    asked_labels={"company": "Domain or company"},  # one field of Icypeas takes either
    price=Decimal(1),
    price_source="Icypeas' price list and API documentation, looked up in November 2026",
    charged_when_empty=False,
    single_route="email-search",
    bulk_route="bulk-search",
    result_columns=(
        ResultColumn("email", "Email"),
        ResultColumn("certainty", "Certainty"),
        ResultColumn("all_emails", "All emails"),
        ResultColumn("mx_provider", "Mail provider"),
    ),
    good_verdicts=("found",),
    answer_column="email",
    answer_noun="email",
    first_hit_rate=Decimal("0.60"),
    look_up_label="Find an email",
    verb="Find",
)

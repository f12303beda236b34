"""Find e-mail addresses: a person's name and their company in, an address out."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from nameparser import HumanName

from enrichment import normal_forms

from .base import Checked, InputField, Operation, ResultColumn, Skipped, Warning_

NO_NAME = "no_name"
NO_COMPANY = "no_company"
FREE_MAIL_DOMAIN = "free_mail_domain"
LINK_PAGE = "link_page"
UNREADABLE_DOMAIN = "unreadable_domain"
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
    InputField(
        name="domain",
        label="Domain or website",
        names=(
            "domain",
            "company domain",
            "domain name",
            "email domain",
            "website",
            "web site",
            "website url",
            "company website",
            "company url",
            "web",
            "webpage",
            "homepage",
            "url",
            "site",
            "webseite",
            "internetseite",
            "internetadresse",
            "domäne",
            "domaine",
            "site web",
            "site internet",
            "dominio",
            "sitio web",
            "página web",
            "sito",
            "sito web",
            "domein",
            "bedrijfswebsite",
        ),
        hint="Gives better results than the company's name, and wins where a row has both.",
    ),
    InputField(
        name="company",
        label="Company name",
        names=(
            "company",
            "company name",
            "account",
            "account name",
            "organisation",
            "organization",
            "organisation name",
            "organization name",
            "employer",
            "business name",
            "firma",
            "firmenname",
            "unternehmen",
            "arbeitgeber",
            "société",
            "entreprise",
            "nom de l'entreprise",
            "raison sociale",
            "empresa",
            "compañía",
            "nombre de la empresa",
            "azienda",
            "società",
            "ragione sociale",
            "bedrijf",
            "bedrijfsnaam",
            "organisatie",
        ),
        hint="Used where a row has no domain.",
    ),
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
    if not (values["domain"] or values["company"]):
        return Skipped(NO_COMPANY, "There is neither a company nor a domain in this row.")
    domain = normal_forms.domain(values["domain"]) if values["domain"] else None
    inputs = {
        "first_name": first_name,
        "last_name": last_name,
        "company": domain or values["company"] or values["domain"],
    }
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
    found = []
    if _is_header(values):
        found.append(Warning_(HEADER_REPEATED, "This looks like the header, repeated inside of the list."))
    if domain and normal_forms.registered_domain(domain) in normal_forms.FREE_MAIL_DOMAINS:
        found.append(
            Warning_(FREE_MAIL_DOMAIN, f"{domain} is a free-mail provider, not the company's domain.")
        )
    elif domain and normal_forms.registered_domain(domain) in normal_forms.LINK_PAGE_DOMAINS:
        found.append(
            Warning_(LINK_PAGE, f"{domain} is a site with pages about companies, not the company's domain.")
        )
    elif values["domain"] and not domain:
        used = (
            "the company's name is asked instead" if values["company"] else "it is asked as a company's name"
        )
        found.append(Warning_(UNREADABLE_DOMAIN, f"“{_short(values['domain'])}” is not a domain, so {used}."))
    first_name, last_name = inputs["first_name"], inputs["last_name"]
    if first_name and last_name.casefold() in _GIVEN_NAMES and first_name.casefold() not in _GIVEN_NAMES:
        text = f"“{_short(first_name)}” as first name and “{_short(last_name)}” as last name may be swapped."
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


def _short(value: str) -> str:
    return value if len(value) <= 60 else value[:59] + "…"


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
)

"""What several operations ask about a person: the two parts of a name, or a full name that is divided."""

from __future__ import annotations

from collections.abc import Mapping

from nameparser import HumanName

from enrichment import normal_forms

from .base import InputField, Warning_, short

SWAPPED_NAMES = "swapped_names"
HEADER_REPEATED = "header_repeated"
PLACEHOLDER = "placeholder"

NAME_FIELDS = (
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
)

# Given names that are hardly ever family names. Only such a name in the place of the last name, beside a first
# name that is none of them, is called swapped: a list with "Martin" or "Thomas" would accuse half of France.
_GIVEN_NAMES = frozenset(
    """
    Alessandro Alexandra Alice Amélie Ana Andrea Andreas Anita Anke Anna Anne Antje Barbara Beatriz
    Benjamin Birgit Camille Carla Carlos Carmen Caroline Céline Charlotte Chiara Christina Christine
    Christopher Claire Claudia Cristina Daniela Diana Elena Elisabeth Elizabeth Emily Emma Eva
    Federica Fernando Florian Francesca Francesco Françoise Gabriele Giovanni Giulia Giuseppe Hannah
    Heike Helena Ingrid Isabel Isabella Isabelle Jennifer Jessica Joanna Johanna Jonathan Jörg José
    Juan Julia Julie Jürgen Karen Karin Katarzyna Katharina Kathrin Katrin Kevin Laura Léa Lena
    Linda Lisa Luca Lucía Lukas Magdalena Małgorzata Manon Manuela Marco Margaret María Maria Marie
    Marina Markus Marta Martina Mary Matteo Matthias Melanie Michelle Miguel Mónica Monika Nathalie
    Nicole Olga Oliver Patricia Paula Petra Philippe Pilar Rachel Rebecca Renate Sabine Sandra Sanne
    Sara Sarah Sebastian Silvia Sofia Sofía Sophia Sophie Stefan Stefanie Stéphane Stephanie Susan
    Susanne Tatiana Teresa Tobias Tomasz Uwe Valentina Valérie Veronika Victoria Virginie Wolfgang
    Yvonne Zoé
    """.casefold().split()
)
_PLACEHOLDERS = frozenset(
    ("n/a", "n.a.", "na", "#n/a", "none", "null", "unknown", "empty", "tbd", "test", "xxx", "(self)")
)


def name_parts(values: Mapping[str, str]) -> tuple[str, str]:
    """First and last name of cleaned values; a full name is divided where one of the two is missing."""
    first_name, last_name, full_name = values["first_name"], values["last_name"], values["full_name"]
    if full_name and not (first_name and last_name):
        parsed = HumanName(full_name)
        if parsed.first or parsed.last:
            first_name, last_name = first_name or parsed.first, last_name or parsed.last
        else:
            # Only what the parser takes for a title ("Dr. Prof."): better asked than thrown away.
            last_name = last_name or full_name
    return normal_forms.text(first_name), normal_forms.text(last_name)


def header_warnings(fields: tuple[InputField, ...], values: Mapping[str, str]) -> list[Warning_]:
    """A row in which each cell with something in it is a name of its own column."""
    is_header = all(
        values[field.name].casefold() in (*field.names, field.label.casefold(), "") for field in fields
    )
    text = "This looks like the header, repeated inside of the list."
    return [Warning_(HEADER_REPEATED, text)] if is_header else []


def name_warnings(inputs: Mapping[str, str]) -> list[Warning_]:
    """Names that may have changed places, and stand-ins for a missing value."""
    found = []
    first_name, last_name = inputs["first_name"], inputs["last_name"]
    if first_name and last_name.casefold() in _GIVEN_NAMES and first_name.casefold() not in _GIVEN_NAMES:
        text = f"“{short(first_name)}” as first name and “{short(last_name)}” as last name may be swapped."
        found.append(Warning_(SWAPPED_NAMES, text))
    placeholders = [value for value in inputs.values() if value.casefold() in _PLACEHOLDERS]
    if placeholders:
        found.append(Warning_(PLACEHOLDER, f"“{placeholders[0]}” looks like a stand-in for a missing value."))
    return found

"""Find profile pages: a person's name and their company or job title in, the address of their page out."""

from __future__ import annotations

from collections.abc import Mapping

from enrichment import normal_forms
from enrichment.providers.icypeas.direct import Layout, page_in, person

from .base import Checked, InputField, Operation, ResultColumn, Skipped
from .company import COMPANY_FIELDS, company_of, company_warnings
from .person import NAME_FIELDS, header_warnings, name_parts, name_warnings

HALF_A_NAME = "half_a_name"
NO_COMPANY_OR_TITLE = "no_company_or_title"

_FIELDS = (
    *NAME_FIELDS,
    *COMPANY_FIELDS,
    InputField(
        name="job_title",
        label="Job title",
        names=(
            "job title",
            "title",
            "position",
            "role",
            "job",
            "function",
            "jobtitel",
            "funktion",
            "berufsbezeichnung",
            "poste",
            "fonction",
            "intitulé du poste",
            "cargo",
            "puesto",
            "ruolo",
            "qualifica",
            "functie",
        ),
        hint="Used beside the company, or where there is none.",
    ),
)


def check(fields: Mapping[str, str]) -> Checked | Skipped:
    """A row with both parts of a name, and a company or a job title, is asked.

    The question has `first_name`, `last_name`, and `company` (a domain or a name) and `job_title`, one of which may be "".
    """
    values = {field.name: normal_forms.text(fields.get(field.name, "")) for field in _FIELDS}
    first_name, last_name = name_parts(values)
    if not (first_name and last_name):
        return Skipped(HALF_A_NAME, "A profile is found by first and last name; this row has not both.")
    company, domain = company_of(values)
    if not (company or values["job_title"]):
        return Skipped(
            NO_COMPANY_OR_TITLE, "There is neither a company, nor a domain, nor a job title in this row."
        )
    names = {"first_name": first_name, "last_name": last_name}
    warnings = (
        *header_warnings(_FIELDS, values),
        *company_warnings(values, domain),
        *name_warnings(names),
    )
    return Checked({**names, "company": company, "job_title": values["job_title"]}, warnings)


FIND_PROFILE = Operation(
    name="find-profile",
    label="Find profile pages",
    noun="profile page found",
    sentence="Find the profile page of a person from their name and company or job title.",
    icon="contact",
    fields=_FIELDS,
    check=check,
    needs=(
        ("first_name", "full_name"),
        ("last_name", "full_name"),
        ("domain", "company", "job_title"),
    ),
    asked_labels={"company": "Domain or company"},
    price=None,
    price_source="Icypeas publishes no price of a URL search; your plan names it",
    charged_when_empty=False,
    single_route="url-search-profile",
    bulk_route="url-search",
    direct_rows=50,
    result_columns=(ResultColumn("profile_url", "Profile page"),),
    wire=Layout(
        one=person,
        many=lambda rows: {"type": "profile", "data": [person(row) for row in rows]},
        read=page_in("profile_url"),
    ),
    scopes={
        "find-profile:single": "find one person's profile address",
        "find-profile:bulk": "find profile addresses for a list",
    },
    words=("find", "profile address", "profile addresses"),
    series="Person profiles",
    place=5,
    good_verdicts=("found",),
    answer_column="profile_url",
    answer_noun="profile page",
    look_up_label="Find a profile",
    verb="Find",
)

"""Find e-mail addresses: a person's name and their company in, an address out."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from enrichment import normal_forms
from enrichment.providers.icypeas.payloads import Rows, judge_search

from .base import Checked, Operation, ResultColumn, Skipped
from .company import COMPANY_FIELDS, NO_COMPANY, company_of, company_warnings
from .person import NAME_FIELDS, header_warnings, name_parts, name_warnings

NO_NAME = "no_name"

_FIELDS = (*NAME_FIELDS, *COMPANY_FIELDS)


def check(fields: Mapping[str, str]) -> Checked | Skipped:
    """A row with one part of a name, and a domain or a company, is asked; the company's own domain wins over its name.

    Fields: `first_name`, `last_name`, `full_name`, `domain`, `company`, each may be absent or "".
    The question has `first_name`, `last_name` ("" when unknown) and `company`, which is the domain or the name.
    """
    values = {field.name: normal_forms.text(fields.get(field.name, "")) for field in _FIELDS}
    first_name, last_name = name_parts(values)
    if not (first_name or last_name):
        return Skipped(NO_NAME, "There is neither a first nor a last name in this row.")
    company, domain = company_of(values)
    if not company:
        return NO_COMPANY
    inputs = {"first_name": first_name, "last_name": last_name, "company": company}
    warnings = (
        *header_warnings(_FIELDS, values),
        *company_warnings(values, domain),
        *name_warnings(inputs),
    )
    return Checked(inputs, warnings)


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
    wire=Rows(
        (("firstname", "first_name"), ("lastname", "last_name"), ("domainOrCompany", "company")), judge_search
    ),
    scopes={
        "email-search:single": "find one person's e-mail",
        "email-search:bulk": "find e-mails for a list",
    },
    words=("find", "email", "emails"),
    series="Find emails",
    place=1,
    good_verdicts=("found",),
    answer_column="email",
    answer_noun="email",
    first_hit_rate=Decimal("0.60"),
    look_up_label="Find an email",
    verb="Find",
)

"""Scan a domain: a company in, its role addresses (info@, sales@, jobs@) out."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from enrichment import normal_forms
from enrichment.providers.icypeas.payloads import Rows, judge_search

from .base import Checked, Operation, ResultColumn, Skipped
from .company import COMPANY_FIELDS, NO_COMPANY, company_of, company_warnings


def check(fields: Mapping[str, str]) -> Checked | Skipped:
    """A row with a domain or a company is asked; the company's own domain wins. The question has `company`, one of the two."""
    values = {field.name: normal_forms.text(fields.get(field.name, "")) for field in COMPANY_FIELDS}
    company, domain = company_of(values)
    if not company:
        return NO_COMPANY
    return Checked({"company": company}, company_warnings(values, domain))


DOMAIN_SEARCH = Operation(
    name="domain-search",
    label="Scan domains",
    noun="domain with an email",
    sentence="Find the role addresses of companies, such as info@ or sales@.",
    icon="globe",
    fields=COMPANY_FIELDS,
    check=check,
    needs=(("domain", "company"),),
    asked_labels={"company": "Domain or company"},  # one field of Icypeas takes either
    price=Decimal(1),
    price_source="Two integrators' price lists of 2026; whether an empty scan is free is not stated, so at most 1",
    charged_when_empty=False,
    single_route="domain-search",
    bulk_route="bulk-search",
    result_columns=(
        ResultColumn("email", "Email"),
        ResultColumn("certainty", "Certainty"),
        ResultColumn("all_emails", "All emails"),
        ResultColumn("mx_provider", "Mail provider"),
    ),
    wire=Rows((("domainOrCompany", "company"),), judge_search),
    scopes={
        "domain-search:single": "scan one domain for role addresses",
        "domain-search:bulk": "scan a list of domains",
    },
    words=("scan", "domain", "domains"),
    place=3,
    good_verdicts=("found",),
    answer_column="email",
    answer_noun="email",
    look_up_label="Scan a domain",
    verb="Scan",
)

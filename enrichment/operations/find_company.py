"""Find company pages: a domain or a company's name in, the address of its page out."""

from __future__ import annotations

from enrichment.providers.icypeas.direct import Layout, company, page_in

from .base import Operation, ResultColumn
from .company import COMPANY_FIELDS
from .domain_search import check

FIND_COMPANY = Operation(
    name="find-company",
    label="Find company pages",
    noun="company page found",
    sentence="Find the profile page of a company from its domain or name.",
    icon="building",
    fields=COMPANY_FIELDS,
    check=check,
    needs=(("domain", "company"),),
    asked_labels={"company": "Domain or company"},
    price=None,
    price_source="Icypeas publishes no price of a URL search; your plan names it",
    charged_when_empty=False,
    single_route="url-search-company",
    bulk_route="url-search",
    direct_rows=50,
    result_columns=(ResultColumn("company_url", "Company page"),),
    wire=Layout(
        one=company,
        many=lambda rows: {"type": "company", "data": [company(row) for row in rows]},
        read=page_in("company_url"),
    ),
    scopes={
        "find-company:single": "find one company's page",
        "find-company:bulk": "find company pages for a list",
    },
    words=("find", "company page", "company pages"),
    series="Company profiles",
    place=6,
    good_verdicts=("found",),
    answer_column="company_url",
    answer_noun="company page",
    look_up_label="Find a company page",
    verb="Find",
)

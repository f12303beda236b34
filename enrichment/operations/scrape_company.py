"""Read company pages: the address of a company's page in, what the page says out."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from enrichment import normal_forms
from enrichment.providers.icypeas.direct import Layout, read_company

from .base import Checked, InputField, Operation, ResultColumn, Skipped
from .pages import check_page

COMPANY_PAGE_FIELD = InputField(
    name="company_url",
    label="Company page",
    names=(
        "company page",
        "company linkedin",
        "company linkedin url",
        "linkedin company",
        "linkedin company url",
        "linkedin company page",
        "company profile",
        "company profile url",
        "icypeas company url",
        "linkedin",
        "linkedin url",
        "unternehmensseite",
        "linkedin unternehmen",
        "page entreprise",
        "page linkedin",
        "página de empresa",
        "pagina aziendale",
        "bedrijfspagina",
    ),
    is_required=True,
    hint="One address of a page a row, such as linkedin.com/company/…",
)


def check(fields: Mapping[str, str]) -> Checked | Skipped:
    """A row with the address of a page that is not a person's is asked."""
    return check_page(fields, "company_url", normal_forms.COMPANY)


SCRAPE_COMPANY = Operation(
    name="scrape-company",
    label="Read company pages",
    noun="company page read",
    sentence="Read website, industry, size, revenue and place from the profile pages of companies.",
    icon="building-2",
    fields=(COMPANY_PAGE_FIELD,),
    check=check,
    needs=(("company_url",),),
    price=Decimal("0.5"),
    price_source="Two integrators' price lists of 2026",
    charged_when_empty=False,
    single_route="scrape-company",
    bulk_route="scrape",
    direct_rows=50,
    result_columns=(
        ResultColumn("name", "Company"),
        ResultColumn("website", "Website"),
        ResultColumn("domain", "Domain"),
        ResultColumn("industry", "Industry"),
        ResultColumn("type", "Type"),
        ResultColumn("employees", "Employees"),
        ResultColumn("growth", "Growth of staff"),
        ResultColumn("revenue", "Estimated revenue"),
        ResultColumn("founded", "Founded"),
        ResultColumn("city", "City"),
        ResultColumn("country", "Country"),
        ResultColumn("specialties", "Specialties"),
        ResultColumn("description", "Description"),
        ResultColumn("company_url", "Company page"),
    ),
    wire=Layout(
        one=lambda row: {"url": row.get("company_url", "")},
        many=lambda rows: {"type": "company", "data": [row.get("company_url", "") for row in rows]},
        read=read_company,
        takes_user=True,
    ),
    scopes={
        "scrape-company:single": "read one company's profile",
        "scrape-company:bulk": "read a list of company profiles",
    },
    words=("read", "company profile", "company profiles"),
    series="Company profiles",
    place=8,
    good_verdicts=("found",),
    answer_column="name",
    answer_noun="company",
    first_hit_rate=Decimal("0.8"),
    look_up_label="Read a company page",
    verb="Read",
)

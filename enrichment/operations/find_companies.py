"""Search companies: filters in, companies with website, size, industry and page out."""

from __future__ import annotations

from decimal import Decimal

from enrichment.providers.icypeas.leads import Search, read_company

from .base import CHOICES, COUNTRY_CODE, GROWTH, RANGE, WITHOUT_SPACE, Filter, Operation, ResultColumn
from .leads import LEADS, LEADS_TITLE, PLACE_FIELDS, check

FIND_COMPANIES = Operation(
    name="find-companies",
    label="Search companies",
    noun="lead",
    sentence="Search companies by place, size, industry and more. Counting is free; each company that you fetch costs.",
    icon="factory",
    fields=PLACE_FIELDS,
    check=check,
    needs=(("search",), ("place",)),
    price=Decimal("0.02"),
    price_source="Icypeas' API documentation, looked up in November 2026: per lead fetched, counting is free",
    charged_when_empty=False,
    single_route="find-companies",
    bulk_route="find-companies",
    direct_rows=50,
    count_route="find-companies-count",
    filters=(
        Filter(
            "location",
            "Place",
            hint="Two-letter codes of countries find the most, such as FR and DE; cities by name.",
            comma_parted=COUNTRY_CODE,
        ),
        Filter("headcount", "Employees", kind=RANGE),
        Filter(
            "industry",
            "Industry",
            hint="The exact names of the directory, such as Software Development; free text belongs to the keyword.",
        ),
        Filter("keyword", "Keyword", hint="Anywhere on the page of the company."),
        Filter(
            "type",
            "Type",
            kind=CHOICES,
            choices=(
                "Privately Held",
                "Public Company",
                "Partnership",
                "Sole Proprietorship",
                "Self-Employed",
                "Nonprofit",
                "Educational Institution",
                "Government Agency",
            ),
        ),
        Filter("name", "Name", is_more=True),
        Filter("domain", "Domain", is_more=True, comma_parted=WITHOUT_SPACE),
        Filter("revenue", "Revenue", kind=RANGE, is_more=True, hint="In full, such as 5000000."),
        Filter("headcountGrowth", "Growth of staff in six months, percent", kind=GROWTH, is_more=True),
        Filter(
            "companyId",
            "Company by its page",
            hint="Domain, number, page address or its last part.",
            is_more=True,
            comma_parted=WITHOUT_SPACE,
        ),
        Filter("lid", "Last part of the page's address", is_more=True, comma_parted=WITHOUT_SPACE),
        Filter("urn", "Number of the page", is_more=True, comma_parted=WITHOUT_SPACE),
    ),
    result_columns=(
        ResultColumn("company", "Company"),
        ResultColumn("website", "Website"),
        ResultColumn("domain", "Domain"),
        ResultColumn("industry", "Industry"),
        ResultColumn("employees", "Employees"),
        ResultColumn("revenue", "Estimated revenue"),
        ResultColumn("location", "Place"),
        ResultColumn("description", "Description"),
        ResultColumn("company_url", "Company page"),
    ),
    wire=Search(read_company),
    scopes=LEADS,
    words=("search", "company", "companies"),
    scope_title=LEADS_TITLE,
    place=10,
    good_verdicts=("found",),
    found_label="Fetched",
    answer_column="company",
    answer_noun="lead",
    first_hit_rate=Decimal(1),
)

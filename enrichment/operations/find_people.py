"""Search people: filters in, people with job, company and profile page out. The list has no e-mail addresses."""

from __future__ import annotations

from decimal import Decimal

from enrichment.providers.icypeas.leads import Search, read_person

from .base import COUNTRY_CODE, RANGE, WITHOUT_SPACE, Filter, Operation, ResultColumn
from .leads import LEADS, LEADS_TITLE, PLACE_FIELDS, check

_COUNTRIES = "Two-letter codes of countries find the most, such as FR and DE; cities by name."

FIND_PEOPLE = Operation(
    name="find-people",
    label="Search people",
    noun="lead",
    sentence="Search people by job title, place, company and more. Counting is free; each lead that you fetch costs.",
    icon="users",
    fields=PLACE_FIELDS,
    check=check,
    needs=(("search",), ("place",)),
    price=Decimal("0.02"),
    price_source="Icypeas' API documentation, looked up in November 2026: per lead fetched, counting is free",
    charged_when_empty=False,
    single_route="find-people",
    bulk_route="find-people",
    direct_rows=50,
    count_route="find-people-count",
    filters=(
        Filter("currentJobTitle", "Job title"),
        Filter("location", "Lives or works in", hint=_COUNTRIES, comma_parted=COUNTRY_CODE),
        Filter("currentCompanyName", "Company"),
        Filter(
            "currentCompanyWebsite",
            "Company's website",
            hint="Domains, such as loxwell.example.",
            comma_parted=WITHOUT_SPACE,
        ),
        Filter("currentCompany.headcount", "Employees of the company", kind=RANGE),
        Filter(
            "currentCompany.industry",
            "Industry of the company",
            hint="The exact names of the directory, such as Software Development; free text belongs to the keyword.",
        ),
        Filter("keyword", "Keyword", hint="Anywhere on the page of the person."),
        Filter("skills", "Skills", is_more=True),
        Filter("languages", "Languages", is_more=True),
        Filter("firstname", "First name", is_more=True),
        Filter("lastname", "Last name", is_more=True),
        # Not in the documentation as it was seen, but in use: where the person lives and not where the company sits.
        Filter("profileLocation", "Lives in", hint=_COUNTRIES, is_more=True, comma_parted=COUNTRY_CODE),
        Filter("school", "School", is_more=True),
        Filter("pastJobTitle", "Earlier job title", is_more=True),
        Filter("pastCompanyName", "Earlier company", is_more=True),
        Filter("pastCompanyWebsite", "Earlier company's website", is_more=True, comma_parted=WITHOUT_SPACE),
        Filter("currentCompany.keyword", "Keyword of the company", is_more=True),
        Filter(
            "currentCompanyId",
            "Company by its page",
            hint="Domain, number, page address or its last part.",
            is_more=True,
            comma_parted=WITHOUT_SPACE,
        ),
        Filter("pastCompanyId", "Earlier company by its page", is_more=True, comma_parted=WITHOUT_SPACE),
        Filter(
            "currentCompanyUrn",
            "Company's number",
            hint="The numeric id of its page.",
            is_more=True,
            comma_parted=WITHOUT_SPACE,
        ),
        Filter("pastCompanyUrn", "Earlier company's number", is_more=True, comma_parted=WITHOUT_SPACE),
    ),
    result_columns=(
        ResultColumn("full_name", "Name"),
        ResultColumn("first_name", "First name"),
        ResultColumn("last_name", "Last name"),
        ResultColumn("headline", "Headline"),
        ResultColumn("job_title", "Job title"),
        ResultColumn("since", "There since"),
        ResultColumn("location", "Place"),
        ResultColumn("profile_url", "Profile page"),
        ResultColumn("company", "Company"),
        ResultColumn("domain", "Company's domain"),
        ResultColumn("company_url", "Company page"),
        ResultColumn("industry", "Industry"),
        ResultColumn("employees", "Employees"),
        ResultColumn("company_location", "Company's place"),
    ),
    wire=Search(read_person),
    scopes=LEADS,
    words=("search", "person", "people"),
    scope_title=LEADS_TITLE,
    place=9,
    good_verdicts=("found",),
    found_label="Fetched",
    answer_column="full_name",
    answer_noun="lead",
    first_hit_rate=Decimal(1),
)

import ast
from decimal import Decimal
from pathlib import Path

import pytest

from enrichment import operations
from enrichment.operations.base import Checked, Skipped, digest
from keys import scopes, use

SEARCH = operations.get("email-search")
VERIFICATION = operations.get("email-verification")
SCAN = operations.get("domain-search")


def codes(checked):
    assert isinstance(checked, Checked)
    return [warning.code for warning in checked.warnings]


def test_get_lists_the_operations_when_the_name_is_unknown():
    with pytest.raises(
        operations.UnknownOperationError,
        match="email-search, email-verification, domain-search, reverse-lookup, find-profile",
    ):
        operations.get("email-serch")


def test_operations_know_price_and_scope():
    assert (SEARCH.price, SEARCH.charged_when_empty, SEARCH.scope("bulk")) == (
        Decimal(1),
        False,
        "email-search:bulk",
    )
    assert (VERIFICATION.price, VERIFICATION.charged_when_empty) == (Decimal("0.1"), True)


@pytest.mark.parametrize("operation", operations.OPERATIONS.values(), ids=lambda operation: operation.name)
def test_operations_need_only_fields_that_they_have(operation):
    names = {field.name for field in operation.fields}

    assert operation.needs
    assert {name for group in operation.needs for name in group} <= names
    assert {field.name for field in operation.fields if field.is_required} <= names


def test_search_asks_for_the_domain_when_there_is_a_company_too():
    checked = SEARCH.check(
        {
            "first_name": " Amélie ",
            "last_name": "Roux",
            "domain": "https://www.Loxwell.example/",
            "company": "Loxwell",
        }
    )

    assert checked == Checked({"first_name": "Amélie", "last_name": "Roux", "company": "loxwell.example"})


def test_search_asks_for_the_company_when_there_is_no_domain():
    checked = SEARCH.check({"last_name": "Roux", "domain": "-", "company": "Loxwell  SAS"})

    assert checked == Checked({"first_name": "", "last_name": "Roux", "company": "Loxwell SAS"})


@pytest.mark.parametrize(
    ("fields", "first_name", "last_name"),
    [
        ({"full_name": "Amélie Roux"}, "Amélie", "Roux"),
        ({"full_name": "Roux, Amélie"}, "Amélie", "Roux"),
        ({"full_name": "Dr. Anna van den Berg"}, "Anna", "van den Berg"),
        ({"full_name": "Cher"}, "Cher", ""),
        ({"full_name": "Dr."}, "", "Dr."),
        ({"first_name": "Anna", "full_name": "Anna Roux"}, "Anna", "Roux"),
        ({"first_name": "A.", "last_name": "R.", "full_name": "Anna Roux"}, "A.", "R."),
    ],
)
def test_search_divides_the_full_name_when_a_part_is_missing(fields, first_name, last_name):
    checked = SEARCH.check({**fields, "company": "Loxwell"})

    assert isinstance(checked, Checked)
    assert (checked.inputs["first_name"], checked.inputs["last_name"]) == (first_name, last_name)


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({}, "no_name", "neither a first nor a last name"),
        (
            {"first_name": " ", "last_name": "-", "company": "Loxwell"},
            "no_name",
            "neither a first nor a last name",
        ),
        ({"first_name": "Anna"}, "no_company", "neither a company nor a domain"),
    ],
)
def test_search_skips_a_row_that_cannot_be_asked(fields, code, words):
    skipped = SEARCH.check(fields)

    assert isinstance(skipped, Skipped)
    assert skipped.code == code
    assert words in skipped.text


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"first_name": "Anna", "domain": "gmail.com"}, "free_mail_domain"),
        ({"first_name": "Anna", "domain": "https://de.linkedin.com/company/loxwell"}, "link_page"),
        ({"first_name": "Anna", "domain": "Loxwell SAS"}, "unreadable_domain"),
        ({"first_name": "Lindqvist", "last_name": "Sofia", "company": "Loxwell"}, "swapped_names"),
        ({"first_name": "First name", "last_name": "SURNAME", "company": "Company"}, "header_repeated"),
        ({"first_name": "Anna", "last_name": "Roux", "company": "n/a"}, "placeholder"),
    ],
)
def test_search_asks_an_odd_row_and_says_what_is_odd(fields, code):
    assert codes(SEARCH.check(fields)) == [code]


@pytest.mark.parametrize(
    "fields",
    [
        {"first_name": "Sofia", "last_name": "Lindqvist", "company": "Loxwell"},
        {"first_name": "Anna", "last_name": "Maria", "company": "Loxwell"},
        {"first_name": "Jean", "last_name": "Martin", "domain": "gmail.example"},
        {"first_name": "Company", "company": "Loxwell"},
    ],
)
def test_search_finds_nothing_odd_in_an_ordinary_row(fields):
    assert codes(SEARCH.check(fields)) == []


def test_search_uses_the_company_when_the_domain_cannot_be_read():
    checked = SEARCH.check({"first_name": "Anna", "domain": "see website", "company": "Loxwell"})

    assert isinstance(checked, Checked)
    assert checked.inputs["company"] == "Loxwell"


def test_search_makes_one_question_of_several_spellings():
    spellings = [
        {"first_name": "Amélie", "last_name": "Roux", "domain": "loxwell.example"},
        {"first_name": "AMÉLIE", "last_name": "roux\u200b", "domain": "http://www.Loxwell.example/team"},
        {"full_name": "Roux, Ame\u0301lie", "domain": "info@loxwell.example"},
    ]

    checked = [SEARCH.check(fields) for fields in spellings]

    assert len({digest(row.inputs) for row in checked if isinstance(row, Checked)}) == 1
    assert not any(isinstance(row, Skipped) for row in checked)


def test_verification_asks_for_the_bare_address():
    assert VERIFICATION.check({"email": "Anna <ANNA@Loxwell.example>"}) == Checked(
        {"email": "anna@loxwell.example"}
    )


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        (None, "no_email", "no email address"),
        (" - ", "no_email", "no email address"),
        ("Email", "bad_email", "It has no @-sign."),
        ("anna@loxwell", "bad_email", "cannot be an email address. The part after the @-sign"),
    ],
)
def test_verification_skips_what_cannot_be_an_address(address, code, words):
    skipped = VERIFICATION.check({} if address is None else {"email": address})

    assert isinstance(skipped, Skipped)
    assert skipped.code == code
    assert words in skipped.text


@pytest.mark.parametrize(
    ("fields", "asked", "warned"),
    [
        ({"domain": "https://www.Loxwell.example/about", "company": "Loxwell"}, "loxwell.example", []),
        ({"domain": "", "company": " Loxwell  SAS "}, "Loxwell SAS", []),
        ({"domain": "not a domain", "company": "Loxwell"}, "Loxwell", ["unreadable_domain"]),
        ({"domain": "gmail.com"}, "gmail.com", ["free_mail_domain"]),
        ({"domain": "linkedin.com/company/loxwell"}, "linkedin.com", ["link_page"]),
        ({"domain": "gmail.com", "company": "Loxwell"}, "Loxwell", ["free_mail_domain"]),
        ({"domain": "linkedin.com/company/loxwell", "company": "Loxwell"}, "Loxwell", ["link_page"]),
    ],
)
def test_scan_asks_for_the_domain_and_else_for_the_company(fields, asked, warned):
    checked = SCAN.check(fields)

    assert isinstance(checked, Checked)
    assert checked.inputs == {"company": asked}
    assert codes(checked) == warned


@pytest.mark.parametrize("operation", ["email-search", "domain-search", "find-profile", "find-company"])
@pytest.mark.parametrize("domain", ["ann@gmail.com", "https://fr.linkedin.com/company/loxwell"])
def test_name_of_the_company_is_asked_where_its_domain_is_somebody_elses(operation, domain):
    fields = {"first_name": "Ann", "last_name": "Lee", "domain": domain}
    with_name, without = (
        operations.get(operation).check({**fields, **more}) for more in ({"company": "Loxwell"}, {})
    )

    assert isinstance(with_name, Checked)
    assert isinstance(without, Checked)
    assert with_name.inputs["company"] == "Loxwell"
    assert "so the company's name is asked instead." in with_name.warnings[0].text
    assert without.inputs["company"].endswith(".com")
    assert without.warnings[0].text.endswith("not the company's domain.")


def test_scan_skips_a_row_without_domain_and_company():
    assert SCAN.check({"domain": " ", "company": "-"}) == Skipped(
        "no_company", "There is neither a company nor a domain in this row."
    )


FIND_PROFILE = operations.get("find-profile")
READ_PROFILE = operations.get("scrape-profile")
READ_COMPANY = operations.get("scrape-company")


def test_profile_search_asks_with_both_names_and_a_company_or_a_title():
    told = {"full_name": "Amélie Roux", "job_title": "Head of  Sales"}

    assert FIND_PROFILE.check(told) == Checked(
        {"first_name": "Amélie", "last_name": "Roux", "company": "", "job_title": "Head of Sales"}
    )
    assert (
        FIND_PROFILE.check({**told, "domain": "www.loxwell.example"}).inputs["company"] == "loxwell.example"
    )


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"first_name": "Amélie", "company": "Loxwell"}, "half_a_name"),
        ({"last_name": "Roux", "job_title": "CFO"}, "half_a_name"),
        ({"first_name": "Amélie", "last_name": "Roux"}, "no_company_or_title"),
    ],
)
def test_profile_search_skips_what_icypeas_would_refuse(told, code):
    assert FIND_PROFILE.check(told).code == code


@pytest.mark.parametrize(
    "spelling",
    [
        "https://www.linkedin.com/in/amelie-roux",
        "linkedin.com/in/amelie-roux/",
        "http://fr.linkedin.com/in/amelie-roux?trk=people#top",
        " <https://LinkedIn.com//in/amelie-roux> ",
    ],
)
def test_spellings_of_a_page_are_one_question(spelling):
    assert READ_PROFILE.check({"profile_url": spelling}) == Checked(
        {"profile_url": "https://www.linkedin.com/in/amelie-roux"}
    )


@pytest.mark.parametrize(
    ("operation", "field", "value", "code"),
    [
        (READ_PROFILE, "profile_url", "", "no_page"),
        (READ_PROFILE, "profile_url", "Amélie Roux", "bad_page"),
        (READ_PROFILE, "profile_url", "https://www.linkedin.com/", "bad_page"),
        (READ_PROFILE, "profile_url", "https://www.linkedin.com/company/loxwell", "wrong_page"),
        (READ_COMPANY, "company_url", "https://www.linkedin.com/in/amelie-roux", "wrong_page"),
        (READ_COMPANY, "company_url", "ana@loxwell.example", "bad_page"),
    ],
)
def test_pages_that_cannot_be_read_are_skipped_with_the_reason(operation, field, value, code):
    assert operation.check({field: value}).code == code


def test_page_on_another_site_is_asked_with_a_warning():
    checked = READ_COMPANY.check({"company_url": "loxwell.example/about"})

    assert checked.inputs == {"company_url": "https://loxwell.example/about"}
    assert codes(checked) == ["other_site"]


def test_no_other_file_knows_an_operation_by_its_name():
    """Commands for demo and benchmarks, the sandbox and the table of routes aside; the overview shows one hit rate, and a
    migration keeps the words of its day."""
    root = Path(operations.__file__).parents[2]
    free = (
        "operations",
        "icypeas/sandbox",
        "icypeas/routes.py",
        "management",
        "chaos",
        "scale",
        "overview_page.py",
        "migrations",
    )
    found = {
        f"{path.relative_to(root)}: {node.value}"
        for package in ("config", "people", "keys", "enrichment")
        for path in (root / package).rglob("*.py")
        if not any(part in path.as_posix() for part in free)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in operations.OPERATIONS
    }

    assert found == set()


@pytest.mark.parametrize("operation", operations.OPERATIONS.values(), ids=lambda operation: operation.name)
def test_keys_are_told_what_an_operation_needs(operation):
    for mode in ("single", "bulk"):
        assert scopes.TITLES[operation.scope(mode)]
    assert use.operation_words(operation.name, 2) == f"{operation.words[0]} 2 {operation.words[2]}"


def test_workload_joins_a_series_that_there_is():
    with pytest.raises(ValueError, match="no series 'Cars'"):
        scopes.declare(scopes.Workload("x", "X", {"x:bulk": "x"}, ("x", "x", "x"), "Cars"))

    assert "x" not in scopes.WORKLOADS
    assert scopes.series_of("x") == len(scopes.SERIES)


@pytest.mark.parametrize(
    ("company", "asked"),
    [
        ("https://www.Loxwell.example/contact", "loxwell.example"),
        ("www.loxwell.example", "loxwell.example"),
        ("booking.com", "booking.com"),
        ("Node.js", "Node.js"),
        ("St. Gobain", "St. Gobain"),
        ("Bell & Hart, Inc.", "Bell & Hart, Inc."),
    ],
)
def test_website_in_the_column_of_names_is_asked_as_the_website(company, asked):
    checked = SEARCH.check({"last_name": "Roux", "company": company})

    assert checked.inputs["company"] == asked


def test_free_mail_provider_in_the_column_of_names_is_warned_of():
    checked = SEARCH.check({"last_name": "Roux", "company": "gmail.com"})

    assert [warning.code for warning in checked.warnings] == ["free_mail_domain"]

import pytest

from enrichment import column_mapping, operations
from enrichment.column_mapping import MappingError

SEARCH = operations.get("email-search")
VERIFICATION = operations.get("email-verification")


def chosen(operation, header, *rows):
    """Field to header name, for the fields that were recognised."""
    guesses = column_mapping.recognise(operation, header, rows)
    return {name: header[guess.column] for name, guess in guesses.items() if guess.column is not None}


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (["Given name", "Surname", "Company website"], ["Amélie", "Roux", "loxwell.example"]),
        (["Vorname", "Nachname", "Webseite"], ["Jürgen", "Brandtner", "https://kestrel.example/de"]),
        (["Prénom", "Nom", "Site web"], ["Amélie", "Roux", "www.loxwell.example"]),
        (["Nombre", "Apellidos", "Sitio web"], ["Ana", "Duarte", "loxwell.example"]),
        (["Nome", "Cognome", "Sito web"], ["Sofia", "Bianchi", "loxwell.example"]),
        (["Voornaam", "Achternaam", "Bedrijfswebsite"], ["Sanne", "de Vries", "loxwell.example"]),
        (["firstName", "LAST_NAME", "Company-Domain"], ["Anna1", "Roux2", "loxwell.example"]),
    ],
)
def test_recognise_knows_the_usual_headers(header, row):
    found = chosen(SEARCH, header, row)

    assert found == {"first_name": header[0], "last_name": header[1], "domain": header[2]}


@pytest.mark.parametrize(
    "name", ["E-Mail", "email_address", "E-Mail-Adresse", "Courriel", "Correo electrónico", "Work Email"]
)
def test_recognise_knows_the_usual_headers_of_addresses(name):
    assert chosen(VERIFICATION, ["Name", name], ["Anna", "anna@loxwell.example"]) == {"email": name}


@pytest.mark.parametrize(
    "name", ["Firma", "Société", "Empresa", "Azienda", "Bedrijf", "Account Name", "Organisation"]
)
def test_recognise_knows_the_usual_headers_of_companies(name):
    assert chosen(SEARCH, ["Full name", name], ["Anna Roux", "Loxwell"]) == {
        "full_name": "Full name",
        "company": name,
    }


def test_recognise_goes_by_the_values_when_the_header_says_nothing():
    guess = column_mapping.recognise(VERIFICATION, ["a", "b"], [["x", "anna@loxwell.example"]])["email"]

    assert guess.column == 1
    assert 0.5 <= guess.confidence < 0.99


def test_recognise_prefers_the_column_with_addresses_when_two_are_named_so():
    rows = [["yes", "anna@loxwell.example", ""], ["no", "b@loxwell.example", ""]]

    guess = column_mapping.recognise(VERIFICATION, ["Email opt-in", "Email", "Work email"], rows)["email"]

    assert (guess.column, guess.confidence) == (1, 0.99)
    assert 2 in guess.others


def test_recognise_is_unsure_when_the_values_do_not_fit_the_name():
    guess = column_mapping.recognise(VERIFICATION, ["Email"], [["later"], ["unknown"]])["email"]

    assert guess.column == 0
    assert guess.confidence < column_mapping.SURE


def test_recognise_gives_five_distinct_values_that_are_not_empty():
    rows = [[value] for value in ["", "Loxwell", "Loxwell", " ", "B", "C", "D", "E", "F"]]

    assert column_mapping.recognise(SEARCH, ["Company"], rows)["company"].values == [
        "Loxwell",
        "B",
        "C",
        "D",
        "E",
    ]


def test_recognise_names_the_column_that_looks_alike():
    guess = column_mapping.recognise(SEARCH, ["Organisation", "Organisation 2"], [["Loxwell", "Kestrel"]])[
        "company"
    ]

    assert (guess.column, guess.others) == (0, [1])


def test_recognise_takes_name_for_the_last_name_when_it_stands_beside_a_first_name():
    assert chosen(SEARCH, ["Vorname", "Name"], ["Jürgen", "Brandtner"]) == {
        "first_name": "Vorname",
        "last_name": "Name",
    }


def test_recognise_takes_a_lone_name_for_the_full_name():
    assert chosen(SEARCH, ["Nom", "Société"], ["Amélie Roux", "Loxwell"]) == {
        "full_name": "Nom",
        "company": "Société",
    }


def test_recognise_leaves_what_only_speaks_about_a_company():
    header = ["Last name", "Company city", "Company LinkedIn URL", "Company size"]

    found = chosen(SEARCH, header, ["Roux", "Paris", "https://www.linkedin.com/company/x", "11-50"])

    assert found == {"last_name": "Last name"}


def test_recognise_takes_short_rows():
    assert chosen(VERIFICATION, ["a", "Email"], ["x"], ["y", "anna@loxwell.example"]) == {"email": "Email"}


def test_parse_map_finds_columns_without_regard_to_case():
    mapping = column_mapping.parse_map(
        ["Last-Name=surname", "domain= Company website "], SEARCH, ["Surname", "Company website"]
    )

    assert mapping == {"last_name": 0, "domain": 1}


def test_parse_map_takes_the_exact_name_when_two_differ_in_case():
    assert column_mapping.parse_map(["email=a=B"], VERIFICATION, ["A=b", "a=B"]) == {"email": 1}


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["email"], "not of the form field=Column"),
        (["mail=Work email"], "no field “mail”. Its fields are: email"),
        (["email=Mail"], "no column “Mail”. Its columns are: Name, Work email"),
        (["email=Name", "email=Work email"], "given twice"),
        ([], "No column gives the email"),
    ],
)
def test_parse_map_says_what_is_wrong(pairs, words):
    with pytest.raises(MappingError, match=words):
        column_mapping.parse_map(pairs, VERIFICATION, ["Name", "Work email"])


def test_require_needed_names_the_group_when_none_of_it_has_a_column():
    with pytest.raises(MappingError, match="No column gives the domain or website or the company name"):
        column_mapping.require_needed(SEARCH, {"full_name": 0, "domain": None})


def test_apply_takes_cells_as_they_are_and_nothing_where_a_row_is_short():
    fields = column_mapping.apply({"first_name": 1, "last_name": 4, "company": None}, ["x", " Anna "])

    assert fields == {"first_name": " Anna ", "last_name": ""}

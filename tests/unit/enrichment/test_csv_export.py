import csv
import io
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrichment import csv_export, csv_import, operations
from enrichment.csv_export import ExportRow

SEARCH = operations.get("email-search")
VERIFICATION = operations.get("email-verification")
OUR_COLUMNS = [
    "icypeas_status",
    "icypeas_reason",
    "icypeas_email",
    "icypeas_certainty",
    "icypeas_all_emails",
    "icypeas_mx_provider",
    "icypeas_cached",
    "icypeas_credits",
    "icypeas_answered_at",
]


def layout_of(data):
    stream = io.BytesIO(data)
    layout = csv_import.sniff(stream)
    return layout.widened(csv_import.inspect(stream, layout).widest)


def export(data, preset, operation=VERIFICATION, **facts):
    """The file `data` with the same facts in each row."""
    layout = layout_of(data)
    rows = (
        ExportRow(cells, **{"status": "waiting", **facts})
        for cells in csv_import.read_rows(io.BytesIO(data), layout)
    )
    return b"".join(csv_export.write(rows, layout, operation, preset))


def test_columns_come_in_the_agreed_order():
    assert csv_export.columns(SEARCH) == OUR_COLUMNS


def test_columns_get_the_next_free_number_when_the_upload_has_the_name():
    names = csv_export.columns(VERIFICATION, ["ICYPEAS_Status ", "icypeas_reason", "icypeas_reason_2"])

    assert names[:3] == ["icypeas_status_2", "icypeas_reason_3", "icypeas_certainty"]


def test_raw_keeps_delimiter_line_end_cells_and_mark_of_the_upload():
    data = '\ufeffE-Mail;Notiz;E-Mail\r\n=1+1;"a\r\n;b";\r\n-;"""x"""\r\n'.encode()

    text = export(data, "raw").decode()

    ours = "waiting;;;;no;;\r\n"
    names = ";".join(csv_export.columns(VERIFICATION))
    assert text == (f'\ufeffE-Mail;Notiz;E-Mail;{names}\r\n=1+1;"a\r\n;b";;{ours}-;"""x""";;{ours}')


def test_raw_has_no_mark_when_the_upload_had_none():
    assert export("é\r1".encode("cp1252"), "raw").startswith("é,icypeas_status".encode())


def test_raw_leaves_the_header_of_added_columns_empty():
    assert export(b"a,b\n1,2,3\n", "raw").startswith(b"a,b,,icypeas_status,")


def test_raw_names_the_columns_when_the_upload_has_no_header():
    lines = export(b"anna@loxwell.example\n", "raw").decode().splitlines()

    assert lines[0].startswith("email,icypeas_status,")
    assert lines[1].startswith("anna@loxwell.example,waiting,")


def test_excel_marks_the_file_and_disarms_formulas_in_every_cell():
    data = b"=name;b;c;d;e;f\n=1;+49 30;-12.5;@x;\tx;plain\n"

    text = export(data, "excel", status="failed", reason="=HYPERLINK(1)").decode()

    assert text.startswith("\ufeff'=name;b;")
    assert "\n'=1;'+49 30;'-12.5;'@x;'\tx;plain;failed;'=HYPERLINK(1);" in text


def test_excel_disarms_a_cell_that_begins_with_a_carriage_return():
    text = export(b'a;b\n"\r=1";x\n', "excel").decode()

    assert '\n"\'\r=1";x;' in text


def test_count_formula_cells_counts_what_excel_disarms():
    assert csv_export.count_formula_cells(["=1", "+1", "-1", "@a", "\tb", "\rc", "\0d", " =1", "a", ""]) == 7


def test_crm_is_plain_comma_separated_utf8_whatever_the_upload_was():
    data = "\ufeffa;b\n=1;x,y\n".encode("utf-16-le")

    lines = export(data, "crm").split(b"\r\n")

    assert lines[0].startswith(b"a,b,icypeas_status,")
    assert lines[1] == b'=1,"x,y",waiting,,,,no,,'
    assert lines[2:] == [b""]


def test_own_cells_tell_result_credits_and_time_plainly():
    row = ExportRow(
        cells=[],
        status="found",
        result={
            "email": "a@loxwell.example",
            "certainty": "ultra_sure",
            "all_emails": [{"email": "a@loxwell.example"}, {"email": "b@loxwell.example"}],
            "not_a_column": "x",
        },
        is_cached=True,
        credits=Decimal("1E+1"),
        answered_at=datetime(2026, 11, 3, 9, 5, 7, 999, tzinfo=timezone(timedelta(hours=2))),
    )

    assert csv_export.own_cells(row, SEARCH) == [
        "found",
        "",
        "a@loxwell.example",
        "ultra_sure",
        "a@loxwell.example b@loxwell.example",
        "",
        "yes",
        "10",
        "2026-11-03T07:05:07Z",
    ]


@pytest.mark.parametrize(
    ("credits", "text"),
    [
        (None, ""),
        ("0", "0"),
        ("0.000", "0"),
        ("1.000", "1"),
        ("0.100", "0.1"),
        ("100", "100"),
        ("1E-7", "0.0000001"),
    ],
)
def test_credits_text_has_neither_exponent_nor_trailing_zeros(credits, text):
    assert csv_export.credits_text(None if credits is None else Decimal(credits)) == text


@pytest.mark.parametrize("status", csv_export.STATUSES)
def test_every_status_can_be_written(status):
    assert f",{status},".encode() in export(b"a,b\n1,2\n", "raw", status=status)


@pytest.mark.parametrize(
    ("preset", "row"),
    [
        ("word", ExportRow(["1", "2"], "found")),
        ("raw", ExportRow(["1", "2"], "maybe")),
        ("raw", ExportRow(["1", "2", "3"], "found")),
    ],
)
def test_write_fails_when_the_file_would_be_wrong(preset, row):
    with pytest.raises(ValueError, match=r"no preset|no status|3 cells"):
        list(csv_export.write([row], layout_of(b"a,b\n1,2\n"), SEARCH, preset))


def test_write_yields_pieces_when_there_are_many_rows():
    rows = (ExportRow(["1", "2"], "waiting") for _ in range(2_000))

    pieces = list(csv_export.write(rows, layout_of(b"a,b\n1,2\n"), VERIFICATION))

    assert len(pieces) > 3
    assert b"".join(pieces).count(b"\n") == 2_001


CELL = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
        st.sampled_from(list(" ;,\t|\"'\r\n=+-@é€")),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(
    table=st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=6)
    ),
    delimiter=st.sampled_from(list(csv_import.DELIMITERS)),
    newline=st.sampled_from(["\r\n", "\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"]),
)
def test_raw_export_parses_to_the_uploaded_cells(table, delimiter, newline, encoding):
    source = io.StringIO(newline="")
    writer = csv.writer(source, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerows([[f"header {n}" for n in range(len(table[0]))], *table])
    stream = io.BytesIO(source.getvalue().encode(encoding))
    layout = csv_import.sniff(
        stream, encoding=encoding.removesuffix("-sig"), delimiter=delimiter, has_header=True
    )
    answered_at = datetime(2026, 1, 2, tzinfo=UTC)
    rows = (
        ExportRow(cells, "found", credits=Decimal(1), answered_at=answered_at)
        for cells in csv_import.read_rows(stream, layout)
    )

    exported = b"".join(csv_export.write(rows, layout, SEARCH, "raw"))

    assert exported.startswith(b"\xef\xbb\xbf") is (encoding == "utf-8-sig")
    text = exported.decode("utf-8-sig")
    parsed = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    width = len(table[0])
    assert [row[:width] for row in parsed] == [layout.raw_header, *table]
    assert {tuple(row[width:]) for row in parsed[1:]} == {
        ("found", "", "", "", "", "", "no", "1", "2026-01-02T00:00:00Z")
    }

"""Nasty files, each as somebody will upload it one day."""

import csv
import gzip
import io
import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrichment import csv_import
from enrichment.csv_import import Inspection, Layout, Limits, UploadError

TABLE = "Prénom;Name;Note\r\nAmélie;Roux;schön\r\nJürgen;Brandtner;\r\n"
CELLS = [["Amélie", "Roux", "schön"], ["Jürgen", "Brandtner", ""]]


def read(data, **choices):
    """Layout (widened), inspection and rows of a file, the way an upload is read."""
    stream = io.BytesIO(data)
    layout = csv_import.sniff(stream, **choices)
    inspection = csv_import.inspect(stream, layout)
    layout = layout.widened(inspection.widest)
    return layout, inspection, list(csv_import.read_rows(stream, layout))


def refusal(data, **choices):
    with pytest.raises(UploadError) as caught:
        read(data, **choices)
    assert caught.value.message == str(caught.value)
    return caught.value


class Counted(io.BytesIO):
    """A stream that remembers the largest read."""

    largest = 0

    def read(self, size=-1):
        data = super().read(size)
        self.largest = max(self.largest, len(data) if size is None or size < 0 else size)
        return data


@pytest.mark.parametrize(
    ("data", "encoding", "label", "has_bom"),
    [
        (TABLE.encode(), "utf-8", "UTF-8", False),
        (TABLE.encode("utf-8-sig"), "utf-8", "UTF-8 with BOM", True),
        (b"\xff\xfe" + TABLE.encode("utf-16-le"), "utf-16-le", "UTF-16 (little endian) with BOM", True),
        (b"\xfe\xff" + TABLE.encode("utf-16-be"), "utf-16-be", "UTF-16 (big endian) with BOM", True),
        (TABLE.encode("utf-16-le"), "utf-16-le", "UTF-16 (little endian)", False),
        (TABLE.encode("utf-16-be"), "utf-16-be", "UTF-16 (big endian)", False),
        (TABLE.encode("cp1252"), "cp1252", "Windows-1252 (Western European)", False),
        (TABLE.encode("latin-1"), "cp1252", "Windows-1252 (Western European)", False),
    ],
)
def test_sniff_reads_the_same_cells_whatever_the_encoding(data, encoding, label, has_bom):
    layout, inspection, rows = read(data)

    assert (layout.encoding, layout.encoding_label, layout.has_bom) == (encoding, label, has_bom)
    assert (layout.delimiter, layout.newline, layout.header) == (";", "\r\n", ["Prénom", "Name", "Note"])
    assert rows == CELLS
    assert inspection == Inspection(rows=2, blank_lines=0, widest=3, first_wide_row=None)


def test_sniff_takes_the_chosen_encoding_when_the_rule_would_take_another():
    data = "Name,Ort\nŁukasz,Łódź\n".encode("cp1250")

    by_rule, chosen = read(data), read(data, encoding="cp1250")

    assert by_rule[2] == [["£ukasz", "£ódŸ"]]
    assert chosen[2] == [["Łukasz", "Łódź"]]
    assert chosen[0].encoding_label == "Windows-1250 (Central European)"


def test_latin1_reads_the_bytes_that_windows_1252_leaves_undefined_when_chosen():
    data = b"a,b\n1,\x81\x80\n"

    assert refusal(data).row == 2
    assert read(data, encoding="latin-1")[2] == [["1", "\x81€"]]


def test_sniff_decides_on_the_whole_file_when_its_head_is_ascii():
    data = b"name,note\n" + b"Anna,plain\n" * 20_000 + "Jörg,spät\n".encode("cp1252")

    layout, _, rows = read(data)

    assert layout.encoding == "cp1252"
    assert rows[-1] == ["Jörg", "spät"]


@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|"])
def test_sniff_finds_the_delimiter_when_quoted_cells_hold_all_of_them(delimiter):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    source = [["Name", "Note", "City"], ["A", "1;2,3\t4|5\n6;7;8\n,,,", "x"], ["B", "a,b;c", ""]]
    writer.writerows(source)

    layout, _, rows = read(stream.getvalue().encode())

    assert layout.delimiter == delimiter
    assert [layout.header, *rows] == source


def test_sniff_takes_the_delimiter_of_the_header_when_cells_hold_decimal_commas():
    layout, _, rows = read(b"name;amount;rate\nA;1,5;2,5\nB;3,5;4,5\n")

    assert layout.delimiter_label == "semicolon"
    assert rows[0] == ["A", "1,5", "2,5"]


def test_sniff_takes_the_chosen_delimiter():
    assert read(b"a;b,c\n1;2,3\n", delimiter=",")[2] == [["1;2", "3"]]


@pytest.mark.parametrize("newline", ["\r\n", "\n", "\r"])
def test_read_rows_keeps_line_breaks_in_quotes_whatever_ends_the_lines(newline):
    data = f'a,b{newline}1,"x\r\ny\rz\nw"{newline}2,{newline}'.encode()

    layout, _, rows = read(data)

    assert layout.newline == newline
    assert rows == [["1", "x\r\ny\rz\nw"], ["2", ""]]


def test_read_rows_pads_short_rows_and_widens_the_header_for_long_ones():
    layout, inspection, rows = read(b"a,b\n1\n1,2,3,4\n1,2,3\n")

    assert layout.header == ["a", "b", "column 3", "column 4"]
    assert layout.raw_header == ["a", "b", "", ""]
    assert rows == [["1", "", "", ""], ["1", "2", "3", "4"], ["1", "2", "3", ""]]
    assert (inspection.widest, inspection.first_wide_row) == (4, 3)


def test_inspect_counts_blank_lines_apart_from_lines_of_empty_cells():
    data = b"\na;b\n" + b"\n  \n\t\n" * 5 + b'1;2\n;\n"";""\n\n'

    _, inspection, rows = read(data)

    assert rows == [["1", "2"], ["", ""], ["", ""]]
    assert (inspection.rows, inspection.blank_lines) == (3, 17)


def test_a_line_of_tabs_is_a_row_when_the_tab_is_the_delimiter():
    _, inspection, rows = read(b"a\tb\n\t\n  \n1\t2\n")

    assert rows == [["", ""], ["1", "2"]]
    assert inspection.blank_lines == 1


def test_a_quoted_space_is_a_row_when_there_is_one_column():
    assert read(b'a\n""\n" "\n \nb\n')[2] == [[""], [" "], ["b"]]


def test_header_gets_distinct_names_and_keeps_its_cells():
    layout, _, _ = read(b"Email,Name,email,,Email 2, Name \n1,2,3,4,5,6\n")

    assert layout.raw_header == ["Email", "Name", "email", "", "Email 2", " Name "]
    assert layout.header == ["Email", "Name", "email 3", "column 4", "Email 2", "Name 2"]


def test_right_to_left_and_emoji_cells_come_through():
    _, _, rows = read("שם,🙂\nשלום\u200f,👩‍👩‍👧\n".encode())

    assert rows == [["שלום\u200f", "👩‍👩‍👧"]]


@pytest.mark.parametrize("count", [1, 3])
def test_a_pasted_list_of_addresses_has_no_header(count):
    text = "\n".join(f"Anna{n}@loxwell.example" for n in range(count))

    layout, inspection, rows = read(csv_import.as_stream(text).getvalue())

    assert (layout.has_header, layout.header) == (False, ["email"])
    assert inspection.rows == count
    assert rows[0] == ["Anna0@loxwell.example"]


def test_a_list_without_header_names_its_address_column_when_it_has_several():
    layout, _, rows = read(b"Anna;<anna@loxwell.example>;x\n")

    assert layout.header == ["column 1", "email", "column 3"]
    assert rows == [["Anna", "<anna@loxwell.example>", "x"]]


@pytest.mark.parametrize(("has_header", "rows"), [(True, [["c", "d"]]), (False, [["a", "b"], ["c", "d"]])])
def test_sniff_takes_the_persons_word_on_the_header(has_header, rows):
    layout, _, found = read(b"a,b\nc,d\n", has_header=has_header)

    assert found == rows
    assert layout.has_header is has_header


def test_layout_survives_json():
    layout = read(TABLE.encode("utf-16"))[0].widened(5)

    assert Layout.from_json(json.loads(json.dumps(layout.as_json()))) == layout


def zipped(name="list.csv"):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, "a,b\n1,2\n")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "words", "row", "column"),
    [
        (b"", "is empty", None, None),
        (b"\n \r\n\t\n", "blank lines", None, None),
        (b"\xef\xbb\xbf", "blank lines", None, None),
        (b"email;name\n", "no row below", 1, None),
        (b"\nemail;name\n\n  \n", "no row below", 2, None),
        (b"a,b\n1,2\n3,x\0y\n", "NUL byte", 3, 2),
        (b"a\0,b\n1,2\n3,xy\n", "NUL byte", 1, 1),
        ("a,b\n1,\0\n2,2\n3,3".encode("utf-16"), "NUL byte", 2, 2),
        (zipped(), "ZIP archive", None, None),
        (zipped("xl/workbook.xml"), "Excel workbook (.xlsx)", None, None),
        (gzip.compress(b"a,b\n1,2\n"), "gzip archive", None, None),
        (b"%PDF-1.7\n", "PDF document", None, None),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ".xls", None, None),
        ("a,b\n1,2".encode("utf-32"), "UTF-32", None, None),
        (b",".join([b"c"] * 300) + b"\n1\n", "300 columns", 1, 201),
        (b"a,b\n1,2\n" + b",".join([b"c"] * 201), "201 columns", 3, 201),
        (b"a,b\n" + b"," * 5_000_000, "more than 200 columns", 2, 201),
        (b'a,b\n1,"2\n3,4\n', "never closed", 2, 2),
        (b'a,b\n1,"2\n' + b"3,4\n" * 100_000, "not closed", 2, 2),
        (b'a,b\n\n1,"2" 3\n', "closing quotation mark", 3, 2),
        (b"a,b\n1,2\n3," + b"x" * 4_097, "longer than 4,096", 3, 2),
        (b"a,b\n1,2\n3," + b"x" * 200_000, "longer than 4,096", 3, 2),
        (b'a,b\n1,2\n3,"' + b"x\n" * 100_000 + b'"', "longer than 4,096", 3, 2),
        (b"x" * 3_000_000, "longer than 4,096", 1, 1),
        (b"a,b\n1,2\n3,\xed\xa0\x80\n", "not UTF-8", 3, 2),
        (b"\xef\xbb\xbfa,b\n1,\xe9\n", "not UTF-8", 2, 2),
        (b"a,b\n1,2\n\x8f,4\n", "not Windows-1252", 3, 1),
        ("a,b\nlong enough,1\n\ud800,4\n".encode("utf-16-le", "surrogatepass"), "not UTF-16", 3, 1),
        ("a,b\nlong enough,1\n".encode("utf-16-le") + b"\x41", "not UTF-16", 3, 1),
    ],
)
def test_a_file_that_is_no_list_is_refused_with_reason_and_place(data, words, row, column):
    error = refusal(data)

    assert words in error.message
    assert error.message.endswith(".")
    assert (error.row, error.column) == (row, column)


@pytest.mark.parametrize("tail", [b"\0", b"\x81"])
def test_sniff_refuses_what_is_no_text_however_late_it_comes(tail):
    with pytest.raises(UploadError) as caught:
        csv_import.sniff(io.BytesIO(b"a,b\n" + b"1,2\n" * 100_000 + b"3," + tail + b"\n"))

    assert (caught.value.row, caught.value.column) == (100_002, 2)


def test_a_pasted_lone_surrogate_is_refused_with_its_place():
    assert refusal(csv_import.as_stream("a,b\n1,\udc80\n").getvalue()).column == 2


def test_a_cell_of_exactly_the_longest_length_is_read():
    cell = '"' * 4_096

    assert read(f'a,b\n1,"{cell}{cell}"\n'.encode())[2] == [["1", cell]]


def test_limits_are_told_when_a_file_is_over_them():
    many = b"a,b\n" + b"1,2\n" * 5

    with pytest.raises(UploadError, match="larger than 0 MB"):
        csv_import.sniff(io.BytesIO(many), limits=Limits(max_bytes=10))
    with pytest.raises(UploadError, match="more than 4 rows"):
        csv_import.inspect(io.BytesIO(many), csv_import.sniff(io.BytesIO(many)), limits=Limits(max_rows=4))


@pytest.mark.parametrize("choice", [{"encoding": "klingon"}, {"delimiter": ""}, {"delimiter": "\n"}])
def test_a_choice_that_does_not_exist_is_refused(choice):
    assert "one" in refusal(b"a,b\n1,2\n", **choice).message


def test_a_large_file_is_read_in_small_pieces():
    stream = Counted(b"a,b\n" + b"1,some words of a note\n" * 100_000)

    layout = csv_import.sniff(stream)
    count = sum(1 for _ in csv_import.read_rows(stream, layout))

    assert count == 100_000
    assert stream.largest <= 256 * 1024


def test_lines_are_whole_when_pieces_end_anywhere(monkeypatch):
    text = 'a;b\r\n1;"x\r\ny"\r\n\r\nä;€\r\n'
    for size in range(1, 12):
        monkeypatch.setattr(csv_import, "_CHUNK_BYTES", size)
        for encoding in ("utf-8", "utf-16-le"):
            layout, inspection, rows = read(text.encode(encoding), encoding=encoding, delimiter=";")

            assert rows == [["1", "x\r\ny"], ["ä", "€"]]
            assert (layout.newline, inspection.blank_lines) == ("\r\n", 1)


CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
NASTY = st.text(st.one_of(CHARACTERS, st.sampled_from(list(" ;,\t|\"'\r\n=é€"))), max_size=8)


@settings(deadline=None)
@given(
    rows=st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(NASTY, min_size=width, max_size=width), min_size=1, max_size=6)
    ),
    delimiter=st.sampled_from(list(csv_import.DELIMITERS)),
    newline=st.sampled_from(["\r\n", "\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"]),
)
def test_read_rows_gives_back_any_cells_that_were_written(rows, delimiter, newline, encoding):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerows([[f"header {n}" for n in range(len(rows[0]))], *rows])

    name = encoding.removesuffix("-sig")
    found = read(stream.getvalue().encode(encoding), encoding=name, delimiter=delimiter, has_header=True)[2]

    assert found == rows


@settings(deadline=None)
@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.text(st.sampled_from(list('ab@.;,\t"\r\n \0')), max_size=80).map(str.encode),
        st.text(max_size=60).map(lambda text: text.encode("utf-16", "surrogatepass")),
    ),
    choices=st.fixed_dictionaries(
        {}, optional={"encoding": st.sampled_from(list(csv_import.ENCODINGS)), "has_header": st.booleans()}
    ),
)
def test_any_bytes_are_read_or_refused(data, choices):
    try:
        layout, inspection, rows = read(data, **choices)
    except UploadError:
        return

    assert inspection.rows == len(rows) >= 1
    assert {len(row) for row in rows} == {layout.width}
    assert "\0" not in "".join(cell for row in rows for cell in row)

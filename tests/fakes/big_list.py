"""The list of the main job: 1,200 rows as an export of a CRM looks, with everything odd that such exports hold."""

from __future__ import annotations

import csv
import io

ROWS, BLANK_LINES, BAD_ROWS = 1_200, 15, 30
HEADER = ["Account", "Work Email", "Notes", "Owner", "icypeas_status", ""]
BAD_CELLS = ("", "n/a", "ann@@example.com", "no address", "ann@", "@example.com", "ann berg@example.com")
# Dots and signs that a spreadsheet would turn into a formula must come back as they are.
NOTES = (
    "",
    'said "call; me"',
    "two\r\nlines",
    "one\nmore\n",
    "=1+1",
    "+49 30 1234",
    "  spaces  ",
    "übergröße, 5€",
)


def rows() -> list[list[str]]:
    """The rows, in order: 30 that cannot be asked, and among the others each tenth the same as one before."""
    made: list[list[str]] = []
    for number in range(1, ROWS + 1):
        email = f"ann{number}@company{number}.example"
        if number % 40 == 0:
            email = BAD_CELLS[number // 40 % len(BAD_CELLS)]
        elif number % 10 == 7:
            email = f" ANN{number - 3}@Company{number - 3}.example "
        made.append(
            [f"Firma {number} GmbH", email, NOTES[number % len(NOTES)], "Ira;Quist", "", f"x{number}"]
        )
    made[79] = [""] * len(HEADER)  # a line of empty cells is a row, and one of the bad ones
    made[118] = made[118][:3]  # a short row comes back as wide as the header
    return made


def distinct_questions() -> int:
    """How many different addresses can be asked."""
    good = (email.strip().lower() for _, email, *_ in rows() if email not in BAD_CELLS)
    return len(set(good))


def content() -> bytes:
    """The file: UTF-8 with a byte order mark, semicolons, CRLF, blank lines all over."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", lineterminator="\r\n")
    writer.writerow(HEADER)
    for place, row in enumerate(rows()):
        if place % 80 == 40:
            text.write("   \r\n" if place % 160 == 40 else "\r\n")
        if any(row):
            writer.writerow(row)
        else:
            text.write(";" * (len(row) - 1) + "\r\n")
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def read(export: bytes) -> list[dict[str, str]]:
    """An export as one dictionary a row, columns by place: `0`, `1`, … for the original ones, ours by name."""
    lines = list(csv.reader(io.StringIO(export.decode("utf-8-sig"), newline=""), delimiter=";"))
    names = [*(str(place) for place in range(len(HEADER))), *lines[0][len(HEADER) :]]
    return [dict(zip(names, line, strict=True)) for line in lines[1:]]


def originals(export: bytes) -> list[list[str]]:
    """The cells of the original columns."""
    return [[row[str(place)] for place in range(len(HEADER))] for row in read(export)]


def without_times(export: bytes) -> list[dict[str, str]]:
    """What must be the same whichever way the list went."""
    return [
        {name: value for name, value in row.items() if name != "icypeas_answered_at"} for row in read(export)
    ]


def padded(cells: list[str]) -> list[str]:
    return [*cells, *[""] * (len(HEADER) - len(cells))]


def assert_is_the_list(export: bytes, status_name: str = "icypeas_status_2") -> None:
    """1,200 rows in their order with their own cells untouched, every bad one with its reason."""
    assert export.startswith(b"\xef\xbb\xbf")
    assert export.count(b"\r\n") >= ROWS + 1
    assert originals(export) == [padded(row) for row in rows()]
    found = read(export)
    skipped = [row for row in found if row[status_name] == "skipped"]
    assert len(skipped) == BAD_ROWS
    assert all(row["icypeas_reason"] for row in skipped)

"""Lists as people really send them."""

from __future__ import annotations

import csv
import io

ROWS, BLANK_LINES, BAD, DOUBLES = 1_200, 15, 30, 60


def nasty_list() -> bytes:
    """1,200 rows and 15 blank lines: byte order mark, semicolons, quoted line ends, extra columns, 60 duplicates of
    earlier rows in other spellings, 30 rows that cannot be asked."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", lineterminator="\r\n")
    writer.writerow(["Nr", "Given name", "Surname", "Company website", "Note", "Formula"])
    for number in range(1, ROWS + 1):
        first, last, site = f"Given{number}", f"Family{number}", f"www.firm{number}.example"
        if number % 20 == 0:  # the same person as 10 rows before, written differently
            earlier = number - 10
            first, last, site = (
                f" GIVEN{earlier} ",
                f"family{earlier}",
                f"https://firm{earlier}.example/contact",
            )
        elif number % 40 == 7:
            first = last = ""
        note = f'line one\nline "two" of {number}; still {number}' if number % 3 == 0 else f"hall {number}"
        writer.writerow([number, first, last, site, note, "=1+1" if number % 50 == 0 else "-"])
        if number % 80 == 0:
            text.write("\r\n" if number % 160 else "  \t\r\n")
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def rows_of(data: bytes) -> list[list[str]]:
    """Header and rows of a semicolon list, blank lines left out."""
    reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=";")
    return [row for row in reader if any(cell.strip() for cell in row) or len(row) > 1]

"""Bytes in, rows out: how an uploaded list is read.

A file goes through three steps, each of them streaming and each raising `UploadError` for what cannot be read::

    layout = sniff(stream)                  # encoding, delimiter, line end, header; from one pass over the bytes
    inspection = inspect(stream, layout)    # every row once: how many, how wide
    layout = layout.widened(inspection.widest)
    for cells in read_rows(stream, layout): ...

Streams are binary, seekable and read from their start; they are neither closed nor left at a promised position.
Memory depends on the longest row, never on the size of the file. Pasted text takes the same way through `as_stream`.

Rows are numbered as a spreadsheet shows them: the first record is row 1, whether it is a header or not, blank
lines count, and a cell with line breaks does not. A blank line (white space alone) is no row; a line of empty
cells (`;;;`) is one.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

UTF8 = "utf-8"
UTF16_LE = "utf-16-le"
UTF16_BE = "utf-16-be"
CP1252 = "cp1252"
LATIN1 = "latin-1"

# What a person can choose, and how it is called. The automatic choice is always one of the first four.
ENCODINGS: Mapping[str, str] = {
    UTF8: "UTF-8",
    UTF16_LE: "UTF-16 (little endian)",
    UTF16_BE: "UTF-16 (big endian)",
    CP1252: "Windows-1252 (Western European)",
    LATIN1: "Latin-1 (ISO 8859-1)",
    "cp1250": "Windows-1250 (Central European)",
    "mac-roman": "Mac Roman",
}
DELIMITERS: Mapping[str, str] = {";": "semicolon", ",": "comma", "\t": "tab", "|": "vertical bar"}
QUOTE = '"'

_BOMS = {UTF8: codecs.BOM_UTF8, UTF16_LE: codecs.BOM_UTF16_LE, UTF16_BE: codecs.BOM_UTF16_BE}
_UTF32_BOMS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_MAGIC = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF", "a PDF document"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
)
_HEAD_BYTES = 64 * 1024
_CHUNK_BYTES = 256 * 1024
_SNIFFED_RECORDS = 50
_EMAIL = re.compile(r"\s*<?(?:mailto:)?[^@\s<>,;\"]+@[^@\s<>,;\"]+\.[^@\s<>,;\".]{2,}>?\s*", re.IGNORECASE)

# Takes the place of what cannot be decoded. No strict decoder ever returns it, so a line that holds it
# came from bytes that are not in the encoding, and the row and column of the trouble are known.
_UNDECODABLE = "\udcff"
_MARK = "enrichment.mark_undecodable"
_GAPS = "enrichment.latin1_gaps"


def _mark_undecodable(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _UNDECODABLE, error.end


def _latin1_gaps(error: UnicodeError) -> tuple[str, int]:
    """CP1252 leaves five bytes undefined; who asks for Latin-1 gets them as the control characters they are there."""
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error(_MARK, _mark_undecodable)
codecs.register_error(_GAPS, _latin1_gaps)


class UploadError(Exception):
    """The file cannot be read as a list. `message` says what, why and what to do, and is safe to show.

    `row` and `column` (both from 1) say where, when that is known; the message names them too.
    """

    def __init__(self, message: str, *, row: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.row = row
        self.column = column


@dataclass(frozen=True)
class Limits:
    """The largest file that is read. `max_field_chars` above 131,072 has no effect: the csv module stops there."""

    max_bytes: int = 256 * 1024 * 1024
    max_rows: int = 1_000_000
    max_columns: int = 200
    max_field_chars: int = 4_096

    @property
    def max_record_chars(self) -> int:
        """No record within the other limits is longer: every cell full of doubled quotes, and delimiters."""
        return self.max_columns * (2 * self.max_field_chars + 3)


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Layout:
    """How a file is read, and written back.

    `header` has one name for people per column, no two alike (without case); `raw_header` has the header cells
    as they came, "" for columns that the header does not have. Without a header row both hold made-up names.
    """

    encoding: str  # a key of ENCODINGS
    encoding_label: str  # "UTF-8 with BOM"
    has_bom: bool
    delimiter: str
    newline: str  # "\r\n", "\n" or "\r"
    has_header: bool
    header: list[str]
    raw_header: list[str]
    quote: str = QUOTE

    @property
    def width(self) -> int:
        return len(self.header)

    @property
    def delimiter_label(self) -> str:
        return DELIMITERS.get(self.delimiter, self.delimiter)

    def widened(self, width: int) -> Layout:
        """The same layout with unnamed columns up to `width`; itself when it is as wide already."""
        missing = width - self.width
        if missing <= 0:
            return self
        header = display_names([*self.header, *[""] * missing])
        added = [""] * missing if self.has_header else header[self.width :]
        return replace(self, header=header, raw_header=[*self.raw_header, *added])

    def as_json(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Layout:
        return cls(**data)


@dataclass(frozen=True)
class Inspection:
    """What a full pass found. `widest` is the widest row's number of cells; `first_wide_row` is the number of the
    first row that is wider than the header, None when there is none."""

    rows: int
    blank_lines: int
    widest: int
    first_wide_row: int | None


def as_stream(text: str) -> io.BytesIO:
    """Pasted text as a file. Lone surrogates survive, so that reading refuses them with their position."""
    return io.BytesIO(text.encode("utf-8", "surrogatepass"))


def sniff(
    stream: BinaryIO,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    has_header: bool | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Layout:
    """Find out how to read `stream`. What a person chose (a key of ENCODINGS, a delimiter, whether row 1 is a
    header) is taken as it is; the rest is found by rule: BOM, strict UTF-8, the NUL pattern of UTF-16, else
    Windows-1252, and the delimiter that divides the first rows evenly.

    Without a word on the header, row 1 is data when one of its cells is an e-mail address.
    Raises `UploadError` for a file that is no list, is too large, is empty or has no row.
    """
    if encoding is not None and encoding not in ENCODINGS:
        raise UploadError(
            f"“{encoding}” is no encoding that we can read. Choose one of: {', '.join(ENCODINGS)}."
        )
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '\r\n\0 "'):
        raise UploadError("The delimiter must be one character, such as a semicolon, a comma or a tab.")
    scan = _scan(stream, limits)
    _refuse_other_formats(scan.head)
    encoding = encoding or _choose_encoding(scan)
    has_bom = encoding in _BOMS and scan.head.startswith(_BOMS[encoding])
    delimiter = delimiter or _choose_delimiter(_decode_head(scan.head, encoding, has_bom))

    records = _Records(stream, encoding, has_bom, delimiter, limits)
    first = next(records.rows(), None)
    if first is None:
        raise UploadError(
            "The file holds nothing but blank lines. Choose a file with a header and at least one row."
        )
    newline, first_number = records.line_end or "\n", records.number
    if has_header is None:
        has_header = not any(_EMAIL.fullmatch(cell) for cell in first)
    if has_header and next(records.rows(), None) is None:
        raise UploadError(
            "The file has a header and no row below it, so there is nothing to ask. Add rows, or say that the first "
            "row is no header.",
            row=first_number,
        )
    raw_header = list(first) if has_header else _made_up_header(first)
    label = ENCODINGS[encoding] + (" with BOM" if has_bom else "")
    layout = Layout(
        encoding=encoding,
        encoding_label=label,
        has_bom=has_bom,
        delimiter=delimiter,
        newline=newline,
        has_header=has_header,
        header=display_names(raw_header),
        raw_header=raw_header,
    )
    if scan.has_nul or not scan.is_utf8:
        # Something in it may not be text. A full pass knows the row and the column, and says so now, not later.
        inspect(stream, layout, limits=limits)
    return layout


def inspect(stream: BinaryIO, layout: Layout, *, limits: Limits = DEFAULT_LIMITS) -> Inspection:
    """Read every row once. Raises `UploadError`, with the position, for the first that cannot be read."""
    records = _Records(stream, layout.encoding, layout.has_bom, layout.delimiter, limits)
    rows, widest, first_wide_row = 0, 0, None
    for cells in _data_rows(records, layout):
        rows += 1
        if rows > limits.max_rows:
            raise UploadError(
                f"The file has more than {limits.max_rows:,} rows. Split it into smaller files.",
                row=records.number,
            )
        if len(cells) > widest:
            widest = len(cells)
            if widest > layout.width and first_wide_row is None:
                first_wide_row = records.number
    return Inspection(
        rows=rows, blank_lines=records.blank_lines, widest=widest, first_wide_row=first_wide_row
    )


def read_rows(stream: BinaryIO, layout: Layout, *, limits: Limits = DEFAULT_LIMITS) -> Iterator[list[str]]:
    """The rows below the header, cells as they are in the file, short ones padded to the layout's width.

    Rows wider than the layout come as they are: widen the layout by `inspect` first.
    """
    records = _Records(stream, layout.encoding, layout.has_bom, layout.delimiter, limits)
    width = layout.width
    for cells in _data_rows(records, layout):
        if len(cells) < width:
            cells.extend([""] * (width - len(cells)))
        yield cells


def display_names(cells: Sequence[str]) -> list[str]:
    """One name a column, no two alike (without case): white space tidied, "column 12" for an unnamed column,
    a number after a name that is there already."""
    tidy = [" ".join(cell.split()) or f"column {index}" for index, cell in enumerate(cells, start=1)]
    own = {name.casefold() for name in tidy}
    taken: set[str] = set()
    names = []
    for name in tidy:
        unique, count = name, 1
        while unique.casefold() in taken or (count > 1 and unique.casefold() in own):
            count += 1
            unique = f"{name} {count}"
        taken.add(unique.casefold())
        names.append(unique)
    return names


def _made_up_header(first: Sequence[str]) -> list[str]:
    """Names for the columns of a list without a header: what looks like an e-mail address is called so."""
    return display_names(["email" if _EMAIL.fullmatch(cell) else "" for cell in first])


# ---------------------------------------------------------------------------------------------------------------
# Bytes: size, format, encoding, delimiter


@dataclass(frozen=True)
class _Scan:
    """What one pass over the bytes tells. `has_surrogates`: UTF-8 but for halves of character pairs."""

    size: int
    head: bytes
    has_nul: bool
    is_utf8: bool
    has_surrogates: bool


def _scan(stream: BinaryIO, limits: Limits) -> _Scan:
    strict = codecs.getincrementaldecoder(UTF8)("strict")
    lenient = codecs.getincrementaldecoder(UTF8)("surrogatepass")
    stream.seek(0)
    size, head, has_nul, is_utf8, is_lenient = 0, b"", False, True, True
    while True:
        chunk = stream.read(_CHUNK_BYTES)
        size += len(chunk)
        if size > limits.max_bytes:
            raise UploadError(
                f"The file is larger than {limits.max_bytes / 1024 / 1024:,.0f} MB. Split it into smaller files."
            )
        head = head or chunk[:_HEAD_BYTES]
        has_nul = has_nul or b"\0" in chunk
        is_utf8 = is_utf8 and _accepts(strict, chunk)
        is_lenient = is_lenient and _accepts(lenient, chunk)
        if not chunk:
            break
    if size == 0:
        raise UploadError("The file is empty. Choose a file with a header and at least one row.")
    return _Scan(size, head, has_nul, is_utf8, has_surrogates=is_lenient and not is_utf8)


def _accepts(decoder: codecs.IncrementalDecoder, chunk: bytes) -> bool:
    """Whether the next chunk is in the decoder's encoding; an empty one is the end."""
    try:
        decoder.decode(chunk, final=not chunk)
    except UnicodeDecodeError:
        return False
    return True


def _refuse_other_formats(head: bytes) -> None:
    for magic, what in _MAGIC:
        if head.startswith(magic):
            if b"xl/" in head or b"[Content_Types].xml" in head:
                what = "an Excel workbook (.xlsx)"
            raise UploadError(
                f"This is {what}, whatever its name ends in. Open it, save the list as CSV (UTF-8) and choose that file."
            )
    if head.startswith(_UTF32_BOMS):
        raise UploadError("This file is UTF-32, which we do not read. Save it again as CSV (UTF-8).")


def _choose_encoding(scan: _Scan) -> str:
    """BOM, strict UTF-8, UTF-16 by its pattern, else Windows-1252: a rule that can be told, never a likelihood."""
    for encoding, bom in _BOMS.items():
        if scan.head.startswith(bom):
            return encoding
    if scan.has_nul:
        utf16 = _utf16_by_pattern(scan.head)
        if utf16 is not None:
            return utf16
    # With halves of character pairs it is broken UTF-8, not Windows-1252: reading it as UTF-8 names the place.
    return UTF8 if scan.is_utf8 or scan.has_surrogates else CP1252


def _utf16_by_pattern(head: bytes) -> str | None:
    """ASCII in UTF-16 has a NUL in every second byte: on odd places in little endian, on even ones in big endian."""
    pairs = len(head) // 2
    even, odd = head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if odd * 3 >= pairs > 0 and odd > 4 * even:
        return UTF16_LE
    if even * 3 >= pairs > 0 and even > 4 * odd:
        return UTF16_BE
    return None


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    if encoding == LATIN1:
        return codecs.getincrementaldecoder(CP1252)(_GAPS)
    return codecs.getincrementaldecoder(encoding)(_MARK)


def _decode_head(head: bytes, encoding: str, has_bom: bool) -> str:
    return _decoder(encoding).decode(head[len(_BOMS[encoding]) if has_bom else 0 :])


def _choose_delimiter(head: str) -> str:
    """The candidate that divides the header and divides the first rows as it does; wider wins among equals.

    Where the header is one cell, one that divides nearly all rows alike. A comma for a single column.
    """
    lines = list(io.StringIO(head, newline=""))
    widths = {delimiter: _widths(lines, delimiter) for delimiter in DELIMITERS}
    best, best_score = ",", 0.0
    for delimiter, counts in widths.items():
        if counts and counts[0] > 1:
            score = counts.count(counts[0]) / len(counts) * (1 - 1 / counts[0])
            if score > best_score:
                best, best_score = delimiter, score
    if best_score:
        return best
    for delimiter, counts in widths.items():
        rows = counts[1:]
        if rows and rows[0] > 1 and rows.count(rows[0]) >= 0.9 * len(rows):
            return delimiter
    return best


def _widths(lines: Sequence[str], delimiter: str) -> list[int]:
    """Cells in each of the first records with something in them; none when the quotes do not fit this delimiter."""
    reader = csv.reader(lines, delimiter=delimiter, quotechar=QUOTE, strict=True)
    counts: list[int] = []
    try:
        for record in reader:
            if any(map(str.strip, record)):
                counts.append(len(record))
            if len(counts) == _SNIFFED_RECORDS:
                break
    except csv.Error:
        # The head may end within quotes; anything else says that the quotes belong to another delimiter.
        return counts if reader.line_num >= len(lines) else []
    return counts


# ---------------------------------------------------------------------------------------------------------------
# Text: lines, records, and where the trouble is


def _lines(stream: BinaryIO, encoding: str, skip_bytes: int, max_chars: int) -> Iterator[str]:
    """Lines with their ends (`\\r\\n`, `\\n` or `\\r`). One longer than `max_chars` comes in part, for the refusal."""
    decoder = _decoder(encoding)
    stream.seek(skip_bytes)
    rest = ""
    while True:
        chunk = stream.read(_CHUNK_BYTES)
        text = rest + decoder.decode(chunk, final=not chunk)
        lines = list(io.StringIO(text, newline=""))
        rest = ""
        # The last line may go on; a bare \r may be the first half of \r\n.
        if chunk and lines and (len(lines[-1]) <= max_chars) and not lines[-1].endswith("\n"):
            rest = lines.pop()
        yield from lines
        if not chunk:
            return


class _Records:
    """Records of a CSV text, one after the other, with the number of the last and what is wrong with the next.

    Python's reader is strict about quotes, yet takes NUL and does not say in which column it gave up; so the raw
    text of the record at hand is kept (it is short: a longer one is refused) and walked when there is trouble.
    """

    def __init__(
        self, stream: BinaryIO, encoding: str, has_bom: bool, delimiter: str, limits: Limits
    ) -> None:
        skip = len(_BOMS[encoding]) if has_bom else 0
        self.number = 0
        self.blank_lines = 0
        self._encoding = encoding
        self._delimiter = delimiter
        self._limits = limits
        self._lines = _lines(stream, encoding, skip, limits.max_record_chars)
        self._parts: list[str] = []
        self._chars = 0
        self._reader = csv.reader(self._feed(), delimiter=delimiter, quotechar=QUOTE, strict=True)

    @property
    def line_end(self) -> str:
        """How the last record ended; "" at the end of a file without one."""
        last = self._parts[-1] if self._parts else ""
        return "\r\n" if last.endswith("\r\n") else last[-1:] if last.endswith(("\r", "\n")) else ""

    def rows(self) -> Iterator[list[str]]:
        """The records that are not blank. Raises `UploadError` with the row and the column."""
        limits = self._limits
        while True:
            self._parts.clear()
            self._chars = 0
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error:
                raise self._refusal() from None
            if len(cells) <= 1 and not "".join(self._parts).strip():
                self.number += 1
                self.blank_lines += 1
                continue
            if self._chars > limits.max_field_chars and any(
                len(cell) > limits.max_field_chars for cell in cells
            ):
                raise self._refusal()
            self.number += 1
            if len(cells) > limits.max_columns:
                raise self._too_wide(self.number, f"{len(cells):,}")
            yield cells

    def _feed(self) -> Iterator[str]:
        for line in self._lines:
            self._parts.append(line)
            self._chars += len(line)
            if "\0" in line or _UNDECODABLE in line or self._chars > self._limits.max_record_chars:
                raise self._refusal()
            yield line

    def _refusal(self) -> UploadError:
        """Why the record at hand, the one after `number`, cannot be read."""
        row = self.number + 1
        column, trouble = _walk("".join(self._parts), self._delimiter, self._limits)
        where = f"Row {row:,}, column {column:,}"
        if trouble == "wide":
            return self._too_wide(row, f"more than {self._limits.max_columns:,}")
        if trouble == "nul":
            message = (
                f"{where} holds a NUL byte, so this is no text file or its encoding is another (now read as "
                f"{ENCODINGS[self._encoding]}). Choose the encoding, or save the list again as CSV (UTF-8)."
            )
        elif trouble == "undecodable":
            message = (
                f"{where} holds bytes that are not {ENCODINGS[self._encoding]}. Choose the encoding in which the file "
                "was written, or save the list again as CSV (UTF-8)."
            )
        elif trouble == "open":
            message = f"{where} opens a quotation mark that is never closed. Close it, or save the list again as CSV."
        elif trouble == "after quote":
            message = (
                f"{where} has text after its closing quotation mark. Double the quotation marks inside of the cell, "
                "or choose another delimiter."
            )
        else:
            message = (
                f"{where} is longer than {self._limits.max_field_chars:,} characters. Shorten it; if it swallowed the "
                "cells after it, a quotation mark in it is not closed."
            )
        return UploadError(message, row=row, column=column)

    def _too_wide(self, row: int, columns: str) -> UploadError:
        return UploadError(
            f"Row {row:,} has {columns} columns; at most {self._limits.max_columns:,} are read. Remove the columns that "
            "you do not need, or check the delimiter.",
            row=row,
            column=self._limits.max_columns + 1,
        )


def _data_rows(records: _Records, layout: Layout) -> Iterator[list[str]]:
    rows = records.rows()
    if layout.has_header:
        next(rows, None)
    return rows


def _walk(text: str, delimiter: str, limits: Limits) -> tuple[int, str]:
    """Walk the raw text of one record as the csv module does, up to the first trouble: column (from 1) and
    what it is: `nul`, `undecodable`, `wide`, `long`, `after quote`, or `open` for quotes that the text ends in."""
    column, length, state = 1, 0, "start"
    for char in text:
        if char == "\0":
            return column, "nul"
        if char == _UNDECODABLE:
            return column, "undecodable"
        if state == "quoted" and char == QUOTE:
            state = "quote seen"
            continue
        if state != "quoted" and char == delimiter:
            column, length, state = column + 1, 0, "start"
            if column > limits.max_columns:
                return column, "wide"
            continue
        if state == "start" and char == QUOTE:
            state = "quoted"
            continue
        if state == "quote seen":
            if char in "\r\n":
                continue
            if char != QUOTE:
                return column, "after quote"
            state = "quoted"
        elif state == "start":
            state = "plain"
        length += 1
        if length > limits.max_field_chars and (state == "quoted" or char not in "\r\n"):
            return column, "long"
    return column, "open" if state == "quoted" else "long"

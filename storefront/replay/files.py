"""Read the files of a data set row by row: gzipped CSV in, typed rows or named problems out."""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO, cast

from core.external_ids import find_flaw
from core.money import CURRENCIES
from core.timestamps import parse_instant

HEADER_LINE = 1


class Problem(NamedTuple):
    """A row that cannot be loaded: where, and why. Lines are counted as an editor does; the header is line 1."""

    file: str
    line: int
    column: str | None
    reason: str

    @property
    def is_of_whole_file(self) -> bool:
        """Whether the header is wrong, so that no row of the file can be read."""
        return self.line == HEADER_LINE

    def __str__(self) -> str:
        column = f", column {self.column}" if self.column else ""
        return f"{self.file}, line {self.line}{column}: {self.reason}"


Parse = Callable[[str], Any]


@dataclass(frozen=True)
class Column:
    """A column that is read. Optional ones may be missing from the file; `parse` raises ValueError with the reason."""

    name: str
    parse: Parse
    sql: str
    is_optional: bool = False


MAX_AMOUNT = 2**53 - 1
MAX_UNITS = 2**31 - 1
# Room on both sides for windows, expiry days and zones.
FIRST_YEAR, LAST_YEAR = 1900, 2199


def identifier(text: str) -> str:
    """Read an id that must be there."""
    flaw = find_flaw(text)
    if flaw:
        raise ValueError(flaw)
    return text


def optional_identifier(text: str) -> str:
    """Read an id, or nothing."""
    return identifier(text) if text else text


def optional_text(text: str, limit: int = 200) -> str:
    """Read a text that the database can keep."""
    if len(text) > limit:
        raise ValueError(f"has {len(text)} characters, at most {limit} are kept")
    if "\0" in text:
        raise ValueError("contains the character U+0000")
    return text


def short_text(text: str) -> str:
    """Read a name that is cut to what the database keeps of it, as it decides nothing."""
    return optional_text(text, 100)


def country_text(text: str) -> str:
    """Read the country as the shop writes it."""
    return optional_text(text, 63)


def amount(text: str) -> int:
    """Read minor units, zero or more."""
    return _whole(text, 0, MAX_AMOUNT)


def units(text: str) -> int:
    """Read a number of units, one or more."""
    return _whole(text, 1, MAX_UNITS)


def _whole(text: str, least: int, most: int) -> int:
    if not text.removeprefix("-").isdecimal() or not text.isascii():
        raise ValueError(f"{text!r} is not a whole number")
    number = int(text)
    if not least <= number <= most:
        raise ValueError(f"{number} is not between {least} and {most}")
    return number


def instant(text: str) -> datetime:
    """Read an instant of the years in which data sets lie."""
    at = parse_instant(text)
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise ValueError(f"the year {at.year} is not between {FIRST_YEAR} and {LAST_YEAR}")
    return at


def currency(text: str) -> str:
    """Read an ISO 4217 code."""
    if text not in CURRENCIES:
        raise ValueError(f"{text!r} is not an ISO 4217 currency")
    return text


FILES: dict[str, tuple[Column, ...]] = {
    "orders": (
        Column("order_id", identifier, "text"),
        Column("member_id", optional_identifier, "text"),
        Column("ordered_at", instant, "timestamptz"),
        Column("amount", amount, "bigint"),
        Column("currency", currency, "text"),
        Column("country", country_text, "text", is_optional=True),
        Column("channel", country_text, "text", is_optional=True),
    ),
    "order_lines": (
        Column("line_id", identifier, "text"),
        Column("order_id", identifier, "text"),
        Column("qty", units, "bigint"),
        Column("amount", amount, "bigint"),
        Column("sku", short_text, "text", is_optional=True),
        Column("category", short_text, "text", is_optional=True),
    ),
    "refunds": (
        Column("refund_id", identifier, "text"),
        Column("member_id", optional_identifier, "text"),
        Column("refunded_at", instant, "timestamptz"),
        Column("amount", amount, "bigint"),
        Column("order_id", optional_text, "text", is_optional=True),
    ),
    "refund_lines": (
        Column("line_id", identifier, "text"),
        Column("refund_id", identifier, "text"),
        Column("qty", units, "bigint"),
        Column("amount", amount, "bigint"),
        Column("matched_line_id", optional_text, "text"),
        Column("sku", short_text, "text", is_optional=True),
    ),
}


class UnreadableFile(Exception):
    """The file is missing, not gzipped CSV, or not UTF-8."""


def file_name(kind: str) -> str:
    """Return the name of the file that holds these rows."""
    return f"{kind}.csv.gz"


def open_text(path: Path) -> TextIO:
    """Open a file of a data set; the byte-order mark that some programs begin UTF-8 with is not part of its text."""
    return cast(TextIO, gzip.open(path, "rt", encoding="utf-8-sig", newline=""))


def iter_rows(directory: Path, kind: str) -> Iterator[tuple[int, list[Any]] | Problem]:
    """Yield (line, values by FILES[kind]) for each sound row and a Problem for each other one.

    Raises: UnreadableFile.
    """
    path = directory / file_name(kind)
    try:
        with open_text(path) as text:
            yield from _parse(csv.reader(text, strict=True), kind)
    except FileNotFoundError as error:
        raise UnreadableFile(f"{path} does not exist.") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableFile(f"{path} cannot be read as gzipped CSV in UTF-8: {error}") from error


def _parse(reader: Any, kind: str) -> Iterator[tuple[int, list[Any]] | Problem]:
    header: list[str] = next(reader, [])
    missing = [c for c in FILES[kind] if c.name not in header and not c.is_optional]
    if missing:
        yield from (Problem(file_name(kind), HEADER_LINE, column.name, "the column is missing") for column in missing)
        return
    columns = [(c, header.index(c.name) if c.name in header else None) for c in FILES[kind]]
    for row in reader:
        if row:
            yield _parse_row(row, header, columns, kind, reader.line_num)


def _parse_row(
    row: list[str], header: Sequence[str], columns: Sequence[tuple[Column, int | None]], kind: str, line: int
) -> tuple[int, list[Any]] | Problem:
    if len(row) > len(header):
        return Problem(file_name(kind), line, None, f"{len(row)} values for {len(header)} columns")
    if len(row) < len(header):
        return Problem(file_name(kind), line, header[len(row)], "the row ends before it")
    values = []
    for column, index in columns:
        try:
            values.append(column.parse(row[index]) if index is not None else "")
        except ValueError as error:
            return Problem(file_name(kind), line, column.name, str(error))
    return line, values

"""A small made data set (USD, zone UTC) in the replay's format that visits the corners of its contract.

`write_bad_rows` writes a tiny sound set with one defect, and says where the defect must be reported.

Cuts it was made for: 0 / 50 / 150 / 400 / 1,000 USD over 365 days, lots valid to the end of the 365th day.
The rows stand in no order of time, and the lines of an order not together.
"""

import csv
import gzip
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

Row = dict[str, str]

COLUMNS = {
    "orders": ["order_id", "member_id", "ordered_at", "amount", "currency"],
    "order_lines": ["line_id", "order_id", "sku", "qty", "amount"],
    "refunds": ["refund_id", "member_id", "refunded_at", "amount", "order_id"],
    "refund_lines": [
        "line_id", "refund_id", "member_id", "refunded_at", "sku", "qty", "amount",
        "matched_line_id", "matched_order_id",
    ],
}  # fmt: skip


@dataclass
class Book:
    """The rows of the four files, in the order in which they were written down."""

    files: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def order(self, order_id: str, member: str, at: str, *lines: tuple[int, int], amount: int = 0) -> None:
        """Add an order of lines (units, amount), called `<order>.1`, `<order>.2`; without lines, of the amount."""
        total = sum(line_amount for _, line_amount in lines) if lines else amount
        self._add("orders", order_id, member, at, total, "USD")
        for position, (units, line_amount) in enumerate(lines, start=1):
            self._add("order_lines", f"{order_id}.{position}", order_id, f"s{position}", units, line_amount)

    def refund(
        self, refund_id: str, member: str, at: str, *lines: tuple[str, int, int], amount: int = 0, order_id: str = ""
    ) -> None:
        """Add a refund of lines (order line or '', units, amount); without lines, of the amount."""
        total = sum(line_amount for _, _, line_amount in lines) if lines else amount
        self._add("refunds", refund_id, member, at, total, order_id)
        for position, (line, units, line_amount) in enumerate(lines, start=1):
            line_id, matched_order = f"{refund_id}.{position}", line.rpartition(".")[0]
            self._add("refund_lines", line_id, refund_id, member, at, "s", units, line_amount, line, matched_order)

    def _add(self, file: str, *values: str | int) -> None:
        self.files[file].append(dict(zip(COLUMNS[file], map(str, values), strict=True)))

    def scrambled(self) -> "Book":
        """Return the same rows in an order that follows nothing but a digest of their ids."""
        return Book({file: sorted(rows, key=_digest) for file, rows in self.files.items()})

    def write(self, directory: Path) -> None:
        """Write the four files."""
        directory.mkdir(parents=True, exist_ok=True)
        for file, rows in self.files.items():
            write_file(directory / f"{file}.csv.gz", COLUMNS[file], [list(row.values()) for row in rows])


def _digest(row: Row) -> str:
    return hashlib.sha256(next(iter(row.values())).encode()).hexdigest()


def write_file(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write one file; an empty row becomes an empty line."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def write_edge_data(directory: Path | str) -> None:
    """Write the data set."""
    book = Book()
    for part in (guests, month_boundaries, returns, expiries, windows, small_things, day_distances, downgrades):
        part(book)
    book.scrambled().write(Path(directory))


def guests(book: Book) -> None:
    """Write down orders and refunds without a member: kept, earning nothing, yet first and last events of the set."""
    book.order("g1", "", "2018-12-15T10:00:00Z", (2, 12_345))
    book.order("g2", "", "2020-02-01T00:00:00Z", amount=99_999)
    book.order("g3", "", "2020-05-05T05:05:05Z", amount=0)
    book.refund("rg1", "", "2019-02-02T10:00:00Z", ("g1.1", 1, 6_172), order_id="g1")
    book.refund("rg2", "", "2021-08-20T10:00:00Z", amount=500)


def month_boundaries(book: Book) -> None:
    """Write down facts at exactly 00:00 on the 1st, beside it, and amounts exactly on a cut and a cent below."""
    book.order("o1", "m1", "2019-01-01T00:00:00Z", (1, 5_000))  # the first member order of all
    book.order("o2", "m2", "2019-01-31T23:59:59.999999Z", (1, 4_999))
    book.order("o3", "m2", "2019-02-01T00:00:00Z", (1, 1))  # silver from 2019-03-01 only
    book.order("o4", "m3", "2019-03-10T09:00:00Z", (4, 40_000))
    book.refund("r4", "m3", "2019-05-01T00:00:00Z", ("o4.1", 1, 10_000), order_id="o4")  # platinum at 05-01, gold after
    book.order("o5", "m4", "2019-04-01T01:30:00+02:00", (1, 15_000))  # still 2019-03-31 in UTC
    book.order("o6", "m4", "2019-05-31T19:00:00-05:00", (1, 85_000))  # exactly 00:00 on 2019-06-01
    book.refund("r6", "m4", "2019-06-30T23:59:59Z", ("o6.1", 1, 1), order_id="o6")  # a cent below diamond
    book.order("o7", "m5", "2021-06-01T00:00:00Z", (1, 2_000))  # the last member order makes 2021-06-01 the last month
    book.order("o8", "m5", "2020-12-31T23:59:59Z", (1, 2_000))
    book.order("o9", "m5", "2021-01-01T00:00:00Z", (1, 2_000))


def returns(book: Book) -> None:
    """Write down partial, repeated, simultaneous, excessive, early and unmatched refunds."""
    book.order("o20", "m20", "2019-06-01T00:00:00Z", (7, 1_099), (3, 10_000), (1, 3_050))  # 10, 100 and 30 points
    for day in range(1, 8):  # one unit a day: 1 2 4 5 7 8 10 points, cumulatively
        book.refund(f"r20{day}", "m20", f"2019-06-{day + 1:02}T12:00:00Z", ("o20.1", 1, 157))
    book.refund("r208", "m20", "2019-07-01T00:00:00Z", ("o20.2", 1, 3_333), ("o20.2", 1, 3_333))  # one line twice
    book.refund("r209", "m20", "2019-07-01T00:00:00Z", ("o20.2", 1, 3_334))  # and once more at the same instant
    book.order("o21", "m21", "2019-07-04T10:00:00Z", (2, 45_000))
    book.refund("r21", "m21", "2019-07-04T10:00:00Z", ("o21.1", 2, 45_000), order_id="o21")  # one instant
    book.order("o22", "m22", "2019-07-05T10:00:00Z", (1, 6_000))
    book.refund("r22", "m22", "2019-08-05T10:00:00Z", ("o22.1", 1, 9_000))  # more than its price; net is negative
    book.refund("r23", "m23", "2019-07-15T10:00:00Z", ("", 1, 20_000))  # before the first order, silver instead of gold
    book.order("o23", "m23", "2019-09-15T10:00:00Z", (1, 30_000))
    book.order("o24", "m23", "2020-06-15T10:00:00Z", (1, 1_000))  # up to gold when the early refund leaves the window
    book.refund("r24", "m24", "2019-10-10T10:00:00Z", ("", 3, 700))  # known only from refunds
    book.refund("r25", "m24", "2019-11-01T00:00:00Z", amount=300)
    book.order("o26", "m26", "2019-10-01T10:00:00Z", (2, 20_000), (5, 30_000))
    book.order("o27", "m26", "2019-10-02T10:00:00Z", (2, 60_000))
    book.refund("r26", "m26", "2019-11-15T10:00:00Z", ("o26.2", 2, 12_000), ("o27.1", 1, 30_000))  # of two orders
    book.refund("r27", "m26", "2019-12-15T10:00:00Z", ("o26.1", 1, 10_000), ("", 1, 999))  # one line unmatched
    book.refund("r28", "m26", "2020-01-15T10:00:00Z", amount=5_000, order_id="o26")  # no lines: spend only
    book.refund("r29", "m26", "2020-01-16T10:00:00Z", ("o26.2", 1, 0))  # units back for nothing
    book.refund("r30", "m26", "2020-01-17T10:00:00Z", amount=0)


def expiries(book: Book) -> None:
    """Write down refunds around the end of a lot."""
    book.order("o40", "m40", "2019-02-10T00:00:00Z", (4, 10_000), (1, 2_500))  # ends at 2020-02-11T00:00
    book.refund("r40", "m40", "2019-03-10T00:00:00Z", ("o40.1", 1, 2_500))
    book.refund("r41", "m40", "2020-02-10T23:59:59.999999Z", ("o40.1", 1, 2_500))  # the last that takes points
    book.refund("r42", "m40", "2020-02-11T00:00:00Z", ("o40.1", 1, 2_500), ("o40.2", 1, 2_500))  # expired, this instant
    book.refund("r43", "m40", "2020-03-11T00:00:00Z", ("o40.1", 1, 2_500))  # long gone
    book.order("o41", "m41", "2020-02-29T12:00:00Z", (3, 10_099))  # ends at 2021-03-01T00:00
    book.refund("r44", "m41", "2021-02-28T23:59:59Z", ("o41.1", 1, 3_366))
    book.refund("r45", "m41", "2021-03-01T00:00:00Z", ("o41.1", 1, 3_366))
    book.order("o42", "m42", "2019-03-01T23:59:59Z", (2, 8_000))  # over a leap day: ends at 2020-03-01T00:00
    book.refund("r46", "m42", "2020-02-29T23:59:59Z", ("o42.1", 1, 4_000))
    book.refund("r47", "m42", "2020-03-01T00:00:00Z", ("o42.1", 1, 4_000))
    book.order("o43", "m42", "2020-03-01T00:00:00Z", (1, 8_000))


def windows(book: Book) -> None:
    """Write down orders on the first day inside and the last day outside of a window, with and without a leap day."""
    book.order("o60", "m60", "2019-03-01T12:00:00Z", (1, 40_000))  # outside of the 365 days before 2020-03-01
    book.order("o61", "m61", "2019-03-02T00:00:00Z", (1, 40_000))  # inside
    book.order("o62", "m62", "2020-01-01T12:00:00Z", (1, 100_000))  # outside of the 365 days before 2021-01-01
    book.order("o63", "m63", "2020-01-02T12:00:00Z", (1, 100_000))  # inside
    book.order("o64", "m64", "2020-02-29T00:00:00Z", (1, 15_000))
    book.order("o65", "m65", "2020-03-31T23:59:59Z", (1, 15_000))  # outside of the 365 days before 2021-04-01
    book.refund("r65", "m65", "2020-04-01T00:00:00Z", ("", 1, 10_001))  # inside: negative net, bronze
    book.order("o66", "m66", "2019-05-05T12:00:00Z", (1, 2_500_000_000))  # past 32 bits


def small_things(book: Book) -> None:
    """Write down zero amounts, zero points, no lines, and orders at one instant."""
    book.order("o80", "m80", "2019-08-01T00:00:00Z", amount=0)
    book.order("o81", "m80", "2019-09-09T09:00:00Z", (1, 0))
    book.order("o82", "m81", "2019-08-08T08:00:00Z", (1, 99), (1, 100), (9, 50), (1, 199))  # 0, 1, 0, 1 points
    book.refund("r82", "m81", "2019-08-09T08:00:00Z", ("o82.1", 1, 99), ("o82.3", 4, 22), ("o82.2", 1, 100))
    book.order("o83", "m82", "2019-08-08T08:00:00Z", amount=7_777)  # no lines: one line of 77 points
    book.refund("r83", "m82", "2019-10-08T08:00:00Z", amount=7_777, order_id="o83")  # and nothing to claw back by
    book.order("o9b", "m83", "2019-11-11T11:11:00Z", (1, 2_500))  # three at one instant, in no order of ids
    book.order("o10b", "m83", "2019-11-11T11:11:00Z", (1, 2_500))
    book.order("o9a", "m83", "2019-11-11T11:11:00Z", (1, 2_500))
    book.order("o84", "m83", "2019-11-11T11:11:00.000001Z", (1, 2_500))
    book.order("o85", "m84", "2019-12-01T00:00:00Z", amount=0)  # zero amount, on the 1st, twice, never more
    book.order("o86", "m84", "2019-12-01T00:00:00Z", amount=0)


def day_distances(book: Book) -> None:
    """Write down second orders exactly N days after the first, a second before and a second after."""
    first = datetime(2020, 1, 30, 23, 59, 59, tzinfo=UTC)
    for n in (0, 1, 2, 7, 8, 29, 30, 31, 60, 61, 90, 91):
        midnight = datetime(2020, 1, 30, tzinfo=UTC) + timedelta(days=n)
        for suffix, at in (("a", midnight), ("b", midnight + timedelta(days=1, seconds=-1))):
            member = f"md{n}{suffix}"
            earlier, later = sorted((first, at))
            book.order(f"od{n}{suffix}1", member, _text(earlier), (1, 3_000))
            book.order(f"od{n}{suffix}2", member, _text(later), (1, 3_000))


def downgrades(book: Book) -> None:
    """Write down forty members who rise in steps and fall by age or by refund, one tier or several at once."""
    amounts = (6_000, 16_000, 45_000, 120_000)
    for number in range(40):
        member, start = f"mx{number}", datetime(2019, 1 + number % 12, 1 + number % 28, number % 24, tzinfo=UTC)
        for step in range(1 + number % 4):
            at = start + timedelta(days=45 * step)
            book.order(f"ox{number}-{step}", member, _text(at), (1 + number % 5, amounts[(number + step) % 4]))
        if number % 3 == 0:
            units, amount = 1 + number % 5, amounts[number % 4]
            at = start + timedelta(days=100 + number)
            book.refund(f"rx{number}", member, _text(at), (f"ox{number}-0.1", units, amount), order_id=f"ox{number}-0")
        if number % 5 == 0:  # comes back small, long after
            book.order(f"ox{number}-z", member, _text(start + timedelta(days=500)), (1, 1_234))


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


# --- malformed variants ------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where an error must be reported. Line 1 is the header; no column where a row as a whole is wrong."""

    file: str
    line: int
    column: str | None


def _sound() -> Book:
    """Return a small set without a defect: what the malformed variants start from."""
    book = Book()
    book.order("o1", "m1", "2020-01-01T10:00:00Z", (2, 2_000), (1, 500))
    book.order("o2", "m2", "2020-01-02T10:00:00Z", (3, 3_000))
    book.order("o3", "", "2020-01-03T10:00:00Z", (1, 100))
    book.refund("r1", "m1", "2020-02-01T10:00:00Z", ("o1.1", 1, 1_000), ("o1.2", 1, 500), order_id="o1")
    book.refund("r2", "m2", "2020-02-02T10:00:00Z", ("o2.1", 2, 2_000), ("", 1, 10))
    book.refund("r3", "m2", "2020-02-03T10:00:00Z", ("o2.1", 1, 1_000), order_id="o2")
    return book


# One value put into the sound set: kind -> (file, row counted from 0, column, value).
BAD_VALUES: dict[str, tuple[str, int, str, str]] = {
    "order_id_empty": ("orders", 1, "order_id", ""),
    "order_id_twice": ("orders", 1, "order_id", "o1"),
    "order_id_too_long": ("orders", 2, "order_id", "o" * 201),
    "member_id_with_nul": ("orders", 1, "member_id", "m\0"),
    "ordered_at_empty": ("orders", 0, "ordered_at", ""),
    "ordered_at_no_time": ("orders", 0, "ordered_at", "yesterday"),
    "ordered_at_impossible": ("orders", 2, "ordered_at", "2021-02-29T10:00:00Z"),
    "ordered_at_without_zone": ("orders", 1, "ordered_at", "2020-01-02T10:00:00"),
    "order_amount_empty": ("orders", 1, "amount", ""),
    "order_amount_no_number": ("orders", 1, "amount", "many"),
    "order_amount_fraction": ("orders", 1, "amount", "30.00"),
    "order_amount_negative": ("orders", 1, "amount", "-1"),
    "order_amount_over_64_bits": ("orders", 1, "amount", "9223372036854775808"),
    "order_lines_above_it": ("orders", 0, "amount", "2499"),
    "currency_unknown": ("orders", 1, "currency", "DOLLAR"),
    "currency_of_another_program": ("orders", 1, "currency", "EUR"),
    "line_id_empty": ("order_lines", 1, "line_id", ""),
    "line_id_twice": ("order_lines", 2, "line_id", "o1.1"),
    "line_of_unknown_order": ("order_lines", 2, "order_id", "o99"),
    "line_units_no_number": ("order_lines", 0, "qty", "two"),
    "line_units_zero": ("order_lines", 0, "qty", "0"),
    "line_units_negative": ("order_lines", 0, "qty", "-2"),
    "line_amount_negative": ("order_lines", 1, "amount", "-500"),
    "refund_id_empty": ("refunds", 0, "refund_id", ""),
    "refund_id_twice": ("refunds", 2, "refund_id", "r2"),
    "refunded_at_without_zone": ("refunds", 2, "refunded_at", "2020-02-03 10:00:00"),
    "refund_amount_negative": ("refunds", 1, "amount", "-2010"),
    "refund_lines_above_it": ("refunds", 1, "amount", "2009"),
    "refund_line_of_units_of_no_line": ("refund_lines", 1, "matched_line_id", ""),
    "refund_of_unknown_order": ("refunds", 0, "order_id", "o99"),
    "refund_line_id_twice": ("refund_lines", 1, "line_id", "r1.1"),
    "refund_line_of_unknown_refund": ("refund_lines", 3, "refund_id", "r99"),
    "refund_line_of_unknown_line": ("refund_lines", 3, "matched_line_id", "o99.1"),
    "refund_line_of_another_members_line": ("refund_lines", 3, "matched_line_id", "o1.1"),
    "refund_line_of_a_guests_line": ("refund_lines", 3, "matched_line_id", "o3.1"),
    "refund_line_units_no_number": ("refund_lines", 0, "qty", "1.5"),
    "refund_line_units_negative": ("refund_lines", 0, "qty", "-1"),
    "refund_line_amount_negative": ("refund_lines", 0, "amount", "-1000"),
    "refund_line_units_over_bought": ("refund_lines", 0, "qty", "3"),
    "refund_line_units_over_bought_in_sum": ("refund_lines", 4, "qty", "2"),
}

# Kinds of a row or a file as a whole, made by functions below.
BAD_SHAPES = ("column_missing", "line_column_missing", "row_too_short", "row_too_long", "after_an_empty_line")

BAD_KINDS = (*BAD_VALUES, *BAD_SHAPES)


def write_bad_rows(directory: Path | str, kind: str) -> Place:
    """Write the sound set with one defect, one of BAD_KINDS, and return where it must be reported."""
    book = _sound()
    if kind in BAD_VALUES:
        file, row, column, value = BAD_VALUES[kind]
        book.files[file][row][column] = value
        book.write(Path(directory))
        return Place(f"{file}.csv.gz", row + 2, column)
    book.write(Path(directory))
    shapes: dict[str, Callable[[Path, Book], Place]] = dict(
        zip(BAD_SHAPES, (_no_column, _no_line_column, _short_row, _long_row, _after_empty), strict=True)
    )
    return shapes[kind](Path(directory), book)


def _values(book: Book, file: str) -> list[list[str]]:
    return [list(row.values()) for row in book.files[file]]


def _no_column(directory: Path, book: Book) -> Place:
    """Leave `amount` out of the orders."""
    rows = [row[:3] + row[4:] for row in _values(book, "orders")]
    write_file(directory / "orders.csv.gz", COLUMNS["orders"][:3] + COLUMNS["orders"][4:], rows)
    return Place("orders.csv.gz", 1, "amount")


def _no_line_column(directory: Path, book: Book) -> Place:
    """Leave `matched_line_id` out of the refund lines."""
    rows = [row[:7] + row[8:] for row in _values(book, "refund_lines")]
    write_file(directory / "refund_lines.csv.gz", COLUMNS["refund_lines"][:7] + COLUMNS["refund_lines"][8:], rows)
    return Place("refund_lines.csv.gz", 1, "matched_line_id")


def _short_row(directory: Path, book: Book) -> Place:
    """End the second order after its amount: the first column it lacks is `currency`."""
    rows = _values(book, "orders")
    rows[1] = rows[1][:4]
    write_file(directory / "orders.csv.gz", COLUMNS["orders"], rows)
    return Place("orders.csv.gz", 3, "currency")


def _long_row(directory: Path, book: Book) -> Place:
    """Give the second order a value more than there are columns."""
    rows = _values(book, "orders")
    rows[1].append("more")
    write_file(directory / "orders.csv.gz", COLUMNS["orders"], rows)
    return Place("orders.csv.gz", 3, None)


def _after_empty(directory: Path, book: Book) -> Place:
    """Put an empty line, which is nothing, before a bad row: lines are counted as an editor counts them."""
    rows = _values(book, "orders")
    rows[2][3] = "none"
    write_file(directory / "orders.csv.gz", COLUMNS["orders"], [rows[0], [], *rows[1:]])
    return Place("orders.csv.gz", 5, "amount")

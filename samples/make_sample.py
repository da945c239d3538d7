"""Make the shipped sample from the whole data set: python samples/make_sample.py SOURCE_DIR TARGET_DIR.

Who is in it is decided by a digest of the id alone, so the same source always gives the same bytes and nobody
was picked by hand. A member comes with everything: orders, lines, refunds, refund lines. Lines of a refund
name lines of the same member, so no link leads out of the sample.
"""

import csv
import gzip
import hashlib
import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

# 1 in 10 of 4,338 members makes about 400. Guests order 90 lines at a time and earn nothing: 1 in 44 will do.
ONE_MEMBER_IN = 10
ONE_GUEST_IN = 44

DROPPED = {"description"}

Row = dict[str, str]


def is_chosen(name: str, one_in: int) -> bool:
    """Choose one of so many ids, evenly and for ever the same ones."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % one_in == 0


def is_in_sample(row: Row, key: str) -> bool:
    """Decide by the member, or for a guest by the order's or refund's own id."""
    return is_chosen(row["member_id"], ONE_MEMBER_IN) if row["member_id"] else is_chosen(row[key], ONE_GUEST_IN)


def read(path: Path) -> Iterator[Row]:
    """Yield the rows of a file."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def write(path: Path, rows: Iterable[Row]) -> int:
    """Write rows without the dropped columns and return how many; no name and no time go into the gzip header."""
    text = io.StringIO()
    kept = [{name: value for name, value in row.items() if name not in DROPPED} for row in rows]
    writer = csv.DictWriter(text, list(kept[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept)
    path.write_bytes(gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0))
    return len(kept)


def make(source: Path, target: Path) -> dict[str, int]:
    """Write the four files and return the rows in each."""
    target.mkdir(parents=True, exist_ok=True)
    orders = [row for row in read(source / "orders.csv.gz") if is_in_sample(row, "order_id")]
    refunds = [row for row in read(source / "refunds.csv.gz") if is_in_sample(row, "refund_id")]
    order_ids = {row["order_id"] for row in orders}
    refund_ids = {row["refund_id"] for row in refunds}
    lines = (row for row in read(source / "order_lines.csv.gz") if row["order_id"] in order_ids)
    refund_lines = (row for row in read(source / "refund_lines.csv.gz") if row["refund_id"] in refund_ids)
    files = {"orders": orders, "order_lines": lines, "refunds": refunds, "refund_lines": refund_lines}
    return {name: write(target / f"{name}.csv.gz", rows) for name, rows in files.items()}


if __name__ == "__main__":
    for name, count in make(Path(sys.argv[1]), Path(sys.argv[2])).items():
        sys.stdout.write(f"{name}: {count:,} rows\n")

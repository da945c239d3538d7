"""Files of a data set as other programs write them."""

import csv
import gzip
from pathlib import Path

import pytest

from storefront.replay.files import Problem, iter_rows
from storefront.replay.staging import Staged, write_rejects

HEADER = "order_id,member_id,ordered_at,amount,currency\n"
ROW = "o1,m1,2026-05-01T00:00:00Z,{},GBP\n"


def write_orders(directory: Path, text: str, encoding: str) -> None:
    with gzip.open(directory / "orders.csv.gz", "wt", encoding=encoding, newline="") as out:
        out.write(text)


@pytest.mark.parametrize("header", [HEADER, '"order_id",member_id,ordered_at,amount,currency\n'])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, header: str) -> None:
    write_orders(tmp_path, header + ROW.format(1), "utf-8")
    plain = list(iter_rows(tmp_path, "orders"))
    write_orders(tmp_path, header + ROW.format(1), "utf-8-sig")
    assert list(iter_rows(tmp_path, "orders")) == plain
    assert not isinstance(plain[0], Problem)


def test_rejected_rows_of_a_file_with_a_byte_order_mark_are_written_as_they_are(tmp_path: Path) -> None:
    write_orders(tmp_path, ROW.format("x"), "utf-8-sig")  # without a header, so that the mark stands in the row
    staged = Staged(tmp_path, rejected=[Problem("orders.csv.gz", 1, "order_id", "the column is missing")])
    write_rejects(staged, tmp_path / "rejects.csv")
    with (tmp_path / "rejects.csv").open(encoding="utf-8", newline="") as text:
        assert list(csv.reader(text))[1][4] == ROW.format("x").strip()

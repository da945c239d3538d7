"""Splits of refunds: the parts of any sequence add up to what was paid, and none is more than what came back."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from storefront.services.checkouts.giving_back import Returned


def _returned(before: int, after: int, paid: int, in_points: int) -> Returned:
    return Returned(1, 1, 1, 1, "a", after - before, in_points, before, after, paid)


@given(st.data(), st.integers(1, 10**9))
def test_the_parts_of_a_line_add_up_whatever_the_refunds(data: st.DataObject, paid: int) -> None:
    in_points = data.draw(st.integers(0, paid))
    points = data.draw(st.integers(0, 10**9))
    cuts = sorted(data.draw(st.lists(st.integers(0, paid), max_size=8)))
    refunds = [_returned(before, after, paid, in_points) for before, after in pairwise([0, *cuts, paid])]
    parts = [each.part_of(each.paid_in_points_minor) for each in refunds]
    assert all(0 <= part <= each.amount_minor for part, each in zip(parts, refunds, strict=True))
    assert sum(parts) == in_points
    given_back = [each.part_of(points) for each in refunds]
    assert min(given_back) >= 0
    assert sum(given_back) == points


def test_a_line_that_cost_nothing_gives_nothing_back() -> None:
    assert _returned(0, 0, 0, 0).part_of(5) == 0

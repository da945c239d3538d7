"""Intervals, rates, and what may be said when."""

from datetime import date, timedelta
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.rules import SETTLE_DAYS, State, find_state, rate_bps, wilson

DAY = timedelta(days=1)


def test_the_interval_of_the_literature() -> None:
    """15 of 148: R. G. Newcombe, Statistics in Medicine 17 (1998), 857-872, table I."""
    found = wilson(15, 148)
    assert found is not None
    assert (round(found.low, 4), round(found.high, 4)) == (0.0624, 0.1605)


@pytest.mark.parametrize(("retained", "n"), [(84, 120), (1, 2), (1, 10_000), (9_999, 10_000), (0, 10), (10, 10)])
def test_at_its_bounds_the_rate_is_just_1_96_deviations_away(retained: int, n: int) -> None:
    """What defines the score interval, without solving for its bounds."""
    found = wilson(retained, n)
    assert found is not None
    for bound in {found.low, found.high} - {0.0, 1.0}:
        deviation = sqrt(bound * (1 - bound) / n)
        assert abs(retained / n - bound) == pytest.approx(1.959964 * deviation, rel=1e-6)


@given(st.integers(1, 10**9).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_rate_and_its_mirror_image(counts: tuple[int, int]) -> None:
    retained, n = counts
    found, mirror = wilson(retained, n), wilson(n - retained, n)
    assert found is not None
    assert mirror is not None
    assert 0 <= found.low <= retained / n <= found.high <= 1
    assert found.low == pytest.approx(1 - mirror.high, abs=1e-9)


def test_nobody_has_neither_rate_nor_interval() -> None:
    assert wilson(0, 0) is None
    assert rate_bps(0, 0) is None


@pytest.mark.parametrize(
    ("retained", "n", "bps"), [(1, 3, 3333), (2, 3, 6667), (1, 20_000, 1), (1, 20_001, 0), (7, 7, 10_000)]
)
def test_a_rate_rounds_halves_up(retained: int, n: int, bps: int) -> None:
    assert rate_bps(retained, n) == bps


@pytest.mark.parametrize("ends_on", [date(2024, 3, 1), date(2025, 3, 1), date(2025, 1, 1), date(2025, 12, 31)])
def test_a_cell_ripens_to_the_day(ends_on: date) -> None:
    """The last day that counts is the one before `ends_on`: once its facts are in, the cell is over."""
    last = ends_on - DAY
    assert find_state(ends_on=ends_on, watermark=last - DAY) == State.IMMATURE
    assert find_state(ends_on=ends_on, watermark=last) == State.PROVISIONAL
    assert find_state(ends_on=ends_on, watermark=last + (SETTLE_DAYS - 1) * DAY) == State.PROVISIONAL
    assert find_state(ends_on=ends_on, watermark=last + SETTLE_DAYS * DAY) == State.FINAL

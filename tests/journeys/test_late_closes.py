"""Closes that come days late bring about what punctual ones do."""

from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import pytest

from core.calendar import day_start
from points.services.verify import verify
from tests.journeys.histories import STRETCHES
from tests.storefront.closing import DAY, MINUTE, days_closed, draw_arrivals, open_shop, outcome, run

pytestmark = pytest.mark.django_db

DAYS = 10
LATE = 3


def compare(
    folder: Path, zone: str, first: date, seed: int, *, has_late: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Live one history twice: with each day closed in time, and with three days closed together."""
    arrivals = draw_arrivals(Random(seed), zone, first, DAYS, has_late=has_late)
    ends = [day_start(first + n * DAY, zone) + MINUTE for n in range(DAYS + LATE + 5)]
    punctual, late = (
        # The tier that an order earns with is that known when it is told; what late facts change comes with the close.
        open_shop(folder, f"{name}-{zone[-4:].lower()}-{seed}", zone, has_multiplier=not has_late,
                  joined_at=ends[0] - 2 * DAY)
        for name in ("punctual", "late")
    )  # fmt: skip
    run(punctual, arrivals, ends, until=ends[-1])
    run(late, arrivals, ends[::LATE], until=ends[-1])
    assert days_closed(punctual) == days_closed(late)
    assert [list(verify(program=program)) for program in (punctual, late)] == [[], []]
    return outcome(punctual), outcome(late)


def check(folder: Path, zone: str, first: date, seed: int, *, has_late: bool) -> None:
    punctual, late = compare(folder, zone, first, seed, has_late=has_late)
    for name, found in punctual.items():
        assert late[name] == found, name
    # The history has what it is about.
    kinds = {entry[2] for entry in punctual["entries"]}
    assert kinds >= {1, 7, 8, 11}
    assert {cause for *_, cause, _ in punctual["tiers"]} >= {"upgraded", "downgraded"}
    assert punctual["reminders"]


@pytest.mark.parametrize(
    ("zone", "first", "has_late"),
    # In London and Havana the clock changes meanwhile; in Shanghai a month and a year begin.
    [(*STRETCHES[1], False), (*STRETCHES[1], True), (*STRETCHES[3], True), (*STRETCHES[5], False)],
)
def test_three_days_late_equals_three_punctual_closes(tmp_path: Path, zone: str, first: date, has_late: bool) -> None:
    check(tmp_path, zone, first, 1, has_late=has_late)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(2, 30))
@pytest.mark.parametrize("has_late", [False, True])
def test_late_closes_equal_punctual_ones_in_many_histories(tmp_path: Path, seed: int, has_late: bool) -> None:
    zone, first = STRETCHES[seed % len(STRETCHES)]
    check(tmp_path, zone, first, seed, has_late=has_late)

"""What the services make of random histories of returns equals the oracle's answer, after every step."""

from pathlib import Path

import pytest

from points.services.verify import verify
from tests.points.return_plans import Outcome, run
from tests.points.return_shops import make_shops

pytestmark = pytest.mark.django_db

FIRST, MANY, PER_TEST = 200, 5_000, 200


def histories(folder: Path, first: int, how_many: int) -> list[Outcome]:
    """Run histories of these numbers; each has its shop and its seed by its number."""
    shops = make_shops(folder)
    outcomes = [run(shops[number % len(shops)], str(number)) for number in range(first, first + how_many)]
    assert [finding for shop in shops for finding in verify(program=shop.program)] == []
    return outcomes


def check(outcomes: list[Outcome]) -> None:
    different = [str(one) for one in outcomes if one.difference]
    assert not different, f"{len(different)} of {len(outcomes)} differ\n" + "\n\n".join(different[:5])


def test_two_hundred_histories_equal_the_oracle(tmp_path: Path) -> None:
    outcomes = histories(tmp_path, 0, FIRST)
    check(outcomes)
    assert sum(one.whole for one in outcomes) > FIRST / 2, "too few orders of which all comes back"
    assert sum(one.refused for one in outcomes) > FIRST / 20, "too few refusals"


@pytest.mark.deep
@pytest.mark.parametrize("first", range(0, MANY, PER_TEST))
def test_five_thousand_histories_equal_the_oracle(tmp_path: Path, first: int) -> None:
    check(histories(tmp_path, first, PER_TEST))

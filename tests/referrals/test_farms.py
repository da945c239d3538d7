"""Planted farms among honest members: how many of their referrals are caught, and how many honest ones with them.

The deep test has the size that docs/referrals.md reports; the quick one keeps the detection from breaking.
"""

import pytest

from tests.referrals.farms import Town, World, live

SEED = 4
# Of these, every third is careful: a card and a device for each account.
FARMS = (5, 6, 8, 10, 12, 15, 20, 25, 30, 35, 40, 50)

pytestmark = pytest.mark.django_db(transaction=True)


def plant(honest: int, sizes: tuple[int, ...]) -> World:
    town = Town(SEED)
    town.add_honest(honest)
    for number, size in enumerate(sizes):
        town.add_farm(number, size, is_careful=number % 3 == 2)
    return live(town.people)


def report(world: World) -> str:
    found = {number: f"{sum(told)} of {len(told) - sum(told)}" for number, told in world.by_farm.items()}
    return (
        f"seed {SEED}: precision {world.precision:.3f}, recall {world.recall:.3f}; "
        f"farm referrals caught {world.farm_caught} of {world.farm_referrals}, "
        f"honest ones {world.honest_caught} of {world.honest_referrals}; {world.in_review()}, "
        f"refused {world.refused}; by farm {found}"
    )


def test_farms_among_a_few_hundred_are_caught() -> None:
    world = plant(600, (5, 8, 15, 30))
    assert world.recall >= 0.7, report(world)
    assert world.precision >= 0.7, report(world)


@pytest.mark.deep
def test_farms_among_ten_thousand_are_caught() -> None:
    world = plant(10_000, FARMS)
    print(report(world))  # noqa: T201 the figures of docs/referrals.md
    assert world.recall >= 0.7, report(world)
    assert world.precision >= 0.6, report(world)

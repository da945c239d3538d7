"""Who cannot move up is told by one small read; who may is measured."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.membership.tier_worlds import YEAR_OF_DAYS, World, cuts, spend

pytestmark = pytest.mark.django_db

# Only the statement that lists what a member did has it.
_MOMENTS = "CROSS JOIN LATERAL"


def measures(world: World, at: str, minor: int) -> bool:
    with CaptureQueriesContext(connection) as queries:
        world.order(at, minor)
    return any(_MOMENTS in query["sql"] for query in queries)


def test_an_order_that_cannot_lift_is_not_measured() -> None:
    world = World.create(cuts("100.00", "150.00", upgrade="immediate"))
    world.join()
    assert not measures(world, "2026-02-10T12:00", 9_999)
    assert measures(world, "2026-02-11T12:00", 1)
    assert [row[1] for row in world.rows()] == ["t0", "t1"]
    assert not measures(world, "2026-02-12T12:00", 4_999)
    assert measures(world, "2026-02-13T12:00", 1)
    assert [row[1] for row in world.rows()] == ["t0", "t1", "t2"]
    assert not measures(world, "2026-02-14T12:00", 90_000), "nothing is above the highest tier"


def test_what_lies_before_every_window_does_not_count() -> None:
    world = World.create(cuts("100.00", upgrade="immediate", evaluation={"every": "year", "on": "03-01"}))
    world.join(at="2024-02-01")
    world.order("2024-02-10T12:00", 9_999)
    world.evaluate("2024-03-01", "2025-03-01")
    assert not measures(world, "2026-02-10T12:00", 9_999)


def test_credits_that_were_taken_back_later_on_their_day_have_lifted() -> None:
    definition = cuts("100.00", upgrade="immediate")
    definition["tiers"][1]["entry"] = spend("100", YEAR_OF_DAYS, "credits")
    world = World.create(definition)
    world.join()
    world.credit("2026-02-10T12:00", -100)
    world.credit("2026-02-10T10:00", 100)
    assert world.rows()[1:] == [("2026-02-10T10:00:00.000001", "t1", "upgraded")]

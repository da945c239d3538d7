"""A failed payment or a complaint is recorded, and makes no active day: of no requirement, no path, no explanation."""

import pytest

from membership.engagement import NO_ENGAGEMENT
from membership.models import Activity, MemberDay
from membership.selectors import get_path
from membership.services.rebuild import find_day_mismatches
from membership.stories import find_story, list_facts_of_step, nearest
from tests.membership.tier_worlds import World, cuts, spend, utc

pytestmark = pytest.mark.django_db


def three_days(upgrade: str) -> World:
    """Three active days within thirty give the tier; two are there."""
    definition = cuts("1.00", upgrade=upgrade)
    definition["tiers"][1]["entry"] = spend("3", {"rolling_days": 30}, "active_days")
    world = World.create(definition)
    world.join()
    world.visit("2026-02-10")
    world.order("2026-02-11", 500)
    return world


@pytest.mark.parametrize("upgrade", ["immediate", "at_evaluation"])
@pytest.mark.parametrize("kind", NO_ENGAGEMENT)
def test_a_day_of_no_engagement_is_no_active_day(upgrade: str, kind: str) -> None:
    world = three_days(upgrade)
    world.visit("2026-02-12T10:00", kind=kind)
    path = get_path(member_id=world.ids["m"], ladder=world.ladder, at=utc("2026-02-20"))
    assert path is not None
    assert path.above[0].branches[0][0].has == 2
    world.evaluate("2026-03-01")
    assert [row[1] for row in world.rows()] == ["t0"]
    assert Activity.objects.filter(kind=kind).count() == 1
    assert not MemberDay.objects.get(day="2026-02-12").activities
    assert find_day_mismatches(world.program) == []


@pytest.mark.parametrize("upgrade", ["immediate", "at_evaluation"])
def test_a_visit_on_the_same_day_makes_it_one(upgrade: str) -> None:
    world = three_days(upgrade)
    world.visit("2026-02-12T10:00", kind="service_issue")
    world.visit("2026-02-12T11:00")
    world.evaluate("2026-03-01")
    assert [row[1] for row in world.rows()] == ["t0", "t1"]
    assert MemberDay.objects.get(day="2026-02-12").activities == 1
    assert find_day_mismatches(world.program) == []


def test_an_explanation_does_not_name_it_as_a_fact_that_counts() -> None:
    world = three_days("immediate")
    world.visit("2026-02-12T10:00", kind="payment_failure")
    at = utc("2026-02-20")
    story = find_story(program=world.program, member_id=world.ids["m"], ladder=world.ladder.code, at=at)
    assert story is not None
    facts = list_facts_of_step(story, nearest(story.path.above[0]))
    assert [(fact.kind, fact.at) for fact in facts] == [("order", utc("2026-02-11")), ("activity", utc("2026-02-10"))]

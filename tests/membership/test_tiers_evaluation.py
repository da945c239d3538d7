"""What a scheduled evaluation sees at its boundaries, and what it does with each policy."""

from datetime import timedelta
from typing import Any

import pytest

from core.models import OutboxEvent
from membership.models import Evaluation, TierPeriod
from membership.services import evaluations, tiers
from tests.membership.tier_worlds import World, cuts, spend, utc

pytestmark = pytest.mark.django_db


def tier(world: World, name: str = "m") -> str:
    return world.rows(name)[-1][1]


def day_before(day: str) -> str:
    """Return when to join for the evaluation of a day to be the first one."""
    return (utc(day) - timedelta(days=1)).isoformat()


def test_a_fact_at_midnight_on_the_first_belongs_to_the_next_evaluation() -> None:
    world = World.create(cuts("100.00"))
    world.join()
    world.order("2026-03-01T00:00:00", 10_000)
    world.evaluate("2026-03-01")
    assert world.rows() == [("2026-02-01", "t0", "enrolled")]
    world.evaluate("2026-04-01")
    assert world.rows()[1:] == [("2026-04-01", "t1", "upgraded")]


def test_the_last_microsecond_before_midnight_is_seen() -> None:
    world = World.create(cuts("100.00"))
    world.join()
    world.order("2026-02-28T23:59:59.999999", 10_000)
    world.evaluate("2026-03-01")
    assert world.rows()[1:] == [("2026-03-01", "t1", "upgraded")]


@pytest.mark.parametrize(("minor", "reached"), [(9_999, "t0"), (10_000, "t1"), (10_001, "t1")])
def test_cuts_are_inclusive(minor: int, reached: str) -> None:
    world = World.create(cuts("100.00"))
    world.join()
    world.order("2026-02-10", minor)
    world.evaluate("2026-03-01")
    assert tier(world) == reached


@pytest.mark.parametrize(("day", "reached"), [("2026-02-22T00:00", "t1"), ("2026-02-21T23:59:59.999999", "t0")])
def test_a_rolling_window_is_that_many_days_ending_with_the_day_before(day: str, reached: str) -> None:
    world = World.create(cuts("100.00", window={"rolling_days": 7}))
    world.join()
    world.order(day, 10_000)
    world.evaluate("2026-03-01")
    assert tier(world) == reached


@pytest.mark.parametrize(
    ("day", "evaluated_at", "reached"),
    [
        ("2024-02-29", "2025-02-01", "t1"),
        ("2024-02-29", "2025-03-01", "t0"),
        ("2024-03-01", "2025-03-01", "t1"),
        ("2023-03-02", "2024-03-01", "t1"),
        ("2023-03-01", "2024-03-01", "t0"),
    ],
)
def test_365_days_count_the_leap_day(day: str, evaluated_at: str, reached: str) -> None:
    world = World.create(cuts("100.00"))
    world.join(at=day_before(evaluated_at))
    world.order(day, 10_000)
    world.evaluate(evaluated_at)
    assert tier(world) == reached


def test_an_evaluation_falls_on_the_first_existing_instant_of_the_local_day() -> None:
    # Beirut skipped 00:00 to 01:00 on 2017-03-26; the local day began at 22:00 UTC.
    world = World.create(cuts("100.00", evaluation={"every": "day"}), "Asia/Beirut")
    world.join(at="2017-03-25")
    world.order("2017-03-25T21:59:59", 10_000)
    world.order("2017-03-25T22:00:00", 10_000)
    world.ladder.program = world.program
    due = tiers.due_evaluations(ladder=world.ladder, after=utc("2017-03-24T22:00"), until=utc("2017-03-26T22:00"))
    assert due == [utc("2017-03-25T22:00"), utc("2017-03-26T21:00")]
    world.evaluate("2017-03-25T22:00")
    assert TierPeriod.objects.get(cause="upgraded").evidence == {"net_spend:rolling_365": 10_000}


@pytest.mark.parametrize(
    ("period", "at", "evaluated_at", "reached"),
    [
        ("month", "2026-03-01T00:00", "2026-04-01", "t1"),
        ("month", "2026-02-28T23:59", "2026-04-01", "t0"),
        ("quarter", "2026-01-01T00:00", "2026-04-01", "t1"),
        ("quarter", "2025-12-31T23:59", "2026-04-01", "t0"),
        ("half", "2026-01-01T00:00", "2026-07-01", "t1"),
        ("half", "2025-12-31T23:59", "2026-07-01", "t0"),
        ("year", "2026-01-01T00:00", "2027-01-01", "t1"),
        ("year", "2025-12-31T23:59", "2027-01-01", "t0"),
    ],
)
def test_a_calendar_window_is_the_period_of_the_last_day_that_began_before(
    period: str, at: str, evaluated_at: str, reached: str
) -> None:
    world = World.create(cuts("100.00", window={"calendar": period}))
    world.join(at=day_before(evaluated_at))
    world.order(at, 10_000)
    world.evaluate(evaluated_at)
    assert tier(world) == reached


def test_a_lifetime_forgets_nothing() -> None:
    world = World.create(cuts("100.00", window="lifetime"))
    world.join()
    world.order("1999-06-01", 10_000)
    world.evaluate("2026-03-01")
    assert tier(world) == "t1"


def test_orders_credits_and_active_days_count_and_a_returned_order_does_not() -> None:
    definition = cuts("1.00", "1.00", "1.00")
    for rung, metric in zip(definition["tiers"][1:], ("order_count", "active_days", "credits"), strict=True):
        rung["entry"] = spend("2", {"rolling_days": 30}, metric)
    world = World.create(definition)
    for name in ("orders", "days", "credits", "returner"):
        world.join(name)
    world.order("2026-02-10T08:00", 0, "orders")
    world.order("2026-02-10T09:00", 0, "orders")
    world.order("2026-02-10T08:00", 500, "days")
    world.visit("2026-02-10T09:00", "days")
    world.visit("2026-02-11", "days")
    world.credit("2026-02-10", 3, "credits")
    world.credit("2026-02-11", -1, "credits")
    world.order("2026-02-10", 500, "returner", order_id="kept")
    world.order("2026-02-10", 500, "returner", order_id="returned")
    world.refund("2026-02-20", 500, "returner", order="returned")
    world.evaluate("2026-03-01")
    assert [tier(world, name) for name in ("orders", "days", "credits", "returner")] == ["t1", "t2", "t3", "t0"]


def count_ladder(window: Any, **policies: Any) -> dict[str, Any]:
    definition = cuts("1.00", **policies)
    definition["tiers"][1]["entry"] = spend("1", window, "order_count")
    return definition


def test_a_return_takes_no_other_order_of_the_window_away() -> None:
    world = World.create(count_ladder({"rolling_days": 28}))
    world.join()
    old = world.order("2026-01-31T23:59", 500)
    world.order("2026-02-01", 500)
    world.refund("2026-02-20", 500, order=old)
    world.evaluate("2026-03-01")
    assert tier(world) == "t1"


@pytest.mark.parametrize(
    ("back", "reached"), [("2026-02-28T23:59:59.999999", "t0"), ("2026-03-01T00:00", "t1"), ("2026-03-02", "t1")]
)
def test_an_order_counts_until_the_day_on_which_it_came_back(back: str, reached: str) -> None:
    world = World.create(count_ladder({"rolling_days": 28}))
    world.join()
    world.refund(back, 500, order=world.order("2026-02-10", 500))
    world.evaluate("2026-03-01")
    assert tier(world) == reached


def test_an_order_that_came_back_in_another_window_is_no_order_of_its_own() -> None:
    # Two windows side by side: what left the short one still counts in the long one, unless it came back.
    definition = count_ladder({"rolling_days": 10})
    branch = {"metric": "order_count", "at_least": 2, "window": {"rolling_days": 28}}
    definition["tiers"][1]["entry"]["any_of"][0]["all_of"].append(branch)
    world = World.create(definition)
    for name in ("kept", "returned"):
        world.join(name)
        first = world.order("2026-02-05", 500, name)
        world.order("2026-02-25", 500, name)
        if name == "returned":
            world.refund("2026-02-06", 500, name, order=first)
    world.evaluate("2026-03-01")
    assert [tier(world, name) for name in ("kept", "returned")] == ["t1", "t0"]
    found = TierPeriod.objects.get(cause="upgraded").evidence
    assert found == {"order_count:rolling_10": 1, "order_count:rolling_28": 2}


def test_an_immediate_upgrade_counts_no_order_that_is_back_and_loses_none_to_an_older_one() -> None:
    definition = count_ladder({"rolling_days": 10}, upgrade="immediate")
    definition["tiers"][1]["entry"] = spend("2", {"rolling_days": 10}, "order_count")
    world = World.create(definition)
    world.join()
    old = world.order("2026-02-05", 500)
    gone = world.order("2026-02-16", 500)
    world.refund("2026-02-17", 500, order=old)
    world.refund("2026-02-18T09:00", 500, order=gone)
    world.order("2026-02-18T10:00", 500)
    assert tier(world) == "t0"
    world.order("2026-02-18T11:00", 500)
    assert world.rows()[1:] == [("2026-02-18T11:00:00.000001", "t1", "upgraded")]


def test_negative_net_spend_is_the_lowest_tier() -> None:
    world = World.create(cuts("0.01"))
    world.join()
    world.refund("2026-02-10", 500)
    world.evaluate("2026-03-01")
    assert tier(world) == "t0"


POLICIES: list[tuple[dict[str, Any], list[tuple[str, str, str]]]] = [
    ({"downgrade": {"when": "never"}}, []),
    ({}, [("2026-04-01", "t0", "downgraded")]),
    ({"downgrade": {"to": "one_tier"}}, [("2026-04-01", "t1", "downgraded"), ("2026-05-01", "t0", "downgraded")]),
    (
        {"downgrade": {"when": "after_grace", "grace_days": 40}},
        [("2026-04-01", "t2", "stayed"), ("2026-06-01", "t0", "downgraded")],
    ),
    ({"minimum_stay_days": 61}, [("2026-05-01", "t0", "downgraded")]),
    ({"minimum_stay_days": 62}, [("2026-06-01", "t0", "downgraded")]),
]


@pytest.mark.parametrize(("policies", "after"), POLICIES)
def test_each_policy_for_one_who_no_longer_qualifies(
    policies: dict[str, Any], after: list[tuple[str, str, str]]
) -> None:
    world = World.create(cuts("100.00", "200.00", window={"calendar": "month"}, **policies))
    world.join()
    world.order("2026-02-10", 20_000)
    world.evaluate("2026-03-01", "2026-04-01", "2026-05-01", "2026-06-01")
    assert world.rows()[1:] == [("2026-03-01", "t2", "upgraded"), *after]


def test_requalifying_ends_a_grace_and_the_next_failure_starts_anew() -> None:
    grace = {"when": "after_grace", "grace_days": 31}
    world = World.create(cuts("100.00", window={"calendar": "month"}, downgrade=grace))
    world.join()
    world.order("2026-02-10", 10_000)
    world.order("2026-04-10", 10_000)
    world.evaluate("2026-03-01", "2026-04-01", "2026-05-01", "2026-06-01", "2026-07-01", "2026-08-01")
    assert [
        (at.isoformat()[:10], t, until and until.isoformat()[:10]) for at, t, _, until in world.full_rows()[1:]
    ] == [
        ("2026-03-01", "t1", None),
        ("2026-04-01", "t1", "2026-05-02"),
        ("2026-05-01", "t1", None),
        ("2026-06-01", "t1", "2026-07-02"),
        ("2026-08-01", "t0", None),
    ]


def test_a_stay_requirement_keeps_what_the_entry_would_not_give() -> None:
    definition = cuts("100.00", window={"calendar": "month"})
    definition["tiers"][1]["stay"] = spend("10.00", {"calendar": "month"})
    world = World.create(definition)
    world.join()
    world.order("2026-02-10", 10_000)
    world.order("2026-03-10", 1_000)
    world.order("2026-04-10", 999)
    world.evaluate("2026-03-01", "2026-04-01", "2026-05-01")
    assert world.rows()[1:] == [("2026-03-01", "t1", "upgraded"), ("2026-05-01", "t0", "downgraded")]


def test_catching_up_three_evaluations_late_equals_three_punctual_ones() -> None:
    orders = [("2026-01-10", 20_000), ("2026-02-10", 10_000), ("2026-03-31T23:59", 5_000), ("2026-04-02", 20_000)]
    results = []
    for punctual in (True, False):
        world = World.create(cuts("100.00", "200.00", window={"calendar": "month"}))
        world.join(at="2026-01-05")
        pending = ["2026-02-01", "2026-03-01", "2026-04-01"]
        for at, minor in orders:
            while punctual and pending and pending[0] <= at:
                world.evaluate(pending.pop(0))
            world.order(at, minor)
        world.evaluate(*pending)
        results.append(world.full_rows())
    assert results[0] == results[1]
    assert [row[1] for row in results[0]] == ["t0", "t2", "t1", "t0"]


def test_a_second_run_and_small_chunks_change_nothing() -> None:
    world = World.create(cuts("100.00"))
    for name in ("a", "b", "c", "d", "e"):
        world.join(name)
        world.order("2026-02-10", 10_000 if name != "c" else 9_999, name)
    world.evaluate("2026-03-01", chunk_size=2)
    evaluation = Evaluation.objects.get()
    assert [(c.upgraded, c.downgraded) for c in evaluation.chunks.all()] == [(2, 0), (1, 0), (1, 0)]
    before = list(TierPeriod.objects.order_by("pk").values())
    world.evaluate("2026-03-01")
    assert list(TierPeriod.objects.order_by("pk").values()) == before
    events = OutboxEvent.objects.filter(topic="membership.tiers_moved").order_by("pk")
    assert [event.payload["members"] for event in events] == [
        {"2026-03-01": [world.ids["a"], world.ids["b"]]},
        {"2026-03-01": [world.ids["d"]]},
        {"2026-03-01": [world.ids["e"]]},
    ]


def test_an_interrupted_evaluation_goes_on_where_it_stopped() -> None:
    world = World.create(cuts("100.00"))
    for name in ("a", "b", "c"):
        world.join(name)
        world.order("2026-02-10", 10_000, name)
    begun = evaluations.begin(ladder=world.ladder, instant=utc("2026-03-01"), at=world.now(), chunk_size=1)
    assert evaluations.run_chunk(evaluation_id=begun.pk, at=world.now())
    assert not evaluations.finish(evaluation_id=begun.pk, at=world.now())
    assert [tier(world, name) for name in ("a", "b", "c")] == ["t1", "t0", "t0"]
    with pytest.raises(evaluations.EvaluationOutOfOrder, match=r"run the evaluation of 2026-03-01T00.* first"):
        world.evaluate("2026-04-01")
    world.evaluate("2026-03-01")
    assert [tier(world, name) for name in ("a", "b", "c")] == ["t1", "t1", "t1"]
    world.ladder.refresh_from_db()
    assert world.ladder.completed_at == utc("2026-03-01")


def test_an_instant_that_is_not_planned_or_lies_behind_is_refused() -> None:
    world = World.create(cuts("100.00"))
    world.join()
    with pytest.raises(evaluations.NotScheduled):
        world.evaluate("2026-03-02")
    world.evaluate("2026-03-01")
    with pytest.raises(evaluations.EvaluationOutOfOrder, match=r"2026-02-01T00.* lies behind .* 2026-03-01T00"):
        world.evaluate("2026-02-01")
    assert Evaluation.objects.count() == 1


def test_an_evaluation_that_is_due_is_not_skipped() -> None:
    world = World.create(cuts("100.00"))
    world.join(at="2026-01-05")
    for asked, first in (("2026-03-01", "2026-02-01"), ("2026-05-01", "2026-03-01")):
        with pytest.raises(evaluations.EvaluationOutOfOrder, match=f"run the evaluation of {first}T00.* first"):
            world.evaluate(asked)
        world.evaluate(first)
    assert list(Evaluation.objects.values_list("at", flat=True)) == [utc("2026-02-01"), utc("2026-03-01")]


def test_joining_at_the_instant_of_an_evaluation_is_after_it() -> None:
    world = World.create(cuts("100.00"))
    world.join(at="2026-03-01")
    world.order("2026-02-10", 10_000)
    world.evaluate("2026-03-01", "2026-04-01")
    assert world.rows() == [("2026-03-01", "t0", "enrolled"), ("2026-04-01", "t1", "upgraded")]


@pytest.mark.parametrize(("at", "reached"), [("2011-12-28T10:00", "t1"), ("2011-12-28T09:59", "t0")])
def test_a_skipped_day_takes_no_place_at_the_end_of_a_window(at: str, reached: str) -> None:
    # Samoa had no 2011-12-30: at the start of the 31st, two days are the 28th and the 29th.
    world = World.create(cuts("100.00", window={"rolling_days": 2}, evaluation={"every": "day"}), "Pacific/Apia")
    world.join(at="2011-12-29T12:00")
    world.order(at, 10_000)
    world.evaluate("2011-12-30T10:00")
    assert tier(world) == reached

"""Tiers from random small histories, told out of order and in pieces, equal the oracle's."""

from datetime import date, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from core.calendar import day_start
from membership.services.tiers import apply_dirty, due_evaluations
from tests.membership.tier_worlds import World
from tests.oracle import tiers as oracle

pytestmark = pytest.mark.django_db

ZONES = ["UTC", "Europe/London", "America/Sao_Paulo", "Asia/Beirut", "Pacific/Apia", "America/St_Johns"]
# Short windows come more often: they make tiers come and go within a few weeks.
WINDOWS: list[Any] = [1, 2, 2, 5, 5, 9, 365, "month", "month", "quarter", "half", "year", "lifetime"]
METRICS = ["net_spend", "net_spend", "order_count", "credits", "active_days"]
History = tuple[str, datetime, list[oracle.Fact]]
MINUTE = timedelta(minutes=1)


def window_definition(window: Any) -> Any:
    if window == "lifetime":
        return window
    return {"rolling_days": window} if isinstance(window, int) else {"calendar": window}


def any_of_definition(any_of: oracle.AnyOfAllOf) -> dict[str, Any]:
    return {
        "any_of": [
            {
                "all_of": [
                    {
                        "metric": need.metric,
                        "at_least": f"{need.at_least / 100:.2f}" if need.metric == "net_spend" else need.at_least,
                        "window": window_definition(need.window),
                    }
                    for need in all_of
                ]
            }
            for all_of in any_of
        ]
    }


def definition(ladder: oracle.Ladder) -> dict[str, Any]:
    tiers = []
    for rank, tier in enumerate(ladder.tiers):
        entry: dict[str, Any] = {"code": tier.code, "name": tier.code}
        if rank:
            entry["entry"] = any_of_definition(tier.entry)
        if rank and tier.stay is not None:
            entry["stay"] = any_of_definition(tier.stay)
        tiers.append(entry)
    return {
        "upgrade": ladder.upgrade,
        "evaluation": {"every": ladder.every, "on": ladder.on},
        "downgrade": {"when": ladder.downgrade, "grace_days": ladder.grace_days, "to": ladder.drop_to},
        "minimum_stay_days": ladder.minimum_stay_days,
        "tiers": tiers,
    }


requirements = st.builds(
    oracle.Requirement, st.sampled_from(METRICS), st.sampled_from([0, 1, 1, 2, 2, 3, 5]), st.sampled_from(WINDOWS)
)
any_ofs = st.lists(st.lists(requirements, min_size=1, max_size=2), min_size=1, max_size=2) | requirements.map(
    lambda need: [[need]]
)


@st.composite
def ladders(draw: st.DrawFn) -> oracle.Ladder:
    count = draw(st.integers(2, 4))
    when: Any = draw(st.sampled_from(["never", "at_evaluation", "at_evaluation", "after_grace", "after_grace"]))
    return oracle.Ladder(
        tiers=[
            oracle.Tier(f"t{rank}", draw(any_ofs) if rank else [], draw(st.none() | any_ofs) if rank else None)
            for rank in range(count)
        ],
        upgrade=draw(st.sampled_from(["immediate", "at_evaluation"])),
        every=draw(st.sampled_from(["day", "day", "month", "year"])),
        on=draw(st.sampled_from(["01-01", "02-28", "11-02"])),
        downgrade=when,
        grace_days=draw(st.sampled_from([1, 3, 40])) if when == "after_grace" else 0,
        drop_to=draw(st.sampled_from(["qualified", "one_tier"])),
        minimum_stay_days=draw(st.sampled_from([0, 0, 1, 10, 90])),
    )


@st.composite
def instants(draw: st.DrawFn, zone: str) -> datetime:
    """Draw an instant near the starts of local days, or anywhere, in a stretch that has zone changes."""
    first = {"Pacific/Apia": date(2011, 12, 27), "America/St_Johns": date(2010, 10, 29)}.get(zone, date(2017, 10, 13))
    day = first + timedelta(days=draw(st.integers(0, 24)))
    offset = draw(
        st.sampled_from([timedelta(0), timedelta(microseconds=-1), timedelta(microseconds=1)])
        | st.integers(-90, 1440).map(lambda minutes: minutes * MINUTE)
    )
    return day_start(day, zone) + offset


@st.composite
def histories(draw: st.DrawFn) -> History:
    zone = draw(st.sampled_from(ZONES))
    facts: list[oracle.Fact] = []
    for _ in range(draw(st.integers(2, 9))):
        at = draw(instants(zone))
        kind = draw(st.sampled_from(["order", "order", "order", "refund", "credit", "visit"]))
        returned_at = draw(st.none() | st.none() | instants(zone)) if kind == "order" else None
        value = draw(st.integers(-2, 4) if kind == "credit" else st.integers(1, 4))
        if returned_at is not None and returned_at >= at:
            order = oracle.Fact("order", at, value, returned_at, ((returned_at, value),))
            facts += [order, oracle.Fact("refund", returned_at, value)]
        else:
            facts.append(oracle.Fact(kind, at, value))  # type: ignore[arg-type]
    return zone, min([draw(instants(zone)), draw(instants(zone))]), facts


def tell(world: World, fact: oracle.Fact, returns: dict[datetime, list[str]]) -> None:
    if fact.kind == "order":
        order = world.order(fact.at, fact.value)
        if fact.returned_at is not None:
            returns.setdefault(fact.returned_at, []).append(order)
    elif fact.kind == "refund":
        order = returns.get(fact.at, [""]).pop() if returns.get(fact.at) else ""
        world.refund(fact.at, fact.value, order=order)
    elif fact.kind == "credit":
        world.credit(fact.at, fact.value)
    else:
        world.visit(fact.at)


def check(ladder: oracle.Ladder, history: History, order: Random) -> None:
    zone, joined_at, facts = history
    world = World.create(definition(ladder), zone)
    world.join("m", joined_at.isoformat())
    until = max([joined_at, *(fact.at for fact in facts)]) + timedelta(days=12)
    world.ladder.program = world.program
    due = due_evaluations(ladder=world.ladder, after=joined_at, until=until)
    # An order is told before its refund; otherwise facts and evaluations come in any order.
    told = list(facts)
    order.shuffle(told)
    returns: dict[datetime, list[str]] = {}
    pending = [*due]
    told.sort(key=lambda fact: fact.kind == "refund")
    for fact in told:
        tell(world, fact, returns)
        for _ in range(order.randint(0, max(0, len(pending) // 3))):
            world.evaluate(pending.pop(0))
    world.evaluate(*pending)
    # The last close has no successor here: what came late after it is applied as the next day's close would.
    world.ladder.refresh_from_db()
    apply_dirty(ladder=world.ladder, through=until, at=world.now())
    rows = oracle.tier_history(ladder, facts, time_zone=zone, joined_at=joined_at, until=until)
    event(f"rows: {min(len(rows), 6)}")
    for cause in {row.cause for row in rows}:
        event(cause)
    assert world.full_rows() == [(r.valid_from, r.tier, r.cause, r.guaranteed_until) for r in rows]


ARGUMENTS = given(ladder=ladders(), history=histories(), order=st.randoms(use_true_random=False))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@ARGUMENTS
def test_tiers_equal_the_oracle_in_whatever_order_facts_and_evaluations_come(
    ladder: oracle.Ladder, history: History, order: Random
) -> None:
    check(ladder, history, order)


@pytest.mark.deep
@settings(max_examples=3_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@ARGUMENTS
def test_tiers_equal_the_oracle_in_many_more_worlds(ladder: oracle.Ladder, history: History, order: Random) -> None:
    check(ladder, history, order)

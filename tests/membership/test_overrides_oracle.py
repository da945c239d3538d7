"""Overrides among random facts and closes: while one lasts its tier is held, at all other times what the facts give."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from core.calendar import TICK
from membership.models import TierOverride
from membership.services import overrides, tiers
from tests.membership.override_worlds import ClockedWorld
from tests.membership.test_tiers_oracle import History, definition, histories, instants, ladders, tell
from tests.oracle import tiers as oracle

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Decision:
    """An override of a tier until an instant, or, without one, the lifting of the override in force."""

    tier: str
    until: datetime | None


@dataclass(frozen=True)
class Close:
    """All that is due for tiers, or its first step alone."""

    evaluates: bool


@st.composite
def timelines(draw: st.DrawFn) -> tuple[oracle.Ladder, History, list[tuple[datetime, Any]]]:
    """Draw a ladder, a history, and what is told, decided and closed when: facts often late, closes too."""
    ladder = draw(ladders())
    zone, joined_at, facts = draw(histories())
    delays = st.sampled_from([timedelta(0), timedelta(0), timedelta(0), 2 * DAY, 9 * DAY])
    steps: list[tuple[datetime, Any]] = [(fact.at + draw(delays), fact) for fact in facts if fact.kind != "refund"]
    orders_told = max((at for at, _ in steps), default=joined_at)
    steps += [(max(fact.at, orders_told), fact) for fact in facts if fact.kind == "refund"]
    for _ in range(draw(st.integers(1, 4))):
        at = draw(instants(zone))
        until = None if draw(st.integers(0, 3)) == 0 else max(draw(instants(zone)), at + TICK)
        steps.append((at, Decision(draw(st.sampled_from([tier.code for tier in ladder.tiers])), until)))
    steps += [(draw(instants(zone)), Close(draw(st.booleans()))) for _ in range(draw(st.integers(0, 5)))]
    return ladder, (zone, joined_at, facts), sorted(steps, key=lambda step: step[0])


def run(world: ClockedWorld, steps: Sequence[tuple[datetime, Any]], until: datetime) -> list[oracle.Override]:
    """Take the steps, each at its time, then everything that is due at the end."""
    returns: dict[datetime, list[str]] = {}
    for at, step in steps:
        world.go(at)
        if isinstance(step, Decision):
            decide(world, step)
        elif isinstance(step, Close):
            close(world, evaluates=step.evaluates)
        else:
            tell(world, step, returns)
    world.go(until)
    for _ in range(2):  # what came late after the last evaluation is applied as the next day's close would
        close(world, evaluates=True)
    decided = TierOverride.objects.filter(ladder=world.ladder).order_by("valid_from")
    columns = ("valid_from", "valid_until", "tier__code", "lifted_at")
    return [oracle.Override(*row) for row in decided.values_list(*columns)]


def decide(world: ClockedWorld, decision: Decision) -> None:
    try:
        if decision.until is None:
            world.lift()
        else:
            world.override(decision.tier, max(decision.until, world.moment + 2 * TICK))
    except (overrides.NoOverride, overrides.BadOverride) as refusal:
        event(type(refusal).__name__)


def close(world: ClockedWorld, *, evaluates: bool) -> None:
    world.ladder.refresh_from_db()
    world.ladder.program = world.program
    tiers.apply_dirty(ladder=world.ladder, at=world.now())
    if evaluates:
        world.evaluate(*tiers.list_due(ladder=world.ladder, until=world.moment))
        world.ladder.refresh_from_db()
        tiers.apply_dirty(ladder=world.ladder, through=world.moment, at=world.now())


def check(ladder: oracle.Ladder, history: History, steps: list[tuple[datetime, Any]]) -> None:
    zone, joined_at, facts = history
    until = max([joined_at, *(fact.at for fact in facts), *(at for at, _ in steps)]) + 12 * DAY
    world, twin = (ClockedWorld.create(definition(ladder), zone) for _ in range(2))
    for each in (world, twin):
        each.moment = min(joined_at, steps[0][0]) - DAY
        each.join("m", joined_at.isoformat())
    decided = run(world, steps, until)
    run(twin, [step for step in steps if not isinstance(step[1], Decision)], until)
    event(f"overrides: {len(decided)}")
    given_rows = [oracle.Row(at, tier, cause, end) for at, tier, cause, end in twin.full_rows()]  # type: ignore[arg-type]
    marks = {row.valid_from for row in given_rows} | {at for at, *_ in world.full_rows()}
    marks |= {override.since for override in decided} | {min(o.until, o.lifted_at or o.until) for o in decided}
    seen = {at: world.held(at) for mark in marks for at in (mark - TICK, mark) if joined_at <= at <= until}
    assert seen == {at: oracle.held(given_rows, decided, at) for at in seen}
    plain = oracle.tier_history(ladder, facts, time_zone=zone, joined_at=joined_at, until=until)
    assert seen == {at: oracle.held(plain, decided, at) for at in seen}
    recomputed = tiers.recompute(ladder=world.ladder, member_ids=[world.ids["m"]], since=joined_at, at=world.now())
    assert recomputed == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(timeline=timelines())
def test_an_override_hides_what_the_facts_give_and_leaves_nothing_behind(timeline: Any) -> None:
    check(*timeline)


@pytest.mark.deep
@settings(max_examples=3_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(timeline=timelines())
def test_an_override_leaves_nothing_behind_in_many_more_worlds(timeline: Any) -> None:
    check(*timeline)

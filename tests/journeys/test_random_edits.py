"""Orders, edits, refunds and cancellations in any sequence equal a plain calculation; cancelling takes what is left."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.services import months
from core.models import Program
from core.services import outbox
from membership.fact_inputs import (
    BadFact,
    MemberInput,
    OrderEditInput,
    OrderInput,
    OrderLineInput,
    RefundInput,
    RefundLineInput,
    RemovedLineInput,
)
from membership.models import Ladder, MemberDay, Order, TierPeriod
from membership.services.members import enroll_members
from membership.services.rebuild import find_day_mismatches, find_line_mismatches
from membership.services.tiers import evaluate, list_due
from points.models import Account
from points.services.verify import verify
from storefront.services import intake, program_file

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
START = datetime(2026, 1, 10, 9, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CURRENCY = "GBP"
_numbers = count(1)

NewProgram = Callable[..., Program]


@pytest.fixture
def new_program(tmp_path: Path) -> NewProgram:
    """Make programs of one point a pound; `window` and `downgrade` are those of the tier from 100 pounds on."""

    def make(window: Any = "lifetime", downgrade: str = "never") -> Program:
        code = f"p{next(_numbers)}"
        need = {"metric": "net_spend", "at_least": "100.00", "window": window}
        told = {
            "program": {"code": code, "name": code, "currency": CURRENCY, "time_zone": "Europe/London"},
            "ladders": [{
                "code": "main", "name": "Tiers", "upgrade": "immediate", "evaluation": {"every": "month"},
                "downgrade": {"when": downgrade},
                "tiers": [
                    {"code": "basic", "name": "Basic"},
                    {"code": "silver", "name": "Silver", "entry": {"any_of": [{"all_of": [need]}]}},
                ],
            }],
            "wallets": [{"code": "points", "name": "Points"}],
            "earn_rules": [{"code": "spend", "name": "Spend", "wallet": "points", "trigger": "order_line",
                            "formula": {"points": 1, "per": "1.00"}}],
        }  # fmt: skip
        path = tmp_path / f"{code}.yaml"
        path.write_text(json.dumps(told))
        program = program_file.apply(program_file.load(path), at=NOW, actor="test")
        enroll_members(program=program, members=[MemberInput(external_id="ada", joined_at=START - DAY)], at=NOW)
        return program

    return make


# --- the plain calculation -------------------------------------------------------------------------------------


@dataclass
class Line:
    units: int
    minor: int
    since: datetime
    back: int = 0
    back_minor: int = 0
    taken: int = 0

    @property
    def points(self) -> int:
        return self.minor // 100

    def bring_back(self, units: int, minor: int) -> None:
        self.back += units
        self.back_minor += minor
        self.taken = self.points * self.back // self.units


@dataclass
class Model:
    """One order: its lines, money given back without units, and since when all of it is back."""

    lines: dict[str, Line] = field(default_factory=dict)
    money_only: int = 0
    units_at: list[datetime] = field(default_factory=list)
    refunds_at: list[datetime] = field(default_factory=list)
    returned_at: datetime | None = None

    @property
    def paid(self) -> int:
        return sum(line.minor for line in self.lines.values())

    @property
    def given_back(self) -> int:
        return self.money_only + sum(line.back_minor for line in self.lines.values())

    @property
    def back_at(self) -> datetime | None:
        if all(line.back == line.units for line in self.lines.values()):
            return max(self.units_at)
        untouched = sum(line.back_minor for line in self.lines.values() if line.back == 0)
        return max(self.refunds_at) if self.money_only + untouched >= self.paid > 0 else None

    def refund(self, at: datetime, parts: dict[str, tuple[int, int]], money_only: int = 0) -> None:
        for name, (units, minor) in parts.items():
            self.lines[name].bring_back(units, minor)
        self.money_only += money_only
        self.refunds_at.append(at)
        self.units_at += [at] * any(units for units, _ in parts.values())
        self.returned_at = self.returned_at or self.back_at

    def add(self, lines: dict[str, Line]) -> None:
        self.lines |= lines
        if lines and self.back_at is None:
            self.returned_at = None


class World:
    """The services and the models beside each other."""

    def __init__(self, program: Program) -> None:
        self.program, self.names = program, count(1)
        self.models: dict[str, Model] = {}

    def order(self, at: datetime, lines: list[tuple[int, int]]) -> None:
        name = f"o{next(self.names)}"
        told = self._lines(lines)
        total = sum(minor for _, minor in lines)
        order = OrderInput(
            external_id=name, member="ada", paid_at=at, currency=CURRENCY, amount_minor=total, lines=told
        )
        intake.record(program=self.program, orders=[order], at=NOW)
        self.models[name] = Model({one.external_id: Line(one.units, one.amount_minor, at) for one in told})

    def _lines(self, lines: list[tuple[int, int]]) -> tuple[OrderLineInput, ...]:
        return tuple(
            OrderLineInput(external_id=f"l{next(self.names)}", units=units, amount_minor=minor)
            for units, minor in lines
        )

    def refund(self, name: str, at: datetime, parts: dict[str, tuple[int, int]]) -> None:
        lines = tuple(
            RefundLineInput(external_id=line, order_line=line, units=units, amount_minor=minor)
            for line, (units, minor) in parts.items()
        )
        total = sum(minor for _, minor in parts.values())
        self._refund(name, at, total, lines)
        self.models[name].refund(at, parts)

    def give_money(self, name: str, at: datetime, minor: int) -> None:
        self._refund(name, at, minor, ())
        self.models[name].refund(at, {}, minor)

    def _refund(self, name: str, at: datetime, minor: int, lines: tuple[RefundLineInput, ...]) -> None:
        refund = RefundInput(
            external_id=f"r{next(self.names)}", member="ada", refunded_at=at, currency=CURRENCY, amount_minor=minor,
            order=name, lines=lines,
        )  # fmt: skip
        intake.record(program=self.program, refunds=[refund], at=NOW)

    def edit(self, name: str, at: datetime, added: list[tuple[int, int]], parts: dict[str, tuple[int, int]]) -> None:
        model, lines = self.models[name], self._lines(added)
        edit = OrderEditInput(
            order=name, external_id=f"e{next(self.names)}", edited_at=at, currency=CURRENCY, lines=lines,
            removed=tuple(
                RemovedLineInput(order_line=line, units=units, amount_minor=minor)
                for line, (units, minor) in parts.items()
            ),
        )  # fmt: skip
        if model.returned_at is not None and at > model.returned_at:
            with pytest.raises(BadFact) as refused:
                intake.edit_order(program=self.program, edit=edit, at=NOW)
            assert refused.value.code == "order_returned"
            return
        for _ in range(2):  # told twice, it counts once
            intake.edit_order(program=self.program, edit=edit, at=NOW)
        model.add({one.external_id: Line(one.units, one.amount_minor, at) for one in lines})
        if parts:
            model.refund(at, parts)

    def cancel(self, name: str, at: datetime) -> None:
        model = self.models[name]
        told: dict[str, Any] = {"order": name, "external_id": f"c{next(self.names)}", "cancelled_at": at, "at": NOW}
        units = {line: one.units - one.back for line, one in model.lines.items()}
        money = max(0, model.paid - model.given_back)
        if not any(units.values()) and not money:
            with pytest.raises(BadFact) as refused:
                intake.cancel_order(program=self.program, **told)
            assert refused.value.code == "nothing_left"
            return
        for _ in range(2):
            intake.cancel_order(program=self.program, **told)
        # Only units and the sum of money count from here on, not how it is split over the lines.
        first = next(iter(model.lines))
        model.refund(at, {line: (units[line], 0) for line in model.lines})
        model.lines[first].back_minor += money
        assert sum(one.points - one.taken for one in model.lines.values()) == 0
        assert model.returned_at is not None

    def check(self) -> None:
        program = self.program
        found = {one.external_id: one.returned_at for one in Order.objects.filter(program=program)}
        assert found == {name: model.returned_at for name, model in self.models.items()}
        days = list(MemberDay.objects.filter(member__program=program))
        net = sum(day.spend_minor - day.refunds_minor for day in days)
        assert net == sum(model.paid - model.given_back for model in self.models.values())
        assert sum(day.orders for day in days) == len(self.models)
        assert sum(day.orders_returned for day in days) == sum(bool(m.returned_at) for m in self.models.values())
        account = Account.objects.filter(member__program=program).first()
        lines = [line for model in self.models.values() for line in model.lines.values()]
        kept = sum(line.points - line.taken for line in lines)
        assert (account.available if account else 0) == kept
        assert (find_day_mismatches(program), find_line_mismatches(program)) == ([], [])
        assert list(verify(program=program)) == []


@st.composite
def parts_of(draw: st.DrawFn, model: Model) -> dict[str, tuple[int, int]]:
    """Draw what comes back of some of an order's lines: units, and any money."""
    parts = {}
    for name, line in model.lines.items():
        units = draw(st.integers(0, line.units - line.back))
        if units:
            parts[name] = (units, draw(st.integers(0, line.minor + 50)))
    return parts


def step(world: World, data: st.DataObject) -> None:
    draw = data.draw
    lines = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 900)), min_size=1, max_size=3)
    at = START + draw(st.integers(0, 600)) * HOUR
    if not world.models or draw(st.integers(0, 4)) == 0:
        world.order(START, draw(lines))
        return
    name = draw(st.sampled_from(sorted(world.models)))
    model = world.models[name]
    latest = max(line.since for line in model.lines.values())
    match draw(st.sampled_from(["refund", "refund", "edit", "edit", "money", "cancel"])):
        case "refund":
            parts = draw(parts_of(model))
            if parts:
                world.refund(name, max(at, latest), parts)
        case "edit":
            parts = draw(parts_of(model)) if draw(st.booleans()) else {}
            added = draw(lines) if not parts or draw(st.booleans()) else []
            world.edit(name, max(at, latest) if parts else at, added, parts)
        case "money":
            world.give_money(name, at, draw(st.integers(0, 500)))
        case _:
            world.cancel(name, max(at, latest))


def check_sequence(new_program: NewProgram, data: st.DataObject) -> None:
    world = World(new_program())
    for _ in range(data.draw(st.integers(1, 9))):
        step(world, data)
    world.check()
    outbox.drain(at=NOW)
    months.refresh(program=world.program, through=START + 30 * DAY)
    assert months.find_month_mismatches(program=world.program) == []
    for name in sorted(world.models):
        latest = max(line.since for line in world.models[name].lines.values())
        world.cancel(name, latest + 700 * HOUR)
    world.check()


some = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@some
@given(data=st.data())
def test_any_sequence_equals_the_plain_calculation(new_program: NewProgram, data: st.DataObject) -> None:
    check_sequence(new_program, data)


@pytest.mark.deep
@settings(some, max_examples=500)
@given(data=st.data())
def test_five_hundred_sequences_equal_the_plain_calculation(new_program: NewProgram, data: st.DataObject) -> None:
    check_sequence(new_program, data)


# --- edits and tiers ----------------------------------------------------------------------------------------------


def tier_after_evaluations(program: Program) -> tuple[str, str]:
    ladder = Ladder.objects.get(program=program)
    for instant in list_due(ladder=ladder, until=START + 40 * DAY):
        ladder.refresh_from_db()
        evaluate(ladder=ladder, instant=instant, at=NOW)
    live = TierPeriod.objects.filter(member__program=program, superseded_at=None).order_by("valid_from")
    last = live.select_related("tier")[len(live) - 1]
    return last.tier.code, last.cause


def test_an_upgrade_is_undone_when_the_line_that_made_it_comes_back(new_program: NewProgram) -> None:
    world = World(new_program(window={"rolling_days": 10}))
    world.order(START, [(1, 9_000)])
    world.edit("o1", START + DAY, [(1, 2_000)], {})
    assert TierPeriod.objects.filter(tier__code="silver", superseded_at=None).exists()
    added = list(world.models["o1"].lines)[-1]
    world.refund("o1", START + 2 * DAY, {added: (1, 2_000)})
    assert tier_after_evaluations(world.program) == ("basic", "corrected")


def test_an_upgrade_stays_when_a_line_comes_back_that_was_added_after_it(new_program: NewProgram) -> None:
    world = World(new_program(window={"rolling_days": 10}))
    world.order(START, [(1, 11_000)])
    world.edit("o1", START + DAY, [(1, 5_000)], {})
    added = list(world.models["o1"].lines)[-1]
    world.refund("o1", START + 2 * DAY, {added: (1, 5_000)})
    assert tier_after_evaluations(world.program) == ("silver", "upgraded")


@pytest.mark.parametrize("work", ["edit", "cancel"])
def test_the_order_is_locked_before_what_is_left_of_it_is_read(new_program: NewProgram, work: str) -> None:
    world = World(new_program())
    world.order(START, [(2, 1_000)])
    line = next(iter(world.models["o1"].lines))
    with CaptureQueriesContext(connection) as queries:
        if work == "edit":
            world.edit("o1", START, [(1, 100)], {line: (1, 500)})
        else:
            world.cancel("o1", START)
    statements = [query["sql"] for query in queries]
    lock = next(n for n, sql in enumerate(statements) if "FOR NO KEY UPDATE" in sql)
    assert '"membership_order"' in statements[lock]
    assert lock < min(n for n, sql in enumerate(statements) if "returned_units" in sql)
    assert lock < min(n for n, sql in enumerate(statements) if '"membership_refund"' in sql or "orderedit" in sql)

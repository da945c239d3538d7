"""Orders, edits, refunds and cancellations in any sequence equal a plain calculation; cancelling takes what is left."""

import json
from collections.abc import Callable
from dataclasses import replace
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
from membership.models import Ladder, MemberDay, TierPeriod
from membership.models import Order as OrderRow
from membership.models import Refund as RefundRow
from membership.services.members import enroll_members
from membership.services.rebuild import find_day_mismatches, find_line_mismatches
from membership.services.tiers import evaluate, list_due
from points.models import Account
from points.services.verify import verify
from storefront.services import intake, program_file
from tests.oracle.returns import Line, Order, Refund, RefundLine, answer, left_of_order, returned_at

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


class Model:
    """One order with its refunds; what came back is the oracle's answer."""

    def __init__(self, at: datetime, lines: tuple[OrderLineInput, ...]) -> None:
        # The oracle tells the lines of an edit at this very instant from those of the order by their instant.
        at -= timedelta(microseconds=1)
        self.order = Order("o", sum(line.amount_minor for line in lines), _lines(lines, at), at)  # type: ignore[arg-type]
        self.refunds: list[Refund] = []

    @property
    def paid(self) -> int:
        return self.order.paid()

    @property
    def told(self) -> int:
        return sum(refund.amount for refund in self.refunds)

    @property
    def returned_at(self) -> datetime | None:
        return returned_at(self.order, self.refunds)  # type: ignore[return-value]

    @property
    def latest(self) -> datetime:
        return max(line.paid_at for line in self.order.lines)  # type: ignore[return-value]

    @property
    def units_left(self) -> dict[str, int]:
        lines = answer(self.order, self.refunds).lines
        return {key: state.line.units - state.units for key, state in lines.items()}

    @property
    def is_anything_left(self) -> bool:
        return any(self.units_left.values()) or left_of_order(self.order, self.refunds) > 0

    @property
    def points(self) -> int:
        due = answer(self.order, self.refunds).due
        return sum(line.earned for line in self.order.lines) - sum(due.values())

    def refund(self, name: str, at: datetime, amount: int, lines: tuple[RefundLine, ...]) -> None:
        self.refunds.append(Refund(name, at, amount, lines, "o"))  # type: ignore[arg-type]

    def add(self, at: datetime, lines: tuple[OrderLineInput, ...]) -> None:
        self.order = replace(self.order, lines=self.order.lines + _lines(lines, at))


def _lines(lines: tuple[OrderLineInput, ...], at: datetime) -> tuple[Line, ...]:
    return tuple(
        Line(line.external_id, line.units, line.amount_minor, earned=line.amount_minor // 100, paid_at=at)  # type: ignore[arg-type]
        for line in lines
    )


class World:
    """The services and the models beside each other."""

    def __init__(self, program: Program) -> None:
        self.program, self.names = program, count(1)
        self.models: dict[str, Model] = {}

    def order(self, at: datetime, lines: list[tuple[int, int]], shipping: int = 0) -> None:
        name = f"o{next(self.names)}"
        told = self._lines(lines)
        total = sum(minor for _, minor in lines) + shipping
        order = OrderInput(
            external_id=name, member="ada", paid_at=at, currency=CURRENCY, amount_minor=total, lines=told
        )
        intake.record(program=self.program, orders=[order], at=NOW)
        self.models[name] = model = Model(at, told)
        model.order = replace(model.order, amount=total)

    def _lines(self, lines: list[tuple[int, int]]) -> tuple[OrderLineInput, ...]:
        return tuple(
            OrderLineInput(external_id=f"l{next(self.names)}", units=units, amount_minor=minor)
            for units, minor in lines
        )

    def refund(self, name: str, at: datetime, parts: dict[str, tuple[int, int]], above: int = 0) -> None:
        total = sum(minor for _, minor in parts.values()) + above
        refund = RefundInput(
            external_id=f"r{next(self.names)}", member="ada", refunded_at=at, currency=CURRENCY, amount_minor=total,
            order=name,
            lines=tuple(
                RefundLineInput(external_id=line, order_line=line, units=units or None, amount_minor=minor)
                for line, (units, minor) in parts.items()
            ),
        )  # fmt: skip
        intake.record(program=self.program, refunds=[refund], at=NOW)
        self.models[name].refund(refund.external_id, at, total, _parts(parts))

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
        model.add(at, lines)
        if parts:
            model.refund(f"{name}:{edit.external_id}", at, sum(minor for _, minor in parts.values()), _parts(parts))

    def cancel(self, name: str, at: datetime) -> None:
        model = self.models[name]
        told: dict[str, Any] = {"order": name, "external_id": f"c{next(self.names)}", "cancelled_at": at, "at": NOW}
        if not model.is_anything_left:
            with pytest.raises(BadFact) as refused:
                intake.cancel_order(program=self.program, **told)
            assert refused.value.code == "nothing_left"
            return
        for _ in range(2):
            intake.cancel_order(program=self.program, **told)
        lines = RefundRow.objects.get(member__program=self.program, external_id=told["external_id"]).lines
        rows = lines.values_list("external_id", "units", "amount_minor")
        parts = {line: (units or 0, minor) for line, units, minor in rows}
        model.refund(told["external_id"], at, left_of_order(model.order, model.refunds), _parts(parts))
        assert model.points == 0
        assert model.returned_at is not None
        assert not model.is_anything_left

    def check(self) -> None:
        program = self.program
        found = {one.external_id: one.returned_at for one in OrderRow.objects.filter(program=program)}
        assert found == {name: model.returned_at for name, model in self.models.items()}
        days = list(MemberDay.objects.filter(member__program=program))
        net = sum(day.spend_minor - day.refunds_minor for day in days)
        assert net == sum(model.paid - model.told for model in self.models.values())
        assert sum(day.orders for day in days) == len(self.models)
        assert sum(day.orders_returned for day in days) == sum(bool(m.returned_at) for m in self.models.values())
        account = Account.objects.filter(member__program=program).first()
        assert (account.available if account else 0) == sum(model.points for model in self.models.values())
        assert (find_day_mismatches(program), find_line_mismatches(program)) == ([], [])
        assert list(verify(program=program)) == []


def _parts(parts: dict[str, tuple[int, int]]) -> tuple[RefundLine, ...]:
    return tuple(RefundLine(line, units, minor) for line, (units, minor) in parts.items())


@st.composite
def parts_of(draw: st.DrawFn, model: Model) -> dict[str, tuple[int, int]]:
    """Draw what comes back of some of an order's lines: units, and any money, more than was paid too."""
    parts = {}
    for line in model.order.lines:
        units = draw(st.integers(0, model.units_left[line.key]))
        if units:
            parts[line.key] = (units, draw(st.integers(0, line.amount + 50)))
    return parts


def step(world: World, data: st.DataObject) -> None:
    draw = data.draw
    lines = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 900)), min_size=1, max_size=3)
    at = START + draw(st.integers(0, 600)) * HOUR
    if not world.models or draw(st.integers(0, 4)) == 0:
        world.order(START, draw(lines), draw(st.sampled_from([0, 0, 300])))
        return
    name = draw(st.sampled_from(sorted(world.models)))
    model = world.models[name]
    latest = model.latest
    match draw(st.sampled_from(["refund", "refund", "edit", "edit", "money", "cancel"])):
        case "refund":
            parts = draw(parts_of(model))
            if parts:
                world.refund(name, max(at, latest), parts, draw(st.sampled_from([0, 0, 200])))
        case "edit":
            parts = draw(parts_of(model)) if draw(st.booleans()) else {}
            added = draw(lines) if not parts or draw(st.booleans()) else []
            world.edit(name, max(at, latest) if parts else at, added, parts)
        case "money":
            world.refund(name, at, {}, draw(st.integers(0, 500)))
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
        world.cancel(name, world.models[name].latest + 700 * HOUR)
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
    added = world.models["o1"].order.lines[-1].key
    world.refund("o1", START + 2 * DAY, {added: (1, 2_000)})
    assert tier_after_evaluations(world.program) == ("basic", "corrected")


def test_an_upgrade_stays_when_a_line_comes_back_that_was_added_after_it(new_program: NewProgram) -> None:
    world = World(new_program(window={"rolling_days": 10}))
    world.order(START, [(1, 11_000)])
    world.edit("o1", START + DAY, [(1, 5_000)], {})
    added = world.models["o1"].order.lines[-1].key
    world.refund("o1", START + 2 * DAY, {added: (1, 5_000)})
    assert tier_after_evaluations(world.program) == ("silver", "upgraded")


@pytest.mark.parametrize("work", ["edit", "cancel"])
def test_the_order_is_locked_before_what_is_left_of_it_is_read(new_program: NewProgram, work: str) -> None:
    world = World(new_program())
    world.order(START, [(2, 1_000)])
    line = world.models["o1"].order.lines[0].key
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

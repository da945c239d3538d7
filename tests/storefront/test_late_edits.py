"""An edit that comes after refunds of later instants leaves the points that it would have left in its place."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from core.models import Event, Program
from core.services import outbox
from membership.fact_inputs import (
    MemberInput,
    OrderEditInput,
    OrderInput,
    OrderLineInput,
    RefundInput,
    RemovedLineInput,
)
from membership.models import Order, OrderLine
from membership.services.members import enroll_members
from membership.services.rebuild import find_day_mismatches, find_line_mismatches
from points.models import Accrual, AccrualCorrection, AccrualReturn, LedgerTransaction, SourceKind, TransactionKind
from points.services.verify import verify
from storefront.services import intake, program_file
from tests.storefront.shop import DAY, NOW, START, balance, definition, order, redeem, refund, tell

pytestmark = pytest.mark.django_db

EDITED = START + 2 * DAY
FIRST, SECOND = START + 4 * DAY, START + 6 * DAY
Fact = OrderInput | OrderEditInput | RefundInput
NewProgram = Callable[..., Program]


@pytest.fixture
def new_program(tmp_path: Path) -> NewProgram:
    """Make programs with the member m0, without tiers; keywords change the policy of the points."""

    def make(code: str = "shop", corrections: str = "upward", **policy: Any) -> Program:
        told = definition(code, policy)
        told["program"]["corrections"] = corrections
        del told["ladders"]
        for rule in told["earn_rules"]:
            rule.pop("tier_multiplier", None)
        path = tmp_path / f"{code}.yaml"
        path.write_text(json.dumps(told))
        program = program_file.apply(program_file.load(path), at=START - 99 * DAY, actor="test")
        joined = [MemberInput(external_id="m0", joined_at=START - 99 * DAY)]
        enroll_members(program=program, members=joined, at=START - 99 * DAY)
        return program

    return make


def edit(name: str, *lines: tuple[int, int], removed: Sequence[RemovedLineInput] = (), at: Any = EDITED) -> Any:
    """An edit of o1 that adds lines (units, minor), called `<name>.1`, `<name>.2`."""
    told = tuple(
        OrderLineInput(external_id=f"{name}.{n}", units=units, amount_minor=minor)
        for n, (units, minor) in enumerate(lines, 1)
    )
    return OrderEditInput(
        order="o1", external_id=name, edited_at=at, currency="GBP", lines=told, removed=tuple(removed)
    )


def money(name: str, minor: int, *, at: Any = FIRST) -> RefundInput:
    """What a payment provider tells: a sum of o1, without lines."""
    return RefundInput(external_id=name, member="m0", refunded_at=at, currency="GBP", amount_minor=minor, order="o1")


def put(program: Program, *facts: Fact) -> None:
    for fact in facts:
        if isinstance(fact, OrderEditInput):
            intake.edit_order(program=program, edit=fact, at=NOW)
        else:
            tell(program, fact)


def state(program: Program) -> dict[str, Any]:
    """What there is in the end: balances, what stands of what each line earned, and since when the order is back."""
    lines = dict(OrderLine.objects.filter(order__program=program).values_list("pk", "external_id"))
    stands: Counter[tuple[str, str]] = Counter()
    for accrual in Accrual.objects.filter(wallet__program=program).select_related("wallet"):
        asked = sum(accrual.returns.values_list("points_due", flat=True))
        moved = sum(row.points_added - row.points_due for row in accrual.corrections.all())
        stands[accrual.wallet.code, lines[accrual.source_id]] += accrual.points + moved - asked
    balances = [balance(program, wallet=wallet, at=NOW) for wallet in ("points", "gems")]
    return {
        "stands": stands,
        "balances": [(one.available, one.pending, one.held, one.debt) for one in balances],
        "returned_at": Order.objects.get(program=program).returned_at,
    }


def assert_sound(program: Program) -> None:
    assert list(verify(program=program)) == []
    assert (find_day_mismatches(program), find_line_mismatches(program)) == ([], [])


# --- the same whatever the order of arrival ----------------------------------------------------------------------


def in_points(told: OrderInput, *minor: int) -> OrderInput:
    """The order with so much of each line paid in points, which the shop settles by itself."""
    lines = zip(told.lines, minor, strict=True)
    return replace(told, lines=tuple(replace(line, paid_in_points_minor=part) for line, part in lines))


def in_euros(told: Fact) -> Any:
    """A fact in euros of half a pound."""
    if isinstance(told, OrderInput):
        return replace(told, currency="EUR", program_amount_minor=told.amount_minor // 2)
    if isinstance(told, RefundInput):
        return replace(told, currency="EUR")
    lines = tuple(replace(line, program_amount_minor=line.amount_minor // 2) for line in told.lines)
    return replace(told, currency="EUR", lines=lines)


PAID = order("o1", (2, 4_000), (1, 2_100))
TAKEN_OUT = RemovedLineInput(order_line="o1.1", units=1, amount_minor=2_000)
HISTORIES: dict[str, tuple[Fact, ...]] = {
    "one sum": (PAID, edit("e1", (1, 3_000)), money("r1", 3_300)),
    "two sums": (PAID, edit("e1", (1, 3_000)), money("r1", 1_700), money("r2", 2_900, at=SECOND)),
    "a sum before it": (PAID, money("r1", 1_700, at=EDITED - DAY), edit("e1", (1, 3_000)), money("r2", 2_900)),
    "at its instant": (PAID, edit("e1", (1, 3_000)), money("r1", 3_300, at=EDITED)),
    "all the money of it": (PAID, edit("e1", (1, 3_000)), money("r1", 6_100), money("r2", 3_000, at=SECOND)),
    "beside a line": (PAID, edit("e1", (3, 3_100)), refund("r1", ("o1.1", 1, 2_000)), money("r2", 2_900, at=SECOND)),
    "two edits": (
        PAID, edit("e1", (1, 3_000)), edit("e2", (1, 1_300), at=EDITED + DAY),
        money("r1", 1_700), money("r2", 999, at=SECOND),
    ),
    "with something taken out": (PAID, edit("e1", (1, 3_000), removed=[TAKEN_OUT]), money("r1", 3_300)),
    "paid partly in points": (
        in_points(PAID, 3_600, 0), edit("e1", (1, 3_000)), money("r1", 3_300), money("r2", 4_100, at=SECOND),
    ),
    "in another currency": tuple(
        in_euros(one) for one in (PAID, edit("e1", (1, 3_000)), money("r1", 3_300), money("r2", 2_100, at=SECOND))
    ),
}  # fmt: skip
POLICY = {"expiry_days": 365}


@pytest.mark.parametrize("name", HISTORIES)
def test_any_order_of_arrival_ends_as_the_order_of_the_facts(new_program: NewProgram, name: str) -> None:
    paid, *rest = HISTORIES[name]
    in_order = new_program("ordered", **POLICY)
    put(in_order, paid, *rest)
    expected = state(in_order)
    assert expected["stands"].total() < sum(one.points for one in Accrual.objects.all())
    for number, arrival in enumerate(permutations(rest)):
        program = new_program(f"late{number}", **POLICY)
        put(program, paid, *arrival)
        assert state(program) == expected, [one.external_id for one in arrival]
        assert_sound(program)


@pytest.mark.parametrize("corrections", ["both", "upward", "never"])
def test_it_is_no_correction_of_what_was_earned_that_a_program_may_leave_out(
    new_program: NewProgram, corrections: str
) -> None:
    paid, edited, *refunds = HISTORIES["two sums"]
    in_order = new_program("ordered", corrections, **POLICY)
    put(in_order, paid, edited, *refunds)
    late = new_program("late", corrections, **POLICY)
    tell(late, paid, *refunds)  # type: ignore[arg-type]
    put(late, edited)
    assert state(late) == state(in_order)


def test_refunds_in_one_batch_or_one_by_one_are_followed_alike(new_program: NewProgram) -> None:
    paid, edited, *refunds = HISTORIES["two sums"]
    batch, single = new_program("batch", **POLICY), new_program("single", **POLICY)
    tell(batch, paid, *refunds)  # type: ignore[arg-type]
    put(batch, edited)
    put(single, paid, *reversed(refunds), edited)
    assert state(batch) == state(single)


# --- what is posted ----------------------------------------------------------------------------------------------


def test_each_refund_takes_of_the_added_line_what_it_would_have_taken_after_it(new_program: NewProgram) -> None:
    program = new_program(**POLICY)
    put(program, order("o1", (1, 4_000)), money("r1", 1_000), money("r2", 1_000, at=SECOND), edit("e1", (1, 4_000)))
    added = AccrualReturn.objects.filter(accrual__wallet__code="points", accrual__transaction__source_kind=8)
    taken = list(added.order_by("pk").values_list("transaction__effective_at", "points_due"))
    assert taken == [(FIRST, 5), (SECOND, 5)]
    (given,) = AccrualCorrection.objects.filter(accrual__wallet__code="points")
    assert (given.points_added, given.points, given.returned, given.whole) == (10, 40, 1_000, 4_000)
    assert given.fact_kind == SourceKind.ORDER_EDIT
    lots = LedgerTransaction.objects.filter(wallet__code="points", kind=TransactionKind.EARN, effective_at=SECOND)
    assert lots.count() == 1
    assert balance(program, at=NOW).available == 60


def test_the_same_edit_again_posts_nothing(new_program: NewProgram) -> None:
    program = new_program(**POLICY)
    told = edit("e1", (1, 3_000))
    put(program, PAID, money("r1", 3_300), told)
    before = list(LedgerTransaction.objects.values_list("pk", flat=True))
    put(program, told)
    assert list(LedgerTransaction.objects.values_list("pk", flat=True)) == before


def test_the_member_hears_that_points_are_given_back(new_program: NewProgram) -> None:
    program = new_program(**POLICY)
    put(program, order("o1", (1, 4_000), at=NOW - 9 * DAY), money("r1", 1_000, at=NOW - DAY))
    outbox.drain(at=NOW)
    Event.objects.all().delete()
    put(program, edit("e1", (1, 4_000), at=NOW - 2 * DAY))
    outbox.drain(at=NOW)
    told = Event.objects.filter(type__startswith="points.", data__wallet="points").order_by("number")
    assert [(event.type, event.data["points"]) for event in told] == [
        ("points.corrected", 5), ("points.earned", 5), ("points.earned", 40), ("points.clawed_back", 5),
    ]  # fmt: skip
    assert (told[0].data["fact_kind"], told[0].data["fact"], told[0].data["order"]) == ("order_edit", "e1", "o1")


def test_an_edit_after_all_refunds_posts_nothing_but_what_it_earns(new_program: NewProgram) -> None:
    program = new_program(**POLICY)
    put(program, PAID, money("r1", 3_300), edit("e1", (1, 3_000), at=SECOND))
    last = LedgerTransaction.objects.filter(wallet__code="points").order_by("pk").last()
    assert last is not None
    assert (last.kind, last.source_kind) == (TransactionKind.EARN, SourceKind.ORDER_EDIT)
    assert AccrualCorrection.objects.count() == 0


# --- what was spent ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["write_off", "own_lot"])
def test_what_was_never_taken_is_not_given_back(new_program: NewProgram, policy: str) -> None:
    program = new_program(clawback=policy, **POLICY)
    put(program, order("o1", (1, 4_000)))
    redeem(program, 38, at=START + DAY)
    put(program, money("r1", 2_000), edit("e1", (1, 4_000)))  # 20 due, 2 taken; 10 are due after the edit
    points = AccrualCorrection.objects.filter(accrual__wallet__code="points")
    assert [row.points_added for row in points] == []
    assert balance(program, at=NOW).available == 40 - 10
    assert_sound(program)


def test_points_that_became_debt_lessen_it(new_program: NewProgram) -> None:
    program = new_program(clawback="debt", **POLICY)
    put(program, order("o1", (1, 4_000)))
    redeem(program, 40, at=START + DAY)
    put(program, money("r1", 2_000), edit("e1", (1, 4_000)))
    in_order = new_program("ordered", clawback="debt", **POLICY)
    put(in_order, order("o1", (1, 4_000)))
    redeem(in_order, 40, at=START + DAY)
    put(in_order, edit("e1", (1, 4_000)), money("r1", 2_000))
    assert state(program) == state(in_order)
    assert balance(program, at=NOW).available == 20


def test_a_wallet_that_refuses_refunds_refuses_no_edit_for_them(new_program: NewProgram) -> None:
    program = new_program(clawback="refuse", **POLICY)
    put(program, order("o1", (1, 4_000)), money("r1", 2_000))
    redeem(program, 20, at=FIRST + DAY)
    put(program, edit("e1", (1, 4_000)))
    assert balance(program, at=NOW).available == 20 + 20
    assert_sound(program)

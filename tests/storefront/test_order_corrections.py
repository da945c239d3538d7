"""Orders that were told wrong and are corrected: everything is as if they had been told right."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from core.models import Program
from membership.fact_inputs import BadFact, FactConflict, MemberInput, OrderInput, RefundInput
from membership.models import FactCorrection, Ladder, MemberDay, Order, OrderLine, Refund, TierPeriod
from membership.services.members import enroll_members
from membership.services.order_corrections import LineCorrection, OrderCorrection, correct_order
from membership.services.rebuild import find_day_mismatches, find_line_mismatches
from membership.services.tiers import apply_dirty, evaluate, list_due
from points.services import corrections
from points.services.verify import verify
from storefront.services import program_file
from tests.storefront.shop import DAY, NOW, START, balance, content, definition, order, refund, review, tell

pytestmark = pytest.mark.django_db

NewProgram = Callable[..., Program]
WRONG = OrderCorrection(order="o1", external_id="c1", reason="the till was wrong")
BACK = refund("r1", ("o1.1", 1, 2_000), at=START + 3 * DAY)
SUM = RefundInput(
    external_id="r2", member="m0", order="o1", refunded_at=START + 4 * DAY, currency="GBP", amount_minor=1_000
)


@pytest.fixture
def new_program(tmp_path: Path) -> NewProgram:
    """Make programs that post no corrections of late facts, with the member m0."""

    def make(code: str = "shop") -> Program:
        told = definition(code, {})
        told["program"]["corrections"] = "never"
        path = tmp_path / f"{code}.yaml"
        path.write_text(json.dumps(told))
        program = program_file.apply(program_file.load(path), at=START - 99 * DAY, actor="test")
        joined = [MemberInput(external_id="m0", joined_at=START - 99 * DAY)]
        enroll_members(program=program, members=joined, at=START - 99 * DAY)
        return program

    return make


def amend(program: Program, correction: OrderCorrection, **more: Any) -> bool:
    return correct_order(
        program=program, correction=replace(correction, **more), decided_by="ann", last=NOW + DAY, at=NOW
    )


def close(program: Program) -> None:
    ladder = Ladder.objects.get(program=program)
    for instant in list_due(ladder=ladder, until=NOW):
        evaluate(ladder=Ladder.objects.get(pk=ladder.pk), instant=instant, at=NOW)
    apply_dirty(ladder=Ladder.objects.get(pk=ladder.pk), at=NOW)
    corrections.correct(program=program, through=NOW, at=NOW)


def outcome(program: Program) -> dict[str, Any]:
    tiers = TierPeriod.objects.filter(member__program=program, superseded_at=None).order_by("valid_from")
    days = MemberDay.objects.filter(member__program=program).order_by("day")
    sums = ("day", "orders", "orders_returned", "spend_minor", "refunds_minor", "activities")
    lines = OrderLine.objects.filter(order__program=program).order_by("order__external_id", "position")
    return {
        "tiers": list(tiers.values_list("tier__code", "valid_from", "cause")),
        "days": list(days.values_list(*sums)),
        "orders": list(Order.objects.filter(program=program).order_by("external_id").values_list(
            "external_id", "paid_at", "local_date", "amount_minor", "program_amount_minor", "returned_at")),
        "lines": list(lines.values_list("external_id", "units", "amount_minor", "program_amount_minor", "sku")),
        "refunds": list(Refund.objects.filter(program=program).order_by("external_id").values_list(
            "external_id", "counted_minor")),
        "points": [balance(program, wallet=wallet, at=NOW).available for wallet in ("points", "gems")],
    }  # fmt: skip


def is_sound(program: Program) -> bool:
    return not [*verify(program=program), *find_day_mismatches(program), *find_line_mismatches(program)]


TOLD = order("o1", (3, 9_000), (1, 1_500))
CASES: dict[str, tuple[OrderInput, OrderCorrection, OrderInput]] = {
    "it was earlier": (
        replace(TOLD, paid_at=START + 6 * DAY), replace(WRONG, paid_at=START - 9 * DAY),
        replace(TOLD, paid_at=START - 9 * DAY),
    ),
    "it was later": (
        replace(TOLD, paid_at=START - 9 * DAY), replace(WRONG, paid_at=START + 2 * DAY),
        replace(TOLD, paid_at=START + 2 * DAY),
    ),
    "a line cost less": (
        TOLD, replace(WRONG, amount_minor=7_500, lines=(LineCorrection(external_id="o1.1", amount_minor=6_000),)),
        order("o1", (3, 6_000), (1, 1_500)),
    ),
    "a line cost more": (
        TOLD, replace(WRONG, amount_minor=40_500, lines=(LineCorrection(external_id="o1.1", amount_minor=39_000),)),
        order("o1", (3, 39_000), (1, 1_500)),
    ),
    "there were more units": (
        TOLD, replace(WRONG, lines=(LineCorrection(external_id="o1.1", units=7),)), order("o1", (7, 9_000), (1, 1_500))
    ),
    "the rest was shipping": (
        TOLD, replace(WRONG, lines=(LineCorrection(external_id="o1.1", amount_minor=7_000),)),
        replace(order("o1", (3, 7_000), (1, 1_500)), amount_minor=10_500),
    ),
    "all of it": (
        TOLD,
        replace(WRONG, paid_at=START - DAY, amount_minor=9_500, lines=(
            LineCorrection(external_id="o1.2", amount_minor=3_500, units=2),
            LineCorrection(external_id="o1.1", amount_minor=6_000))),
        order("o1", (3, 6_000), (2, 3_500), at=START - DAY),
    ),
}  # fmt: skip


@pytest.mark.parametrize("returns", [[], [BACK], [BACK, SUM]], ids=["kept", "a unit back", "a unit and a sum back"])
@pytest.mark.parametrize("is_closed_before", [True, False])
@pytest.mark.parametrize("case", list(CASES))
def test_a_corrected_order_is_as_if_it_had_been_told_right(
    new_program: NewProgram,
    case: str,
    is_closed_before: bool,
    returns: list[RefundInput],
) -> None:
    wrong, correction, right = CASES[case]
    if returns and case == "it was earlier":
        wrong = replace(wrong, paid_at=START + 2 * DAY)
    others = [order("o2", (1, 3_333), at=START + 8 * DAY), order("o3", (1, 20_000), at=START + 12 * DAY)]
    found = []
    later: list[Any] = [review("a1", at=START + 5 * DAY), *returns, *others]
    for code, fact in (("wrong", wrong), ("right", right)):
        program = new_program(code)
        tell(program, fact)
        for more in later:
            tell(program, more)
        if is_closed_before:
            close(program)
        if code == "wrong":
            assert amend(program, correction)
        close(program)
        assert is_sound(program)
        found.append(outcome(program))
    assert found[0] == found[1]


def test_a_correction_told_twice_has_one_effect_and_the_order_as_first_told_is_repeated(
    new_program: NewProgram,
) -> None:
    program = new_program()
    tell(program, TOLD)
    assert amend(program, WRONG, paid_at=START - DAY)
    before = content()
    assert not amend(program, WRONG, paid_at=START - DAY)
    tell(program, TOLD)
    assert content() == before
    with pytest.raises(FactConflict):
        amend(program, WRONG, paid_at=START - 2 * DAY)
    with pytest.raises(FactConflict):
        tell(program, replace(TOLD, paid_at=START - DAY))
    assert content() == before
    assert FactCorrection.objects.get().before["amount_minor"] == 10_500


ONE, TWO = (LineCorrection(external_id=name) for name in ("o1.1", "o1.2"))
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "", "nothing_corrected"),
    ({"amount_minor": 10_500}, "", "nothing_corrected"),
    ({"amount_minor": 10_000}, "lines", "invalid_value"),
    ({"lines": (replace(ONE, external_id="o1.9", units=1),)}, "lines.0.external_id", "unknown_line"),
    ({"lines": (replace(ONE, units=2), replace(ONE, units=1))}, "lines", "duplicate_line"),
    ({"lines": (replace(ONE, units=0),)}, "lines.0.units", "invalid_value"),
    ({"lines": (replace(ONE, amount_minor=1_999),)}, "lines", "more_than_paid"),
    ({"lines": (replace(ONE, amount_minor=0), replace(TWO, amount_minor=0)), "amount_minor": 2_999}, "amount_minor",
     "more_than_paid"),
    ({"paid_at": START + 3 * DAY + DAY / 24}, "paid_at", "before_order"),
    ({"paid_at": NOW + 2 * DAY}, "paid_at", "in_future"),
    ({"program_amount_minor": 3}, "program_amount_minor", "invalid_value"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "field", "code"), REFUSED)
def test_what_cannot_be_right_is_refused_and_nothing_changes(
    new_program: NewProgram,
    change: dict[str, Any],
    field: str,
    code: str,
) -> None:
    program = new_program()
    tell(program, TOLD)
    tell(program, BACK)
    tell(program, SUM)
    before = content()
    with pytest.raises(BadFact) as refusal:
        amend(program, WRONG, **change)
    assert (refusal.value.field, refusal.value.code) == (field, code)
    assert content() == before


@pytest.mark.parametrize("change", [
    "membership_order SET paid_at = now()", "membership_order SET amount_minor = 1",
    "membership_order SET market = 'us'", "membership_orderline SET units = 9",
    "membership_orderline SET amount_minor = 1", "membership_orderline SET discount_minor = 1",
])  # fmt: skip
def test_the_database_refuses_a_change_that_no_correction_says(
    new_program: NewProgram,
    change: str,
) -> None:
    program = new_program()
    tell(program, TOLD)
    for number in (1, 2):
        with (
            pytest.raises(IntegrityError, match="no correction says so"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(f"UPDATE {change}")
        amend(program, WRONG, external_id=f"c{number}", paid_at=START - number * DAY)

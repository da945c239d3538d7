"""What was earned follows facts that come late, as the program's `corrections` say."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import Error, connection, transaction

from core.models import Event, Program
from core.services import outbox
from membership.fact_inputs import MemberInput
from membership.models import Ladder, Order, PastChange
from membership.services.members import enroll_members
from membership.services.tiers import apply_dirty, evaluate, list_due
from points.models import (
    Accrual,
    AccrualCorrection,
    AccrualReason,
    LedgerTransaction,
    Lot,
    SourceKind,
    TransactionKind,
    Wallet,
)
from points.services import corrections, holds
from points.services.corrections import Corrected
from points.services.verify import verify
from storefront.services import program_file
from tests.storefront.shop import DAY, START, balance, definition, order, redeem, refund, review, tell

pytestmark = pytest.mark.django_db

FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)
THEN = FEBRUARY + 10 * DAY
NewProgram = Callable[..., Program]


@pytest.fixture
def new_program(tmp_path: Path) -> NewProgram:
    """Make programs with the member m0, who joined long ago; keywords change the policy of the points."""

    def make(corrections: str = "upward", rules: list[dict[str, Any]] | None = None, **policy: Any) -> Program:
        told = definition("shop", policy)
        told["program"]["corrections"] = corrections
        told["earn_rules"] += rules or []
        path = tmp_path / "shop.yaml"
        path.write_text(json.dumps(told))
        program = program_file.apply(program_file.load(path), at=START - 99 * DAY, actor="test")
        joined = [MemberInput(external_id="m0", joined_at=START - 99 * DAY)]
        enroll_members(program=program, members=joined, at=START - 99 * DAY)
        return program

    return make


def evaluate_due(program: Program, until: datetime) -> None:
    ladder = Ladder.objects.get(program=program)
    for instant in list_due(ladder=ladder, until=until):
        evaluate(ladder=Ladder.objects.get(pk=ladder.pk), instant=instant, at=until)


def correct(program: Program, at: datetime = THEN) -> Corrected:
    """Do what a close does after late facts."""
    apply_dirty(ladder=Ladder.objects.get(program=program), at=at)
    return corrections.correct(program=program, through=at, at=at)


def is_sound(program: Program) -> bool:
    return list(verify(program=program)) == []


def tell_an_order_that_moves_up_late(program: Program) -> None:
    """o2 earns 50; o1 of two days before, told after it, moves up to silver, where o2 would have earned 75."""
    tell(program, order("o2", (2, 5_000), at=START + 2 * DAY))
    tell(program, order("o1", (1, 10_000), at=START))


def tell_a_return_that_moves_down_late(program: Program) -> None:
    """o3 earns 150 on silver; o1, which gave silver, had come back in January: o3 would have earned 100 on basic."""
    tell(program, order("o1", (1, 10_000), at=START))
    evaluate_due(program, FEBRUARY)
    tell(program, order("o3", (2, 10_000), at=FEBRUARY + 2 * DAY))
    tell(program, refund("r1", ("o1.1", 1, 10_000), at=START + 5 * DAY))


# --- upward ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["upward", "both"])
def test_an_order_told_late_gives_later_ones_what_its_tier_would_have_earned(
    new_program: NewProgram, policy: str
) -> None:
    program = new_program(policy)
    tell_an_order_that_moves_up_late(program)
    assert balance(program, at=THEN).available == 50 + 100
    assert correct(program) == Corrected(members=1, points_added=25)
    assert balance(program, at=THEN).available == 75 + 100
    assert is_sound(program)


def test_what_is_added_lives_as_long_as_what_had_been_earned(new_program: NewProgram) -> None:
    program = new_program(pending_days=3, expiry_days=30)
    tell_an_order_that_moves_up_late(program)
    correct(program)
    lots = Lot.objects.filter(member__external_id="m0", transaction__wallet__code="points").order_by("pk")
    dates = [(lot.points, lot.available_at, lot.expires_at) for lot in lots]
    assert [points for points, _, _ in dates] == [50, 100, 25]
    assert dates[0][1:] == dates[2][1:]
    assert dates[0][1] == datetime(2026, 1, 15, tzinfo=UTC)


def test_the_correction_names_accrual_fact_and_evaluation(new_program: NewProgram) -> None:
    program = new_program()
    tell(program, order("o2", (1, 5_000), at=FEBRUARY + DAY))
    evaluate_due(program, FEBRUARY)
    tell(program, order("o1", (1, 10_000), at=START))
    correct(program)
    (row,) = AccrualCorrection.objects.select_related("accrual", "transaction")
    evaluation = Ladder.objects.get(program=program).evaluations.get(at=FEBRUARY)
    assert (row.accrual.points, row.accrual.source_kind) == (50, SourceKind.ORDER_LINE)
    assert (row.points, row.multiplier_bps, row.points_added) == (75, 15_000, 25)
    assert (row.fact_kind, row.evaluation_id) == (SourceKind.ORDER, evaluation.pk)
    assert row.fact_id == Order.objects.get(external_id="o1").pk
    assert (row.transaction.kind, row.transaction.effective_at) == (TransactionKind.EARN, THEN)
    assert Accrual.objects.filter(source_id=row.accrual.source_id, wallet=row.accrual.wallet).count() == 1


def test_a_second_correction_finds_nothing_to_do(new_program: NewProgram) -> None:
    program = new_program("both")
    tell_an_order_that_moves_up_late(program)
    assert correct(program).members == 1
    assert PastChange.objects.count() == 0
    assert correct(program) == Corrected()
    tell(program, order("o0", (1, 1_000), at=START - DAY))
    assert correct(program).points_added == 0
    assert AccrualCorrection.objects.count() == 1


def test_an_activity_earns_what_it_would_have_earned(new_program: NewProgram) -> None:
    program = new_program()
    tell(program, review("a1", at=START + DAY))
    tell(program, order("o1", (1, 10_000), at=START))
    assert correct(program) == Corrected(members=1, points_added=2)  # 5 x 1.5, rounded down
    assert balance(program, at=THEN).available == 100 + 7


def test_a_rule_that_would_have_covered_the_order_gives_its_points(new_program: NewProgram) -> None:
    silver = {"code": "silver-only", "name": "Silver", "wallet": "points", "trigger": "order_line", "tiers": ["silver"],
              "formula": {"fixed": 40}}  # fmt: skip
    program = new_program(rules=[silver])
    tell_an_order_that_moves_up_late(program)
    assert correct(program) == Corrected(members=1, points_added=25 + 40)
    made = Accrual.objects.get(rule_version__owner__code="silver-only")
    assert (made.points, made.reason, made.lot_id) == (0, AccrualReason.NOT_COVERED, None)
    tell(program, refund("r2", ("o2.1", 1, 2_500)))
    assert balance(program, at=THEN).available == 100 + 37 + 20 + 1  # floors: 75 - 37, 40 - 20
    assert is_sound(program)


def test_points_that_would_have_expired_by_now_expire(new_program: NewProgram) -> None:
    program = new_program(expiry_days=10)
    tell_an_order_that_moves_up_late(program)
    assert correct(program).points_added == 25
    assert balance(program, at=THEN).available == 0
    assert is_sound(program)


# --- what has come back ----------------------------------------------------------------------------------------


def test_a_correction_leaves_the_share_that_came_back_out(new_program: NewProgram) -> None:
    program = new_program()
    tell(program, order("o2", (2, 5_000), at=START + 2 * DAY), refund("r2", ("o2.1", 1, 2_500), at=START + 3 * DAY))
    tell(program, order("o1", (1, 10_000), at=START))
    assert correct(program).points_added == 13  # 75 less floor(75 / 2), where 50 less 25 stood
    assert balance(program, at=THEN).available == 100 + 38


def test_later_refunds_read_the_corrected_points(new_program: NewProgram) -> None:
    program = new_program()
    tell_an_order_that_moves_up_late(program)
    correct(program)
    tell(program, refund("r2", ("o2.1", 1, 2_500), at=THEN))
    assert balance(program, at=THEN).available == 100 + 75 - 37
    tell(program, refund("r3", ("o2.1", 1, 2_500), at=THEN))
    assert balance(program, at=THEN).available == 100
    assert balance(program, at=THEN).debt == 0
    assert is_sound(program)


def test_of_an_order_that_is_back_nothing_is_added(new_program: NewProgram) -> None:
    program = new_program()
    tell(program, order("o2", (2, 5_000), at=START + 2 * DAY), refund("r2", ("o2.1", 2, 5_000), at=START + 3 * DAY))
    tell(program, order("o1", (1, 10_000), at=START))
    assert correct(program).points_added == 0
    assert balance(program, at=THEN).available == 100


# --- downward --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "after"), [("both", 100), ("upward", 150), ("never", 150)])
def test_what_was_too_much_is_taken_as_the_program_says(new_program: NewProgram, policy: str, after: int) -> None:
    program = new_program(policy)
    tell_a_return_that_moves_down_late(program)
    assert balance(program, at=THEN).available == 150
    correct(program)
    assert balance(program, at=THEN).available == after
    assert is_sound(program)


def test_never_adds_nothing_either(new_program: NewProgram) -> None:
    program = new_program("never")
    tell_an_order_that_moves_up_late(program)
    assert correct(program) == Corrected(members=1)
    assert balance(program, at=THEN).available == 150


def test_what_was_spent_is_taken_by_the_wallets_policy(new_program: NewProgram) -> None:
    program = new_program("both", clawback="debt")
    tell_a_return_that_moves_down_late(program)
    redeem(program, 120, at=FEBRUARY + 3 * DAY)
    correct(program)
    found = balance(program, at=THEN)
    assert (found.available, found.debt) == (0, 20)
    assert is_sound(program)


@pytest.mark.parametrize("policy", ["write_off", "own_lot", "refuse"])
def test_what_is_not_there_is_given_up_where_the_wallet_makes_no_debt(new_program: NewProgram, policy: str) -> None:
    program = new_program("both", clawback=policy)
    tell_a_return_that_moves_down_late(program)
    redeem(program, 120, at=FEBRUARY + 3 * DAY)
    correct(program)
    found = balance(program, at=THEN)
    assert (found.available, found.debt) == (0, 0)
    (row,) = AccrualCorrection.objects.all()
    assert (row.points_due, row.points_owed, row.points_taken) == (50, 50, 30)
    assert is_sound(program)


def test_what_is_held_is_not_touched_and_what_expired_is_forgiven(new_program: NewProgram) -> None:
    program = new_program("both", clawback="write_off", expiry_days=5)
    tell_a_return_that_moves_down_late(program)
    wallet = Wallet.objects.get(program=program, code="points")
    who: dict[str, Any] = {"program": program, "wallet_id": wallet.pk}
    who["member_id"] = LedgerTransaction.objects.filter(wallet=wallet).values_list("member_id", flat=True)[0]
    holds.hold(**who, points=130, reference="h", held_until=THEN, at=FEBRUARY + 3 * DAY)
    correct(program)
    assert balance(program, at=THEN).held == 130
    (row,) = AccrualCorrection.objects.all()
    assert (row.points_due, row.points_owed, row.points_taken) == (50, 30, 0)
    assert is_sound(program)


def test_the_member_hears_of_it_before_it_is_taken(new_program: NewProgram) -> None:
    program = new_program("both")
    tell_a_return_that_moves_down_late(program)
    outbox.drain(at=THEN)
    Event.objects.all().delete()
    correct(program)
    outbox.drain(at=THEN)
    told = Event.objects.filter(type__startswith="points.").order_by("number")
    assert [event.type for event in told] == ["points.corrected", "points.clawed_back"]
    assert told[0].data == {
        "member": "m0", "wallet": "points", "points": -50, "order": "o3", "activity": None,
        "fact_kind": "refund", "fact": "r1",
    }  # fmt: skip


# --- what is looked at -----------------------------------------------------------------------------------------


def test_facts_in_their_order_leave_nothing_to_look_at(new_program: NewProgram) -> None:
    program = new_program("both")
    tell(program, order("o1", (1, 10_000), at=START))
    tell(program, order("o2", (1, 30_000), at=START + DAY), order("o3", (1, 1_000), at=START + 2 * DAY))
    assert PastChange.objects.count() == 0


def test_only_the_stretch_in_which_the_tiers_differ_is_looked_at(new_program: NewProgram) -> None:
    program = new_program("both")
    tell(program, order("o2", (1, 5_000), at=START + 2 * DAY))
    tell(program, order("o3", (1, 10_000), at=START + 4 * DAY))
    tell(program, order("o4", (1, 1_000), at=START + 6 * DAY))
    tell(program, order("o1", (1, 10_000), at=START))
    (noted,) = PastChange.objects.all()
    assert (noted.since, noted.until) == (
        START + timedelta(microseconds=1),
        START + 4 * DAY + timedelta(microseconds=1),
    )


def test_a_correction_that_fails_leaves_its_note(new_program: NewProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    program = new_program("both")
    tell_an_order_that_moves_up_late(program)

    def fail(**_: Any) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(corrections, "post", fail)
    with pytest.raises(RuntimeError), transaction.atomic():
        correct(program)
    monkeypatch.undo()
    assert correct(program).points_added == 25


def test_a_rule_published_after_an_order_was_told_does_not_reach_it(new_program: NewProgram, tmp_path: Path) -> None:
    program = new_program("both")
    tell_an_order_that_moves_up_late(program)
    told = definition("shop", {})
    told["program"]["corrections"] = "both"
    told["earn_rules"].append({"code": "more", "name": "More", "wallet": "points", "trigger": "order_line",
                               "formula": {"fixed": 7}})  # fmt: skip
    path = tmp_path / "more.yaml"
    path.write_text(json.dumps(told))
    program_file.apply(program_file.load(path), at=THEN + 200 * DAY, actor="test")
    assert correct(Program.objects.get(pk=program.pk)).points_added == 25


# --- proof -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", ["points = points + 1", "points_added = points_added + 1", "fact_id = 0", "returned = 1"]
)
def test_a_changed_correction_is_found(new_program: NewProgram, change: str) -> None:
    program = new_program()
    tell_an_order_that_moves_up_late(program)
    correct(program)
    with pytest.raises(Error, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE points_accrualcorrection SET {change}")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(f"UPDATE points_accrualcorrection SET {change}")
        cursor.execute("SET session_replication_role = origin")
    assert "chain" in {finding.problem for finding in verify(program=program)}
    if change != "fact_id = 0":
        assert "accrual" in {finding.problem for finding in verify(program=program)}

"""`manage.py verify --returns`: points of orders that earlier releases took back and gave back by other rules."""

import io
import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from core.models import AuditEntry, Event, Program
from core.services import outbox
from membership.fact_inputs import MemberInput, OrderInput, OrderLineInput, RefundInput
from membership.models import Member, OrderLine
from membership.services import facts
from membership.services.members import enroll_members
from points.models import Hold, LedgerTransaction, SourceKind, TransactionKind, Wallet
from points.postings import Posting, Return
from points.services.posting import post
from points.services.verify import verify
from storefront.pricing import Line
from storefront.services import intake, program_file
from storefront.services.checkouts import holding, quoting
from tests.storefront.checkout_worlds import give_points, make_shop, told
from tests.storefront.shop import DAY, LATER, NOW, START, balance, definition, order, refund, tell

pytestmark = pytest.mark.django_db


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A program without tiers, and o1 of m0, which earned 40 points and 40 gems."""
    shop = definition("shop", {"expiry_days": 365})
    del shop["ladders"]
    for rule in shop["earn_rules"]:
        rule.pop("tier_multiplier", None)
    path = tmp_path / "shop.yaml"
    path.write_text(json.dumps(shop))
    program = program_file.apply(program_file.load(path), at=START - 99 * DAY, actor="test")
    joined = [MemberInput(external_id="m0", joined_at=START - 99 * DAY)]
    enroll_members(program=program, members=joined, at=START - 99 * DAY)
    tell(program, order("o1", (2, 4_000)))
    return program


def tell_of_old(program: Program, name: str = "r1", minor: int = 1_000) -> int:
    """Record a sum without lines as an earlier release did, which took nothing back for it; return its id."""
    old = RefundInput(
        external_id=name, member="m0", refunded_at=LATER - DAY, currency="GBP", amount_minor=minor, order="o1"
    )
    (refund_id,) = facts.record_facts(program=program, refunds=[old], at=NOW - DAY).refund_ids
    return refund_id


def run(*options: str) -> str:
    out = io.StringIO()
    call_command("verify", "--returns", *options, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def points(program: Program) -> tuple[int, int]:
    points, gems = (balance(program, wallet=wallet, at=NOW).available for wallet in ("points", "gems"))
    return points, gems


def test_lists_orders_that_differ_with_sums_and_posts_nothing(program: Program) -> None:
    tell_of_old(program)
    rows = LedgerTransaction.objects.count()
    out = io.StringIO()
    with pytest.raises(CommandError, match=r"1 order\(s\) differ; --apply posts the differences"):
        call_command("verify", "--returns", stdout=out, stderr=io.StringIO())
    assert out.getvalue().splitlines() == [
        "shop: order o1, member m0, points: points earned: 40 stand, 30 should (-10)",
        "shop: order o1, member m0, gems: points earned: 40 stand, 30 should (-10)",
        "shop: gems: -10 points earned in all",
        "shop: points: -10 points earned in all",
    ]
    assert LedgerTransaction.objects.count() == rows
    assert not AuditEntry.objects.filter(action="returns.settled").exists()


def test_apply_posts_the_differences_once(program: Program) -> None:
    tell_of_old(program)
    outbox.drain(at=NOW)
    Event.objects.all().delete()
    assert "The differences of 1 order(s) are posted." in run("--apply")
    assert points(program) == (30, 30)
    rows = LedgerTransaction.objects.count()
    assert run("--apply").strip() == run().strip() == "What came back agrees."
    assert LedgerTransaction.objects.count() == rows
    entry = AuditEntry.objects.get(action="returns.settled")
    assert (entry.target, entry.actor) == ("order o1", "manage.py verify --returns --apply")
    assert (entry.before, entry.after) == (
        {"points earned": 40, "gems earned": 40}, {"points earned": 30, "gems earned": 30},
    )  # fmt: skip
    outbox.drain(at=NOW)
    news = Event.objects.filter(type__startswith="points.").order_by("number").values_list("type", flat=True)
    assert list(news) == ["points.corrected"] * 2 + ["points.clawed_back"] * 2
    assert list(verify(program=program)) == []


def test_the_next_refund_takes_the_difference(program: Program) -> None:
    tell_of_old(program)
    tell(program, refund("r2", ("o1.1", None, 1_000)))
    assert points(program) == (20, 20)
    assert run().strip() == "What came back agrees."


def test_a_cancellation_takes_the_difference(program: Program) -> None:
    tell_of_old(program)
    intake.cancel_order(program=program, order="o1", at=NOW)
    assert points(program) == (0, 0)
    assert run().strip() == "What came back agrees."


def test_a_refund_after_apply_takes_its_own_share_only(program: Program) -> None:
    tell_of_old(program)
    run("--apply")
    tell(program, refund("r2", ("o1.1", None, 1_000)))
    assert points(program) == (20, 20)
    assert list(verify(program=program)) == []


def test_what_was_taken_too_much_is_given_back(program: Program) -> None:
    refund_id = tell_of_old(program)
    wallet = Wallet.objects.get(program=program, code="points")
    line = OrderLine.objects.get()
    old = Posting(
        kind=TransactionKind.CLAWBACK, member_id=Member.objects.get().pk, wallet_id=wallet.pk,
        key=f"clawback:{refund_id}",
        effective_at=LATER - DAY, source_kind=SourceKind.REFUND, source_id=refund_id, policy="debt",
        returns=[Return(line.pk, refund_id, 1, 2)],
    )  # fmt: skip
    post(program_id=program.pk, postings=[old], at=NOW - DAY)
    assert points(program) == (20, 40)
    assert "points: points earned: 20 stand, 30 should (+10)" in run("--apply")
    assert points(program) == (30, 30)
    assert run().strip() == "What came back agrees."
    assert list(verify(program=program)) == []


def test_other_orders_and_programs_are_left_alone(program: Program) -> None:
    tell(program, order("o2", (2, 4_000)), refund("r2", ("o2.1", 1, 2_000)))
    assert run().strip() == "What came back agrees."
    with pytest.raises(CommandError, match="There is no program nowhere"):
        run("--program", "nowhere")


def test_apply_alone_is_refused(program: Program) -> None:
    tell_of_old(program)
    with pytest.raises(CommandError, match="--apply goes with --returns"):
        call_command("verify", "--apply")
    assert points(program) == (40, 40)


# --- points paid -------------------------------------------------------------------------------------------------


def test_points_paid_that_were_not_given_back_are(tmp_path: Path) -> None:
    program = make_shop(tmp_path)
    give_points(program, 5_000)
    lines = (Line("a", 1, 5_000),)
    quoted = quoting.quote(
        program=program, told=told(*lines, shipping=0, wallet="points", points=4_000), at=NOW - 5 * DAY
    )
    checkout = holding.hold(program=program, public_id=quoted.public_id, at=NOW - 5 * DAY).checkout
    assert checkout.points == 4_000
    paid = OrderInput(
        external_id="o1", member="ann", paid_at=NOW - 5 * DAY, currency="GBP", amount_minor=5_000,
        lines=(OrderLineInput(external_id="a", units=1, amount_minor=5_000),), checkout=str(checkout.public_id),
    )  # fmt: skip
    tell(program, paid)
    for name, minor in (("r1", 2_000), ("r2", 1_000)):
        old = RefundInput(
            external_id=name, member="ann", refunded_at=NOW - DAY, currency="GBP", amount_minor=minor, order="o1"
        )
        facts.record_facts(program=program, refunds=[old], at=NOW - DAY)
        assert f"points paid given back: {minor - 2_000 and 1_000:,} stand" in run("--apply")
        given = Hold.objects.get(reference=checkout.ledger_reference).returned
        assert given == {"r1": 1_000, "r2": 2_000}[name]
    assert run().strip() == "What came back agrees."
    assert list(verify(program=program)) == []

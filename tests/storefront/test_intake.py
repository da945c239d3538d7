"""A fact told to the storefront is recorded, moves its member's tier and posts points, all of it or nothing."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from core.models import Program
from membership.fact_inputs import (
    BadFact,
    FactConflict,
    MemberInput,
    OrderInput,
    RefundInput,
)
from membership.models import Activity, MemberDay, Order, Refund, TierPeriod
from membership.services.members import enroll_members
from points.models import Accrual, AccrualReason, LedgerEntry, LedgerTransaction, SourceKind, TransactionKind, Wallet
from points.selectors import Balance
from points.services.expiry import settle_due
from points.services.posting import ClawbackRefused
from points.services.verify import verify
from storefront.services import intake, program_file
from tests.storefront.shop import (
    DAY,
    LATER,
    NOW,
    START,
    Fact,
    balance,
    content,
    definition,
    order,
    redeem,
    refund,
    review,
    tell,
)

pytestmark = pytest.mark.django_db

NewProgram = Callable[..., Program]


@pytest.fixture
def new_program(tmp_path: Path) -> NewProgram:
    """Make programs with the members m0 to m5, who joined long ago; keywords change the policy of the points."""

    def make(code: str = "shop", **policy: Any) -> Program:
        path = tmp_path / f"{code}.yaml"
        path.write_text(json.dumps(definition(code, policy)))
        program = program_file.apply(program_file.load(path), at=NOW, actor="test")
        joined = [MemberInput(external_id=f"m{n}", joined_at=START - 99 * DAY) for n in range(6)]
        enroll_members(program=program, members=joined, at=NOW)
        return program

    return make


@pytest.fixture
def program(new_program: NewProgram) -> Program:
    return new_program()


# --- one by one and in one batch -------------------------------------------------------------------------------


def random_facts(random: Random, orders: int) -> list[Fact]:
    """Draw facts of six members over half a year in the order of time, each refund after its order."""
    facts: list[tuple[datetime, int, str, Fact]] = []
    for n in range(orders):
        member, at = f"m{random.randrange(6)}", START + random.randrange(180 * 24) * DAY / 24
        lines = [(random.randint(1, 4), random.randrange(9_000)) for _ in range(random.randint(1, 3))]
        facts.append((at, 0, f"o{n:03}", order(f"o{n:03}", *lines, at=at, member=member)))
        if random.random() < 0.4:
            line = random.randrange(len(lines))
            back, minor = random.choice([random.randint(1, lines[line][0]), None]), random.randrange(5_000)
            at += random.choice([timedelta(0), DAY, 40 * DAY, 70 * DAY])
            facts.append(
                (at, 1, f"r{n:03}", refund(f"r{n:03}", (f"o{n:03}.{line + 1}", back, minor), at=at, member=member))
            )
        if random.random() < 0.2:
            facts.append((at, 2, f"a{n:03}", review(f"a{n:03}", at=at, member=member)))
    return [fact for *_, fact in sorted(facts, key=lambda entry: entry[:3])]


def postings(program: Program) -> Counter[tuple[Any, ...]]:
    """Return (kind, source, wallet, buckets, points, effective_at) of every entry, sources by the shop's names."""
    names = {
        SourceKind.ORDER: dict(Order.objects.values_list("pk", "external_id")),
        SourceKind.REFUND: dict(Refund.objects.values_list("pk", "external_id")),
        SourceKind.ACTIVITY: dict(Activity.objects.values_list("pk", "external_id")),
    }
    transactions = {t.pk: t for t in LedgerTransaction.objects.filter(wallet__program=program)}
    wallets = dict(Wallet.objects.values_list("pk", "code"))
    births = sorted(pk for pk, t in transactions.items() if t.kind == TransactionKind.EARN)

    def source(t: LedgerTransaction) -> str:
        if t.source_kind == SourceKind.LOT:  # a lot's id follows its transaction's
            return "lot of " + source(transactions[max(pk for pk in births if pk < t.source_id)])
        return names[SourceKind(t.source_kind)][t.source_id]

    entries = LedgerEntry.objects.filter(transaction__wallet__program=program)
    return Counter(
        (t.kind, source(t), wallets[t.wallet_id], e.from_bucket, e.to_bucket, e.points, t.effective_at)
        for e in entries
        for t in [transactions[e.transaction_id]]
    )


def periods(program: Program) -> list[tuple[Any, ...]]:
    live = TierPeriod.objects.filter(ladder__program=program, superseded_at=None)
    # Not the evidence: it is what was known when the tier was decided, so a refund told later is not in it.
    columns = ("member__external_id", "valid_from", "tier__code", "cause", "guaranteed_until")
    return list(live.order_by("member__external_id", "valid_from").values_list(*columns))


@pytest.mark.parametrize("orders", [20, 45], ids=["small", "set-based"])
@pytest.mark.parametrize("policy", [{}, {"pending_days": 3, "clawback": "write_off"}], ids=["plain", "pending"])
def test_one_by_one_and_in_one_batch_post_the_same(
    new_program: NewProgram, orders: int, policy: dict[str, Any]
) -> None:
    facts = random_facts(Random(orders), orders)
    single, bulk = new_program("single", **policy), new_program("bulk", **policy)
    for fact in facts:
        tell(single, fact)
    tell(bulk, *facts)
    for program in (single, bulk):
        settle_due(program=program, through=START + 400 * DAY, at=NOW)
        assert list(verify(program=program)) == []
    assert postings(single) == postings(bulk)
    assert periods(single) == periods(bulk)
    assert {tier for _, _, tier, *_ in periods(bulk)} >= {"basic", "silver"}
    assert {kind for kind, *_ in postings(bulk)} >= {
        TransactionKind.EARN,
        TransactionKind.CLAWBACK,
        TransactionKind.EXPIRE,
    }


def test_a_fact_sent_again_changes_nothing(program: Program) -> None:
    facts = random_facts(Random(3), 12)
    tell(program, *facts)
    before = content()
    tell(program, *facts)
    for fact in reversed(facts):
        tell(program, fact, fact)
    recorded = intake.record(program=program, orders=[fact for fact in facts if isinstance(fact, OrderInput)], at=NOW)
    assert (recorded.order_ids, recorded.repeated) == ([], 12)
    assert content() == before


# --- refusals ----------------------------------------------------------------------------------------------------

REFUSED: list[tuple[Fact, type[Exception], str]] = [
    (order("o2", (1, 100), member="nobody"), BadFact, "o2: member: member nobody is not enrolled"),
    (refund("r2", ("o1.1", 3, 100)), BadFact, "r2: lines.0.units: 3 come back, but only 2 are left"),
    (refund("r2", ("o1.9", 1, 100)), BadFact, "r2: lines.0.order_line: order o1 has no line o1.9"),
    (refund("r2", ("o1.1", 1, 100), member="m1"), BadFact, "r2: lines.0.order: order o1 belongs to another member"),
    (refund("r2", ("o1.1", 1, 100), at=START - DAY), BadFact, "r2: refunded_at: order o1 was paid later"),
    (order("o1", (2, 20_001)), FactConflict, "order o1 is already recorded with other content"),
    (review("a1", member="nobody"), BadFact, "a1: member: member nobody is not enrolled"),
]


@pytest.mark.parametrize(("fact", "refusal", "sentence"), REFUSED, ids=[sentence for *_, sentence in REFUSED])
def test_a_refused_fact_leaves_nothing_of_its_call(
    program: Program, fact: Fact, refusal: type[Exception], sentence: str
) -> None:
    tell(program, order("o1", (2, 20_000)))
    before = content()
    with pytest.raises(refusal) as refused:
        tell(program, order("o0", (1, 90_000), at=START - DAY), review("a0"), refund("r0", ("o1.1", None, 5)), fact)
    assert str(refused.value) == sentence
    assert content() == before


def test_a_first_call_that_is_refused_does_not_open_the_program(program: Program) -> None:
    before = content()
    with pytest.raises(BadFact):
        tell(program, order("o1", (1, 100)), order("o2", (1, 100), member="nobody"))
    assert content() == before
    assert Program.objects.get(pk=program.pk).opened_at is None


# --- what a fact earns -------------------------------------------------------------------------------------------


def test_an_order_earns_with_the_tier_held_before_it_and_the_upgrade_follows(program: Program) -> None:
    for n, (minor, available) in enumerate([(10_000, 100), (1_000, 115), (50_000, 865), (1_000, 885)]):
        tell(program, order(f"o{n}", (1, minor), at=START + n * DAY))
        assert balance(program).available == available
    tick = timedelta(microseconds=1)
    assert [(row[1], row[2]) for row in periods(program) if row[0] == "m0"] == [
        (START - 99 * DAY, "basic"), (START + tick, "silver"), (START + 2 * DAY + tick, "gold"),
    ]  # fmt: skip
    multipliers = Accrual.objects.filter(transaction__wallet__code="points").order_by("pk")
    assert list(multipliers.values_list("multiplier_bps", "basis", "points")) == [
        (10_000, 10_000, 100), (15_000, 1_000, 15), (15_000, 50_000, 750), (20_000, 1_000, 20),
    ]  # fmt: skip


def test_an_order_told_late_earns_with_the_tier_of_its_own_instant(program: Program) -> None:
    tell(program, order("o1", (1, 10_000)))
    tell(program, order("o2", (1, 1_000), at=START - DAY), order("o3", (1, 1_000), at=START), order("o4", (1, 1_000)))
    assert balance(program).available == 130
    tell(program, order("o5", (1, 1_000), at=START + timedelta(seconds=1)))
    assert balance(program).available == 145


def test_activities_earn_what_their_rule_says_and_others_nothing(program: Program) -> None:
    tell(program, review("a1"), review("a2", kind="visit"))
    tell(program, order("o1", (1, 10_000), at=START + DAY), review("a3", at=START + 2 * DAY))
    assert balance(program).available == 5 + 100 + 7  # 5 times 1.5 is floored
    earned = LedgerTransaction.objects.filter(source_kind=SourceKind.ACTIVITY)
    assert [t.points for t in Accrual.objects.filter(transaction__in=earned).order_by("pk")] == [5, 7]


def test_a_line_below_one_point_leaves_its_reason_and_guests_earn_nothing(program: Program) -> None:
    tell(program, order("o1", (1, 99), (1, 100)), order("o2", (1, 900), member=""))
    accruals = Accrual.objects.filter(transaction__wallet__code="points").order_by("pk")
    assert list(accruals.values_list("points", "reason")) == [
        (0, AccrualReason.BELOW_ONE_POINT), (1, AccrualReason.EARNED),
    ]  # fmt: skip


def test_a_wallet_that_rounds_per_order_floors_the_sum_and_takes_back_the_parts(program: Program) -> None:
    tell(program, order("o1", (1, 60), (1, 70), (1, 99)))
    assert (balance(program, wallet="gems").available, balance(program).available) == (2, 0)
    shares = Accrual.objects.filter(transaction__wallet__code="gems").order_by("pk").values_list("points", flat=True)
    assert sorted(shares) == [0, 1, 1]
    tell(program, refund("r1", ("o1.1", 1, 60), ("o1.2", 1, 70)))
    assert balance(program, wallet="gems").available == 2 - sum(list(shares)[:2])
    tell(program, refund("r2", ("o1.3", 1, 99)))
    assert balance(program, wallet="gems").available == 0


# --- refunds -----------------------------------------------------------------------------------------------------


def played(program: Program, refunds: Sequence[RefundInput]) -> list[int]:
    """Tell refunds one after the other and return the points left after each."""
    left = []
    for one in refunds:
        tell(program, one)
        left.append(balance(program).available)
    return left


def test_units_that_come_back_take_their_share_cumulatively(program: Program) -> None:
    tell(program, order("o1", (7, 1_099)))
    back = [refund(f"r{n}", ("o1.1", 1, 0), at=LATER + n * DAY / 24) for n in range(7)]
    assert played(program, back) == [9, 8, 6, 5, 3, 2, 0]


def test_money_that_comes_back_without_units_takes_its_share_of_what_was_paid(program: Program) -> None:
    tell(program, order("o1", (7, 1_000)))
    back = [refund(f"r{n}", ("o1.1", None, minor)) for n, minor in enumerate([99, 1, 333, 500, 500])]
    assert played(program, back) == [10, 9, 6, 1, 0]


def test_a_refund_told_together_with_its_order_and_at_its_instant_takes_back_what_that_earned(program: Program) -> None:
    tell(program, refund("r1", ("o1.1", 1, 500), at=START), order("o1", (2, 1_000)))
    assert balance(program).available == 5


def test_pending_points_become_usable_at_the_start_of_a_local_day_and_are_taken_back_pending(
    new_program: NewProgram,
) -> None:
    program = new_program(pending_days=3)
    at = datetime(2026, 7, 1, 23, 30, tzinfo=UTC)  # 00:30 on 2 July in London
    vests_at = datetime(2026, 7, 4, 23, tzinfo=UTC)
    tell(program, order("o1", (2, 1_000), at=at))
    assert balance(program, at=at).pending == 10
    tell(program, refund("r1", ("o1.1", 1, 500), at=at + DAY))
    before, after = (balance(program, at=moment) for moment in (vests_at - timedelta(microseconds=1), vests_at))
    assert (before.pending, before.available, after.pending, after.available) == (5, 0, 0, 5)
    settle_due(program=program, through=vests_at, at=NOW)
    tell(program, refund("r2", ("o1.1", 1, 500), at=vests_at + DAY))
    assert balance(program, at=vests_at + DAY) == Balance(0, 0, 0, 0, 10, 0)
    assert list(verify(program=program)) == []


# 14 points in two lots, the first of 10 spent, all of its order returned: (available, debt) then, and 5 points later.
POLICIES = [("debt", (0, 6), (0, 1)), ("write_off", (0, 0), (5, 0)), ("own_lot", (4, 0), (9, 0))]


@pytest.mark.parametrize(("policy", "after", "at_last"), POLICIES)
def test_spent_points_are_taken_back_as_the_wallet_says(
    new_program: NewProgram, policy: str, after: tuple[int, int], at_last: tuple[int, int]
) -> None:
    program = new_program(clawback=policy)
    tell(program, order("o1", (1, 1_000)), order("o2", (1, 400), at=START + DAY))
    redeem(program, 10, at=START + 2 * DAY)
    tell(program, refund("r1", ("o1.1", 1, 1_000)))
    found = balance(program)
    assert (found.available, found.debt) == after
    tell(program, order("o3", (1, 500), at=LATER + DAY))
    found = balance(program, at=LATER + DAY)
    assert (found.available, found.debt) == at_last
    assert list(verify(program=program)) == []


def test_a_wallet_that_refuses_leaves_no_trace_of_the_refund(new_program: NewProgram) -> None:
    program = new_program(clawback="refuse")
    tell(program, order("o1", (2, 1_000)))
    redeem(program, 6, at=START + DAY)
    before = content()
    with pytest.raises(ClawbackRefused):
        tell(program, refund("r1", ("o1.1", 2, 1_000)))
    assert content() == before


@pytest.mark.parametrize("days", [(3, 5), (5, 3)], ids=["in order", "the later one first"])
def test_an_order_is_back_when_its_last_unit_is_in_whatever_order_that_is_told(
    program: Program, days: tuple[int, int]
) -> None:
    tell(program, order("o1", (2, 1_000)))
    for day in days:
        tell(program, refund(f"r{day}", ("o1.1", 1, 500), at=START + day * DAY))
    assert Order.objects.get(external_id="o1").returned_at == START + 5 * DAY
    returned = MemberDay.objects.filter(orders_returned__gt=0).values_list("day", "orders_returned")
    assert list(returned) == [((START + 5 * DAY).date(), 1)]

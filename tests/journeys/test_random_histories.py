"""Random small histories through intake, evaluation and settlement equal the independent calculations.

Tiers come out the same in whatever order the facts arrive. Points follow the order of arrival, as the model does.
Retention is compared with the calculation from files, for facts told one by one and for the replay of the files.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from analytics.selectors import get_report
from analytics.services import months
from core.models import Program
from core.services import outbox
from core.versions import publish
from membership.fact_inputs import MemberInput
from membership.models import Ladder, Tier, TierPeriod
from membership.services.members import enroll_members
from membership.services.tiers import apply_dirty, due_evaluations, evaluate
from points.models import Account, Bucket, EarnRule, Wallet
from points.selectors import get_totals
from points.services import operations
from points.services.expiry import settle_due
from points.services.posting import InsufficientPoints
from points.services.verify import verify
from storefront.replay.run import replay
from storefront.services import intake, program_file
from tests.journeys.histories import (
    CURRENCY,
    MEMBERS,
    Burn,
    Fact,
    History,
    Order,
    Refund,
    Visit,
    day_zero,
    histories,
    in_order,
)
from tests.membership.test_tiers_oracle import definition, ladders
from tests.oracle import ledger as ledger_oracle
from tests.oracle import tiers as tier_oracle
from tests.oracle.edge_cases import Book
from tests.oracle.replay import compute
from tests.points.ledgers import read_entries

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
BUCKETS = {bucket.name.lower(): bucket.value for bucket in Bucket}
VISIT_POINTS = 3
_numbers = count(1)
some = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
many = settings(some, max_examples=1_000)

Event = Fact | Burn
policies = st.fixed_dictionaries({
    "expiry_days": st.sampled_from([1, 5, 12, 40]),
    "pending_days": st.sampled_from([0, 0, 1]),
    "clawback": st.sampled_from(["debt", "debt", "write_off", "own_lot"]),
})  # fmt: skip


# --- in any order of arrival: tiers and points -----------------------------------------------------------------


class World:
    """A program on the services, and beside it one model of the ledger per member."""

    def __init__(self, ladder: tier_oracle.Ladder, policy: dict[str, Any], history: History) -> None:
        code = f"p{next(_numbers)}"
        self.program = Program.objects.create(code=code, name=code, currency=CURRENCY, time_zone=history.zone)
        self.ladder = Ladder.objects.create(program=self.program, code="main", name="Main")
        Tier.objects.bulk_create(Tier(ladder=self.ladder, code=tier.code, name=tier.code) for tier in ladder.tiers)
        publish(self.ladder, definition(ladder), at=LONG_AGO)
        self.wallet = Wallet.objects.create(program=self.program, code="points", name="Points")
        publish(self.wallet, policy, at=LONG_AGO)
        buying = {"trigger": "order_line", "formula": {"points": 1, "per": "1.00"}}
        visiting = {"trigger": "activity", "formula": {"fixed": VISIT_POINTS}, "activity_kinds": ["visit"]}
        for name, rule in (("buying", buying), ("visiting", visiting)):
            earn_rule = EarnRule.objects.create(program=self.program, code=name)
            publish(earn_rule, {"wallet": "points", "name": name} | rule, at=LONG_AGO)
        self.policy, self.history, self.clock = policy, history, 0
        self.models = {member: ledger_oracle.Account() for member in MEMBERS}
        self.minor_back: Counter[str] = Counter()
        joined = {member: at for member in MEMBERS if (at := history.joined_at(member))}
        told = [MemberInput(external_id=member, joined_at=at) for member, at in joined.items()]
        self.ids = enroll_members(program=self.program, members=told, at=NOW).ids

    def now(self) -> datetime:
        self.clock += 1
        return NOW + timedelta(seconds=self.clock)

    def take(self, events: Sequence[Event]) -> None:
        """Tell the facts among events in one call, then make the redemptions; play the same on the models."""
        kinds: dict[type, list[Any]] = defaultdict(list)
        for one in in_order(events):
            if not isinstance(one, Burn):
                kinds[type(one)].append(one.told())
                self._play(one)
        told = {"orders": kinds[Order], "refunds": kinds[Refund], "activities": kinds[Visit]}
        intake.record(program=self.program, at=self.now(), **told)
        for one in in_order(events):
            if isinstance(one, Burn):
                self._burn(one)

    def _play(self, fact: Fact) -> None:
        model = self.models[fact.member]
        if isinstance(fact, Refund):
            returns = [self._return(part.line, part.units, part.minor) for part in fact.parts if part.line]
            returns = [(line, back, whole) for line, back, whole in returns if whole]
            if returns:
                model.clawback(fact.name, fact.at, returns, self.policy["clawback"])
            return
        if isinstance(fact, Order):
            accruals = [(f"{fact.name}.{n}", minor // 100) for n, (_, minor) in enumerate(fact.lines, 1)]
        else:
            accruals = [(fact.name, VISIT_POINTS)]
        zone, pending = self.history.time_zone, self.policy["pending_days"]
        available_at = day_zero(fact.at, zone, pending) if pending else fact.at
        model.earn(fact.name, fact.at, accruals, available_at, day_zero(fact.at, zone, self.policy["expiry_days"] + 1))

    def _return(self, line: str, units: int | None, minor: int) -> tuple[str, int, int]:
        """Return what comes back now of the whole: units of units, or money of money, never more than was paid."""
        name, _, position = line.rpartition(".")
        order = next(fact for fact in self.history.facts if fact.name == name)
        assert isinstance(order, Order)
        whole_units, whole_minor = order.lines[int(position) - 1]
        if units is not None:
            return line, units, whole_units
        before = min(self.minor_back[line], whole_minor)
        self.minor_back[line] += minor
        return line, min(self.minor_back[line], whole_minor) - before, whole_minor

    def _burn(self, burn: Burn) -> None:
        try:
            operations.redeem(
                program=self.program, member_id=self.ids[burn.member], wallet_id=self.wallet.pk, points=burn.points,
                idempotency_key=burn.name, at=burn.at,
            )  # fmt: skip
        except InsufficientPoints:
            with pytest.raises(ledger_oracle.RefusedError):
                self.models[burn.member].burn(burn.name, burn.at, burn.points)
        else:
            self.models[burn.member].burn(burn.name, burn.at, burn.points)

    def settle(self, through: datetime) -> None:
        settle_due(program=self.program, through=through, at=self.now())
        for model in self.models.values():
            model.settle(through)

    def evaluate(self, instant: datetime) -> None:
        self.ladder.refresh_from_db()
        evaluate(ladder=self.ladder, instant=instant, at=self.now())

    # --- the comparisons -------------------------------------------------------------------------------------

    def check_points(self) -> None:
        for member, member_id in self.ids.items():
            model = self.models[member]
            real: Counter[tuple[object, ...]] = Counter()
            for moved in read_entries(member_id):
                real[moved.kind, moved.from_bucket, moved.to_bucket, moved.effective_at] += moved.points
            expected: Counter[tuple[object, ...]] = Counter()
            for p in model.postings:
                expected[p.kind, BUCKETS[p.from_bucket], BUCKETS[p.to_bucket], p.effective_at] += p.points
            assert real == expected
            for account in Account.objects.filter(member_id=member_id):
                assert {name: getattr(account, name) for name in model.balances} == model.balances
        assert list(verify(program=self.program)) == []

    def check_tiers(self, ladder: tier_oracle.Ladder, until: datetime) -> None:
        for member, member_id in self.ids.items():
            live = TierPeriod.objects.filter(member_id=member_id, superseded_at=None).order_by("valid_from")
            rows = list(live.values_list("valid_from", "tier__code", "cause", "guaranteed_until"))
            # The oracle leaves out the undoing of upgrades, which has tests of its own.
            assume(not any(cause == "corrected" for _, _, cause, _ in rows))
            joined_at = self.history.joined_at(member)
            assert joined_at is not None
            expected = tier_oracle.tier_history(
                ladder, list(_tier_facts(self.history.of(member))), time_zone=self.history.zone, joined_at=joined_at,
                until=until,
            )  # fmt: skip
            assert rows == [(row.valid_from, row.tier, row.cause, row.guaranteed_until) for row in expected]


def _tier_facts(facts: Sequence[Fact]) -> Iterator[tier_oracle.Fact]:
    refunds = [fact for fact in in_order(facts) if isinstance(fact, Refund)]
    for fact in facts:
        if isinstance(fact, Order):
            yield tier_oracle.Fact("order", fact.at, fact.minor, _came_back_at(fact, refunds))
        elif isinstance(fact, Refund):
            yield tier_oracle.Fact("refund", fact.at, fact.minor)
        else:
            yield tier_oracle.Fact("visit", fact.at)


def _came_back_at(order: Order, refunds: Sequence[Refund]) -> datetime | None:
    """Return when the last unit of an order came back, or all its money where the refunds name no units."""
    units, minor = sum(units for units, _ in order.lines), order.minor
    for refund in refunds:
        parts = [part for part in refund.parts if part.line.startswith(f"{order.name}.")]
        units -= sum(part.units or 0 for part in parts)
        minor -= sum(part.minor for part in parts if part.units is None)
        if parts and (units == 0 or (minor <= 0 and order.minor)):
            return refund.at
    return None


def check_any_order(ladder: tier_oracle.Ladder, policy: dict[str, Any], history: History, random: Random) -> None:
    world = World(ladder, policy, history)
    last = max(one.at for one in history.events)
    due: list[datetime] = []
    if world.ids:
        first = min(one.at for one in history.events)
        due = due_evaluations(ladder=world.ladder, after=first, until=last + timedelta(days=12))
    for group in history.arrivals(random):
        world.take(group)
        if random.random() < 0.3:
            world.settle(random.choice(history.events).at)
        for _ in range(random.randint(0, max(1, len(due) // 3))):
            if due:
                world.evaluate(due.pop(0))
    for instant in due:
        world.evaluate(instant)
    world.ladder.refresh_from_db()
    apply_dirty(ladder=world.ladder, at=world.now())
    world.check_points()
    world.check_tiers(ladder, last + timedelta(days=12))
    world.settle(last + timedelta(days=100))
    world.check_points()
    outbox.drain(at=world.now())
    months.refresh(program=world.program, through=last)
    assert months.find_month_mismatches(program=world.program) == []


ANY_ORDER = given(ladder=ladders(), policy=policies, history=histories(), random=st.randoms(use_true_random=False))


@some
@ANY_ORDER
def test_tiers_and_points_equal_the_oracles_in_any_order_of_arrival(
    ladder: tier_oracle.Ladder, policy: dict[str, Any], history: History, random: Random
) -> None:
    check_any_order(ladder, policy, history, random)


@pytest.mark.deep
@many
@ANY_ORDER
def test_tiers_and_points_equal_the_oracles_in_a_thousand_histories(
    ladder: tier_oracle.Ladder, policy: dict[str, Any], history: History, random: Random
) -> None:
    check_any_order(ladder, policy, history, random)


# --- retention, one by one, late, and replayed from files ------------------------------------------------------


CUTS = {"bronze": 0, "silver": 300, "gold": 700, "platinum": 1_200, "diamond": 2_000}
WINDOW_DAYS, EXPIRY_DAYS = 40, 30


def program_text(zone: str) -> str:
    tiers = "".join(
        f"      - code: {code}\n        name: {code}\n        entry: {{any_of: [{{all_of: [{{metric: net_spend,"
        f' at_least: "{cut / 100:.2f}", window: {{rolling_days: {WINDOW_DAYS}}}}}]}}]}}\n'
        for code, cut in CUTS.items()
        if cut
    )
    return f"""
program: {{code: small, name: Small, currency: {CURRENCY}, time_zone: {zone}}}
ladders:
  - code: main
    name: Tiers
    upgrade: at_evaluation
    evaluation: {{every: month}}
    tiers:
      - {{code: bronze, name: Bronze}}
{tiers}
wallets:
  - {{code: points, name: Points, expiry_days: {EXPIRY_DAYS}}}
earn_rules:
  - {{code: spend, name: Spend, wallet: points, trigger: order_line, formula: {{points: 1, per: "1.00"}}}}
"""


def write(history: History, folder: Path) -> Path:
    """Write the history as a data set."""
    directory = folder / f"history-{next(_numbers)}"
    book = Book()
    for fact in history.facts:
        at = fact.at.isoformat()
        if isinstance(fact, Order):
            book.order(fact.name, fact.member, at, *fact.lines)
        elif isinstance(fact, Refund):
            book.refund(fact.name, fact.member, at, *((part.line, part.units or 0, part.minor) for part in fact.parts))
    book.write(directory)
    return directory


def tell(program: Program, arrivals: Iterator[list[Event]], history: History) -> None:
    """Tell the facts as they arrive, each evaluation before the first fact at or after it."""
    ladder = Ladder.objects.get(program=program)
    first, last = min(one.at for one in history.events), max(one.at for one in history.events)
    due = due_evaluations(ladder=ladder, after=first, until=last)
    for group in arrivals:
        while due and due[0] <= group[0].at:
            evaluate(ladder=ladder, instant=due.pop(0), at=NOW)
            ladder.refresh_from_db()
        told: dict[str, list[Any]] = {
            "orders": [fact.told() for fact in group if isinstance(fact, Order)],
            "refunds": [fact.told() for fact in group if isinstance(fact, Refund)],
        }
        intake.record(program=program, at=NOW, **told)
    for instant in due:
        evaluate(ladder=ladder, instant=instant, at=NOW)
        ladder.refresh_from_db()
    apply_dirty(ladder=ladder, at=NOW)


def report(program: Program, history: History, as_of: Sequence[datetime]) -> dict[str, Any]:
    settle_due(program=program, through=max(as_of), at=NOW)
    outbox.drain(at=NOW)
    months.refresh(program=program, through=max(one.at for one in history.events))
    wallet, names = Wallet.objects.get(program=program), ("earned", "clawed_back", "expired", "outstanding")
    totals = {instant: get_totals(wallet=wallet, before=instant) for instant in as_of}
    points = {at.isoformat(): {name: getattr(found, name) for name in names} for at, found in totals.items()}
    return get_report(program_id=program.pk) | {"points": points}


def check_reports(history: History, random: Random, folder: Path) -> None:
    directory = write(history, folder)
    path = folder / "program.yaml"
    path.write_text(program_text(history.zone))
    last = max(one.at for one in history.events)
    as_of = [
        random.choice(history.events).at,
        day_zero(random.choice(history.events).at, history.time_zone, 31),
        last + timedelta(days=99),
    ]
    expected = compute(
        directory, cuts=CUTS, time_zone=history.zone, as_of=[instant.isoformat() for instant in as_of],
        window_days=WINDOW_DAYS, expiry_days=EXPIRY_DAYS,
    )  # fmt: skip
    mean = expected["repurchase"]["mean_days_between_orders"]
    if mean is not None:
        expected["repurchase"]["mean_days_between_orders"] = pytest.approx(mean, rel=1e-12, abs=0)
    event(f"months: {len(expected['tiers'])}")

    def new_program() -> Program:
        file = program_file.load(path, code=f"s{next(_numbers)}")
        program = program_file.apply(file, at=NOW, actor="test")
        joined = {member: at for member in MEMBERS if (at := history.joined_at(member))}
        told = [MemberInput(external_id=member, joined_at=at) for member, at in joined.items()]
        enroll_members(program=program, members=told, at=NOW)
        return program

    one_by_one = new_program()
    tell(one_by_one, ([one] for one in in_order(history.events)), history)
    assert report(one_by_one, history, as_of) == expected
    late = new_program()
    tell(late, history.arrivals(random), history)
    # Points follow the order of arrival: what was taken back of a lot that had expired by then is not.
    assert report(late, history, as_of) | {"points": expected["points"]} == expected
    replayed = replay(
        directory=directory, file=program_file.load(path, code=f"s{next(_numbers)}"),
        as_of=[(instant.isoformat(), instant) for instant in as_of], rejects=None, at=NOW, progress=lambda *_: None,
    )  # fmt: skip
    assert {name: replayed[name] for name in expected} == expected
    assert replayed["verify"] == {"mismatches": 0, "chain_breaks": 0}
    assert list(verify(program=one_by_one)) == list(verify(program=late)) == []


REPORTS = given(history=histories(days=75, is_replayable=True), random=st.randoms(use_true_random=False))


@some
@REPORTS
def test_retention_and_points_equal_the_calculation_from_files(
    history: History, random: Random, tmp_path: Path
) -> None:
    check_reports(history, random, tmp_path)


@pytest.mark.deep
@many
@REPORTS
def test_retention_and_points_equal_the_calculation_in_a_thousand_histories(
    history: History, random: Random, tmp_path: Path
) -> None:
    check_reports(history, random, tmp_path)

"""Random small histories through intake, evaluation and settlement equal the independent calculations.

Tiers come out the same in whatever order the facts arrive. Points follow the order of arrival, as the model does.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.services import months
from core.models import Program
from core.services import outbox
from core.versions import publish
from membership.fact_inputs import MemberInput
from membership.models import Ladder, Tier, TierPeriod
from membership.services.members import enroll_members
from membership.services.tiers import apply_dirty, due_evaluations, evaluate
from points.models import Account, Bucket, EarnRule, Wallet
from points.services import operations
from points.services.expiry import settle_due
from points.services.posting import InsufficientPoints
from points.services.verify import verify
from storefront.services import intake
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
from tests.oracle import returns as came_back
from tests.oracle import tiers as tier_oracle
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
        self.refunds: list[Refund] = []
        self.due: Counter[str] = Counter()
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
        intake.record(
            program=self.program,
            orders=kinds[Order],
            refunds=kinds[Refund],
            activities=kinds[Visit],
            at=self.now(),
        )
        for one in in_order(events):
            if isinstance(one, Burn):
                self._burn(one)

    def _play(self, fact: Fact) -> None:
        model = self.models[fact.member]
        if isinstance(fact, Refund):
            self.refunds.append(fact)
            returns = [part for name in _named(fact) for part in self._returns(name)]
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

    def _returns(self, name: str) -> Iterator[tuple[str, int, int]]:
        """Yield what is due now of what each line had earned, after the refunds that are known."""
        for key, due in came_back.answer(_paid(self.order(name)), _told(self.refunds, name)).due.items():
            earned = next(line.earned for line in _paid(self.order(name)).lines if line.key == key)
            if earned:
                yield key, due - self.due[key], earned
            self.due[key] = due

    def order(self, name: str) -> Order:
        return next(fact for fact in self.history.facts if isinstance(fact, Order) and fact.name == name)

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
            back = [(r.at, part.minor) for r in refunds for part in r.parts if part.line.startswith(f"{fact.name}.")]
            yield tier_oracle.Fact("order", fact.at, fact.minor, _came_back_at(fact, refunds), tuple(back))
        elif isinstance(fact, Refund):
            yield tier_oracle.Fact("refund", fact.at, fact.minor)
        else:
            yield tier_oracle.Fact("visit", fact.at)


def _came_back_at(order: Order, refunds: Sequence[Refund]) -> datetime | None:
    """Return since when all of an order is back, as of all its refunds."""
    return came_back.returned_at(_paid(order), _told(refunds, order.name))  # type: ignore[return-value]


def _named(refund: Refund) -> list[str]:
    """Return the orders that a refund's lines name."""
    return list(dict.fromkeys(part.line.rpartition(".")[0] for part in refund.parts if part.line))


def _paid(order: Order) -> came_back.Order:
    """Return an order for the oracle of what came back; each line earns a point for each whole unit of money."""
    lines = (
        came_back.Line(f"{order.name}.{n}", units, minor, earned=minor // 100, paid_at=order.at)  # type: ignore[arg-type]
        for n, (units, minor) in enumerate(order.lines, 1)
    )
    return came_back.Order("o", order.minor, tuple(lines), order.at)  # type: ignore[arg-type]


def _told(refunds: Sequence[Refund], name: str) -> list[came_back.Refund]:
    return [
        came_back.Refund(
            *(one.name, one.at, one.minor),  # type: ignore[arg-type]
            tuple(
                came_back.RefundLine(
                    part.line, part.units or 0, part.minor, "o" if part.line.startswith(f"{name}.") else ""
                )
                for part in one.parts
                if part.line
            ),
        )
        for one in refunds
        if name in _named(one)
    ]


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
    apply_dirty(ladder=world.ladder, through=last + timedelta(days=12), at=world.now())
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

"""A shop's facts, as they happened and as they may be told, and what stands of them after the last close."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from core.calendar import TICK
from core.models import Program
from core.services import outbox
from membership.fact_inputs import (
    ActivityInput,
    CreditInput,
    MemberInput,
    OrderEditInput,
    OrderInput,
    OrderLineInput,
    RefundInput,
    RefundLineInput,
)
from membership.models import Activity, Member, Order, OrderLine, QualifyingCredit, TierPeriod
from membership.services.facts import record_credits
from membership.services.members import enroll_members
from membership.services.tiers import follow_facts
from points.models import Accrual, AccrualCorrection, AccrualReturn, SourceKind
from points.order_stories import tell_order
from referrals.models import STANDING, Referral, ReferralReward
from referrals.services import binding, codes, qualification
from storefront.services import day_close, intake, program_file

START = datetime(2026, 2, 20, tzinfo=UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
DAYS, SETTLED = 14, 21
MEMBERS = tuple(f"m{n}" for n in range(8))
BROUGHT = [("m4", "m0"), ("m5", "m0"), ("m6", "m1"), ("m7", "m5")]
Fact = OrderInput | OrderEditInput | RefundInput | ActivityInput | CreditInput


class Arrival(NamedTuple):
    """A fact, when it happened, and when it is told. `needs`: the order that is told before it."""

    told_at: datetime
    at: datetime
    fact: Fact
    needs: str = ""


def draw_facts(random: Random) -> list[Arrival]:
    """Draw what happens in the days, each fact told when it happens. No two happen at one instant."""
    minutes = iter(random.sample(range(2 * 1_440, DAYS * 1_440), 2_000))
    found: list[Arrival] = []

    def instant(after: datetime = START) -> datetime:
        return next(at for minute in minutes if (at := START + minute * MINUTE) > after)

    for member in MEMBERS:
        for n in range(random.choice([2, 4, 6])):
            at = instant()
            found.append(Arrival(at, at, order := _order(random, f"{member}-o{n}", member, at)))
            back = random.choice(["", "all", "all", "units", "sum", "edit"])
            later = instant(at) if at < START + (DAYS - 1) * DAY else None
            if back and later is not None:
                found.append(Arrival(later, later, _change(random, order, back, later), order.external_id))
        days = random.sample(range(2, DAYS), 3)  # of several a day the first that comes in is paid
        for n, day in enumerate(days):
            at = START + day * DAY + timedelta(minutes=random.randrange(1_440), seconds=7)
            found.append(
                Arrival(at, at, ActivityInput(external_id=f"a{n}", member=member, kind="review", occurred_at=at))
            )
        for n in range(random.randint(0, 3)):
            at = instant()
            credit = CreditInput(member=member, source=f"c{n}", rule="r", credits=random.randint(1, 3), effective_at=at)
            found.append(Arrival(at, at, credit))
    return sorted(found, key=lambda one: one.told_at)


def _order(random: Random, name: str, member: str, at: datetime) -> OrderInput:
    lines = tuple(
        OrderLineInput(
            external_id=f"{n}", units=random.randint(1, 3), amount_minor=random.choice([999, 3_050, 8_125, 12_000])
        )
        for n in range(random.randint(1, 2))
    )
    total = sum(line.amount_minor for line in lines) + random.choice([0, 499])
    return OrderInput(
        external_id=name, member=member, paid_at=at, currency="GBP", amount_minor=total, lines=lines,
        market=random.choice(["", "uk"]),
    )  # fmt: skip


def _change(random: Random, order: OrderInput, kind: str, at: datetime) -> Fact:
    name, line = f"{order.external_id}-{kind}", order.lines[0]
    if kind == "edit":
        added = OrderLineInput(external_id="more", units=1, amount_minor=random.choice([1_550, 6_000]))
        return OrderEditInput(order=order.external_id, external_id="e", edited_at=at, currency="GBP", lines=(added,))
    told: dict[str, Any] = {"external_id": name, "member": order.member, "refunded_at": at, "currency": "GBP"}
    if kind == "units":
        units = random.randint(1, line.units)
        part = RefundLineInput(external_id="1", order_line=line.external_id, units=units, amount_minor=0)
        return RefundInput(**told, order=order.external_id, amount_minor=0, lines=(part,))
    amount = order.amount_minor if kind == "all" else random.randint(1, order.amount_minor)
    return RefundInput(**told, order=order.external_id, amount_minor=amount)


def shuffle(facts: Sequence[Arrival], random: Random) -> list[Arrival]:
    """Tell many facts late, in any order; what changes an order comes after it."""
    last = START + DAYS * DAY
    late = [
        one._replace(told_at=one.at + random.random() * (last - one.at)) if random.random() < 0.6 else one
        for one in facts
    ]
    known = {one.fact.external_id: one.told_at for one in late if isinstance(one.fact, OrderInput)}
    late = [one._replace(told_at=max(one.told_at, known[one.needs] + TICK)) if one.needs else one for one in late]
    return sorted(late, key=lambda one: one.told_at)


def open_shop(folder: Path, document: dict[str, Any]) -> Program:
    path = folder / f"{document['program']['code']}.yaml"
    path.write_text(json.dumps(document))
    program = program_file.apply(program_file.load(path), at=START - 99 * DAY, actor="test")
    joined = [MemberInput(external_id=name, joined_at=START + n * TICK) for n, name in enumerate(MEMBERS)]
    enroll_members(program=program, members=joined, at=START + MINUTE)
    found = {member.external_id: member for member in Member.objects.filter(program=program)}
    for referee, referrer in BROUGHT:
        code = codes.ensure_code(member=found[referrer], at=START + MINUTE).text
        binding.bind(program=program, member=found[referee], code=code, at=START + DAY)
    return program


def run(program: Program, arrivals: Sequence[Arrival]) -> None:
    """Let time pass: facts are told when they come, and every day is closed."""
    waiting = list(arrivals)
    for day in range(1, SETTLED + 1):
        at = START + day * DAY + 2 * MINUTE
        while waiting and waiting[0].told_at < at:
            _tell(program, waiting.pop(0))
        for due in day_close.list_due_days(program=program, at=at):
            day_close.close_day(program=program, day=due, at=at)
        qualification.mature(program=program, at=at)
        assert outbox.drain(at=at).failed == 0
    assert not waiting


def _tell(program: Program, arrival: Arrival) -> None:
    fact, at = arrival.fact, arrival.told_at
    if isinstance(fact, OrderEditInput):
        intake.edit_order(program=program, edit=fact, at=at)
    elif isinstance(fact, CreditInput):
        follow_facts(program=program, recorded=record_credits(program=program, credits=[fact], at=at), at=at)
    else:
        intake.record(
            program=program,
            orders=[fact] if isinstance(fact, OrderInput) else [],
            refunds=[fact] if isinstance(fact, RefundInput) else [],
            activities=[fact] if isinstance(fact, ActivityInput) else [],
            at=at,
        )


# --- what stands -----------------------------------------------------------------------------------------------------


def tiers(program: Program) -> list[Any]:
    live = TierPeriod.objects.filter(member__program=program, superseded_at=None)
    return sorted(live.values_list("member__external_id", "valid_from", "tier__code", "cause", "guaranteed_until"))


def credits_of(program: Program) -> list[Any]:
    rows = QualifyingCredit.objects.filter(member__program=program)
    return sorted(rows.values_list("member__external_id", "source", "rule", "credits", "effective_at"))


def referrals(program: Program) -> dict[str, list[Any]]:
    """Referrals with the order that counts, and the rewards that stand."""
    orders = dict(Order.objects.filter(program=program).values_list("pk", "external_id"))
    rows = Referral.objects.filter(program=program)
    told = [
        (*row[:3], orders.get(row[3] or 0))
        for row in rows.values_list("member__external_id", "state", "reason", "order_id")
    ]
    rewards = ReferralReward.objects.filter(program=program, state__in=STANDING).select_related("member", "referral")
    return {
        "referrals": sorted(told),
        "rewards": sorted(
            (one.member.external_id, _event(one), one.level, one.points or 0, one.coupon, one.state) for one in rewards
        ),
    }


def _event(reward: ReferralReward) -> str:
    """Return what a reward is for. One that was paid stays where an earlier order, told later, gives the same."""
    kind = reward.event.partition(":")[0]
    return kind if kind == "order" else reward.event


Earned = dict[tuple[str, str, str], tuple[int, int]]


def accruals(program: Program) -> Earned:
    """By source, line and rule: what it counts for, after corrections, and what stands of it."""
    lines = OrderLine.objects.filter(order__program=program)
    names = {(SourceKind.ORDER_LINE, pk): (order, line)
             for pk, order, line in lines.values_list("pk", "order__external_id", "external_id")}  # fmt: skip
    acts = Activity.objects.filter(member__program=program).values_list("pk", "member__external_id", "external_id")
    names |= {(SourceKind.ACTIVITY, pk): (member, name) for pk, member, name in acts}
    found: Earned = {}
    for accrual in Accrual.objects.filter(member__program=program, rule_version__isnull=False):
        rows = list(AccrualCorrection.objects.filter(accrual=accrual).order_by("pk"))
        back = sum(AccrualReturn.objects.filter(accrual=accrual).values_list("points_due", flat=True))
        stands = accrual.points + sum(row.points_added - row.points_due for row in rows) - back
        points = rows[-1].points if rows else accrual.points
        assert accrual.rule_version is not None
        rule = accrual.rule_version.owner.code
        found[(*names[SourceKind(accrual.source_kind), accrual.source_id], rule)] = (points, stands)
    return {key: value for key, value in found.items() if any(value)}


def left(program: Program) -> dict[tuple[str, str, str], int]:
    """What `explain` says of each line is not posted: by order, line and rule, the change that would be."""
    return {
        (order.external_id, line.line, one.rule.code): one.change
        for order in Order.objects.filter(program=program).select_related("member")
        for line in tell_order(order, program=program).lines
        for one in line.left
    }

"""What the tests of retention share: shops whose tiers move at once, their customers as the oracle sees them."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from analytics.models import RetentionCell
from analytics.services import cells, months
from core.models import Program
from core.services import outbox
from membership.fact_inputs import MemberInput, OrderInput, RefundInput
from membership.models import Order, TierPeriod
from membership.services.members import enroll_members
from storefront.services import intake, program_file
from tests.analytics.histories import NOW, evaluate_until
from tests.oracle.retention import Bought, Cells, Customer, Key, Part
from tests.storefront.shop import definition, order

_numbers = count(1)


def open_shop(folder: Path, zone: str = "UTC") -> Program:
    """A program in pounds with immediate upgrades at 100 and 300, evaluated monthly; each call makes another one."""
    code = f"retained-{next(_numbers)}"
    told = definition(code, {})
    told["program"]["time_zone"] = zone
    path = folder / f"{code}.yaml"
    path.write_text(json.dumps(told))
    return program_file.apply(program_file.load(path), at=NOW, actor="test")


def bought(name: str, member: str, at: datetime, minor: int = 1_000, **entry: str) -> OrderInput:
    return replace(order(name, (1, minor), at=at, member=member), **entry)  # type: ignore[arg-type]


def bring_back(name: str, member: str, at: datetime, minor: int) -> RefundInput:
    """Money given back to a member, of no order that is known."""
    return RefundInput(external_id=name, member=member, refunded_at=at, currency="GBP", amount_minor=minor)


def tell(program: Program, orders: Sequence[OrderInput], refunds: Sequence[RefundInput] = ()) -> None:
    """Enroll whoever appears at their first fact, and take the facts in."""
    joined: dict[str, datetime] = {}
    for member, at in [*((o.member, o.paid_at) for o in orders), *((r.member, r.refunded_at) for r in refunds)]:
        if member:
            joined[member] = min(at, joined.get(member, at))
    told = [MemberInput(external_id=name, joined_at=at) for name, at in joined.items()]
    enroll_members(program=program, members=told, at=NOW)
    intake.record(program=program, orders=list(orders), refunds=list(refunds), activities=[], at=NOW)


def refresh(program: Program, through: Any) -> int:
    """Do what a day's close does for retention."""
    if isinstance(through, datetime):
        evaluate_until(program, through)
    outbox.drain(at=NOW)
    months.refresh(program=program, through=through)
    return cells.refresh(program=program, through=through, at=NOW)


def customers(program: Program) -> list[Customer]:
    """Everybody who ordered, from the recorded facts and the tier periods that are live."""
    orders: dict[int, list[Bought]] = defaultdict(list)
    for one in Order.objects.filter(program=program, member__isnull=False):
        named = (one.market, one.country, one.channel, one.device)
        orders[one.member_id or 0].append(Bought(one.paid_at, one.external_id, *named))
    tiers: dict[int, list[tuple[datetime, str]]] = defaultdict(list)
    live = TierPeriod.objects.filter(ladder__program=program, ladder__code="main", superseded_at=None)
    for period in live.select_related("tier").order_by("valid_from"):
        tiers[period.member_id].append((period.valid_from, period.tier.code))
    return [Customer(mine, tiers[member_id]) for member_id, mine in orders.items()]


def stored(program: Program) -> Cells:
    """The stored cells as the oracle writes them."""
    found: Cells = {}
    for one in RetentionCell.objects.filter(program=program).select_related("tier", "to_tier", "segment__tier"):
        segment = one.segment
        key = Key(
            one.report,
            one.period,
            one.step,
            one.tier.code if one.tier else None,
            one.to_tier.code if one.to_tier else None,
        )
        entry_tier = segment.tier.code if segment.tier else None
        part = Part(entry_tier, segment.market, segment.country, segment.channel, segment.device)
        assert (key, part) not in found
        found[key, part] = (one.n, one.retained)
    return found

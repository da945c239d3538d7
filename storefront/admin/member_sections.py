"""What a member's page shows, read in a number of statements that does not grow with the member's history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext

from core.money import format_minor
from coupons.models import Claim
from coupons.wallet import show_state, state_of
from membership.admin import evidence_words
from membership.explain import explain_held, explain_not_held
from membership.models import Ladder, Member, Order, OrderLine, Refund, TierOverride, TierPeriod
from membership.order_returns import read
from membership.selectors import Path, Step
from membership.services import overrides
from membership.stories import TierStory, find_story

# A table shows this many rows at most; the lists behind it have the rest.
ROWS = 50


@dataclass(frozen=True, slots=True)
class LadderStanding:
    """Where a member stands on a ladder, in words. `next_name` empty: there is no higher tier."""

    ladder: Ladder
    path: Path | None = None
    tier_name: str = ""
    stay: str = ""
    next_name: str = ""
    next_missing: str = ""
    why: Sequence[str] = ()
    why_not_next: Sequence[str] = ()
    override: TierOverride | None = None


@dataclass(frozen=True, slots=True)
class OrderSection:
    """An order with its lines and what came back of it, each with its amount in words."""

    order: Order
    amount: str
    lines: list[tuple[OrderLine, str]]
    refunds: list[tuple[Refund, str]]


@dataclass(frozen=True, slots=True)
class Period:
    """A tier period with its evidence in words."""

    row: TierPeriod
    evidence: list[str]


@dataclass(frozen=True, slots=True)
class HeldCoupon:
    """A claim with its state as it is shown, and its word."""

    claim: Claim
    state: str
    word: str


def list_standings(member: Member, *, at: datetime) -> list[LadderStanding]:
    """Return where the member stands on each ladder of the program."""
    ladders = Ladder.objects.filter(program_id=member.program_id).order_by("pk")
    return [_standing(member, ladder, at) for ladder in ladders]


def _standing(member: Member, ladder: Ladder, at: datetime) -> LadderStanding:
    story = find_story(program=member.program, member_id=member.pk, ladder=ladder.code, at=at)
    if story is None:
        return LadderStanding(ladder)
    path, currency = story.path, member.program.currency
    above = path.above[0] if path.above else None
    return LadderStanding(
        ladder=ladder,
        path=path,
        tier_name=story.names[path.tier],
        stay=_describe(path.stay, currency),
        next_name=story.names[above.tier] if above else "",
        next_missing=_describe(above, currency) if above else "",
        why=explain_held(story),
        why_not_next=_why_not(story, above),
        override=overrides.find_running(member_id=member.pk, ladder_id=ladder.pk, at=at),
    )


def _why_not(story: TierStory, above: Step | None) -> list[str]:
    return explain_not_held(story, above.tier) if above else []


def _describe(step: Step, currency: str) -> str:
    """Return what is missing for a step: `GBP 12.00 by 2027-03-31 or 2 orders`; empty if nothing is."""
    if step.holds:
        return ""
    ways = (
        gettext(" and ").join(need.describe(currency) for need in branch if need.missing) for branch in step.branches
    )
    return gettext(" or ").join(ways)


def list_orders(member: Member) -> list[OrderSection]:
    """Return the latest orders with their lines and refunds."""
    orders = list(Order.objects.filter(member=member).order_by("-paid_at", "-pk")[:ROWS])
    lines: dict[int, list[OrderLine]] = defaultdict(list)
    for line in OrderLine.objects.filter(order__in=orders, member=member).order_by("position"):
        lines[line.order_id].append(line)
    refunds = _list_refunds(orders)
    return [
        OrderSection(
            order,
            format_minor(order.amount_minor, order.currency),
            [(line, format_minor(line.amount_minor, order.currency)) for line in lines[order.pk]],
            [(refund, format_minor(minor, refund.currency)) for refund, minor in refunds[order.pk]],
        )
        for order in orders
    ]


def _list_refunds(orders: list[Order]) -> dict[int, list[tuple[Refund, int]]]:
    """Return the refunds of each order in the order of their dates, with what each tells of it."""
    told: dict[int, dict[int, int]] = {}
    for order_id, state in read([order.pk for order in orders]).items():
        amounts = told[order_id] = defaultdict(int)
        for part in state.parts:
            amounts[part.refund_id or 0] += part.amount_minor
    known = Refund.objects.in_bulk({refund_id for amounts in told.values() for refund_id in amounts})
    return {
        order_id: [(known[refund_id], minor) for refund_id, minor in amounts.items()]
        for order_id, amounts in told.items()
    }


def list_claims(member: Member, *, at: datetime) -> list[HeldCoupon]:
    """Return the latest coupons that the member took or was given, each with its state."""
    claims = Claim.objects.filter(member=member).select_related("definition").order_by("-pk")[:ROWS]
    return [HeldCoupon(claim, state := state_of(claim, at=at), show_state(state)) for claim in claims]


def list_tier_periods(member: Member) -> list[Period]:
    """Return the latest tier periods, those that are superseded included."""
    periods = TierPeriod.objects.filter(member=member).select_related("ladder", "tier", "version")
    found = periods.order_by("-valid_from", "-pk")[:ROWS]
    return [Period(period, evidence_words(period.evidence, member.program.currency)) for period in found]

"""What an order line or an activity earns: pure arithmetic, the same for preview and award."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from core.money import BPS, allocate
from core.names import fold
from points.definitions import EarnRuleDefinition, Fixed, PerAmount
from points.models import AccrualReason, SourceKind

_ORDER_LINE, _ACTIVITY = SourceKind.ORDER_LINE.value, SourceKind.ACTIVITY.value
_EARNED, _BELOW_ONE_POINT = AccrualReason.EARNED.value, AccrualReason.BELOW_ONE_POINT.value
_PAID_THAT_DAY = AccrualReason.PAID_THAT_DAY.value
_BELOW_MINIMUM, _NOTHING_PAID = AccrualReason.BELOW_MINIMUM.value, AccrualReason.NOTHING_PAID.value


@dataclass(frozen=True, slots=True)
class Rule:
    """An earn rule version with what it needs to be applied."""

    version_id: int
    wallet_id: int
    definition: EarnRuleDefinition
    floors_order: bool = False
    rule_id: int = 0


class Line(NamedTuple):
    """What a rule may look at. `amount_minor` is what was paid in money, in the program's currency."""

    source_id: int
    amount_minor: int
    sku: str = ""
    category: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """Who buys, and where: the tier held before the order."""

    tier: str = ""
    multiplier_bps: int = BPS
    channel: str = ""


class Exclusion(Enum):
    """Why a rule is not about something."""

    TIER = "tier"
    CHANNEL = "channel"
    SKU = "sku"
    CATEGORY = "category"


class LineAccrual(NamedTuple):
    """What a rule gave a source, and why. Kinds and reasons are plain numbers, as the ledger stores them.

    A grant is of no rule.
    """

    source_kind: int
    source_id: int
    rule_version_id: int | None
    basis: int
    multiplier_bps: int
    points: int
    reason: int


def evaluate_order(lines: Sequence[Line], rule: Rule, context: Context) -> list[LineAccrual]:
    """Return the accruals of one rule for one order: one for each line that the rule covers.

    Points of a line are floor(amount x points x multiplier / per): one product, one floor. Where the wallet
    rounds per order, the floor is taken of the order's sum and split over the lines.
    """
    definition = rule.definition
    if excluded_buyer(definition, context):
        return []
    covered = [line for line in lines if not excluded_line(definition, line)]
    multiplier = context.multiplier_bps if definition.tier_multiplier else BPS
    points = _order_points if rule.floors_order else _line_points
    return [
        LineAccrual(
            _ORDER_LINE, line.source_id, rule.version_id, line.amount_minor, multiplier, earned,
            _reason(definition, line, earned),
        )
        for line, earned in zip(covered, points(covered, definition, multiplier), strict=True)
    ]  # fmt: skip


def covers_activity(definition: EarnRuleDefinition, kind: str, context: Context) -> bool:
    """Tell whether a rule is about an activity."""
    return kind in definition.activity_kinds and excluded_buyer(definition, context) is None


def evaluate_activity(
    source_id: int, kind: str, rule: Rule, context: Context, *, is_paid: bool = False
) -> list[LineAccrual]:
    """Return the accrual of one rule for one activity, none if the rule is not about it.

    is_paid: the rule has paid for another one of the same kind, subject and day.
    """
    definition = rule.definition
    if not covers_activity(definition, kind, context):
        return []
    multiplier = context.multiplier_bps if definition.tier_multiplier else BPS
    numerator, denominator = exact_points(1, definition, multiplier)
    points = numerator // denominator
    reason = _EARNED if points else _BELOW_ONE_POINT
    if is_paid:
        points, reason = 0, _PAID_THAT_DAY
    return [LineAccrual(_ACTIVITY, source_id, rule.version_id, 1, multiplier, points, reason)]


def excluded_buyer(definition: EarnRuleDefinition, context: Context) -> Exclusion | None:
    """Return what keeps the rule from all that happens in this context, None if nothing does."""
    if definition.tiers and context.tier not in definition.tiers:
        return Exclusion.TIER
    if definition.channels and context.channel not in definition.channels:
        return Exclusion.CHANNEL
    return None


def excluded_line(definition: EarnRuleDefinition, line: Line) -> Exclusion | None:
    """Return what keeps the rule from a line, None if nothing does."""
    skus, categories = definition.goods
    if skus and fold(line.sku) not in skus:
        return Exclusion.SKU
    if categories and fold(line.category) not in categories:
        return Exclusion.CATEGORY
    return None


def exact_points(amount_minor: int, definition: EarnRuleDefinition, multiplier_bps: int) -> tuple[int, int]:
    """Return the exact points as numerator and denominator. Where nothing was paid, nothing is earned."""
    formula = definition.formula
    if amount_minor < max(definition.minimum, 1):
        return 0, 1
    if isinstance(formula, Fixed):
        return formula.fixed * multiplier_bps, BPS
    if formula.whole_steps:
        return amount_minor // formula.per * formula.points * multiplier_bps, BPS
    return amount_minor * formula.points * multiplier_bps, formula.per * BPS


def _line_points(lines: Sequence[Line], definition: EarnRuleDefinition, multiplier_bps: int) -> list[int]:
    parts = (exact_points(line.amount_minor, definition, multiplier_bps) for line in lines)
    return [numerator // denominator for numerator, denominator in parts]


def _order_points(lines: Sequence[Line], definition: EarnRuleDefinition, multiplier_bps: int) -> list[int]:
    if not lines:
        return []
    formula = definition.formula
    if isinstance(formula, PerAmount) and formula.whole_steps:
        weights = [line.amount_minor if line.amount_minor >= definition.minimum else 0 for line in lines]
        return allocate(sum(weights) // formula.per * formula.points * multiplier_bps // BPS, weights)
    exact = [exact_points(line.amount_minor, definition, multiplier_bps) for line in lines]
    weights = [numerator for numerator, _ in exact]
    return allocate(sum(weights) // max(denominator for _, denominator in exact), weights)


def _reason(definition: EarnRuleDefinition, line: Line, points: int) -> int:
    if not line.amount_minor:
        return _NOTHING_PAID
    if line.amount_minor < definition.minimum:
        return _BELOW_MINIMUM
    return _EARNED if points else _BELOW_ONE_POINT

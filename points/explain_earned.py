"""How one line or activity came to its points, in full sentences of the active language."""

from collections.abc import Iterator
from decimal import Decimal

from django.utils.translation import gettext as _

from core.definitions import write_multiplier
from core.money import BPS, format_minor
from points import rules
from points.definitions import EarnRuleDefinition, PerAmount
from points.earned_stories import Earned
from points.models import AccrualReason
from points.words import count_points, join, name_rule


def explain_earned(earned: Earned, currency: str) -> str:
    """Return how one line or activity came to its points, or to none."""
    if earned.reason is AccrualReason.NOT_COVERED:
        return _not_covered(earned, currency)
    definition = earned.rule.definition
    named = {"rule": name_rule(earned.rule), "rate": _rate(definition, currency)}
    if earned.line:
        named |= {"line": earned.line, "amount": format_minor(earned.basis, currency)}
        first = _("Line %(line)s, %(amount)s: %(rule)s gives %(rate)s.") % named
    else:
        first = _("By %(rule)s: %(rate)s.") % named
    if earned.reason is AccrualReason.BELOW_MINIMUM:
        minimum = {"minimum": format_minor(definition.minimum, currency)}
        return join(first, _("That is below the minimum of %(minimum)s, so it earned nothing.") % minimum)
    if earned.reason is AccrualReason.NOTHING_PAID:
        return join(first, _("Nothing was paid for it in money, so it earned nothing."))
    if earned.reason is AccrualReason.PAID_THAT_DAY:
        return join(first, _("It pays once a day for the same, and had paid that day, so it earned nothing."))
    return join(first, *_multiplied(earned), *_result(earned))


def _not_covered(earned: Earned, currency: str) -> str:
    told = {"rule": name_rule(earned.rule), "line": earned.line, "amount": format_minor(earned.basis, currency)}
    told["tier"] = earned.tier
    if earned.line and earned.tier:
        return _("Line %(line)s, %(amount)s: %(rule)s is not for it; the tier held then was %(tier)s.") % told
    if earned.line:
        return _("Line %(line)s, %(amount)s: %(rule)s is not for it.") % told
    return _("%(rule)s is not for it.") % told


def _rate(definition: EarnRuleDefinition, currency: str) -> str:
    formula = definition.formula
    if isinstance(formula, PerAmount):
        per = {"points": count_points(formula.points), "amount": format_minor(formula.per, currency)}
        if formula.whole_steps:
            return _("%(points)s for each whole %(amount)s") % per
        return _("%(points)s for each %(amount)s") % per
    return _("%(points)s each time") % {"points": count_points(formula.fixed)}


def _multiplied(earned: Earned) -> Iterator[str]:
    if earned.multiplier_bps == BPS:
        return
    told = {"multiplier": write_multiplier(earned.multiplier_bps), "tier": earned.tier}
    if earned.tier:
        yield _("It counts %(multiplier)s times for the tier %(tier)s, which was held then.") % told
    else:
        yield _("It counts %(multiplier)s times for the tier that was held then.") % told


def _counts_whole_steps(definition: EarnRuleDefinition) -> bool:
    return isinstance(definition.formula, PerAmount) and bool(definition.formula.whole_steps)


def _result(earned: Earned) -> Iterator[str]:
    numerator, denominator = rules.exact_points(earned.basis, earned.rule.definition, earned.multiplier_bps)
    exact = f"{Decimal(numerator * BPS // denominator).scaleb(-4).normalize():,f}"
    told = {"exact": exact, "points": count_points(earned.points), "cap": count_points(earned.capped_points)}
    if earned.floors_order and earned.line and _counts_whole_steps(earned.rule.definition):
        yield _("The whole steps of the order's sum count; the part of this line is %(points)s.") % told
    elif earned.floors_order and earned.line:
        yield _("That is %(exact)s; the sum of the order is rounded down; the part of this line is %(points)s.") % told
    elif earned.reason is AccrualReason.BELOW_ONE_POINT:
        yield _("That is %(exact)s, less than one point, so it earned nothing.") % told
    elif numerator % denominator:
        yield _("That is %(exact)s, rounded down to %(points)s.") % told
    else:
        yield _("That is %(points)s.") % told
    if earned.capped_points:
        yield _("A cap of the rule took %(cap)s off.") % told

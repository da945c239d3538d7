"""Why points came and went, in full sentences of the active language: pure functions over what was read."""

from collections.abc import Callable, Iterator
from decimal import Decimal

from django.utils.translation import gettext as _

from core.definitions import write_multiplier
from core.money import BPS, format_minor
from points import rules
from points.definitions import EarnRuleDefinition, PerAmount
from points.explain_refunds import tell_clawback
from points.models import AccrualReason, TransactionKind
from points.services.posting import GRANTS
from points.stories import Earned, LotOrigin, Story, Taken
from points.words import count_points, day_of, join, last_day_of, name_rule, name_source, tell_taken


def explain(story: Story) -> list[str]:
    """Return what happened, why, and by which rule, from the first sentence to the reason that was given."""
    sentences = list(_TELLERS.get(story.kind, _tell_move)(story))
    if story.reason:
        sentences.append(_("Reason given: %(reason)s") % {"reason": story.reason})
    return sentences


def explain_earned(earned: Earned, currency: str) -> str:
    """Return how one line or activity came to its points, or to none."""
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
    if earned.reason is AccrualReason.PAID_THAT_DAY:
        return join(first, _("It pays once a day for the same, and had paid that day, so it earned nothing."))
    return join(first, *_multiplied(earned), *_result(earned))


# --- earning ---------------------------------------------------------------------------------------------------


def _tell_earning(story: Story) -> Iterator[str]:
    if story.source.kind in GRANTS:
        yield from _tell_grant(story)
        return
    total = sum(earned.points for earned in story.earned)
    named = {
        "source": name_source(story.source),
        "points": count_points(total),
        "day": day_of(story.effective_at, story),
    }
    if total:
        yield _("On %(day)s, %(source)s earned %(points)s.") % named
    else:
        yield _("On %(day)s, %(source)s earned nothing.") % named
    for earned in story.earned:
        yield explain_earned(earned, story.currency)
    yield from _tell_opened(story)


def _tell_grant(story: Story) -> Iterator[str]:
    told = {
        "source": name_source(story.source),
        "points": count_points(sum(lot.points for lot in story.opened)),
        "day": day_of(story.effective_at, story),
    }
    yield _("On %(day)s, %(source)s gave %(points)s.") % told
    yield from _tell_opened(story)


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


def _tell_opened(story: Story) -> Iterator[str]:
    for lot in story.opened:
        yield _tell_life(lot, story)
    yield from _tell_repaid(story)


def _tell_repaid(story: Story) -> Iterator[str]:
    repaid = -story.moves.changes.get("debt", 0)
    if repaid > 0:
        yield _("First of all, %(points)s of them repaid debt.") % {"points": count_points(repaid)}


def _tell_life(lot: LotOrigin, story: Story) -> str:
    told = {"first": day_of(lot.available_at, story)}
    if lot.expires_at is None:
        return _("The points can be used from %(first)s on and do not expire.") % told
    told["last"] = last_day_of(lot.expires_at, story)
    return _("The points can be used from %(first)s until the end of %(last)s.") % told


# --- using, expiring, becoming usable --------------------------------------------------------------------------


def _tell_redemption(story: Story) -> Iterator[str]:
    told = {"points": count_points(-story.moves.points), "day": day_of(story.effective_at, story)}
    yield _("On %(day)s, a redemption used %(points)s.") % told
    yield from tell_taken(story)
    if len(story.taken) > 1:
        yield _("Points that expire first are used first.")


def _tell_expiry(story: Story) -> Iterator[str]:
    for part in story.taken:
        lot = part.lot
        if lot.expires_at is None:
            continue
        told = {
            "points": count_points(part.points),
            "source": name_source(lot.source),
            "last": last_day_of(lot.expires_at, story),
            "day": day_of(story.effective_at, story),
            "all": count_points(lot.points),
            "used": count_points(lot.points - part.points),
        }
        yield _("What was left of %(source)s expired: %(points)s, usable until the end of %(last)s.") % told
        if story.effective_at > lot.expires_at:
            yield _("That came back on %(day)s, later than that day, and so expired at once.") % told
        elif part.points < lot.points:
            yield _("The lot began with %(all)s; use and refunds had taken %(used)s before.") % told


def _tell_vest(story: Story) -> Iterator[str]:
    vested = -story.moves.changes.get("pending", 0)
    told = {"points": count_points(vested), "day": day_of(story.effective_at, story)}
    yield _("On %(day)s, %(points)s that had been pending became usable.") % told
    yield from _tell_repaid(story)


# --- holding ---------------------------------------------------------------------------------------------------


def _tell_hold(story: Story) -> Iterator[str]:
    told = {"points": count_points(story.moves.changes["held"]), "day": day_of(story.effective_at, story)}
    yield _("On %(day)s, %(points)s were set aside for a purchase.") % told
    yield from tell_taken(story)
    if len(story.taken) > 1:
        yield _("Points that expire first are used first.")


def _tell_capture(story: Story) -> Iterator[str]:
    held = story.moves.balances_after["held"]
    told = {
        "source": name_source(story.source),
        "points": count_points(-story.moves.changes["held"]),
        "day": day_of(story.effective_at, story),
        "held": count_points(held),
    }
    yield _("On %(day)s, a purchase used %(points)s that %(source)s had set aside.") % told
    if held:
        yield _("After that, %(held)s were still set aside.") % told


def _tell_release(story: Story) -> Iterator[str]:
    told = {
        "source": name_source(story.source),
        "points": count_points(-story.moves.changes["held"]),
        "day": day_of(story.effective_at, story),
    }
    yield _("On %(day)s, %(points)s that %(source)s had set aside came back to where they had been taken from.") % told
    yield from _tell_repaid(story)


def _tell_given_back(story: Story) -> Iterator[str]:
    told = {
        "source": name_source(story.source),
        "points": count_points(story.moves.points),
        "day": day_of(story.effective_at, story),
    }
    yield _("On %(day)s, %(source)s gave back %(points)s that a purchase had used.") % told
    for part in story.taken:
        if part.points < 0:
            yield _returned_to(part, story)
    yield from _tell_repaid(story)


def _returned_to(part: Taken, story: Story) -> str:
    told = {"points": count_points(-part.points), "source": name_source(part.lot.source)}
    if part.lot.expires_at is None:
        return _("%(points)s went back to those of %(source)s, which do not expire.") % told
    told["last"] = last_day_of(part.lot.expires_at, story)
    return _("%(points)s went back to those of %(source)s, usable until the end of %(last)s.") % told


# --- decisions -------------------------------------------------------------------------------------------------


def _tell_adjustment(story: Story) -> Iterator[str]:
    told = {"points": count_points(abs(story.moves.points)), "day": day_of(story.effective_at, story)}
    if story.moves.points > 0:
        yield _("On %(day)s, a decision gave %(points)s.") % told
    else:
        yield _("On %(day)s, a decision took off %(points)s.") % told
    yield from _tell_opened(story)
    yield from tell_taken(story)
    debt = story.moves.changes.get("debt", 0)
    if debt > 0:
        yield _("%(points)s had been spent and became debt, which new points repay first.") % {
            "points": count_points(debt)
        }


def _tell_reversal(story: Story) -> Iterator[str]:
    told = {
        "points": count_points(abs(story.moves.points)),
        "day": day_of(story.effective_at, story),
        "source": name_source(story.source),
    }
    if story.moves.points > 0:
        yield _("On %(day)s, %(source)s was reversed: %(points)s came back to where they had been taken from.") % told
        yield from _tell_repaid(story)
        return
    yield _("On %(day)s, %(source)s was reversed, which took off %(points)s.") % told
    yield from tell_taken(story)
    debt = story.moves.changes.get("debt", 0)
    if debt > 0:
        yield _("%(points)s had been spent and became debt, which new points repay first.") % {
            "points": count_points(debt)
        }


def _tell_move(story: Story) -> Iterator[str]:
    told = {"points": count_points(abs(story.moves.points)), "day": day_of(story.effective_at, story)}
    yield _("On %(day)s, %(points)s changed places.") % told


_TELLERS: dict[TransactionKind, Callable[[Story], Iterator[str]]] = {
    TransactionKind.EARN: _tell_earning,
    TransactionKind.BURN: _tell_redemption,
    TransactionKind.HOLD: _tell_hold,
    TransactionKind.CAPTURE: _tell_capture,
    TransactionKind.RELEASE: _tell_release,
    TransactionKind.REVERSE: _tell_reversal,
    TransactionKind.EXPIRE: _tell_expiry,
    TransactionKind.VEST: _tell_vest,
    TransactionKind.ADJUST: _tell_adjustment,
    TransactionKind.CLAWBACK: tell_clawback,
    TransactionKind.GIVE_BACK: _tell_given_back,
}

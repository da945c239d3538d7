"""Why points came and went, in full sentences of the active language: pure functions over what was read."""

from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction

from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from core.calendar import TICK, local_date
from core.definitions import write_multiplier
from core.money import BPS, format_minor
from points import rules
from points.definitions import EarnRuleDefinition, PerAmount
from points.models import AccrualReason, SourceKind, TransactionKind
from points.services.posting import GRANTS
from points.statement import Source
from points.stories import Earned, LotOrigin, RuleUsed, Story, Taken, TakenBack


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
        return _join(first, _("That is below the minimum of %(minimum)s, so it earned nothing.") % minimum)
    return _join(first, *_multiplied(earned), *_result(earned))


def name_rule(rule: RuleUsed) -> str:
    """Return what people call a version of a rule."""
    return _("the rule “%(name)s” (version %(version)s)") % {"name": rule.definition.name, "version": rule.version}


def name_source(source: Source) -> str:
    """Return what people call the source of points."""
    told = {"id": source.external_id or "?", "seq": source.seq}
    if source.kind is SourceKind.ORDER:
        return _("order %(id)s") % told
    if source.kind is SourceKind.ORDER_EDIT:
        return _("the edit %(id)s of an order") % told
    if source.kind is SourceKind.REFUND:
        return _("refund %(id)s") % told
    if source.kind is SourceKind.ACTIVITY:
        return _("activity %(id)s") % told
    if source.kind is SourceKind.REFERRAL_REWARD:
        return _("a referral reward")
    return _("transaction %(seq)s") % told


def count_points(points: int) -> str:
    """Return a number of points in words."""
    return ngettext("%(points)s point", "%(points)s points", points) % {"points": f"{points:,}"}


def show_day(day: date) -> str:
    """Return a day as people of the active language write it."""
    return date_format(day, "DATE_FORMAT")


def _join(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _day(at: datetime, story: Story) -> str:
    return show_day(local_date(at, story.zone))


def _last_day(expires_at: datetime, story: Story) -> str:
    """Return the last day on which something that expires at an instant can be used."""
    return _day(expires_at - TICK, story)


# --- earning ---------------------------------------------------------------------------------------------------


def _tell_earning(story: Story) -> Iterator[str]:
    if story.source.kind in GRANTS:
        yield from _tell_grant(story)
        return
    total = sum(earned.points for earned in story.earned)
    named = {"source": name_source(story.source), "points": count_points(total), "day": _day(story.effective_at, story)}
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
        "day": _day(story.effective_at, story),
    }
    yield _("On %(day)s, %(source)s gave %(points)s.") % told
    yield from _tell_opened(story)


def _rate(definition: EarnRuleDefinition, currency: str) -> str:
    formula = definition.formula
    if isinstance(formula, PerAmount):
        per = {"points": count_points(formula.points), "amount": format_minor(formula.per, currency)}
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


def _result(earned: Earned) -> Iterator[str]:
    numerator, denominator = rules.exact_points(earned.basis, earned.rule.definition, earned.multiplier_bps)
    exact = f"{Decimal(numerator * BPS // denominator).scaleb(-4).normalize():,f}"
    told = {"exact": exact, "points": count_points(earned.points), "cap": count_points(earned.capped_points)}
    if earned.floors_order and earned.line:
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
    told = {"first": _day(lot.available_at, story)}
    if lot.expires_at is None:
        return _("The points can be used from %(first)s on and do not expire.") % told
    told["last"] = _last_day(lot.expires_at, story)
    return _("The points can be used from %(first)s until the end of %(last)s.") % told


# --- using, expiring, becoming usable --------------------------------------------------------------------------


def _tell_redemption(story: Story) -> Iterator[str]:
    told = {"points": count_points(-story.moves.points), "day": _day(story.effective_at, story)}
    yield _("On %(day)s, a redemption used %(points)s.") % told
    yield from _tell_taken(story)
    if len(story.taken) > 1:
        yield _("Points that expire first are used first.")


def _tell_taken(story: Story) -> Iterator[str]:
    for part in story.taken:
        if part.points > 0 and part.lot not in story.opened:
            yield _origin_of(part, story)


def _origin_of(part: Taken, story: Story) -> str:
    told = {"points": count_points(part.points), "source": name_source(part.lot.source)}
    if part.lot.expires_at is None:
        return _("It took %(points)s from those of %(source)s, which do not expire.") % told
    told["last"] = _last_day(part.lot.expires_at, story)
    return _("It took %(points)s from those of %(source)s, usable until the end of %(last)s.") % told


def _tell_expiry(story: Story) -> Iterator[str]:
    for part in story.taken:
        lot = part.lot
        if lot.expires_at is None:
            continue
        told = {
            "points": count_points(part.points),
            "source": name_source(lot.source),
            "last": _last_day(lot.expires_at, story),
            "day": _day(story.effective_at, story),
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
    told = {"points": count_points(vested), "day": _day(story.effective_at, story)}
    yield _("On %(day)s, %(points)s that had been pending became usable.") % told
    yield from _tell_repaid(story)


# --- holding ---------------------------------------------------------------------------------------------------


def _tell_hold(story: Story) -> Iterator[str]:
    told = {"points": count_points(story.moves.changes["held"]), "day": _day(story.effective_at, story)}
    yield _("On %(day)s, %(points)s were set aside for a purchase.") % told
    yield from _tell_taken(story)
    if len(story.taken) > 1:
        yield _("Points that expire first are used first.")


def _tell_capture(story: Story) -> Iterator[str]:
    held = story.moves.balances_after["held"]
    told = {
        "source": name_source(story.source),
        "points": count_points(-story.moves.changes["held"]),
        "day": _day(story.effective_at, story),
        "held": count_points(held),
    }
    yield _("On %(day)s, a purchase used %(points)s that %(source)s had set aside.") % told
    if held:
        yield _("After that, %(held)s were still set aside.") % told


def _tell_release(story: Story) -> Iterator[str]:
    told = {
        "source": name_source(story.source),
        "points": count_points(-story.moves.changes["held"]),
        "day": _day(story.effective_at, story),
    }
    yield _("On %(day)s, %(points)s that %(source)s had set aside came back to where they had been taken from.") % told
    yield from _tell_repaid(story)


def _tell_given_back(story: Story) -> Iterator[str]:
    told = {
        "source": name_source(story.source),
        "points": count_points(story.moves.points),
        "day": _day(story.effective_at, story),
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
    told["last"] = _last_day(part.lot.expires_at, story)
    return _("%(points)s went back to those of %(source)s, usable until the end of %(last)s.") % told


# --- refunds ---------------------------------------------------------------------------------------------------


def _tell_clawback(story: Story) -> Iterator[str]:
    told = {
        "source": name_source(story.source),
        "points": count_points(sum(back.taken for back in story.taken_back)),
        "day": _day(story.effective_at, story),
    }
    if story.source.kind in GRANTS:
        yield _("On %(day)s, %(points)s of %(source)s were taken back.") % told
    else:
        yield _("On %(day)s, %(source)s took back %(points)s.") % told
    for back in story.taken_back:
        yield explain_taken_back(back, story.currency)
        yield from _why_other_than_due(back, story)
    yield from _tell_taken(story)
    debt = story.moves.changes.get("debt", 0)
    if debt > 0:
        yield _("%(points)s had been spent and became debt, which new points repay first.") % {
            "points": count_points(debt)
        }


def explain_taken_back(back: TakenBack, currency: str) -> str:
    """Return what a refund line asked back of what its order line had earned by one rule, or of a grant."""
    told = {
        "line": back.line,
        "order": back.order,
        "returned": f"{back.returned:,}" if back.is_units else format_minor(back.returned, currency),
        "whole": f"{back.whole:,}" if back.is_units else format_minor(back.whole, currency),
        "part": str(Fraction(back.returned, back.whole)),
        "rule": name_rule(back.rule) if back.rule else "",
        "earned": count_points(back.earned),
        "share": f"{back.before + back.due:,}",
        "before": f"{back.before:,}",
        "due": count_points(back.due),
    }
    third = _("Earlier refunds had asked for %(before)s of them, which leaves %(due)s.") % told if back.before else ""
    if back.rule is None:
        if back.returned == back.whole:
            first = _("It had given %(earned)s; nothing is left of what it was given for.") % told
        else:
            first = _("It had given %(earned)s; %(part)s of what it was given for is gone.") % told
            first = _join(first, _("The share of that is %(share)s, rounded down.") % told)
        return _join(first, third)
    if back.is_units:
        first = _("Of line %(line)s of order %(order)s, %(returned)s of %(whole)s units have come back.") % told
    else:
        first = _("Of line %(line)s of order %(order)s, %(returned)s of %(whole)s have been refunded.") % told
    second = _("It had earned %(earned)s by %(rule)s; the share of that is %(share)s, rounded down.") % told
    return _join(first, second, third)


def _why_other_than_due(back: TakenBack, story: Story) -> Iterator[str]:
    """Tell what of it had expired, and why the account gave less than it owed."""
    ended = back.lot.expires_at if back.lot and back.lot.expires_at and back.lot.expires_at <= story.judged_at else None
    owed = back.owed if back.owed is not None else (0 if ended else back.due)
    told = {"taken": f"{back.taken:,}", "owed": count_points(owed), "expired": count_points(back.due - owed)}
    if ended and owed != back.due:
        told["last"] = _last_day(ended, story)
        if not owed:
            yield _("It took none of them: they had expired at the end of %(last)s.") % told
        elif owed < back.due:
            yield _("Of them, %(expired)s had expired at the end of %(last)s: that much is forgiven.") % told
        else:
            yield (
                _("With what earlier refunds had not asked for although it had been spent, it asks for %(owed)s.")
                % told
            )
    if back.taken == owed:
        return
    if story.clawback == "own_lot":
        yield _("It took %(taken)s of %(owed)s: this wallet takes back only what is left of the same points.") % told
    else:
        yield _("It took %(taken)s of %(owed)s: the rest had been spent, and this wallet writes it off.") % told


# --- decisions -------------------------------------------------------------------------------------------------


def _tell_adjustment(story: Story) -> Iterator[str]:
    told = {"points": count_points(abs(story.moves.points)), "day": _day(story.effective_at, story)}
    if story.moves.points > 0:
        yield _("On %(day)s, a decision gave %(points)s.") % told
    else:
        yield _("On %(day)s, a decision took off %(points)s.") % told
    yield from _tell_opened(story)
    yield from _tell_taken(story)


def _tell_reversal(story: Story) -> Iterator[str]:
    told = {
        "points": count_points(abs(story.moves.points)),
        "day": _day(story.effective_at, story),
        "source": name_source(story.source),
    }
    if story.moves.points > 0:
        yield _("On %(day)s, %(source)s was reversed: %(points)s came back to where they had been taken from.") % told
        yield from _tell_repaid(story)
        return
    yield _("On %(day)s, %(source)s was reversed, which took off %(points)s.") % told
    yield from _tell_taken(story)
    debt = story.moves.changes.get("debt", 0)
    if debt > 0:
        yield _("%(points)s had been spent and became debt, which new points repay first.") % {
            "points": count_points(debt)
        }


def _tell_move(story: Story) -> Iterator[str]:
    told = {"points": count_points(abs(story.moves.points)), "day": _day(story.effective_at, story)}
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
    TransactionKind.CLAWBACK: _tell_clawback,
    TransactionKind.GIVE_BACK: _tell_given_back,
}

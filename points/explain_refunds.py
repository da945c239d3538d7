"""Why refunds took points back, in full sentences of the active language: pure functions over what was read."""

from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction

from django.utils.translation import gettext as _

from core.money import format_minor
from points.models import SourceKind
from points.postings import GRANTS
from points.stories import Story, TakenBack
from points.words import count_points, day_of, join, last_day_of, name_rule, name_source, tell_taken


def tell_clawback(story: Story) -> Iterator[str]:
    """Yield what was taken back and why."""
    told = {
        "source": name_source(story.source),
        "points": count_points(sum(back.taken for back in story.taken_back)),
        "day": day_of(story.effective_at, story),
    }
    if story.source.kind in GRANTS:
        yield _("On %(day)s, %(points)s of %(source)s were taken back.") % told
    elif story.source.kind is SourceKind.TRANSACTION:
        yield _("On %(day)s, a decision took back %(points)s of what %(source)s had given.") % told
    else:
        yield _("On %(day)s, %(source)s took back %(points)s.") % told
    for back in story.taken_back:
        yield explain_taken_back(back)
        yield from _why_other_than_due(back, story)
    yield from tell_taken(story)
    debt = story.moves.changes.get("debt", 0)
    if debt > 0:
        yield _("%(points)s had been spent and became debt, which new points repay first.") % {
            "points": count_points(debt)
        }


def explain_taken_back(back: TakenBack) -> str:
    """Return what a refund asked back of what an order line had earned by one rule, or of a grant."""
    is_units = back.measure == "units"
    told = {
        "line": back.line,
        "order": back.order,
        "returned": f"{back.returned:,}" if is_units else format_minor(back.returned, back.currency),
        "whole": f"{back.whole:,}" if is_units else format_minor(back.whole, back.currency),
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
            first = join(first, _("The share of that is %(share)s, rounded down.") % told)
        return join(first, third)
    if not back.line:
        return join(_("It had earned %(earned)s by %(rule)s.") % told, third)
    if is_units:
        first = _("Of line %(line)s of order %(order)s, %(returned)s of %(whole)s units have come back.") % told
    elif back.measure == "amount":
        first = _("Of line %(line)s of order %(order)s, %(returned)s of %(whole)s have been refunded.") % told
    else:
        first = _("Of the money paid for line %(line)s of order %(order)s, %(returned)s of %(whole)s are back.") % told
    second = _("It had earned %(earned)s by %(rule)s; the share of that is %(share)s, rounded down.") % told
    return join(first, second, third)


def _why_other_than_due(back: TakenBack, story: Story) -> Iterator[str]:
    ended = back.lot.expires_at if back.lot and back.lot.expires_at and back.lot.expires_at <= story.judged_at else None
    owed = back.owed if back.owed is not None else (0 if ended else back.due)
    yield from explain_shortfall(story, due=back.due, owed=owed, taken=back.taken, ended=ended)


def explain_shortfall(story: Story, *, due: int, owed: int, taken: int, ended: datetime | None) -> Iterator[str]:
    """Yield what of the points due had expired, and why the account gave less than it owed.

    ended: when their own lot ended, None while it lives.
    """
    told = {"taken": f"{taken:,}", "owed": count_points(owed), "expired": count_points(due - owed)}
    if ended and owed != due:
        told["last"] = last_day_of(ended, story)
        if not owed:
            yield _("It took none of them: they had expired at the end of %(last)s.") % told
        elif owed < due:
            yield _("Of them, %(expired)s had expired at the end of %(last)s: that much is forgiven.") % told
        else:
            yield _("Earlier refunds had not asked for all that had been spent: this one asks for %(owed)s.") % told
    if taken == owed:
        return
    if story.clawback == "own_lot":
        yield _("It took %(taken)s of %(owed)s: this wallet takes back only what is left of the same points.") % told
    else:
        yield _("It took %(taken)s of %(owed)s: the rest had been spent, and this wallet writes it off.") % told

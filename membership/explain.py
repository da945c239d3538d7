"""Why a member has a tier, and why not another one, in sentences of the active language: pure functions."""

from collections.abc import Iterator
from datetime import date, datetime

from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from core.calendar import local_date
from core.money import format_minor
from membership.definitions import Metric
from membership.models.tiers import FLOORS, TierCause
from membership.selectors import Need, Step, show_value
from membership.stories import TierStory, nearest


def explain_held(story: TierStory) -> list[str]:
    """Return since when and why the tier is held, by which version, and what keeps it."""
    began, names = story.standing.began, story.names
    tier = names[story.path.tier]
    first = _("You have been in %(tier)s since %(day)s.") % {"tier": tier, "day": _day(began.valid_from, story)}
    sentences = [first, *_tell_cause(story, tier)]
    if story.reached is not None or story.missed is not None:
        told = {"number": began.version.number, "ladder": story.standing.plans.ladder.name}
        sentences.append(_("Version %(number)d of the ladder %(ladder)s decided.") % told)
    return [*sentences, *_tell_guarantee(story), *_tell_keeping(story, tier)]


def explain_not_held(story: TierStory, tier: str) -> list[str]:
    """Return what a higher tier needs and how far it is, the nearest way first, and when it will be decided."""
    step = next(step for step in story.path.above if step.tier == tier)
    name = story.names[tier]
    ways = sorted(step.branches, key=lambda branch: branch != nearest(step))
    sentences = [_tell_need(need, name, story) for need in ways[0]]
    sentences += [
        _("Another way: %(needs)s") % {"needs": " ".join(_tell_need(need, name, story) for need in way)}
        for way in ways[1:]
    ]
    return [*sentences, *_tell_decision(story, step)]


def explain_below(story: TierStory, tier: str) -> list[str]:
    """Return that a lower tier is not held because a higher one is."""
    told = {"tier": story.names[story.path.tier], "lower": story.names[tier]}
    return [_("You have %(tier)s, which is above %(lower)s.") % told]


def _tell_cause(story: TierStory, tier: str) -> Iterator[str]:
    began = story.standing.began
    named = {"tier": tier, "day": _day(began.guaranteed_until or began.valid_from, story)}
    if began.cause == TierCause.ENROLLED:
        yield _("Everyone begins in %(tier)s.") % named
    elif began.cause == TierCause.OVERRIDDEN:
        yield _("The shop decided to give you %(tier)s until %(day)s, whatever you buy meanwhile.") % named
    elif began.cause == TierCause.RESTORED:
        yield (
            _("On that day a decision of the shop about your tier ended; %(tier)s is what your purchases gave.") % named
        )
    elif began.cause == TierCause.CORRECTED:
        yield _("An upgrade was undone, because orders that it counted came back.")
    elif began.cause == TierCause.IMPORTED:
        yield _("You had it already when your membership was taken over from elsewhere.")
    elif story.missed is not None:
        lost = story.names.get(story.missed.tier, story.missed.tier)
        for need in nearest(story.missed):
            yield _tell_past(need, lost, story)
    elif story.reached is not None:
        for need in next((way for way in story.reached.branches if not any(n.missing for n in way)), ()):
            yield _tell_past(need, tier, story)


def _tell_guarantee(story: TierStory) -> Iterator[str]:
    period = story.standing.period
    if period.guaranteed_until is None or period.guaranteed_until <= story.at or period.cause == TierCause.OVERRIDDEN:
        return
    told = {"day": _day(period.guaranteed_until, story)}
    if period.cause == TierCause.STAYED:
        yield _("You keep it until %(day)s, although what it needs is missing.") % told
    elif story.standing.began.cause in FLOORS:
        yield _("Nothing takes it away before %(day)s.") % told
    else:
        yield _("Until %(day)s nothing takes it away but the return of the orders that gave it.") % told


def _tell_keeping(story: TierStory, tier: str) -> Iterator[str]:
    path = story.path
    if not path.stay.branches or path.next_evaluation_at is None or story.standing.period.cause == TierCause.OVERRIDDEN:
        return
    told = {"tier": tier, "day": _day(path.next_evaluation_at, story)}
    if path.stay.holds:
        yield _("What %(tier)s needs at the evaluation of %(day)s is there already.") % told
        return
    yield _("The evaluation of %(day)s looks at whether you keep %(tier)s.") % told
    for need in nearest(path.stay):
        yield _tell_need(need, tier, story)


def _tell_decision(story: TierStory, step: Step) -> Iterator[str]:
    path, period = story.path, story.standing.period
    if period.cause == TierCause.OVERRIDDEN and period.guaranteed_until is not None:
        told = {"tier": story.names[path.tier], "day": _day(period.guaranteed_until, story)}
        yield _("Until %(day)s a decision of the shop holds you in %(tier)s.") % told
    if story.plan.is_immediate and step.holds:
        yield _("Nothing is missing: the next order or activity moves you up.")
    elif story.plan.is_immediate:
        yield _("The order or activity that brings what is missing moves you up at once.")
    elif path.next_evaluation_at is not None:
        yield _("The evaluation of %(day)s decides.") % {"day": _day(path.next_evaluation_at, story)}


def _tell_need(need: Need, tier: str, story: TierStory) -> str:
    currency = story.program.currency
    told = {
        "tier": tier,
        "amount": _amount(need.metric, need.at_least, currency),
        "window": show_window(need.window),
        "has": show_value(need.metric, need.has, currency),
        "missing": show_value(need.metric, need.missing, currency),
        "day": show_day(need.by) if need.by else "",
    }
    if not need.missing:
        return _("%(tier)s needs %(amount)s %(window)s; you have %(has)s, which is enough.") % told
    if need.by is None:
        return _("%(tier)s needs %(amount)s %(window)s; you have %(has)s: %(missing)s short.") % told
    return _("%(tier)s needs %(amount)s %(window)s; you have %(has)s: %(missing)s short, until %(day)s.") % told


def _tell_past(need: Need, tier: str, story: TierStory) -> str:
    currency = story.program.currency
    told = {
        "tier": tier,
        "amount": _amount(need.metric, need.at_least, currency),
        "window": show_window(need.window),
        "has": show_value(need.metric, need.has, currency),
        "missing": show_value(need.metric, need.missing, currency),
    }
    if need.missing:
        return _("%(tier)s needs %(amount)s %(window)s; you had %(has)s then: %(missing)s short.") % told
    return _("%(tier)s needs %(amount)s %(window)s; you had %(has)s then.") % told


def show_requirement(metric: Metric, at_least: int, window: str, currency: str) -> str:
    """Return a requirement in words: `GBP 1,500.00 net spend in the last 365 days`."""
    told = {"amount": _amount(metric, at_least, currency), "window": show_window(window)}
    return _("%(amount)s %(window)s") % told


def show_window(window: str) -> str:
    """Return a window as it is read after an amount: `in the last 365 days`."""
    if window.startswith("rolling_"):
        days = int(window.removeprefix("rolling_"))
        return ngettext("in the last day", "in the last %(days)d days", days) % {"days": days}
    return {
        "month": _("in the calendar month"),
        "quarter": _("in the calendar quarter"),
        "half": _("in the half-year"),
        "year": _("in the calendar year"),
        "lifetime": _("in all"),
    }[window]


def show_day(day: date) -> str:
    """Return a day as people of the active language write it."""
    return date_format(day, "DATE_FORMAT")


def _day(at: datetime, story: TierStory) -> str:
    return show_day(local_date(at, story.plan.zone))


def _amount(metric: Metric, value: int, currency: str) -> str:
    """Return an amount with what it is an amount of."""
    if metric == "net_spend":
        return _("%(amount)s net spend") % {"amount": format_minor(value, currency)}
    return show_value(metric, value, currency)

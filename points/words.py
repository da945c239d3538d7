"""How points, rules, sources and days are named in sentences of the active language."""

from collections.abc import Iterator
from datetime import date, datetime

from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from core.calendar import TICK, local_date
from points.earned_stories import RuleUsed
from points.models import SourceKind
from points.statement import Source
from points.stories import LotOrigin, Story, Taken


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
    if source.kind is SourceKind.CREDIT:
        return _("the credits of %(id)s") % told
    if source.kind is SourceKind.REFERRAL_REWARD:
        return _("a referral reward")
    return _("transaction %(seq)s") % told


def count_points(points: int) -> str:
    """Return a number of points in words."""
    return ngettext("%(points)s point", "%(points)s points", points) % {"points": f"{points:,}"}


def show_day(day: date) -> str:
    """Return a day as people of the active language write it."""
    return date_format(day, "DATE_FORMAT")


def join(*sentences: str) -> str:
    """Return sentences as one text, without those that are empty."""
    return " ".join(filter(None, sentences))


def day_of(at: datetime, story: Story) -> str:
    """Return the local day of an instant as people write it."""
    return show_day(local_date(at, story.zone))


def last_day_of(expires_at: datetime, story: Story) -> str:
    """Return the last day on which something that expires at an instant can be used."""
    return day_of(expires_at - TICK, story)


def tell_taken(story: Story) -> Iterator[str]:
    """Yield from which lots a posting took points."""
    for part in story.taken:
        if part.points > 0 and part.lot not in story.opened:
            yield _origin_of(part, story)


def _origin_of(part: Taken, story: Story) -> str:
    told = {"points": count_points(part.points), "source": name_source(part.lot.source)}
    if part.lot.expires_at is None:
        return _("It took %(points)s from those of %(source)s, which do not expire.") % told
    told["last"] = last_day_of(part.lot.expires_at, story)
    return _("It took %(points)s from those of %(source)s, usable until the end of %(last)s.") % told


def tell_opened(story: Story) -> Iterator[str]:
    """Yield from when to when points that came can be used, and what they repaid."""
    for lot in story.opened:
        yield tell_life(lot, story)
    yield from tell_repaid(story)


def tell_repaid(story: Story) -> Iterator[str]:
    """Yield how much of what came repaid debt."""
    repaid = -story.moves.changes.get("debt", 0)
    if repaid > 0:
        yield _("First of all, %(points)s of them repaid debt.") % {"points": count_points(repaid)}


def tell_life(lot: LotOrigin, story: Story) -> str:
    """Return from when to when the points of a lot can be used."""
    told = {"first": day_of(lot.available_at, story)}
    if lot.expires_at is None:
        return _("The points can be used from %(first)s on and do not expire.") % told
    told["last"] = last_day_of(lot.expires_at, story)
    return _("The points can be used from %(first)s until the end of %(last)s.") % told

"""Why what had been earned was corrected, in full sentences: pure functions over what was read."""

from collections.abc import Iterator
from fractions import Fraction

from django.utils.translation import gettext as _

from points.earned_stories import Corrected
from points.explain_earned import explain_earned
from points.explain_refunds import explain_shortfall
from points.stories import Story
from points.words import count_points, day_of, join, name_source, tell_opened, tell_taken


def tell_correction(story: Story) -> Iterator[str]:
    """Yield what was added to what a fact had earned, or taken from it, and which fact is the reason."""
    told = {
        "source": name_source(story.source),
        "added": count_points(sum(part.added for part in story.corrected)),
        "taken": count_points(sum(part.taken for part in story.corrected)),
        "day": day_of(story.effective_at, story),
    }
    if any(part.due for part in story.corrected):
        yield _("On %(day)s, what %(source)s had earned was corrected: %(taken)s were taken back.") % told
    else:
        yield _("On %(day)s, what %(source)s had earned was corrected: %(added)s were added.") % told
    yield from explain_fact(story.corrected[0])
    for part in story.corrected:
        yield explain_corrected(part, story.currency)
        ended = part.expires_at if part.expires_at and part.expires_at <= story.judged_at else None
        yield from explain_shortfall(story, due=part.due, owed=part.owed, taken=part.taken, ended=ended)
    yield from tell_opened(story)
    yield from tell_taken(story)


def explain_fact(part: Corrected) -> Iterator[str]:
    """Yield which fact changed what is known, if that is known."""
    if part.fact is not None:
        yield _("The reason is %(fact)s, which came late or was corrected.") % {"fact": name_source(part.fact)}


def explain_corrected(part: Corrected, currency: str) -> str:
    """Return what an accrual counts for by what is known now, and what it counted for before."""
    told = {
        "before": count_points(part.before),
        "part": str(Fraction(part.returned, part.whole)),
        "left": count_points(part.earned.points - part.earned.points * part.returned // part.whole),
    }
    before = _("It had counted for %(before)s.") % told
    if not part.returned:
        return join(explain_earned(part.earned, currency), before)
    came_back = _("Of it %(part)s has come back, which leaves %(left)s.") % told
    return join(explain_earned(part.earned, currency), before, came_back)

"""Why points came and went, in full sentences of the active language: pure functions over what was read."""

from collections.abc import Callable, Iterator

from django.utils.translation import gettext as _

from points.explain_corrections import tell_correction
from points.explain_earned import explain_earned
from points.explain_refunds import tell_clawback
from points.models import TransactionKind
from points.postings import GRANTS
from points.stories import Story, Taken
from points.words import count_points, day_of, last_day_of, name_source, tell_opened, tell_repaid, tell_taken


def explain(story: Story) -> list[str]:
    """Return what happened, why, and by which rule, from the first sentence to the reason that was given."""
    sentences = list(_TELLERS.get(story.kind, _tell_move)(story))
    if story.reason:
        sentences.append(_("Reason given: %(reason)s") % {"reason": story.reason})
    return sentences


# --- earning ---------------------------------------------------------------------------------------------------


def _tell_earning(story: Story) -> Iterator[str]:
    if story.source.kind in GRANTS:
        yield from _tell_grant(story)
        return
    if story.corrected:
        yield from tell_correction(story)
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
    yield from tell_opened(story)


def _tell_grant(story: Story) -> Iterator[str]:
    told = {
        "source": name_source(story.source),
        "points": count_points(sum(lot.points for lot in story.opened)),
        "day": day_of(story.effective_at, story),
    }
    yield _("On %(day)s, %(source)s gave %(points)s.") % told
    yield from tell_opened(story)


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
    yield from tell_repaid(story)


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
    yield from tell_repaid(story)


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
    yield from tell_repaid(story)


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
    yield from tell_opened(story)
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
        yield from tell_repaid(story)
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

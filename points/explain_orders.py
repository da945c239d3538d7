"""Why each line of an order earned what it earned, or nothing, in full sentences of the active language."""

from collections.abc import Iterator, Sequence

from django.utils.translation import gettext as _

from core.money import format_minor
from points.explain_corrections import explain_corrected, explain_fact
from points.explain_earned import explain_earned
from points.order_stories import Left, LineEarned, LineStory, NotCovered, OrderStory
from points.rules import Exclusion
from points.words import count_points, join, name_rule


def explain_order(story: OrderStory) -> list[str]:
    """Return what is true of the order as a whole."""
    if not story.member:
        return [_("The order names no member: guests earn nothing.")]
    parts = [part for line in story.lines for part in line.earned]
    again = (
        [_("A fact came late: the close of the day looks at these points again.")] if story.is_looked_at_again else []
    )
    wallets = dict.fromkeys(part.wallet_name for part in parts if part.earned.points or part.points_corrected)
    if not wallets:
        return [_("The order earned nothing."), *again]
    if len(wallets) == 1:
        return [_say_total(parts), *again]
    told = ((wallet, _say_total([part for part in parts if part.wallet_name == wallet])) for wallet in wallets)
    return [*(_("%(wallet)s: %(said)s") % {"wallet": wallet, "said": said} for wallet, said in told), *again]


def _say_total(parts: Sequence[LineEarned]) -> str:
    """Say what an order earned in one wallet: points of several are never added up."""
    taken = sum(part.taken_back for part in parts)
    told = {"earned": count_points(sum(part.earned.points for part in parts)), "taken": count_points(taken)}
    if taken:
        said = _("The order earned %(earned)s; refunds have taken back %(taken)s since.") % told
    else:
        said = _("The order earned %(earned)s.") % told
    corrections = [correction for part in parts for correction in part.corrected]
    added, taken_back = sum(one.added for one in corrections), sum(one.taken for one in corrections)
    if added or taken_back:
        more = {"added": count_points(added), "taken": count_points(taken_back)}
        return join(said, _("Corrections have added %(added)s and taken back %(taken)s since.") % more)
    return said


def explain_line(line: LineStory, story: OrderStory) -> list[str]:
    """Return why a line of an order earned what it earned, rule by rule, and why others gave it nothing."""
    if not story.member:
        return [_("Line %(line)s earned nothing: the order names no member.") % {"line": line.line}]
    sentences = []
    if line.is_added:
        sentences.append(_("An edit of the order added this line; it earned by the rules and the tier of that time."))
    if line.in_points_minor:
        told = {
            "line": line.line,
            "amount": format_minor(line.amount_minor, story.currency),
            "part": format_minor(line.in_points_minor, story.currency),
        }
        sentences.append(_("Of line %(line)s, %(amount)s, %(part)s was paid in points and earns nothing.") % told)
    for part in line.earned:
        sentences += [explain_earned(part.earned, story.currency), *_since(part, story)]
    if not line.earned:
        told = {"line": line.line, "amount": format_minor(line.amount_minor, story.currency)}
        sentences.append(_("Line %(line)s, %(amount)s, earned nothing: no rule covers it.") % told)
    if not line.earned and not line.not_covered:
        sentences.append(_("No rule for orders was in force then."))
    sentences += [_left(left) for left in line.left]
    return [*sentences, *(_why_not(rule, line, story) for rule in line.not_covered)]


def _left(left: Left) -> str:
    told = {
        "rule": name_rule(left.rule),
        "points": count_points(left.points),
        "change": count_points(abs(left.change)),
    }
    if left.change < 0:
        return _("By what is known now %(rule)s gives %(points)s; %(change)s more were left to the member.") % told
    return _("By what is known now %(rule)s gives %(points)s; %(change)s more were not added.") % told


def _since(part: LineEarned, story: OrderStory) -> Iterator[str]:
    for correction in part.corrected:
        yield from explain_fact(correction)
        yield explain_corrected(correction, story.currency)
    for back in part.gave_back:
        told = {"refund": back.refund, "taken": count_points(back.taken), "due": count_points(back.due)}
        if back.taken == back.due:
            yield _("Since then refund %(refund)s took back %(taken)s.") % told
        else:
            yield _("Since then refund %(refund)s asked for %(due)s and took back %(taken)s.") % told


def _why_not(rule: NotCovered, line: LineStory, story: OrderStory) -> str:
    definition = rule.rule.definition
    told = {"rule": name_rule(rule.rule), "tier": rule.tier, "channel": story.channel, "sku": line.sku}
    told["category"] = line.category
    if rule.exclusion is Exclusion.TIER:
        told["tiers"] = ", ".join(definition.tiers)
        if rule.tier:
            return _("Not by %(rule)s: it is for %(tiers)s, and the tier held then was %(tier)s.") % told
        return _("Not by %(rule)s: it is for %(tiers)s, and no tier was held then.") % told
    if rule.exclusion is Exclusion.CHANNEL:
        told["channels"] = ", ".join(definition.channels)
        return _("Not by %(rule)s: it is for the channels %(channels)s, and the order came by “%(channel)s”.") % told
    if rule.exclusion is Exclusion.SKU:
        return _("Not by %(rule)s: the article “%(sku)s” is not among those it is for.") % told
    if rule.exclusion is Exclusion.CATEGORY:
        told["categories"] = ", ".join(definition.categories)
        return _("Not by %(rule)s: it is for the categories %(categories)s, and this is “%(category)s”.") % told
    return _("Not by %(rule)s: it covers the line as it reads now, but was not in force when the order came in.") % told

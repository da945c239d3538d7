"""Why coupons apply or do not, in full sentences of the active language: pure functions over an evaluation."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.utils.formats import date_format
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from core.definitions import write_share
from core.money import format_minor
from coupons.definitions import Amount, CouponTerms, FreeShipping
from coupons.own_claims import CodeRefusal, RefusedCode
from coupons.rules import Applied, Candidate, RefusalReason, Refused

# With the zone's abbreviation: the formats of the admin say Z, and are for UTC alone.
_LOCAL_TIME = "Y-m-d H:i:s T"


def explain_applied(applied: Applied, currency: str) -> str:
    """Return what a coupon took off, and by which discount."""
    named = {"coupon": _name(applied.candidate), "discount": describe_discount(applied.candidate.terms, currency)}
    if applied.shipping_minor or isinstance(applied.candidate.terms.discount, FreeShipping):
        named["amount"] = format_minor(applied.shipping_minor, currency)
        return gettext("%(coupon)s takes %(amount)s off the shipping fee (%(discount)s).") % named
    named["amount"] = format_minor(applied.discount_minor, currency)
    if applied.candidate.terms.has_scope:
        return gettext("%(coupon)s takes %(amount)s off the lines it is for (%(discount)s).") % named
    return gettext("%(coupon)s takes %(amount)s off the order (%(discount)s).") % named


def explain_refused(refused: Refused, time_zone: str = "UTC") -> str:
    """Return why a coupon takes nothing off. `time_zone`: of the instants named."""
    told = _readable(refused.details, ZoneInfo(time_zone)) | {"coupon": _name(refused.candidate)}
    if refused.reason is RefusalReason.BELOW_THRESHOLD and refused.candidate.terms.has_scope:
        return (
            gettext(
                "%(coupon)s needs goods that it is for at %(threshold_minor)s: the basket is %(missing_minor)s short."
            )
            % told
        )
    return str(_SENTENCES[refused.reason]) % told


def explain_code(refused: RefusedCode, time_zone: str = "UTC") -> str:
    """Return why a code that was typed gives nothing. `time_zone`: of the instants named."""
    return str(_CODE_SENTENCES[refused.reason]) % _readable(refused.details, ZoneInfo(time_zone))


def explain_spent(reason: CodeRefusal) -> str:
    """Return why a coupon that needs no code cannot be had any more."""
    return str(_SPENT_SENTENCES[reason])


def describe_discount(terms: CouponTerms, currency: str) -> str:
    """Return what a coupon takes off in a currency: `20% off, at most GBP 5.00`."""
    discount = terms.discount
    if isinstance(discount, Amount):
        return gettext("%(amount)s off") % {"amount": _money(discount.amount, currency)}
    if isinstance(discount, FreeShipping):
        text = gettext("free shipping")
    else:
        text = gettext("%(share)s off") % {"share": write_share(discount.percent)}
    if discount.at_most is None:
        return text
    return gettext("%(discount)s, at most %(amount)s") % {
        "discount": text,
        "amount": _money(discount.at_most, currency),
    }


def _name(candidate: Candidate) -> str:
    return gettext("“%(name)s” (%(code)s)") % {"name": candidate.terms.name, "code": candidate.code}


def _money(amounts: Mapping[str, int], currency: str) -> str:
    """Return the amount of a currency, all of them where it is not named."""
    shown = {currency: amounts[currency]} if currency in amounts else amounts
    return ", ".join(format_minor(minor, name) for name, minor in shown.items())


def _readable(details: dict[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    """Return the figures of a reason as people read them."""
    told: dict[str, Any] = {}
    for key, value in details.items():
        if key in ("valid_from", "expires_at", "until"):
            told[key] = date_format(datetime.fromisoformat(value).astimezone(zone), _LOCAL_TIME)
        elif key.endswith("_minor"):
            told[key] = format_minor(value, details["currency"])
        else:
            told[key] = ", ".join(value) if isinstance(value, list) else value
    return told


_SENTENCES = {
    RefusalReason.NOT_CHOSEN: _("%(coupon)s was left out as asked."),
    RefusalReason.HELD_IN_CHECKOUT: _("%(coupon)s is in use in checkout %(checkout)s until %(until)s."),
    RefusalReason.ALREADY_USED: _("%(coupon)s has been used."),
    RefusalReason.NOT_YET_VALID: _("%(coupon)s is valid from %(valid_from)s."),
    RefusalReason.EXPIRED: _("%(coupon)s was valid until %(expires_at)s."),
    RefusalReason.WRONG_MARKET: _("%(coupon)s is for these markets: %(markets)s."),
    RefusalReason.WRONG_TIER: _("%(coupon)s is for members of these tiers: %(tiers)s."),
    RefusalReason.ONCE_PER_PERSON: _(
        "%(coupon)s is given once per person: an account with the same e-mail address, card or device has had it."
    ),
    RefusalReason.NOT_FIRST_ORDER: _("%(coupon)s is for a member's first order."),
    RefusalReason.FIRST_ORDER_HELD: _(
        "%(coupon)s is for a member's first order: checkout %(checkout)s holds a coupon for it until %(until)s."
    ),
    RefusalReason.NOT_NEW_MEMBER: _("%(coupon)s is for new members, up to day %(new_member_days)s after joining."),
    RefusalReason.CURRENCY_NOT_COVERED: _("%(coupon)s is for orders in %(currencies)s, not in %(currency)s."),
    RefusalReason.NO_LINE_IN_SCOPE: _("%(coupon)s is for none of the goods in the basket."),
    RefusalReason.BELOW_THRESHOLD: _(
        "%(coupon)s needs goods for %(threshold_minor)s: the basket is %(missing_minor)s short."
    ),
    RefusalReason.NO_EFFECT: _("%(coupon)s finds nothing to take off."),
    RefusalReason.SAME_COUPON: _("%(coupon)s is used once in an order."),
    RefusalReason.WORTH_THE_SAME: _("%(coupon)s is worth the same as %(with)s here, and is kept for another order."),
    RefusalReason.STACKS_WITH_BETTER: _("%(coupon)s cannot be used beside %(with)s, which is worth more."),
    RefusalReason.EXCLUSIVE_WITH_BETTER: _("%(coupon)s cannot be combined with %(with)s, which is worth more."),
}

_CODE_SENTENCES = {
    "unknown": _("This code is not valid."),
    "already_used": _("This code has been used."),
    "all_given_out": _("All coupons of this code have been given out."),
    "held_in_checkout": _("This code is in use in checkout %(checkout)s until %(until)s."),
    "expired": _("This code was valid until %(expires_at)s."),
    "revoked": _("The coupon of this code was taken back."),
    "once_per_person": _(
        "This code is for one use per person: an account with the same e-mail address, card or device has had it."
    ),
    "too_many_codes": _("Too many codes were wrong; this one can be tried again in a little while."),
    "member_suspended": _("Coupons cannot be used while the membership is suspended."),
}

_SPENT_SENTENCES = {
    "member_suspended": _CODE_SENTENCES["member_suspended"],
    "already_used": _("You have had this coupon as often as one member may."),
    "all_given_out": _("All of these coupons have been given out."),
    "once_per_person": _(
        "This coupon is given once per person: an account with the same e-mail address, card or device has had it."
    ),
}

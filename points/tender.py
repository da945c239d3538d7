"""Points as a means of payment: how many may be used for an amount, and what they pay. Pure arithmetic."""

from dataclasses import dataclass
from enum import StrEnum

from django.utils.translation import gettext as _

from core.definitions import write_share
from core.money import BPS, format_minor
from points.definitions import Redemption, WalletPolicy


class TenderReason(StrEnum):
    """Why fewer points are used than were asked, or none."""

    NOT_REDEEMABLE = "not_redeemable"
    CURRENCY_NOT_COVERED = "currency_not_covered"
    BELOW_MINIMUM = "below_minimum"
    NOT_AVAILABLE = "not_available"
    ABOVE_SHARE = "above_share"
    NO_WHOLE_STEP = "no_whole_step"


@dataclass(frozen=True, slots=True)
class Tender:
    """Points and what they pay; `reason`: why not more, None if as many as were asked or as the shopper has."""

    points: int
    amount_minor: int
    reason: TenderReason | None = None


def tender(
    policy: WalletPolicy, *, currency: str, payable_minor: int, available: int, asked: int | None = None
) -> Tender:
    """Return the most points that may be used, in whole steps: of those asked, or of all that are available.

    The amount is what the steps are worth, never more than the policy's share of what is to be paid, rounded down.
    Units: whole points >= 0; minor units of the currency.
    """
    terms = policy.redemption
    if terms is None:
        return Tender(0, 0, TenderReason.NOT_REDEEMABLE)
    worth = terms.worth.get(currency)
    if worth is None:
        return Tender(0, 0, TenderReason.CURRENCY_NOT_COVERED)
    wanted = available if asked is None else asked
    limit = payable_minor * terms.maximum_share // BPS // worth
    steps = min(min(wanted, available) // terms.step, limit)
    points = steps * terms.step
    if points < terms.minimum or not points:
        return Tender(0, 0, _why_none(terms, wanted, available))
    return Tender(points, steps * worth, _why_less(terms, wanted, available, limit))


def _why_less(terms: Redemption, wanted: int, available: int, limit: int) -> TenderReason | None:
    """Return what keeps the points below those wanted, the narrowest bound first."""
    if limit < min(wanted, available) // terms.step:
        return TenderReason.ABOVE_SHARE
    if available < wanted:
        return TenderReason.NOT_AVAILABLE
    return TenderReason.NO_WHOLE_STEP if wanted % terms.step else None


def _why_none(terms: Redemption, wanted: int, available: int) -> TenderReason | None:
    if not wanted:
        return None
    least = max(terms.minimum, terms.step)
    if wanted < least:
        return TenderReason.BELOW_MINIMUM
    if available < least:
        return TenderReason.NOT_AVAILABLE
    return TenderReason.ABOVE_SHARE


def explain_tender(tender: Tender, policy: WalletPolicy, *, currency: str) -> list[str]:
    """Return what points pay and why not more, in sentences of the active language."""
    told = {"points": f"{tender.points:,}", "amount": format_minor(tender.amount_minor, currency)}
    first = [_("%(points)s points pay %(amount)s.") % told] if tender.points else [_("No points are used.")]
    return first + ([_why(tender.reason, policy.redemption, currency)] if tender.reason else [])


def _why(reason: TenderReason, terms: Redemption | None, currency: str) -> str:
    if terms is None:
        return _("Points of this wallet are no means of payment.")
    told = {"currency": currency, "step": f"{terms.step:,}", "minimum": f"{max(terms.minimum, terms.step):,}"}
    told["share"] = write_share(terms.maximum_share)
    texts = {
        TenderReason.CURRENCY_NOT_COVERED: _("Points pay nothing in %(currency)s."),
        TenderReason.BELOW_MINIMUM: _("At least %(minimum)s points are used at a time."),
        TenderReason.NOT_AVAILABLE: _("No more points can be used now."),
        TenderReason.ABOVE_SHARE: _("Points pay at most %(share)s of the goods."),
        TenderReason.NO_WHOLE_STEP: _("Points are used in steps of %(step)s."),
    }
    return texts[reason] % told

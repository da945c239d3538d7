"""What an evaluation of coupons reads and answers: basket, shopper, coupons that might apply, what they take off."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from coupons.definitions import CouponTerms


class RefusalReason(StrEnum):
    """Why a coupon does not apply."""

    NOT_CHOSEN = "not_chosen"
    HELD_IN_CHECKOUT = "held_in_checkout"
    ALREADY_USED = "already_used"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    WRONG_MARKET = "wrong_market"
    WRONG_TIER = "wrong_tier"
    ONCE_PER_PERSON = "once_per_person"
    NOT_FIRST_ORDER = "not_first_order"
    FIRST_ORDER_HELD = "first_order_held"
    NOT_NEW_MEMBER = "not_new_member"
    CURRENCY_NOT_COVERED = "currency_not_covered"
    NO_LINE_IN_SCOPE = "no_line_in_scope"
    BELOW_THRESHOLD = "below_threshold"
    NO_EFFECT = "no_effect"
    SAME_COUPON = "same_coupon"
    WORTH_THE_SAME = "worth_the_same"
    STACKS_WITH_BETTER = "stacks_with_better"
    EXCLUSIVE_WITH_BETTER = "exclusive_with_better"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a basket: its list price, and what is left of it after the tier's discount, for all units."""

    key: str
    sku: str
    category: str
    units: int
    original_minor: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Basket:
    """What is about to be bought."""

    currency: str
    lines: tuple[Line, ...]
    shipping_minor: int = 0
    market: str = ""


@dataclass(frozen=True, slots=True)
class Shopper:
    """Who buys. `member_days`: local days since joining.

    `first_order_held`: the checkout, not paid yet, that holds a coupon for the first order, and until when.
    """

    tier: str | None = None
    is_first_order: bool = False
    first_order_held: tuple[str, datetime] | None = None
    member_days: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A coupon that might apply: a claim of the shopper, a code typed in, or one that applies by itself.

    `key` tells the candidates of an evaluation apart. `claim` is the public id of the claim, empty where there is none.
    `valid_from` and `expires_at` are the claim's; where they are empty, the window of the terms holds.
    """

    key: str
    definition_id: int
    version_id: int
    code: str
    terms: CouponTerms
    claim_id: int | None = None
    valid_from: datetime | None = None
    expires_at: datetime | None = None
    claim: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """What a coupon takes off each line of the basket, in their order, and off shipping."""

    candidate: Candidate
    line_minor: tuple[int, ...]
    shipping_minor: int = 0

    @property
    def discount_minor(self) -> int:
        """Return what it takes off the lines."""
        return sum(self.line_minor)

    @property
    def minor(self) -> int:
        """Return what it takes off in all."""
        return self.discount_minor + self.shipping_minor


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a coupon takes nothing off; `details` are the figures of the reason, ready for JSON."""

    candidate: Candidate
    reason: RefusalReason
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The combination that takes most off. Not `exact`: another could take off `gap_minor` more, but no more.

    `combined`: the coupons whose discounts were added up, those included whose part came to nothing and which are not
    used up by that. Evaluated by themselves, they give the same again.
    """

    applied: tuple[Applied, ...]
    refused: tuple[Refused, ...]
    exact: bool
    gap_minor: int
    nodes: int
    combined: tuple[Candidate, ...] = ()

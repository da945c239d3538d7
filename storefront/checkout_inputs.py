"""The shape in which a storefront tells a basket, and how a checkout is refused."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from storefront import pricing


class CheckoutRefused(Exception):
    """A checkout cannot be held, released or paid like this. Nothing was written.

    Codes: unknown_checkout, checkout_lapsed, checkout_released, checkout_not_held, checkout_already_paid,
    checkout_of_other_member, basket_changed, paid_before_quote, hold_too_long, too_many_holds.
    """

    def __init__(self, code: str, reason: str, *, field: str = "checkout") -> None:
        self.code, self.reason, self.field = code, reason, field
        super().__init__(f"{field}: {reason}")


class Difference(NamedTuple):
    """What of a price is not what it was; `field` as `lines.0.amount_minor`."""

    field: str
    reason: str


class QuoteChanged(Exception):
    """The basket does not cost any more what was quoted. Nothing was held."""

    def __init__(self, differences: Sequence[Difference]) -> None:
        self.differences = list(differences)
        super().__init__("; ".join(f"{field}: {reason}" for field, reason in differences))


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutInput:
    """A basket, whose it is (empty: a guest's), and what they want to use: coupon codes typed in, points of a wallet.

    without, only: coupons that they do not want to use, or the only ones that they do (None: all), by their codes.
    wallet: its code, empty for no points. points: at most so many, None for as many as can be used. unread_codes: codes
    that were typed and are not looked up, because too many before them were wrong.
    """

    basket: pricing.Basket
    member: str = ""
    channel: str = ""
    codes: tuple[str, ...] = ()
    unread_codes: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    wallet: str = ""
    points: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "CheckoutInput":
        """Return what was stored."""
        basket = told["basket"]
        lines = tuple(pricing.Line(**line) for line in basket["lines"])
        lists = ("codes", "unread_codes", "without", "only")
        tuples = {name: tuple(told[name]) for name in lists if told.get(name) is not None}
        return cls(**told | {"basket": pricing.Basket(**basket | {"lines": lines})} | tuples)

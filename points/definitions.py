"""The shape of wallet policies and earn rules, in the program file and in the database."""

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from core.definitions import Amounts, Code, Definition, Money, Share
from core.money import BPS
from core.names import fold


class Redemption(Definition):
    """What points are worth when they are used.

    `step`: points are used in multiples of it; `worth`: what one step pays, by currency (one that is not named takes no
    points). `minimum`: fewer points are not used at a time. `maximum_share`: of what is to be paid for the goods.
    """

    step: Annotated[int, Field(ge=1, le=1_000_000)]
    worth: Amounts
    minimum: Annotated[int, Field(ge=0, le=100_000_000)] = 0
    maximum_share: Share = BPS

    @model_validator(mode="after")
    def _pays_something(self) -> Self:
        if min(self.worth.values()) <= 0:
            raise ValueError("worth must be more than nothing in every currency")
        if self.minimum % self.step:
            raise ValueError("minimum must be a multiple of step")
        return self

    def allows(self, points: int) -> bool:
        """Tell whether so many points may be used at a time."""
        return points >= self.minimum and not points % self.step


class WalletPolicy(Definition):
    """How a wallet's points live.

    `expiry_days`: valid to the end of that many local days after the day they were earned (empty: never).
    `pending_days`: usable from the start of that many local days after the day they were earned (0: at once).
    `rounding`: floor each line, or floor the order's sum once.
    `clawback`: what a refund does when the points are already spent: take other available points, then
    `debt`: the rest becomes debt; `write_off`: the rest is given up; `own_lot`: only what is left of the same
    lot; `refuse`: the refund is refused.
    `reminder_days`: members are reminded that many local days before points expire (0: never).
    `redemption`: what points pay (empty: they are no means of payment).
    `approval_above`: an adjustment of more points, either way, waits for a second person (empty: none does).
    `goodwill_per_day`: so many points support may give a member on a local day (0: none).
    """

    expiry_days: Annotated[int, Field(ge=1, le=36600)] | None = None
    pending_days: Annotated[int, Field(ge=0, le=3660)] = 0
    rounding: Literal["line", "order"] = "line"
    clawback: Literal["debt", "write_off", "own_lot", "refuse"] = "debt"
    reminder_days: Annotated[int, Field(ge=0, le=366)] = 3
    redemption: Redemption | None = None
    approval_above: Annotated[int, Field(ge=0, le=500_000_000)] | None = None
    goodwill_per_day: Annotated[int, Field(ge=0, le=500_000_000)] = 0

    @model_validator(mode="after")
    def _goodwill_needs_nobody(self) -> Self:
        if self.approval_above is not None and self.goodwill_per_day > self.approval_above:
            raise ValueError("goodwill_per_day must not exceed approval_above: goodwill waits for nobody")
        return self

    @model_validator(mode="after")
    def _expires_after_it_vests(self) -> Self:
        if self.expiry_days is not None and self.pending_days > self.expiry_days:
            raise ValueError("pending_days must not exceed expiry_days: the points would never be usable")
        return self


def _none_if_false(value: Any) -> Any:
    """Let what means the same come out the same."""
    return None if value is False else value


class PerAmount(Definition):
    """`points` for each `per` of the amount paid: one product with the multiplier, one floor.

    The amount counts in proportion: 3 points for each 2.00 are 2 for 1.50. With `whole_steps` only each whole `per` of
    it counts, before the multiplier: none for 1.50. Where the wallet rounds per order, that is the order's sum.
    """

    points: Annotated[int, Field(ge=1, le=1_000_000)]
    per: Annotated[Money, Field(ge=1)]
    whole_steps: Annotated[Literal[True] | None, BeforeValidator(_none_if_false)] = None


class Fixed(Definition):
    """`fixed` points each time."""

    fixed: Annotated[int, Field(ge=1, le=100_000_000)]


class EarnRuleDefinition(Definition):
    """Who earns how much for what.

    Triggers: `order_line` (each line by itself), `activity` (one of `activity_kinds`).
    `tier_multiplier`: apply the tier's points multiplier, in one product and one floor.
    `once_per_day`: pays once per member, kind, subject (order or product) and local day; what is published anew does.
    `minimum`: smaller amounts earn nothing. `tiers`, `skus`, `categories`, `channels`: empty means all. Skus and
    categories are compared as coupons compare them: `Gift` is `gift`.
    """

    wallet: Code
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    trigger: Literal["order_line", "activity"]
    formula: PerAmount | Fixed
    tier_multiplier: bool = False
    minimum: Money = Field(default=0)
    tiers: tuple[Code, ...] = ()
    skus: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    activity_kinds: tuple[Code, ...] = ()
    once_per_day: bool = False

    @cached_property
    def goods(self) -> tuple[frozenset[str], frozenset[str]]:
        """The skus and categories that earn, as `fold` has them."""
        return frozenset(map(fold, self.skus)), frozenset(map(fold, self.categories))

    @model_validator(mode="after")
    def _formula_fits_trigger(self) -> Self:
        if self.trigger == "activity" and (isinstance(self.formula, PerAmount) or not self.activity_kinds):
            raise ValueError("an activity rule needs activity_kinds and a fixed formula")
        if self.trigger == "order_line" and self.activity_kinds:
            raise ValueError("activity_kinds goes with trigger: activity")
        return self

"""The shape of a coupon's terms, in the program file and in the database."""

from datetime import datetime
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from core.definitions import Amounts, Code, Definition, Share
from core.names import fold
from core.timestamps import Instant

MOST_SHARDS = 16
FIRST_YEAR, LAST_YEAR = 1900, 9900


def _within_years(at: datetime) -> datetime:
    """Leave room for zones and days after issue."""
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise ValueError(f"write an instant of the years {FIRST_YEAR} to {LAST_YEAR}")
    return at


WindowBound = Annotated[Instant, AfterValidator(_within_years)]


class Percent(Definition):
    """A share off, at most so much by currency."""

    percent: Share
    at_most: Amounts | None = None


class Amount(Definition):
    """An amount off, by currency."""

    amount: Amounts


class FreeShipping(Definition):
    """The shipping fee off, at most so much by currency."""

    free_shipping: Literal[True]
    at_most: Amounts | None = None


class CouponTerms(Definition):
    """What a coupon takes off, of what, for whom, when and how often.

    `threshold`: the list prices of the order, of the lines in scope where there is a scope, must reach it. Amounts are
    by currency; a basket in a currency that is not named is refused.
    `skus`, `categories`: the lines in scope (both empty: all); `exclude_skus`, `exclude_categories` take lines out.
    `starts_at`, `ends_at`: instants, the end exclusive. `valid_days`: to the end of that many local days after issue.
    `tiers`, `markets`: empty means all. `new_member_days`: at most so many days after joining.
    `how`: `automatic` applies by itself, `code` by typing one in, `claimed` is taken by members themselves, `issued` is
    given to them one by one.
    `priority`: the smaller goes first where coupons together would take off more than there is.
    `exclusive`: no other coupon beside it. `stack_group`: at most one coupon of a group per order.
    `per_member`, `limit`: claims of one member, and of all; `shards`: parts that the limit is counted in.
    `once_per_person`: of several accounts that were seen with one e-mail address, card or device, one gets it, once.
    `on_cancel`, `on_refund`: what becomes of the claim when the shop has cancelled the order, or all of it came back:
    `restore` gives it back, `keep` leaves it used. `restore_days`: what is given back can be used to the end of that
    many local days at least, its own end over or not; without it, what is over is lost.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    discount: Percent | Amount | FreeShipping
    threshold: Amounts | None = None
    skus: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    exclude_skus: tuple[str, ...] = ()
    exclude_categories: tuple[str, ...] = ()
    starts_at: WindowBound | None = None
    ends_at: WindowBound | None = None
    valid_days: Annotated[int, Field(ge=0, le=3660)] | None = None
    tiers: tuple[Code, ...] = ()
    first_order: bool = False
    new_member_days: Annotated[int, Field(ge=0, le=3660)] | None = None
    markets: tuple[Code, ...] = ()
    how: Literal["automatic", "code", "claimed", "issued"] = "issued"
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    exclusive: bool = False
    stack_group: Code | None = None
    per_member: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    once_per_person: bool = False
    limit: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    shards: Annotated[int, Field(ge=1, le=MOST_SHARDS)] = 1
    on_cancel: Literal["keep", "restore"] = "restore"
    on_refund: Literal["keep", "restore"] = "keep"
    restore_days: Annotated[int, Field(ge=0, le=3660)] | None = None

    @property
    def has_scope(self) -> bool:
        """Tell whether the coupon is about some lines only."""
        return bool(self.skus or self.categories or self.exclude_skus or self.exclude_categories)

    @cached_property
    def scope(self) -> tuple[frozenset[str], ...]:
        """Return the skus and categories in scope, and those left out, each as `fold` has it."""
        named = (self.skus, self.categories, self.exclude_skus, self.exclude_categories)
        return tuple(frozenset(map(fold, names)) for names in named)

    def covers(self, sku: str, category: str) -> bool:
        """Tell whether a line is in scope; both as `fold` has them."""
        skus, categories, without_skus, without_categories = self.scope
        if sku in without_skus or category in without_categories:
            return False
        return not (skus or categories) or sku in skus or category in categories

    @model_validator(mode="after")
    def _amounts_are_positive(self) -> Self:
        amounts = self.discount.amount if isinstance(self.discount, Amount) else self.discount.at_most or {}
        if min(amounts.values(), default=1) < 1 or min((self.threshold or {}).values(), default=1) < 1:
            raise ValueError("amounts must be more than zero")
        return self

    @model_validator(mode="after")
    def _window_is_not_empty(self) -> Self:
        if self.starts_at is not None and self.ends_at is not None and self.ends_at <= self.starts_at:
            raise ValueError("ends_at must be later than starts_at")
        if self.how == "automatic" and self.valid_days is not None:
            raise ValueError("valid_days counts from issue: an automatic coupon is never issued; use ends_at")
        return self

    @model_validator(mode="after")
    def _once_is_once(self) -> Self:
        if self.once_per_person and self.per_member != 1:
            raise ValueError("once_per_person goes with per_member: 1")
        return self

    @model_validator(mode="after")
    def _shards_part_a_limit(self) -> Self:
        if self.shards > (self.limit or 1):
            raise ValueError("shards are parts of the limit: there cannot be more of them than claims")
        return self

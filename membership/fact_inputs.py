"""The shapes in which a storefront tells facts, and how one is refused."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any


class BadFact(Exception):
    """A fact that cannot be true, or that names what is not there. Nothing of its call was written.

    Codes: invalid_value, duplicate_line, wrong_currency, before_program, in_future, unknown_member, unknown_order,
    unknown_line, other_member, before_order, too_many_units, more_than_paid, order_returned, nothing_left,
    fact_void, nothing_corrected, order_edited, order_of_checkout.
    """

    def __init__(self, *, field: str, external_id: str, reason: str, code: str) -> None:
        self.field = field
        self.external_id = external_id
        self.reason = reason
        self.code = code
        super().__init__(f"{external_id}: {field}: {reason}")


class FactConflict(Exception):
    """A fact with this external id is recorded with other content. Nothing of the call was written."""

    def __init__(self, *, kind: str, external_id: str) -> None:
        self.kind = kind
        self.external_id = external_id
        super().__init__(f"{kind} {external_id} is already recorded with other content")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLineInput:
    """Units: minor units of the order's currency; `program_amount_minor` of the program's, empty = derived.

    paid_in_points_minor: the part of the amount that was paid in points.
    """

    external_id: str
    units: int
    amount_minor: int
    program_amount_minor: int | None = None
    discount_minor: int = 0
    paid_in_points_minor: int = 0
    sku: str = ""
    category: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderInput:
    """A paid order. `member` is the member's external id, empty for a guest.

    checkout: the public id of the checkout that it pays, which is not membership's; empty: none.
    """

    external_id: str
    member: str = ""
    paid_at: datetime
    currency: str
    amount_minor: int
    program_amount_minor: int | None = None
    market: str = ""
    country: str = ""
    channel: str = ""
    device: str = ""
    checkout: str = ""
    lines: tuple[OrderLineInput, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundLineInput:
    """What came back of the line `order_line` of the order `order` (empty: the refund's own order).

    Without `order_line` the shop does not know what was returned; without `units` only money went back.
    """

    external_id: str
    amount_minor: int
    program_amount_minor: int | None = None
    units: int | None = None
    order: str = ""
    order_line: str = ""
    sku: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundInput:
    """Money given back to `member` (empty: a guest). Its lines decide which orders it touches.

    goodwill_minor: given on top, of the same currency: no part of the amount, it takes nothing back.
    is_derived: its ids are made of those of its order, as in cancellations and edits.
    """

    external_id: str
    member: str = ""
    refunded_at: datetime
    currency: str
    amount_minor: int
    program_amount_minor: int | None = None
    order: str = ""
    goodwill_minor: int = 0
    lines: tuple[RefundLineInput, ...] = ()
    is_derived: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedLineInput:
    """Units taken out of a paid order line, and what was given back for them."""

    order_line: str
    units: int
    amount_minor: int
    program_amount_minor: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEditInput:
    """A change of the paid order `order`: lines added from `edited_at` on, and units taken out, which are a refund.

    Units: as orders. In a currency that is not the program's each line tells its `program_amount_minor`.
    """

    order: str
    external_id: str
    edited_at: datetime
    currency: str
    lines: tuple[OrderLineInput, ...] = ()
    removed: tuple[RemovedLineInput, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityInput:
    """What a member did; `order` and `product` name what it was about, empty: nothing."""

    external_id: str
    member: str
    kind: str
    source: str = ""
    occurred_at: datetime
    quality: int | None = None
    order: str = ""
    product: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditInput:
    """A qualifying credit, addressed by (member, source, rule)."""

    member: str
    source: str
    rule: str
    credits: int
    effective_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberInput:
    """Someone to enroll. `kind` is person or household; `country` an ISO 3166 code of two letters."""

    external_id: str
    joined_at: datetime
    kind: str = "person"
    locale: str = ""
    country: str = ""
    birthday: date | None = None
    consents: dict[str, Any] = field(default_factory=dict)

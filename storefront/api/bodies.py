"""What storefronts send about orders, refunds and activities, and the facts that it tells."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StrictInt, StringConstraints

from core.api.types import Body, Currency, ExternalId, Instant, Minor, Name, OwnId
from membership.fact_inputs import (
    ActivityInput,
    OrderEditInput,
    OrderInput,
    OrderLineInput,
    RefundInput,
    RefundLineInput,
    RemovedLineInput,
)
from membership.field_checks import CODE_LENGTH, MAX_COUNT, MAX_QUALITY

# Far above real baskets: what bounds the work of one request.
MAX_LINES = 1_000

Units = Annotated[StrictInt, Field(ge=1, le=MAX_COUNT, description="Whole pieces")]
ItemCode = Annotated[str, StringConstraints(max_length=CODE_LENGTH, pattern=r"^[^\x00-\x1f\x7f]*$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[^\x00-\x1f\x7f]*$")]
ProgramMinor = Annotated[
    Minor | None,
    Field(description="In minor units of the program's currency; needed where the order is in another one"),
]


class OrderLineBody(Body):
    """A line of an order. `amount_minor`: what was paid for all its units, after every discount, in money and points.

    `paid_in_points_minor`: the part of it that was paid in points, which earns none.
    """

    external_id: OwnId
    units: Units
    amount_minor: Minor
    program_amount_minor: ProgramMinor = None
    discount_minor: Minor = 0
    paid_in_points_minor: Minor = 0
    sku: ItemCode = ""
    category: ItemCode = ""

    def told(self) -> OrderLineInput:
        """Return the line as a fact."""
        return OrderLineInput(**dict(self))


Lines = Annotated[list[OrderLineBody], Field(max_length=MAX_LINES)]


class OrderBody(Body):
    """A paid order; without a member it is a guest's. Without lines it is one line of its amount.

    `checkout`: what it pays. Its lines are those of the checkout; what came off them and what was paid in points is
    the checkout's and need not be told.
    """

    external_id: OwnId
    member: ExternalId | None = None
    paid_at: Instant
    currency: Currency
    amount_minor: Minor
    program_amount_minor: ProgramMinor = None
    market: Name = ""
    country: Name = ""
    channel: Name = ""
    device: Name = ""
    checkout: UUID | None = None
    lines: Lines = []

    def told(self) -> OrderInput:
        """Return the order as a fact."""
        checkout = str(self.checkout or "")
        return OrderInput(**_fields(self) | {"checkout": checkout, "lines": tuple(line.told() for line in self.lines)})


class RemovedLineBody(Body):
    """Units taken out of a line, and what was given back for them."""

    order_line: ExternalId
    units: Units
    amount_minor: Minor
    program_amount_minor: ProgramMinor = None


class OrderEditBody(Body):
    """A change of a paid order: new lines, and units taken out of old ones."""

    external_id: OwnId
    edited_at: Instant
    currency: Currency
    lines: Lines = []
    removed: Annotated[list[RemovedLineBody], Field(max_length=MAX_LINES)] = []

    def told(self, order: str) -> OrderEditInput:
        """Return the edit as a fact about an order."""
        return OrderEditInput(
            order=order,
            external_id=self.external_id,
            edited_at=self.edited_at,
            currency=self.currency,
            lines=tuple(line.told() for line in self.lines),
            removed=tuple(RemovedLineInput(**dict(line)) for line in self.removed),
        )


class CancelBody(Body):
    """The cancellation of a paid order. `external_id` of its refund: `<order>:cancel` unless told."""

    external_id: OwnId | None = None
    cancelled_at: Instant | None = None


class RefundLineBody(Body):
    """What came back of a line of an order (the refund's own unless told); without units only money did."""

    external_id: OwnId
    order: ExternalId | None = None
    order_line: ExternalId | None = None
    units: Units | None = None
    amount_minor: Minor
    program_amount_minor: ProgramMinor = None
    sku: ItemCode = ""

    def told(self) -> RefundLineInput:
        """Return the line as a fact."""
        return RefundLineInput(**_fields(self))


class RefundBody(Body):
    """Money given back to a member, or to a guest. The lines say what came back of which orders.

    `amount_minor`: of what was paid, in money and points, no more than is left of it. `goodwill_minor`: what is given
    on top of that; it is recorded and takes nothing back.
    """

    external_id: OwnId
    member: ExternalId | None = None
    order: ExternalId | None = None
    refunded_at: Instant
    currency: Currency
    amount_minor: Minor
    program_amount_minor: ProgramMinor = None
    goodwill_minor: Minor = 0
    lines: Annotated[list[RefundLineBody], Field(max_length=MAX_LINES)] = []

    def told(self) -> RefundInput:
        """Return the refund as a fact."""
        return RefundInput(**_fields(self) | {"lines": tuple(line.told() for line in self.lines)})


class ActivityBody(Body):
    """Something a member did that is not a purchase: visit, check_in, review, share, survey_answer, ...

    `order`, `product`: what it was about. A rule pays once a day for the same kind and subject.
    """

    external_id: OwnId
    member: ExternalId
    kind: Label
    source: Name = ""
    occurred_at: Instant
    quality: Annotated[StrictInt, Field(ge=-MAX_QUALITY, le=MAX_QUALITY)] | None = None
    order: ExternalId | None = None
    product: ItemCode = ""

    def told(self) -> ActivityInput:
        """Return the activity as a fact."""
        return ActivityInput(**_fields(self))


_NAMES = ("member", "order", "order_line")


def _fields(body: Body) -> dict[str, Any]:
    """Return a body's fields as a fact's: there a name that is not told is empty."""
    return {name: value or "" if name in _NAMES else value for name, value in body}

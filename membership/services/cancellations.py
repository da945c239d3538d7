"""The cancellation of a paid order: a refund of all that is left of it."""

from collections.abc import Collection
from datetime import datetime, timedelta

from core.calendar import CLOCK_TOLERANCE, TICK
from core.external_ids import find_flaw
from core.models import Program
from core.money import allocate
from membership.fact_checks import cancel_refund_id
from membership.fact_inputs import BadFact, FactConflict, RefundInput, RefundLineInput
from membership.models import Refund
from membership.order_returns import read
from membership.returns import OrderReturned
from membership.services.edits import lock_order

# Of one instant there are never so many refunds of an order.
_MOST_TICKS = 1_000


def refund_rest(
    *, program: Program, order: str, external_id: str = "", cancelled_at: datetime | None, at: datetime
) -> RefundInput | None:
    """Return the refund of all units and all money left of an order; None if it is recorded already.

    external_id: of the refund, `<order>:cancel` unless told. cancelled_at: `at` unless told.
    Raises: BadFact if nothing is left or the id cannot be one; FactConflict if the refund is recorded with another
    instant or for another order, or if something has been left since.
    Locks: the order, before what is left is read: a refund under way is waited for and counts.
    """
    name = external_id or cancel_refund_id(order)
    locked = lock_order(program, order, fact=name)
    state = read([locked.pk])[locked.pk]
    found = state.work_out()
    lines, left = _list_rest(found), found.left_minor
    is_left = bool(lines) or left > 0
    known = Refund.objects.filter(program=program, external_id=name, member=locked.member).first()
    if known is not None:
        is_same = known.order_id == locked.pk and _is_dated(known, cancelled_at, found)
        if is_left or not is_same:
            raise FactConflict(kind="refund", external_id=name)
        return None
    if not is_left:
        reason = f"nothing is left of order {order}"
        raise BadFact(field="", external_id=name, reason=reason, code="nothing_left")
    flaw = find_flaw(external_id) if external_id else ""
    if flaw:
        raise BadFact(field="external_id", external_id=name, reason=flaw, code="invalid_value")
    others = {part.refunded_at for part in state.parts}
    return RefundInput(
        external_id=name,
        member=locked.member.external_id if locked.member else "",
        refunded_at=_put_after(others, _date(cancelled_at or max([at, *others]), found)),
        currency=locked.currency,
        amount_minor=left,
        order=order,
        lines=lines,
        is_derived=True,
    )


def _date(cancelled_at: datetime, found: OrderReturned) -> datetime:
    """Return the instant of a cancellation: by a clock that is behind, no earlier than what it brings back was paid."""
    starts = (line.since for line in found.order.lines)
    return max([cancelled_at, *(at for at in starts if at <= cancelled_at + CLOCK_TOLERANCE)])


def _is_dated(known: Refund, cancelled_at: datetime | None, found: OrderReturned) -> bool:
    """Tell whether a cancellation was told with an instant, if any; it may stand after others of its instant."""
    if cancelled_at is None:
        return True
    return timedelta(0) <= known.refunded_at - _date(cancelled_at, found) < _MOST_TICKS * TICK


def _put_after(others: Collection[datetime], cancelled_at: datetime) -> datetime:
    """Return an instant as it is told, or the first one after it at which nothing else came back."""
    ticks = (cancelled_at + n * TICK for n in range(_MOST_TICKS))
    return next((instant for instant in ticks if instant not in others), cancelled_at)


def _list_rest(found: OrderReturned) -> tuple[RefundLineInput, ...]:
    """Return the lines of which something is left: their units and their money."""
    lines = [found.lines[line.id] for line in found.order.lines]
    amounts = _within(found.left_minor, [line.left_minor for line in lines])
    return tuple(
        RefundLineInput(
            external_id=line.line.external_id,
            order_line=line.line.external_id,
            units=(line.line.units - line.units) or None,
            amount_minor=amount,
        )
        for line, amount in zip(lines, amounts, strict=True)
        if line.line.units > line.units or amount
    )


def _within(total: int, parts: list[int]) -> list[int]:
    """Return the lines' money, no more in all than what is left of the order."""
    return allocate(total, parts) if sum(parts) > total else parts

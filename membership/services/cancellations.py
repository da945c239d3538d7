"""The cancellation of a paid order: a refund of all that is left of it."""

from collections.abc import Sequence
from datetime import datetime

from core.calendar import CLOCK_TOLERANCE
from core.external_ids import find_flaw
from core.models import Program
from core.money import allocate
from membership.fact_checks import cancel_refund_id
from membership.fact_inputs import BadFact, FactConflict, RefundInput, RefundLineInput
from membership.models import Order, Refund
from membership.order_returns import read
from membership.services.edits import lock_order


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
    lines, left, starts = _read_rest(locked)
    is_left = bool(lines) or left > 0
    known = Refund.objects.filter(program=program, external_id=name, member=locked.member).first()
    if known is not None:
        is_same = known.order_id == locked.pk and _is_dated(known, cancelled_at, starts)
        if is_left or not is_same:
            raise FactConflict(kind="refund", external_id=name)
        return None
    if not is_left:
        reason = f"nothing is left of order {order}"
        raise BadFact(field="", external_id=name, reason=reason, code="nothing_left")
    flaw = find_flaw(external_id) if external_id else ""
    if flaw:
        raise BadFact(field="external_id", external_id=name, reason=flaw, code="invalid_value")
    return RefundInput(
        external_id=name,
        member=locked.member.external_id if locked.member else "",
        refunded_at=cancelled_at or at,
        currency=locked.currency,
        amount_minor=left,
        order=order,
        lines=lines,
        is_derived=True,
    )


def _is_dated(known: Refund, cancelled_at: datetime | None, starts: Sequence[datetime]) -> bool:
    """Tell whether a refund was told with an instant, if any. It is kept no earlier than what it brings back."""
    if cancelled_at is None:
        return True
    return known.refunded_at == max([cancelled_at, *(at for at in starts if at <= cancelled_at + CLOCK_TOLERANCE)])


def _read_rest(order: Order) -> tuple[tuple[RefundLineInput, ...], int, list[datetime]]:
    """Return what is left of a locked order: its lines, and all its money, what is no line's included.

    The third part is when its lines were paid or added.
    """
    found = read([order.pk])[order.pk].work_out()
    lines = [found.lines[line.id] for line in found.order.lines]
    left = found.left_minor()
    amounts = _within(left, [line.left_minor for line in lines])
    told = tuple(
        RefundLineInput(
            external_id=line.line.external_id,
            order_line=line.line.external_id,
            units=(line.line.units - line.units) or None,
            amount_minor=amount,
        )
        for line, amount in zip(lines, amounts, strict=True)
        if line.line.units > line.units or amount
    )
    return told, left, [line.since for line in found.order.lines]


def _within(total: int, parts: list[int]) -> list[int]:
    """Return the lines' money, no more in all than what is left of the order."""
    return allocate(total, parts) if sum(parts) > total else parts

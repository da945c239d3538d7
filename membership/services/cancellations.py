"""The cancellation of a paid order: a refund of all that is left of it."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from core.external_ids import find_flaw
from core.models import Program
from core.money import allocate
from membership.fact_checks import cancel_refund_id
from membership.fact_inputs import BadFact, FactConflict, RefundInput, RefundLineInput
from membership.models import Order, Refund, RefundLine
from membership.services.edits import lock_order


class Money(NamedTuple):
    """Minor units of an order's currency, and of its program's."""

    amount: int
    in_program: int


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
    lines, left = _read_rest(locked)
    is_left = bool(lines) or any(left)
    known = Refund.objects.filter(program=program, external_id=name, member=locked.member).first()
    if known is not None:
        is_same = known.order_id == locked.pk and cancelled_at in (None, known.refunded_at)
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
        amount_minor=left.amount,
        program_amount_minor=left.in_program,
        order=order,
        lines=lines,
        is_derived=True,
    )


def _read_rest(order: Order) -> tuple[tuple[RefundLineInput, ...], Money]:
    """Return what is left of a locked order: its lines, and all its money, what is no line's included."""
    paid = [Money(order.amount_minor, order.program_amount_minor)]
    paid += [Money(edit.amount_minor, edit.program_amount_minor) for edit in order.edits.all()]
    by_line: dict[int | None, list[Money]] = defaultdict(list)
    back = [_given_back(order, refund.currency, refund) for refund in Refund.objects.filter(order=order)]
    for part in RefundLine.objects.filter(order_line__order=order).select_related("refund"):
        money = _given_back(order, part.refund.currency, part)
        by_line[part.order_line_id].append(money)
        if part.refund.order_id != order.pk:
            back.append(money)
    left = _less(paid, back)
    lines = list(order.lines.all())
    rest = [_less([Money(line.amount_minor, line.program_amount_minor)], by_line[line.pk]) for line in lines]
    amounts = _within(left.amount, [money.amount for money in rest])
    in_program = _within(left.in_program, [money.in_program for money in rest])
    told = tuple(
        RefundLineInput(
            external_id=line.external_id,
            order_line=line.external_id,
            units=(line.units - line.returned_units) or None,
            amount_minor=amount,
            program_amount_minor=minor,
        )
        for line, amount, minor in zip(lines, amounts, in_program, strict=True)
        if line.units > line.returned_units or amount or minor
    )
    return told, left


def _given_back(order: Order, currency: str, told: Refund | RefundLine) -> Money:
    """Return what was given back; what came in another currency than the order's counts at the order's rate."""
    if currency == order.currency:
        return Money(told.amount_minor, told.program_amount_minor)
    rate = (order.amount_minor, order.program_amount_minor) if order.program_amount_minor else (0, 1)
    return Money(told.program_amount_minor * rate[0] // rate[1], told.program_amount_minor)


def _less(paid: Sequence[Money], back: Sequence[Money]) -> Money:
    """Return what is left; more may have been given back than was paid."""
    amount = sum(money.amount for money in paid) - sum(money.amount for money in back)
    in_program = sum(money.in_program for money in paid) - sum(money.in_program for money in back)
    return Money(max(0, amount), max(0, in_program))


def _within(total: int, parts: list[int]) -> list[int]:
    """Return the lines' money, no more in all than what is left of the order."""
    return allocate(total, parts) if sum(parts) > total else parts

"""Orders that were told wrong: their instant, their amounts and those of their lines, as `fact_corrections` has it.

What is kept beside an order is worked out anew (`returning.recount`): what its refunds count, since when it is back.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from core.calendar import local_date
from core.models import Program
from membership import order_returns
from membership.fact_checks import Checked, Line, check_order, digest_of
from membership.fact_inputs import OrderInput, OrderLineInput
from membership.field_checks import Check, frame_of
from membership.models import FactKind, Order, OrderLine
from membership.services.batch import open_batch
from membership.services.edits import lock_order
from membership.services.fact_corrections import Told, check_correction, find_known, forget_day, tell, write
from membership.services.past_changes import note_facts
from membership.services.returning import recount
from membership.services.tiers import follow_facts

_LINE_FIELDS = ("sku", "category", "units", "amount_minor")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineCorrection:
    """What is right about a line of an order; None: as it is."""

    external_id: str
    units: int | None = None
    amount_minor: int | None = None
    sku: str | None = None
    category: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCorrection:
    """What is right about an order; None, and lines that are not named: as they are.

    Units: minor units of the order's currency; `program_amount_minor` of the program's, as of an order.
    """

    order: str
    external_id: str
    reason: str
    paid_at: datetime | None = None
    amount_minor: int | None = None
    program_amount_minor: int | None = None
    lines: tuple[LineCorrection, ...] = ()


@transaction.atomic
def correct_order(
    *,
    program: Program,
    correction: OrderCorrection,
    decided_by: str,
    last: datetime | None = None,
    at: datetime,
    user: User | None = None,
) -> bool:
    """Correct an order that no edit has changed, and tell whether it is news: told again it has no effect.

    The caller has seen that it paid no checkout.
    last: as for `record_facts`.
    Raises: BadFact; FactConflict for a known correction with other content.
    Locks: the order; then as a late order its member's days and the member.
    """
    order = lock_order(program, correction.order, fact=correction.external_id)
    told = Told(
        FactKind.ORDER, order.pk, order.member_id, correction.external_id, correction.reason, _digest(correction)
    )
    if find_known(told) is not None:
        return False
    check = check_correction(told)
    lines = list(order.lines.order_by("position"))
    right = _check(program, order, lines, correction, check, last=last)
    before, old = _content(order, lines), copy(order)
    _apply(program, order, lines, right)
    row = write(program, told, before=before, after=_content(order, lines), decided_by=decided_by, at=at)
    order.save(update_fields=["paid_at", "local_date", "amount_minor", "program_amount_minor"])
    OrderLine.objects.bulk_update(lines, [*_LINE_FIELDS, "program_amount_minor", "program_paid_in_points_minor"])
    _check_returned(order, old.paid_at, check)
    batch = open_batch(program=program, members=(), at=at)
    day = batch.note(order.member_id, old.paid_at)
    day.orders, day.spend_minor = day.orders - 1, day.spend_minor - old.program_amount_minor
    day = batch.change(order.member_id, order.paid_at)
    day.orders, day.spend_minor = day.orders + 1, day.spend_minor + order.program_amount_minor
    recount(batch, order.pk)
    recorded = batch.finish(told=1)
    follow_facts(program=program, recorded=recorded, at=at)
    if order.member_id is not None:
        forget_day(order.member_id, old.local_date)
        since = min(old.paid_at, order.paid_at)
        note_facts({order.member_id: since}, fact_kind=FactKind.ORDER, fact_id=order.pk)
    member = order.member.external_id if order.member else ""
    tell(program, row, member=member, fact={"fact_kind": "order", "fact": order.external_id}, user=user)
    return True


def _check(
    program: Program,
    order: Order,
    lines: Sequence[OrderLine],
    correction: OrderCorrection,
    check: Check,
    *,
    last: datetime | None,
) -> Checked[OrderInput]:
    """Return what is right about the order, with all its lines.

    Raises: BadFact.
    """
    if order.edits.exists():
        reason = f"order {order.external_id} has been edited: refund what is wrong with it, or edit it again"
        check.refuse("", reason, code="order_edited")
    named = {line.external_id: line for line in correction.lines}
    check.distinct("lines", [line.external_id for line in correction.lines])
    for index, line in enumerate(correction.lines):
        if line.external_id not in {known.external_id for known in lines}:
            check.line(index)
            check.refuse("external_id", f"order {order.external_id} has no such line", code="unknown_line")
    check.line(None)
    right = OrderInput(
        external_id=order.external_id,
        paid_at=correction.paid_at or order.paid_at,
        currency=order.currency,
        amount_minor=order.amount_minor if correction.amount_minor is None else correction.amount_minor,
        program_amount_minor=_program_amount(program, order, correction),
        lines=tuple(_line(line, named.get(line.external_id)) for line in lines),
    )
    checked = check_order(right, replace(frame_of(program, last=last), places=None))
    if checked.objection is not None and checked.objection.field == "lines":
        raise checked.objection
    if not has_amounts(correction):
        checked = replace(checked, program_amount_minor=order.program_amount_minor, lines=())
    if _content(order, lines) == _content(*_preview(program, order, lines, checked)):
        check.refuse("", f"order {order.external_id} says so already", code="nothing_corrected")
    return checked


def has_amounts(correction: OrderCorrection) -> bool:
    """Tell whether more than the instant is corrected."""
    return bool(correction.lines) or (correction.amount_minor, correction.program_amount_minor) != (None, None)


def _program_amount(program: Program, order: Order, correction: OrderCorrection) -> int | None:
    """Return the amount in the program's currency that the order is checked with; None: it has to be derived."""
    if correction.program_amount_minor is not None or order.currency == program.currency:
        return correction.program_amount_minor
    return order.program_amount_minor if correction.amount_minor in (None, order.amount_minor) else None


def _line(line: OrderLine, right: LineCorrection | None) -> OrderLineInput:
    told = {name: getattr(right, name, None) for name in _LINE_FIELDS}
    values = {name: getattr(line, name) if value is None else value for name, value in told.items()}
    return OrderLineInput(
        external_id=line.external_id,
        discount_minor=line.discount_minor,
        paid_in_points_minor=line.paid_in_points_minor,
        **values,
    )


def _preview(
    program: Program, order: Order, lines: Sequence[OrderLine], right: Checked[OrderInput]
) -> tuple[Order, list[OrderLine]]:
    changed, rows = copy(order), [copy(line) for line in lines]
    _apply(program, changed, rows, right)
    return changed, rows


def _apply(program: Program, order: Order, lines: Sequence[OrderLine], right: Checked[OrderInput]) -> None:
    """Say in the rows what is right. Where only the instant is, the lines are as they were."""
    order.paid_at, order.amount_minor = right.told.paid_at, right.told.amount_minor
    order.local_date = local_date(right.told.paid_at, program.time_zone)
    order.program_amount_minor = right.program_amount_minor
    for line, row in zip(lines, right.lines, strict=False):
        _apply_line(line, row)


def _apply_line(line: OrderLine, row: Line) -> None:
    _, _, line.sku, line.category, line.units, line.amount_minor, line.program_amount_minor, _, _, in_points = row
    line.program_paid_in_points_minor = in_points


def _check_returned(order: Order, old_paid_at: datetime, check: Check) -> None:
    """Refuse what is below what has come back of the order or of a line, and an instant after that.

    Raises: BadFact.
    """
    state = order_returns.read([order.pk])[order.pk]
    told = sum(part.amount_minor for part in state.parts)
    if told > order.amount_minor:
        reason = f"{told} of order {order.external_id} have come back: cancel it instead"
        check.refuse("amount_minor", reason, code="more_than_paid")
    for line in state.order.lines:
        named = [part for part in state.parts if part.line_id == line.id]
        if sum(part.units or 0 for part in named) > line.units:
            check.refuse("lines", f"more units of line {line.external_id} have come back", code="too_many_units")
        if sum(part.amount_minor for part in named) > line.amount_minor:
            check.refuse("lines", f"more of line {line.external_id} has come back", code="more_than_paid")
    first = min((part.refunded_at for part in state.parts), default=None)
    if first is not None and old_paid_at < order.paid_at and first < order.paid_at:
        check.refuse("paid_at", f"something of order {order.external_id} came back before", code="before_order")


def _content(order: Order, lines: Sequence[OrderLine]) -> dict[str, Any]:
    """Return what can be corrected of an order, and what follows from it in its own rows."""
    return {
        "paid_at": order.paid_at.astimezone(UTC).isoformat(),
        "local_date": order.local_date.isoformat(),
        "amount_minor": order.amount_minor,
        "program_amount_minor": order.program_amount_minor,
        "lines": [
            {
                "id": line.pk,
                "external_id": line.external_id,
                "sku": line.sku,
                "category": line.category,
                "units": line.units,
                "amount_minor": line.amount_minor,
                "program_amount_minor": line.program_amount_minor,
                "program_paid_in_points_minor": line.program_paid_in_points_minor,
            }
            for line in lines
        ],
    }


def _digest(correction: OrderCorrection) -> bytes:
    paid_at = correction.paid_at.astimezone(UTC).isoformat() if correction.paid_at else None
    lines = [[getattr(line, name) for name in ("external_id", *_LINE_FIELDS)] for line in correction.lines]
    amounts = (correction.amount_minor, correction.program_amount_minor)
    return digest_of(correction.reason.strip(), paid_at, amounts, lines)

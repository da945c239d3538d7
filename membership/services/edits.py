"""Edits of paid orders: lines added after payment, and units taken out, which are a refund.

Paid lines never change. What an edit adds are lines of the same order that count and earn from the edit on; the order
is back when they are back too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from core.calendar import CLOCK_TOLERANCE
from core.models import Program
from membership import locks
from membership.fact_checks import Checked, check_edit, edit_refund_id
from membership.fact_inputs import BadFact, FactConflict, OrderEditInput, RefundInput, RefundLineInput
from membership.field_checks import frame_of
from membership.models import Order, OrderEdit, OrderKey, OrderLine
from membership.refund_checks import check_refund
from membership.refusals import Submitted, accept, first_refusal
from membership.services.batch import Batch, RecordedFacts, open_batch
from membership.services.orders import write_lines
from membership.services.refunds import record_refunds
from membership.services.returning import recount


@transaction.atomic
def record_edit(*, program: Program, edit: OrderEditInput, last: datetime | None = None, at: datetime) -> RecordedFacts:
    """Record a change of a paid order: what it adds, then what it removes as the refund `<order>:<edit>`.

    An edit dated after everything came back is refused; a late one, dated before, makes the order count again.

    last: as for `record_facts`.
    Raises: BadFact; FactConflict for a known edit with other content.
    Locks: the order, then what its refund takes (membership.locks).
    Idempotency: the edit's external id in its order.
    """
    checked = check_edit(edit, frame_of(program, last=last))
    order = lock_order(program, edit.order, fact=edit.external_id)
    known = OrderEdit.objects.filter(order=order, external_id=edit.external_id).first()
    if known is not None:
        if bytes(known.content_digest) != checked.digest:
            raise FactConflict(kind="order edit", external_id=edit.external_id)
        return RecordedFacts(repeated=1)
    accept(checked)
    _check_order(edit, order)
    # What a clock that is behind dated before the order is kept at the order's instant.
    edit = replace(edit, edited_at=max(edit.edited_at, order.paid_at))
    member = order.member.external_id if order.member else ""
    batch = open_batch(program=program, members=[member], at=at)
    _add(batch, order, replace(checked, told=edit))
    removal = _removal(edit, member)
    if removal is not None:
        with _told_as_edit(edit), first_refusal():
            refund = check_refund(removal, frame_of(program))
            record_refunds(batch, Submitted("refund", [refund]), is_bounded=last is not None)
    return batch.finish(told=batch.new)


def lock_order(program: Program, external_id: str, *, fact: str) -> Order:
    """Return an order, locked; its state is read after the lock.

    Raises: BadFact for an order that is not recorded.
    Locks: the order.
    """
    key = OrderKey.objects.filter(program=program, external_id=external_id).first()
    if key is None:
        reason = f"order {external_id} is not recorded"
        raise BadFact(field="order", external_id=fact, reason=reason, code="unknown_order")
    return locks.lock_orders([key.order_id]).get()


def _check_order(edit: OrderEditInput, order: Order) -> None:
    """Refuse an edit in another currency than the order's, well before it, or after all of it has come back."""
    field, reason, code = "", "", ""
    if edit.currency != order.currency:
        field, reason, code = "currency", f"order {edit.order} was paid in {order.currency}", "wrong_currency"
    elif edit.edited_at < order.paid_at - CLOCK_TOLERANCE:
        field, reason, code = "edited_at", f"order {edit.order} was paid later", "before_order"
    elif order.returned_at is not None and edit.edited_at > order.returned_at:
        field, reason, code = "", f"all of order {edit.order} has come back before", "order_returned"
    if code:
        raise BadFact(field=field, external_id=edit.external_id, reason=reason, code=code)


def _add(batch: Batch, order: Order, edit: Checked[OrderEditInput]) -> None:
    """Write the edit and its lines. An order that had come back without them has not, then."""
    told = edit.told
    lines = order.lines.order_by()
    _refuse_known_lines(told, lines)
    row = OrderEdit.objects.create(
        order=order,
        member_id=order.member_id,
        external_id=told.external_id,
        edited_at=told.edited_at,
        local_date=batch.local_date(told.edited_at),
        amount_minor=sum(line.amount_minor for line in told.lines),
        program_amount_minor=edit.program_amount_minor,
        content_digest=edit.digest,
        recorded_at=batch.at,
    )
    batch.edit_ids.append(row.pk)
    batch.note(order.member_id, told.edited_at).spend_minor += edit.program_amount_minor
    if not edit.lines:
        return
    last = max(lines.values_list("position", flat=True))
    write_lines(
        (order.pk, order.member_id, row.pk, (name, last + position, *rest)) for name, position, *rest in edit.lines
    )
    if order.returned_at is not None or order.currency != batch.program.currency:
        recount(batch, order.pk)


def _refuse_known_lines(edit: OrderEditInput, lines: QuerySet[OrderLine]) -> None:
    known = set(lines.values_list("external_id", flat=True))
    for index, line in enumerate(edit.lines):
        if line.external_id in known:
            field, reason = f"lines.{index}.external_id", f"order {edit.order} has a line {line.external_id} already"
            raise BadFact(field=field, external_id=edit.external_id, reason=reason, code="duplicate_line")


def _removal(edit: OrderEditInput, member: str) -> RefundInput | None:
    """Return what an edit takes out as a refund."""
    if not edit.removed:
        return None
    lines = tuple(
        RefundLineInput(
            external_id=line.order_line,
            order_line=line.order_line,
            units=line.units,
            amount_minor=line.amount_minor,
            program_amount_minor=line.program_amount_minor,
        )
        for line in edit.removed
    )
    in_program = [line.program_amount_minor for line in lines if line.program_amount_minor is not None]
    return RefundInput(
        external_id=edit_refund_id(edit.order, edit.external_id),
        member=member,
        refunded_at=edit.edited_at,
        currency=edit.currency,
        amount_minor=sum(line.amount_minor for line in lines),
        program_amount_minor=sum(in_program) if len(in_program) == len(lines) else None,
        order=edit.order,
        lines=lines,
        is_derived=True,
    )


@contextmanager
def _told_as_edit(edit: OrderEditInput) -> Iterator[None]:
    """Name the edit's own fields where its refund is refused."""
    try:
        yield
    except BadFact as error:
        field = {"refunded_at": "edited_at"}.get(error.field, error.field)
        if field.startswith("lines"):
            field = "removed" + field.removeprefix("lines")
        raise BadFact(field=field, external_id=edit.external_id, reason=error.reason, code=error.code) from None

"""The checks that a refund must pass before the database is asked, and its canonical content."""

from collections.abc import Sequence

from membership.fact_checks import Checked, Line, digest_of, program_amounts
from membership.fact_inputs import RefundInput
from membership.field_checks import CODE_LENGTH, ID_LENGTH, MAX_AMOUNT, MAX_COUNT, Check, Frame


def check_refund(refund: RefundInput, frame: Frame) -> Checked[RefundInput]:
    """Check a refund and fill in what it leaves to its program and to its order.

    Raises: BadFact.
    """
    check = Check(refund.external_id, frame)
    check.new_id(refund.external_id, is_derived=refund.is_derived)
    check.text("member", refund.member, ID_LENGTH, empty=True)
    check.text("order", refund.order, ID_LENGTH, empty=True)
    if not refund.order:  # an order's refund is in its currency
        check.place("currency", refund.currency)
    check.currency(refund.currency)
    refunded_at = check.instant("refunded_at", refund.refunded_at)
    amount = _refund_amount(check, refund)
    rows = _refund_lines(check, refund, amount)
    check.number("goodwill_minor", refund.goodwill_minor, 0, MAX_AMOUNT)
    _check_sums(check, refund)
    told = [refund.member, refund.order, refunded_at, refund.currency, refund.amount_minor, amount]
    if refund.goodwill_minor:
        told.append(refund.goodwill_minor)
    key = (refund.external_id, refund.member)
    return Checked(refund, check.external_id, key, digest_of(*told, rows), amount or 0, rows, check.first_objection)


def _refund_amount(check: Check, refund: RefundInput) -> int | None:
    """Return a refund's amount in the program's currency; None where it is not told and its orders' rates say it."""
    currency = check.frame.currency
    if refund.currency == currency or refund.program_amount_minor is not None or not _is_of_orders(refund):
        return check.program_amount(refund, refund.currency, currency)
    check.number("amount_minor", refund.amount_minor, 0, MAX_AMOUNT)
    return None


def _is_of_orders(refund: RefundInput) -> bool:
    """Tell whether an order is named for all that a refund gives back: its rate says what that is in the program's."""
    of_lines = sum(line.amount_minor for line in refund.lines if line.order_line)
    return bool(refund.order) or (bool(refund.lines) and of_lines == refund.amount_minor)


def _check_sums(check: Check, refund: RefundInput) -> None:
    """Object to lines above their refund, and to units of an order that are of none of its lines."""
    total = sum(line.amount_minor for line in refund.lines)
    if total > refund.amount_minor:
        check.objection("lines", f"the lines give back {total}, the refund {refund.amount_minor}")
    for index, line in enumerate(refund.lines):
        if refund.order and line.units is not None and not line.order_line:
            check.line(index)
            check.objection("order_line", f"units of order {refund.order} come back, but no line is named")


def _refund_lines(check: Check, refund: RefundInput, amount: int | None) -> list[Line]:
    for index, line in enumerate(refund.lines):
        check.line(index)
        check.new_id(line.external_id, is_derived=refund.is_derived)
        check.text("sku", line.sku, CODE_LENGTH, empty=True)
        check.text("order", line.order, ID_LENGTH, empty=True)
        check.text("order_line", line.order_line, ID_LENGTH, empty=True)
        check.number("amount_minor", line.amount_minor, 0, MAX_AMOUNT)
        if line.units is not None:
            check.number("units", line.units, 1, MAX_COUNT)
        if line.order_line and not (line.order or refund.order):
            check.refuse("order", "an order line is named, but no order")
    amounts = _refund_line_amounts(check, refund, amount)
    check.distinct("lines", [line.external_id for line in refund.lines])
    return [
        (
            *(line.external_id, (line.order or refund.order) if line.order_line else "", line.order_line),
            *(line.sku, line.units, line.amount_minor, program_amount),
        )
        for line, program_amount in zip(refund.lines, amounts, strict=True)
    ]


def _refund_line_amounts(check: Check, refund: RefundInput, amount: int | None) -> Sequence[int | None]:
    """Return a refund's lines' amounts in the program's currency; None where the orders' rates say them."""
    told = [line.program_amount_minor for line in refund.lines]
    is_partly_told = None in told and told.count(None) < len(told) and refund.currency != check.frame.currency
    if amount is not None and not (is_partly_told and _is_of_orders(refund)):
        return program_amounts(check, refund, refund.lines, amount)
    for index, minor in enumerate(told):
        check.line(index)
        check.number("program_amount_minor", minor or 0, 0, MAX_AMOUNT)
    return told

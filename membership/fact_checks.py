"""The checks that a fact must pass before the database is asked, and its canonical content.

A checked fact has every default filled in: program amounts, the one line of an order told without lines. Its
digest is taken over that form, so an amount left out and the same amount told are the same content.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from core.money import allocate
from membership.fact_inputs import (
    ActivityInput,
    BadFact,
    CreditInput,
    MemberInput,
    OrderEditInput,
    OrderInput,
    OrderLineInput,
    RefundInput,
    RefundLineInput,
)
from membership.field_checks import (
    CODE_LENGTH,
    COUNTRY_LENGTH,
    EARLIEST,
    ID_LENGTH,
    LOCALE_LENGTH,
    MAX_AMOUNT,
    MAX_COUNT,
    MAX_QUALITY,
    NAME_LENGTH,
    Check,
    Frame,
)

DIGEST_BYTES = 16
T = TypeVar("T", OrderInput, OrderEditInput, RefundInput, ActivityInput, CreditInput)
Line = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Checked(Generic[T]):
    """A fact that is sound in itself; `key` is what makes it unique in its program, `name` what messages call it.

    `lines` of an order or an edit: external_id, position, sku, category, units, amount, program amount, discount, what
    of both amounts was paid in points.
    `lines` of a refund: external_id, order, order_line, sku, units, amount, program amount. The program amounts of what
    an order names need not be told: 0 and None, the order's rate says them.
    `objection`: why it is refused if it is new; what was recorded before there were such rules is still repeated.
    """

    told: T
    name: str
    key: tuple[str, ...]
    digest: bytes
    program_amount_minor: int = 0
    lines: Sequence[Line] = ()
    objection: BadFact | None = None


def check_order(order: OrderInput, frame: Frame) -> Checked[OrderInput]:
    """Check an order and fill in what it leaves to its program.

    Raises: BadFact.
    """
    check, currency = Check(order.external_id, frame), frame.currency
    check.new_id(order.external_id)
    check.text("member", order.member, ID_LENGTH, empty=True)
    for name in ("currency", "market", "country", "channel"):
        check.place(name, getattr(order, name))
    for name in ("market", "country", "channel", "device"):
        check.text(name, getattr(order, name), NAME_LENGTH, empty=True)
    check.currency(order.currency)
    paid_at = check.instant("paid_at", order.paid_at)
    amount = check.program_amount(order, order.currency, currency)
    lines = order.lines or (OrderLineInput(external_id="1", units=1, amount_minor=order.amount_minor),)
    above = order.amount_minor - sum(line.amount_minor for line in lines)
    rows = _order_lines(check, order, lines, amount, max(0, above))
    # The digest is that of the first release, whose lines shared an amount in another currency without the shipping.
    told_rows = _order_lines(check, order, lines, amount) if above and order.currency != currency else rows
    told = (order.member, paid_at, order.currency, order.amount_minor, amount)
    place = [order.market, order.country, order.channel, order.device]
    if order.checkout:
        place.append(order.checkout)
    digest = digest_of(*told, *place, told_rows)
    if above < 0:
        reason = f"the lines cost {order.amount_minor - above}, the order {order.amount_minor}"
        check.objection("lines", f"{reason}: tell what was paid for each, and discounts as discount_minor")
    return Checked(order, check.external_id, (order.external_id,), digest, amount, rows, check.first_objection)


def _order_lines(
    check: Check, fact: OrderInput | OrderEditInput, lines: Sequence[OrderLineInput], amount: int, shipping: int = 0
) -> list[Line]:
    for index, line in enumerate(lines):
        check.line(index)
        check.new_id(line.external_id)
        check.text("sku", line.sku, CODE_LENGTH, empty=True)
        check.text("category", line.category, CODE_LENGTH, empty=True)
        check.number("units", line.units, 1, MAX_COUNT)
        check.number("amount_minor", line.amount_minor, 0, MAX_AMOUNT)
        check.number("discount_minor", line.discount_minor, 0, MAX_AMOUNT)
        check.number("paid_in_points_minor", line.paid_in_points_minor, 0, line.amount_minor)
    amounts = program_amounts(check, fact, lines, amount, shipping)
    check.distinct("lines", [line.external_id for line in lines])
    return [
        (
            *(line.external_id, position, line.sku, line.category, line.units),
            *(line.amount_minor, program_amount, line.discount_minor, line.paid_in_points_minor),
            _program_share(line, program_amount),
        )
        for position, (line, program_amount) in enumerate(zip(lines, amounts, strict=True), 1)
    ]


def _program_share(line: OrderLineInput, program_amount: int) -> int:
    """Return the part of a line's program amount that was paid in points."""
    paid = line.paid_in_points_minor
    return allocate(program_amount, [paid, line.amount_minor - paid])[0] if paid else 0


def check_edit(edit: OrderEditInput, frame: Frame) -> Checked[OrderEditInput]:
    """Check an edit and what it adds; what it removes is checked as the refund that it becomes.

    Raises: BadFact.
    """
    check = Check(edit.external_id, frame)
    check.new_id(edit.external_id)
    check.text("order", edit.order, ID_LENGTH)
    check.currency(edit.currency)
    edited_at = check.instant("edited_at", edit.edited_at)
    if not edit.lines and not edit.removed:
        check.refuse("lines", "nothing is added and nothing removed")
    told = [line.program_amount_minor for line in edit.lines]
    if edit.currency != frame.currency and None in told:
        reason = f"{edit.currency} needs the amount in {frame.currency} told with each line"
        check.refuse("currency", reason, code="wrong_currency")
    rows = _order_lines(check, edit, edit.lines, 0)
    removed = [
        (line.order_line, line.units, line.amount_minor, minor if minor is not None else line.amount_minor)
        for line in edit.removed
        for minor in [line.program_amount_minor]
    ]
    digest = digest_of(edited_at, edit.currency, rows, removed)
    amount = sum(row[6] for row in rows)
    check.number("lines", max(amount, sum(line.amount_minor for line in edit.lines)), 0, MAX_AMOUNT)
    return Checked(edit, check.external_id, (edit.order, edit.external_id), digest, amount, rows, check.first_objection)


def program_amounts(
    check: Check,
    fact: OrderInput | OrderEditInput | RefundInput,
    lines: Sequence[OrderLineInput | RefundLineInput],
    amount: int,
    shipping: int = 0,
) -> list[int]:
    """Return the lines' amounts in the program's currency: told, the same currency's, or a share of the fact's.

    shipping: what the fact costs above its lines; it has a share too.
    """
    told = [line.program_amount_minor for line in lines if line.program_amount_minor is not None]
    currency = check.frame.currency
    if fact.currency == currency or len(told) == len(lines):
        return [check.program_amount(line, fact.currency, currency, index) for index, line in enumerate(lines)]
    if told:
        check.line(None)
        check.refuse("lines", "tell the program amount of every line or of none")
    return allocate(amount, [*(line.amount_minor for line in lines), shipping])[:-1]


def check_activity(activity: ActivityInput, frame: Frame) -> Checked[ActivityInput]:
    """Check an activity.

    Raises: BadFact.
    """
    check = Check(activity.external_id, frame)
    check.new_id(activity.external_id)
    check.text("member", activity.member, ID_LENGTH)
    check.text("kind", activity.kind, NAME_LENGTH)
    check.text("source", activity.source, NAME_LENGTH, empty=True)
    check.text("order", activity.order, ID_LENGTH, empty=True)
    check.text("product", activity.product, CODE_LENGTH, empty=True)
    occurred_at = check.instant("occurred_at", activity.occurred_at)
    if activity.quality is not None:
        check.number("quality", activity.quality, -MAX_QUALITY, MAX_QUALITY)
    key = (activity.member, activity.source, activity.external_id)
    subject = [activity.order, activity.product] if activity.order or activity.product else []
    digest = digest_of(activity.kind, occurred_at, activity.quality, *subject)
    return Checked(activity, check.external_id, key, digest, objection=check.first_objection)


def check_credit(credit: CreditInput, frame: Frame) -> Checked[CreditInput]:
    """Check a qualifying credit, which its source and rule name.

    Raises: BadFact.
    """
    check = Check(f"{credit.source} {credit.rule}", frame)
    check.text("member", credit.member, ID_LENGTH)
    check.text("source", credit.source, ID_LENGTH)
    check.text("rule", credit.rule, CODE_LENGTH)
    check.number("credits", credit.credits, -MAX_COUNT, MAX_COUNT)
    effective_at = check.instant("effective_at", credit.effective_at)
    return Checked(
        credit, check.external_id, (credit.member, credit.source, credit.rule), digest_of(credit.credits, effective_at)
    )


def check_member(member: MemberInput, frame: Frame) -> BadFact | None:
    """Check someone to enroll, and return why they are refused if they are new.

    Raises: BadFact.
    """
    check = Check(member.external_id, frame)
    check.new_id(member.external_id)
    check.text("locale", member.locale, LOCALE_LENGTH, empty=True)
    check.text("country", member.country, COUNTRY_LENGTH, empty=True)
    check.place("country", member.country)
    check.instant("joined_at", member.joined_at)
    if member.birthday is not None and not EARLIEST.date() <= member.birthday <= frame.last.date():
        check.refuse("birthday", "is not the birthday of someone alive")
    return check.first_objection


def edit_refund_id(order: str, edit: str) -> str:
    """Return the external id of the refund of what an edit takes out."""
    return _derived_id(f"{order}:{edit}")


def cancel_refund_id(order: str) -> str:
    """Return the external id of the refund that a cancellation is, unless it is told."""
    return _derived_id(f"{order}:cancel")


def _derived_id(text: str) -> str:
    if len(text) <= ID_LENGTH:
        return text
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def digest_of(*content: object) -> bytes:
    """Return what tells two contents of a fact apart."""
    canonical = json.dumps(content, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=DIGEST_BYTES).digest()

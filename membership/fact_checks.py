"""The checks that a fact must pass before the database is asked, and its canonical content.

A checked fact has every default filled in: program amounts, the one line of an order told without lines. Its
digest is taken over that form, so an amount left out and the same amount told are the same content.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, NoReturn, TypeVar

from core.calendar import day_start
from core.models import Program
from core.money import allocate
from membership.fact_inputs import (
    ActivityInput,
    BadFact,
    CreditInput,
    FactConflict,
    MemberInput,
    OrderEditInput,
    OrderInput,
    OrderLineInput,
    RefundInput,
    RefundLineInput,
)

DIGEST_BYTES = 16
# Exact in every JSON reader, and a thousand of them still sum to a bigint.
MAX_AMOUNT = 2**53 - 1
MAX_COUNT = 2**31 - 1
MAX_QUALITY = 2**15 - 1

# Years in which something may have happened. What lies outside is a placeholder such as 9999-12-31, and would take its
# member through every evaluation until then.
EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)

ID_LENGTH = 200
CODE_LENGTH = 100
NAME_LENGTH = 63
LOCALE_LENGTH = 15
COUNTRY_LENGTH = 2

T = TypeVar("T", OrderInput, OrderEditInput, RefundInput, ActivityInput, CreditInput)
Line = tuple[Any, ...]
_Amounts = OrderInput | OrderLineInput | RefundInput | RefundLineInput


@dataclass(frozen=True, slots=True)
class Frame:
    """What all facts of a program have in common: its currency, and from when to when they may have happened."""

    currency: str
    first: datetime = EARLIEST
    last: datetime = LATEST


def frame_of(program: Program, *, last: datetime | None = None) -> Frame:
    """Return the frame of a program's facts. `last`: what is dated after it is refused; None: any date."""
    first = day_start(program.start_date, program.time_zone) if program.start_date else EARLIEST
    return Frame(program.currency, first, last or LATEST)


@dataclass(frozen=True, slots=True)
class Checked(Generic[T]):
    """A fact that is sound in itself; `key` is what makes it unique in its program, `name` what messages call it.

    `lines` of an order or an edit: external_id, position, sku, category, units, amount, program amount, discount, what
    of both amounts was paid in points.
    `lines` of a refund: external_id, order, order_line, sku, units, amount, program amount.
    """

    told: T
    name: str
    key: tuple[str, ...]
    digest: bytes
    program_amount_minor: int = 0
    lines: Sequence[Line] = ()


def check_order(order: OrderInput, frame: Frame) -> Checked[OrderInput]:
    """Check an order and fill in what it leaves to its program.

    Raises: BadFact.
    """
    check, currency = _Check(order.external_id, frame), frame.currency
    check.text("external_id", order.external_id, ID_LENGTH)
    check.text("member", order.member, ID_LENGTH, empty=True)
    for name in ("market", "country", "channel", "device"):
        check.text(name, getattr(order, name), NAME_LENGTH, empty=True)
    check.currency(order.currency)
    paid_at = check.instant("paid_at", order.paid_at)
    amount = check.program_amount(order, order.currency, currency)
    lines = order.lines or (OrderLineInput(external_id="1", units=1, amount_minor=order.amount_minor),)
    rows = _order_lines(check, order, lines, amount)
    told = (order.member, paid_at, order.currency, order.amount_minor, amount)
    place = [order.market, order.country, order.channel, order.device]
    if order.checkout:
        place.append(order.checkout)
    return Checked(order, check.external_id, (order.external_id,), _digest(*told, *place, rows), amount, rows)


def _order_lines(
    check: "_Check", fact: OrderInput | OrderEditInput, lines: Sequence[OrderLineInput], amount: int
) -> list[Line]:
    for index, line in enumerate(lines):
        check.line(index)
        check.text("external_id", line.external_id, ID_LENGTH)
        check.text("sku", line.sku, CODE_LENGTH, empty=True)
        check.text("category", line.category, CODE_LENGTH, empty=True)
        check.number("units", line.units, 1, MAX_COUNT)
        check.number("amount_minor", line.amount_minor, 0, MAX_AMOUNT)
        check.number("discount_minor", line.discount_minor, 0, MAX_AMOUNT)
        check.number("paid_in_points_minor", line.paid_in_points_minor, 0, line.amount_minor)
    amounts = _program_amounts(check, fact, lines, amount)
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
    check = _Check(edit.external_id, frame)
    check.text("external_id", edit.external_id, ID_LENGTH)
    check.text("order", edit.order, ID_LENGTH)
    check.currency(edit.currency)
    edited_at = check.instant("edited_at", edit.edited_at)
    if not edit.lines and not edit.removed:
        check.refuse("lines", "nothing is added and nothing removed")
    told = [*(line.program_amount_minor for line in edit.lines), *(line.program_amount_minor for line in edit.removed)]
    if edit.currency != frame.currency and None in told:
        reason = f"{edit.currency} needs the amount in {frame.currency} told with each line"
        check.refuse("currency", reason, code="wrong_currency")
    rows = _order_lines(check, edit, edit.lines, 0)
    removed = [
        (line.order_line, line.units, line.amount_minor, minor if minor is not None else line.amount_minor)
        for line in edit.removed
        for minor in [line.program_amount_minor]
    ]
    digest = _digest(edited_at, edit.currency, rows, removed)
    amount = sum(row[6] for row in rows)
    check.number("lines", max(amount, sum(line.amount_minor for line in edit.lines)), 0, MAX_AMOUNT)
    return Checked(edit, check.external_id, (edit.order, edit.external_id), digest, amount, rows)


def check_refund(refund: RefundInput, frame: Frame) -> Checked[RefundInput]:
    """Check a refund and fill in what it leaves to its program and to its order.

    Raises: BadFact.
    """
    check = _Check(refund.external_id, frame)
    check.text("external_id", refund.external_id, ID_LENGTH)
    check.text("member", refund.member, ID_LENGTH, empty=True)
    check.text("order", refund.order, ID_LENGTH, empty=True)
    check.currency(refund.currency)
    refunded_at = check.instant("refunded_at", refund.refunded_at)
    amount = check.program_amount(refund, refund.currency, frame.currency)
    rows = _refund_lines(check, refund, amount)
    told = (refund.member, refund.order, refunded_at, refund.currency, refund.amount_minor, amount)
    return Checked(refund, check.external_id, (refund.external_id, refund.member), _digest(*told, rows), amount, rows)


def _refund_lines(check: "_Check", refund: RefundInput, amount: int) -> list[Line]:
    for index, line in enumerate(refund.lines):
        check.line(index)
        check.text("external_id", line.external_id, ID_LENGTH)
        check.text("sku", line.sku, CODE_LENGTH, empty=True)
        check.text("order", line.order, ID_LENGTH, empty=True)
        check.text("order_line", line.order_line, ID_LENGTH, empty=True)
        check.number("amount_minor", line.amount_minor, 0, MAX_AMOUNT)
        if line.units is not None:
            check.number("units", line.units, 1, MAX_COUNT)
        if line.order_line and not (line.order or refund.order):
            check.refuse("order", "an order line is named, but no order")
    amounts = _program_amounts(check, refund, refund.lines, amount)
    check.distinct("lines", [line.external_id for line in refund.lines])
    return [
        (
            *(line.external_id, (line.order or refund.order) if line.order_line else "", line.order_line),
            *(line.sku, line.units, line.amount_minor, program_amount),
        )
        for line, program_amount in zip(refund.lines, amounts, strict=True)
    ]


def _program_amounts(
    check: "_Check",
    fact: OrderInput | OrderEditInput | RefundInput,
    lines: Sequence[OrderLineInput | RefundLineInput],
    amount: int,
) -> list[int]:
    """Return the lines' amounts in the program's currency: told, the same currency's, or a share of the fact's."""
    told = [line.program_amount_minor for line in lines if line.program_amount_minor is not None]
    currency = check.frame.currency
    if fact.currency == currency or len(told) == len(lines):
        return [check.program_amount(line, fact.currency, currency, index) for index, line in enumerate(lines)]
    if told:
        check.line(None)
        check.refuse("lines", "tell the program amount of every line or of none")
    return allocate(amount, [line.amount_minor for line in lines])


def check_activity(activity: ActivityInput, frame: Frame) -> Checked[ActivityInput]:
    """Check an activity.

    Raises: BadFact.
    """
    check = _Check(activity.external_id, frame)
    check.text("external_id", activity.external_id, ID_LENGTH)
    check.text("member", activity.member, ID_LENGTH)
    check.text("kind", activity.kind, NAME_LENGTH)
    check.text("source", activity.source, NAME_LENGTH, empty=True)
    occurred_at = check.instant("occurred_at", activity.occurred_at)
    if activity.quality is not None:
        check.number("quality", activity.quality, -MAX_QUALITY, MAX_QUALITY)
    key = (activity.member, activity.source, activity.external_id)
    return Checked(activity, check.external_id, key, _digest(activity.kind, occurred_at, activity.quality))


def check_credit(credit: CreditInput, frame: Frame) -> Checked[CreditInput]:
    """Check a qualifying credit, which its source and rule name.

    Raises: BadFact.
    """
    check = _Check(f"{credit.source} {credit.rule}", frame)
    check.text("member", credit.member, ID_LENGTH)
    check.text("source", credit.source, ID_LENGTH)
    check.text("rule", credit.rule, CODE_LENGTH)
    check.number("credits", credit.credits, -MAX_COUNT, MAX_COUNT)
    effective_at = check.instant("effective_at", credit.effective_at)
    return Checked(
        credit, check.external_id, (credit.member, credit.source, credit.rule), _digest(credit.credits, effective_at)
    )


def check_member(member: MemberInput, *, last: datetime = LATEST) -> None:
    """Check someone to enroll. `last`: who joins after it, or is born after its day, is refused.

    Raises: BadFact.
    """
    check = _Check(member.external_id, Frame("", last=last))
    check.text("external_id", member.external_id, ID_LENGTH)
    check.text("locale", member.locale, LOCALE_LENGTH, empty=True)
    check.text("country", member.country, COUNTRY_LENGTH, empty=True)
    check.instant("joined_at", member.joined_at)
    if member.birthday is not None and not EARLIEST.date() <= member.birthday <= last.date():
        check.refuse("birthday", "is not the birthday of someone alive")


def take_once(kind: str, facts: Iterable[Checked[T]]) -> dict[tuple[str, ...], Checked[T]]:
    """Return the facts by key, in key order: the order in which every call claims them, so that none deadlock.

    Raises: FactConflict if one key comes with two contents.
    """
    taken: dict[tuple[str, ...], Checked[T]] = {}
    for fact in facts:
        if taken.setdefault(fact.key, fact).digest != fact.digest:
            raise FactConflict(kind=kind, external_id=fact.name)
    return dict(sorted(taken.items()))


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


def _digest(*content: object) -> bytes:
    canonical = json.dumps(content, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=DIGEST_BYTES).digest()


@dataclass(slots=True)
class _Check:
    """Refuse what is wrong with one fact, naming the field: `lines.3.units` in its fourth line."""

    external_id: str
    frame: Frame = Frame("")
    _place: str = ""

    def line(self, index: int | None) -> None:
        """Say which line the next checks are about; None for the fact itself."""
        self._place = "" if index is None else f"lines.{index}."

    def refuse(self, field: str, reason: str, code: str = "invalid_value") -> NoReturn:
        raise BadFact(field=f"{self._place}{field}", external_id=self.external_id, reason=reason, code=code)

    def text(self, field: str, value: str, length: int, *, empty: bool = False) -> None:
        if not value and not empty:
            self.refuse(field, "is empty")
        if len(value) > length:
            self.refuse(field, f"is longer than {length} characters")
        if not value.isascii() or "\0" in value:
            self._storable(field, value)

    def _storable(self, field: str, value: str) -> None:
        # PostgreSQL stores neither U+0000 nor halves of surrogate pairs, both of which JSON can carry.
        if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            self.refuse(field, "holds a character that cannot be stored")

    def number(self, field: str, value: int, least: int, most: int) -> None:
        if not least <= value <= most:
            self.refuse(field, f"{value} is not between {least} and {most}")

    def currency(self, value: str) -> None:
        if len(value) != 3 or not (value.isascii() and value.isalpha() and value.isupper()):
            self.refuse("currency", f"{value!r} is not an ISO 4217 code")

    def instant(self, field: str, value: datetime) -> str:
        """Return the instant in its canonical form."""
        if value.utcoffset() is None:
            self.refuse(field, "has no UTC offset")
        if not EARLIEST <= value < LATEST:
            self.refuse(field, f"is not between {EARLIEST:%Y} and {LATEST:%Y}")
        if value < self.frame.first:
            self.refuse(field, "is before the program began", code="before_program")
        if value > self.frame.last:
            self.refuse(field, "lies in the future", code="in_future")
        return value.astimezone(UTC).isoformat()

    def program_amount(self, told: _Amounts, told_currency: str, currency: str, line: int | None = None) -> int:
        """Return an amount in the program's currency."""
        self.line(line)
        self.number("amount_minor", told.amount_minor, 0, MAX_AMOUNT)
        amount = told.program_amount_minor
        if amount is None:
            if told_currency != currency:
                reason = f"{told_currency} needs the amount in {currency} told with it"
                self.refuse("currency", reason, code="wrong_currency")
            return told.amount_minor
        self.number("program_amount_minor", amount, 0, MAX_AMOUNT)
        if told_currency == currency and amount != told.amount_minor:
            self.refuse("program_amount_minor", f"differs from the amount, which is in {currency} too")
        return amount

    def distinct(self, field: str, external_ids: Sequence[str]) -> None:
        self.line(None)
        if len(set(external_ids)) != len(external_ids):
            twice = next(name for index, name in enumerate(external_ids) if name in external_ids[:index])
            self.refuse(field, f"line {twice} comes twice", code="duplicate_line")

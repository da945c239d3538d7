"""Refunds and their lines on their way in."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from django.db import connection

from core.calendar import CLOCK_TOLERANCE
from membership import locks
from membership.fact_checks import Checked
from membership.fact_inputs import BadFact, RefundInput
from membership.order_returns import Found, Key, ToldLine, ToldRefund, find
from membership.refusals import Submitted, accept
from membership.returns import PaidLine, PaidOrder, left_for
from membership.services.batch import Batch, columns, copy_rows
from membership.services.returning import Counted, Returning

_ORDER_IDS = "SELECT external_id, order_id FROM membership_orderkey WHERE program_id = %s AND external_id = ANY(%s)"

_INSERT_REFUNDS = """
    INSERT INTO membership_refund (program_id, recorded_at, member_id, order_id, external_id, refunded_at, local_date,
        currency, amount_minor, program_amount_minor, counted_minor, goodwill_minor, content_digest)
    SELECT %s, %s, told.* FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::timestamptz[], %s::date[],
        %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[]) AS told
    ON CONFLICT (program_id, external_id, member_id) DO NOTHING
    RETURNING external_id, member_id, id"""

_REFUND_LINE_TEXTS = ("external_id", "sku")
_REFUND_LINE_COLUMNS = (
    *("refund_id", "member_id", "order_line_id", "units", "amount_minor", "program_amount_minor", "counted_minor"),
    *_REFUND_LINE_TEXTS,
)


def record_refunds(batch: Batch, refunds: Submitted[RefundInput], *, is_bounded: bool) -> None:
    """Write the refunds that are new, and what came back of the orders they touch.

    is_bounded: refuse what gives back more than is left of what was paid; else the excess is kept and takes nothing.
    Raises: RefusedFacts, with all that are refused.
    Locks: the orders touched, in ascending id; waits for another transaction that is writing one of these refunds.
    """
    refunds.check(batch.member_of)
    names, found = _read(batch, list(refunds))
    orders = {name: found.orders[order_id].order for name, order_id in names.items()}
    returning = Returning(batch, found.orders)
    new, rows = _take(batch, refunds, found.digests, _Taking(orders, returning, is_bounded))
    refunds.raise_refusals()
    counted = returning.count()
    refund_ids = _insert(batch, new, rows, counted)
    _refuse_late(batch, refunds, {key: refund for key, refund in new.items() if key not in refund_ids})
    batch.refund_ids.extend(sorted(refund_ids.values()))
    batch.places |= {("refund", refund_id): refunds.indexes(new[key]) for key, refund_id in refund_ids.items()}
    _write_lines(new, rows, counted, refund_ids)
    returning.write(refund_ids)
    for key in refund_ids:
        batch.note(key[1], rows[key].refunded_at).refunds_minor += _total(rows[key], counted)


@dataclass(frozen=True, slots=True)
class _Taking:
    """What new refunds are checked against and added to. `orders`: those that they name, by external id."""

    orders: Mapping[str, PaidOrder]
    returning: Returning
    is_bounded: bool

    def take(self, refund: Checked[RefundInput], member_id: int | None) -> ToldRefund:
        """Add a new refund to the orders it touches.

        Raises: BadFact.
        """
        accept(refund)
        _check_orders(refund, member_id, self.orders)
        told = _resolve(refund, member_id, self.orders)
        _check_units(told, self.returning)
        if self.is_bounded:
            _check_amounts(told, self.returning)
        self.returning.add(told)
        return told


def _take(
    batch: Batch, refunds: Submitted[RefundInput], digests: Mapping[Key, bytes], taking: _Taking
) -> tuple[dict[Key, Checked[RefundInput]], dict[Key, ToldRefund]]:
    """Take the refunds that are new, in the order of their dates: as they came, and with the ids of what they name."""
    new: dict[Key, Checked[RefundInput]] = {}
    rows: dict[Key, ToldRefund] = {}
    firsts = (contents[0] for contents in map(refunds.of, refunds.contents) if contents)
    for first in sorted(firsts, key=lambda refund: (refund.told.refunded_at, refund.key)):
        key = (first.told.external_id, batch.member_of(first))
        found = refunds.take(first.key, digests.get(key), partial(taking.take, member_id=key[1]))
        if found is not None:
            new[key], rows[key] = found
    return new, rows


def _read(batch: Batch, refunds: Sequence[Checked[RefundInput]]) -> tuple[dict[str, int], Found]:
    """Lock the orders that refunds or their lines name, then read them: nothing comes back of them meanwhile."""
    names = {name for refund in refunds for name in _named(refund)}
    ids: dict[str, int] = {}
    if names:
        with connection.cursor() as cursor:
            cursor.execute(_ORDER_IDS, [batch.program.pk, list(names)])
            ids = dict(cursor.fetchall())
        list(locks.lock_orders(list(ids.values())).values_list("pk"))
    named = {refund.told.external_id for refund in refunds}
    return ids, find(order_ids=ids.values(), program_id=batch.program.pk, names=named)


def _named(refund: Checked[RefundInput]) -> Iterator[str]:
    """Yield the orders that a refund or its lines name."""
    yield from (name for name in (refund.told.order, *(line[1] for line in refund.lines)) if name)


def _refuse_late(batch: Batch, refunds: Submitted[RefundInput], late: Mapping[Key, Checked[RefundInput]]) -> None:
    """Refuse those whose key another transaction has just given another content, which no order's lock held back."""
    if late:
        digests = find(order_ids=(), program_id=batch.program.pk, names={name for name, _ in late}).digests
        for key, refund in late.items():
            refunds.take(refund.key, digests[key], accept)
        refunds.raise_refusals()


def _check_orders(refund: Checked[RefundInput], member_id: int | None, orders: Mapping[str, PaidOrder]) -> None:
    """Refuse a refund of an order that is unknown, another member's, not paid yet, or paid in another currency."""
    told, places = refund.told, {"order": refund.told.order}

    def refuse(field: str, reason: str, code: str) -> NoReturn:
        raise BadFact(field=field, external_id=told.external_id, reason=reason, code=code)

    places |= {f"lines.{index}.order": line[1] for index, line in enumerate(refund.lines)}
    for field, name in places.items():
        if not name:
            continue
        order = orders.get(name)
        if order is None:
            refuse(field, f"order {name} is not recorded", "unknown_order")
        if order.member_id != member_id:
            refuse(field, f"order {name} belongs to another member", "other_member")
        if told.refunded_at < order.paid_at - CLOCK_TOLERANCE:
            refuse("refunded_at", f"order {name} was paid later", "before_order")
        if told.currency != order.currency:
            refuse("currency", f"order {name} was paid in {order.currency}", "wrong_currency")


def _resolve(refund: Checked[RefundInput], member_id: int | None, orders: Mapping[str, PaidOrder]) -> ToldRefund:
    """Return a refund with the ids of the orders and lines that it names, and no earlier than those.

    One that a clock which is behind dated before them is kept at their instant: nothing comes back before it is paid.
    """
    told, lines = refund.told, []
    refunded_at = max([told.refunded_at, *(orders[name].paid_at for name in _named(refund))])
    paid = {name: {line.external_id: line for line in orders[name].lines} for _, name, *_ in refund.lines if name}
    for index, (name, order, order_line, _, units, minor, program_minor) in enumerate(refund.lines):
        place: tuple[int | None, int | None] = (None, None)
        if order_line:
            line = _check_line(told, index, order, order_line, paid[order].get(order_line))
            place, refunded_at = (orders[order].id, line.id), max(refunded_at, line.since)
        lines.append(ToldLine(name, minor, units, *place, recorded_minor=program_minor or 0))
    return ToldRefund(
        external_id=told.external_id,
        member_id=member_id,
        refunded_at=refunded_at,
        currency=told.currency,
        amount_minor=told.amount_minor,
        order_id=orders[told.order].id if told.order else None,
        lines=tuple(lines),
        recorded_minor=refund.program_amount_minor,
    )


def _check_line(told: RefundInput, index: int, order: str, name: str, line: PaidLine | None) -> PaidLine:
    """Refuse a line that its order does not have, or not yet."""
    if line is None:
        field, reason = f"lines.{index}.order_line", f"order {order} has no line {name}"
        raise BadFact(field=field, external_id=told.external_id, reason=reason, code="unknown_line")
    if told.refunded_at < line.since - CLOCK_TOLERANCE:
        reason = f"line {name} of order {order} was added later"
        raise BadFact(field="refunded_at", external_id=told.external_id, reason=reason, code="before_order")
    return line


def _check_units(refund: ToldRefund, returning: Returning) -> None:
    """Refuse a unit more than was paid, whenever the others came back."""
    more: dict[int, int] = {}
    for index, line in enumerate(refund.lines):
        if line.order_id is None or line.line_id is None or line.units is None:
            continue
        known = returning.found(line.order_id).lines[line.line_id]
        left = known.line.units - known.units - more.get(line.line_id, 0)
        if line.units > left:
            reason = f"{line.units} come back, but only {left} are left"
            field = f"lines.{index}.units"
            raise BadFact(field=field, external_id=refund.external_id, reason=reason, code="too_many_units")
        more[line.line_id] = more.get(line.line_id, 0) + line.units


def _check_amounts(refund: ToldRefund, returning: Returning) -> None:
    """Refuse to give back more than is left of a line by the refunds that name it, or of an order by all of its."""

    def refuse(field: str, amount: int, left: int, of: str) -> NoReturn:
        reason = f"{amount} come back, but only {left} are left of {of}; what is given on top is goodwill_minor"
        raise BadFact(field=field, external_id=refund.external_id, reason=reason, code="more_than_paid")

    more: dict[int, int] = defaultdict(int)
    for index, line in enumerate(refund.lines):
        if line.order_id is not None and line.line_id is not None:
            known = returning.found(line.order_id).lines[line.line_id]
            left = known.line.amount_minor - known.named_minor - more[line.line_id]
            if line.amount_minor > left:
                refuse(f"lines.{index}.amount_minor", line.amount_minor, left, f"line {known.line.external_id}")
            more[line.line_id] += line.amount_minor
    told: dict[int, int] = defaultdict(int)
    for order_id, part in returning.parts_of(refund):
        told[order_id] += part.amount_minor
    for order_id, amount in told.items():
        state = returning.orders[order_id]
        left = left_for(state.order, state.parts, refund.refunded_at)
        if amount > left:
            refuse("amount_minor", amount, left, f"order {state.order.external_id}")


def _insert(
    batch: Batch, new: Mapping[Key, Checked[RefundInput]], rows: Mapping[Key, ToldRefund], counted: Counted
) -> dict[Key, int]:
    """Insert the refunds and return their ids, without those that another transaction has just written."""
    values = [
        (
            *(key[1], told.order_id, told.external_id, told.refunded_at, batch.local_date(told.refunded_at)),
            *(told.currency, told.amount_minor, new[key].program_amount_minor or total, total),
            *(new[key].told.goodwill_minor, new[key].digest),
        )
        for key, told in rows.items()
        for total in [_total(told, counted)]
    ]
    if not values:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_REFUNDS, [batch.program.pk, batch.at, *columns(values)])
        return {(name, member_id): refund_id for name, member_id, refund_id in cursor.fetchall()}


def _write_lines(
    new: Mapping[Key, Checked[RefundInput]],
    rows: Mapping[Key, ToldRefund],
    counted: Counted,
    refund_ids: Mapping[Key, int],
) -> None:
    lines = [
        (
            *(refund_ids[key], key[1], line.line_id, line.units, line.amount_minor),
            *(minor if program_minor is None else program_minor, minor, line.external_id, sku),
        )
        for key, refund in rows.items()
        if key in refund_ids
        for line, (_, _, _, sku, _, _, program_minor) in zip(refund.lines, new[key].lines, strict=True)
        for minor in [counted.get((key, line.external_id), line.recorded_minor)]
    ]
    if lines:
        copy_rows("membership_refundline", _REFUND_LINE_COLUMNS, lines, texts=_REFUND_LINE_TEXTS)


def _total(refund: ToldRefund, counted: Counted) -> int:
    """Return what a new refund counts against spend: at its orders' rates, what no order names as recorded."""
    key = (refund.external_id, refund.member_id)
    names = (*(line.external_id for line in refund.lines), "")
    of_orders = [counted[key, name] for name in names if (key, name) in counted]
    unnamed = refund.amount_minor - sum(line.amount_minor for line in refund.lines if line.line_id is not None)
    if refund.order_id is not None or not refund.amount_minor:
        return sum(of_orders)
    return sum(of_orders) + refund.recorded_minor * unnamed // refund.amount_minor

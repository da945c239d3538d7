"""Refunds of orders that were paid by a checkout: the points and the coupons that come back with them.

What has come back is membership's answer (`membership/returns.py`); a refund gives what that says less what was given.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from core.models import Program
from coupons.services import redemptions
from membership.returns import OrderReturned, ReturnChange
from points.models import Hold
from points.services import holds
from storefront.models import Checkout

# Asked by every refund, and most orders were paid without a checkout: the ORM takes longer to say it than to run it.
_OF_ORDERS = "SELECT * FROM storefront_checkout WHERE order_id = ANY(%s)"


@dataclass(frozen=True, slots=True)
class Returns:
    """What new refunds changed, by their ids in the order of dates, and the checkouts that had paid, by order."""

    changes: Sequence[tuple[int, ReturnChange]]
    checkouts: Mapping[int, Checkout]


def read_returns(changes: Sequence[tuple[int, ReturnChange]]) -> Returns:
    """Return what new refunds changed of orders that were paid by a checkout."""
    checkouts = checkouts_of({change.after.order.id for _, change in changes})
    return Returns([one for one in changes if one[1].after.order.id in checkouts], checkouts)


def checkouts_of(order_ids: Iterable[int]) -> dict[int, Checkout]:
    """Return the checkouts that orders paid, by order."""
    ids = list(order_ids)
    found = Checkout.objects.raw(_OF_ORDERS, [ids]) if ids else ()
    return {checkout.order_id: checkout for checkout in found if checkout.order_id is not None}


def line_points(checkout: Checkout) -> Mapping[str, int]:
    """Return how many points each line of a checkout took; a line that an edit added took none."""
    return {line["external_id"]: line["points"] for line in checkout.price["lines"]}


def return_coupons(*, program: Program, returns: Returns, is_cancelled: bool, at: datetime) -> None:
    """Take back what coupons gave off the lines that new refunds bring back.

    is_cancelled: the shop cancelled the orders.

    Locks: of several orders the counters, ascending; as `redemptions.reverse`, by ascending member.
    """
    back: dict[tuple[int, int], OrderReturned] = {}
    for _, change in returns.changes:
        order = change.after.order
        if returns.checkouts[order.id].price["coupons"]["applied"]:
            back[order.member_id or 0, order.id] = change.after
    if len(back) > 1:
        redemptions.lock_counters(orders=back)
    for (member_id, order_id), found in sorted(back.items()):
        redemptions.reverse(
            program=program,
            member_id=member_id,
            order_id=order_id,
            lines={line.line.external_id: line.worth for line in found.lines.values()},
            is_whole=found.is_whole,
            is_cancelled=is_cancelled,
            at=at,
        )


def return_points(*, program: Program, returns: Returns, at: datetime) -> None:
    """Give back the points by which what new refunds bring back was paid.

    Locks: the accounts of their members, one by one.
    Idempotency: a refund gives back once for each checkout.
    """
    due = [one for one in returns.changes if returns.checkouts[one[1].after.order.id].points]
    given = _read_given([returns.checkouts[change.after.order.id] for _, change in due])
    back: dict[tuple[int, int, int], int] = defaultdict(int)
    for refund_id, change in due:
        order = change.after.order
        points = change.after.points_of(line_points(returns.checkouts[order.id])) - given[order.id]
        if points > 0 and order.member_id is not None:
            back[order.member_id, order.id, refund_id] = points
            given[order.id] += points
    for (member_id, order_id, refund_id), points in sorted(back.items()):
        checkout = returns.checkouts[order_id]
        if checkout.wallet_id is not None:
            holds.give_back(
                program=program,
                member_id=member_id,
                wallet_id=checkout.wallet_id,
                reference=checkout.ledger_reference,
                points=points,
                refund_id=refund_id,
                at=at,
            )


def list_short(answers: Mapping[int, OrderReturned]) -> Iterator[tuple[int, int, int, int]]:
    """Yield orders with their wallets, the points given back and those due, where more are due.

    answers: what came back of orders, by id. Points given back too many stay.
    """
    checkouts = {order_id: one for order_id, one in checkouts_of(answers).items() if one.points}
    given = _read_given(list(checkouts.values()))
    for order_id, checkout in sorted(checkouts.items()):
        due = answers[order_id].points_of(line_points(checkout))
        if checkout.wallet_id is not None and due > given.get(order_id, 0):
            yield order_id, checkout.wallet_id, given.get(order_id, 0), due


def give_short(*, program: Program, answers: Mapping[int, OrderReturned], refund_id: int, at: datetime) -> None:
    """Give back what is due and was not, as of now, for the last refund.

    Locks: the accounts of the orders' members; the caller has locked the orders.
    Idempotency: what is given back is not due any more.
    """
    checkouts = checkouts_of(answers)
    for order_id, wallet_id, given, due in list(list_short(answers)):
        holds.give_back(
            program=program,
            member_id=answers[order_id].order.member_id or 0,
            wallet_id=wallet_id,
            reference=checkouts[order_id].ledger_reference,
            points=due - given,
            refund_id=refund_id,
            beside=given,
            at=at,
        )


def _read_given(checkouts: Sequence[Checkout]) -> dict[int, int]:
    """Return how many points have been given back of checkouts, by order."""
    if not checkouts:
        return {}
    references = {checkout.ledger_reference: checkout.order_id or 0 for checkout in checkouts}
    found = Hold.objects.filter(member__in={checkout.member_id for checkout in checkouts}, reference__in=references)
    return {references[reference]: returned for reference, returned in found.values_list("reference", "returned")}

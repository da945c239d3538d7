"""Compare what the ledger took back and gave back of orders with what came back of them, and post the difference."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef

from core.models import Program
from core.services import audit
from membership import locks, order_returns
from membership.models import Member, Order, OrderLine, Refund, RefundLine
from membership.order_returns import OrderRefunds
from points.models import Wallet
from points.services import returned
from points.services.returned import Cause
from storefront.services.checkouts import giving_back

# Orders whose refunds are read at once: bounds the memory.
ORDERS_PER_BATCH = 500


@dataclass(frozen=True, slots=True)
class OrderDifference:
    """Points of one order in one wallet, as they stand and as they should by what came back of it.

    `is_paid`: points by which it was paid and that were given back; else what it earned.
    """

    order: str
    member: str
    wallet: str
    is_paid: bool
    stands: int
    should_be: int

    @property
    def change(self) -> int:
        """What has to be posted."""
        return self.should_be - self.stands


def find(
    *, program: Program, on_progress: Callable[[int], None] | None = None
) -> Iterator[tuple[int, list[OrderDifference]]]:
    """Yield orders, by ascending id, whose points differ. Reads only.

    on_progress: is told after each batch how many orders have been compared.
    """
    of_order = Refund.objects.filter(order=OuterRef("pk"))
    of_line = RefundLine.objects.filter(order_line__in=OrderLine.objects.filter(order=OuterRef(OuterRef("pk"))))
    members = Order.objects.filter(program=program, member__isnull=False).order_by("pk")
    back = members.filter(Exists(of_order) | Exists(of_line))
    done = last = 0
    while ids := list(back.filter(pk__gt=last).values_list("pk", flat=True)[:ORDERS_PER_BATCH]):
        yield from compare(program, order_returns.read(ids)).items()
        done, last = done + len(ids), ids[-1]
        if on_progress:
            on_progress(done)


def compare(program: Program, orders: Mapping[int, OrderRefunds]) -> dict[int, list[OrderDifference]]:
    """Return the differences of orders that have any, by id."""
    answers = {order_id: state.work_out() for order_id, state in orders.items()}
    sums: dict[tuple[int, int, bool], list[int]] = defaultdict(lambda: [0, 0])
    for one in returned.find_differences(answers):
        total = sums[one.order_id, one.wallet_id, False]
        total[0] += one.stands
        total[1] += one.stands + one.change
    for order_id, wallet_id, given, due in giving_back.list_short(answers):
        sums[order_id, wallet_id, True] = [given, due]
    wallets = dict(Wallet.objects.filter(program=program).values_list("pk", "code"))
    ids = {orders[order_id].order.member_id or 0 for order_id, _, _ in sums}
    members = dict(Member.objects.filter(pk__in=ids).values_list("pk", "external_id"))
    found: dict[int, list[OrderDifference]] = defaultdict(list)
    for (order_id, wallet_id, is_paid), (stands, should_be) in sorted(sums.items()):
        order = orders[order_id].order
        member = members[order.member_id or 0]
        found[order_id].append(
            OrderDifference(order.external_id, member, wallets[wallet_id], is_paid, stands, should_be)
        )
    return dict(found)


@transaction.atomic
def apply(*, program: Program, order_id: int, actor: str, at: datetime) -> Sequence[OrderDifference]:
    """Post the differences of one order, and return them.

    Units: `at` is the recording instant, as of which they are posted.
    Locks: the order, before it is read; then the accounts.
    Idempotency: what is posted is no difference any more.
    """
    list(locks.lock_orders([order_id]).values_list("pk"))
    orders = order_returns.read([order_id])
    differences = compare(program, orders).get(order_id, [])
    if not differences:
        return ()
    answers = {order_id: orders[order_id].work_out()}
    cause = Cause(f"returns:{at.isoformat()}", at)
    returned.settle(program=program, differences=returned.find_differences(answers), cause=cause, at=at)
    giving_back.give_short(program=program, answers=answers, refund_id=orders[order_id].parts[-1].refund_id or 0, at=at)
    audit.record(
        action="returns.settled",
        target=f"order {differences[0].order}",
        actor=actor,
        program=program,
        before={_name(one): one.stands for one in differences},
        after={_name(one): one.should_be for one in differences},
        at=at,
    )
    return differences


def _name(one: OrderDifference) -> str:
    return f"{one.wallet} {'given back' if one.is_paid else 'earned'}"

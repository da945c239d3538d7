"""What an order would earn, worked out by what awards the points."""

from dataclasses import dataclass
from datetime import datetime

from core.models import Program
from membership.fact_checks import check_order
from membership.fact_inputs import OrderInput
from membership.field_checks import frame_of
from points import rules
from points.models import SourceKind
from points.services.earning import Fact, contexts_of, evaluate_order, terms_of


@dataclass(frozen=True, slots=True)
class WalletPreview:
    """The accruals in one wallet, in the order of rules and lines, and the life that the points would have.

    An accrual's `source_id` is the position of its line, from 0.
    """

    wallet_id: int
    accruals: tuple[rules.LineAccrual, ...]
    available_at: datetime
    expires_at: datetime | None

    @property
    def points(self) -> int:
        return sum(accrual.points for accrual in self.accruals)


@dataclass(frozen=True, slots=True)
class OrderPreview:
    """What an order would earn, and the tier that decides: its code, empty without one."""

    tier: str
    wallets: tuple[WalletPreview, ...]


def preview_order(*, program: Program, member_id: int, order: OrderInput) -> OrderPreview:
    """Return what an order that is paid at its `paid_at` would earn its member. Reads only.

    Raises: BadFact for what could not be told as an order either.
    """
    terms = terms_of(program)
    at = order.paid_at
    checked = check_order(order, frame_of(program)).lines
    lines = [
        rules.Line(position, amount_minor - in_points_minor, sku, category)
        for position, (_, _, sku, category, _, _, amount_minor, _, _, in_points_minor) in enumerate(checked)
    ]
    context = contexts_of(terms, [Fact(0, member_id, at, at, order.channel, SourceKind.ORDER)])[0]
    found = evaluate_order(terms, lines, at=at, context=context)
    return OrderPreview(
        context.tier,
        tuple(
            WalletPreview(wallet_id, tuple(accruals), *terms.lot_span(wallet_id, at))
            for wallet_id, accruals in found.items()
            if accruals
        ),
    )

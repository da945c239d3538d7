"""Ann, who bought, spent and sent something back, and short ways to read a ledger in tests of the API."""

from typing import Any

from core.models import Program
from membership.fact_inputs import MemberInput
from membership.models import Member
from membership.services.members import enroll_members
from points.models import LedgerTransaction, Wallet
from points.services import operations
from tests.storefront.shop import DAY, START, order, refund, tell

ANN = "members/ann/points"


def enroll(program: Program, *names: str) -> None:
    """Members who joined before they bought."""
    joined = [MemberInput(external_id=name, joined_at=START - DAY) for name in names]
    enroll_members(program=program, members=joined, at=START)


def buy(program: Program, member: str = "ann") -> None:
    """An order of 80.00, 21.50 and 0.90: 101 points, which a redemption of 70 and the refund of 3 of 4 units follow.

    31 of the 60 points of the refund are left, the others become debt.
    """
    tell(program, order("o1", (4, 8_000), (1, 2_150), (1, 90), member=member))
    account: Any = {"program": program, **account_of(program, member)}
    operations.redeem(**account, points=70, reason="a mug", idempotency_key="mug", at=START + 5 * DAY)
    tell(program, refund("r1", ("o1.1", 3, 6_000), member=member, at=START + 20 * DAY))


def account_of(program: Program, member: str = "ann") -> dict[str, Any]:
    """The arguments that name a member's points in services."""
    return {
        "member_id": Member.objects.get(program=program, external_id=member).pk,
        "wallet_id": Wallet.objects.get(program=program, code="points").pk,
    }


def posted() -> list[int]:
    """Every transaction there is: a refused call must leave it as it was."""
    return list(LedgerTransaction.objects.order_by("pk").values_list("pk", flat=True))

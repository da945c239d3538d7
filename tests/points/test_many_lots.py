"""A member who earned thousands of points one by one: spending, holding and expiry see every one of the lots."""

from collections.abc import Callable
from typing import Any

from core.models import Program
from points.models import TransactionKind, Wallet
from points.selectors import get_balance
from points.services import holds
from points.services.expiry import settle_due
from points.services.posting import post, post_batch
from points.services.verify import verify
from tests.points.ledgers import DAY, START, decision, earning

LOTS = 2_000


def test_thousands_of_lots_of_one_point_are_spent_held_released_and_expire(
    program: Program, wallet: Wallet, new_member: Callable[[], int]
) -> None:
    member = new_member()
    lots = [earning(member, wallet.pk, number, [1], START, expires_at=START + 10 * DAY) for number in range(LOTS)]
    post_batch(program_id=program.pk, postings=lots, at=START)
    who: dict[str, Any] = {"program": program, "member_id": member, "wallet_id": wallet.pk, "reference": "h"}

    def balance() -> tuple[int, int]:
        now = get_balance(member_id=member, wallet_id=wallet.pk, at=START + 2 * DAY)
        return now.available, now.held

    spent = decision(TransactionKind.BURN, member, wallet.pk, "b", 1, START + DAY)
    post(program_id=program.pk, postings=[spent], at=START)
    assert balance() == (LOTS - 1, 0)
    holds.hold(**who, points=LOTS - 1, held_until=START + 3 * DAY, at=START + DAY)
    assert balance() == (0, LOTS - 1)
    holds.release(**who, at=START + 2 * DAY)
    assert balance() == (LOTS - 1, 0)
    assert settle_due(program=program, through=START + 10 * DAY, at=START + 10 * DAY).expired == LOTS - 1
    assert get_balance(member_id=member, wallet_id=wallet.pk, at=START + 10 * DAY).available == 0
    assert list(verify(program=program)) == []

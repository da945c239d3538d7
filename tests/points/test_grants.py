"""Points that no earn rule gave: granted once for each source, and taken back by the share of it that is gone."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from core.models import Program
from core.versions import publish
from points.models import Account, Accrual, AccrualReason, AccrualReturn, LedgerTransaction, SourceKind, Wallet
from points.services import grants, operations
from points.services.operations import InvalidPoints
from points.services.posting import IdempotencyKeyReused, UnknownAccount
from points.services.verify import verify
from tests.points.conftest import NOW
from tests.points.ledgers import DAY

REWARD = SourceKind.REFERRAL_REWARD


class Friend:
    """A member who is given points for reward 7."""

    def __init__(self, program: Program, wallet: Wallet, member_id: int) -> None:
        self.program, self.wallet, self.member_id = program, wallet, member_id
        who: dict[str, Any] = {"program": program, "member_id": member_id, "wallet_id": wallet.pk}
        self.grant = partial(grants.grant, **who, source_kind=REWARD, source_id=7, reason="a friend joined", at=NOW)
        self.claw_back = partial(grants.claw_back, **who, source_kind=REWARD, source_id=7, whole=3)
        self.redeem = partial(operations.redeem, **who, at=NOW)

    @property
    def account(self) -> Account:
        return Account.objects.get(member_id=self.member_id)

    @property
    def balances(self) -> tuple[int, int]:
        return self.account.available, self.account.debt


@pytest.fixture
def friend(program: Program, wallet: Wallet, new_member: Callable[[], int]) -> Any:
    friend = Friend(program, wallet, new_member())
    yield friend
    assert list(verify(program=program)) == []


def test_a_grant_lives_as_earned_points_do_and_names_no_rule(friend: Friend) -> None:
    posted = friend.grant(points=50)
    assert (posted.available, friend.account.lifetime_earned) == (50, 50)
    accrual = Accrual.objects.get()
    assert (accrual.source_kind, accrual.source_id, accrual.rule_version_id) == (REWARD, 7, None)
    assert (accrual.points, accrual.reason) == (50, AccrualReason.GRANTED)
    lot = LedgerTransaction.objects.get().lots.get()
    assert lot.expires_at == datetime(2027, 3, 2, tzinfo=NOW.tzinfo)


def test_a_source_gives_once_however_often_it_is_sent(friend: Friend) -> None:
    first = friend.grant(points=50)
    again = friend.grant(points=50, at=NOW + DAY)
    assert (again.transaction_id, again.is_new, again.available) == (first.transaction_id, False, 50)
    with pytest.raises(IdempotencyKeyReused):
        friend.grant(points=51)
    assert friend.balances == (50, 0)
    assert friend.grant(points=51, source_id=8).available == 101


def test_what_comes_back_in_parts_takes_back_exactly_the_whole(friend: Friend) -> None:
    friend.grant(points=50)
    taken = [friend.claw_back(returned=n, cause_id=n, at=NOW + n * DAY) for n in (1, 2, 3)]
    assert taken == [16, 17, 17]
    assert friend.balances == (0, 0)
    back = AccrualReturn.objects.order_by("pk").values_list("source_kind", "source_id", "returned", "whole")
    assert list(back) == [(SourceKind.REFUND, n, n, 3) for n in (1, 2, 3)]


def test_a_cause_takes_back_once_however_often_it_is_sent(friend: Friend) -> None:
    friend.grant(points=50)
    assert [friend.claw_back(returned=1, cause_id=4, at=NOW + n * DAY) for n in (0, 1)] == [16, 16]
    assert friend.balances == (34, 0)
    with pytest.raises(IdempotencyKeyReused):
        friend.claw_back(returned=2, cause_id=4, at=NOW)
    assert friend.balances == (34, 0)


def test_what_was_spent_becomes_debt(friend: Friend) -> None:
    friend.grant(points=50)
    friend.redeem(points=45, idempotency_key="r")
    assert friend.claw_back(returned=3, cause_id=1, at=NOW) == 50
    assert friend.balances == (0, -45)


@pytest.mark.parametrize(("policy", "taken"), [("write_off", 5), ("own_lot", 5)])
def test_the_wallets_policy_says_what_is_given_up(friend: Friend, policy: str, taken: int) -> None:
    publish(friend.wallet, {"expiry_days": 365, "clawback": policy}, at=NOW + DAY)
    friend.grant(points=50)
    friend.redeem(points=45, idempotency_key="r")
    assert friend.claw_back(returned=3, cause_id=1, at=NOW + DAY) == taken
    assert friend.balances == (0, 0)


def test_a_wallet_that_refuses_refunds_gives_up_the_rest(friend: Friend) -> None:
    publish(friend.wallet, {"expiry_days": 365, "clawback": "refuse"}, at=NOW + DAY)
    friend.grant(points=50)
    friend.redeem(points=45, idempotency_key="r")
    assert friend.claw_back(returned=3, cause_id=1, at=NOW + DAY) == 5
    assert (friend.balances, AccrualReturn.objects.count()) == ((0, 0), 1)


def test_from_expired_points_nothing_is_taken(friend: Friend) -> None:
    friend.grant(points=50)
    assert friend.claw_back(returned=3, cause_id=1, at=NOW + 400 * DAY) == 0
    assert friend.balances == (0, 0)


def test_what_was_never_granted_cannot_be_taken_back(friend: Friend) -> None:
    with pytest.raises(grants.UnknownGrant):
        friend.claw_back(returned=1, cause_id=1, at=NOW)
    assert not LedgerTransaction.objects.exists()


def test_grants_of_other_programs_wallets_are_refused(friend: Friend) -> None:
    other = Program.objects.create(code="other", name="Other", currency="GBP", time_zone="UTC")
    foreign = Wallet.objects.create(program=other, code="points", name="Points")
    for do in (partial(friend.grant, points=5), partial(friend.claw_back, returned=1, cause_id=1, at=NOW)):
        with pytest.raises(UnknownAccount):
            do(wallet_id=foreign.pk)
        with pytest.raises(UnknownAccount):
            do(member_id=0)
    assert not Account.objects.exists()


@pytest.mark.parametrize("points", [0, -1, operations.MAX_ADJUSTMENT + 1])
def test_an_impossible_number_of_points_is_refused(friend: Friend, points: int) -> None:
    with pytest.raises(InvalidPoints):
        friend.grant(points=points)
    assert not Account.objects.exists()

"""38, an operator stops a fake: nothing is paid while either side is suspended, and any referral can be rejected."""

from typing import Any

import pytest

from core.models import AuditEntry, Event, Program, Scope
from core.services import api_keys, outbox
from referrals.models import Referral, ReferralReward
from referrals.services import qualification
from tests.api.client import Api
from tests.api.conftest import NOW, Clock
from tests.referrals.worlds import DAY, make_shop

pytestmark = pytest.mark.django_db(transaction=True)

SETTLED = NOW + 20 * DAY


@pytest.fixture
def program(transactional_db: None) -> Program:
    return make_shop()


@pytest.fixture
def shop(program: Program, clock: Clock) -> Api:
    """Ann has brought Ben, who has ordered; nothing is settled."""
    api = Api(api_keys.issue(program=program, scopes=Scope.values, name="trial", actor="trial", at=NOW).text)
    for number, name in enumerate(("ann", "ben")):
        api.post("members", {"external_id": name, "joined_at": (NOW - DAY + number * DAY / 24).isoformat()})
    code = api.post("members/ann/referral-code", {}).json["code"]
    assert api.post("members/ben/referral", {"code": code}).status == 201
    clock(NOW + DAY)
    told = {"external_id": "o1", "member": "ben", "paid_at": (NOW + DAY).isoformat(), "currency": "GBP"}
    assert api.post("orders", told | {"amount_minor": 5_000}).status == 201
    outbox.drain(at=NOW + DAY)
    return api


def _settle(program: Program, clock: Clock, at: Any) -> None:
    clock(at)
    qualification.mature(program=program, at=at)
    assert outbox.drain(at=at).failed == 0


def _points(shop: Api) -> int:
    wallets = {wallet["wallet"]: wallet["balance"] for wallet in shop.get("members/ann/points").json["wallets"]}
    return int(wallets["points"]["available"])


@pytest.mark.parametrize("side", ["ann", "ben"])
def test_nothing_is_paid_while_either_side_is_suspended(
    shop: Api,
    program: Program,
    clock: Clock,
    side: str,
) -> None:
    assert shop.patch(f"members/{side}", {"status": "suspended"}).status == 200
    _settle(program, clock, SETTLED)
    assert set(ReferralReward.objects.values_list("state", "reason")) == {("approved", "member_suspended")}
    assert shop.patch(f"members/{side}", {"status": "active"}).status == 200
    _settle(program, clock, SETTLED + DAY)
    assert _points(shop) == 500
    assert set(ReferralReward.objects.values_list("state", flat=True)) == {"paid"}


@pytest.mark.parametrize("is_settled", [True, False], ids=["qualified", "pending"])
def test_any_referral_can_be_rejected_with_a_reason_and_what_was_paid_is_taken_back(
    shop: Api,
    program: Program,
    clock: Clock,
    is_settled: bool,
) -> None:
    if is_settled:
        _settle(program, clock, SETTLED)
        assert _points(shop) == 500
    referral = Referral.objects.get()
    answer = shop.post(
        f"referrals/{referral.pk}/reject", {"reason": "one person"}, headers={"Idempotency-Key": "reject-1"}
    )
    assert (answer.status, answer.json["state"], answer.json["reason"]) == (200, "rejected", "one person")
    _settle(program, clock, SETTLED + DAY)
    assert _points(shop) == 0
    paid = ReferralReward.objects.exclude(state__in=("rejected", "clawed_back"))
    assert not paid.exists()
    assert AuditEntry.objects.get(action="referral.rejected").reason == "one person"
    assert Event.objects.filter(type="referral.rejected", subject="ben").count() == 1

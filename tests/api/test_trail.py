"""What a key does that moves value or rights is in the audit trail: once, by whom, and not where it was refused."""

from typing import Any

import pytest

from core.models import AuditEntry, Program
from tests.api.client import Api
from tests.api.conftest import MakeKey
from tests.api.shop import assert_problem, enroll, order, points_of
from tests.coupons import giving

pytestmark = pytest.mark.django_db

REDEMPTIONS = "members/ada/points/points/redemptions"


@pytest.fixture
def shop(api: Api, program: Program) -> Program:
    """Ada has points."""
    enroll(program, "ada")
    assert api.post("orders", order("o1")).status == 201
    return program


def trail(action: str) -> list[tuple[str, str, dict[str, Any] | None]]:
    entries = AuditEntry.objects.filter(action=action).order_by("id")
    return [(entry.actor, entry.target, entry.after) for entry in entries]


def test_a_redemption_is_in_the_trail_once(api: Api, shop: Program) -> None:
    had = points_of(shop)
    for _ in range(2):
        assert api.post(REDEMPTIONS, {"points": 10, "reason": "A mug"}, key="k-1").status in {200, 201}
    ((actor, target, after),) = trail("points.redeemed")
    assert actor.startswith("key ")
    assert (target, after) == ("member ada", {"wallet": "points", "points": -10, "available": had - 10})
    assert AuditEntry.objects.get(action="points.redeemed").reason == "A mug"


def test_a_redemption_by_a_members_token_names_it(api: Api, shop: Program) -> None:
    token = api.post("members/ada/tokens").json["token"]
    ((issuer, target, after),) = trail("token.issued")
    assert issuer.startswith("key ")
    assert target == "token of member ada"
    assert after is not None
    assert token not in str(after)
    assert Api(token).post(REDEMPTIONS, {"points": 10}, key="k-1").status == 201
    ((actor, _, _),) = trail("points.redeemed")
    assert actor == f"token of {issuer}"


def test_what_is_refused_or_tried_out_leaves_no_entry(api: Api, shop: Program) -> None:
    before = AuditEntry.objects.count()
    assert_problem(api.post(REDEMPTIONS, {"points": 9_999_999}, key="k-1"), 422, "insufficient_points")
    assert api.post(REDEMPTIONS, {"points": 10}, key="k-2", query={"dry_run": "true"}).status == 200
    assert AuditEntry.objects.count() == before


def test_coupons_claimed_and_given_are_in_the_trail(api: Api, shop: Program) -> None:
    giving.publish(shop, "open")
    giving.publish(shop, "gift", how="issued")
    for _ in range(2):
        assert api.post("members/ada/coupons", {"coupon": "open"}, key="k-1").status in {200, 201}
        assert api.post("members/ada/coupons/issue", {"coupon": "gift", "source": "s1"}).status in {200, 201}
    for action, coupon in (("coupon.claimed", "open"), ("coupon.issued", "gift")):
        ((actor, target, after),) = trail(action)
        assert (actor[:4], target, (after or {})["coupon"]) == ("key ", "member ada", coupon)


def test_what_is_sent_again_by_webhook_is_in_the_trail(api: Api, shop: Program) -> None:
    endpoint = api.post("webhook-endpoints", {"url": "https://hooks.example.com/a"}).json["id"]
    event = api.post(f"webhook-endpoints/{endpoint}/test").json["event"]
    assert api.post(f"webhook-endpoints/{endpoint}/deliveries/{event}/replay").status == 202
    since = "2026-05-31T00:00:00Z"
    count = api.post(f"webhook-endpoints/{endpoint}/replay", {"since": since}).json["deliveries"]
    target = f"webhook endpoint {endpoint}"
    assert [(one[1], one[2]) for one in trail("webhook.tested")] == [(target, {"event": event})]
    assert [one[2] for one in trail("webhook.replayed")] == [{"event": event}, {"since": since, "deliveries": count}]
    assert len(trail("webhook.created")) == 1


def test_keys_are_told_apart(api: Api, shop: Program, make_key: MakeKey) -> None:
    other = Api(make_key("points:redeem"))
    api.post(REDEMPTIONS, {"points": 1}, key="k-1")
    other.post(REDEMPTIONS, {"points": 1}, key="k-2")
    assert len({actor for actor, _, _ in trail("points.redeemed")}) == 2

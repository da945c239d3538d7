"""Orders that come back whole: who gets the coupon again, until when, and when it is lost."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from core import versions
from core.models import Program
from coupons.models import Claim, CouponCode, Redemption
from coupons.services import claims, code_batches, recalls, redemptions
from tests.coupons.giving import BASKET, DAY, HELD_UNTIL, NOW, id_of, make_shop, publish, use, without_claim

pytestmark = pytest.mark.django_db
WHOLE = {"a": (3, 3), "b": (1, 1)}


@pytest.fixture
def shop(db: None) -> Program:
    return make_shop("shop", "ada", "ben")


def pay(shop: Program, *applied: Any) -> None:
    told: dict[str, Any] = {"program": shop, "member_id": id_of(shop), "reference": "c1"}
    redemptions.hold(**told, currency="GBP", basket=BASKET, applied=applied, held_until=HELD_UNTIL, at=NOW)
    redemptions.commit(**told, order_id=1, at=NOW)


def paid_with_own(shop: Program, **terms: Any) -> Claim:
    publish(shop, how="issued", **terms)
    claim = claims.issue(program=shop, member_id=id_of(shop), definition_code="five", source="s", at=NOW)
    pay(shop, use(shop, claim))
    return claim


def come_back(shop: Program, *, is_cancelled: bool, at: datetime = NOW + DAY) -> tuple[str, str, str | None]:
    """Bring the order back; answer the redemption's outcome, the claim's state and its end as a day."""
    redemptions.reverse(
        program=shop, member_id=id_of(shop), order_id=1, lines=WHOLE, is_whole=True, is_cancelled=is_cancelled, at=at
    )
    claim, redemption = Claim.objects.get(), Redemption.objects.get()
    return redemption.outcome, claim.state, claim.expires_at.isoformat() if claim.expires_at else None


@pytest.mark.parametrize(
    ("terms", "is_cancelled", "outcome", "state"),
    [
        ({}, True, "restored", "open"),
        ({}, False, "kept", "used"),
        ({"on_cancel": "keep"}, True, "kept", "used"),
        ({"on_refund": "restore"}, False, "restored", "open"),
        ({"on_cancel": "keep", "on_refund": "restore"}, False, "restored", "open"),
    ],
)
def test_what_the_shop_cancelled_comes_back_by_default_and_what_was_returned_does_not(
    shop: Program, terms: dict[str, Any], is_cancelled: bool, outcome: str, state: str
) -> None:
    paid_with_own(shop, **terms)
    assert come_back(shop, is_cancelled=is_cancelled)[:2] == (outcome, state)


@pytest.mark.parametrize(
    ("terms", "outcome", "ends"),
    [
        # London is an hour ahead of UTC: its days begin at 23:00Z. Given back on the 11th, over since the 3rd.
        ({"valid_days": 1}, "lost", "2026-06-02T23:00:00+00:00"),
        ({"valid_days": 1, "restore_days": 7}, "restored", "2026-06-18T23:00:00+00:00"),
        ({"valid_days": 1, "restore_days": 0}, "restored", "2026-06-11T23:00:00+00:00"),
        ({"valid_days": 12, "restore_days": 7}, "restored", "2026-06-18T23:00:00+00:00"),
        ({"valid_days": 90, "restore_days": 7}, "restored", "2026-08-30T23:00:00+00:00"),
        ({"restore_days": 7}, "restored", None),
    ],
)
def test_what_is_given_back_has_a_stated_grace_or_is_lost(
    shop: Program, terms: dict[str, Any], outcome: str, ends: str | None
) -> None:
    paid_with_own(shop, **terms)
    assert come_back(shop, is_cancelled=True, at=NOW + 10 * DAY) == (outcome, "open", ends)


def test_what_a_checkout_took_by_itself_is_free_again(shop: Program) -> None:
    definition = publish(shop, "typed", how="code", limit=1, per_member=1)
    code = code_batches.create_code(
        program=shop, definition=definition, text="ONCE", is_shared=False, actor="t", at=NOW
    )
    pay(shop, without_claim(shop, "typed", f"code:{code.pk}"))
    assert come_back(shop, is_cancelled=True) == ("restored", "revoked", None)
    assert CouponCode.objects.get().claimed_by is None
    assert claims.claim(program=shop, member_id=id_of(shop), code="ONCE", at=NOW + DAY).state == "open"


@pytest.mark.parametrize(("grace", "outcome", "state"), [(None, "lost", "revoked"), (7, "restored", "open")])
def test_a_code_that_can_no_longer_be_typed_becomes_the_members_own_for_the_days_of_grace(
    shop: Program, grace: int | None, outcome: str, state: str
) -> None:
    publish(shop, "typed", how="code", restore_days=grace, ends_at="2026-06-02T00:00:00Z")
    pay(shop, without_claim(shop, "typed"))
    ends = None if grace is None else "2026-06-18T23:00:00+00:00"
    found = come_back(shop, is_cancelled=True, at=NOW + 10 * DAY)
    assert found[:2] == (outcome, state)
    assert grace is None or (found[2], Claim.objects.get().is_automatic) == (ends, False)


def test_what_was_called_back_is_lost_whatever_the_grace_is(shop: Program) -> None:
    claim = paid_with_own(shop, restore_days=7)
    recalls.recall(program=shop, definition=claim.definition, reason="x", actor="t", at=NOW + timedelta(hours=1))
    assert come_back(shop, is_cancelled=True)[:2] == ("lost", "revoked")


def test_an_ended_coupon_of_a_checkout_is_lost_without_grace(shop: Program) -> None:
    definition = publish(shop, "auto", how="automatic")
    pay(shop, without_claim(shop, "auto"))
    versions.end(definition, at=NOW + timedelta(hours=1))
    shop.refresh_from_db()
    assert come_back(shop, is_cancelled=True)[:2] == ("lost", "revoked")


def test_an_order_that_came_back_in_part_changes_nothing(shop: Program) -> None:
    paid_with_own(shop)
    redemptions.reverse(
        program=shop, member_id=id_of(shop), order_id=1, lines=WHOLE | {"a": (2, 3)}, is_whole=False,
        is_cancelled=True, at=NOW,
    )  # fmt: skip
    assert (Redemption.objects.get().outcome, Claim.objects.get().state) == ("", "used")

"""A coupon that is called back: one act ends it and stops what is open, at once and however many there are."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from core import versions
from core.models import AuditEntry, OutboxEvent, Program
from core.versions import VersionOverlap
from coupons.models import Claim, ClaimState, CounterShard, CouponDefinition, CouponRecall
from coupons.selectors import list_candidates
from coupons.services import claims, recalls, redemptions
from coupons.tasks import revoke_recalled
from tests.coupons.giving import BASKET, DAY, HELD_UNTIL, NOW, enroll, id_of, make_shop, publish, use, written

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(minutes=1)


@pytest.fixture
def shop(db: None) -> Program:
    return make_shop("shop", "ada", "ben")


def take(shop: Program, member: str = "ada", at: Any = NOW, **told: Any) -> Claim:
    return claims.claim(program=shop, member_id=id_of(shop, member), definition="five", at=at, **told)


def recall(shop: Program, coupon: CouponDefinition, at: Any = LATER, reason: str = "90 % for 9 %") -> CouponRecall:
    made = recalls.recall(program=shop, definition=coupon, reason=reason, actor="test", at=at)
    shop.refresh_from_db()
    return made


def hold(shop: Program, claim: Claim, reference: str = "c1", at: Any = NOW) -> None:
    redemptions.hold(program=shop, member_id=claim.member_id, reference=reference, currency="GBP", basket=BASKET,
                     applied=[use(shop, claim)], held_until=HELD_UNTIL, at=at)  # fmt: skip


def usable(shop: Program, member: str = "ada") -> set[str]:
    found = list_candidates(program=shop, member_id=id_of(shop, member), codes=[], at=LATER, skus=(), categories=())
    return {candidate.code for candidate in found.candidates}


def states() -> list[str]:
    return list(Claim.objects.order_by("pk").values_list("state", flat=True))


def test_nothing_of_it_can_be_had_or_used_from_that_instant_on(shop: Program) -> None:
    coupon = publish(shop, limit=9)
    claim = take(shop)
    made = recall(shop, coupon)
    assert (made.reason, made.recalled_by, made.recalled_at, made.finished_at) == ("90 % for 9 %", "test", LATER, None)
    assert states() == ["open"], "a worker revokes it"
    assert usable(shop) == set()
    with pytest.raises(redemptions.CouponUnavailable):
        hold(shop, claim, at=LATER)
    with pytest.raises(claims.UnknownCoupon):
        take(shop, "ben", at=LATER + DAY)
    entry = AuditEntry.objects.get(action="coupon.recalled")
    assert (entry.target, entry.reason, entry.actor) == ("coupon five", "90 % for 9 %", "test")
    assert (entry.before, entry.after) == ({"version": 1}, {"open": 1})


def test_a_worker_revokes_what_is_open_chunk_by_chunk_and_tells_of_it(shop: Program) -> None:
    coupon = publish(shop, limit=90, shards=3)
    members = enroll(shop, *(f"m{n}" for n in range(25)))
    made = [claims.claim(program=shop, member_id=member, definition="five", at=NOW) for member in members]
    claims.revoke(program=shop, member_id=members[0], claim_id=made[0].pk, reason="x", at=NOW)
    OutboxEvent.objects.all().delete()
    found = recall(shop, coupon)
    assert recalls.list_unfinished() == [found.pk]
    assert recalls.revoke_recalled(recall_id=found.pk, at=LATER, chunk=10) == 24
    assert set(states()) == {"revoked"}
    assert sum(CounterShard.objects.values_list("used", flat=True)) == 0
    found.refresh_from_db()
    assert (found.revoked, found.finished_at) == (24, LATER)
    told = [pk for event in OutboxEvent.objects.filter(topic="coupons.revoked") for pk in event.payload["claims"]]
    assert sorted(told) == [one.pk for one in made[1:]]
    assert recalls.list_unfinished() == []
    assert recalls.revoke_recalled(recall_id=found.pk, at=LATER) == 0


def test_places_go_back_where_they_were_counted(shop: Program) -> None:
    """Claims from before the limit were counted in the first counter."""
    coupon = publish(shop, limit=None)
    take(shop, "ada")
    publish(shop, at=NOW, limit=10, shards=2)
    take(shop, "ben", at=NOW)
    Claim.objects.filter(member=id_of(shop, "ada")).update(shard=1)
    CounterShard.objects.filter(shard=1).update(used=0)
    CounterShard.objects.filter(shard=0).update(used=2)
    recalls.revoke_recalled(recall_id=recall(shop, coupon).pk, at=LATER)
    assert list(CounterShard.objects.order_by("shard").values_list("used", flat=True)) == [0, 0]


def test_what_is_held_can_be_paid_and_is_revoked_when_it_is_given_back(shop: Program) -> None:
    coupon = publish(shop, how="issued", on_cancel="restore", on_refund="restore")
    given = [claims.issue(program=shop, member_id=id_of(shop), definition_code="five", source=str(n), at=NOW)
             for n in range(2)]  # fmt: skip
    for number, claim in enumerate(given):
        hold(shop, claim, f"c{number}")
    found = recall(shop, coupon)
    assert recalls.revoke_recalled(recall_id=found.pk, at=LATER) == 0
    redemptions.commit(program=shop, member_id=id_of(shop), reference="c0", order_id=1, at=LATER)
    redemptions.release(program=shop, member_id=id_of(shop), reference="c1", at=LATER)
    assert states() == ["used", "revoked"]
    assert OutboxEvent.objects.get(topic="coupons.revoked").payload == {"claims": [given[1].pk]}


def test_called_back_again_it_is_the_same_recall_until_something_is_in_force(shop: Program) -> None:
    coupon = publish(shop)
    take(shop)
    first = recall(shop, coupon)
    before = written()
    assert recall(shop, coupon, LATER + DAY, "again") == first
    assert written() == before
    publish(shop, at=LATER + DAY, discount={"percent": "9%"})
    sound = take(shop, "ben", at=LATER + DAY)
    assert usable(shop, "ben") == {"five"}, "what is published anew is sound"
    recalls.revoke_recalled(recall_id=first.pk, at=LATER + DAY)
    assert states() == ["revoked", "open"]
    assert recall(shop, coupon, LATER + 2 * DAY).pk != first.pk
    revoke_recalled()
    sound.refresh_from_db()
    assert sound.state == ClaimState.REVOKED


def test_an_ended_coupon_can_still_be_called_back(shop: Program) -> None:
    coupon = publish(shop)
    take(shop)
    versions.end(coupon, at=NOW)
    recalls.revoke_recalled(recall_id=recall(shop, coupon).pk, at=LATER)
    assert states() == ["revoked"]


def test_a_version_published_at_this_moment_is_not_called_back(shop: Program) -> None:
    coupon = publish(shop)
    publish(shop, at=LATER, discount={"percent": "9%"})
    before = written()
    with pytest.raises(VersionOverlap):
        recall(shop, coupon)
    assert written() == before


def test_the_database_takes_one_recall_of_an_instant(shop: Program) -> None:
    coupon = publish(shop)
    recall(shop, coupon)
    with pytest.raises(IntegrityError, match="couponrecall_once"), transaction.atomic():
        CouponRecall.objects.create(definition=coupon, reason="x", recalled_by="x", recalled_at=LATER)

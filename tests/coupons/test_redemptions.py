"""Coupons used by orders: held, committed or released, and reversed as far as the order comes back."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from core.models import OutboxEvent, Program
from coupons.models import Claim, ClaimState, CounterShard, CouponCode, Redemption, RedemptionLine, RedemptionState
from coupons.published import list_offers
from coupons.rules import Applied
from coupons.services import claims, code_batches, redemptions
from coupons.tasks import release_lapsed
from membership.models import Member, MemberStatus
from tests.coupons.giving import BASKET, DAY, HELD_UNTIL, NOW, id_of, make_shop, publish, use, without_claim, written

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(db: None) -> Program:
    return make_shop("shop", "ada", "ben")


@pytest.fixture
def claim(shop: Program) -> Claim:
    publish(shop, limit=10)
    return claims.claim(program=shop, member_id=id_of(shop), definition="five", at=NOW)


def hold(shop: Program, *applied: Applied, reference: str = "c1", at: datetime = NOW) -> list[Redemption]:
    return redemptions.hold(
        program=shop, member_id=id_of(shop), reference=reference, currency="GBP", applied=applied, basket=BASKET,
        held_until=HELD_UNTIL, at=at,
    )  # fmt: skip


def commit(shop: Program, order_id: int = 7, reference: str = "c1", at: datetime = NOW) -> list[Redemption]:
    return redemptions.commit(program=shop, member_id=id_of(shop), reference=reference, order_id=order_id, at=at)


def release(shop: Program, reference: str = "c1", at: datetime = NOW) -> list[Redemption]:
    return redemptions.release(program=shop, member_id=id_of(shop), reference=reference, at=at)


def reverse(shop: Program, lines: dict[str, tuple[int, int]], order_id: int = 7) -> int:
    is_whole = all(returned >= whole for returned, whole in lines.values())
    return redemptions.reverse(
        program=shop, member_id=id_of(shop), order_id=order_id, lines=lines, is_whole=is_whole, at=NOW
    )  # fmt: skip


def topics() -> list[str]:
    return list(OutboxEvent.objects.order_by("id").values_list("topic", flat=True))


def states() -> tuple[str, str]:
    return Claim.objects.get().state, Redemption.objects.get().state


# --- hold, commit, release -------------------------------------------------------------------------------------


def test_a_hold_keeps_what_comes_off_each_line(shop: Program, claim: Claim) -> None:
    (held,) = hold(shop, use(shop, claim, 300, 0, shipping=50))
    assert (held.state, held.discount_minor, held.shipping_discount_minor) == (RedemptionState.HELD, 300, 50)
    assert list(RedemptionLine.objects.values_list("line", "discount_minor")) == [("a", 300)]
    assert Claim.objects.get().state == ClaimState.HELD
    assert topics()[-1] == "coupons.held"


def test_a_paid_order_uses_what_was_held(shop: Program, claim: Claim) -> None:
    hold(shop, use(shop, claim))
    (used,) = commit(shop)
    assert (used.state, used.order_id, used.committed_at) == (RedemptionState.COMMITTED, 7, NOW)
    assert states() == (ClaimState.USED, RedemptionState.COMMITTED)
    assert topics()[-1] == "coupons.redeemed"


def test_a_release_opens_the_claim_again(shop: Program, claim: Claim) -> None:
    hold(shop, use(shop, claim))
    release(shop)
    assert states() == (ClaimState.OPEN, RedemptionState.RELEASED)
    assert topics()[-1] == "coupons.released"
    assert hold(shop, use(shop, claim), reference="c2")[0].state == RedemptionState.HELD


def test_what_was_claimed_on_the_way_is_given_back(shop: Program) -> None:
    definition = publish(shop, "auto", how="automatic", limit=1, per_member=1)
    (held,) = hold(shop, without_claim(shop, "auto"))
    assert (held.claim.is_automatic, held.claim.source) == (True, "checkout:c1")
    assert CounterShard.objects.get(definition=definition).used == 1
    assert "coupons.claimed" not in topics()
    release(shop)
    assert states() == (ClaimState.REVOKED, RedemptionState.RELEASED)
    assert CounterShard.objects.get(definition=definition).used == 0
    assert hold(shop, without_claim(shop, "auto"), reference="c2")[0].claim.number == 1


def test_a_unique_code_typed_at_checkout_is_free_again_after_the_release(shop: Program) -> None:
    definition = publish(shop, "lucky", how="code")
    code = code_batches.create_code(
        program=shop, definition=definition, text="LUCKY7", is_shared=False, actor="test", at=NOW
    )
    hold(shop, without_claim(shop, "lucky", f"code:{code.pk}"))
    assert CouponCode.objects.get().claimed_by == id_of(shop)
    release(shop)
    assert CouponCode.objects.get().claimed_by is None


# --- sent twice ------------------------------------------------------------------------------------------------


def test_the_same_hold_again_is_the_same(shop: Program, claim: Claim) -> None:
    publish(shop, "auto", how="automatic", limit=5)
    told = (use(shop, claim), without_claim(shop, "auto"))
    first = hold(shop, *told)
    before = written()
    assert [one.pk for one in hold(shop, *told, at=NOW + timedelta(minutes=1))] == [one.pk for one in first]
    assert written() == before
    with pytest.raises(redemptions.ReferenceReused):
        hold(shop, use(shop, claim))
    assert written() == before


def test_the_same_commit_and_release_again_change_nothing(shop: Program, claim: Claim) -> None:
    hold(shop, use(shop, claim))
    commit(shop)
    before = written()
    assert commit(shop, at=NOW + DAY)[0].committed_at == NOW
    with pytest.raises(redemptions.AlreadyCommitted):
        commit(shop, order_id=8)
    with pytest.raises(redemptions.AlreadyCommitted):
        release(shop)
    assert (written(), states()) == (before, (ClaimState.USED, RedemptionState.COMMITTED))


def test_after_the_release_nothing_is_committed_or_held_again(shop: Program, claim: Claim) -> None:
    told = use(shop, claim)
    hold(shop, told)
    release(shop)
    before = written()
    assert release(shop) == []
    with pytest.raises(redemptions.HoldEnded):
        commit(shop)
    with pytest.raises(redemptions.HoldEnded):
        hold(shop, told)
    assert (written(), states()) == (before, (ClaimState.OPEN, RedemptionState.RELEASED))


def test_a_checkout_without_coupons_commits_and_releases_nothing(shop: Program) -> None:
    assert (commit(shop), release(shop)) == ([], [])
    assert OutboxEvent.objects.filter(topic__startswith="coupons.").count() == 0


# --- refused ---------------------------------------------------------------------------------------------------


def test_a_claim_is_held_by_one_checkout(shop: Program, claim: Claim) -> None:
    told = use(shop, claim)
    hold(shop, told)
    before = written()
    with pytest.raises(redemptions.CouponUnavailable, match="five: held"):
        hold(shop, told, reference="c2")
    commit(shop)
    with pytest.raises(redemptions.CouponUnavailable, match="five: used"):
        hold(shop, told, reference="c2")
    assert written()["Redemption"] == before["Redemption"]


def test_of_a_quote_all_is_held_or_nothing(shop: Program, claim: Claim) -> None:
    publish(shop, "auto", how="automatic", limit=1)
    publish(shop, "zz", how="automatic", limit=1)
    last = list_offers(shop).find("zz", NOW)
    assert last is not None
    claims.take(program=shop, member_id=id_of(shop, "ben"), offer=last, at=NOW)
    before = written()
    with pytest.raises(redemptions.CouponUnavailable, match="zz: LimitReached"), transaction.atomic():
        hold(shop, use(shop, claim), without_claim(shop, "auto"), without_claim(shop, "zz"))
    assert written() == before
    assert Claim.objects.get(pk=claim.pk).state == ClaimState.OPEN


def test_an_expired_claim_is_not_held(shop: Program) -> None:
    publish(shop, "short", valid_days=0)
    claim = claims.claim(program=shop, member_id=id_of(shop), definition="short", at=NOW)
    assert claim.expires_at is not None
    before = written()
    with pytest.raises(redemptions.CouponUnavailable, match="short: expired"):
        hold(shop, use(shop, claim), at=claim.expires_at)
    assert written() == before
    assert hold(shop, use(shop, claim), at=claim.expires_at - timedelta(microseconds=1))


def test_anothers_claim_and_a_suspended_member_hold_nothing(shop: Program, claim: Claim) -> None:
    theirs = claims.claim(program=shop, member_id=id_of(shop, "ben"), definition="five", at=NOW)
    before = written()
    with pytest.raises(redemptions.CouponUnavailable, match="five: unknown"):
        hold(shop, use(shop, theirs))
    Member.objects.update(status=MemberStatus.SUSPENDED)
    with pytest.raises(claims.MemberNotActive):
        hold(shop, use(shop, claim))
    assert written() == before


# --- the sweep -------------------------------------------------------------------------------------------------


def test_the_sweep_releases_what_was_held_for_too_long(shop: Program, claim: Claim) -> None:
    other = claims.claim(program=shop, member_id=id_of(shop), definition="five", at=NOW)
    hold(shop, use(shop, claim))
    hold(shop, use(shop, other), reference="paid")
    commit(shop, reference="paid")
    assert redemptions.release_lapsed(at=HELD_UNTIL - timedelta(microseconds=1)) == 0
    assert redemptions.release_lapsed(at=HELD_UNTIL) == 1
    assert redemptions.release_lapsed(at=HELD_UNTIL) == 0
    found = dict(Redemption.objects.values_list("reference", "state"))
    assert found == {"c1": RedemptionState.RELEASED, "paid": RedemptionState.COMMITTED}
    assert Claim.objects.get(pk=claim.pk).state == ClaimState.OPEN


def test_the_clock_sweeps(shop: Program, claim: Claim) -> None:
    hold(shop, use(shop, claim))
    Redemption.objects.update(held_until=NOW - 9999 * DAY)
    release_lapsed()
    assert states() == (ClaimState.OPEN, RedemptionState.RELEASED)


def test_a_hold_that_lapsed_and_was_not_swept_is_still_committed(shop: Program, claim: Claim) -> None:
    hold(shop, use(shop, claim))
    commit(shop, at=HELD_UNTIL + DAY)
    assert redemptions.release_lapsed(at=HELD_UNTIL + DAY) == 0
    assert states() == (ClaimState.USED, RedemptionState.COMMITTED)


# --- refunds ---------------------------------------------------------------------------------------------------


@pytest.fixture
def bought(shop: Program) -> Callable[..., Claim]:
    """An order of ada with 3.00 off line a (three units) and 2.00 off line b (one unit)."""

    def buy(**told: Any) -> Claim:
        publish(shop, **told)
        claim = claims.claim(program=shop, member_id=id_of(shop), definition="five", at=NOW)
        hold(shop, use(shop, claim, 301, 199, shipping=50))
        commit(shop)
        return claim

    return buy


def test_a_partial_refund_reverses_the_floor_of_each_line_cumulatively(shop: Program, bought: Any) -> None:
    bought()
    steps = [({"a": (1, 3), "b": (0, 1)}, 100), ({"a": (2, 3), "b": (0, 1)}, 100), ({"a": (2, 3), "b": (1, 1)}, 199)]
    for lines, back in steps:
        assert reverse(shop, lines) == back
        assert reverse(shop, lines) == 0
        assert states() == (ClaimState.USED, RedemptionState.COMMITTED)
    assert reverse(shop, {"a": (3, 3), "b": (1, 1)}) == 101
    assert states() == (ClaimState.USED, RedemptionState.REVERSED)
    told = [event.payload for event in OutboxEvent.objects.filter(topic="coupons.reversed").order_by("id")]
    assert [(one["reversed_minor"], one["is_whole"]) for one in told] == [
        (100, False), (100, False), (199, False), (101, True),
    ]  # fmt: skip


def test_a_wholly_returned_order_gives_the_claim_back_if_its_version_says_so(shop: Program, bought: Any) -> None:
    claim = bought(on_refund="restore")
    publish(shop, at=NOW + DAY, on_refund="keep")  # what counts is the version of the claim
    reverse(shop, {"a": (3, 3), "b": (1, 1)})
    assert states() == (ClaimState.OPEN, RedemptionState.REVERSED)
    assert hold(shop, use(shop, claim), reference="c2")


def test_a_part_returned_gives_no_claim_back(shop: Program, bought: Any) -> None:
    bought(on_refund="restore")
    reverse(shop, {"a": (3, 3), "b": (0, 1)})
    assert states() == (ClaimState.USED, RedemptionState.COMMITTED)


def test_an_automatic_claim_comes_back_as_a_free_place(shop: Program) -> None:
    definition = publish(shop, "auto", how="automatic", limit=1, on_refund="restore")
    hold(shop, without_claim(shop, "auto"))
    commit(shop)
    reverse(shop, {"a": (3, 3), "b": (1, 1)})
    assert states() == (ClaimState.REVOKED, RedemptionState.REVERSED)
    assert CounterShard.objects.get(definition=definition).used == 0


def test_a_refund_of_an_order_without_coupons_reverses_nothing(shop: Program, bought: Any) -> None:
    bought()
    before = written()
    assert reverse(shop, {"a": (3, 3)}, order_id=8) == 0
    assert redemptions.reverse(
        program=shop, member_id=id_of(shop, "ben"), order_id=7, lines={"a": (3, 3)}, is_whole=True, at=NOW
    ) == 0  # fmt: skip
    assert written() == before


@pytest.mark.parametrize("seed", range(8))
def test_in_whatever_parts_an_order_comes_back_the_parts_sum_to_its_discount(shop: Program, seed: int) -> None:
    draw = random.Random(seed)
    discounts = draw.randrange(1, 3000), draw.randrange(1, 2000)
    publish(shop)
    claim = claims.claim(program=shop, member_id=id_of(shop), definition="five", at=NOW)
    hold(shop, use(shop, claim, *discounts))
    commit(shop)
    wholes = draw.randrange(1, 9), draw.randrange(1, 9)
    returned, back = [0, 0], 0
    while tuple(returned) != wholes:
        returned = [min(whole, one + draw.randrange(3)) for one, whole in zip(returned, wholes, strict=True)]
        back += reverse(shop, dict(zip("ab", zip(returned, wholes, strict=True), strict=True)))
        floors = [off * one // whole for off, one, whole in zip(discounts, returned, wholes, strict=True)]
        assert list(RedemptionLine.objects.order_by("line").values_list("reversed_minor", flat=True)) == floors
        assert back == sum(floors)
    assert back == sum(discounts)


# --- what the database itself keeps ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "change"),
    [
        ("held", {"state": "reversed", "committed_at": NOW, "order_id": 7, "reversed_at": NOW}),
        ("committed", {"state": "held", "committed_at": None, "order_id": None}),
        ("committed", {"state": "released", "committed_at": None, "released_at": NOW}),
        ("released", {"state": "held", "released_at": None}),
        ("released", {"state": "committed", "released_at": None, "committed_at": NOW, "order_id": 7}),
        ("committed", {"discount_minor": 1}),
        ("held", {"state": "committed", "committed_at": NOW}),
    ],
)
def test_the_database_refuses_a_redemption_that_goes_another_way(
    shop: Program, claim: Claim, state: str, change: dict[str, Any]
) -> None:
    hold(shop, use(shop, claim))
    if state == "committed":
        commit(shop)
    elif state == "released":
        release(shop)
    with pytest.raises(IntegrityError), transaction.atomic():
        Redemption.objects.update(**change)
    assert Redemption.objects.get().state == state


def test_what_came_back_of_a_line_stays(shop: Program, bought: Any) -> None:
    bought()
    reverse(shop, {"a": (2, 3), "b": (0, 1)})
    for change in ({"reversed_minor": 1}, {"discount_minor": 999}):
        with pytest.raises(IntegrityError), transaction.atomic():
            RedemptionLine.objects.filter(line="a").update(**change)


def test_a_claim_has_one_redemption_at_a_time(shop: Program, claim: Claim) -> None:
    hold(shop, use(shop, claim))
    copy = Redemption.objects.get()
    copy.pk, copy.reference, copy.public_id = None, "c2", "01890000-0000-7000-8000-000000000000"
    with pytest.raises(IntegrityError, match="redemption_claim_once"), transaction.atomic():
        copy.save(force_insert=True)

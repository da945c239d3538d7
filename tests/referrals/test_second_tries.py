"""A try that was refused as one person's leaves its evidence, and the next one goes to a review."""

import pytest

from core.models import Program
from membership.models import Fingerprint, Member
from membership.services import fingerprints
from referrals.models import Referral, RefusedBinding
from referrals.services import binding, reviews
from referrals.services.binding import ExistingCustomer, SelfReferral
from tests.referrals.worlds import (
    DAY,
    NOW,
    SETTLED,
    bring,
    buy,
    deliver,
    enroll,
    make_shop,
    points_of,
    rewards_of,
    settle,
)  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)

Cast = tuple[Program, Member, Member, Member]
CARD = {"payment": "card-1"}


def refused(referrer: Member, friend: Member, told: dict[str, str]) -> None:
    """Try to bind, as the API does it: what the try wrote is rolled back, the evidence is kept."""
    with pytest.raises(SelfReferral) as refusal:
        bring(referrer, friend, told=told)
    binding.keep_evidence(member=friend, told=told, refusal=refusal.value, at=NOW)


@pytest.fixture
def cast() -> Cast:
    """Ann was seen with a card; Ben, who has the same, tried her code and was refused. Zoe has another one."""
    program = make_shop()
    zoe, ann, ben = enroll(program, "zoe", "ann", "ben")
    fingerprints.record(member=ann, seen_with=CARD, at=NOW)
    refused(ann, ben, CARD)
    return program, zoe, ann, ben


def test_the_evidence_of_a_refused_try_is_kept_once(cast: Cast) -> None:
    _, _, ann, ben = cast
    assert Fingerprint.objects.filter(member=ben, kind="payment").count() == 1
    assert list(RefusedBinding.objects.values_list("member_id", "referrer_id", "refused_at")) == [(ben.pk, ann.pk, NOW)]
    binding.keep_evidence(member=ben, told=CARD, refusal=SelfReferral(ann.pk), at=NOW + DAY)
    assert RefusedBinding.objects.get().refused_at == NOW
    assert not Referral.objects.exists()


def test_another_refusal_keeps_the_fingerprints_and_suspects_nobody() -> None:
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben")
    for refusal in (ExistingCustomer(), SelfReferral(ben.pk)):
        binding.keep_evidence(member=ben, told=CARD, refusal=refusal, at=NOW)
    assert Fingerprint.objects.get().member == ben
    assert not RefusedBinding.objects.exists()
    assert bring(ann, ben).state == "pending"


@pytest.mark.parametrize("told", [{}, CARD, {"payment": "card-2"}])
def test_the_second_try_goes_to_a_review_and_pays_nobody_before_it(cast: Cast, told: dict[str, str]) -> None:
    program, _, ann, ben = cast
    referral = bring(ann, ben, told=told)
    assert referral.state == "flagged"
    assert [one["signal"] for one in referral.signals] == ["refused_before", "shared_with_referrer"]
    buy(ben, "o1", 5_000)
    settle(program)
    assert rewards_of(ann) == [("order", 1, 500, "flagged")]
    reviews.approve(referral=referral, reason="mother and son", actor="ops", at=SETTLED)
    deliver(SETTLED)
    assert (points_of(ann), points_of(ben)) == (500, 200)


def test_with_another_referrers_code_it_goes_to_a_review_too(cast: Cast) -> None:
    _, zoe, _, ben = cast
    assert bring(zoe, ben).state == "flagged"


def test_each_referrer_with_whom_one_person_is_shared_refuses_once() -> None:
    program = make_shop()
    zoe, ann, ben = enroll(program, "zoe", "ann", "ben")
    for member in (zoe, ann):
        fingerprints.record(member=member, seen_with=CARD, at=NOW)
    refused(ann, ben, CARD)
    refused(zoe, ben, CARD)
    assert bring(zoe, ben, told=CARD).state == "flagged"


def test_approved_before_the_order_it_waits_for_it_and_is_not_reviewed_twice(cast: Cast) -> None:
    program, _, ann, ben = cast
    referral = bring(ann, ben, told=CARD)
    decided = reviews.approve(referral=referral, reason="mother and son", actor="ops", at=NOW)
    assert (decided.state, decided.due_at) == ("pending", None)
    buy(ben, "o1", 5_000)
    settle(program)
    referral.refresh_from_db()
    assert (referral.state, referral.score) == ("qualified", 100)
    assert points_of(ann) == 500


def test_what_everybody_shares_refuses_nobody() -> None:
    program = make_shop()
    ann, ben, *others = enroll(program, "ann", "ben", *(f"m{n:03}" for n in range(100)))
    for member in (ann, *others):
        fingerprints.record(member=member, seen_with={"device": "the till"}, at=NOW)
    assert bring(ann, ben, told={"device": "the till"}).state == "pending"

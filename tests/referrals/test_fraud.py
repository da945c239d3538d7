"""What speaks against a referral, what does not, and the review that decides."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from core.models import AuditEntry, Program
from membership.models import Member
from membership.services import fingerprints
from referrals.models import Referral
from referrals.rules import FLAGGED, Evidence, connect, score
from referrals.services import reviews
from tests.referrals.worlds import (
    DAY,
    NOW,
    SETTLED,
    bring,
    buy,
    deliver,
    enroll,
    give_back,
    make_shop,
    points_of,
    rewards_of,
    settle,
)  # fmt: skip


def total(**evidence: Any) -> int:
    return sum(points for _, points in score(Evidence(**evidence)))


def test_an_ip_address_alone_is_no_suspicion() -> None:
    assert score(Evidence(ip_agent=500)) == []
    assert total(ip_agent=500, address=1) < FLAGGED


def test_a_household_is_not_flagged_and_a_farm_is() -> None:
    assert total(address=4, ip_agent=4) < FLAGGED
    assert total(shared_by=2, address=4, ip_agent=4) < FLAGGED
    assert total(farm=4) >= FLAGGED
    assert total(strong_with_referrer=True) >= FLAGGED
    assert total(strong_with_siblings=2) >= FLAGGED
    assert total(address=20, ip_agent=20, burst=20) >= FLAGGED


def test_union_find_ties_what_hangs_together() -> None:
    groups = connect([(1, 2), (3, 4), (2, 5), (6, 7), (7, 3)])
    assert groups[1] == groups[2] == groups[5]
    assert groups[3] == groups[4] == groups[6] == groups[7]
    assert groups[1] != groups[3]
    long = connect((n, n + 1) for n in range(10_000))
    assert len(set(long.values())) == 1


@pytest.fixture
def flagged(transactional_db: None) -> tuple[Program, Member, list[Member]]:
    """Ann has brought three friends who use one card; each ordered, and waits for review."""
    program = make_shop()
    ann, *friends = enroll(program, "ann", "f1", "f2", "f3")
    for number, friend in enumerate(friends):
        bring(ann, friend, told={"payment": "card"})
        buy(friend, f"o{number}", 5_000)
    settle(program)
    return program, ann, friends


Flagged = tuple[Program, Member, list[Member]]


@pytest.fixture
def olivia(transactional_db: None) -> User:
    return User.objects.create_user("olivia", is_staff=True)


def test_a_flagged_referral_waits_and_pays_nobody(flagged: Flagged) -> None:
    _, ann, friends = flagged
    assert set(Referral.objects.values_list("state", flat=True)) == {"flagged"}
    assert {state for *_, state in rewards_of(ann)} == {"flagged"}
    assert [points_of(member) for member in (ann, *friends)] == [0, 0, 0, 0]
    signals = {one["signal"] for referral in Referral.objects.all() for one in referral.signals}
    assert "shared_with_friends" in signals


def test_an_approved_one_is_paid_and_leaves_an_audit_entry(flagged: Flagged, olivia: User) -> None:
    program, ann, friends = flagged
    referral = Referral.objects.get(member=friends[0])
    reviews.approve(referral=referral, reason="a family", actor="olivia", user=olivia, at=SETTLED + DAY)
    deliver(SETTLED + DAY)
    assert (points_of(ann), points_of(friends[0])) == (500, 200)
    entry = AuditEntry.objects.get(action="referral.approved")
    assert (entry.user, entry.reason, entry.target) == (olivia, "a family", f"referral {referral.pk}")
    with pytest.raises(reviews.WrongState):
        reviews.approve(referral=referral, reason="again", actor="olivia", user=olivia, at=SETTLED + 2 * DAY)
    assert AuditEntry.objects.filter(action__startswith="referral.").count() == 1
    assert program.pk == referral.program_id


def test_a_rejected_one_stays_so(flagged: Flagged, olivia: User) -> None:
    program, ann, friends = flagged
    referral = Referral.objects.get(member=friends[0])
    reviews.reject(referral=referral, reason="one person", actor="olivia", user=olivia, at=SETTLED + DAY)
    deliver(SETTLED + DAY)
    settle(program, SETTLED + 2 * DAY)
    buy(friends[0], "more", 9_000, at=SETTLED + 3 * DAY)
    settle(program, SETTLED + 30 * DAY)
    assert rewards_of(friends[0]) == [("order", 0, 200, "rejected")]
    assert points_of(ann) == 0
    with pytest.raises(IntegrityError, match="does not become"), transaction.atomic():
        Referral.objects.filter(pk=referral.pk).update(state="qualified")


def test_an_order_that_comes_back_during_the_review_ends_it(flagged: Flagged, olivia: User) -> None:
    _, _, friends = flagged
    give_back(friends[0], "r1", "o0", 5_000, at=SETTLED + DAY)
    referral = Referral.objects.get(member=friends[0])
    assert referral.state == "reversed"
    assert rewards_of(friends[0]) == [("order", 0, 200, "cancelled")]
    with pytest.raises(reviews.WrongState):
        reviews.approve(referral=referral, reason="late", actor="olivia", user=olivia, at=SETTLED + 2 * DAY)


@pytest.mark.django_db(transaction=True)
def test_a_chain_of_accounts_that_share_devices_is_a_farm() -> None:
    """Nobody shares anything with their own referrer: only the whole says that it is one person."""
    program = make_shop()
    chain = enroll(program, *(f"c{n}" for n in range(8)))
    for number, member in enumerate(chain):
        told = {"device": f"d{number % 2}"}
        fingerprints.record(member=member, seen_with=told | {"payment": f"card{number // 3}"}, at=NOW)
    for number in range(1, 8):
        if number % 3:  # two of one card cannot be bound to each other
            continue
        bring(chain[number - 1], chain[number])
    bring(chain[0], chain[7])
    bring(chain[2], chain[5])
    for number, member in enumerate(chain[1:]):
        buy(member, f"o{number}", 5_000)
    settle(program)
    states = set(Referral.objects.values_list("state", flat=True))
    assert states == {"flagged"}
    assert all("connected_farm" in {one["signal"] for one in r.signals} for r in Referral.objects.all())

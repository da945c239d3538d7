"""Limits of claims: of a member and of all, that the database keeps, however they change."""

import pytest
from django.db import IntegrityError, transaction

from core.models import Program
from coupons.models import CounterShard
from coupons.services import claims, limits
from tests.coupons.giving import NOW, enroll, id_of, make_shop, publish, written
from tests.coupons.test_claims import take

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(db: None) -> Program:
    return make_shop("shop", "ada", "ben")


def test_the_limit_of_a_member_counts_what_was_not_revoked(shop: Program) -> None:
    publish(shop, per_member=2, limit=10)
    first, second = take(shop), take(shop)
    assert (first.number, second.number) == (1, 2)
    before = written()
    with pytest.raises(claims.AlreadyClaimed):
        take(shop)
    assert written() == before
    claims.revoke(program=shop, member_id=id_of(shop), claim_id=first.pk, reason="mistake", actor="test", at=NOW)
    assert take(shop).number == 1
    assert take(shop, "ben").number == 1
    assert CounterShard.objects.get().used == 3


def test_a_lower_limit_of_a_member_counts_all_that_the_member_has(shop: Program) -> None:
    publish(shop, per_member=3)
    first, _, _ = take(shop), take(shop), take(shop)
    publish(shop, at=NOW, per_member=2)
    claims.revoke(program=shop, member_id=id_of(shop), claim_id=first.pk, reason="mistake", actor="test", at=NOW)
    with pytest.raises(claims.AlreadyClaimed):
        take(shop)


def test_the_database_keeps_the_number_without_the_function(shop: Program) -> None:
    publish(shop)
    claim = take(shop)
    claim.pk, claim.public_id = None, "01890000-0000-7000-8000-000000000000"
    with pytest.raises(IntegrityError, match="claim_number"), transaction.atomic():
        claim.save(force_insert=True)


@pytest.mark.parametrize("shards", [1, 3, 16])
def test_every_shard_is_asked_before_a_refusal(shop: Program, shards: int) -> None:
    publish(shop, limit=20, shards=shards)
    members = enroll(shop, *(f"m{n}" for n in range(21)))
    for member_id in members[:20]:
        claims.claim(program=shop, member_id=member_id, definition="five", at=NOW)
    before = written()
    with pytest.raises(claims.LimitReached):
        claims.claim(program=shop, member_id=members[20], definition="five", at=NOW)
    assert written() == before
    assert sum(CounterShard.objects.values_list("used", flat=True)) == 20


def test_the_counter_cannot_pass_its_limit(shop: Program) -> None:
    publish(shop, limit=1)
    take(shop)
    with pytest.raises(IntegrityError, match="countershard_limit"), transaction.atomic():
        CounterShard.objects.update(used=2)


def test_a_new_limit_spreads_what_is_free_and_never_goes_below_what_is_used(shop: Program) -> None:
    definition = publish(shop, limit=4, shards=2)
    members = enroll(shop, *(f"m{n}" for n in range(8)))
    taken = [claims.claim(program=shop, member_id=one, definition="five", at=NOW) for one in members[:4]]
    with pytest.raises(limits.LimitBelowUsed, match="4 given out already, so the limit cannot be 3"):
        limits.set_limit(definition=definition, limit=3)
    assert limits.find_problem(definition=definition, limit=3) != ""
    limits.set_limit(definition=definition, limit=5, shards=1)
    assert [(one.limit - one.used) for one in CounterShard.objects.order_by("shard")] == [1, 0]
    claims.claim(program=shop, member_id=members[4], definition="five", at=NOW)
    with pytest.raises(claims.LimitReached):
        claims.claim(program=shop, member_id=members[5], definition="five", at=NOW)
    # What was taken from a counter that is no longer wanted is free again there.
    last = max(taken, key=lambda one: one.shard or 0)
    claims.revoke(program=shop, member_id=last.member_id, claim_id=last.pk, reason="mistake", actor="test", at=NOW)
    assert claims.claim(program=shop, member_id=members[5], definition="five", at=NOW).shard == 1


def test_claims_from_before_the_first_limit_count(shop: Program) -> None:
    definition = publish(shop)
    first = take(shop)
    with pytest.raises(limits.LimitBelowUsed):
        limits.set_limit(definition=definition, limit=0)
    limits.set_limit(definition=definition, limit=1)
    with pytest.raises(claims.LimitReached):
        take(shop, "ben")
    claims.revoke(program=shop, member_id=id_of(shop), claim_id=first.pk, reason="mistake", actor="test", at=NOW)
    assert take(shop, "ben").shard == 0
    limits.set_limit(definition=definition, limit=None)
    assert take(shop).shard is None


def test_what_was_taken_before_a_limit_was_lifted_is_given_back_to_the_next(shop: Program) -> None:
    definition = publish(shop, limit=16, shards=16)
    taken = [claims.claim(program=shop, member_id=one, definition="five", at=NOW) for one in enroll(shop, "m1", "m2")]
    limits.set_limit(definition=definition, limit=None)
    limits.set_limit(definition=definition, limit=2)
    assert any(claim.shard for claim in taken)
    for claim in taken:
        claims.revoke(program=shop, member_id=claim.member_id, claim_id=claim.pk, reason="no", actor="test", at=NOW)
    assert CounterShard.objects.get().used == 0

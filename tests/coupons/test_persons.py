"""Coupons that a person has once: of several accounts with one fingerprint one gets it, whenever that comes out."""

from functools import partial
from typing import Any

import pytest
from django.db import connection

from core.models import Program
from coupons.models import Claim, PersonClaim
from coupons.persons import PersonClaims
from coupons.selectors import list_candidates
from coupons.services import claims, persons, recalls, redemptions
from membership import fingerprints as reading
from membership.models import Member
from membership.services import fingerprints
from tests.api.client import in_parallel
from tests.coupons.giving import (
    BASKET,
    DAY,
    HELD_UNTIL,
    NOW,
    enroll,
    id_of,
    make_shop,
    publish,
    use,
    without_claim,
    written,
)

pytestmark = pytest.mark.django_db
ONCE: dict[str, Any] = {"per_member": 1, "once_per_person": True}


@pytest.fixture
def shop(db: None) -> Program:
    shop = make_shop("shop", "ada", "bea", "cem")
    publish(shop, **ONCE)
    return shop


def see(shop: Program, name: str, **seen_with: str) -> None:
    member = Member.objects.get(program=shop, external_id=name)
    fingerprints.record(member=member, seen_with=seen_with, at=NOW)


def take(shop: Program, name: str, definition: str = "five", **more: Any) -> Claim:
    return claims.claim(program=shop, member_id=id_of(shop, name), definition=definition, at=NOW, **more)


def hold(shop: Program, name: str, applied: Any, reference: str = "") -> None:
    redemptions.hold(
        program=shop, member_id=id_of(shop, name), reference=reference or name, currency="GBP", basket=BASKET,
        applied=[applied], held_until=HELD_UNTIL, at=NOW,
    )  # fmt: skip


def look(shop: Program, name: str) -> tuple[set[str], dict[str, str]]:
    """Return what may apply for a member, and why coupons do not."""
    found = list_candidates(program=shop, member_id=id_of(shop, name), codes=[], at=NOW, skus=(), categories=())
    return {one.code for one in found.candidates}, {one.candidate.code: one.reason for one in found.refused}


@pytest.mark.parametrize("kind", ["email", "payment", "device"])
def test_a_second_account_with_the_same_fingerprint_gets_none(shop: Program, kind: str) -> None:
    for name in ("ada", "bea"):
        see(shop, name, **{kind: "the same"})
    take(shop, "ada")
    before = written()
    with pytest.raises(claims.OncePerPerson):
        take(shop, "bea")
    assert written() == before
    assert take(shop, "cem").member_id == id_of(shop, "cem")


@pytest.mark.parametrize("kind", ["address", "ip_agent"])
def test_an_address_alone_makes_no_person(shop: Program, kind: str) -> None:
    for name in ("ada", "bea"):
        see(shop, name, **{kind: "the same"})
        take(shop, name)
    assert Claim.objects.count() == 2


def test_who_is_not_known_gets_it(shop: Program) -> None:
    take(shop, "ada")
    take(shop, "bea")
    assert not PersonClaim.objects.exists()


def test_a_till_that_served_everybody_ties_nobody(shop: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PUBLIC", 2)
    for name in ("ada", "bea", "cem"):
        see(shop, name, device="the till")
    for name in ("ada", "bea", "cem"):
        take(shop, name)
    assert Claim.objects.count() == 3


def test_a_coupon_that_does_not_choose_it_is_had_by_every_account(shop: Program) -> None:
    publish(shop, "free", per_member=1)
    for name in ("ada", "bea"):
        see(shop, name, email="a@b.example")
        take(shop, name, "free")
    assert Claim.objects.count() == 2


def test_what_is_taken_back_another_account_may_have(shop: Program) -> None:
    for name in ("ada", "bea"):
        see(shop, name, email="a@b.example", device="d")
    first = take(shop, "ada")
    assert PersonClaim.objects.count() == 2
    claims.revoke(program=shop, member_id=first.member_id, claim_id=first.pk, reason="x", at=NOW)
    assert not PersonClaim.objects.exists()
    assert take(shop, "bea").state == "open"


def test_a_recall_frees_the_person_too(shop: Program) -> None:
    see(shop, "ada", email="a@b.example")
    claim = take(shop, "ada")
    made = recalls.recall(program=shop, definition=claim.definition, reason="x", actor="t", at=NOW)
    recalls.revoke_recalled(recall_id=made.pk, at=NOW)
    assert not PersonClaim.objects.exists()


def test_a_checkout_takes_it_for_the_person_and_frees_it_again(shop: Program) -> None:
    publish(shop, "auto", how="automatic", **ONCE)
    for name in ("ada", "bea"):
        see(shop, name, payment="card")
    hold(shop, "ada", without_claim(shop, "auto"))
    assert look(shop, "bea") == (set(), {"auto": "once_per_person"})
    with pytest.raises(redemptions.CouponUnavailable):
        hold(shop, "bea", without_claim(shop, "auto"))
    redemptions.release(program=shop, member_id=id_of(shop, "ada"), reference="ada", at=NOW)
    assert look(shop, "bea")[0] == {"auto"}
    hold(shop, "bea", without_claim(shop, "auto"))


def test_what_comes_out_later_lets_the_earlier_claim_stand(shop: Program) -> None:
    """Both have it when they turn out to be one person: the one claimed first counts, unless the other is in use."""
    first, second = take(shop, "ada"), take(shop, "bea")
    for name in ("ada", "bea"):
        see(shop, name, email="a@b.example")
    assert (look(shop, "ada"), look(shop, "bea")) == (({"five"}, {}), (set(), {"five": "once_per_person"}))
    with pytest.raises(redemptions.CouponUnavailable):
        hold(shop, "bea", use(shop, second))
    hold(shop, "ada", use(shop, first))


def test_what_is_in_use_counts_before_what_was_claimed_earlier(shop: Program) -> None:
    first, second = take(shop, "ada"), take(shop, "bea")
    hold(shop, "bea", use(shop, second))
    for name in ("ada", "bea"):
        see(shop, name, email="a@b.example")
    assert look(shop, "ada") == (set(), {"five": "once_per_person"})
    with pytest.raises(redemptions.CouponUnavailable):
        hold(shop, "ada", use(shop, first))


def test_the_same_source_gives_the_same_claim_whatever_is_known_by_now(shop: Program) -> None:
    first = take(shop, "ada", source="k")
    take(shop, "bea", source="k")
    for name in ("ada", "bea"):
        see(shop, name, email="a@b.example")
    assert take(shop, "ada", source="k") == first


def test_a_code_says_that_another_account_has_had_it(shop: Program) -> None:
    from coupons.services import code_batches  # noqa: PLC0415 one test alone makes codes

    definition = publish(shop, "typed", how="code", **ONCE)
    code_batches.create_code(program=shop, definition=definition, text="HELLO", actor="t", at=NOW)
    for name in ("ada", "bea"):
        see(shop, name, device="d")
    claims.claim(program=shop, member_id=id_of(shop, "ada"), code="HELLO", at=NOW)
    found = list_candidates(program=shop, member_id=id_of(shop, "bea"), codes=["hello"], at=NOW, skus=(), categories=())
    assert (found.candidates, found.unknown_codes["hello"].reason) == ((), "once_per_person")


def test_notes_of_persons_go_with_the_fingerprints(shop: Program) -> None:
    see(shop, "ada", email="a@b.example")
    take(shop, "ada")
    assert (persons.forget(before=NOW), persons.forget(before=NOW + DAY)) == (0, 1)
    assert not PersonClaim.objects.exists()


def test_without_such_a_coupon_nobody_is_compared(shop: Program, django_assert_num_queries: Any) -> None:
    member_id = id_of(shop)
    with django_assert_num_queries(0):
        assert PersonClaims(member_id, []).had == set()


# --- at the same time ------------------------------------------------------------------------------------------


def _race(shop: Program, number: int = 0) -> int:
    """Let eight accounts of one person claim at once; answer how many got the coupon."""
    names, code = [f"m{number}-{n}" for n in range(8)], f"race{number}"
    publish(shop, code, **ONCE)
    enroll(shop, *names)
    for name in names:
        see(shop, name, device=f"d{number}", email=f"{number}@b.example")

    def one(name: str) -> bool:
        try:
            take(shop, name, code)
        except claims.OncePerPerson:
            return False
        return True

    return sum(in_parallel([partial(one, name) for name in names]))


@pytest.mark.django_db(transaction=True)
def test_of_accounts_that_claim_at_once_one_gets_it(shop: Program) -> None:
    assert _race(shop) == 1
    assert Claim.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_control_without_the_unique_key_several_get_it(shop: Program) -> None:
    unique = "ADD CONSTRAINT personclaim_once UNIQUE (definition_id, digest)"
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE coupons_personclaim DROP CONSTRAINT personclaim_once")
    try:
        assert any(_race(shop, number) > 1 for number in range(10))
    finally:
        PersonClaim.objects.all().delete()
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE coupons_personclaim {unique}")

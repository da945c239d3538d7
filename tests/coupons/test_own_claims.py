"""What of a member's own coupons cannot be used with a basket, and the true reason; what the shopper chooses."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from core.models import Program
from coupons import own_claims
from coupons.explain import explain_code, explain_refused
from coupons.models import Claim
from coupons.rules import Refused
from coupons.services import claims, code_batches, quotes, redemptions
from coupons.services.quotes import BasketQuote, Choice
from membership.models import Member
from tests.coupons.giving import BASKET, DAY, NOW, id_of, make_shop, publish, use, without_claim

pytestmark = pytest.mark.django_db

CHECKOUT = str(UUID(int=7))
HELD_UNTIL = NOW + timedelta(minutes=15)


@pytest.fixture
def shop(db: None) -> Program:
    return make_shop("shop", "ada", "ben")


def claim(shop: Program, code: str = "five", **more: Any) -> Claim:
    return claims.claim(program=shop, member_id=id_of(shop), definition=code, at=NOW - DAY, **more)


def hold(shop: Program, *applied: Any, reference: str = CHECKOUT) -> None:
    redemptions.hold(
        program=shop, member_id=id_of(shop), reference=reference, currency="GBP", applied=applied, basket=BASKET,
        held_until=HELD_UNTIL, at=NOW,
    )  # fmt: skip


def quote(shop: Program, *codes: str, **more: Any) -> BasketQuote:
    member = Member.objects.get(pk=id_of(shop))
    return quotes.quote_basket(program=shop, member=member, basket=BASKET, codes=codes, at=NOW, **more)


def refusal(found: BasketQuote) -> Refused:
    (refused,) = found.evaluation.refused
    return refused


def test_what_another_checkout_holds_names_it_and_until_when(shop: Program) -> None:
    publish(shop)
    held = claim(shop)
    hold(shop, use(shop, held))
    refused = refusal(quote(shop))
    assert (refused.reason, refused.candidate.claim) == ("held_in_checkout", str(held.public_id))
    assert refused.details == {"checkout": CHECKOUT, "until": HELD_UNTIL.isoformat()}
    sentence = f"“Five” (five) is in use in checkout {CHECKOUT} until 2026-06-01 13:15:00 BST."
    assert explain_refused(refused, shop.time_zone) == sentence


def test_what_was_used_or_has_expired_says_so(shop: Program) -> None:
    publish(shop, "used", per_member=1)
    publish(shop, "over", valid_days=1)
    hold(shop, use(shop, claim(shop, "used")))
    redemptions.commit(program=shop, member_id=id_of(shop), reference=CHECKOUT, order_id=7, at=NOW - DAY)
    over = claims.claim(program=shop, member_id=id_of(shop), definition="over", at=NOW - 9 * DAY)
    told = {one.candidate.code: one for one in quote(shop).evaluation.refused}
    assert {code: str(one.reason) for code, one in told.items()} == {"used": "already_used", "over": "expired"}
    assert told["used"].details == {"used_at": (NOW - DAY).isoformat()}
    assert told["over"].details == {"expires_at": over.expires_at.isoformat() if over.expires_at else ""}
    assert explain_refused(told["used"]) == "“Used” (used) has been used."
    assert explain_refused(told["over"], "UTC") == "“Over” (over) was valid until 2026-05-24 23:00:00 UTC."


def test_what_is_not_valid_yet_says_from_when(shop: Program) -> None:
    publish(shop, "soon", how="issued", starts_at=(NOW + DAY).isoformat())
    claims.issue(program=shop, member_id=id_of(shop), definition_code="soon", source="s", at=NOW)
    assert refusal(quote(shop)).reason == "not_yet_valid"


def test_a_code_whose_only_use_is_held_names_the_checkout(shop: Program) -> None:
    spring = publish(shop, "spring", how="code", per_member=1)
    code = code_batches.create_code(program=shop, definition=spring, text="SPRING", actor="test", at=NOW)
    hold(shop, without_claim(shop, "spring", f"code:{code.pk}"))
    found = quote(shop, "spring")
    refused = found.unknown_codes["spring"]
    assert refused.reason == "held_in_checkout"
    assert refused.details == {"checkout": CHECKOUT, "until": HELD_UNTIL.isoformat()}
    assert explain_code(refused) == f"This code is in use in checkout {CHECKOUT} until 2026-06-01 12:15:00 UTC."
    redemptions.release(program=shop, member_id=id_of(shop), reference=CHECKOUT, at=NOW)
    assert [one.candidate.code for one in quote(shop, "spring").evaluation.applied] == ["spring"]
    hold(shop, without_claim(shop, "spring", f"code:{code.pk}"), reference="next")
    redemptions.commit(program=shop, member_id=id_of(shop), reference="next", order_id=7, at=NOW)
    assert quote(shop, "spring").unknown_codes["spring"].reason == "already_used"


def test_what_applies_by_itself_but_once_a_member_names_the_checkout_that_holds_it(shop: Program) -> None:
    publish(shop, "auto", how="automatic", per_member=1)
    hold(shop, without_claim(shop, "auto"))
    assert refusal(quote(shop)).reason == "held_in_checkout"
    redemptions.commit(program=shop, member_id=id_of(shop), reference=CHECKOUT, order_id=7, at=NOW)
    assert refusal(quote(shop)).reason == "already_used"


@pytest.mark.parametrize(
    ("becomes", "reason"), [("held", "held_in_checkout"), ("expired", "expired"), ("revoked", "revoked")]
)
def test_a_members_own_code_says_what_became_of_its_coupon(shop: Program, becomes: str, reason: str) -> None:
    publish(shop, "own", how="code", valid_days=0 if becomes == "expired" else None)
    mine = claims.issue(program=shop, member_id=id_of(shop), definition_code="own", source="s", at=NOW - DAY)
    if becomes == "held":
        hold(shop, use(shop, mine))
    if becomes == "revoked":
        claims.revoke(program=shop, member_id=id_of(shop), claim_id=mine.pk, reason="a mistake", at=NOW)
    assert mine.code is not None
    refused = quote(shop, mine.code.text).unknown_codes[mine.code.text]
    assert refused.reason == reason
    assert explain_code(refused)


def test_what_a_checkout_claimed_and_gave_up_is_not_named(shop: Program) -> None:
    publish(shop, "auto", how="automatic", per_member=1, threshold={"GBP": "9000.00"})
    hold(shop, without_claim(shop, "auto"))
    redemptions.release(program=shop, member_id=id_of(shop), reference=CHECKOUT, at=NOW)
    assert refusal(quote(shop)).reason == "below_threshold"


def test_of_those_that_are_over_the_last_are_named(shop: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_claims, "MOST_ENDED", 2)
    for n in range(4):
        publish(shop, f"c{n}", valid_days=1)
        claims.claim(program=shop, member_id=id_of(shop), definition=f"c{n}", at=NOW - 9 * DAY)
    assert {one.candidate.code for one in quote(shop).evaluation.refused} == {"c2", "c3"}


# --- the shopper chooses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "applied"),
    [
        (Choice(), {"five", "ten"}),
        (Choice(without=["ten"]), {"five"}),
        (Choice(only=["ten"]), {"ten"}),
        (Choice(only=["ten", "five"], without=["five"]), {"ten"}),
        (Choice(only=[]), set()),
    ],
)
def test_a_shopper_leaves_coupons_out(shop: Program, choice: Choice, applied: set[str]) -> None:
    publish(shop, "ten", how="automatic", discount={"amount": {"GBP": "10.00"}})
    publish(shop)
    claim(shop)
    found = quote(shop, choice=choice).evaluation
    assert {one.candidate.code for one in found.applied} == applied
    assert {one.candidate.code: str(one.reason) for one in found.refused} == dict.fromkeys(
        {"five", "ten"} - applied, "not_chosen"
    )
    assert all("left out as asked" in explain_refused(one) for one in found.refused)


def test_a_choice_names_coupons_of_the_program(shop: Program) -> None:
    publish(shop)
    with pytest.raises(quotes.ChoiceRefused) as refused:
        quote(shop, choice=Choice(without=["five", "fife"]))
    assert (refused.value.field, refused.value.code) == ("without.1", "fife")

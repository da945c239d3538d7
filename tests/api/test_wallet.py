"""A member's wallet over HTTP: what each claim and offer is worth, its window and state, and what a code gives."""

from datetime import timedelta
from typing import Any

import pytest

from core.models import Program
from coupons.models import Claim, CouponCode
from membership.models import Member, MemberStatus
from tests.api.client import Api, Reply
from tests.api.conftest import NOW, Clock
from tests.api.shop import assert_problem, enroll
from tests.coupons.giving import DAY, publish, written

pytestmark = pytest.mark.django_db
ADA = "members/ada/coupons"
TERMS: dict[str, Any] = {
    "discount": {"percent": "20%", "at_most": {"GBP": "8.00"}}, "threshold": {"GBP": "50.00"}, "categories": ["tea"],
    "priority": 3, "limit": 9, "per_member": 2,
}  # fmt: skip


@pytest.fixture
def shop(program: Program) -> Program:
    enroll(program, "ada", "ben")
    return program


def token(api: Api, member: str = "ada") -> Api:
    return Api(api.post(f"members/{member}/tokens").json["token"])


def claim(api: Api, key: str = "k1", **body: Any) -> Reply:
    return api.post(ADA, body or {"coupon": "five"}, key=key)


def shown(api: Api, **query: Any) -> list[tuple[str, str]]:
    return [(one["coupon"], one["state"]) for one in api.get(ADA, **query).json["results"]]


# --- claims ----------------------------------------------------------------------------------------------------


def test_a_claim_says_all_that_a_wallet_shows(shop: Program, api: Api) -> None:
    publish(shop, valid_days=0, **TERMS)
    claim(api)
    publish(shop, at=NOW, discount={"percent": "1%"})
    (mine,) = token(api).get(ADA).json["results"]
    assert (mine["value"], mine["state"], mine["version"]) == ("20% off, at most GBP 8.00", "open", 1)
    assert (mine["valid_from"], mine["expires_at"]) == ("2026-06-01T12:00:00Z", "2026-06-01T23:00:00Z")
    assert {name: mine["terms"][name] for name in ("discount", "threshold", "categories", "per_member")} == {
        name: TERMS[name] for name in ("discount", "threshold", "categories", "per_member")
    }
    assert not {"limit", "shards", "priority", "stack_group"} & set(mine["terms"])
    assert api.get(ADA).json["results"][0]["terms"]["limit"] == 9


def test_each_state_is_shown_and_asked_for(shop: Program, api: Api, clock: Clock) -> None:
    for coupon in ("over", "gone", "kept", "open"):
        publish(shop, coupon, valid_days=0 if coupon == "over" else 9)
        claim(api, coupon, coupon=coupon)
    (gone,) = Claim.objects.filter(definition__code="gone")
    assert api.post(f"{ADA}/{gone.public_id}/revoke", {"reason": "mistake"}).status == 200
    Claim.objects.filter(definition__code="kept").update(state="held")
    Claim.objects.filter(definition__code="kept").update(state="used")
    clock(NOW + 2 * DAY)
    expected = [("open", "open"), ("kept", "used"), ("gone", "revoked"), ("over", "expired")]
    assert shown(api) == shown(token(api)) == expected
    for coupon, state in expected:
        assert shown(api, state=state) == [(coupon, state)]
    assert shown(api, state="held") == []
    clock(NOW + 20 * DAY)
    assert shown(api, state="expired") == [("open", "expired"), ("over", "expired")]
    assert shown(api, state="open") == []


def test_a_held_claim_says_which_checkout_has_it_and_until_when(shop: Program, api: Api) -> None:
    publish(shop, how="automatic")
    publish(shop, "mine")
    claim(api, coupon="mine")
    basket = {"member": "ada", "currency": "GBP", "lines": [{"external_id": "a", "units": 1, "list_minor": 3000}]}
    checkout = api.post("checkouts", basket).json
    held = api.post(f"checkouts/{checkout['id']}/hold").json
    for one in token(api).get(ADA, state="held").json["results"]:
        assert (one["held_by"], one["held_until"]) == (held["id"], held["lapses_at"])
    assert {"mine", "five"} <= {coupon for coupon, _ in shown(api, state="held")}
    api.post(f"checkouts/{checkout['id']}/release")
    assert shown(api) == [("mine", "open")], "what the checkout took for itself was never the member's"
    assert api.get(ADA).json["results"][0]["held_by"] is None


# --- offers ----------------------------------------------------------------------------------------------------


def offers(api: Api) -> dict[str, tuple[str, str | None]]:
    found = api.get(f"{ADA}/offers").json["results"]
    return {one["offer"]["coupon"]: (one["state"], one["reason"]) for one in found}


def test_an_offer_says_whether_the_member_can_have_it(shop: Program, api: Api, clock: Clock) -> None:
    publish(shop, "auto", how="automatic", **TERMS)
    publish(shop, "once", per_member=1)
    publish(shop, "golden", tiers=["gold"])
    publish(shop, "fresh", new_member_days=0)
    publish(shop, "few", limit=1)
    publish(shop, "gift", how="issued")
    publish(shop, "typed", how="code")
    publish(shop, "soon", starts_at="2026-07-01T00:00:00Z")
    claim(api, "a", coupon="once")
    api.post("members/ben/coupons", {"coupon": "few"}, key="b")
    for caller in (api, token(api)):
        found = offers(caller)
        assert {name: found[name] for name in ("auto", "once", "golden", "few")} == {
            "auto": ("available", None), "once": ("unavailable", "already_used"),
            "golden": ("unavailable", "wrong_tier"), "few": ("unavailable", "all_given_out"),
        }  # fmt: skip
        assert not {"gift", "typed", "soon"} & set(found)
    told = {one["offer"]["coupon"]: one for one in token(api).get(f"{ADA}/offers").json["results"]}
    assert (told["auto"]["offer"]["value"], told["auto"]["offer"]["how"]) == ("20% off, at most GBP 8.00", "automatic")
    assert told["auto"]["offer"]["terms"]["threshold"] == {"GBP": "50.00"}
    assert "priority" not in told["auto"]["offer"]["terms"]
    assert told["golden"]["text"] == "“Golden” (golden) is for members of these tiers: gold."
    assert told["few"]["text"] == "All of these coupons have been given out."
    clock(NOW + 400 * DAY)
    assert offers(api)["fresh"] == ("unavailable", "not_new_member")


def test_a_suspended_member_can_have_nothing(shop: Program, api: Api) -> None:
    publish(shop)
    publish(shop, "typed", how="code")
    api.post("coupons/typed/codes", {"code": "SUMMER"})
    Member.objects.filter(external_id="ada").update(status=MemberStatus.SUSPENDED)
    assert offers(api)["five"] == ("unavailable", "member_suspended")
    assert check(api, "SUMMER")["reason"] == "member_suspended"


# --- a code without a basket -----------------------------------------------------------------------------------


def check(api: Api, code: str, **more: Any) -> Any:
    answer = api.post(f"{ADA}/check", {"code": code} | more)
    assert answer.status == 200, answer.text
    return answer.json


def test_a_code_is_checked_without_a_basket(shop: Program, api: Api) -> None:
    publish(shop, "typed", how="code", **TERMS | {"per_member": 1, "markets": ["uk"]})
    api.post("coupons/typed/codes", {"code": "Summer"})
    before = written()
    told = check(token(api), "sum-mer\t")
    assert (told["code"], told["state"], told["reason"], told["text"]) == ("sum-mer", "available", None, None)
    assert (told["offer"]["coupon"], told["offer"]["value"]) == ("typed", "20% off, at most GBP 8.00")
    assert told["offer"]["terms"]["threshold"] == {"GBP": "50.00"}
    assert check(api, "SUMMER", market="uk")["state"] == "available"
    assert check(api, "SUMMER", market="cn")["reason"] == "wrong_market"
    assert written() == before


def test_a_code_that_cannot_be_used_says_why(shop: Program, api: Api, clock: Clock) -> None:
    windows: dict[str, dict[str, Any]] = {
        "SOON": {"starts_at": "2026-07-01T00:00:00Z"},
        "OVER": {"ends_at": "2026-05-01T00:00:00Z"},
        "GONE": {"limit": 1},
    }
    for code, told in windows.items():
        publish(shop, code.lower(), how="code", **told)
        api.post(f"coupons/{code.lower()}/codes", {"code": code})
    publish(shop, "mine", how="code", per_member=1)
    api.post("coupons/mine/codes", {"code": "MINE"})
    api.post("members/ben/coupons", {"code": "GONE"}, key="g")
    assert check(api, "SOON")["reason"] == "not_yet_valid"
    assert check(api, "SOON")["text"] == "“Soon” (soon) is valid from 2026-07-01 01:00:00 BST."
    assert check(api, "OVER")["reason"] == "expired"
    assert check(api, "GONE")["reason"] == "all_given_out"
    assert check(api, "NONE") == {
        "code": "NONE", "offer": None, "state": "unavailable", "reason": "unknown", "text": "This code is not valid.",
    }  # fmt: skip
    claim(api, code="MINE")
    assert check(api, "MINE")["state"] == "available", "the claim stands for the code"
    Claim.objects.filter(definition__code="mine").update(state="held")
    Claim.objects.filter(definition__code="mine").update(state="used")
    assert check(api, "MINE")["reason"] == "already_used"


def test_a_blank_code_is_refused_where_it_is_all_that_is_asked(shop: Program, api: Api) -> None:
    for path, key in ((f"{ADA}/check", None), (ADA, "k")):
        assert_problem(api.post(path, {"code": " \u200b "}, key=key), 422, "invalid_request", "/code")


# --- shared codes of what is issued ----------------------------------------------------------------------------


def test_a_shared_code_of_an_issued_coupon_is_refused_when_it_is_made(shop: Program, api: Api) -> None:
    publish(shop, "gift", how="issued")
    before = written()
    assert_problem(api.post("coupons/gift/codes", {"code": "ALLOFYOU"}), 422, "issued_alone", "/is_shared")
    assert written() == before
    assert api.post("coupons/gift/codes", {"code": "FORONE", "is_shared": False}).status == 201
    publish(shop, "gift", at=NOW, how="code")
    assert api.post("coupons/gift/codes", {"code": "ALLOFYOU"}).status == 201
    assert CouponCode.objects.count() == 2


# --- an older claim --------------------------------------------------------------------------------------------


def test_an_older_claim_hides_no_better_code(shop: Program, api: Api, clock: Clock) -> None:
    publish(shop, "typed", how="code", discount={"amount": {"GBP": "5.00"}}, exclusive=True)
    api.post("coupons/typed/codes", {"code": "SUMMER"})
    older = claim(api, code="SUMMER").json["coupon"]["id"]
    publish(shop, "typed", at=NOW, how="code", discount={"amount": {"GBP": "20.00"}}, exclusive=True)
    clock(NOW + timedelta(seconds=1))
    body = {"currency": "GBP", "lines": [{"line": "a", "amount_minor": 9000}], "codes": ["SUMMER"]}
    (best,) = api.post(f"{ADA}/quote", body).json["applied"]
    assert (best["claim"], best["discount_minor"]) == (None, 2000)
    (best,) = api.post(f"{ADA}/quote", body | {"codes": []}).json["applied"]
    assert (best["claim"], best["discount_minor"]) == (older, 500)

    publish(
        shop, "typed", at=NOW + timedelta(seconds=2), how="code", discount={"amount": {"GBP": "1.00"}}, exclusive=True
    )
    clock(NOW + timedelta(seconds=3))
    (best,) = api.post(f"{ADA}/quote", body).json["applied"]
    assert (best["claim"], best["discount_minor"]) == (older, 500)


def test_an_older_claim_stands_where_no_further_one_may_be_had(shop: Program, api: Api, clock: Clock) -> None:
    publish(shop, "typed", how="code", discount={"amount": {"GBP": "5.00"}}, exclusive=True, per_member=1)
    api.post("coupons/typed/codes", {"code": "SUMMER"})
    older = claim(api, code="SUMMER").json["coupon"]["id"]
    publish(shop, "typed", at=NOW, how="code", discount={"amount": {"GBP": "20.00"}}, exclusive=True, per_member=1)
    clock(NOW + timedelta(seconds=1))
    body = {"currency": "GBP", "lines": [{"line": "a", "amount_minor": 9000}], "codes": ["SUMMER"]}
    answer = api.post(f"{ADA}/quote", body).json
    assert ([one["claim"] for one in answer["applied"]], answer["refused_codes"]) == ([older], [])


def test_a_members_own_code_stands_for_its_claim_alone(shop: Program, api: Api, clock: Clock) -> None:
    publish(shop, "typed", how="code", discount={"amount": {"GBP": "5.00"}}, exclusive=True)
    issued = api.post(f"{ADA}/issue", {"coupon": "typed", "source": "s"}).json["coupon"]
    publish(shop, "typed", at=NOW, how="code", discount={"amount": {"GBP": "20.00"}}, exclusive=True)
    clock(NOW + timedelta(seconds=1))
    basket = {"member": "ada", "currency": "GBP", "lines": [{"external_id": "a", "units": 1, "list_minor": 9000}]}
    checkout = api.post("checkouts", basket | {"codes": [issued["code"]]}).json
    assert [one["discount_minor"] for one in checkout["price"]["coupons"]["applied"]] == [500]
    assert api.post(f"checkouts/{checkout['id']}/hold").status == 200

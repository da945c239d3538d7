"""Wrong codes: they slow down whoever tries them, and cost nobody the price of a basket."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings as configured
from prometheus_client import REGISTRY
from rest_framework.request import Request

from config.celery import app
from core.api import throttle
from core.api.addresses import find_shopper_address
from core.models import Event, OutboxEvent, Program
from core.services import outbox
from coupons.api import guessing
from coupons.models import Claim
from membership.models import Member, MemberStatus
from tests.api.client import Api, Reply, in_parallel
from tests.api.conftest import NOW, MakeKey
from tests.api.shop import assert_problem, enroll
from tests.coupons.giving import publish

pytestmark = pytest.mark.django_db

LIMIT = guessing.FAILURES_PER_MEMBER
LINES = [{"line": "a", "sku": "tea-1", "category": "tea", "amount_minor": 3000}]
BASKET = {"member": "ada", "currency": "GBP", "lines": [{"external_id": "a", "units": 1, "list_minor": 3000}]}


@pytest.fixture(autouse=True)
def _slow_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """No try comes back while a test runs, however slow the machine is."""
    monkeypatch.setattr(throttle, "WINDOW_SECONDS", 36_000)


@pytest.fixture
def shop(program: Program, api: Api) -> Program:
    enroll(program, "ada", "ben")
    publish(program, "typed", how="code", discount={"percent": "50%"}, exclusive=True)
    assert api.post("coupons/typed/codes", {"code": "SUMMER"}).status == 201
    return program


def claim(api: Api, key: str, code: str, member: str = "ada", **more: Any) -> Reply:
    return api.post(f"members/{member}/coupons", {"code": code}, key=key, **more)


def quote(api: Api, *codes: str, member: str = "ada", **more: Any) -> Any:
    body = {"currency": "GBP", "lines": LINES, "codes": codes}
    answer = api.post(f"members/{member}/coupons/quote", body, **more)
    assert answer.status == 200, answer.text
    return answer.json


def refused(answer: Any) -> dict[str, str]:
    return {one["code"]: one["reason"] for one in answer["refused_codes"]}


def at_checkout(api: Api, *codes: str, **more: Any) -> tuple[set[str], dict[str, str]]:
    """Quote a checkout: which coupons apply, and why codes do not."""
    answer = api.post("checkouts", BASKET | {"codes": codes} | more)
    assert answer.status == 201, answer.text
    coupons = answer.json["price"]["coupons"]
    return {one["code"] for one in coupons["applied"]}, {one["code"]: one["reason"] for one in coupons["refused"]}


def tries_left(api: Api, member: str = "ada") -> int:
    """Use up what is left, and answer how many it was."""
    left = refused(quote(api, *(f"LEFT{n}" for n in range(LIMIT)), member=member))
    return list(left.values()).count("unknown")


# --- the price of the basket -----------------------------------------------------------------------------------


def test_a_basket_is_priced_whatever_was_typed(shop: Program, api: Api) -> None:
    odd = ["\u0000", "\ufeff", "  ", "x" * 5_000, "a\tb\nc", "10 % \u5238", "NO\u00cbL", "SUMMER\u200b"]
    applied, reasons = at_checkout(api, *odd)
    assert "typed" in applied
    assert set(reasons.values()) >= {"unknown"}
    assert {"a b c", "10 % \u5238", "NO\u00cbL"} < set(reasons)
    assert [one["coupon"] for one in quote(api, *odd)["applied"]] == ["typed"]


def test_after_too_many_wrong_codes_the_basket_is_priced_without_further_ones(shop: Program, api: Api) -> None:
    wrong = [f"TRY{n}" for n in range(LIMIT)]
    assert set(refused(quote(api, *wrong)).values()) == {"unknown"}
    late = quote(api, "SUMMER")
    assert refused(late) == {"SUMMER": "too_many_codes"}
    assert "typed" not in {one["coupon"] for one in late["applied"]}
    applied, reasons = at_checkout(api, "SUMMER")
    assert ("typed" in applied, reasons["SUMMER"]) == (False, "too_many_codes")
    assert quote(api, "SUMMER", member="ben")["applied"][0]["coupon"] == "typed"


def test_one_wrong_code_is_one_try_however_often_the_basket_is_quoted(shop: Program, api: Api) -> None:
    for _ in range(LIMIT + 3):
        assert refused(quote(api, "MISTYPED", "SUMMER")) == {"MISTYPED": "unknown"}
        assert "typed" in at_checkout(api, "m-i-s-typed", "SUMMER")[0]
    assert tries_left(api) == LIMIT - 1


def test_a_right_code_costs_no_try_and_is_read_when_none_is_left(shop: Program, api: Api) -> None:
    for n in range(LIMIT + 3):
        assert claim(api, f"k{n}", "SUMMER").status == 201
        assert quote(api, "SUMMER")["applied"]
    assert tries_left(api) == LIMIT
    assert quote(api, "SUMMER")["applied"][0]["coupon"] == "typed"
    assert claim(api, "again", "SUMMER").status == 201


def test_a_code_in_hand_of_one_member_is_unknown_to_the_counts_of_another(shop: Program, api: Api) -> None:
    quote(api, "SUMMER")
    tries_left(api, "ben")
    assert refused(quote(api, "SUMMER", member="ben")) == {"SUMMER": "too_many_codes"}


# --- claiming --------------------------------------------------------------------------------------------------


def test_a_claim_by_a_code_waits_when_no_try_is_left(shop: Program, api: Api) -> None:
    said = [claim(api, f"k{n}", f"TRY{n}").code for n in range(LIMIT + 2)]
    assert said == ["code_not_available"] * LIMIT + ["too_many_codes"] * 2
    slowed = claim(api, "right", "SUMMER")
    assert (slowed.status, slowed.code) == (429, "too_many_codes")
    assert 1 <= int(slowed.headers["Retry-After"]) <= throttle.WINDOW_SECONDS // LIMIT
    assert claim(api, "other", "SUMMER", "ben").status == 201
    assert api.post("members/ada/coupons", {"coupon": "typed"}, key="k").code == "not_claimable"


def test_what_a_refused_request_did_not_read_costs_no_try_and_stays_unknown(shop: Program, api: Api) -> None:
    for n in range(LIMIT + 3):
        answer = api.post("checkouts", BASKET | {"codes": [f"TRY{n}"], "redeem": {"wallet": "nothing"}})
        assert_problem(answer, 422, "unknown_wallet")
    assert tries_left(api) == LIMIT
    assert refused(quote(api, "TRY0")) == {"TRY0": "too_many_codes"}


def test_codes_of_a_suspended_member_are_not_read_and_cost_nothing(shop: Program, api: Api) -> None:
    Member.objects.filter(external_id="ada").update(status=MemberStatus.SUSPENDED)
    assert at_checkout(api, "SUMMER", "WRONG")[1] == dict.fromkeys(["SUMMER", "WRONG"], "member_suspended")
    Member.objects.filter(external_id="ada").update(status=MemberStatus.ACTIVE)
    assert tries_left(api) == LIMIT


@pytest.mark.django_db(transaction=True)
def test_whoever_tries_codes_at_once_has_no_more_tries(shop: Program, api: Api) -> None:
    calls = [lambda n=n: quote(api, *(f"T{n}X{m}" for m in range(5))) for n in range(8)]
    reasons = [reason for answer in in_parallel(calls) for reason in refused(answer).values()]
    assert reasons.count("unknown") == LIMIT


# --- addresses -------------------------------------------------------------------------------------------------


def test_an_address_has_tries_whatever_the_accounts_are(
    shop: Program, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guessing, "FAILURES_PER_ADDRESS", 3)
    here, there = ({"headers": {"Shopper-Address": address}} for address in ("203.0.113.7", "203.0.113.8"))
    assert refused(quote(api, "A1", "A2", member="ada", **here)) == {"A1": "unknown", "A2": "unknown"}
    assert refused(quote(api, "B1", "B2", member="ben", **here)) == {"B1": "unknown", "B2": "too_many_codes"}
    assert refused(quote(api, "B2", member="ben", **there)) == {"B2": "unknown"}
    assert refused(quote(api, "A3", member="ada")) == {"A3": "unknown"}
    wide = [{"headers": {"Shopper-Address": f"2001:db8::{n}"}} for n in range(4)]
    told = [refused(quote(api, f"C{n}", member="ben", **wide[n])) for n in range(4)]
    assert [list(one.values()) for one in told] == [["unknown"]] * 3 + [["too_many_codes"]]


def test_an_address_that_is_none_is_refused(shop: Program, api: Api) -> None:
    told: dict[str, Any] = {"headers": {"Shopper-Address": "localhost"}}
    assert_problem(api.post("checkouts", BASKET | {"codes": ["X"]}, **told), 400, "invalid_parameter")
    assert api.post("checkouts", BASKET, **told).status == 201, "without a code nobody asks"


@pytest.mark.parametrize(
    ("seen", "forwarded", "address"),
    [
        ("8.8.8.8", "", "8.8.8.8"), ("127.0.0.1", "", ""), ("10.1.2.3", "", ""),
        ("127.0.0.1", "1.1.1.1, 8.8.8.8", "8.8.8.8"),
        ("2a00:1450:4001:80b::200e", "", "2a00:1450:4001:80b::/64"), ("::ffff:8.8.8.8", "", "8.8.8.8"),
        ("127.0.0.1", "unknown", ""),
    ],
)  # fmt: skip
def test_a_browser_is_counted_by_the_address_that_our_proxies_saw(
    rf: Any, settings: Any, seen: str, forwarded: str, address: str
) -> None:
    settings.TRUSTED_PROXIES = 1 if forwarded else 0
    request = Request(rf.get("/", REMOTE_ADDR=seen, headers={"X-Forwarded-For": forwarded}))
    request.auth = SimpleNamespace(member="ada")
    assert find_shopper_address(request) == address


def test_a_browser_cannot_name_another_address(shop: Program, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guessing, "FAILURES_PER_ADDRESS", 1)
    token = Api(api.post("members/ada/tokens").json["token"])
    told = [quote(token, f"X{n}", headers={"Shopper-Address": "203.0.113.7"}) for n in range(2)]
    assert [refused(one) for one in told] == [{"X0": "unknown"}, {"X1": "unknown"}]


# --- the program's alarm ---------------------------------------------------------------------------------------


@pytest.fixture
def _at_once() -> Iterator[None]:
    """Tasks run where they are asked for."""
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


@pytest.mark.usefixtures("_at_once")
def test_many_wrong_codes_of_a_program_raise_one_alarm_and_refuse_no_right_code(
    shop: Program, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guessing, "FAILURES_PER_PROGRAM", 4)
    before = REGISTRY.get_sample_value("perennial_wrong_codes_total", {"program": shop.code}) or 0
    quote(api, *(f"A{n}" for n in range(4)), "SUMMER")
    assert not OutboxEvent.objects.filter(topic="coupons.codes_guessed").exists()
    quote(api, *(f"B{n}" for n in range(4)), member="ben")
    assert REGISTRY.get_sample_value("perennial_wrong_codes_total", {"program": shop.code}) == before + 8
    outbox.drain(at=NOW)
    event = Event.objects.get(type="coupon.codes_guessed")
    assert (event.data, event.subject) == ({"wrong_codes": 4, "seconds": 60}, "")
    assert quote(api, "SUMMER")["applied"][0]["coupon"] == "typed"
    assert claim(api, "k", "SUMMER", "ben").status == 201


# --- Redis -----------------------------------------------------------------------------------------------------


def test_without_redis_every_code_is_read(shop: Program, make_key: MakeKey, settings: Any) -> None:
    api = Api(make_key())
    settings.REDIS_URL = "unix:///nonexistent/redis.sock"
    throttle._script.cache_clear()
    try:
        for n in range(LIMIT + 2):
            assert refused(quote(api, f"TRY{n}", "SUMMER")) == {f"TRY{n}": "unknown"}
    finally:
        settings.REDIS_URL = configured.REDIS_URL
        throttle._script.cache_clear()
    assert not Claim.objects.exists()

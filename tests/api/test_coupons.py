"""Coupons over HTTP: seen, claimed, issued, revoked, quoted; codes made; each once, and refused without a trace."""

from collections import Counter
from typing import Any

import pytest

from core.models import IdempotencyRecord, Program, Scope
from coupons.models import Claim, ClaimState, CodeBatch, CounterShard, CouponCode
from coupons.services import code_batches, redemptions
from membership.models import Member, MemberStatus
from tests.api.client import Api, Reply, in_parallel
from tests.api.conftest import NOW, Clock, MakeKey
from tests.api.shop import assert_problem, enroll
from tests.coupons.giving import BASKET, HELD_UNTIL, id_of, publish, use, written

ADA = "members/ada/coupons"
THREADS = 64
LIMIT = 100

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(program: Program) -> Program:
    enroll(program, "ada", "ben")
    return program


def token(api: Api, member: str = "ada") -> Api:
    return Api(api.post(f"members/{member}/tokens").json["token"])


def claim(api: Api, key: str = "k1", member: str = "ada", **body: Any) -> Reply:
    return api.post(f"members/{member}/coupons", body or {"coupon": "five"}, key=key)


# --- what there is ---------------------------------------------------------------------------------------------


def test_a_member_sees_what_can_be_had_and_not_how_many_there_are(shop: Program, api: Api) -> None:
    publish(shop, "five", limit=9, per_member=1)
    publish(shop, "auto", how="automatic", priority=3)
    publish(shop, "gift", how="issued")
    publish(shop, "typed", how="code")
    publish(shop, "over", ends_at="2026-06-01T12:00:00Z")
    mine = {one["code"]: one["terms"] for one in api.get("coupons").json["results"]}
    theirs = {one["code"]: one["terms"] for one in token(api).get("coupons").json["results"]}
    assert {"five", "auto", "gift", "typed"} <= set(mine)
    assert "over" not in mine
    assert {"five", "auto"} <= set(theirs)
    assert not {"gift", "typed", "over"} & set(theirs)
    assert (mine["five"]["limit"], mine["five"]["discount"]) == (9, {"amount": {"GBP": "5.00"}})
    assert not {"limit", "shards", "priority", "stack_group"} & set(theirs["five"])
    assert theirs["five"]["per_member"] == 1


def test_the_coupons_of_a_member_come_in_pages_and_by_state(shop: Program, api: Api) -> None:
    publish(shop, valid_days=1)
    ids = [claim(api, f"k{n}").json["coupon"]["id"] for n in range(3)]
    claim(api, "k9", "ben")
    api.post(f"{ADA}/{ids[0]}/revoke", {"reason": "mistake"})
    redemptions.hold(
        program=shop, member_id=id_of(shop), reference="c1", currency="GBP", basket=BASKET, held_until=HELD_UNTIL,
        applied=[use(shop, Claim.objects.get(public_id=ids[1]))], at=NOW,
    )  # fmt: skip
    first = api.get(ADA, limit=1).json
    assert [one["id"] for one in first["results"]] == [ids[2]]
    rest = api.get(first["next"]).json
    assert [(one["id"], one["state"]) for one in rest["results"]] == [(ids[1], "held")]
    last = api.get(rest["next"]).json
    assert [(one["id"], one["state"]) for one in last["results"]] == [(ids[0], "revoked")]
    for place, state in enumerate(("revoked", "held", "open")):
        assert [one["id"] for one in api.get(ADA, state=state).json["results"]] == [ids[place]]
    assert_problem(api.get(ADA, state="lost"), 400, "invalid_parameter")


# --- claiming --------------------------------------------------------------------------------------------------


def test_a_claim_answers_the_coupon(shop: Program, api: Api) -> None:
    publish(shop, valid_days=0)
    answer = claim(token(api))
    assert (answer.status, answer.json["outcome"]) == (201, "recorded")
    found = Claim.objects.get()
    assert answer.json["coupon"] == {
        "id": str(found.public_id), "coupon": "five", "version": 1, "name": "Five", "code": None, "state": "open",
        "value": "GBP 5.00 off", "terms": answer.json["coupon"]["terms"], "held_by": None, "held_until": None,
        "source": None, "claimed_at": "2026-06-01T12:00:00Z", "valid_from": "2026-06-01T12:00:00Z",
        "expires_at": answer.json["coupon"]["expires_at"],
    }  # fmt: skip


def test_the_key_names_the_claim_for_ever(shop: Program, api: Api) -> None:
    publish(shop)
    first = claim(api)
    assert (claim(api).json, claim(api).headers["Idempotent-Replayed"]) == (first.json, "true")
    IdempotencyRecord.objects.all().delete()
    again = claim(api)
    assert (again.status, again.json["outcome"], again.json["coupon"]) == (200, "repeated", first.json["coupon"])
    assert claim(api, "k2").json["coupon"]["id"] != first.json["coupon"]["id"]
    assert api.post(ADA, {"coupon": "five"}).code == "idempotency_key_missing"
    assert Claim.objects.count() == 2


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"coupon": "nothing"}, 404, "unknown_coupon"),
        ({"coupon": "gift"}, 422, "not_claimable"),
        ({"coupon": "soon"}, 422, "not_yet_valid"),
        ({"coupon": "over"}, 422, "coupon_ended"),
        ({"coupon": "gone"}, 422, "all_given_out"),
        ({"coupon": "mine"}, 422, "already_claimed"),
        ({"code": "NOTHING"}, 422, "code_not_available"),
        ({"coupon": "mine", "code": "X"}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
    ],
)
def test_a_refusal_has_its_code_and_leaves_no_trace(
    shop: Program, api: Api, body: dict[str, Any], status: int, code: str
) -> None:
    publish(shop, "gift", how="issued")
    publish(shop, "soon", starts_at="2026-07-01T00:00:00Z")
    publish(shop, "over", ends_at="2026-05-01T00:00:00Z")
    publish(shop, "gone", limit=1)
    publish(shop, "mine", per_member=1)
    assert claim(api, "a", "ben", coupon="gone").status == 201
    assert claim(api, "b", coupon="mine").status == 201
    before = written()
    assert_problem(api.post(ADA, body, key="k1"), status, code)
    assert written() == before


def test_a_suspended_member_gets_nothing(shop: Program, api: Api) -> None:
    publish(shop)
    Member.objects.filter(external_id="ada").update(status=MemberStatus.SUSPENDED)
    before = written()
    assert_problem(claim(api), 422, "member_suspended")
    assert_problem(api.post(f"{ADA}/issue", {"coupon": "five", "source": "s"}), 422, "member_suspended")
    assert written() == before


def test_unknown_disabled_and_anothers_codes_are_one_error(shop: Program, api: Api) -> None:
    definition = publish(shop, "typed", how="code")
    for text, is_shared in (("SUMMER", True), ("LUCKY7", False)):
        assert api.post("coupons/typed/codes", {"code": text, "is_shared": is_shared}).status == 201
    code_batches.disable_code(code=CouponCode.objects.get(text="SUMMER"), actor="test", at=NOW)
    assert claim(api, "a", "ben", code="lucky-7").status == 201
    told = [claim(api, f"k{n}", code=text).json for n, text in enumerate(["SUMMER", "LUCKY7", "NOTHING"])]
    assert len({(one["code"], one["detail"], str(one["errors"])) for one in told}) == 1
    assert Claim.objects.filter(definition=definition).count() == 1


# --- issuing and revoking --------------------------------------------------------------------------------------


def test_the_same_source_gives_the_same_coupon_and_code(shop: Program, api: Api) -> None:
    publish(shop, "typed", how="code")
    body = {"coupon": "typed", "source": "birthday:2026"}
    first, again = (api.post(f"{ADA}/issue", body) for _ in range(2))
    assert (first.status, again.status, again.json["outcome"]) == (201, 200, "repeated")
    assert first.json["coupon"] == again.json["coupon"]
    assert (first.json["coupon"]["source"], len(first.json["coupon"]["code"])) == ("birthday:2026", 14)
    assert (
        quote(api, codes=[first.json["coupon"]["code"].lower()]).json["applied"][0]["claim"]
        == (first.json["coupon"]["id"])
    )
    ben = api.post(
        "members/ben/coupons/quote", {"currency": "GBP", "lines": LINES, "codes": [first.json["coupon"]["code"]]}
    )
    assert [(one["code"], one["reason"]) for one in ben.json["refused_codes"]] == [
        (first.json["coupon"]["code"], "unknown")
    ]
    assert_problem(token(api).post(f"{ADA}/issue", body), 403, "scope_missing")


def test_a_coupon_is_revoked_once_with_its_reason(shop: Program, api: Api) -> None:
    publish(shop, limit=1)
    path = f"{ADA}/{claim(api).json['coupon']['id']}/revoke"
    assert_problem(api.post(path, {"reason": " "}), 422, "invalid_request", "/reason")
    assert [api.post(path, {"reason": "mistake"}).json["state"] for _ in range(2)] == ["revoked"] * 2
    assert CounterShard.objects.get().used == 0
    assert_problem(api.post(path.replace("ada", "ben"), {"reason": "x"}), 404, "unknown_claim")


def test_a_coupon_that_is_held_is_not_revoked(shop: Program, api: Api) -> None:
    publish(shop)
    path = f"{ADA}/{claim(api).json['coupon']['id']}/revoke"
    Claim.objects.update(state=ClaimState.HELD)
    assert_problem(api.post(path, {"reason": "x"}), 409, "claim_not_open")
    assert Claim.objects.get().state == ClaimState.HELD


# --- quotes ----------------------------------------------------------------------------------------------------

LINES = [
    {"line": "a", "sku": "tea-1", "category": "tea", "amount_minor": 3000},
    {"line": "b", "sku": "cup-1", "category": "cups", "amount_minor": 2000},
]


def quote(api: Api, **told: Any) -> Reply:
    return api.post(f"{ADA}/quote", {"currency": "GBP", "lines": LINES} | told)


def test_a_quote_says_what_comes_off_and_why_the_rest_does_not(shop: Program, api: Api) -> None:
    publish(shop, "five", how="automatic")
    publish(shop, "tea", how="automatic", categories=["tea"], discount={"percent": "10%"})
    publish(shop, "big", how="automatic", threshold={"GBP": "62.00"})
    before = written()
    told = quote(api, codes=["nothing"]).json
    found = {one["coupon"]: one for one in told["applied"] if one["coupon"] in {"five", "tea"}}
    assert found["tea"]["lines"] == [{"line": "a", "discount_minor": 300}]
    assert found["five"]["discount_minor"] == sum(one["discount_minor"] for one in found["five"]["lines"]) == 500
    assert told["discount_minor"] == sum(one["discount_minor"] for one in told["applied"])
    refused = {one["coupon"]: one for one in told["refused"]}
    assert refused["big"]["reason"] == "below_threshold"
    assert "12.00" in refused["big"]["sentence"]
    sentence = "This code is not valid."
    assert told["refused_codes"] == [{"code": "nothing", "reason": "unknown", "details": {}, "sentence": sentence}]
    assert (told["exact"], told["gap_minor"], told["language"]) == (True, 0, "en")
    assert written() == before


def test_a_shopper_chooses_among_coupons_by_token_too(shop: Program, api: Api) -> None:
    for code in ("five", "six"):
        publish(shop, code, how="automatic")
    path, basket = f"{ADA}/quote", {"currency": "GBP", "lines": LINES}
    for caller in (api, token(api)):
        told = caller.post(path, basket | {"without": ["six"]}).json
        assert {one["coupon"] for one in told["applied"]} == {"five"}
        assert [(one["coupon"], one["reason"]) for one in told["refused"]] == [("six", "not_chosen")]
        assert caller.post(path, basket | {"only": []}).json["discount_minor"] == 0
    assert_problem(api.post(path, basket | {"only": ["seven"]}), 422, "unknown_coupon", "/only/0")


def test_a_line_that_is_there_twice_is_refused(shop: Program, api: Api) -> None:
    assert_problem(quote(api, lines=[LINES[0], LINES[0]]), 422, "invalid_request", "/lines")


# --- codes -----------------------------------------------------------------------------------------------------


def test_a_batch_is_asked_for_once_made_read_and_downloaded(shop: Program, api: Api) -> None:
    publish(shop, "typed", how="code")
    first, again = (api.post("coupons/typed/code-batches", {"count": 120, "prefix": "te-a"}, key="k") for _ in range(2))
    assert (first.status, again.json, CodeBatch.objects.count()) == (201, first.json, 1)
    path = f"coupons/typed/code-batches/{first.json['batch']}"
    assert (api.get(path).json["state"], api.get(path).json["made"]) == ("being_made", 0)
    code_batches.make_codes(batch_id=first.json["batch"], at=NOW, chunk=50)
    assert api.get(path).json == first.json | {
        "state": "finished", "made": 120, "finished_at": "2026-06-01T12:00:00Z",
    }  # fmt: skip
    texts = list(CouponCode.objects.filter(batch=first.json["batch"]).order_by("pk").values_list("text", flat=True))
    assert claim(api, code=texts[7]).json["coupon"]["code"] == f"te-a{texts[7][3:]}"
    assert_problem(api.post(f"{path}/stop"), 409, "batch_ended")


def test_the_codes_of_a_batch_are_a_file(shop: Program, make_key: MakeKey) -> None:
    from django.test import Client  # noqa: PLC0415 what the caller of the other tests reads is one text

    definition = publish(shop, "typed", how="code")
    batch = code_batches.request_batch(program=shop, definition=definition, count=9, requested_by="test", at=NOW)
    code_batches.make_codes(batch_id=batch.pk, at=NOW)
    path = f"/api/v1/coupons/typed/code-batches/{batch.pk}?format=csv"
    answer: Any = Client().get(path, headers={"Authorization": f"Bearer {make_key(Scope.COUPONS_ISSUE)}"})
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    lines = b"".join(answer.streaming_content).decode().split("\r\n")
    assert (lines[0], len(lines), lines[-1]) == ("code", 11, "")


def test_a_batch_is_stopped(shop: Program, api: Api) -> None:
    publish(shop, "typed", how="code")
    batch = api.post("coupons/typed/code-batches", {"count": 120}, key="k").json["batch"]
    path = f"coupons/typed/code-batches/{batch}"
    assert [api.post(f"{path}/stop").json["state"] for _ in range(2)] == ["stopped"] * 2
    assert code_batches.make_codes(batch_id=batch, at=NOW) == 0


def test_batches_and_codes_that_make_no_sense_are_refused(shop: Program, api: Api, foreign_program: Program) -> None:
    publish(shop, "typed", how="code")
    publish(shop, "other", how="code")
    publish(foreign_program, "theirs", how="code")
    batches = "coupons/typed/code-batches"
    assert_problem(api.post(batches, {"count": 0}, key="k"), 422, "invalid_request", "/count")
    assert_problem(api.post(batches, {"count": 1, "prefix": "sun"}, key="k"), 422, "invalid_request", "/prefix")
    assert_problem(api.post("coupons/theirs/code-batches", {"count": 1}, key="k"), 404, "unknown_coupon")
    assert_problem(api.get(f"{batches}/99999"), 404, "unknown_batch")
    assert_problem(api.post("coupons/typed/codes", {"code": "a_b"}), 422, "invalid_request", "/code")
    told = [api.post("coupons/typed/codes", {"code": "sun-day"}) for _ in range(2)]
    assert [(one.status, one.json["code"]) for one in told] == [(201, "sun-day"), (200, "sun-day")]
    assert_problem(api.post("coupons/other/codes", {"code": "SUNDAY"}), 409, "code_taken")
    assert (CodeBatch.objects.count(), CouponCode.objects.count()) == (0, 1)


# --- many at once ----------------------------------------------------------------------------------------------


def _sell_out(shop: Program, api: Api, code: str, members: list[str]) -> None:
    definition = publish(shop, code, limit=LIMIT, shards=4)

    def ask(n: int) -> Any:
        def run() -> Counter[str | None]:
            return Counter(claim(api, f"{code}-{name}", name, coupon=code).code for name in members[n::THREADS])

        return run

    said: Counter[str | None] = sum(in_parallel([ask(n) for n in range(THREADS)]), Counter())
    assert said == {None: LIMIT, "all_given_out": len(members) - LIMIT}
    assert Claim.objects.filter(definition=definition).count() == LIMIT
    assert sum(CounterShard.objects.filter(definition=definition).values_list("used", flat=True)) == LIMIT


@pytest.mark.django_db(transaction=True)
def test_64_clients_get_exactly_100(shop: Program, make_key: MakeKey) -> None:
    members = [f"m{n}" for n in range(2 * THREADS)]
    enroll(shop, *members)
    _sell_out(shop, Api(make_key(rate_per_minute=1_000_000)), "flash", members)


@pytest.mark.deep
@pytest.mark.django_db(transaction=True)
def test_64_clients_get_exactly_100_twenty_times(shop: Program, make_key: MakeKey) -> None:
    members = [f"m{n}" for n in range(2 * THREADS)]
    enroll(shop, *members)
    for number in range(20):
        _sell_out(shop, Api(make_key(rate_per_minute=1_000_000)), f"flash-{number}", members)


@pytest.mark.django_db(transaction=True)
def test_one_source_in_parallel_is_one_coupon(shop: Program, api: Api, clock: Clock) -> None:
    publish(shop, "typed", how="code")
    body = {"coupon": "typed", "source": "welcome"}
    answers = in_parallel([lambda: api.post(f"{ADA}/issue", body)] * 16)
    assert Counter(answer.status for answer in answers) == {201: 1, 200: 15}
    assert len({answer.json["coupon"]["code"] for answer in answers}) == 1
    assert Claim.objects.count() == 1

"""How a checkout is held: as it was quoted, for as long as is asked, extended, and not too many at a time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.models import Program
from coupons.models import Claim, Redemption
from coupons.rules import Basket, Candidate, Evaluation, evaluate
from membership import locks as membership_locks
from points.models import Hold
from points.services import operations
from points.services.verify import verify
from storefront.models import Checkout, CheckoutPolicy
from storefront.services.checkouts import holding
from tests.api.checkouts import held, make_program, order_of, quoted, written
from tests.api.client import Api, Reply, in_parallel
from tests.api.conftest import NOW, Clock
from tests.api.shop import assert_problem
from tests.coupons.giving import publish
from tests.storefront.checkout_worlds import balance, give_coupon, give_points, member_id, states, wallet_id
from tests.storefront.shop import DAY

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


@pytest.fixture
def program(db: None, tmp_path: Path) -> Program:
    return make_program(tmp_path)


def hold(api: Api, checkout: Any, **body: Any) -> Reply:
    return api.post(f"checkouts/{checkout['id']}/hold", body or None)


def extend(api: Api, checkout: Any, minutes: Any) -> Reply:
    return api.post(f"checkouts/{checkout['id']}/extend", {"minutes": minutes})


def until(answer: Reply) -> str:
    lapses_at: str = answer.json["lapses_at"]
    return lapses_at


def text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


# --- the quoted combination is priced again --------------------------------------------------------------------


def test_a_better_coupon_that_came_since_is_no_changed_quote(program: Program, api: Api) -> None:
    checkout = quoted(api)
    publish(program, "better", at=NOW - MINUTE, how="automatic", exclusive=True, discount={"percent": "90%"})
    give_coupon(program, "ten", source="another")
    assert quoted(api)["price"]["coupons"]["applied"][0]["code"] == "better"
    answer = hold(api, checkout)
    assert (answer.status, answer.json["price"]) == (200, checkout["price"])
    assert sorted(Redemption.objects.values_list("claim__definition__code", flat=True)) == ["hats", "ten"]


def test_points_that_came_since_are_no_changed_quote(program: Program, api: Api) -> None:
    checkout = quoted(api)
    operations.adjust(
        program=program, member_id=member_id(program), wallet_id=wallet_id(program), points=700, reason="test",
        decided_by="test", idempotency_key="more", at=NOW,
    )  # fmt: skip
    assert hold(api, checkout).status == 200
    assert (balance(program).held, balance(program).available) == (1_000, 700)


def test_no_points_stay_none_though_some_came_since(program: Program, api: Api) -> None:
    checkout = quoted(api, member="ben")
    give_points(program, 700, "ben")
    assert (hold(api, checkout).status, balance(program, "ben").held) == (200, 0)


def test_the_claim_that_was_quoted_is_held_though_another_would_take_off_more(program: Program, api: Api) -> None:
    checkout = quoted(api)
    mine = Claim.objects.get(definition__code="ten")
    publish(program, "ten", at=NOW - MINUTE, how="issued", discount={"amount": {"GBP": "20.00"}})
    api.post("members/ann/coupons/issue", {"coupon": "ten", "source": "twenty"})
    assert hold(api, checkout).status == 200
    assert Redemption.objects.filter(claim=mine).exists()


def test_another_claim_of_the_same_coupon_stands_in_for_one_that_is_gone(program: Program, api: Api) -> None:
    checkout = quoted(api)
    other = give_coupon(program, "ten", source="another")
    Claim.objects.filter(definition__code="ten").exclude(pk=other.pk).update(expires_at=NOW)
    assert hold(api, checkout).status == 200
    assert Redemption.objects.filter(claim=other).exists()


def test_a_hold_looks_at_the_quoted_coupons_alone(program: Program, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(12):
        publish(program, f"g{n}", at=NOW - DAY, how="automatic", stack_group="g", discount={"percent": f"{n + 1}%"})
    checkout = quoted(api)
    seen: list[list[str]] = []

    def note(goods: Basket, candidates: Sequence[Candidate], *rest: Any, **options: Any) -> Evaluation:
        seen.append(sorted(one.code for one in candidates))
        return evaluate(goods, candidates, *rest, **options)

    monkeypatch.setattr("coupons.services.quotes.evaluate", note)
    assert hold(api, checkout).status == 200
    assert seen == [["g11", "hats", "ten"]]


# --- for how long ----------------------------------------------------------------------------------------------


def test_a_hold_lasts_as_long_as_is_asked(program: Program, api: Api) -> None:
    answer = hold(api, quoted(api), minutes=90)
    assert (answer.status, until(answer)) == (200, text(NOW + 90 * MINUTE))
    assert set(Redemption.objects.values_list("held_until", flat=True)) == {NOW + 90 * MINUTE}
    assert Hold.objects.get().held_until == NOW + 90 * MINUTE
    assert until(hold(api, quoted(api, member="ben"))) == text(NOW + 15 * MINUTE)


def test_a_hold_lasts_no_longer_than_the_program_allows(program: Program, api: Api) -> None:
    CheckoutPolicy.objects.create(program=program, maximum_hold_minutes=10)
    checkout, before = quoted(api), written()
    assert_problem(hold(api, checkout, minutes=11), 422, "hold_too_long", "/minutes")
    assert written() == before
    assert until(hold(api, checkout)) == text(NOW + 10 * MINUTE)
    for minutes in (0, -1, 525_601, "5", 1.5, True):
        assert_problem(hold(api, checkout, minutes=minutes), 422, "invalid_request", "/minutes")


def test_a_hold_is_extended_from_now_on_and_never_shortened(program: Program, api: Api, clock: Clock) -> None:
    checkout = held(api)
    clock(NOW + 10 * MINUTE)
    assert until(extend(api, checkout, 20)) == text(NOW + 30 * MINUTE)
    assert until(extend(api, checkout, 20)) == text(NOW + 30 * MINUTE)
    assert until(extend(api, checkout, 5)) == text(NOW + 30 * MINUTE)
    assert set(Redemption.objects.values_list("held_until", flat=True)) == {NOW + 30 * MINUTE}
    assert Hold.objects.get().held_until == NOW + 30 * MINUTE
    assert holding.end_lapsed(at=NOW + 29 * MINUTE) == 0
    clock(NOW + 29 * MINUTE)
    assert api.post("orders", order_of(checkout)).status == 201


def test_an_extension_stays_within_what_the_program_allows_from_the_beginning(
    program: Program, api: Api, clock: Clock
) -> None:
    CheckoutPolicy.objects.create(program=program, maximum_hold_minutes=60)
    checkout = held(api)
    clock(NOW + 10 * MINUTE)
    answer = extend(api, checkout, 51)
    assert_problem(answer, 422, "hold_too_long", "/minutes")
    assert text(NOW + 60 * MINUTE) in answer.text
    assert until(extend(api, checkout, 50)) == text(NOW + 60 * MINUTE)


def test_only_what_is_held_is_extended(program: Program, api: Api, clock: Clock) -> None:
    checkout = quoted(api)
    assert_problem(extend(api, checkout, 5), 409, "checkout_not_held")
    assert_problem(extend(api, {"id": "01980000-0000-7000-8000-000000000000"}, 5), 404, "unknown_checkout")
    assert_problem(extend(api, checkout, None), 422, "invalid_request", "/minutes")
    hold(api, checkout)
    clock(NOW + 15 * MINUTE)
    assert_problem(extend(api, checkout, 5), 409, "checkout_lapsed")
    assert_problem(hold(api, checkout), 409, "checkout_lapsed")


# --- not too many at a time ------------------------------------------------------------------------------------


def test_a_member_holds_a_few_checkouts_at_a_time(program: Program, api: Api, clock: Clock) -> None:
    CheckoutPolicy.objects.create(program=program, holds_per_member=2)
    first, second, third = (quoted(api, redeem=None, only=[]) for _ in range(3))
    assert [hold(api, one).status for one in (first, second)] == [200, 200]
    before = written()
    answer = hold(api, third)
    assert_problem(answer, 409, "too_many_holds")
    assert first["id"] in answer.text
    assert second["id"] in answer.text
    assert (written(), states()["checkouts"]) == (before, ["held", "held", "quoted"])
    assert hold(api, first).status == 200, "it is held already"
    assert hold(api, quoted(api, member="ben", redeem=None)).status == 200
    api.post(f"checkouts/{first['id']}/release")
    assert hold(api, third).status == 200
    clock(NOW + 15 * MINUTE)
    assert hold(api, quoted(api, redeem=None, only=[])).status == 200, "what has lapsed is not counted, swept or not"


@pytest.mark.django_db(transaction=True)
def test_of_holds_at_once_as_many_as_may_be_stand(program: Program, api: Api) -> None:
    CheckoutPolicy.objects.create(program=program, holds_per_member=2)
    checkouts = [quoted(api, redeem=None, only=[]) for _ in range(6)]
    answers = in_parallel([partial(hold, api, one) for one in checkouts])
    assert sorted(answer.status for answer in answers) == [200] * 2 + [409] * 4
    assert sorted(states()["checkouts"]) == ["held"] * 2 + ["quoted"] * 4


@pytest.mark.django_db(transaction=True)
def test_control_without_the_members_lock_more_would_stand(
    program: Program, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    CheckoutPolicy.objects.create(program=program, holds_per_member=1)
    monkeypatch.setattr(membership_locks, "lock_members", lambda _ids: [])
    checkouts = [quoted(api, redeem=None, only=[]) for _ in range(4)]
    answers = in_parallel([partial(hold, api, one) for one in checkouts])
    assert [answer.status for answer in answers].count(200) > 1


# --- a member's checkouts --------------------------------------------------------------------------------------


def test_a_members_checkouts_are_listed(program: Program, api: Api, clock: Clock) -> None:
    kept, gone = held(api), quoted(api, redeem=None)
    quoted(api, member="ben", redeem=None)

    def listed(**query: str) -> list[str]:
        answer = api.get("checkouts", **query)
        assert answer.status == 200, answer.text
        return [one["id"] for one in answer.json["results"]]

    assert listed(member="ann") == [gone["id"], kept["id"]]
    assert len(listed()) == 3
    assert listed(member="ann", state="held") == [kept["id"]]
    assert api.get("checkouts", member="ann", state="held").json["results"] == [api.get(f"checkouts/{kept['id']}").json]
    clock(NOW + 15 * MINUTE)
    assert listed(member="ann", state="held") == []
    assert listed(member="ann", state="lapsed") == [gone["id"], kept["id"]]
    assert_problem(api.get("checkouts", state="gone"), 400, "invalid_parameter")
    assert_problem(api.get("checkouts", of="ann"), 400, "invalid_parameter")


def test_a_page_of_checkouts_costs_the_same_few_queries(program: Program, api: Api) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as ran:
            api.get("checkouts", member="ann")
        return len(ran)

    held(api)
    few = queries()
    for _ in range(5):
        quoted(api)
    assert queries() == few


def test_what_was_held_is_kept_longer(program: Program, api: Api) -> None:
    for checkout in (held(api), held(api, redeem=None), quoted(api)):
        api.post(f"checkouts/{checkout['id']}/release")
    assert holding.forget_ended(before=NOW + MINUTE, held_before=NOW) == 1
    assert holding.forget_ended(before=NOW + MINUTE, held_before=NOW + MINUTE) == 2
    assert Checkout.objects.count() == 0
    assert list(verify(program=program)) == []

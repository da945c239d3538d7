"""What a wallet says of using points holds for whoever redeems, and everyone can read it."""

import json
from pathlib import Path
from typing import Any

import pytest

from core import versions
from core.models import Program
from points.models import Wallet
from points.services import operations
from points.services.operations import RedemptionRefused
from storefront.services import program_file
from tests.api.buyers import account_of, enroll, posted
from tests.api.client import Api
from tests.api.conftest import MakeKey
from tests.storefront.shop import DAY, NOW, definition, order, tell

pytestmark = pytest.mark.django_db
REDEEM = "members/ann/points/points/redemptions"
TERMS = {"step": 10, "worth": {"GBP": "0.10"}, "minimum": 50, "maximum_share": "50%"}


@pytest.fixture
def shop(db: None, tmp_path: Path) -> Program:
    """Ann has 100 points, to be used in tens, 50 at least."""
    path = tmp_path / "shop.yaml"
    path.write_text(json.dumps(definition("shop", {"redemption": TERMS})))
    program = program_file.apply(program_file.load(path), at=NOW, actor="test")
    enroll(program, "ann")
    tell(program, order("o1", (4, 10_000), member="ann", at=NOW))
    program.refresh_from_db()
    return program


@pytest.fixture
def shop_api(shop: Program, make_key: MakeKey) -> Api:
    return Api(make_key(program=shop))


@pytest.mark.parametrize("points", [1, 10, 49, 55, 101])
def test_other_steps_and_less_than_the_minimum_are_refused(shop_api: Api, points: int) -> None:
    before = posted()
    answer = shop_api.post(REDEEM, {"points": points}, key="k")
    assert (answer.status, answer.code) == (422, "redemption_refused")
    assert answer.json["detail"] == "Points are used in steps of 10, at least 50 at a time."
    assert posted() == before


@pytest.mark.parametrize("points", [50, 60, 100])
def test_whole_steps_from_the_minimum_on_are_redeemed(shop_api: Api, points: int) -> None:
    answer = shop_api.post(REDEEM, {"points": points}, key="k")
    assert (answer.status, answer.json["balance"]["available"]) == (201, 100 - points)


def test_what_was_redeemed_is_answered_again_whatever_the_terms_are_now(shop: Program) -> None:
    told: dict[str, Any] = {**account_of(shop), "points": 50, "idempotency_key": "k"}
    first = operations.redeem(program=shop, **told, at=NOW)
    wallet = Wallet.objects.get(program=shop, code="points")
    versions.publish(wallet, {"redemption": TERMS | {"minimum": 80}}, at=NOW + DAY)
    shop.refresh_from_db()
    again = operations.redeem(program=shop, **told, at=NOW + DAY)
    assert (again.transaction_id, again.is_new) == (first.transaction_id, False)
    with pytest.raises(RedemptionRefused) as refused:
        operations.redeem(program=shop, **told | {"idempotency_key": "other"}, at=NOW + DAY)
    assert (refused.value.points, refused.value.step, refused.value.minimum) == (50, 10, 80)
    assert len(posted()) == 3


def test_an_operator_is_not_bound_by_them(shop: Program) -> None:
    told: dict[str, Any] = {**account_of(shop), "points": -7, "reason": "a mistake", "decided_by": "ops"}
    assert operations.adjust(program=shop, **told, idempotency_key="k", at=NOW).available == 93


def test_wallets_tell_what_points_are_worth(shop_api: Api) -> None:
    policies = {row["code"]: row["policy"] for row in shop_api.get("wallets").json["results"]}
    assert policies["points"]["redemption"] == TERMS
    assert policies["gems"].get("redemption") is None

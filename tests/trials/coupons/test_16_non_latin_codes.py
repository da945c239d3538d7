"""16: codes in other scripts are refused in a sentence that says what is wrong."""

import pytest

from core.models import Program
from coupons.models import CouponCode
from tests.api.client import Api
from tests.api.shop import assert_problem
from tests.coupons.giving import publish

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("chosen", "symbol"), [("NO\u00cbL", "\u00cb"), ("\u6625\u8282", "\u6625"), ("\u0421\u0410\u041b\u042c", "\u0421")]
)
def test_a_code_that_not_everybody_can_type_is_refused_in_a_sentence(
    shop: Program, api: Api, chosen: str, symbol: str
) -> None:
    publish(shop, "chosen", how="code")
    answer = api.post("coupons/chosen/codes", {"code": chosen})
    assert_problem(answer, 422, "invalid_request", "/code")
    assert answer.json["errors"][0]["detail"] == (
        f"“{symbol}” cannot be in a code: write letters from A to Z, digits, and - _ between them"
    )
    assert not CouponCode.objects.exists()

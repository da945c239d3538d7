"""23: the last day of a coupon, in the shop's zone."""

from datetime import datetime

import pytest

from core.models import Program
from coupons.definitions import CouponTerms
from tests.api.client import Api
from tests.api.conftest import Clock
from tests.coupons.giving import publish
from tests.trials.coupons.visits import applied, quote

pytestmark = pytest.mark.django_db


def test_days_after_issue_run_to_local_midnight(shop: Program, api: Api, clock: Clock) -> None:
    publish(shop, "today", how="issued", valid_days=0)
    clock(datetime.fromisoformat("2026-06-01T20:49:00+01:00"))
    claim = api.post("members/ada/coupons/issue", {"coupon": "today", "source": "s"}).json["coupon"]
    assert claim["expires_at"] == "2026-06-01T23:00:00Z"
    clock(datetime.fromisoformat("2026-06-01T23:59:59+01:00"))
    assert applied(quote(api)) == {"today"}
    clock(datetime.fromisoformat("2026-06-02T00:00:00+01:00"))
    assert applied(quote(api)) == set()


def test_an_end_that_is_a_bare_date_is_refused() -> None:
    told = {"name": "x", "discount": {"percent": "5%"}, "ends_at": "2026-06-01"}
    with pytest.raises(ValueError, match="ends_at"):
        CouponTerms.model_validate(told, context={"currency": "GBP"})

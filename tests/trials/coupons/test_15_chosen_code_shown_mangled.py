"""15: the code that marketing chose, shown back as it was chosen."""

from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse

from core.models import Event, Program
from core.services import outbox
from coupons.models import CouponCode
from tests.api.client import Api
from tests.api.conftest import NOW
from tests.coupons.giving import publish
from tests.storefront.operators import log_in, make_operator
from tests.trials.coupons.visits import applied, quote

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("chosen", ["SHOES20", "UNIT", "FIRST", "Oil-Lamp 10"])
def test_a_chosen_code_is_shown_as_chosen_and_compared_in_normal_form(
    shop: Program, api: Api, settings: Any, tmp_path: Path, chosen: str
) -> None:
    settings.STATIC_ROOT = tmp_path  # WhiteNoise warns when nothing has been collected
    publish(shop, "chosen", how="code")
    assert api.post("coupons/chosen/codes", {"code": chosen}).json["code"] == chosen
    alike = chosen.lower().replace("o", "0").replace("i", "1").replace("l", "1")
    again = api.post("coupons/chosen/codes", {"code": alike})
    assert (again.status, again.json["code"]) == (200, chosen)
    assert applied(quote(api, codes=[alike])) == {"chosen"}

    claimed = api.post("members/ada/coupons", {"code": alike}, key="k")
    assert claimed.json["coupon"]["code"] == chosen
    assert api.get("members/ada/coupons").json["results"][0]["code"] == chosen
    outbox.drain(at=NOW)
    assert Event.objects.get(type="coupon.issued").data["code"] == chosen
    page = reverse("admin:coupons_couponcode_change", args=[CouponCode.objects.get().pk])
    assert chosen in log_in(make_operator("mia", "coupons.view_couponcode")).get(page).content.decode()

"""The page of a checkout, at a desk and on a phone: what each line costs, step by step, and what did not apply."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from storefront.services.checkouts import holding, quoting
from tests.browser.conftest import PASSWORD, Visitor
from tests.storefront.checkout_worlds import give_coupon, give_points, make_gold, make_shop, told
from tests.storefront.shop import NOW

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_checkout_shows_its_price_line_by_line(transactional_db: None, visitor: Visitor, tmp_path: Path) -> None:
    shop = make_shop(tmp_path)
    give_points(shop, 1_000)
    give_coupon(shop, "ten")
    give_coupon(shop, "hats")
    make_gold(shop)
    checkout = quoting.quote(program=shop, told=told(wallet="points", codes=("NOPE",)), at=NOW)
    holding.hold(program=shop, public_id=checkout.public_id, at=NOW)
    User.objects.create_superuser("olivia", password=PASSWORD)
    visitor.log_in("olivia")
    visitor.visit(reverse("admin:storefront_checkout_changelist"))
    visitor.photograph("checkouts")
    visitor.visit(reverse("admin:storefront_checkout_change", args=[checkout.pk]))
    page = visitor.page
    for text in (
        "The tier gold takes off GBP 1.50.",
        "The coupon hats takes off GBP 1.90.",
        "The tier gold ships for nothing: GBP 4.99 off.",
        "This code is not valid.",
        "1,300 points pay GBP 13.00.",
    ):
        assert page.get_by_text(text).first.is_visible(), text
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("checkout")

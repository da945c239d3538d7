"""A coupon is described, previewed, published and issued in a browser, at a desk and on a phone."""

import pytest

from core.models import Program
from coupons.models import Claim, CouponDefinition
from tests.browser.conftest import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_coupon_is_made_without_writing_yaml(shop: Program, visitor: Visitor) -> None:
    page = visitor.page
    visitor.log_in("olivia")
    visitor.visit("/admin/coupons/coupondefinition/new/")
    page.fill("input[name=code]", "spring")
    page.fill("input[name=name]", "Ten off fifty")
    page.select_option("select[name=kind]", "amount")
    page.fill("input[name=amount]", "10.00")
    page.fill("input[name=threshold]", "GBP 50.00")
    page.fill("input[name=valid_days]", "30")
    page.fill("input[name=limit]", "100")
    page.click("button[value=preview]")
    page.wait_for_selector("text=Write a currency and an amount")
    visitor.photograph("coupon-refused")
    page.fill("input[name=amount]", "GBP 10.00, EUR 12.00")
    page.click("button[value=preview]")
    page.wait_for_selector("#preview")
    assert 'GBP: "50.00"' in page.inner_text("#preview")
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("coupon-preview")
    page.click("button[value=save]")
    page.wait_for_selector("text=The draft is saved.")

    coupon = CouponDefinition.objects.get(code="spring")
    visitor.visit(f"/admin/coupons/coupondefinition/{coupon.pk}/publish/")
    page.wait_for_selector("text=+ discount.amount.GBP: 10.00")
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("coupon-publish")
    page.fill("textarea[name=reason]", "spring")
    page.click("button:has-text('Publish')")
    page.wait_for_selector("text=Version 1 is published and in force.")
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("coupon")

    visitor.visit(f"/admin/coupons/coupondefinition/{coupon.pk}/issue/")
    page.fill("input[name=member]", "m0")
    page.fill("textarea[name=reason]", "parcel was late")
    visitor.photograph("coupon-issue")
    page.click("button:has-text('Issue')")
    page.wait_for_selector("text=The coupon is issued.")
    assert Claim.objects.get().member.external_id == "m0"
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("claim")
    visitor.visit("/admin/coupons/coupondefinition/")
    page.wait_for_selector("text=1 of 100")
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("coupons")


def test_codes_are_asked_for(shop: Program, visitor: Visitor) -> None:
    page = visitor.page
    coupon = CouponDefinition.objects.create(program=shop, code="letter")
    visitor.log_in("olivia")
    visitor.visit(f"/admin/coupons/coupondefinition/{coupon.pk}/make-codes/")
    page.fill("input[name=count]", "5000")
    page.fill("input[name=beginning]", "MAY")
    visitor.photograph("make-codes")
    page.click("button:has-text('Make codes')")
    page.wait_for_selector("text=0 of 5,000 (0%)")
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("code-batch")

"""What operators do in the admin, in a browser, at a desk and on a phone."""

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice

from core.models import Program
from points.models import LedgerTransaction, TransactionKind
from tests.browser.conftest import PASSWORD, Visitor
from tests.storefront.operators import member, wallet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_wrong_password_stays_outside(shop: Program, visitor: Visitor) -> None:
    visitor.visit("/admin/")
    visitor.page.fill("[name=username]", "olivia")
    visitor.page.fill("[name=password]", "guess")
    visitor.page.click("[type=submit]")
    assert visitor.page.locator(".errornote, .errorlist").first.is_visible()
    visitor.photograph("login")


def test_the_dashboard_shows_the_figures(shop: Program, visitor: Visitor) -> None:
    visitor.log_in("olivia")
    for text in ("Active members", "Points outstanding", "Points by month", "Jobs"):
        assert visitor.page.get_by_role("heading", name=text, exact=True).is_visible(), text
    bars = visitor.page.locator(".pn-bars span")
    heights = [bar.bounding_box() for bar in bars.all()]
    assert max(box["height"] for box in heights if box) > 100
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("dashboard")


def test_the_first_page_of_a_fresh_installation(transactional_db: None, visitor: Visitor) -> None:
    User.objects.create_superuser("olivia", password=PASSWORD)
    visitor.log_in("olivia")
    assert visitor.page.get_by_text("There is no program yet").is_visible()
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("first-steps")


def test_a_members_page_has_its_tabs(shop: Program, visitor: Visitor) -> None:
    visitor.log_in("olivia")
    visitor.visit(reverse("admin:membership_member_change", args=[member(shop).pk]))
    page = visitor.page
    assert page.get_by_text("GBP 193.50").first.is_visible()
    shown = {
        "Time line": "Burn (Points)",
        "Orders": "GBP 40.50",
        "Points": "Points left",
        "Tiers": "Guaranteed until",
        "Activities": "kind words",
        "Overview": "to gold",
    }
    for tab, text in shown.items():
        page.locator(".pn-tabs").get_by_role("link", name=tab, exact=True).click()
        page.locator(".pn").get_by_text(text).locator("visible=true").first.wait_for()
        assert visitor.is_as_wide_as_the_window(), tab
        visitor.photograph(f"member-{tab.lower().replace(' ', '-')}")


def test_points_are_adjusted_from_the_members_page(shop: Program, visitor: Visitor) -> None:
    visitor.log_in("olivia")
    visitor.visit(reverse("admin:membership_member_change", args=[member(shop).pk]))
    page = visitor.page
    link = page.get_by_role("link", name="Adjust points")
    if not link.first.is_visible():
        page.locator("[x-data*=showActions] > a").first.click()
    link.first.click()
    page.select_option("[name=wallet]", str(wallet(shop).pk))
    page.fill("[name=points]", "-100000")
    page.fill("[name=reason]", "too many")
    page.get_by_role("button", name="Continue").click()
    assert page.get_by_text("points are available").is_visible()
    visitor.photograph("adjust-refused")
    page.fill("[name=points]", "50")
    page.fill("[name=reason]", "sorry for the delay")
    page.get_by_role("button", name="Continue").click()
    assert page.get_by_text("This will change").is_visible()
    assert not LedgerTransaction.objects.filter(kind=TransactionKind.ADJUST).exists()
    visitor.photograph("adjust-confirm")
    page.get_by_role("button", name="Adjust points").click()
    page.get_by_text("Gave 50 points (Points).").wait_for()
    visitor.photograph("adjust-done")
    assert LedgerTransaction.objects.filter(kind=TransactionKind.ADJUST).count() == 1


def test_a_tier_is_overridden_and_lifted(shop: Program, visitor: Visitor) -> None:
    visitor.log_in("olivia")
    page = visitor.page
    visitor.visit(reverse("admin:membership_member_override_tier", args=[member(shop).pk]))
    page.select_option("[name=tier]", label="gold")
    page.fill("[name=until]", "2099-12-30")
    page.fill("[name=reason]", "a complaint settled")
    page.get_by_role("button", name="Continue").click()
    visitor.photograph("override-confirm")
    page.get_by_role("button", name="Override tier").click()
    page.get_by_text("The member holds gold (Tiers) through 2099-12-30.").wait_for()
    visitor.photograph("member-overridden")
    visitor.visit(reverse("admin:membership_member_lift_override", args=[member(shop).pk]))
    page.fill("[name=reason]", "by mistake")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Lift override").click()
    page.get_by_text("the member holds silver").wait_for()


def test_the_second_step_is_switched_on_and_asked_for(shop: Program, visitor: Visitor) -> None:
    visitor.log_in("olivia")
    page = visitor.page
    visitor.visit(reverse("two_step"))
    visitor.photograph("two-step-off")
    page.get_by_role("link", name="Switch on").click()
    assert page.locator("svg").first.is_visible()
    visitor.photograph("two-step-begin")
    device = TOTPDevice.objects.get()
    page.fill("[name=code]", f"{TOTP(device.bin_key).token():06}")
    page.get_by_role("button", name="Switch on").click()
    codes = page.locator("#recovery-codes li").all_inner_texts()
    assert len(codes) == 10
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("two-step-codes")
    page.context.clear_cookies()
    visitor.visit("/admin/")
    for name, value in (("username", "olivia"), ("password", PASSWORD), ("code", codes[0])):
        page.fill(f"[name={name}]", value)
    page.click("[type=submit]")
    assert page.get_by_role("heading", name="Active members", exact=True).is_visible()

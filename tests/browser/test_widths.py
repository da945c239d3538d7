"""Pages whose content is wide: nothing is cut off, and the page itself does not scroll sideways."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from analytics.services import wallet_days
from core.models import Program
from core.services import audit
from points.services import operations
from tests.browser.conftest import Visitor
from tests.storefront.operators import NOW, member, wallet

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_the_dashboards_months_are_read_to_their_last_column(shop: Program, visitor: Visitor) -> None:
    operations.adjust(
        program=shop, member_id=member(shop).pk, wallet_id=wallet(shop).pk, points=9_876_543, reason="x",
        decided_by="x", idempotency_key="x", at=NOW - timedelta(hours=1),
    )  # fmt: skip
    wallet_days.refresh(program=shop, at=NOW)
    visitor.log_in("olivia")
    table = visitor.page.locator(".pn-beside .pn-scroll").first
    table.scroll_into_view_if_needed()
    visitor.photograph("dashboard-wide")
    inside = table.evaluate("box => box.scrollWidth <= box.clientWidth")
    scrolls = table.evaluate("box => getComputedStyle(box).overflowX") == "auto"
    width = visitor.page.viewport_size
    assert inside or (scrolls and width is not None and width["width"] < 1000)
    assert visitor.is_as_wide_as_the_window()


def test_audit_entries_and_operators_fit_the_window(shop: Program, visitor: Visitor) -> None:
    told = {"a_long_name_of_a_field_that_nobody_breaks": "x" * 200}
    entry = audit.record(
        action="webhook_endpoint.secret_rotated_by_an_operator", target="webhook endpoint " + "f" * 60, actor="a" * 60,
        program=shop, before=told, after=told, at=NOW,
    )  # fmt: skip
    visitor.log_in("olivia")
    pages = {
        "audit-entry": reverse("admin:core_auditentry_change", args=[entry.pk]),
        "operator": reverse("admin:auth_user_change", args=[User.objects.get(username="olivia").pk]),
    }
    for name, url in pages.items():
        visitor.visit(url)
        visitor.photograph(name)
        assert visitor.is_as_wide_as_the_window(), name

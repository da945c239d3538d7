"""Checkouts: what was quoted, line by line, and what became of it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from core.admin import StateColumn, link
from core.money import format_minor
from membership.admin import OfMemberAdmin
from storefront.models import Checkout, CheckoutState
from storefront.services.checkouts.shortfalls import show_shortfall


@admin.register(Checkout)
class CheckoutAdmin(StateColumn, OfMemberAdmin):
    list_display = ("public_id", "program", "member", "state_shown", "amount", "points", "quoted_at", "lapses_at")
    list_select_related = ("program", "member")
    list_filter = ("program",)
    search_help_text = _("Public id; else member id, or its beginning")
    fields = (
        *("public_id", "program", "member", "market", "shown_state", "amount", "wallet", "points"),
        *("quoted_at", "held_at", "lapses_at", "closed_at", "paid_order"),
    )
    change_form_template = "storefront/checkout.html"

    def search_condition(self, term: str) -> Q:
        try:
            return Q(public_id=UUID(term))
        except ValueError:
            return super().search_condition(term)

    def state(self, checkout: Checkout) -> tuple[str, str]:
        """Return the key of a color and the word: what nobody has closed yet lapses by itself."""
        has_lapsed = checkout.closed_at is None and checkout.lapses_at <= timezone.now()
        state = CheckoutState.LAPSED if has_lapsed else CheckoutState(checkout.state)
        return state.value, str(state.label)

    @display(
        description=_("State"),
        label={"quoted": "info", "held": "warning", "paid": "success", "released": "default", "lapsed": "default"},
    )  # type: ignore[untyped-decorator]
    def state_shown(self, checkout: Checkout) -> tuple[str, str]:
        return self.state(checkout)

    @admin.display(description=_("Amount"))
    def amount(self, checkout: Checkout) -> str:
        return format_minor(checkout.amount_minor, checkout.currency)

    @admin.display(description=_("Order"))
    def paid_order(self, checkout: Checkout) -> SafeString | str:
        return link(checkout.order, checkout.order.external_id) if checkout.order else "-"

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the price line by line below the fields."""
        checkout = self.get_object(request, object_id)
        if checkout is not None and self.has_view_permission(request, checkout):
            extra_context = (extra_context or {}) | _page(checkout)
        response: HttpResponse = super().change_view(request, object_id, form_url, extra_context)
        return response


def _page(checkout: Checkout) -> dict[str, Any]:
    price, currency = checkout.price, checkout.currency
    priced = [(line["external_id"], line["sku"], line) for line in price["lines"]]
    priced.append((gettext("Shipping"), "", price["shipping"]))
    totals = {
        gettext("List prices"): price["list_minor"],
        gettext("Discounts"): -price["discount_minor"],
        gettext("Tax"): price["tax_minor"],
        gettext("To be paid"): price["amount_minor"],
        gettext("Paid in points"): -price["paid_in_points_minor"],
        gettext("Paid in money"): price["to_pay_minor"],
    }
    return {
        "priced_lines": [
            {
                "name": name,
                "sku": sku,
                "list": format_minor(line["list_minor"], currency),
                "steps": _steps(line, currency),
            }
            for name, sku, line in priced
        ],
        "totals": [(name, format_minor(minor, currency)) for name, minor in totals.items()],
        "refused": price["coupons"]["refused"],
        "points_sentences": [*(price["points"]["sentences"] if price["points"] else []), *_shortfall(checkout)],
        "earns": price["earns"] or [],
    }


def _shortfall(checkout: Checkout) -> list[str]:
    """Return what the order could not take of the checkout, in sentences."""
    short = show_shortfall(checkout)
    if short is None:
        return []
    points = [short["points"]["text"]] if short["points"] else []
    return points + [coupon["text"] for coupon in short["coupons"]]


def _steps(line: dict[str, Any], currency: str) -> list[dict[str, str]]:
    return [
        {
            "text": step["text"],
            "change": format_minor(step["change_minor"], currency),
            "left": format_minor(step["left_minor"], currency),
        }
        for step in line["steps"]
    ]

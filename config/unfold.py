"""How the admin looks: its name and its sidebar. Nothing is loaded from other hosts."""

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _


def _stylesheet(_request: HttpRequest) -> str:
    return static("core/admin.css")


def _page(title: Any, icon: str, model: str, query: str = "") -> dict[str, Any]:
    """Return a sidebar entry for a model's list, or a part of it, shown to those who may see it."""
    app, name = model.split(".")

    def is_allowed(request: HttpRequest) -> bool:
        return request.user.has_perm(f"{app}.view_{name}")

    link = format_lazy("{}{}", reverse_lazy(f"admin:{app}_{name}_changelist"), query)
    return {"title": title, "icon": icon, "link": link, "permission": is_allowed}


UNFOLD = {
    "SITE_TITLE": "Perennial",
    "SITE_HEADER": "Perennial",
    "SITE_SUBHEADER": _("Membership, points and referrals"),
    "SITE_SYMBOL": "local_florist",
    "SITE_URL": None,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_LANGUAGES": True,
    "STYLES": [_stylesheet],
    "DASHBOARD_CALLBACK": "storefront.admin.dashboard.build",
    "ACCOUNT": {
        "navigation": [
            {"title": _("Two-step log-in"), "link": reverse_lazy("two_step")},
            {"title": _("Change password"), "link": reverse_lazy("admin:password_change")},
        ]
    },
    "COLORS": {
        "primary": {
            "50": "oklch(98% .018 155)",
            "100": "oklch(96% .04 156)",
            "200": "oklch(92% .075 156)",
            "300": "oklch(87% .12 155)",
            "400": "oklch(78% .16 153)",
            "500": "oklch(68% .17 151)",
            "600": "oklch(56% .15 151)",
            "700": "oklch(48% .125 152)",
            "800": "oklch(41% .1 153)",
            "900": "oklch(36% .085 154)",
            "950": "oklch(25% .06 155)",
        },
    },
    "SIDEBAR": {
        "navigation": [
            {
                "items": [
                    {"title": _("Dashboard"), "icon": "dashboard", "link": reverse_lazy("admin:index")},
                    _page(_("Retention"), "monitoring", "analytics.retentionstate"),
                ]
            },
            {
                "title": _("Members"),
                "separator": True,
                "items": [
                    _page(_("Members"), "group", "membership.member"),
                    _page(_("Orders"), "shopping_bag", "membership.order"),
                    _page(_("Refunds"), "undo", "membership.refund"),
                    _page(_("Checkouts"), "shopping_cart", "storefront.checkout"),
                    _page(_("Activities"), "bolt", "membership.activity"),
                    _page(_("Tier periods"), "military_tech", "membership.tierperiod"),
                    _page(_("Ledger"), "receipt_long", "points.ledgertransaction"),
                    _page(_("Adjustments to approve"), "fact_check", "points.adjustmentrequest"),
                ],
            },
            {
                "title": _("Coupons"),
                "separator": True,
                "items": [
                    _page(_("Coupons"), "confirmation_number", "coupons.coupondefinition"),
                    _page(_("Code batches"), "qr_code_2", "coupons.codebatch"),
                    _page(_("Codes"), "password", "coupons.couponcode"),
                    _page(_("Claims"), "redeem", "coupons.claim"),
                    _page(_("Redemptions"), "shopping_cart_checkout", "coupons.redemption"),
                ],
            },
            {
                "title": _("Programs"),
                "separator": True,
                "items": [
                    _page(_("Programs"), "storefront", "core.program"),
                    _page(_("Ladders"), "stairs", "membership.ladder"),
                    _page(_("Wallets"), "account_balance_wallet", "points.wallet"),
                    _page(_("Earn rules"), "rule", "points.earnrule"),
                ],
            },
            {
                "title": _("Referrals"),
                "separator": True,
                "items": [
                    _page(_("Referrals"), "diversity_3", "referrals.referral"),
                    _page(_("Review queue"), "fact_check", "referrals.referral", "?review=waiting"),
                    _page(_("Referral codes"), "tag", "referrals.referralcode"),
                    _page(_("Referral policies"), "handshake", "referrals.referralpolicy"),
                ],
            },
            {
                "title": _("Integration"),
                "separator": True,
                "items": [
                    _page(_("API keys"), "key", "core.apikey"),
                    _page(_("Events"), "notifications", "core.event"),
                    _page(_("Webhook endpoints"), "webhook", "core.webhookendpoint"),
                    _page(_("Webhook deliveries"), "outgoing_mail", "core.webhookdelivery"),
                ],
            },
            {
                "title": _("Operations"),
                "separator": True,
                "items": [
                    _page(_("Day closes"), "event_available", "storefront.dayclose"),
                    _page(_("Evaluations"), "event_repeat", "membership.evaluation"),
                    _page(_("Outbox"), "outbox", "core.outboxevent"),
                    _page(_("Audit trail"), "history", "core.auditentry"),
                    _page(_("Operators"), "person", "auth.user"),
                    _page(_("Groups"), "groups", "auth.group"),
                ],
            },
        ],
    },
}

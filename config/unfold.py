"""How the admin looks: its name and its sidebar. Nothing is loaded from other hosts."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse_lazy


def _page(title: str, icon: str, model: str) -> dict[str, Any]:
    """Return a sidebar entry for a model's list, shown to those who may see it."""
    app, name = model.split(".")

    def is_allowed(request: HttpRequest) -> bool:
        return request.user.has_perm(f"{app}.view_{name}")

    link = reverse_lazy(f"admin:{app}_{name}_changelist")
    return {"title": title, "icon": icon, "link": link, "permission": is_allowed}


UNFOLD = {
    "SITE_TITLE": "Perennial",
    "SITE_HEADER": "Perennial",
    "SITE_SUBHEADER": "Membership, points and referrals",
    "SITE_SYMBOL": "local_florist",
    "SITE_URL": None,
    "SHOW_VIEW_ON_SITE": False,
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
                "title": "Members",
                "separator": True,
                "items": [
                    _page("Members", "group", "membership.member"),
                    _page("Orders", "shopping_bag", "membership.order"),
                    _page("Refunds", "undo", "membership.refund"),
                    _page("Activities", "bolt", "membership.activity"),
                    _page("Tier periods", "military_tech", "membership.tierperiod"),
                ],
            },
            {
                "title": "Points",
                "separator": True,
                "items": [_page("Ledger", "receipt_long", "points.ledgertransaction")],
            },
            {
                "title": "Programs",
                "separator": True,
                "items": [
                    _page("Programs", "storefront", "core.program"),
                    _page("Ladders", "stairs", "membership.ladder"),
                    _page("Wallets", "account_balance_wallet", "points.wallet"),
                    _page("Earn rules", "rule", "points.earnrule"),
                ],
            },
            {
                "title": "Operations",
                "separator": True,
                "items": [
                    _page("Evaluations", "event_repeat", "membership.evaluation"),
                    _page("Outbox", "outbox", "core.outboxevent"),
                    _page("Audit", "history", "core.auditentry"),
                    _page("Operators", "person", "auth.user"),
                    _page("Groups", "groups", "auth.group"),
                ],
            },
        ],
    },
}

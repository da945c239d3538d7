"""A member seen whole: where they stand, what they have, and everything that happened, on one page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from membership.models import Activity, Member
from points import selectors as points_selectors
from storefront.admin.member_actions import MemberActions
from storefront.admin.member_sections import ROWS, list_claims, list_orders, list_standings, list_tier_periods
from storefront.admin.timeline import show_timeline
from storefront.selectors import TimelineEntry, list_timeline, member_target


class MemberPage(MemberActions):
    """The member's page. Nothing on it is a form: what operators do has pages of its own."""

    change_form_template = "storefront/member.html"
    inlines = ()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the member whole."""
        if request.method == "GET" and self.has_view_permission(request):
            extra_context = (extra_context or {}) | self._page(request, object_id)
        response: HttpResponse = super().change_view(request, object_id, form_url, extra_context)
        return response

    def _page(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        member, at = self._find(object_id), timezone.now()
        before = _parse(request.GET.get("before", ""))
        page = list_timeline(member=member, before=before)
        return {
            # The header would name the object with a capital letter: an id is shown as it is, on the page itself.
            "original": "",
            "member": member,
            "at": at,
            "standings": list_standings(member, at=at),
            "wallets": points_selectors.list_standings(member_id=member.pk, at=at),
            "orders": list_orders(member),
            "periods": list_tier_periods(member),
            "activities": Activity.objects.filter(member=member).order_by("-occurred_at", "-pk")[:ROWS],
            "coupons": list_claims(member, at=at) if request.user.has_perm("coupons.view_claim") else None,
            "timeline": show_timeline(page.entries, member),
            "next_cursor": page.next_cursor,
            "is_first_page": before is None,
            "audit_target": member_target(member),
            "rows_shown": ROWS,
        }


def _parse(cursor: str) -> TimelineEntry | None:
    try:
        return TimelineEntry.parse(cursor)
    except ValueError:
        return None


admin.site.unregister(Member)
admin.site.register(Member, MemberPage)

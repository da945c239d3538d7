"""What members have claimed, and what redeeming it took off."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.enums import ActionVariant

from core import typed_codes
from core.admin import ReadOnlyInline, StateColumn, link, pages
from core.models import Program
from core.money import format_minor
from coupons.models import Claim, ClaimState, CouponCode, CouponDefinition, Redemption, RedemptionLine, RedemptionState
from coupons.services import claims
from coupons.wallet import has_state, show_state, state_of
from membership.admin import OfMemberAdmin
from membership.models import Order

REVOKE = "coupons.change_claim"
# A search by a typed code shows what was had by this many codes at most.
CODES_PER_SEARCH = 50


class _RedemptionColumns:
    @admin.display(description=_("Redemption"))
    def number(self, redemption: Redemption) -> SafeString:
        return link(redemption, redemption.pk)

    @admin.display(description=_("Discount"))
    def discount(self, redemption: Redemption) -> str:
        return format_minor(redemption.discount_minor, redemption.currency)

    @admin.display(description=_("Off shipping"))
    def shipping_discount(self, redemption: Redemption) -> str:
        return format_minor(redemption.shipping_discount_minor, redemption.currency)


class RedemptionInline(_RedemptionColumns, ReadOnlyInline):
    model = Redemption
    fk_name = "claim"
    fields = ("number", "reference", "state", "discount", "shipping_discount", "held_at", "committed_at")
    ordering = ("-id",)


class ClaimStateFilter(admin.SimpleListFilter):
    """Offers the states as they are shown: what is open and over is expired."""

    title = _("state")
    parameter_name = "shown"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, Any]]:
        return [*ClaimState.choices, ("expired", _("Expired"))]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        state: Any = self.value()
        if state not in (*ClaimState.values, "expired"):
            return queryset
        return queryset.filter(has_state(state, at=timezone.now()))


@admin.register(Claim)
class ClaimAdmin(StateColumn, OfMemberAdmin):
    list_display = ("number_shown", "member", "definition", "state_shown", "claimed_at", "expires_at")
    list_select_related = ("member", "definition")
    list_filter = (ClaimStateFilter, "definition")
    search_help_text = _("Part of the coupon's code, a typed code or its beginning, or part of the member id")
    fields = (
        *("public_id", "member", "definition", "version_shown", "code", "source", "shown_state", "is_automatic"),
        *("claimed_at", "valid_from", "expires_at", "revoked_at"),
    )
    inlines = [RedemptionInline]
    actions_detail = ("revoke",)

    def search_condition(self, term: str) -> Q:
        """Find by coupon, by the code that was typed, by the claim's own id, or by member."""
        coupons = list(CouponDefinition.objects.filter(code__icontains=term).values_list("id", flat=True))
        found = super().search_condition(term) | Q(definition__in=coupons)
        if key := typed_codes.key(term):
            programs = list(Program.objects.values_list("id", flat=True))
            typed = CouponCode.objects.filter(program__in=programs, text__startswith=key).order_by("text")
            codes = list(typed.values_list("id", "definition_id")[:CODES_PER_SEARCH])
            # No index has the code: the coupon's claims are looked through.
            found |= Q(definition__in={owner for _code, owner in codes}, code__in=[code for code, _owner in codes])
        with suppress(ValueError):
            found |= Q(public_id=UUID(term))
        return found

    @admin.display(description=_("Claim"))
    def number_shown(self, claim: Claim) -> int:
        return claim.pk

    @admin.display(description=_("Version"))
    def version_shown(self, claim: Claim) -> str:
        return f"v{claim.version.number}"

    @display(
        description=_("State"),
        label={"open": "success", "held": "warning", "used": "info", "revoked": "danger", "expired": "danger"},
    )  # type: ignore[untyped-decorator]
    def state_shown(self, claim: Claim) -> tuple[str, str]:
        return self.state(claim)

    def state(self, claim: Claim) -> tuple[str, str]:
        """Return the state and its word."""
        state = state_of(claim, at=timezone.now())
        return state, show_state(state)

    @pages.button(_("Revoke"), url_path="revoke", permission=REVOKE, icon="block", variant=ActionVariant.DANGER)
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask why, then take the claim back."""
        claim, form = pages.find_row(self, request, object_id), pages.ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                claims.revoke(
                    program=claim.definition.program, member_id=claim.member_id, claim_id=claim.pk,
                    reason=form.cleaned_data["reason"], at=timezone.now(), user=pages.operator(request),
                )  # fmt: skip
            except claims.ClaimNotOpen:
                form.add_error(None, gettext("A checkout holds it or an order has used it: it cannot be taken back."))
            else:
                messages.success(request, gettext("The claim is revoked."))
                return HttpResponseRedirect(pages.page_of(claim))
        lines = [_("The member can no longer use it. Its place is free again, for the member and for all.")]
        title = _("Revoke")
        return pages.ask(
            self, request, title=title, form=form, submit=title, row=claim, lines=lines, is_grave=True
        )  # fmt: skip


class RedemptionLineInline(ReadOnlyInline):
    model = RedemptionLine
    fields = ("line", "discount", "reversed")
    related = ("redemption",)

    @admin.display(description=_("Discount"))
    def discount(self, line: RedemptionLine) -> str:
        return format_minor(line.discount_minor, line.redemption.currency)

    @admin.display(description=_("Came back"))
    def reversed(self, line: RedemptionLine) -> str:
        return format_minor(line.reversed_minor, line.redemption.currency)


@admin.register(Redemption)
class RedemptionAdmin(_RedemptionColumns, StateColumn, OfMemberAdmin):
    list_display = ("redemption", "member", "coupon", "state_shown", "flag", "discount", "shipping_discount", "held_at")
    list_select_related = ("member", "claim__definition")
    fields = (
        *("public_id", "member", "shown_claim", "coupon", "reference", "shown_order", "shown_state"),
        *("discount", "shipping_discount", "held_at", "held_until", "committed_at", "released_at", "reversed_at"),
        *("outcome", "flag"),
    )
    inlines = [RedemptionLineInline]

    @admin.display(description=_("Redemption"))
    def redemption(self, redemption: Redemption) -> int:
        return redemption.pk

    @admin.display(description=_("Coupon"))
    def coupon(self, redemption: Redemption) -> str:
        return redemption.claim.definition.code

    @admin.display(description=_("Claim"))
    def shown_claim(self, redemption: Redemption) -> SafeString:
        return link(redemption.claim, redemption.claim.public_id)

    @admin.display(description=_("Order"))
    def shown_order(self, redemption: Redemption) -> SafeString | str:
        if redemption.order_id is None:
            return "-"
        order = Order.objects.filter(pk=redemption.order_id, member=redemption.member_id).first()
        return link(order, order.external_id) if order else "-"

    @display(
        description=_("State"),
        label={"held": "warning", "committed": "success", "released": "info", "reversed": "danger"},
    )  # type: ignore[untyped-decorator]
    def state_shown(self, redemption: Redemption) -> tuple[str, str]:
        return self.state(redemption)

    def state(self, redemption: Redemption) -> tuple[str, str]:
        """Return the state and its word."""
        return redemption.state, str(RedemptionState(redemption.state).label)

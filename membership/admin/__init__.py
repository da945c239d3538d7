"""Look-up of members and of the facts and tiers that belong to them; ladders and their evaluations."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from core.admin import ReadOnlyAdmin, ReadOnlyInline, link
from core.models import Program
from core.money import format_minor
from membership.admin import ladders
from membership.definitions import Metric
from membership.explain import explain_held, show_requirement
from membership.models import (
    Activity,
    Member,
    Order,
    OrderKey,
    OrderLine,
    Refund,
    RefundLine,
    TierPeriod,
)
from membership.order_returns import read
from membership.returns import OrderReturned
from membership.stories import find_story

# A search shows what belongs to this many members at most.
MEMBERS_PER_SEARCH = 50


def named(term: str) -> Q:
    """Return what members satisfy whose external id begins with the term, in any case; else a few that have it within.

    Given the programs, an index answers what begins so. For the rest the members are looked through, up to so many.
    """
    begins = Q(program_id__in=_program_ids(), external_id__istartswith=term)
    if Member.objects.filter(begins).exists():
        return begins
    within = Member.objects.filter(external_id__icontains=term).order_by("id").values_list("id", flat=True)
    return Q(pk__in=list(within[:MEMBERS_PER_SEARCH]))


def find_members(term: str) -> QuerySet[Member]:
    """Return the members that a term names."""
    return Member.objects.filter(named(term))


def _program_ids() -> list[int]:
    return list(Program.objects.values_list("id", flat=True))


class OfMemberAdmin(ReadOnlyAdmin):
    """A table of what belongs to members, searched by them."""

    search_fields = ("member__external_id",)
    search_help_text = _("Member id or its beginning; else a part of it")
    ordering: tuple[str, ...] = ("-id",)

    def audit_targets(self, row: Any) -> list[str]:
        own = [f"{row._meta.model_name} {getattr(row, 'external_id', row.pk)}"]
        return own if row.member is None else [*own, f"member {row.member.external_id}"]

    def search_condition(self, term: str) -> Q:
        found = find_members(term).order_by("external_id").values_list("id", flat=True)
        return Q(member_id__in=list(found[:MEMBERS_PER_SEARCH]))


def evidence_words(evidence: dict[str, int], currency: str) -> list[str]:
    """Return each metric that decided with its value and window: `GBP 310.50 net spend in the last 365 days`."""
    words = []
    for key, value in evidence.items():
        metric, _colon, window = key.partition(":")
        words.append(show_requirement(cast(Metric, metric), value, window, currency))
    return words


class _TierPeriodColumns:
    @admin.display(description=_("Evidence"))
    def shown_evidence(self, period: TierPeriod) -> SafeString | str:
        words = evidence_words(period.evidence, period.member.program.currency)
        return format_html_join("", '<div class="whitespace-nowrap">{}</div>', ((word,) for word in words)) or "-"

    @admin.display(description=_("Version"))
    def version_number(self, period: TierPeriod) -> str:
        return f"v{period.version.number}"


class _OrderColumns:
    @admin.display(description=_("Order"))
    def number(self, order: Order) -> SafeString:
        return link(order, order.external_id)

    @admin.display(description=_("Amount"))
    def amount(self, order: Order) -> str:
        return format_minor(order.amount_minor, order.currency)

    @admin.display(description=_("In program currency"))
    def program_amount(self, order: Order) -> str:
        return format_minor(order.program_amount_minor, order.program.currency)


class _RefundColumns:
    @admin.display(description=_("Refund"))
    def number(self, refund: Refund) -> SafeString:
        return link(refund, refund.external_id)

    @admin.display(description=_("Amount"))
    def amount(self, refund: Refund) -> str:
        return format_minor(refund.amount_minor, refund.currency)

    @admin.display(description=_("In program currency"))
    def program_amount(self, refund: Refund) -> str:
        return format_minor(refund.counted_minor, refund.program.currency)


class OrderRefundInline(_RefundColumns, ReadOnlyInline):
    model = Refund
    fields: tuple[str, ...] = ("number", "refunded_at", "amount", "program_amount")
    related = ("program", "order")
    ordering = ("-refunded_at", "-external_id")
    tab = False


@admin.register(Member)
class MemberAdmin(ReadOnlyAdmin):
    """The list of members. The page of one is built above: it spans apps."""

    list_display = ("external_id", "program", "kind", "status", "country", "joined_at")
    list_select_related = ("program",)
    list_filter = ("program",)
    search_fields = ("external_id",)
    search_help_text = _("Member id or its beginning; else a part of it")
    ordering = ("-id",)
    fields = (
        *("external_id", "program", "kind", "status", "joined_at", "recorded_at"),
        *("country", "locale", "birthday", "consents"),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Member], search_term: str
    ) -> tuple[QuerySet[Member], bool]:
        """Found ids come in their own order, which is the index's: the latest first would have to find them all."""
        found, has_duplicates = super().get_search_results(request, queryset, search_term)
        return (found.order_by("program_id", "external_id") if search_term.strip() else found), has_duplicates

    def audit_targets(self, row: Member) -> list[str]:
        return [f"member {row.external_id}"]

    def search_condition(self, term: str) -> Q:
        return named(term)


class OrderLineInline(ReadOnlyInline):
    model = OrderLine
    fields = (
        *("external_id", "sku", "category", "units", "amount", "program_amount", "discount", "paid_in_points"),
        *("returned_units", "returned"),
    )
    tab = False
    related = ("order__program",)
    ordering = ("position",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._returned: dict[int, OrderReturned] = {}

    @admin.display(description=_("Amount"))
    def amount(self, line: OrderLine) -> str:
        return format_minor(line.amount_minor, line.order.currency)

    @admin.display(description=_("In program currency"))
    def program_amount(self, line: OrderLine) -> str:
        return format_minor(line.program_amount_minor, line.order.program.currency)

    @admin.display(description=_("Discount"))
    def discount(self, line: OrderLine) -> str:
        return format_minor(line.discount_minor, line.order.currency)

    @admin.display(description=_("Paid in points"))
    def paid_in_points(self, line: OrderLine) -> str:
        return format_minor(line.paid_in_points_minor, line.order.currency)

    @admin.display(description=_("Refunded"))
    def returned(self, line: OrderLine) -> str:
        # An inline is made anew for each page, which shows one order.
        if line.order_id not in self._returned:
            self._returned[line.order_id] = read([line.order_id])[line.order_id].work_out()
        return format_minor(self._returned[line.order_id].lines[line.pk].returned_minor, line.order.currency)


class _FactAdmin(OfMemberAdmin):
    list_filter: Any = ("program",)
    list_select_related: tuple[str, ...] = ("program", "member")
    search_fields = ("external_id",)


@admin.register(Order)
class OrderAdmin(_OrderColumns, _FactAdmin):
    list_display = ("external_id", "member", "paid_at", "amount", "program_amount", "market", "returned_at")
    search_help_text = _("Order id or its beginning; else member id")
    fields = (
        *("external_id", "program", "member", "paid_at", "local_date", "amount", "program_amount"),
        *("market", "country", "channel", "device", "returned_at", "recorded_at"),
    )
    inlines = [OrderLineInline, OrderRefundInline]

    def search_condition(self, term: str) -> Q:
        keys = OrderKey.objects.filter(program_id__in=_program_ids(), external_id__istartswith=term)
        found = list(keys.order_by("external_id").values_list("order_id", flat=True)[: self.list_per_page])
        return Q(pk__in=found) if found else super().search_condition(term)


class RefundLineInline(ReadOnlyInline):
    model = RefundLine
    fields = ("external_id", "sku", "units", "amount", "of_line")
    tab = False
    related = ("refund__program", "order_line__order")
    ordering = ("id",)

    @admin.display(description=_("Amount"))
    def amount(self, line: RefundLine) -> str:
        return format_minor(line.amount_minor, line.refund.currency)

    @admin.display(description=_("Order line"))
    def of_line(self, line: RefundLine) -> str:
        matched = line.order_line
        if matched is None:
            return "-"
        return gettext("%(line)s of order %(order)s") % {
            "line": matched.external_id,
            "order": matched.order.external_id,
        }


@admin.register(Refund)
class RefundAdmin(_RefundColumns, _FactAdmin):
    list_display = ("external_id", "member", "refunded_at", "amount", "program_amount", "order")
    list_select_related = ("program", "member", "order")
    search_help_text = _("Refund id or its beginning; else member id")
    fields = (
        *("external_id", "program", "member", "order", "refunded_at", "local_date", "amount", "program_amount"),
        "recorded_at",
    )
    inlines = [RefundLineInline]

    def search_condition(self, term: str) -> Q:
        refunds = Refund.objects.filter(program_id__in=_program_ids(), external_id__istartswith=term)
        found = list(refunds.order_by("external_id").values_list("id", flat=True)[: self.list_per_page])
        return Q(pk__in=found) if found else super().search_condition(term)


@admin.register(Activity)
class ActivityAdmin(OfMemberAdmin):
    list_display = ("kind", "member", "occurred_at", "source", "external_id", "quality")
    list_select_related = ("member",)
    fields = (
        *("kind", "member", "source", "external_id", "occurred_at", "local_date", "quality"),
        "recorded_at",
        "voided_at",
    )


@admin.register(TierPeriod)
class TierPeriodAdmin(_TierPeriodColumns, OfMemberAdmin):
    list_display = ("member", "ladder", "tier", "cause", "valid_from", "shown_evidence", "superseded_at")
    list_select_related = ("member__program", "ladder", "tier", "version")
    fields = (
        *("member", "ladder", "tier", "cause", "explanation", "valid_from", "guaranteed_until", "shown_evidence"),
        *("version_number", "recorded_at", "superseded_at"),
    )

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Explain it once, as of the instant it began: a page asks for a field's content several times."""
        period: Any = super().get_object(request, object_id, from_field)
        if period is not None:
            told = {"program": period.member.program, "member_id": period.member_id, "ladder": period.ladder.code}
            story = find_story(**told, at=period.valid_from) if period.superseded_at is None else None
            period.sentences = explain_held(story) if story else []
        return period

    @admin.display(description=_("Explanation"))
    def explanation(self, period: Any) -> SafeString | str:
        return format_html_join("", "<p>{}</p>", ((sentence,) for sentence in period.sentences)) or "-"


__all__ = ["MemberAdmin", "OfMemberAdmin", "evidence_words", "find_members", "ladders"]

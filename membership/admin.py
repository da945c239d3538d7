"""Look-up of members and of the facts and tiers that belong to them; ladders and their evaluations."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from core.admin import ProgramAdmin, ReadOnlyAdmin, ReadOnlyInline, VersionedInline, VersionInline, link
from core.models import Program
from core.money import format_minor
from membership.models import (
    Activity,
    Evaluation,
    EvaluationChunk,
    Ladder,
    LadderVersion,
    Member,
    Order,
    OrderKey,
    OrderLine,
    Refund,
    RefundLine,
    Tier,
    TierPeriod,
)
from membership.selectors import Step, get_path

# A search shows what belongs to this many members at most.
MEMBERS_PER_SEARCH = 50


def find_members(term: str) -> QuerySet[Member]:
    """Return the members whose external id begins with the term. Naming the programs lets the unique index answer."""
    return Member.objects.filter(program_id__in=_program_ids(), external_id__startswith=term)


def _program_ids() -> list[int]:
    return list(Program.objects.values_list("id", flat=True))


class OfMemberAdmin(ReadOnlyAdmin):
    """A table of what belongs to members, searched by them."""

    search_fields = ("member__external_id",)
    search_help_text = "Member id, or its beginning"
    ordering = ("-id",)

    def search_condition(self, term: str) -> Q:
        found = find_members(term).order_by("external_id").values_list("id", flat=True)
        return Q(member_id__in=list(found[:MEMBERS_PER_SEARCH]))


def show_evidence(evidence: dict[str, int], currency: str) -> SafeString | str:
    """Return each metric that decided with its window and value: `net spend, rolling 365: GBP 310.50`."""
    rows = []
    for key, value in evidence.items():
        metric, _, window = key.partition(":")
        shown = format_minor(value, currency) if metric == "net_spend" else f"{value:,}"
        rows.append((metric.replace("_", " "), window.replace("_", " "), shown))
    return format_html_join("", '<div class="whitespace-nowrap">{}, {}: {}</div>', rows) or "-"


def describe_tiers(member: Member, *, at: datetime) -> list[str]:
    """Return in words where a member stands on each ladder: `main: gold`, `to platinum: GBP 12.00 by 2027-03-31`."""
    lines = []
    for ladder in Ladder.objects.filter(program_id=member.program_id):
        path = get_path(member_id=member.pk, ladder=ladder, at=at)
        if path is not None:
            until = f", guaranteed until {path.guaranteed_until:%Y-%m-%d %H:%M} UTC" if path.guaranteed_until else ""
            lines.append(f"{ladder.code}: {path.tier}{until}")
            steps = {"to stay": path.stay} | {f"to {step.tier}": step for step in path.above[:1]}
            currency = member.program.currency
            lines += [f"{goal}: {_missing(step, currency)}" for goal, step in steps.items() if not step.holds]
    return lines


def _missing(step: Step, currency: str) -> str:
    branches = (" and ".join(need.describe(currency) for need in branch if need.missing) for branch in step.branches)
    return " or ".join(branches)


class _TierPeriodColumns:
    @admin.display(description="Evidence")
    def shown_evidence(self, period: TierPeriod) -> SafeString | str:
        return show_evidence(period.evidence, period.member.program.currency)

    @admin.display(description="Version")
    def version_number(self, period: TierPeriod) -> str:
        return f"v{period.version.number}"


class _OrderColumns:
    @admin.display(description="Order")
    def number(self, order: Order) -> SafeString:
        return link(order, order.external_id)

    @admin.display(description="Amount")
    def amount(self, order: Order) -> str:
        return format_minor(order.amount_minor, order.currency)

    @admin.display(description="In program currency")
    def program_amount(self, order: Order) -> str:
        return format_minor(order.program_amount_minor, order.program.currency)


class _RefundColumns:
    @admin.display(description="Refund")
    def number(self, refund: Refund) -> SafeString:
        return link(refund, refund.external_id)

    @admin.display(description="Amount")
    def amount(self, refund: Refund) -> str:
        return format_minor(refund.amount_minor, refund.currency)

    @admin.display(description="In program currency")
    def program_amount(self, refund: Refund) -> str:
        return format_minor(refund.program_amount_minor, refund.program.currency)


class OrderInline(_OrderColumns, ReadOnlyInline):
    model = Order
    fields = ("number", "paid_at", "amount", "program_amount", "market", "channel", "returned_at")
    related = ("program",)
    ordering = ("-paid_at", "-external_id")


class OrderRefundInline(_RefundColumns, ReadOnlyInline):
    model = Refund
    fields: tuple[str, ...] = ("number", "refunded_at", "amount", "program_amount")
    related = ("program", "order")
    ordering = ("-refunded_at", "-external_id")
    tab = False


class RefundInline(OrderRefundInline):
    fields = ("number", "refunded_at", "amount", "program_amount", "order")
    tab = True


class TierPeriodInline(_TierPeriodColumns, ReadOnlyInline):
    model = TierPeriod
    fields = (
        *("ladder", "tier", "cause", "valid_from", "guaranteed_until", "shown_evidence", "version_number"),
        *("recorded_at", "superseded_at"),
    )
    related = ("ladder", "tier", "version", "member__program")
    ordering = ("ladder", "-valid_from", "-id")


@admin.register(Member)
class MemberAdmin(ReadOnlyAdmin):
    """A member with everything that belongs to them. Upper apps add their inlines."""

    list_display = ("external_id", "program", "kind", "status", "country", "joined_at")
    list_select_related = ("program",)
    list_filter = ("program",)
    search_fields = ("external_id",)
    search_help_text = "Member id, or its beginning"
    ordering = ("-id",)
    fields = (
        *("external_id", "program", "shown_tiers", "kind", "status", "joined_at", "recorded_at"),
        *("country", "locale", "birthday", "consents"),
    )
    inlines = [TierPeriodInline, OrderInline, RefundInline]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Read where the member stands once: a page asks for a field's content several times."""
        member: Any = super().get_object(request, object_id, from_field)
        if member is not None:
            member.tier_lines = describe_tiers(member, at=timezone.now())
        return member

    @admin.display(description="Tiers")
    def shown_tiers(self, member: Any) -> SafeString | str:
        return format_html_join("", "<div>{}</div>", ((line,) for line in member.tier_lines)) or "-"

    def search_condition(self, term: str) -> Q:
        return Q(program_id__in=_program_ids(), external_id__startswith=term)


class OrderLineInline(ReadOnlyInline):
    model = OrderLine
    fields = (
        *("external_id", "sku", "category", "units", "amount", "program_amount", "discount"),
        *("returned_units", "returned"),
    )
    tab = False
    related = ("order__program",)
    ordering = ("position",)

    @admin.display(description="Amount")
    def amount(self, line: OrderLine) -> str:
        return format_minor(line.amount_minor, line.order.currency)

    @admin.display(description="In program currency")
    def program_amount(self, line: OrderLine) -> str:
        return format_minor(line.program_amount_minor, line.order.program.currency)

    @admin.display(description="Discount")
    def discount(self, line: OrderLine) -> str:
        return format_minor(line.discount_minor, line.order.currency)

    @admin.display(description="Refunded")
    def returned(self, line: OrderLine) -> str:
        return format_minor(line.returned_minor, line.order.program.currency)


class _FactAdmin(OfMemberAdmin):
    list_filter = ("program",)
    list_select_related: tuple[str, ...] = ("program", "member")
    search_fields = ("external_id",)


@admin.register(Order)
class OrderAdmin(_OrderColumns, _FactAdmin):
    list_display = ("external_id", "member", "paid_at", "amount", "program_amount", "market", "returned_at")
    search_help_text = "Order id or its beginning; else member id"
    fields = (
        *("external_id", "program", "member", "paid_at", "local_date", "amount", "program_amount"),
        *("market", "country", "channel", "device", "returned_at", "recorded_at"),
    )
    inlines = [OrderLineInline, OrderRefundInline]

    def search_condition(self, term: str) -> Q:
        keys = OrderKey.objects.filter(program_id__in=_program_ids(), external_id__startswith=term)
        found = list(keys.order_by("external_id").values_list("order_id", flat=True)[: self.list_per_page])
        return Q(pk__in=found) if found else super().search_condition(term)


class RefundLineInline(ReadOnlyInline):
    model = RefundLine
    fields = ("external_id", "sku", "units", "amount", "of_line", "returned_units", "returned")
    tab = False
    related = ("refund__program", "order_line__order")
    ordering = ("id",)

    @admin.display(description="Amount")
    def amount(self, line: RefundLine) -> str:
        return format_minor(line.amount_minor, line.refund.currency)

    @admin.display(description="Order line")
    def of_line(self, line: RefundLine) -> str:
        matched = line.order_line
        return f"{matched.external_id} of order {matched.order.external_id}" if matched else "-"

    @admin.display(description="Refunded of the line so far")
    def returned(self, line: RefundLine) -> str:
        known = line.returned_minor is not None
        return format_minor(line.returned_minor or 0, line.refund.program.currency) if known else "-"


@admin.register(Refund)
class RefundAdmin(_RefundColumns, _FactAdmin):
    list_display = ("external_id", "member", "refunded_at", "amount", "program_amount", "order")
    list_select_related = ("program", "member", "order")
    search_help_text = "Refund id or its beginning; else member id"
    fields = (
        *("external_id", "program", "member", "order", "refunded_at", "local_date", "amount", "program_amount"),
        "recorded_at",
    )
    inlines = [RefundLineInline]

    def search_condition(self, term: str) -> Q:
        refunds = Refund.objects.filter(program_id__in=_program_ids(), external_id__startswith=term)
        found = list(refunds.order_by("external_id").values_list("id", flat=True)[: self.list_per_page])
        return Q(pk__in=found) if found else super().search_condition(term)


@admin.register(Activity)
class ActivityAdmin(OfMemberAdmin):
    list_display = ("kind", "member", "occurred_at", "source", "external_id", "quality")
    list_select_related = ("member",)
    fields = (*("kind", "member", "source", "external_id", "occurred_at", "local_date", "quality"), "recorded_at")


@admin.register(TierPeriod)
class TierPeriodAdmin(_TierPeriodColumns, OfMemberAdmin):
    list_display = ("member", "ladder", "tier", "cause", "valid_from", "shown_evidence", "superseded_at")
    list_select_related = ("member__program", "ladder", "tier", "version")
    fields = (
        *("member", "ladder", "tier", "cause", "valid_from", "guaranteed_until", "shown_evidence", "version_number"),
        *("recorded_at", "superseded_at"),
    )


class TierInline(ReadOnlyInline):
    model = Tier
    fields = ("code", "name")
    tab = False


class LadderVersionInline(VersionInline):
    model = LadderVersion


@admin.register(Ladder)
class LadderAdmin(ReadOnlyAdmin):
    list_display = ("code", "name", "program", "evaluated_at", "completed_at")
    list_select_related = ("program",)
    list_filter = ("program",)
    fields = ("program", "code", "name", "evaluated_at", "completed_at")
    inlines = [TierInline, LadderVersionInline]


class LadderInline(VersionedInline):
    model = Ladder
    fields = ("shown_code", "name", "published_version", "evaluated_at", "completed_at")


class EvaluationChunkInline(ReadOnlyInline):
    model = EvaluationChunk
    fields = ("first_member_id", "last_member_id", "done_at", "upgraded", "downgraded")
    tab = False


@admin.register(Evaluation)
class EvaluationAdmin(ReadOnlyAdmin):
    list_display = ("at", "ladder", "program", "version", "started_at", "finished_at")
    list_select_related = ("ladder__program", "version")
    ordering = ("-at", "-id")
    fields = ("ladder", "version", "at", "started_at", "finished_at")
    inlines = [EvaluationChunkInline]

    @admin.display(description="Program")
    def program(self, evaluation: Evaluation) -> str:
        return evaluation.ladder.program.code


ProgramAdmin.inlines = [*ProgramAdmin.inlines, LadderInline]

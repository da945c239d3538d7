"""The ledger as support and finance read it: a member's balances and statement, each transaction in full."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Case, F, Model, OuterRef, QuerySet, Subquery, Value, When
from django.db.models.functions import Concat
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldBooleanSwitchWidget

from core.admin import RowsInline, link, pages
from core.admin.filters import LatestDaysFilter
from core.money import format_minor
from membership.admin import OfMemberAdmin
from membership.models import Activity, Order, OrderEdit, OrderLine, Refund, RefundLine
from points.admin import approvals, rules
from points.explain import explain
from points.models import (
    SEQ_BITS,
    Accrual,
    AccrualCorrection,
    AccrualReason,
    AccrualReturn,
    Bucket,
    LedgerEntry,
    LedgerTransaction,
    Lot,
    LotAllocation,
    SourceKind,
)
from points.services import operations
from points.services.posting import IdempotencyKeyReused, NotReversible
from points.statement import BALANCES, read_moves, seq_of, with_entries
from points.stories import find_transaction, tell

# What a source id points at and has a page of its own; a line is on its order's page.
_PAGES: dict[SourceKind, type[Model]] = {
    SourceKind.ORDER: Order,
    SourceKind.REFUND: Refund,
    SourceKind.ACTIVITY: Activity,
    SourceKind.TRANSACTION: LedgerTransaction,
}


def with_source(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Add `source_text`, the storefront's name of what each row's source id points at."""

    def name(model: type[Model], text: Any) -> Subquery:
        found = model._default_manager.filter(pk=OuterRef("source_id"), member_id=OuterRef("member_id"))
        return Subquery(found.order_by().values(text_=text)[:1])

    def line(model: type[Model], parent: str) -> Subquery:
        return name(model, Concat(F(f"{parent}__external_id"), Value(" line "), F("external_id")))

    sourced: QuerySet[Any] = rows.annotate(
        source_text=Case(
            When(source_kind=SourceKind.ORDER, then=name(Order, F("external_id"))),
            When(source_kind=SourceKind.ORDER_LINE, then=line(OrderLine, "order")),
            When(source_kind=SourceKind.ORDER_EDIT, then=name(OrderEdit, F("external_id"))),
            When(source_kind=SourceKind.REFUND, then=name(Refund, F("external_id"))),
            When(source_kind=SourceKind.REFUND_LINE, then=line(RefundLine, "refund")),
            When(source_kind=SourceKind.ACTIVITY, then=name(Activity, Concat(F("kind"), Value(" "), F("external_id")))),
        )
    )
    return sourced


def show_source(row: Any) -> SafeString | str:
    """Return what a row came from, with a link where it has a page."""
    kind = SourceKind(row.source_kind)
    if kind == SourceKind.NONE:
        return "-"
    label = str(kind.label).lower().removesuffix(" line")
    own = show_ledger_id(row.source_id) if kind in (SourceKind.LOT, SourceKind.TRANSACTION) else row.source_id
    text = f"{label} {row.source_text or own}"
    return link(_PAGES[kind](pk=row.source_id), text) if kind in _PAGES else text


def show_ledger_id(row_id: int | None) -> str:
    """Return a ledger id as account/seq."""
    return "-" if row_id is None else f"{row_id >> SEQ_BITS}/{row_id & ((1 << SEQ_BITS) - 1)}"


class _TransactionColumns:
    @admin.display(description=_("Transaction"))
    def number(self, transaction: LedgerTransaction) -> SafeString:
        return link(transaction, show_ledger_id(transaction.pk))

    @admin.display(description=_("Source"))
    def source(self, transaction: Any) -> SafeString | str:
        return show_source(transaction)

    @admin.display(description=_("Points"))
    def shown_moves(self, transaction: Any) -> SafeString | str:
        rows = [
            (f"{move['points']:,}", *(Bucket(move[side]).label.lower() for side in ("from_bucket", "to_bucket")))
            for move in transaction.moves
        ]
        return format_html_join("", '<div class="whitespace-nowrap">{} {} → {}</div>', rows) or "-"

    @admin.display(description=_("Balance after"))
    def shown_balances(self, transaction: Any) -> SafeString | str:
        after: dict[str, int] = {}
        for move in transaction.moves:
            for side in ("from", "to"):
                if move[f"{side}_bucket"] in BALANCES:
                    after[str(Bucket(move[f"{side}_bucket"]).label)] = abs(move[f"{side}_balance_after"])
        rows = [(f"{points:,}", bucket.lower()) for bucket, points in after.items()]
        return format_html_join("", '<div class="whitespace-nowrap">{} {}</div>', rows) or "-"

    @admin.display(description=_("Note"))
    def note(self, transaction: Any) -> SafeString | str:
        if transaction.note_digest is None:
            return "-"
        if transaction.note_body is None:
            return gettext("erased")
        return format_html_join("", "<div>{}: {}</div>", transaction.note_body.items()) or "-"


class _OfTransactionInline(RowsInline):
    tab = False

    def get_rows(self, obj: Any) -> QuerySet[Any]:
        """Return what was posted with a transaction by its range of ids: see with_entries."""
        following = LedgerTransaction.objects.filter(pk__gt=obj.pk).order_by("pk").values_list("pk", flat=True).first()
        rows: QuerySet[Any] = self.model._default_manager.filter(pk__gt=obj.pk).order_by("pk")
        return rows.filter(pk__lt=following) if following else rows


class EntryInline(_OfTransactionInline):
    model = LedgerEntry
    fields = ("from_bucket", "to_bucket", "points", "from_balance_after", "to_balance_after")


class AccrualInline(_OfTransactionInline):
    model = Accrual
    fields = ("source", "rule", "shown_basis", "multiplier", "points", "capped_points", "shown_reason", "lot")

    def get_rows(self, obj: Any) -> QuerySet[Any]:
        return with_source(super().get_rows(obj).select_related("rule_version__owner", "wallet__program"))

    @admin.display(description=_("Source"))
    def source(self, accrual: Accrual) -> SafeString | str:
        return show_source(accrual)

    @admin.display(description=_("Rule"))
    def rule(self, accrual: Accrual) -> str:
        version = accrual.rule_version
        return f"{version.owner.code} v{version.number}" if version else "-"

    @admin.display(description=_("Basis"))
    def shown_basis(self, accrual: Accrual) -> str:
        is_money = accrual.source_kind in (SourceKind.ORDER, SourceKind.ORDER_LINE)
        return format_minor(accrual.basis, accrual.wallet.program.currency) if is_money else f"{accrual.basis:,}"

    @admin.display(description=_("Multiplier"))
    def multiplier(self, accrual: Accrual) -> str:
        return f"{accrual.multiplier_bps // 10_000}.{accrual.multiplier_bps % 10_000:04}"

    @admin.display(description=_("Reason"))
    def shown_reason(self, accrual: Accrual) -> str:
        return AccrualReason(accrual.reason).label.lower()

    @admin.display(description=_("Lot"))
    def lot(self, accrual: Accrual) -> str:
        return show_ledger_id(accrual.lot_id)


class AccrualReturnInline(_OfTransactionInline):
    model = AccrualReturn
    fields = ("source", "of_accrual", "returned", "whole", "points_due", "points_owed", "points_taken")

    def get_rows(self, obj: Any) -> QuerySet[Any]:
        return with_source(super().get_rows(obj))

    @admin.display(description=_("Source"))
    def source(self, returned: AccrualReturn) -> SafeString | str:
        return show_source(returned)

    @admin.display(description=_("Accrual"))
    def of_accrual(self, returned: AccrualReturn) -> str:
        return show_ledger_id(returned.accrual_id)


class AccrualCorrectionInline(_OfTransactionInline):
    model = AccrualCorrection
    fields = (
        "of_accrual",
        "basis",
        "multiplier_bps",
        "points",
        "points_added",
        "points_due",
        "points_owed",
        "points_taken",
    )

    @admin.display(description=_("Accrual"))
    def of_accrual(self, correction: AccrualCorrection) -> str:
        return show_ledger_id(correction.accrual_id)


class LotInline(_OfTransactionInline):
    model = Lot
    fields = ("number", "points", "available_at", "expires_at")

    @admin.display(description=_("Lot"))
    def number(self, lot: Lot) -> str:
        return show_ledger_id(lot.pk)


class LotAllocationInline(_OfTransactionInline):
    model = LotAllocation
    fields = ("of_lot", "points")

    @admin.display(description=_("Lot"))
    def of_lot(self, allocation: LotAllocation) -> str:
        return show_ledger_id(allocation.lot_id)


class ReversalForm(pages.ReasonForm):
    """Asks why, and what becomes of points to take back that are spent."""

    debt = forms.BooleanField(
        label=_("What is spent becomes debt"),
        help_text=_("New points repay debt first. Otherwise what is spent is given up."),
        required=False,
        initial=True,
        widget=UnfoldBooleanSwitchWidget,
    )


@admin.register(LedgerTransaction)
class LedgerTransactionAdmin(_TransactionColumns, OfMemberAdmin):
    list_display = ("__str__", "member", "wallet", "kind", "shown_moves", "effective_at", "recorded_at")
    list_select_related = ("member", "wallet")
    list_filter = ("kind", "wallet", ("recorded_at", LatestDaysFilter))
    list_filter_submit = True
    list_before_template = "points/latest_days.html"
    ordering = ("-recorded_at", "-id")
    fields = (
        *(
            "explanation",
            "member",
            "wallet",
            "kind",
            "source",
            "reverses",
            "reversed_by",
            "effective_at",
            "recorded_at",
            "note",
        ),
        "shown_hash",
    )
    inlines = [EntryInline, AccrualInline, AccrualReturnInline, AccrualCorrectionInline, LotInline, LotAllocationInline]
    actions_detail = ("reverse",)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Offer to reverse what can be reversed."""
        found = super().get_actions_detail(request, object_id)
        return found if operations.list_reversible().filter(pk=object_id).exists() else []

    @pages.button(_("Reverse"), url_path="reverse", permission="points.adjust_points", icon="undo")
    def reverse(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask why and what becomes of points that are spent, then post the opposite."""
        posted = pages.find_row(self, request, object_id)
        if request.method == "GET" and not operations.list_reversible().filter(pk=posted.pk).exists():
            messages.error(request, gettext("This posting cannot be reversed, or has been already."))
            return HttpResponseRedirect(pages.page_of(posted))
        form = ReversalForm(request.POST or None)
        if read_moves(posted).points <= 0:
            del form.fields["debt"]  # nothing is taken from the member
        if request.method == "POST" and form.is_valid():
            user = pages.operator(request)
            try:
                operations.reverse(
                    program=posted.wallet.program, member_id=posted.member_id, wallet_id=posted.wallet_id,
                    transaction_id=posted.pk, reason=form.cleaned_data["reason"],
                    debt=form.cleaned_data.get("debt", True), decided_by=user.get_username(),
                    idempotency_key=f"admin:reverse:{posted.pk}", user=user, at=timezone.now(),
                )  # fmt: skip
                messages.success(request, gettext("The posting has been reversed."))
            except (NotReversible, IdempotencyKeyReused):
                messages.error(request, gettext("This posting cannot be reversed, or has been already."))
            return HttpResponseRedirect(pages.page_of(posted))
        lines = list(posted.sentences)
        return pages.ask(
            self, request, title=_("Reverse"), form=form, submit=_("Reverse"), row=posted, lines=lines, is_grave=True
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerTransaction]:
        return with_source(with_entries(super().get_queryset(request)))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Explain it once: a page asks for a field's content several times."""
        transaction: Any = super().get_object(request, object_id, from_field)
        if transaction is not None:
            found = find_transaction(transaction.pk >> SEQ_BITS, seq_of(transaction.pk))
            program = transaction.wallet.program
            transaction.sentences = explain(tell(found, program=program, wallet=transaction.wallet))
        return transaction

    @admin.display(description=_("Explanation"))
    def explanation(self, transaction: Any) -> SafeString | str:
        return format_html_join("", "<p>{}</p>", ((sentence,) for sentence in transaction.sentences))

    @admin.display(description=_("Reverses"))
    def reverses(self, transaction: LedgerTransaction) -> SafeString | str:
        reversed_id = transaction.reverses_id
        return link(LedgerTransaction(pk=reversed_id), show_ledger_id(reversed_id)) if reversed_id else "-"

    @admin.display(description=_("Reversed by"))
    def reversed_by(self, transaction: LedgerTransaction) -> SafeString | str:
        found = operations.find_reversal(transaction)
        return link(found, show_ledger_id(found.pk)) if found else "-"

    @admin.display(description=_("Chain hash"))
    def shown_hash(self, transaction: LedgerTransaction) -> SafeString:
        """Show it in eights, between which a narrow screen may break it."""
        digest = bytes(transaction.hash).hex()
        return format_html_join(mark_safe("<wbr>"), "{}", ((digest[n : n + 8],) for n in range(0, len(digest), 8)))


__all__ = ["approvals", "rules"]

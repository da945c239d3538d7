"""A member's line of time as rows that people read, each with links to what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext

from core.admin import link
from core.models import AuditEntry
from core.money import format_minor
from membership.admin import evidence_words
from membership.models import Activity, Member, Order, OrderEdit, Refund, TierOverride, TierPeriod
from points.models import Bucket, LedgerTransaction, SourceKind, TransactionKind
from points.statement import read_moves, read_reason, read_source, with_entries, with_source
from points.words import name_source
from storefront.selectors import Happening, TimelineEntry

_ICONS = {
    Happening.ORDER: "shopping_bag",
    Happening.EDIT: "edit",
    Happening.REFUND: "undo",
    Happening.ACTIVITY: "bolt",
    Happening.NOTE: "sticky_note_2",
    Happening.OVERRIDE: "gavel",
    Happening.TIER: "military_tech",
    Happening.POSTING: "toll",
}


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One row: what happened, more about it, and the page that says why (empty: there is none)."""

    at: datetime
    icon: str
    title: str
    detail: str
    why_url: str = ""


def _rows_of(kind: Happening) -> QuerySet[Any]:
    match kind:
        case Happening.ORDER:
            return Order.objects.all()
        case Happening.EDIT:
            return OrderEdit.objects.select_related("order")
        case Happening.REFUND:
            return Refund.objects.select_related("order")
        case Happening.ACTIVITY:
            return Activity.objects.all()
        case Happening.NOTE:
            return AuditEntry.objects.all()
        case Happening.OVERRIDE:
            return TierOverride.objects.select_related("ladder", "tier")
        case Happening.TIER:
            return TierPeriod.objects.select_related("ladder", "tier")
        case Happening.POSTING:
            return with_source(with_entries(LedgerTransaction.objects.select_related("wallet")))


def show_timeline(entries: Sequence[TimelineEntry], member: Member) -> list[TimelineRow]:
    """Return the entries as rows, reading each kind of them at once."""
    found: dict[tuple[Happening, int], Any] = {}
    for kind in {entry.kind for entry in entries}:
        ids = [entry.row_id for entry in entries if entry.kind is kind]
        found |= {(kind, row.pk): row for row in _rows_of(kind).filter(pk__in=ids)}
    return [_show(entry, found[entry.kind, entry.row_id], member) for entry in entries]


def _show(entry: TimelineEntry, row: Any, member: Member) -> TimelineRow:
    title, detail, why_url = _SHOWN[entry.kind](row, member)
    return TimelineRow(entry.at, _ICONS[entry.kind], title, detail, why_url)


def _order(order: Order, _member: Member) -> tuple[str, str, str]:
    amount = format_minor(order.amount_minor, order.currency)
    returned = gettext("all of it came back") if order.returned_at else ""
    return format_html(gettext("Order {}"), link(order, order.external_id)), _join(amount, order.channel, returned), ""


def _edit(edit: OrderEdit, _member: Member) -> tuple[str, str, str]:
    title = format_html(gettext("Edit {} of order {}"), edit.external_id, link(edit.order, edit.order.external_id))
    return title, gettext("added lines: %s") % format_minor(edit.amount_minor, edit.order.currency), ""


def _refund(refund: Refund, _member: Member) -> tuple[str, str, str]:
    own = link(refund, refund.external_id)
    title = (
        format_html(gettext("Refund {} of order {}"), own, link(refund.order, refund.order.external_id))
        if refund.order
        else format_html(gettext("Refund {}"), own)
    )
    return title, format_minor(refund.amount_minor, refund.currency), ""


def _activity(activity: Activity, _member: Member) -> tuple[str, str, str]:
    title = format_html(gettext("Activity {}"), link(activity, activity.kind.replace("_", " ")))
    void = gettext("void: it never happened") if activity.voided_at else ""
    return title, _join(activity.source, activity.external_id, void), ""


def _note(entry: AuditEntry, _member: Member) -> tuple[str, str, str]:
    actions = {
        "tier.override_lifted": gettext("Override lifted"),
        "member.updated": gettext("Member updated"),
        "credit.recorded": gettext("Qualifying credits"),
        "fact.corrected": gettext("Fact corrected"),
    }
    before, after = ((told or {}).get("status") for told in (entry.before, entry.after))
    changed = f"{before} → {after}" if before != after else ""
    credited = (entry.after or {}).get("credits")
    if credited is not None:
        changed = f"{credited:+,}"
    title = link(entry, actions.get(entry.action, entry.action))
    return title, _join(changed, entry.reason, gettext("by %s") % entry.actor), ""


def _override(override: TierOverride, _member: Member) -> tuple[str, str, str]:
    names = {
        "tier": override.tier.name,
        "ladder": override.ladder.name,
        "until": date_format(override.valid_until, "DATETIME_FORMAT"),
    }
    title = gettext("Override: %(tier)s (%(ladder)s) until %(until)s") % names
    return title, _join(override.reason, gettext("by %s") % override.decided_by), ""


def _tier(period: TierPeriod, member: Member) -> tuple[str, str, str]:
    title = f"{period.tier.name} ({period.ladder.name}): {period.get_cause_display().lower()}"
    return title, "; ".join(evidence_words(period.evidence, member.program.currency)), _page(period)


def _posting(posting: Any, _member: Member) -> tuple[str, str, str]:
    moves, source = read_moves(posting), read_source(posting)
    title = f"{TransactionKind(posting.kind).label} ({posting.wallet.name}): {moves.points:+,}"
    after = ", ".join(f"{_bucket(name)} {points:,}" for name, points in moves.balances_after.items())
    named = name_source(source) if source.kind is not SourceKind.NONE else ""
    return title, _join(named, gettext("then %s") % after if after else "", read_reason(posting) or ""), _page(posting)


_SHOWN: dict[Happening, Any] = {
    Happening.ORDER: _order,
    Happening.EDIT: _edit,
    Happening.REFUND: _refund,
    Happening.ACTIVITY: _activity,
    Happening.NOTE: _note,
    Happening.OVERRIDE: _override,
    Happening.TIER: _tier,
    Happening.POSTING: _posting,
}


def _bucket(name: str) -> str:
    return str(Bucket[name.upper()].label).lower()


def _join(*parts: str) -> str:
    """Join what is not empty; each part is escaped unless it is safe already."""
    return format_html_join(" · ", "{}", ((part,) for part in parts if part))


def _page(row: Any) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])

"""What followed from a fact, read from what is stored: the same whenever it is asked."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from core.models import Program
from membership.models import Refund, RefundLine
from membership.selectors import list_tiers_around
from points.models import SourceKind
from points.services.earning import terms_of

_LINES = """
    SELECT a.wallet_id, a.points + coalesce((
        SELECT sum(k.points_added - k.points_taken) FROM points_accrualcorrection k WHERE k.accrual_id = a.id), 0)
    FROM membership_orderline l
    JOIN points_accrual a ON a.member_id = l.member_id AND a.source_id = l.id AND a.source_kind = %(line)s
    WHERE l.order_id = %(order)s AND l.edit_id IS NOT DISTINCT FROM %(edit)s"""

_ACTIVITY = """
    SELECT wallet_id, points + coalesce((
        SELECT sum(k.points_added - k.points_taken) FROM points_accrualcorrection k WHERE k.accrual_id = a.id), 0)
    FROM points_accrual a
    WHERE member_id = %(member)s AND source_id = %(activity)s AND source_kind = %(kind)s"""

# What a refund asked back of order lines; in earlier releases each return named a line of the refund.
_TAKEN = """
    SELECT a.wallet_id, -r.points_taken
    FROM points_accrual a JOIN points_accrualreturn r ON r.accrual_id = a.id AND r.member_id = a.member_id
    WHERE a.member_id = %(member)s AND a.source_kind = %(line)s
        AND a.source_id IN (SELECT id FROM membership_orderline WHERE order_id = ANY(%(refunded)s))
        AND ((r.source_kind = %(refund)s AND r.source_id = %(refund_id)s)
            OR (r.source_kind = %(refund_line)s AND r.source_id = ANY(%(refund_lines)s)))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What a fact left: an activity or an order's lines, those of an edit or of its payment, and a refund."""

    member_id: int | None
    at: datetime
    order_id: int | None = None
    edit_id: int | None = None
    activity_id: int | None = None
    refund: Refund | None = None


def find_effect(program: Program, traces: Traces) -> dict[str, Any]:
    """Return the points that a fact earned or took back, by wallet, and each ladder's tier before and just after it."""
    if traces.member_id is None:
        return {"points": [], "tiers": []}
    tiers = list_tiers_around(program=program, member_id=traces.member_id, at=traces.at)
    return {
        "points": _find_points(program, traces),
        "tiers": [{"ladder": ladder, "before": before, "after": after} for ladder, before, after in tiers],
    }


def _find_points(program: Program, traces: Traces) -> list[dict[str, Any]]:
    moved: dict[int, int] = defaultdict(int)
    refund = traces.refund
    back = list(refund.lines.all()) if refund else []
    told = {
        "member": traces.member_id,
        "order": traces.order_id,
        "edit": traces.edit_id,
        "activity": traces.activity_id,
        "kind": SourceKind.ACTIVITY,
        "line": SourceKind.ORDER_LINE,
        "refunded": list(_refunded(refund, back)) if refund else [],
        "refund": SourceKind.REFUND,
        "refund_id": refund.pk if refund else None,
        "refund_line": SourceKind.REFUND_LINE,
        "refund_lines": [line.pk for line in back],
    }
    asked = {_LINES: traces.order_id, _ACTIVITY: traces.activity_id, _TAKEN: refund}
    with connection.cursor() as cursor:
        for query in (query for query, subject in asked.items() if subject):
            cursor.execute(query, told)
            for wallet_id, points in cursor.fetchall():
                moved[wallet_id] += int(points)
    codes = {wallet_id: terms_of(program).get_wallet_code(wallet_id) for wallet_id, points in moved.items() if points}
    return [{"wallet": codes[pk], "points": moved[pk]} for pk in sorted(codes, key=codes.__getitem__)]


def _refunded(refund: Refund, lines: Iterable[RefundLine]) -> set[int]:
    """Return the orders that a refund or its lines name."""
    named = {line.order_line.order_id for line in lines if line.order_line}
    return named | ({refund.order_id} if refund.order_id else set())

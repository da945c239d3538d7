"""What followed from a fact, read from what is stored: the same whenever it is asked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from core.calendar import TICK
from core.models import Program
from membership.models import RefundLine
from points.models import SourceKind

_POINTS = """
    SELECT w.code, sum(x.points)::bigint FROM (
        SELECT a.wallet_id, a.points FROM points_accrual a
        WHERE a.member_id = %(member)s AND a.source_id = ANY(%(sources)s) AND a.source_kind = %(kind)s
        UNION ALL
        SELECT a.wallet_id, -r.points_taken
        FROM points_accrual a JOIN points_accrualreturn r ON r.accrual_id = a.id AND r.member_id = a.member_id
        WHERE a.member_id = %(member)s AND a.source_id = ANY(%(returned)s) AND a.source_kind = %(line)s
            AND r.source_kind = %(refund_line)s AND r.source_id = ANY(%(refund_lines)s)
    ) x JOIN points_wallet w ON w.id = x.wallet_id
    GROUP BY w.code HAVING sum(x.points) <> 0 ORDER BY w.code"""

_TIERS = """
    SELECT l.code, held.tiers[1], held.tiers[2]
    FROM membership_ladder l
    CROSS JOIN LATERAL (
        SELECT array_agg((
            SELECT t.code FROM membership_tierperiod p JOIN membership_tier t ON t.id = p.tier_id
            WHERE p.member_id = %(member)s AND p.ladder_id = l.id AND p.superseded_at IS NULL
                AND p.valid_from <= moment.at
            ORDER BY p.valid_from DESC LIMIT 1) ORDER BY moment.at) AS tiers
        FROM (VALUES (%(at)s::timestamptz), (%(after)s::timestamptz)) AS moment (at)) held
    WHERE l.program_id = %(program)s ORDER BY l.id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What a fact left: the order lines or activities that earned, and the refund lines that took back."""

    member_id: int | None
    at: datetime
    kind: SourceKind = SourceKind.ORDER_LINE
    sources: Sequence[int] = ()
    refund_lines: Iterable[RefundLine] = ()


def find_effect(program: Program, traces: Traces) -> dict[str, Any]:
    """Return the points that a fact earned or took back, by wallet, and each ladder's tier before and just after it."""
    if traces.member_id is None:
        return {"points": [], "tiers": []}
    back = list(traces.refund_lines)
    with connection.cursor() as cursor:
        cursor.execute(
            _POINTS,
            {
                "member": traces.member_id,
                "sources": list(traces.sources),
                "kind": traces.kind,
                "returned": [line.order_line_id for line in back if line.order_line_id],
                "line": SourceKind.ORDER_LINE,
                "refund_line": SourceKind.REFUND_LINE,
                "refund_lines": [line.pk for line in back],
            },
        )
        points = [{"wallet": wallet, "points": earned} for wallet, earned in cursor.fetchall()]
        cursor.execute(
            _TIERS,
            {"member": traces.member_id, "at": traces.at, "after": traces.at + TICK, "program": program.pk},
        )
        tiers = [{"ladder": ladder, "before": before, "after": after} for ladder, before, after in cursor.fetchall()]
    return {"points": points, "tiers": tiers}

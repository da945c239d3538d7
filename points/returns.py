"""What the ledger has been asked back of what order lines earned, to be compared with what came back of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db import connection

from membership.returns import Share
from points.models import SourceKind

_ASKED = """
    SELECT a.wallet_id, a.source_id, s.points, s.points - s.stands
    FROM points_accrual a CROSS JOIN LATERAL points_standing(a.id) s
    WHERE a.source_kind = %s AND a.source_id = ANY(%s)"""


@dataclass(slots=True)
class AskedBack:
    """The points of an accrual as last corrected, and how many of them stand no more."""

    points: int
    asked: int

    def is_behind(self, share: Share) -> bool:
        """Tell whether more is due once such a share has come back."""
        return share.of(self.points) > self.asked

    def ask(self, share: Share) -> None:
        """Count what is due once such a share has come back as asked."""
        self.asked = max(self.asked, share.of(self.points))


def read_asked(line_ids: Sequence[int]) -> Mapping[tuple[int, int], list[AskedBack]]:
    """Return what was asked back of what order lines earned, by wallet and line."""
    found: dict[tuple[int, int], list[AskedBack]] = defaultdict(list)
    if line_ids:
        with connection.cursor() as cursor:
            cursor.execute(_ASKED, [SourceKind.ORDER_LINE, list(line_ids)])
            for wallet_id, line_id, points, asked in cursor.fetchall():
                found[wallet_id, line_id].append(AskedBack(points, asked))
    return found

"""How a member stood at an instant before the last posting: what had taken effect by then, as it is known now."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import connection

from points.models import SEQ_BITS
from points.selectors import LOTS_SHOWN, NEVER, Balance, OpenLot, Standing, list_standings, soonest

_BALANCES = """
    SELECT a.wallet_id,
        coalesce(sum(e.points * ((e.to_bucket IN (1, 4))::int - (e.from_bucket IN (1, 4))::int)), 0)::bigint,
        coalesce(sum(e.points * ((e.to_bucket = 2)::int - (e.from_bucket = 2)::int)), 0)::bigint,
        coalesce(sum(e.points * ((e.to_bucket = 3)::int - (e.from_bucket = 3)::int)), 0)::bigint,
        coalesce(sum(e.points * ((e.from_bucket = 11 AND t.kind <> 6)::int
            - (e.to_bucket = 11 AND t.kind = 6)::int)), 0)::bigint,
        coalesce(sum(e.points * ((e.to_bucket = 12)::int - (e.from_bucket = 12)::int)), 0)::bigint
    FROM points_account a
    LEFT JOIN (points_ledgerentry e JOIN points_ledgertransaction t ON t.id = e.transaction_id)
        ON e.id >= a.id << 24 AND e.id < (a.id + 1) << 24 AND t.effective_at <= %(at)s
    WHERE a.member_id = %(member)s AND a.last_effective_at > %(at)s GROUP BY a.wallet_id"""

_LOTS = """
    SELECT t.wallet_id, l.id, l.points - coalesce((
            SELECT sum(x.points) FROM points_lotallocation x JOIN points_ledgertransaction b ON b.id = x.transaction_id
            WHERE x.lot_id = l.id AND b.effective_at <= %(at)s), 0)::bigint AS remaining,
        l.available_at > %(at)s, l.available_at, l.expires_at
    FROM points_account a
    JOIN points_lot l ON l.id >= a.id << 24 AND l.id < (a.id + 1) << 24
    JOIN points_ledgertransaction t ON t.id = l.transaction_id
    WHERE a.member_id = %(member)s AND a.last_effective_at > %(at)s AND t.effective_at <= %(at)s
        AND (l.expires_at IS NULL OR l.expires_at > %(at)s)"""


def list_standings_at(*, member_id: int, at: datetime) -> list[Standing]:
    """Return how a member stands or stood at an instant in every wallet of the program.

    What was dated back counts from its own instant on. Where that took more than there was by then, it is debt.
    """
    standings = list_standings(member_id=member_id, at=at)
    told: dict[str, Any] = {"member": member_id, "at": at}
    with connection.cursor() as cursor:
        cursor.execute(_BALANCES, told)
        balances = {wallet_id: _balance(*sums) for wallet_id, *sums in cursor.fetchall()}
        if not balances:
            return standings
        cursor.execute(_LOTS, told)
        lots: dict[int, list[OpenLot]] = defaultdict(list)
        for wallet_id, lot_id, remaining, *life in cursor.fetchall():
            if remaining > 0:
                lots[wallet_id].append(OpenLot(lot_id & (1 << SEQ_BITS) - 1, remaining, *life))
    return [_back_then(standing, balances, lots) for standing in standings]


def _balance(net: int, pending: int, held: int, earned: int, redeemed: int) -> Balance:
    """Return balances in which debt and available points do not stand beside each other."""
    return Balance(max(net, 0), max(pending, 0), held, max(-net, 0), earned, redeemed)


def _back_then(standing: Standing, balances: Mapping[int, Balance], lots: Mapping[int, Any]) -> Standing:
    if standing.wallet_id not in balances:
        return standing
    found = sorted(lots.get(standing.wallet_id, ()), key=lambda lot: (lot.expires_at or NEVER, lot.seq))
    return replace(
        standing,
        balance=balances[standing.wallet_id],
        next_expiry=soonest(None, found),
        lots=tuple(found[:LOTS_SHOWN]),
        lot_count=len(found),
    )

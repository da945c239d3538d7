"""The figures of a program that its operators watch: each is one statement over an index, a projection or a scan."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Sum
from django.db.models.functions import TruncMonth

from analytics.models import WalletDay
from core.calendar import add_months, local_date, period_start
from core.models import Program
from membership.models import Ladder, Member
from points.models import SEQ_BITS, Wallet


@dataclass(frozen=True, slots=True)
class ActiveMembers:
    """How many members bought or did something on the last 30 and 90 local days, today included."""

    last_30_days: int
    last_90_days: int


@dataclass(frozen=True, slots=True)
class TierCount:
    """How many members hold a tier now."""

    code: str
    name: str
    members: int


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A wallet's points over all members, without what has expired and is not posted yet. `debt` is shown positive."""

    wallet: Wallet
    available: int
    pending: int
    held: int
    debt: int


@dataclass(frozen=True, slots=True)
class WalletMonth:
    """What moved in a wallet in a local month. `adjusted`: given by operators less what they took."""

    month: date
    earned: int
    redeemed: int
    expired: int
    clawed_back: int
    adjusted: int


@dataclass(frozen=True, slots=True)
class WalletMonths:
    """A wallet's last months, oldest first."""

    wallet: Wallet
    months: list[WalletMonth]


def has_members(*, program: Program) -> bool:
    """Tell whether anyone is enrolled."""
    return Member.objects.filter(program=program).exists()


def count_active_members(*, program: Program, at: datetime) -> ActiveMembers:
    """Count who was active lately, in one pass over the days of the last 90."""
    today = local_date(at, program.time_zone)
    sinces = {"since_30": today - timedelta(days=29), "since_90": today - timedelta(days=89)}
    return ActiveMembers(*_fetch(_ACTIVE, {"program": program.pk, "today": today} | sinces)[0])


def count_tiers(*, ladder: Ladder, at: datetime) -> list[TierCount]:
    """Count the members of each tier of the version in force, lowest tier first."""
    counts: dict[int, int] = dict(_fetch(_TIERS, {"ladder": ladder.pk, "at": at}))
    version = ladder.versions.exclude(status="draft").order_by("-number").first()
    ranks = {tier["code"]: rank for rank, tier in enumerate(version.definition["tiers"])} if version else {}
    tiers = sorted(ladder.tiers.all(), key=lambda tier: ranks.get(tier.code, -1))
    return [
        TierCount(tier.code, tier.name, counts.get(tier.pk, 0))
        for tier in tiers
        if tier.code in ranks or tier.pk in counts
    ]


def list_outstanding(*, program: Program, at: datetime) -> list[Outstanding]:
    """Sum what members have in each wallet."""
    asked = {"program": program.pk, "at": at, "seq_bits": SEQ_BITS}
    sums = {wallet_id: balances for wallet_id, *balances in _fetch(_OUTSTANDING, asked)}
    wallets = Wallet.objects.filter(program=program).order_by("pk")
    return [Outstanding(wallet, *sums.get(wallet.pk, (0, 0, 0, 0))) for wallet in wallets]


def list_wallet_months(*, program: Program, at: datetime, count: int = 12) -> list[WalletMonths]:
    """Return each wallet's last months, the one of `at` included, from the sums of its days."""
    last = period_start(local_date(at, program.time_zone), "month")
    months = [add_months(last, -back) for back in reversed(range(count))]
    names = [name for name in WalletMonth.__slots__ if name != "month"]
    days = WalletDay.objects.filter(wallet__program=program, day__gte=months[0], day__lt=add_months(last, 1))
    by_month = days.annotate(month=TruncMonth("day")).values("wallet_id", "month").order_by()
    rows: Iterable[Any] = by_month.annotate(**{f"sum_{name}": Sum(name) for name in names})
    sums = {
        (row["wallet_id"], row["month"]): WalletMonth(row["month"], *(row[f"sum_{name}"] for name in names))
        for row in rows
    }
    empty = {month: WalletMonth(month, 0, 0, 0, 0, 0) for month in months}
    return [
        WalletMonths(wallet, [sums.get((wallet.pk, month), empty[month]) for month in months])
        for wallet in Wallet.objects.filter(program=program).order_by("pk")
    ]


def _fetch(sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


_ACTIVE = """
SELECT count(*) FILTER (WHERE last_day >= %(since_30)s), count(*)
FROM (SELECT member_id, max(day) AS last_day FROM membership_memberday
      WHERE day BETWEEN %(since_90)s AND %(today)s AND (orders > 0 OR activities > 0) GROUP BY member_id) AS active
JOIN membership_member member ON member.id = active.member_id AND member.program_id = %(program)s
"""

# The index on live periods read backward has the last one begun of each member first: no sort.
_TIERS = """
SELECT tier_id, count(*) FROM (
    SELECT DISTINCT ON (member_id) tier_id FROM membership_tierperiod
    WHERE ladder_id = %(ladder)s AND superseded_at IS NULL AND valid_from <= %(at)s
    ORDER BY member_id DESC, valid_from DESC
) AS held GROUP BY tier_id
"""

# What is due counts as expired, as in a member's balance; what vested meanwhile stays pending until a job has run.
_OUTSTANDING = """
SELECT a.wallet_id, sum(a.available)::bigint - coalesce(max(due.available), 0)::bigint,
    sum(a.pending)::bigint - coalesce(max(due.pending), 0)::bigint, sum(a.held)::bigint, -sum(a.debt)::bigint
FROM points_account a
LEFT JOIN (
    SELECT account.wallet_id, sum(lot.remaining) FILTER (WHERE NOT lot.is_pending) AS available,
        sum(lot.remaining) FILTER (WHERE lot.is_pending) AS pending
    FROM points_lotbalance lot JOIN points_account account ON account.id = lot.lot_id >> %(seq_bits)s
    WHERE lot.expires_at <= %(at)s GROUP BY 1
) AS due ON due.wallet_id = a.wallet_id
WHERE a.wallet_id IN (SELECT id FROM points_wallet WHERE program_id = %(program)s)
GROUP BY 1
"""

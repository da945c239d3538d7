"""Reminders of points that are about to expire: each member once for each wallet and instant of expiry."""

from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Min

from core import versions
from core.calendar import day_start, local_date
from core.models import Program
from core.services import outbox
from points.definitions import WalletPolicy
from points.models import LotBalance, Wallet

# Reminders told by one event: its subscriber handles them in one transaction.
REMINDERS_PER_EVENT = 1_000

# Pending points cannot be used yet: they count from the close after they vest.
_REMIND = """
    INSERT INTO points_expiryreminder (member_id, wallet_id, expires_at, points, reminded_at)
    SELECT a.member_id, a.wallet_id, b.expires_at, sum(b.remaining), %(at)s
    FROM points_lotbalance b JOIN points_account a ON a.id = b.lot_id >> 24 AND a.member_id = b.member_id
    WHERE b.expires_at = %(expires_at)s AND NOT b.is_pending AND a.wallet_id = %(wallet)s
        AND NOT EXISTS (SELECT FROM points_expiryreminder r WHERE r.member_id = a.member_id
            AND r.wallet_id = a.wallet_id AND r.expires_at = b.expires_at)
    GROUP BY 1, 2, 3 ORDER BY 1
    ON CONFLICT (member_id, wallet_id, expires_at) DO NOTHING RETURNING id"""


def remind(*, program: Program, through: datetime, at: datetime) -> int:
    """Write a reminder for all points that expire soon after the end of a local day, and return how many are new.

    Soon is what the wallet's policy in force at `through` says. The amount is what is left of the lots when this runs;
    what has expired by `at` is not reminded of any more, however late this runs.

    Idempotency: a member is reminded once for each wallet and instant.
    Locks: none but the new rows; one transaction for each wallet and instant.
    """
    return sum(
        _remind_of(program, wallet, expires_at, at)
        for wallet in Wallet.objects.filter(program=program)
        for expires_at in _list_instants(program, wallet, through, at)
    )


def _list_instants(program: Program, wallet: Wallet, through: datetime, at: datetime) -> list[datetime]:
    """Return the instants in (through, through + the policy's days], and after `at`, at which anything expires."""
    version = versions.in_force(wallet.versions.all(), through)
    days = WalletPolicy.model_validate(version.definition).reminder_days if version else 0
    last = day_start(local_date(through, program.time_zone) + timedelta(days), program.time_zone)
    found: list[datetime] = []
    after = max(through, at)
    # One step through the index for each instant: there are few, and at each of them many lots.
    while expires_at := _next_expiry(after, last):
        found.append(expires_at)
        after = expires_at
    return found


def _next_expiry(after: datetime, last: datetime) -> datetime | None:
    lots = LotBalance.objects.filter(expires_at__gt=after, expires_at__lte=last)
    found: datetime | None = lots.aggregate(first=Min("expires_at"))["first"]
    return found


@transaction.atomic
def _remind_of(program: Program, wallet: Wallet, expires_at: datetime, at: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_REMIND, {"wallet": wallet.pk, "expires_at": expires_at, "at": at})
        ids = [reminder_id for (reminder_id,) in cursor.fetchall()]
    for first in range(0, len(ids), REMINDERS_PER_EVENT):
        part = ids[first : first + REMINDERS_PER_EVENT]
        outbox.publish(program_id=program.pk, topic="points.expiring", payload={"reminders": part}, at=at)
    return len(ids)

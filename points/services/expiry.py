"""The expiry job: settle every account of a program to an instant."""

from collections.abc import Callable, Sequence
from datetime import datetime

from core.models import Program
from points.models import Account
from points.services.posting import Settled, settle

# Accounts per transaction: about 200 keep every lock well under 250 ms.
ACCOUNTS_PER_BATCH = 200
# Accounts found by one look at the table; whether they are still due is read again under their locks.
ACCOUNTS_PER_LOOK = 50 * ACCOUNTS_PER_BATCH


def settle_due(
    *,
    program: Program,
    through: datetime,
    at: datetime,
    member_ids: Sequence[int] | None = None,
    on_progress: Callable[[Settled], None] | None = None,
) -> Settled:
    """Post every vest and expiry of the program that falls due by an instant; answer how many.

    member_ids: only these members' accounts.
    Safe to run twice, late, side by side and killed: each batch of accounts is one transaction, and an account
    that has been settled has nothing due.

    Locks: the accounts of one batch at a time.
    """
    due = Account.objects.filter(wallet__program=program, next_due_at__lte=through).order_by("id")
    if member_ids is not None:
        due = due.filter(member_id__in=member_ids)
    fallen, last = Settled(0, 0), 0
    while ids := list(due.filter(id__gt=last).values_list("id", flat=True)[:ACCOUNTS_PER_LOOK]):
        for start in range(0, len(ids), ACCOUNTS_PER_BATCH):
            batch = settle(account_ids=ids[start : start + ACCOUNTS_PER_BATCH], through=through, at=at)
            fallen = Settled(fallen.vested + batch.vested, fallen.expired + batch.expired)
            if on_progress:
                on_progress(fallen)
        last = ids[-1]
    return fallen

"""How often somebody may try to log in as an operator: every try is taken before the password is looked at.

A try is a row that is counted up by itself and at once, so that parallel tries cannot pass the limit. A log-in that
succeeds gives back what it took. The window ends by itself: who goes on trying does not lengthen it.
"""

import hashlib
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import connection

from core.models import LoginTries
from core.services import audit

WINDOW = timedelta(minutes=15)
# A person who mistypes; and all the addresses of one who guesses.
TRIES_PER_ADDRESS = 5
TRIES_PER_ACCOUNT = 30

_TAKE = """
    INSERT INTO core_logintries AS kept (key, tries, since)
    SELECT key, 1, %(at)s FROM unnest(%(keys)s::text[]) AS asked (key) ORDER BY key
    ON CONFLICT (key) DO UPDATE SET
        tries = CASE WHEN kept.since <= %(began)s THEN 1 ELSE kept.tries + 1 END,
        since = CASE WHEN kept.since <= %(began)s THEN excluded.since ELSE kept.since END
    RETURNING key, tries, since"""


class TooManyTries(Exception):
    """Nobody may try this account, or may try it from this address, before `until`."""

    def __init__(self, until: datetime) -> None:
        self.until = until
        super().__init__(f"too many tries, until {until.isoformat()}")


def take_try(*, account: str, address: str, at: datetime) -> None:
    """Count a try to log in to an account from an address.

    Raises: TooManyTries; then the password must not be looked at.
    Locks: the two rows it counts, ascending; none is held afterwards if the caller has no transaction open.
    """
    limits = _limits(account, address)
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, {"at": at, "began": at - WINDOW, "keys": list(limits)})
        rows = cursor.fetchall()
    ends = [since + WINDOW for key, tries, since in rows if tries > limits[key]]
    if ends:
        raise TooManyTries(max(ends))


def give_back(*, account: str, address: str) -> None:
    """Forget the tries of an account after somebody logged in to it."""
    LoginTries.objects.filter(key__in=_limits(account, address)).delete()


def record(*, action: str, account: str, address: str, at: datetime) -> None:
    """Write into the audit trail who logged in, or that somebody tried in vain.

    Only accounts that exist are named: whatever else stands in the field may be a password typed into the wrong one.
    """
    user = User.objects.filter(username=account).first()
    if user is not None:
        audit.record(
            action=action, target=f"operator:{account}", actor=account, user=user, after={"address": address}, at=at
        )


def _limits(account: str, address: str) -> dict[str, int]:
    """Return the rows that a try counts, with the number of tries allowed in each."""
    return {_digest(account): TRIES_PER_ACCOUNT, _digest(account, address): TRIES_PER_ADDRESS}


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()

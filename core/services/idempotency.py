"""Idempotency keys: the same write sent twice has one effect and one answer.

A lease is committed before the work; the answer is written in the work's own transaction. So a sender that comes while
the work is under way is told so, a worker that dies leaves a lease that lapses, and an answer never stands without its
effect. Records lapse; what stays true for ever are the natural keys of facts and postings.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction

from core.models import IdempotencyRecord

LEASE = timedelta(seconds=60)


class KeyReused(Exception):
    """The key was used for another request."""


class InFlight(Exception):
    """The same request is being worked on, or its worker died less than a lease ago."""


class LeaseLost(Exception):
    """The work took longer than its lease, and another sender has taken it over. Nothing may be committed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the first sender was told."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do the work."""

    record_id: int
    token: uuid.UUID


@transaction.atomic(durable=True)
def begin(*, program_id: int, caller: str, key: str, request_digest: bytes, at: datetime) -> Lease | Answer:
    """Take the lease of a key, or return the answer that its work had.

    Raises: KeyReused; InFlight.
    """
    token = uuid.uuid4()
    fresh = {"request_digest": request_digest, "lease": token, "leased_until": at + LEASE, "created_at": at}
    try:
        record, is_new = IdempotencyRecord.objects.get_or_create(
            program_id=program_id, caller=caller, key=key, defaults=fresh
        )
    except IntegrityError:
        raise InFlight from None  # the first sender's work was refused, and its key freed, between insert and read
    if is_new:
        return Lease(record.pk, token)
    if bytes(record.request_digest) != request_digest:
        raise KeyReused
    if record.status is not None and record.body is not None:
        return Answer(record.status, record.body)
    lapsed = IdempotencyRecord.objects.filter(pk=record.pk, status=None, leased_until__lte=at)
    if not lapsed.update(lease=token, leased_until=at + LEASE):
        raise InFlight
    return Lease(record.pk, token)


def finish(lease: Lease, *, status: int, body: str) -> None:
    """Write the answer, in the transaction of the work.

    Raises: LeaseLost.
    Locks: the record, until the work is committed.
    """
    own = IdempotencyRecord.objects.filter(pk=lease.record_id, lease=lease.token, status=None)
    if not own.update(status=status, body=body):
        raise LeaseLost


def release(lease: Lease) -> None:
    """Free the key of work that was refused: nothing was written, so it may be sent again, changed or not."""
    IdempotencyRecord.objects.filter(pk=lease.record_id, lease=lease.token, status=None).delete()

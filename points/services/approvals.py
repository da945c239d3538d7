"""Adjustments that wait for a second person, and goodwill up to a limit.

The wallet's policy says above how many points a second person decides. The service asks for one, and the database
refuses a posting above the limit without an approved request (`points_guard_adjustment`), and a request that is
approved by whoever asked for it.
"""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction

from core.calendar import local_date
from core.models import Program
from core.services import audit
from membership.models import Member
from points import locks
from points.models import AdjustmentRequest, RequestState
from points.services import operations
from points.services.earning import terms_of
from points.services.posting import IdempotencyKeyReused, Posted, PostingError, UnknownAccount

_UNCOUNT_GOODWILL = """
    UPDATE points_goodwillday SET points = points - %(points)s
    WHERE member_id = %(member)s AND wallet_id = %(wallet)s AND day = %(day)s"""

_COUNT_GOODWILL = """
    INSERT INTO points_goodwillday AS kept (member_id, wallet_id, day, points)
    SELECT %(member)s, %(wallet)s, %(day)s, %(points)s WHERE %(points)s <= %(limit)s
    ON CONFLICT (member_id, wallet_id, day) DO UPDATE SET points = kept.points + excluded.points
        WHERE kept.points + excluded.points <= %(limit)s
    RETURNING points"""


class AlreadyDecided(PostingError):
    """The request has been approved or rejected before."""


class SamePerson(PostingError):
    """Whoever asks for an adjustment does not approve it."""


class GoodwillExceeded(PostingError):
    """The member cannot be given so many points as goodwill on this day."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"at most {limit} points a day are given as goodwill")
        self.limit = limit


@transaction.atomic
def adjust(
    *,
    program: Program,
    member: Member,
    wallet_id: int,
    points: int,
    reason: str,
    decided_by: str,
    idempotency_key: str,
    at: datetime,
    debt: bool = False,
    user: User | None = None,
) -> Posted | AdjustmentRequest:
    """Post an adjustment, or ask for a second person's approval where it is above the wallet's limit.

    Raises, Locks: as `operations.adjust`.
    Idempotency: the key, whichever of the two it became.
    """
    operations.check_adjustment(points, reason)
    terms = terms_of(program)
    if not terms.has_wallet(wallet_id) or member.program_id != program.pk:
        raise UnknownAccount(f"the program has no member {member.pk} or no wallet {wallet_id}")
    asked = AdjustmentRequest(
        member=member, wallet_id=wallet_id, points=points, debt=debt, reason=reason, key=idempotency_key,
        requested_by=decided_by, requested_at=at,
    )  # fmt: skip
    known = _find(asked)
    if known is not None:
        return known
    above = terms.policy_at(wallet_id, at).approval_above
    is_posted = operations.is_posted(member_id=member.pk, wallet_id=wallet_id, idempotency_key=idempotency_key)
    if above is None or abs(points) <= above or is_posted:
        return operations.adjust(
            program=program, member_id=member.pk, wallet_id=wallet_id, points=points, reason=reason, debt=debt,
            decided_by=decided_by, idempotency_key=idempotency_key, at=at, user=user,
        )  # fmt: skip
    AdjustmentRequest.objects.bulk_create([asked], ignore_conflicts=True)
    made = _find(asked)
    if made is None:
        raise LookupError("a request that was written is gone")
    if made.public_id == asked.public_id:
        _record("points.adjustment_requested", made, actor=decided_by, user=user, reason=reason, at=at)
    return made


@transaction.atomic
def approve(*, request_id: int, decided_by: str, at: datetime, user: User | None = None) -> AdjustmentRequest:
    """Post what a request asks for, dated now.

    Raises: AlreadyDecided; SamePerson; InsufficientPoints, and then the request waits on; as `operations.adjust`.
    Locks: the request, then the account.
    """
    request = _decide(request_id, decided_by)
    posted = operations.adjust(
        program=request.wallet.program,
        member_id=request.member_id,
        wallet_id=request.wallet_id,
        points=request.points,
        reason=request.reason,
        debt=request.debt,
        decided_by=decided_by,
        idempotency_key=f"approval:{request.public_id}",
        at=at,
        user=user,
    )
    request.transaction_id = posted.transaction_id
    return _close(request, RequestState.APPROVED, decided_by=decided_by, reason="", user=user, at=at)


@transaction.atomic
def reject(
    *, request_id: int, decided_by: str, reason: str, at: datetime, user: User | None = None
) -> AdjustmentRequest:
    """Refuse what a request asks for. Whoever asked cannot refuse it either: a second person decides.

    Raises: AlreadyDecided; SamePerson.
    Locks: the request.
    """
    request = _decide(request_id, decided_by)
    return _close(request, RequestState.REJECTED, decided_by=decided_by, reason=reason, user=user, at=at)


@transaction.atomic
def give_goodwill(
    *,
    program: Program,
    member: Member,
    wallet_id: int,
    points: int,
    reason: str,
    decided_by: str,
    idempotency_key: str,
    at: datetime,
    user: User | None = None,
) -> Posted:
    """Give points up to the wallet's limit for a member and local day, whoever gives them.

    Raises: InvalidPoints; GoodwillExceeded; as `operations.adjust`.
    Locks: the member's day of goodwill, then the account.
    """
    if points <= 0:
        raise operations.InvalidPoints("goodwill gives points")
    terms = terms_of(program)
    if not terms.has_wallet(wallet_id):
        raise UnknownAccount(f"the program has no wallet {wallet_id}")
    limit = terms.policy_at(wallet_id, at).goodwill_per_day
    key = f"goodwill:{idempotency_key}"
    counted = {
        "member": member.pk,
        "wallet": wallet_id,
        "day": local_date(at, program.time_zone),
        "points": points,
        "limit": limit,
    }
    is_counted = not operations.is_posted(member_id=member.pk, wallet_id=wallet_id, idempotency_key=key)
    if is_counted and not _count(_COUNT_GOODWILL, counted):
        raise GoodwillExceeded(limit)
    posted = operations.adjust(
        program=program, member_id=member.pk, wallet_id=wallet_id, points=points, reason=reason,
        decided_by=decided_by, idempotency_key=key, at=at, user=user, action="points.goodwill_given",
    )  # fmt: skip
    if is_counted and not posted.is_new:
        # The same request, sent twice at once: the other one has counted it.
        _count(_UNCOUNT_GOODWILL, counted)
    return posted


def _count(statement: str, values: dict[str, Any]) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return bool(cursor.rowcount)


def _find(asked: AdjustmentRequest) -> AdjustmentRequest | None:
    """Return the request of the same key.

    Raises: IdempotencyKeyReused if it asked for something else.
    """
    own = AdjustmentRequest.objects.filter(member=asked.member, wallet=asked.wallet_id, key=asked.key)
    found = own.select_related("wallet", "member").first()
    if found is not None and (found.points, found.debt, found.reason) != (asked.points, asked.debt, asked.reason):
        raise IdempotencyKeyReused("the key has already asked for something else")
    return found


def _decide(request_id: int, decided_by: str) -> AdjustmentRequest:
    """Return a locked request that waits and that somebody else made.

    Raises: AlreadyDecided; SamePerson.
    """
    request = locks.lock_request(request_id)
    if request.state != RequestState.WAITING:
        raise AlreadyDecided(f"the request has been {request.state} before")
    if request.requested_by == decided_by:
        raise SamePerson("somebody else decides on an adjustment than who asked for it")
    return request


def _close(
    request: AdjustmentRequest, state: RequestState, *, decided_by: str, reason: str, user: User | None, at: datetime
) -> AdjustmentRequest:
    request.state, request.decided_by, request.decided_at, request.decision_reason = state, decided_by, at, reason
    request.save(update_fields=["state", "decided_by", "decided_at", "decision_reason", "transaction_id"])
    _record(f"points.adjustment_{state.value}", request, actor=decided_by, user=user, reason=reason, at=at)
    return request


def _record(
    action: str, request: AdjustmentRequest, *, actor: str, user: User | None, reason: str, at: datetime
) -> None:
    audit.record(
        action=action,
        target=f"member {request.member.external_id}",
        actor=actor,
        user=user,
        program=request.wallet.program,
        reason=reason,
        after={
            "request": str(request.public_id),
            "wallet": request.wallet.code,
            "points": request.points,
            "requested_by": request.requested_by,
        },
        at=at,
    )

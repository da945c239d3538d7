"""How refusals of points become problems. What a shopper may read is said for a shopper."""

from core.api.problems import FieldError, Problem, translates
from points.services.operations import InvalidPoints, RedemptionRefused
from points.services.posting import (
    ClawbackRefused,
    IdempotencyKeyReused,
    InsufficientPoints,
    MemberSuspended,
    NotReversible,
    PointsOverflow,
    UnknownAccount,
)


def unknown_wallet() -> Problem:
    """Return the problem of a wallet that the program does not have."""
    return Problem(404, "unknown_wallet", "The program has no wallet of this code.")


def unknown_transaction() -> Problem:
    """Return the problem of a number under which the wallet has no transaction."""
    return Problem(404, "unknown_transaction", "This wallet of the member has no transaction of this number.")


def unknown_request() -> Problem:
    """Return the problem of an adjustment request that the wallet does not have."""
    return Problem(404, "unknown_adjustment_request", "This wallet of the member has no such adjustment request.")


@translates(InsufficientPoints)
def _insufficient(error: InsufficientPoints) -> Problem:
    detail = f"This takes {error.asked:,} points, and {error.available:,} can be used now."
    told = FieldError(pointer="/points", code="insufficient_points", detail=f"At most {error.available}.")
    return Problem(422, "insufficient_points", detail, errors=[told])


@translates(InvalidPoints)
def _invalid(error: InvalidPoints) -> Problem:
    return Problem(422, "invalid_points", f"{error}.")


@translates(RedemptionRefused)
def _refused(error: RedemptionRefused) -> Problem:
    detail = f"Points are used in steps of {error.step:,}, at least {error.minimum:,} at a time."
    told = FieldError(pointer="/points", code="redemption_refused", detail=detail)
    return Problem(422, "redemption_refused", detail, errors=[told])


@translates(IdempotencyKeyReused)
def _reused(_error: IdempotencyKeyReused) -> Problem:
    return Problem(422, "idempotency_key_reused", "This Idempotency-Key was used for another request.")


@translates(NotReversible)
def _not_reversible(_error: NotReversible) -> Problem:
    return Problem(
        409, "not_reversible", "Only redemptions, adjustments and what activities earned are reversed, once."
    )


@translates(ClawbackRefused)
def _clawback(_error: ClawbackRefused) -> Problem:
    return Problem(
        422, "clawback_refused", "Points that the order earned have been spent; the refund has to wait for new ones."
    )


@translates(PointsOverflow)
def _overflow(_error: PointsOverflow) -> Problem:
    return Problem(422, "points_overflow", "That would be more points than an account can hold.")


@translates(MemberSuspended)
def _suspended(_error: MemberSuspended) -> Problem:
    return Problem(422, "member_suspended", "Points cannot be used while the membership is suspended.")


@translates(UnknownAccount)
def _unknown(_error: UnknownAccount) -> Problem:
    return unknown_wallet()

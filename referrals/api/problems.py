"""How refusals of referrals become problems. What a shopper may read is said for a shopper."""

from core.api.problems import FieldError, Problem, translates
from core.typed_codes import BadCode
from referrals.services.binding import (
    AlreadyBound,
    AttributionExpired,
    ExistingCustomer,
    NoPolicy,
    ReferralCycle,
    SelfReferral,
    UnknownCode,
)
from referrals.services.codes import CodeTaken
from referrals.services.reviews import WrongState


def unknown_referral() -> Problem:
    """Return the problem of a number under which the program has no referral."""
    return Problem(404, "unknown_referral", "The program has no referral of this number.")


@translates(WrongState)
def _wrong_state(error: WrongState) -> Problem:
    return Problem(409, "wrong_referral_state", f"A referral that is {error} cannot be decided so.")


@translates(NoPolicy)
def no_policy(_error: object = None) -> Problem:
    """Return the problem of a program without a policy."""
    return Problem(409, "no_referral_policy", "The program has no referral policy in force.")


@translates(UnknownCode)
def _unknown(_error: UnknownCode) -> Problem:
    return Problem(422, "unknown_referral_code", "There is no such referral code.")


@translates(SelfReferral)
def _self(_error: SelfReferral) -> Problem:
    return Problem(422, "self_referral", "Nobody can bring themselves, nor an account of their own.")


@translates(ExistingCustomer)
def _existing(_error: ExistingCustomer) -> Problem:
    return Problem(422, "existing_customer", "Only who has not ordered yet can be brought by a friend.")


@translates(AlreadyBound)
def _bound(_error: AlreadyBound) -> Problem:
    return Problem(409, "already_bound", "Another friend has brought this member.")


@translates(ReferralCycle)
def _cycle(_error: ReferralCycle) -> Problem:
    return Problem(422, "referral_cycle", "Who brings a friend joined before the friend did.")


@translates(AttributionExpired)
def _expired(_error: AttributionExpired) -> Problem:
    return Problem(422, "attribution_expired", "The invitation, or the enrollment, is too long ago.")


@translates(CodeTaken)
def _taken(_error: CodeTaken) -> Problem:
    return Problem(409, "referral_code_taken", "This code, or one that looks like it, is taken.")


@translates(BadCode)
def _bad(error: BadCode) -> Problem:
    told = FieldError(pointer="/code", code="invalid_referral_code", detail=f"{error}.")
    return Problem(422, "invalid_referral_code", "A referral code cannot look like this.", errors=[told])

"""How refusals of coupons become problems. What a shopper may read is said for a shopper."""

from core.api.problems import FieldError, Problem, pointer, translates
from core.services.feed import utc_text
from core.versions import VersionOverlap
from coupons.services import claims, code_batches, quotes


def unknown_coupon() -> Problem:
    """Return the problem of a coupon that the program does not have, or that is not in force."""
    return Problem(404, "unknown_coupon", "The program has no coupon of this code.")


def unknown_claim() -> Problem:
    """Return the problem of a claim that the member does not have."""
    return Problem(404, "unknown_claim", "The member has no coupon with this id.")


def unknown_batch() -> Problem:
    """Return the problem of a batch of codes that the coupon does not have."""
    return Problem(404, "unknown_batch", "The coupon has no batch of codes of this number.")


@translates(VersionOverlap)
def _overlap(_error: VersionOverlap) -> Problem:
    return Problem(409, "version_just_published", "A version was published at this moment: send the request again.")


@translates(claims.UnknownCoupon)
def _unknown(_error: claims.UnknownCoupon) -> Problem:
    return unknown_coupon()


@translates(quotes.ChoiceRefused)
def _choice(error: quotes.ChoiceRefused) -> Problem:
    detail = f"The program has no coupon {error.code}: name coupons by their codes, as the quote's answer does."
    told = FieldError(pointer=pointer(error.field.split(".")), code="unknown_coupon", detail=detail)
    return Problem(422, "unknown_coupon", detail, errors=[told])


@translates(claims.UnknownClaim)
def _unknown_claim(_error: claims.UnknownClaim) -> Problem:
    return unknown_claim()


@translates(claims.CodeNotAvailable)
def _code(_error: claims.CodeNotAvailable) -> Problem:
    """Say the same of an unknown code, a disabled one and somebody else's: nobody learns which codes there are."""
    told = FieldError(pointer="/code", code="code_not_available", detail="There is nothing to be had by this code.")
    return Problem(422, "code_not_available", "There is nothing to be had by this code.", errors=[told])


@translates(claims.NotClaimable)
def _not_claimable(error: claims.NotClaimable) -> Problem:
    ways = {"automatic": "applies by itself", "code": "is had by its code", "issued": "is given by the shop"}
    return Problem(422, "not_claimable", f"This coupon {ways.get(error.how, 'cannot be taken')}.")


@translates(claims.NotYetValid)
def _not_yet(error: claims.NotYetValid) -> Problem:
    return Problem(422, "not_yet_valid", f"This coupon can be had from {utc_text(error.starts_at)} on.")


@translates(claims.CouponEnded)
def _ended(_error: claims.CouponEnded) -> Problem:
    return Problem(422, "coupon_ended", "This coupon has ended.")


@translates(claims.LimitReached)
def _limit(_error: claims.LimitReached) -> Problem:
    return Problem(422, "all_given_out", "All of these coupons have been given out.")


@translates(claims.AlreadyClaimed)
def _already(_error: claims.AlreadyClaimed) -> Problem:
    return Problem(422, "already_claimed", "You have had this coupon already.")


@translates(claims.OncePerPerson)
def _once_per_person(_error: claims.OncePerPerson) -> Problem:
    detail = "This coupon is given once per person: an account with your e-mail address, card or device has had it."
    return Problem(422, "once_per_person", detail)


@translates(claims.MemberNotActive)
def _not_active(_error: claims.MemberNotActive) -> Problem:
    return Problem(422, "member_suspended", "Coupons cannot be used while the membership is suspended.")


@translates(claims.ClaimNotOpen)
def _not_open(error: claims.ClaimNotOpen) -> Problem:
    return Problem(409, "claim_not_open", f"The coupon is {error.state}; only one that is open can be revoked.")


@translates(code_batches.BadBatch)
def _bad_batch(error: code_batches.BadBatch) -> Problem:
    told = FieldError(pointer=f"/{error.field}", code="invalid_codes", detail=f"{error.reason}.")
    return Problem(422, "invalid_codes", f"{error.field}: {error.reason}.", errors=[told])


@translates(code_batches.BatchEnded)
def _batch_ended(_error: code_batches.BatchEnded) -> Problem:
    return Problem(409, "batch_ended", "All codes of this batch have been made.")


@translates(code_batches.IssuedAlone)
def _issued_alone(_error: code_batches.IssuedAlone) -> Problem:
    detail = "By a shared code everybody could take this coupon, which is issued: issue it, or make the code for one."
    told = FieldError(pointer="/is_shared", code="issued_alone", detail=detail)
    return Problem(422, "issued_alone", detail, errors=[told])


@translates(code_batches.CodeTaken)
def _taken(_error: code_batches.CodeTaken) -> Problem:
    return Problem(409, "code_taken", "This code is another coupon's, or of another kind.")

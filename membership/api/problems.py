"""Refusals of facts, enrollments and overrides, as problems."""

from django.utils.text import capfirst

from core.api.problems import FieldError, Problem, pointer, translates
from membership.fact_inputs import BadFact, FactConflict
from membership.services.members import MemberErased
from membership.services.overrides import BadOverride, NoOverride, OverrideConflict


@translates(BadFact)
def _bad_fact(error: BadFact) -> Problem:
    """The code is the fact's own; the pointer names the field in what was told."""
    place = error.field.split(".") if error.field else []
    detail = f"{error.field}: {error.reason}." if error.field else f"{capfirst(error.reason)}."
    errors = [FieldError(pointer=pointer(place), code=error.code, detail=error.reason)]
    return Problem(422, error.code, detail, errors=errors)


@translates(FactConflict)
def _conflict(error: FactConflict) -> Problem:
    return Problem(409, "fact_conflict", f"The {error.kind} {error.external_id} is recorded with other content.")


@translates(MemberErased)
def _erased(_error: MemberErased) -> Problem:
    return Problem(409, "member_erased", "This member has been erased; nothing about them can be changed.")


@translates(BadOverride)
def _bad_override(error: BadOverride) -> Problem:
    errors = [FieldError(pointer=pointer([error.field]), code=error.code, detail=error.detail)]
    return Problem(422, error.code, f"{error.field}: {error.detail}.", errors=errors)


@translates(OverrideConflict)
def _override_conflict(_error: OverrideConflict) -> Problem:
    return Problem(409, "override_conflict", "Another decision about this tier was recorded meanwhile; repeat yours.")


@translates(NoOverride)
def _no_override(_error: NoOverride) -> Problem:
    return Problem(404, "no_override", "The member has no override in force on this ladder.")

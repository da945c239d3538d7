"""Coupons as operators make them: a code and a first draft."""

from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from pydantic import TypeAdapter, ValidationError

from core.definitions import Code, as_written
from core.models import Program
from core.problems import explain
from core.sections import Journal
from core.services import drafts
from core.services.drafts import DraftRefused
from coupons.models import CouponDefinition
from coupons.program_section import COUPON


def preview(*, program: Program, code: str, text: str) -> str:
    """Return the definition that a YAML text says, written out in full.

    Raises: DraftRefused (invalid: the code is malformed or taken, or the definition is wrong).
    """
    try:
        TypeAdapter(Code).validate_python(code)
    except ValidationError as error:
        raise DraftRefused("invalid", explain(error, "code")) from error
    if CouponDefinition.objects.filter(program=program, code=code).exists():
        raise DraftRefused("invalid", [f"code: there is a coupon {code} already"])
    coupon = CouponDefinition(program=program, code=code)
    return drafts.as_text(COUPON, coupon, as_written(drafts.read_text(COUPON, coupon, text), program.currency))


@transaction.atomic
def draft_coupon(*, program: Program, code: str, text: str, at: datetime, user: User) -> CouponDefinition:
    """Make a coupon that has nothing but a draft: nobody gets it until that is published.

    Raises: as `preview`.
    """
    preview(program=program, code=code, text=text)
    coupon, is_new = CouponDefinition.objects.get_or_create(program=program, code=code)
    if not is_new:
        raise DraftRefused("invalid", [f"code: there is a coupon {code} already"])
    drafts.save_draft(kind=COUPON, owner=coupon, text=text, seen="", at=at, user=user)
    return coupon


@transaction.atomic
def end_coupon(*, coupon: CouponDefinition, reason: str, at: datetime, user: User) -> bool:
    """End a coupon's published version: from `at` on nobody gets it. False if none was published.

    Raises: VersionOverlap if the version takes effect at `at` or later.
    Locks: the program's row, then the coupon's.
    """
    journal = Journal(program=coupon.program, actor=user.get_username(), at=at, user=user, reason=reason)
    COUPON.end(journal, coupon)
    return bool(journal.lines)

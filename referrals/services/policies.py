"""A program's referral policy as operators make it: a first draft."""

from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction

from core.models import Program
from core.services import drafts
from core.services.drafts import DraftRefused
from referrals.models import ReferralPolicy
from referrals.program_section import CODE, POLICY


@transaction.atomic
def draft_policy(*, program: Program, text: str, at: datetime, user: User) -> ReferralPolicy:
    """Make a policy that has nothing but a draft: nobody is bound by it until that is published.

    Raises: DraftRefused (invalid: the program has one, or the definition is wrong).
    """
    policy, is_new = ReferralPolicy.objects.get_or_create(program=program, defaults={"code": CODE})
    if not is_new:
        raise DraftRefused("invalid", [f"program: {program.code} has a referral policy already"])
    drafts.save_draft(kind=POLICY, owner=policy, text=text, seen="", at=at, user=user)
    return policy

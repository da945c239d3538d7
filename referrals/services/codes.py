"""Codes that members give to friends: one made for each, and vanity codes."""

import secrets
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction

from core.services import audit
from core.typed_codes import ALPHABET, check_chosen, key
from membership.models import Member
from referrals.models import ReferralCode

CODE_LENGTH = 8
SHORTEST_VANITY, LONGEST_VANITY = 4, 24
# Of 32^8 codes one in a million is taken when a million members have one.
_TRIES = 8


class CodeTaken(Exception):
    """The code, or one that looks like it, is another member's."""


class NoCodeLeft(RuntimeError):
    """Every code that was tried is taken."""


@transaction.atomic
def ensure_code(*, member: Member, at: datetime) -> ReferralCode:
    """Return the code that was made for a member; make it if there is none.

    Idempotency: a second call, also one at the same time, returns the first one's code.
    """
    for _ in range(_TRIES):
        made = ReferralCode.objects.filter(member=member, is_vanity=False).first()
        if made is not None:
            return made
        text = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
        code = ReferralCode(program_id=member.program_id, member=member, key=key(text), text=text, created_at=at)
        ReferralCode.objects.bulk_create([code], ignore_conflicts=True)
    raise NoCodeLeft


@transaction.atomic
def add_vanity_code(
    *, member: Member, text: str, actor: str, at: datetime, user: User | None = None, reason: str = ""
) -> ReferralCode:
    """Give a member a code of their own choice; earlier codes stay valid.

    Raises: BadCode; CodeTaken.
    Idempotency: a code that is the member's already is returned.
    """
    shown = check_chosen(text, shortest=SHORTEST_VANITY, longest=LONGEST_VANITY)
    code, is_new = ReferralCode.objects.get_or_create(
        program_id=member.program_id,
        key=key(shown),
        defaults={"member": member, "text": shown, "is_vanity": True, "created_at": at},
    )
    if code.member_id != member.pk:
        raise CodeTaken(shown)
    if is_new:
        audit.record(
            action="referral_code.added", target=f"member {member.external_id}", actor=actor, user=user, reason=reason,
            program=member.program, after={"code": code.text}, at=at,
        )  # fmt: skip
    return code

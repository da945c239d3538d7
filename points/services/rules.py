"""Earn rules as operators make them: a code and a first draft."""

from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from pydantic import TypeAdapter, ValidationError

from core.definitions import Code
from core.models import Program
from core.problems import explain
from core.sections import Journal
from core.services import drafts
from core.services.drafts import DraftRefused
from points.models import EarnRule
from points.program_section import EARN_RULE


@transaction.atomic
def draft_rule(*, program: Program, code: str, text: str, at: datetime, user: User) -> EarnRule:
    """Make an earn rule that has nothing but a draft: it earns nothing until that is published.

    Raises: DraftRefused (invalid: the code is malformed or taken, or the definition is wrong).
    """
    try:
        TypeAdapter(Code).validate_python(code)
    except ValidationError as error:
        raise DraftRefused("invalid", explain(error, "code")) from error
    rule, is_new = EarnRule.objects.get_or_create(program=program, code=code)
    if not is_new:
        raise DraftRefused("invalid", [f"code: there is an earn rule {code} already"])
    drafts.save_draft(kind=EARN_RULE, owner=rule, text=text, seen="", at=at, user=user)
    return rule


@transaction.atomic
def end_rule(*, rule: EarnRule, reason: str, at: datetime, user: User) -> bool:
    """End a rule's published version: what happens from `at` on earns nothing by it. False if none was published.

    Raises: VersionOverlap if the version takes effect at `at` or later.
    Locks: the program's row, then the rule's.
    """
    journal = Journal(program=rule.program, actor=user.get_username(), at=at, user=user, reason=reason)
    EARN_RULE.end(journal, rule)
    return bool(journal.lines)

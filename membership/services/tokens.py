"""Tokens by which a member's browser acts: whoever hands one out gives a right."""

from datetime import datetime

from core.services import audit
from membership.models import Member


def note_issued(*, member: Member, actor: str, expires_at: datetime, at: datetime) -> None:
    """Write into the audit trail that a key issued a token. The token itself is kept nowhere."""
    audit.record(
        action="token.issued",
        target=f"token of member {member.external_id}",
        actor=actor,
        program=member.program,
        after={"expires_at": expires_at},
        at=at,
    )

"""The audit trail: one append-only row for every operator's or command's change."""

import json
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.serializers.json import DjangoJSONEncoder

from core.models import AuditEntry, Program


def record(
    *,
    action: str,
    target: str,
    actor: str,
    at: datetime,
    user: User | None = None,
    program: Program | None = None,
    reason: str = "",
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> AuditEntry:
    """Write who did what to which target and why, in the transaction of the change itself."""
    return AuditEntry.objects.create(
        action=action,
        target=target,
        actor=actor,
        user=user,
        program=program,
        reason=reason,
        before=_plain(before),
        after=_plain(after),
        recorded_at=at,
    )


def _plain(values: dict[str, Any] | None) -> Any:
    """Return values as JSON has them, days and instants as text."""
    return json.loads(json.dumps(values, cls=DjangoJSONEncoder))

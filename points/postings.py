"""What the ledger is asked to post: its shape in Python and as the posting functions read it."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from points.models import SourceKind, TransactionKind
from points.rules import LineAccrual

# What gives points by a decision of its own, and not by an earn rule.
GRANTS = (SourceKind.REFERRAL_REWARD,)
# In a decision's note: who made it.
DECIDED_BY = "decided_by"


@dataclass(frozen=True, slots=True)
class Return:
    """What has come back of what earned after a cause: of an order line after a refund, as a rule.

    `returned` of `whole`: units or minor units.
    """

    line_id: int
    source_id: int
    returned: int
    whole: int
    line_kind: SourceKind = SourceKind.ORDER_LINE
    source_kind: SourceKind = SourceKind.REFUND


@dataclass(frozen=True, slots=True)
class Correction:
    """What an accrual is worth by what is known now; `returned` of `whole` of it has come back.

    accrual_id: 0 for one that has to be made first, of the same source and rule. fact: what changed what is known.
    """

    accrual_id: int
    accrual: LineAccrual
    returned: int
    whole: int
    fact_kind: int
    fact_id: int | None
    evaluation_id: int | None


@dataclass(frozen=True, slots=True)
class Posting:
    """One change of one account. `key` identifies it for ever; which other fields count depends on the kind."""

    kind: TransactionKind
    member_id: int
    wallet_id: int
    key: str
    effective_at: datetime
    source_kind: SourceKind = SourceKind.NONE
    source_id: int = 0
    points: int = 0
    available_at: datetime | None = None
    expires_at: datetime | None = None
    accruals: Sequence[LineAccrual] = ()
    returns: Sequence[Return] = ()
    corrections: Sequence[Correction] = ()
    policy: str = ""
    debt: bool | None = None
    reverses_id: int | None = None
    reference: str = ""
    held_until: datetime | None = None
    note: dict[str, Any] = field(default_factory=dict)


def as_json(posting: Posting) -> dict[str, Any]:
    """Return a posting as `points_post` reads it."""
    body: dict[str, Any] = {
        "member": posting.member_id,
        "wallet": posting.wallet_id,
        "kind": posting.kind,
        "key": digest(posting.key).hex(),
        "request": request_digest(posting).hex(),
        "source_kind": posting.source_kind,
        "source_id": posting.source_id,
        "effective_at": posting.effective_at.isoformat(),
    }
    if posting.corrections:
        body["policy"] = posting.policy
        body["corrections"] = [_correction_json(correction) for correction in posting.corrections]
    elif posting.kind is TransactionKind.EARN:
        body["accruals"] = [dict(_accrual_json(accrual), capped=0) for accrual in posting.accruals]
    elif posting.kind is TransactionKind.CLAWBACK:
        body["policy"] = posting.policy
        body["returns"] = [
            {"line_kind": r.line_kind, "line": r.line_id, "source_kind": r.source_kind, "source_id": r.source_id,
             "returned": r.returned, "whole": r.whole}
            for r in posting.returns
        ]  # fmt: skip
    elif posting.kind is TransactionKind.REVERSE:
        body["reverses"] = posting.reverses_id
    elif posting.points:
        body["points"] = posting.points
    optional = {
        "debt": posting.debt,
        "reference": posting.reference or None,
        "held_until": posting.held_until and posting.held_until.isoformat(),
        "available_at": posting.available_at and posting.available_at.isoformat(),
        "expires_at": posting.expires_at and posting.expires_at.isoformat(),
    }
    body |= {name: value for name, value in optional.items() if value is not None}
    if posting.note:
        salt = os.urandom(16)
        body["note"] = {"salt": salt.hex(), "body": posting.note}
        body["note_digest"] = note_digest(salt, posting.note).hex()
    return body


def _accrual_json(accrual: LineAccrual) -> dict[str, int | None]:
    names = ("source_kind", "source_id", "rule", "basis", "multiplier", "points", "reason")
    return dict(zip(names, accrual_values(accrual), strict=True))


def _correction_json(correction: Correction) -> dict[str, int | None]:
    return {
        **_accrual_json(correction.accrual),
        "accrual": correction.accrual_id,
        "returned": correction.returned,
        "whole": correction.whole,
        "fact_kind": correction.fact_kind,
        "fact_id": correction.fact_id,
        "evaluation": correction.evaluation_id,
    }


def note_digest(salt: bytes, body: dict[str, Any]) -> bytes:
    """Return the salted digest by which the ledger knows a note without containing it."""
    return hashlib.sha256(salt + json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).digest()


def digest(text: str) -> bytes:
    """Return the digest by which the ledger knows a key."""
    return hashlib.sha256(text.encode()).digest()[:16]


def accrual_values(accrual: LineAccrual) -> tuple[int | None, ...]:
    """Return the values of an accrual in the order of the ledger's columns."""
    return (
        int(accrual.source_kind), accrual.source_id, accrual.rule_version_id, accrual.basis, accrual.multiplier_bps,
        accrual.points, int(accrual.reason),
    )  # fmt: skip


def request_digest(posting: Posting) -> bytes:
    """Return what tells a repetition from another use of the same key.

    The effective instant counts only for facts: a decision that is sent again is dated later, and by whoever sends it.
    """
    is_fact = posting.kind in (TransactionKind.EARN, TransactionKind.CLAWBACK) and posting.source_kind not in GRANTS
    note = {name: text for name, text in posting.note.items() if name != DECIDED_BY}
    return digest(
        repr((
            int(posting.kind), int(posting.source_kind), posting.source_id, posting.points, posting.reverses_id,
            posting.effective_at.isoformat() if is_fact else "", [accrual_values(a) for a in posting.accruals],
            [(r.line_id, r.source_id, r.returned, r.whole) for r in posting.returns], note,
            *[(k.accrual_id, accrual_values(k.accrual), k.returned, k.whole) for k in posting.corrections],
        ))
    )  # fmt: skip

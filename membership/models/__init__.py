"""Members, the facts the storefront told about them, and the tiers that follow from the facts."""

from membership.models.corrections import FactCorrection
from membership.models.facts import (
    Activity,
    MemberDay,
    Order,
    OrderEdit,
    OrderKey,
    OrderLine,
    QualifyingCredit,
    Refund,
    RefundLine,
)
from membership.models.fingerprints import Fingerprint, FingerprintKind
from membership.models.members import (
    Member,
    MemberKind,
    MemberStatus,
)
from membership.models.tiers import (
    DirtyMember,
    Evaluation,
    EvaluationChunk,
    FactKind,
    Ladder,
    LadderVersion,
    PastChange,
    Tier,
    TierCause,
    TierOverride,
    TierPeriod,
)

__all__ = [
    "Activity",
    "DirtyMember",
    "Evaluation",
    "EvaluationChunk",
    "FactCorrection",
    "FactKind",
    "Fingerprint",
    "FingerprintKind",
    "Ladder",
    "LadderVersion",
    "Member",
    "MemberDay",
    "MemberKind",
    "MemberStatus",
    "Order",
    "OrderEdit",
    "OrderKey",
    "OrderLine",
    "PastChange",
    "QualifyingCredit",
    "Refund",
    "RefundLine",
    "Tier",
    "TierCause",
    "TierOverride",
    "TierPeriod",
]

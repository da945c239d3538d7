"""Reads of referrals: the policy in force, whose code it is, what an order is worth by now, where a member stands."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from django.db import connection

from core import typed_codes
from core.models import Program, Version
from core.versions import in_force
from referrals.definitions import Milestone, ReferralTerms
from referrals.models import Referral, ReferralCode, ReferralPolicyVersion, ReferralState

# What an order is worth: paid, with what edits added, less what came back, whether the refund names the order or its
# lines do. One that is back with all its units is worth nothing, whatever was kept of its money.
_WORTH = """
    SELECT o.id, o.paid_at, o.market, CASE WHEN o.returned_at IS NOT NULL THEN 0 ELSE (o.program_amount_minor
        + coalesce((SELECT sum(e.program_amount_minor) FROM membership_orderedit e
            WHERE e.order_id = o.id AND e.member_id = o.member_id), 0)
        - coalesce((SELECT sum(r.counted_minor - coalesce((SELECT sum(l.counted_minor) FROM membership_refundline l
                WHERE l.refund_id = r.id AND l.member_id = r.member_id AND l.order_line_id IS NOT NULL), 0))
            FROM membership_refund r WHERE r.order_id = o.id AND r.member_id = o.member_id), 0)
        - coalesce((SELECT sum(l.counted_minor) FROM membership_refundline l
            JOIN membership_orderline ol ON ol.id = l.order_line_id AND ol.member_id = l.member_id
            WHERE ol.order_id = o.id AND ol.member_id = o.member_id), 0)
        )::bigint END AS net_minor
    FROM membership_order o WHERE o.member_id = %s"""
_FIRST_WORTHY = "SELECT * FROM (" + _WORTH + ") worth WHERE net_minor >= %s ORDER BY paid_at, id LIMIT 1"  # noqa: S608 constants
_OF_ORDER = _WORTH + " AND o.id = %s"


@dataclass(frozen=True, slots=True)
class OrderWorth:
    """An order net of what came back, in minor units of the program's currency."""

    order_id: int
    paid_at: datetime
    market: str
    net_minor: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a referrer stands. `to_next`: friends that must qualify for the next milestone; None: there is none."""

    code: str | None
    invited: int
    qualified: int
    next_milestone: int | None

    @property
    def to_next(self) -> int | None:
        """Return how many friends are missing."""
        return None if self.next_milestone is None else self.next_milestone - self.qualified


def find_version(program: Program, *, at: datetime) -> ReferralPolicyVersion | None:
    """Return the version of the program's policy that is in force at an instant."""
    return in_force(ReferralPolicyVersion.objects.filter(owner__program=program), at)


def terms_of(version: Version, currency: str) -> ReferralTerms:
    """Return what a version says. A published one never changes, so it is read once."""
    return _read_terms(version.pk, currency)


@lru_cache(maxsize=256)
def _read_terms(version_id: int, currency: str) -> ReferralTerms:
    definition = ReferralPolicyVersion.objects.values_list("definition", flat=True).get(pk=version_id)
    return ReferralTerms.model_validate(definition, context={"currency": currency})


def find_code(*, program_id: int, text: str) -> ReferralCode | None:
    """Return the code that somebody typed."""
    codes = ReferralCode.objects.filter(program_id=program_id, key=typed_codes.key(text))
    return codes.select_related("member").first()


def shown_code(member_id: int) -> str | None:
    """Return the member's newest code."""
    return ReferralCode.objects.filter(member_id=member_id).order_by("-id").values_list("text", flat=True).first()


def find_first_worthy(*, member_id: int, minimum_minor: int) -> OrderWorth | None:
    """Return the member's first order that is still worth so much, whole returns left out."""
    return _one(_FIRST_WORTHY, [member_id, minimum_minor])


def worth_of(*, member_id: int, order_id: int) -> OrderWorth | None:
    """Return what an order of the member is worth by now."""
    return _one(_OF_ORDER, [member_id, order_id])


def _one(statement: str, parameters: list[int]) -> OrderWorth | None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        row = cursor.fetchone()
    return OrderWorth(*row) if row else None


def count_qualified(member_id: int) -> int:
    """Return how many direct friends of a referrer have qualified and still do."""
    return Referral.objects.filter(referrer_id=member_id, state=ReferralState.QUALIFIED).count()


def get_standing(*, program: Program, member_id: int, at: datetime) -> Standing:
    """Return where a referrer stands: 3 invited, 1 qualified, 2 to the next reward."""
    qualified = count_qualified(member_id)
    version = find_version(program, at=at)
    milestones: tuple[Milestone, ...] = terms_of(version, program.currency).milestones if version else ()
    ahead = [milestone.invitees for milestone in milestones if milestone.invitees > qualified]
    return Standing(
        code=shown_code(member_id),
        invited=Referral.objects.filter(referrer_id=member_id).count(),
        qualified=qualified,
        next_milestone=min(ahead, default=None),
    )

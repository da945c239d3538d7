"""Reads of referrals: the policy in force, whose code it is, what an order is worth by now, where a member stands."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from django.db.models import F, Q, Sum

from core import typed_codes
from core.models import Program, Version
from core.versions import in_force
from membership import order_returns
from membership.models import MemberStatus, Order
from membership.returns import work_out
from referrals.definitions import Milestone, ReferralTerms
from referrals.models import Referral, ReferralCode, ReferralPolicyVersion, ReferralState

# What a person has to look at: before it is paid, or at new evidence afterwards.
WAITING_FOR_REVIEW = Q(state=ReferralState.FLAGGED) | Q(suspected_at__isnull=False)


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


def iter_orders_of(*, member_id: int, minimum_minor: int) -> Iterator[Order]:
    """Yield a member's orders that were worth so much when they were paid, or with what edits added, in their order."""
    added = Sum("edits__program_amount_minor", default=0)
    orders = Order.objects.filter(member_id=member_id).alias(worth=F("program_amount_minor") + added)
    yield from orders.filter(worth__gte=minimum_minor).order_by("paid_at", "external_id").iterator()


def goods_left_minor(order: Order, *, until: datetime | None = None) -> int:
    """Return what is left of the goods of an order, without shipping and what was paid in points.

    Units: minor units of the program's currency, of which a line has its share of the whole order.
    until: by the refunds and edits before that instant; left out, by all. What was paid with the order counts always.
    """
    known = order_returns.read([order.pk]).get(order.pk)
    if known is None or not known.order.amount_minor:
        return 0
    paid = known.order
    back = work_out(paid, [part for part in known.parts if until is None or part.refunded_at < until])
    left = 0
    for line in back.lines.values():
        if until is None or line.line.since < until or line.line.since == paid.paid_at:
            goods = line.line.paid_in_money_minor
            left += goods - line.of_earned.of(goods)
    return left * paid.program_amount_minor // paid.amount_minor


def count_qualified(member_id: int, *, without_suspended: bool = False) -> int:
    """Return how many direct friends of a referrer have qualified and still do."""
    friends = Referral.objects.filter(referrer_id=member_id, state=ReferralState.QUALIFIED)
    return (friends.exclude(member__status=MemberStatus.SUSPENDED) if without_suspended else friends).count()


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

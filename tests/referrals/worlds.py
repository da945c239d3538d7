"""A shop with a referral policy, and friends who bring friends."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from core import versions
from core.calendar import TICK
from core.definitions import as_written
from core.models import Program
from core.services import outbox
from membership.fact_inputs import MemberInput, OrderInput, RefundInput
from membership.models import Member
from membership.services.members import enroll_members, update_member
from points.models import Account, Wallet
from referrals.definitions import ReferralTerms
from referrals.models import Referral, ReferralPolicy, ReferralReward
from referrals.services import binding, codes, qualification
from storefront.services import intake
from tests.storefront.shop import Fact, order, refund

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SETTLED = NOW + 20 * DAY
TERMS: dict[str, Any] = {
    "name": "Bring a friend",
    "minimum_order": "20.00",
    "referrer": {"points": 500, "wallet": "points"},
    "referee": {"points": 200, "wallet": "points"},
}


def make_shop(code: str = "shop", **terms: Any) -> Program:
    """A program in pounds with a wallet and a policy in force; orders earn nothing there."""
    program = Program.objects.create(code=code, name=code, currency="GBP", time_zone="Europe/London")
    wallet = Wallet.objects.create(program=program, code="points", name="Points")
    versions.publish(wallet, {"expiry_days": 365}, at=NOW - 100 * DAY)
    policy = ReferralPolicy.objects.create(program=program, code="main")
    publish_terms(policy, **terms)
    return program


def publish_terms(policy: ReferralPolicy, *, at: datetime = NOW - 100 * DAY, **terms: Any) -> None:
    read = ReferralTerms.model_validate(TERMS | terms, context={"currency": "GBP"})
    versions.publish(policy, as_written(read, "GBP"), at=at)


def enroll(program: Program, *names: str, at: datetime = NOW - DAY) -> list[Member]:
    """Enroll members, each an instant after the one before."""
    told = [MemberInput(external_id=name, joined_at=at + n * TICK) for n, name in enumerate(names)]
    enroll_members(program=program, members=told, at=at + DAY)
    found = {member.external_id: member for member in Member.objects.filter(program=program, external_id__in=names)}
    return [found[name] for name in names]


def code_of(member: Member) -> str:
    return codes.ensure_code(member=member, at=NOW).text


def bring(referrer: Member, referee: Member, *, at: datetime = NOW, told: Mapping[str, str] | None = None) -> Referral:
    """Bind the referee by the referrer's code."""
    bound = binding.bind(program=referrer.program, member=referee, code=code_of(referrer), told=told, at=at)
    return bound.referral


def buy(member: Member, name: str, minor: int, *, at: datetime = NOW + DAY, market: str = "") -> None:
    told = order(name, (1, minor), at=at, member=member.external_id)
    record(
        member.program,
        OrderInput(**{field: getattr(told, field) for field in told.__dataclass_fields__} | {"market": market}),
    )


def give_back(member: Member, name: str, of: str, minor: int, *, at: datetime = NOW + 2 * DAY) -> None:
    record(member.program, refund(name, (f"{of}.1", None, minor), at=at, member=member.external_id))


def record(program: Program, *facts: Fact) -> None:
    """Tell facts and deliver the news of them."""
    orders = [fact for fact in facts if isinstance(fact, OrderInput)]
    refunds = [fact for fact in facts if isinstance(fact, RefundInput)]
    last = max(getattr(fact, "paid_at", None) or getattr(fact, "refunded_at") for fact in facts)  # noqa: B009
    intake.record(program=program, orders=orders, refunds=refunds, at=max(last, NOW))
    deliver(max(last, NOW))


def set_status(member: Member, status: str, *, at: datetime) -> None:
    """Suspend a member, or let them be active again, and deliver the news."""
    update_member(member=member, changes={"status": status}, actor="test", at=at)
    deliver(at)


def deliver(at: datetime) -> None:
    """Deliver what is in the outbox; none may fail."""
    assert outbox.drain(at=at).failed == 0


def settle(program: Program, at: datetime = SETTLED) -> None:
    """Decide what is due, and deliver."""
    qualification.mature(program=program, at=at)
    deliver(at)


def rewards_of(member: Member) -> list[tuple[str, int, int | None, str]]:
    """Return (event, level, points, state) of a member's rewards, with orders by no number."""
    rows = ReferralReward.objects.filter(member=member).order_by("pk")
    return [(row.event.partition(":")[0], row.level, row.points, row.state) for row in rows]


def points_of(member: Member) -> int:
    """Return what the ledger says, debt included."""
    account = Account.objects.filter(member=member, wallet__code="points").first()
    return account.available + account.pending + account.debt if account else 0

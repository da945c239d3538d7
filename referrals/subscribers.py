"""News that moves referrals and rewards."""

from datetime import datetime
from typing import Any

from core.events import subscribe
from core.models import Program
from referrals.models import Referral, ReferralState
from referrals.services import qualification, rewards


@subscribe("membership.facts_recorded", name="referrals.follow_facts")
def follow_facts(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Look at the referrals of those who ordered or sent something back."""
    member_ids = {member_id for ids in payload["members"].values() for member_id in ids}
    qualification.follow_facts(program=Program.objects.get(pk=program_id), member_ids=member_ids, at=at)


@subscribe("membership.member_updated", name="referrals.follow_status")
def follow_status(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Look at the rewards that wait for members who were suspended or are active again."""
    if "status" in payload["changed"]:
        program = Program.objects.get(pk=program_id)
        for member_id in payload["members"]:
            rewards.follow_status(program=program, member_id=member_id, at=at)


@subscribe("referrals.referral_moved", name="referrals.follow_binding")
def follow_binding(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Look at a referral once more that has just been bound: an order told at that moment did not find it yet."""
    if payload["state"] == ReferralState.PENDING:
        member_ids = Referral.objects.filter(pk=payload["referral"]).values_list("member_id", flat=True)
        qualification.follow_facts(program=Program.objects.get(pk=program_id), member_ids=member_ids, at=at)


@subscribe("referrals.reward_due", name="referrals.settle_reward")
def settle_reward(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Bring one member's rewards for one referral in line."""
    rewards.settle(
        program=Program.objects.get(pk=program_id),
        referral_id=payload["referral"],
        member_id=payload["member"],
        level=payload["level"],
        at=at,
    )

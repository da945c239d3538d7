"""referrals' part of a program file: the policy, if the program has one."""

from collections.abc import Collection
from typing import Any

from core.models import Market
from core.sections import Journal, Kind, Reader, apply_fields, unknown_reference
from coupons.models import CouponDefinition
from points.models import Wallet
from referrals.definitions import PointsReward, ReferralTerms
from referrals.models import ReferralPolicy

KEY = "referrals"
# A program has one policy; its code is there for plans and the audit trail.
CODE = "main"


def parse_referrals(reader: Reader) -> ReferralTerms | None:
    """Read the policy and check what it names; a file may have none."""
    if KEY not in reader.document:
        reader.keys.add(KEY)
        return None
    terms = reader.read(KEY, ReferralTerms)
    if terms is not None:
        problems = _find_unknown(terms, reader.codes("wallets"), reader.codes("coupons"), reader.codes("markets"))
        reader.problems.extend(f"{KEY}.{problem}" for problem in problems)
    return terms


def _find_unknown(
    terms: ReferralTerms, wallets: Collection[str], coupons: Collection[str], markets: Collection[str]
) -> list[str]:
    """Return what is wrong with the wallets, coupons and markets that a policy names."""
    problems = []
    milestones = [(f"milestones[{n}].reward", milestone.reward) for n, milestone in enumerate(terms.milestones)]
    chains = [(f"chains[{n}].reward", chain.reward) for n, chain in enumerate(terms.chains)]
    for path, reward in [("referrer", terms.referrer), ("referee", terms.referee), *milestones, *chains]:
        if isinstance(reward, PointsReward):
            problems += unknown_reference(f"{path}.wallet", reward.wallet, wallets, "wallet")
        elif reward is not None:
            problems += unknown_reference(f"{path}.coupon", reward.coupon, coupons, "coupon")
    for n, chain in enumerate(terms.chains):
        problems += unknown_reference(f"chains[{n}].market", chain.market, markets, "market")
    return problems


def apply_referrals(journal: Journal, terms: ReferralTerms | None) -> None:
    """Bring the policy in line. One that the file leaves out ends: who is bound already stays so, by its terms."""
    policy = ReferralPolicy.objects.filter(program=journal.program).first()
    if terms is None:
        if policy is not None:
            POLICY.end(journal, policy)
        return
    is_new = policy is None
    if policy is None:
        policy = ReferralPolicy.objects.create(program=journal.program, code=CODE)
    apply_fields(journal, POLICY.target(policy), policy, {}, is_new=is_new)
    POLICY.publish(journal, policy, terms)


def _check_references(policy: ReferralPolicy, terms: ReferralTerms) -> list[str]:
    def codes(rows: Any) -> list[str]:
        return list(rows.filter(program_id=policy.program_id).values_list("code", flat=True))

    return _find_unknown(
        terms, codes(Wallet.objects.all()), codes(CouponDefinition.objects.all()), codes(Market.objects.all())
    )


POLICY = Kind("referral_policy", ReferralTerms, check=_check_references)

"""The row locks of referrals, the last ones of a transaction.

Whoever decides about a referral locks its row and nothing else. Whoever moves a member's rewards locks the member first
(membership.locks) and then reads the referral: a reward is moved by one at a time, and by what is true now.
"""

from referrals.models import Referral


def lock_referral(referral_id: int) -> Referral:
    """Lock a referral until the transaction ends and return it as it is now."""
    return Referral.objects.select_for_update(no_key=True).get(pk=referral_id)

"""Referrals in the admin: the list, the review queue, the tree, codes, and the policy."""

from referrals.admin import codes, policies, referrals

__all__ = ["codes", "policies", "referrals"]

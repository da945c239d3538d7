"""What a key does that moves value or rights is in the audit trail, or is a fact that is its own record."""

import ast
from typing import Any

from django.test import Client

from tests.architecture.test_effects import FILES

METHODS = ("post", "put", "patch", "delete")
# What services write for each operation that changes something; more than one where it may do several things.
ACTIONS: dict[str, set[str]] = {
    "POST webhook-endpoints": {"webhook.created"},
    "PATCH webhook-endpoints/{endpoint}": {"webhook.updated"},
    "DELETE webhook-endpoints/{endpoint}": {"webhook.deleted"},
    "POST webhook-endpoints/{endpoint}/rotate-secret": {"webhook.secret_rotated"},
    "POST webhook-endpoints/{endpoint}/test": {"webhook.tested"},
    "POST webhook-endpoints/{endpoint}/replay": {"webhook.replayed"},
    "POST webhook-endpoints/{endpoint}/deliveries/{event}/replay": {"webhook.replayed"},
    "POST members/{member}/tokens": {"token.issued"},
    "PATCH members/{member}": {"member.updated"},
    "POST activities/{activity}/corrections": {"fact.corrected"},
    "POST orders/{order}/corrections": {"fact.corrected"},
    "POST members/{member}/credits": {"credit.recorded"},
    "POST members/{member}/tiers/{ladder}/override": {"tier.overridden"},
    "DELETE members/{member}/tiers/{ladder}/override": {"tier.override_lifted"},
    "POST coupons/{coupon}/codes": {"coupon.code_created"},
    "POST coupons/{coupon}/recall": {"coupon.recalled"},
    "POST coupons/{coupon}/code-batches": {"coupon.codes_requested"},
    "POST coupons/{coupon}/code-batches/{batch}/stop": {"coupon.codes_stopped"},
    "POST members/{member}/coupons": {"coupon.claimed"},
    "POST members/{member}/coupons/issue": {"coupon.issued"},
    "POST members/{member}/coupons/{claim}/revoke": {"coupon.revoked"},
    "POST members/{member}/points/{wallet}/redemptions": {"points.redeemed"},
    "POST members/{member}/points/{wallet}/adjustments": {"points.adjusted"},
    "POST members/{member}/points/{wallet}/reversals": {"points.reversed"},
    "POST referrals/{referral}/approve": {"referral.approved"},
    "POST referrals/{referral}/reject": {"referral.rejected"},
    "POST referrals/{referral}/reopen": {"referral.reopened"},
}
# Facts that are their own record, and what changes nothing: where it is kept that they were told.
OWN_RECORDS = {
    "POST members": "Member",
    "POST members/batch": "Member",
    "POST members/{member}/fingerprints": "Fingerprint, which gives nothing",
    "POST members/{member}/coupons/check": "reads",
    "POST members/{member}/coupons/quote": "reads",
    "POST members/{member}/points/preview": "reads",
    "POST referral-touches": "Touch",
    "POST members/{member}/referral": "Referral, RefusedBinding",
    "POST members/{member}/referral-code": "ReferralCode; a chosen one is audited as well",
    "POST checkouts": "Checkout, which holds nothing",
    "POST checkouts/{checkout}/hold": "Checkout, Hold and Redemption under its id",
    "POST checkouts/{checkout}/extend": "Checkout",
    "POST checkouts/{checkout}/release": "Checkout, Hold and Redemption under its id",
    "POST orders": "Order",
    "POST orders/batch": "Order",
    "POST orders/{order}/cancel": "Refund",
    "POST orders/{order}/edits": "OrderEdit",
    "POST refunds": "Refund",
    "POST refunds/batch": "Refund",
    "POST activities": "Activity",
    "POST activities/batch": "Activity",
}


def _operations(document: dict[str, Any]) -> set[str]:
    return {
        f"{method.upper()} {path.removeprefix('/api/v1/')}"
        for path, methods in document["paths"].items()
        for method in methods
        if method in METHODS
    }


def test_every_operation_that_changes_something_is_audited_or_its_own_record() -> None:
    assert _operations(Client().get("/api/openapi.json").json()) == ACTIONS.keys() | OWN_RECORDS.keys()
    assert not ACTIONS.keys() & OWN_RECORDS.keys()


def test_the_entries_are_written_by_services() -> None:
    written = {
        node.value
        for path, tree in FILES.items()
        if "/services/" in path
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    missing = {action for actions in ACTIONS.values() for action in actions} - written
    assert missing == set()

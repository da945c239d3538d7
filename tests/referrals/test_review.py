"""What operators do with a referral: by permission, with a reason, and on the audit trail."""

import pytest

from core.models import AuditEntry, OutboxEvent
from membership.services import fingerprints
from referrals.models import Referral
from tests.referrals.worlds import NOW, bring, buy, enroll, make_shop, settle
from tests.storefront.operators import log_in, make_operator

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def flagged() -> Referral:
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben")
    referral = bring(ann, ben)
    for member in (ann, ben):
        fingerprints.record(member=member, seen_with={"device": "d"}, at=NOW)
    buy(ben, "o1", 5_000)
    settle(program)
    return referral


@pytest.mark.parametrize(
    ("action", "entry", "state"),
    [
        ("approve", "referral.approved", "qualified"),
        ("reject", "referral.rejected", "rejected"),
        ("settle-again", "referral.settled_again", "flagged"),
    ],
)
def test_a_decision_needs_permission_and_a_reason(flagged: Referral, action: str, entry: str, state: str) -> None:
    page = f"/admin/referrals/referral/{flagged.pk}/{action}/"
    reader = log_in(make_operator("reader", "referrals.view_referral"))
    reviewer = log_in(make_operator("reviewer", "referrals.view_referral", "referrals.review_referral"))
    events, entries = OutboxEvent.objects.count(), AuditEntry.objects.count()
    assert reader.post(page, {"reason": "because"}).status_code == 403
    assert reviewer.post(page, {"reason": "  "}).status_code == 200
    flagged.refresh_from_db()
    assert (flagged.state, OutboxEvent.objects.count(), AuditEntry.objects.count()) == ("flagged", events, entries)
    assert reviewer.post(page, {"reason": "seen both passports"}).status_code == 302
    flagged.refresh_from_db()
    made = AuditEntry.objects.get(action=entry)
    assert (flagged.state, made.actor, made.reason) == (state, "reviewer", "seen both passports")
    assert OutboxEvent.objects.count() > events

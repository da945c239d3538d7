"""A suspicious referral is reviewed, and the tree and K are looked at, at a desk and on a phone."""

from datetime import timedelta

import pytest

from core.models import Program
from core.services import outbox
from membership.fact_inputs import MemberInput
from membership.models import Member
from membership.services.members import enroll_members
from referrals.models import Referral, ReferralPolicy
from referrals.services import binding, codes, qualification
from storefront.services import intake
from tests.browser.conftest import Visitor
from tests.referrals.worlds import publish_terms
from tests.storefront.operators import NOW
from tests.storefront.shop import order

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

DAY = timedelta(days=1)
JOINED = NOW - 60 * DAY
# Who brought whom: a family of friends, and three accounts of one person.
FRIENDS = {
    "ben": "ann", "cat": "ann", "dan": "ann", "eve": "ben", "fay": "ben", "gus": "cat", "hal": "gus",
    "sock-1": "cat", "sock-2": "cat", "sock-3": "cat",
}  # fmt: skip


def add_referrals(program: Program) -> None:
    publish_terms(ReferralPolicy.objects.create(program=program, code="main"), at=JOINED - 100 * DAY)
    names = ["root", "ann", *FRIENDS]
    told = [MemberInput(external_id=name, joined_at=JOINED + n * timedelta(hours=1)) for n, name in enumerate(names)]
    enroll_members(program=program, members=told, at=NOW)
    members = {member.external_id: member for member in Member.objects.filter(program=program)}
    for name, referrer in ({"ann": "root"} | FRIENDS).items():
        seen = {"payment": "one card"} if name.startswith("sock") else {}
        code = codes.ensure_code(member=members[referrer], at=JOINED).text
        at = JOINED + DAY
        binding.bind(program=program, member=members[name], code=code, told=seen, at=at)
    buyers = [name for name in FRIENDS if name not in ("fay", "hal")]
    orders = [order(f"of {name}", (1, 5_000), at=JOINED + 2 * DAY, member=name) for name in buyers]
    intake.record(program=program, orders=orders, at=NOW)
    outbox.drain(at=NOW)
    qualification.mature(program=program, at=NOW)
    outbox.drain(at=NOW)


def test_a_suspicious_referral_is_reviewed(shop: Program, visitor: Visitor) -> None:
    add_referrals(shop)
    page = visitor.page
    visitor.log_in("olivia")
    visitor.visit("/admin/referrals/referral/")
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("referrals")
    visitor.visit("/admin/referrals/referral/?review=waiting")
    visitor.photograph("referrals-queue")
    referral = Referral.objects.get(member__external_id="sock-1")
    visitor.visit(f"/admin/referrals/referral/{referral.pk}/change/")
    page.wait_for_selector("text=shares an e-mail address, card or device with other friends")
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("referral")
    visitor.visit(f"/admin/referrals/referral/{referral.pk}/reject/")
    page.fill("textarea[name=reason]", "one person")
    visitor.photograph("referral-reject")
    page.click("button:has-text('Reject referral')")
    page.wait_for_selector("text=Rejected.")
    referral.refresh_from_db()
    assert (referral.state, referral.reason, referral.reviewed_by) == ("rejected", "one person", "olivia")
    assert page.locator("a[href*='/approve']").count() == 0
    other = Referral.objects.get(member__external_id="sock-2")
    visitor.visit(f"/admin/referrals/referral/{other.pk}/approve/")
    page.fill("textarea[name=reason]", "sisters")
    page.click("button:has-text('Approve referral')")
    page.wait_for_selector("text=Approved.")
    outbox.drain(at=NOW + DAY)
    assert set(other.rewards.values_list("state", flat=True)) == {"paid"}


def test_the_tree_shows_one_level_up_and_two_down(shop: Program, visitor: Visitor) -> None:
    add_referrals(shop)
    page = visitor.page
    visitor.log_in("olivia")
    visitor.visit(f"/admin/referrals/referral/{Referral.objects.get(member__external_id='ben').pk}/tree/")
    assert page.inner_text(".rf-above") == "Brought by root"
    assert page.inner_text(".rf-root strong") == "ann"
    shown = page.locator(".rf-node a:not(.rf-state)").all_inner_texts()
    assert sorted(shown) == sorted(["ben", "cat", "dan", "eve", "fay", "gus", "sock-1", "sock-2", "sock-3"])
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("referral-tree")
    page.click(".rf-node a:has-text('gus')")
    page.wait_for_selector(".rf-root:has-text('gus')")
    assert page.locator(".rf-node a:not(.rf-state)").all_inner_texts() == ["hal"]


def test_k_has_no_value_before_its_time(shop: Program, visitor: Visitor) -> None:
    add_referrals(shop)
    visitor.log_in("olivia")
    visitor.visit("/admin/referrals/referral/k-factor/")
    first = visitor.page.locator(".rf-scroll tbody tr").first
    assert "immature" in first.inner_text()
    assert first.locator("td").last.inner_text() == "-"
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("k-factor")
    visitor.visit("/admin/referrals/referralcode/new-vanity-code/")
    visitor.photograph("vanity-code")
    visitor.visit("/admin/referrals/referralpolicy/")
    visitor.photograph("referral-policies")

"""What referrals answers below /api/v1/."""

from django.urls import path

from referrals.api.members import (
    BindingView,
    MemberReferralsView,
    ReferralCodeView,
    TouchesView,
)
from referrals.api.referrals import (
    ApprovalView,
    KFactorView,
    ReferralListView,
    ReferralView,
    RejectionView,
    ReopeningView,
)

_MEMBER = "members/<ext:member>"

urlpatterns = [
    path("referrals", ReferralListView.as_view()),
    path("referrals/k-factor", KFactorView.as_view()),
    path("referrals/<int:referral>", ReferralView.as_view()),
    path("referrals/<int:referral>/approve", ApprovalView.as_view()),
    path("referrals/<int:referral>/reject", RejectionView.as_view()),
    path("referrals/<int:referral>/reopen", ReopeningView.as_view()),
    path("referral-touches", TouchesView.as_view()),
    path(f"{_MEMBER}/referral", BindingView.as_view()),
    path(f"{_MEMBER}/referral-code", ReferralCodeView.as_view()),
    path(f"{_MEMBER}/referrals", MemberReferralsView.as_view()),
]

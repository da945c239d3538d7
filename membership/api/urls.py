"""What membership answers below /api/v1/."""

from django.urls import path

import membership.api.problems  # noqa: F401 registers the refusals
from membership.api import enrollment, explanations, ladders, overrides, tiers
from membership.api.fingerprints import FingerprintsView
from membership.api.tokens import TokensView

_TIERS = "members/<ext:member>/tiers"

urlpatterns = [
    path("ladders", ladders.LaddersView.as_view()),
    path("ladders/<slug:ladder>", ladders.LadderView.as_view()),
    path("members", enrollment.MembersView.as_view()),
    path("members/batch", enrollment.MemberBatchView.as_view()),
    path("members/<ext:member>/tokens", TokensView.as_view()),
    path("members/<ext:member>/fingerprints", FingerprintsView.as_view()),
    path(_TIERS, tiers.TiersView.as_view()),
    path(f"{_TIERS}/<slug:ladder>/history", tiers.TierHistoryView.as_view()),
    path(f"{_TIERS}/<slug:ladder>/explain", explanations.TierExplanationView.as_view()),
    path(f"{_TIERS}/<slug:ladder>/override", overrides.OverrideView.as_view()),
]

"""What points answers below /api/v1/."""

from django.urls import path

from points.api.balances import MemberPointsView
from points.api.decisions import AdjustmentRequestView, AdjustmentsView, RedemptionsView, ReversalsView
from points.api.previews import OrderPointsExplanationView, PreviewView
from points.api.statement import StatementView, TransactionExplanationView, TransactionView
from points.api.wallets import EarnRuleListView, WalletListView

_POINTS = "members/<ext:member>/points"

urlpatterns = [
    path("wallets", WalletListView.as_view()),
    path("earn-rules", EarnRuleListView.as_view()),
    path("orders/<ext:order>/explain", OrderPointsExplanationView.as_view()),
    path(_POINTS, MemberPointsView.as_view()),
    path(f"{_POINTS}/preview", PreviewView.as_view()),
    path(f"{_POINTS}/<slug:wallet>/statement", StatementView.as_view()),
    path(f"{_POINTS}/<slug:wallet>/transactions/<int:seq>", TransactionView.as_view()),
    path(f"{_POINTS}/<slug:wallet>/transactions/<int:seq>/explain", TransactionExplanationView.as_view()),
    path(f"{_POINTS}/<slug:wallet>/redemptions", RedemptionsView.as_view()),
    path(f"{_POINTS}/<slug:wallet>/adjustments", AdjustmentsView.as_view()),
    path(f"{_POINTS}/<slug:wallet>/adjustments/<uuid:adjustment>", AdjustmentRequestView.as_view()),
    path(f"{_POINTS}/<slug:wallet>/reversals", ReversalsView.as_view()),
]

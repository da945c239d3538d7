"""What coupons answers below /api/v1/."""

from django.urls import path

from coupons.api.claims import ClaimsView, IssueView, RevocationView
from coupons.api.code_checks import CodeCheckView
from coupons.api.codes import CodeBatchesView, CodeBatchView, CodesView, StopView
from coupons.api.definitions import CouponListView, OffersView
from coupons.api.quotes import CouponQuoteView
from coupons.api.recalls import RecallView

_OWN = "members/<ext:member>/coupons"
_BATCH = "coupons/<slug:coupon>/code-batches"

urlpatterns = [
    path("coupons", CouponListView.as_view()),
    path("coupons/<slug:coupon>/codes", CodesView.as_view()),
    path("coupons/<slug:coupon>/recall", RecallView.as_view()),
    path(_BATCH, CodeBatchesView.as_view()),
    path(f"{_BATCH}/<int:batch>", CodeBatchView.as_view()),
    path(f"{_BATCH}/<int:batch>/stop", StopView.as_view()),
    path(_OWN, ClaimsView.as_view()),
    path(f"{_OWN}/check", CodeCheckView.as_view()),
    path(f"{_OWN}/offers", OffersView.as_view()),
    path(f"{_OWN}/issue", IssueView.as_view()),
    path(f"{_OWN}/quote", CouponQuoteView.as_view()),
    path(f"{_OWN}/<uuid:claim>/revoke", RevocationView.as_view()),
]

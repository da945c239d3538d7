"""Where the views are."""

from django.urls import path

from bench.reference.views import CheckoutView, MemberView, OrderView, RefundView

urlpatterns = [
    path("members/<str:member>", MemberView.as_view()),
    path("orders", OrderView.as_view()),
    path("refunds", RefundView.as_view()),
    path("checkouts", CheckoutView.as_view()),
]

"""What storefront answers below /api/v1/."""

from django.urls import path

from storefront.api import activities, checkouts, corrections, order_corrections, orders, qualifying_credits, refunds
from storefront.api.members import MemberSummaryView

urlpatterns = [
    path("members/<ext:member>", MemberSummaryView.as_view()),
    path("members/<ext:member>/credits", qualifying_credits.CreditsView.as_view()),
    path("checkouts", checkouts.CheckoutsView.as_view()),
    path("checkouts/<uuid:checkout>", checkouts.CheckoutView.as_view()),
    path("checkouts/<uuid:checkout>/hold", checkouts.CheckoutHoldView.as_view()),
    path("checkouts/<uuid:checkout>/extend", checkouts.CheckoutExtensionView.as_view()),
    path("checkouts/<uuid:checkout>/release", checkouts.CheckoutReleaseView.as_view()),
    path("orders", orders.OrdersView.as_view()),
    path("orders/batch", orders.OrderBatchView.as_view()),
    path("orders/<ext:order>", orders.OrderView.as_view()),
    path("orders/<ext:order>/cancel", orders.CancelOrderView.as_view()),
    path("orders/<ext:order>/edits", orders.OrderEditsView.as_view()),
    path("orders/<ext:order>/corrections", order_corrections.OrderCorrectionsView.as_view()),
    path("refunds", refunds.RefundsView.as_view()),
    path("refunds/batch", refunds.RefundBatchView.as_view()),
    path("refunds/<ext:refund>", refunds.RefundView.as_view()),
    path("activities", activities.ActivitiesView.as_view()),
    path("activities/batch", activities.ActivityBatchView.as_view()),
    path("activities/<ext:activity>/corrections", corrections.ActivityCorrectionsView.as_view()),
]

"""Where the two views are."""

from django.urls import path

from bench.reference.views import MemberView, OrderView

urlpatterns = [path("members/<str:member>", MemberView.as_view()), path("orders", OrderView.as_view())]

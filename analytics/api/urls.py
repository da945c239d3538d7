"""What analytics answers below /api/v1/."""

from django.urls import path

from analytics.api.retention import (
    ActiveRateView,
    CohortsView,
    DayNView,
    MigrationView,
    RepurchaseView,
    RestatementsView,
    SurvivalView,
)

urlpatterns = [
    path("retention/active-rate", ActiveRateView.as_view()),
    path("retention/cohorts", CohortsView.as_view()),
    path("retention/day-n", DayNView.as_view()),
    path("retention/survival", SurvivalView.as_view()),
    path("retention/migration", MigrationView.as_view()),
    path("retention/repurchase", RepurchaseView.as_view()),
    path("retention/restatements", RestatementsView.as_view()),
]

"""What core answers below /api/v1/."""

from django.urls import path

from core.api import webhooks
from core.api.events import EventsView
from core.api.programs import ProgramView

urlpatterns = [
    path("program", ProgramView.as_view()),
    path("events", EventsView.as_view()),
    path("webhook-endpoints", webhooks.EndpointsView.as_view()),
    path("webhook-endpoints/<uuid:endpoint>", webhooks.EndpointView.as_view()),
    path("webhook-endpoints/<uuid:endpoint>/rotate-secret", webhooks.SecretView.as_view()),
    path("webhook-endpoints/<uuid:endpoint>/test", webhooks.EndpointTestView.as_view()),
    path("webhook-endpoints/<uuid:endpoint>/replay", webhooks.ReplayView.as_view()),
    path("webhook-endpoints/<uuid:endpoint>/deliveries", webhooks.DeliveriesView.as_view()),
    path("webhook-endpoints/<uuid:endpoint>/deliveries/<uuid:event>/replay", webhooks.DeliveryReplayView.as_view()),
]

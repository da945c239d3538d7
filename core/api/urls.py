"""What core answers below /api/v1/."""

from django.urls import path

from core.api.programs import ProgramView

urlpatterns = [
    path("program", ProgramView.as_view()),
]

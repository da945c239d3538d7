from django.apps import AppConfig


class AnalyticsConfig(AppConfig):
    """Register the subscribers."""

    name = "analytics"

    def ready(self) -> None:
        """Load the subscribers, which register themselves."""
        from analytics import subscribers  # noqa: F401 only after the models are loaded

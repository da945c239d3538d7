from django.apps import AppConfig


class ReferralsConfig(AppConfig):
    """Register the subscribers."""

    name = "referrals"

    def ready(self) -> None:
        """Load the subscribers, which register themselves."""
        from referrals import markets, subscribers  # noqa: F401 only after the models are loaded

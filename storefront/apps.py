from django.apps import AppConfig


class StorefrontConfig(AppConfig):
    """Register the subscribers."""

    name = "storefront"

    def ready(self) -> None:
        """Load the subscribers, which register themselves."""
        from storefront import markets, subscribers  # noqa: F401 only after the models are loaded

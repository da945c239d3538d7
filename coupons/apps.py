from django.apps import AppConfig


class CouponsConfig(AppConfig):
    """Say what names a market."""

    name = "coupons"

    def ready(self) -> None:
        """Load what registers itself."""
        from coupons import markets  # noqa: F401 only after the models are loaded

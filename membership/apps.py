from django.apps import AppConfig


class MembershipConfig(AppConfig):
    """Say what names a market."""

    name = "membership"

    def ready(self) -> None:
        """Load what registers itself."""
        from membership import markets  # noqa: F401 only after the models are loaded

"""core: the app that knows no other."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Register what the URLs of every app use."""

    name = "core"

    def ready(self) -> None:
        """Load the path converter `ext`, which registers itself."""
        from core.api import converters  # noqa: F401 only after the apps are loaded

"""The project's own app: its system checks and the `run` command."""

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    """Register the system checks."""

    name = "config"
    verbose_name = "Perennial"

    def ready(self) -> None:
        """Load the checks, which register themselves."""
        from config import checks  # noqa: F401 only after the apps are loaded

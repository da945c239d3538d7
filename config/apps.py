"""The project's own app: its system checks, the `run` command, and what the admin calls things."""

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    """Register the system checks and name tables and columns."""

    name = "config"
    verbose_name = "Perennial"

    def ready(self) -> None:
        """Load the checks, which register themselves, and name what is shown."""
        from config import checks, labels  # noqa: F401 only after the apps are loaded

        labels.name_everything()

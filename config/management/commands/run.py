"""`manage.py run`: everything at once, on one machine."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from config.supervisor import supervise


class Command(BaseCommand):
    """Run the servers, the demo, the web application, the worker and beat until Ctrl-C."""

    help = "Starts everything: servers, migrations, demo, web, worker and beat. Ctrl-C stops it."
    # The children check; nothing here needs a database.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the option to leave the demo out."""
        parser.add_argument("--no-demo", action="store_true", help="Start without loading the demo.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Supervise until Ctrl-C."""
        supervise(demo=not options["no_demo"])

"""`manage.py groups`: make the groups of operators."""

from typing import Any

from django.core.management.base import BaseCommand

from core.services import groups


class Command(BaseCommand):
    """Make the groups, and give those that exist their permissions again."""

    help = "Makes the groups support, marketing, finance, read-only and administrator, with their permissions."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Make them and print how many permissions each has."""
        for group in groups.make_groups():
            self.stdout.write(f"{group.name}: {group.permissions.count()} permissions")

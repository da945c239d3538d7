"""`manage.py grant_application ROLE`: the rights of the role that the application connects as."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from core.services import roles


class Command(BaseCommand):
    help = "Gives a database role what the application needs, and nothing more. Run as the owner, after each migration."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("role", help="Name of the role that the application connects as")

    def handle(self, *_args: Any, role: str, **_options: Any) -> None:
        try:
            rights = roles.grant_application(role=role)
        except roles.UnknownRole as error:
            raise CommandError(str(error)) from error
        for table, allowed in rights.items():
            self.stdout.write(f"{table}: {allowed}")

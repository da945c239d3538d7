"""`manage.py prepare`: bring the database and the static files up to date, and make the groups and a login."""

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

from config.installation import installation_secret
from config.supervisor import OPERATOR, PASSWORD_FILE
from core.services import groups


class Command(BaseCommand):
    """Do what a new or updated installation needs before it serves; repeating it changes nothing."""

    help = "Migrates, collects static files, and makes the groups and the operator's login."

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run the steps."""
        verbosity = options["verbosity"]
        call_command("migrate", interactive=False, verbosity=verbosity)
        call_command("collectstatic", interactive=False, verbosity=0)
        groups.make_groups()
        _make_operator()


def _make_operator() -> None:
    """Make the first superuser; forget the made password once its owner has chosen another."""
    users = get_user_model()
    password_file = settings.DATA_DIR / PASSWORD_FILE
    operator = users.objects.filter(username=OPERATOR).first()
    if operator is None:
        password = installation_secret(password_file, random_bytes=12)
        users.objects.create_superuser(OPERATOR, password=password)
    elif password_file.exists():
        password = installation_secret(password_file, random_bytes=12)
        if not operator.check_password(password):
            password_file.unlink()

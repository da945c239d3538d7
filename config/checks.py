"""System checks of what the project stands on."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004 Django's name

from core.services.roles import owns_tables


@register()
def check_driver(**_kwargs: Any) -> list[CheckMessage]:
    """Refuse psycopg 3: Django prefers it silently, and the code is written and measured for psycopg2."""
    if find_spec("psycopg") is None:
        return []
    return [
        Error("psycopg 3 is installed; Perennial needs psycopg2 alone.", hint="pip uninstall psycopg", id="config.E001")
    ]


@register(Tags.database, deploy=True)
def check_role(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """Warn where the application connects as the owner of its tables: then only triggers protect the ledger."""
    if not databases or not owns_tables():
        return []
    hint = "Connect as another role, see docs/operations.md; manage.py grant_application gives it its rights."
    return [Warning("The application's role owns its tables.", hint=hint, id="config.W001")]

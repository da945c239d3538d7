"""Whether the database has this release's tables."""

from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder


def find_missing_migrations() -> list[str]:
    """Return the migrations of this release that the database has not had, as `app.name`."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def require_schema() -> None:
    """Make the tables of an empty database; refuse one that lacks migrations.

    An upgrade of a database in use is the operator's decision, a first start is not.
    Raises: CommandError.
    """
    missing = find_missing_migrations()
    if missing and MigrationRecorder(connection).applied_migrations():
        raise CommandError(
            f"The database lacks {len(missing)} migration(s) of this release: run manage.py migrate first."
        )
    if missing:
        call_command("migrate", verbosity=0, interactive=False)

"""Whether the database has this release's tables."""

from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor


def require_schema() -> None:
    """Make the tables of an empty database; refuse one that lacks migrations.

    An upgrade of a database in use is the operator's decision, a first start is not.
    Raises: CommandError.
    """
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing and executor.loader.applied_migrations:
        raise CommandError(
            f"The database lacks {len(missing)} migration(s) of this release: run manage.py migrate first."
        )
    if missing:
        call_command("migrate", verbosity=0, interactive=False)

"""Let the test runner empty append-only tables after a test that commits; their triggers refuse TRUNCATE."""

from collections.abc import Iterable
from typing import Any

from django.db.backends.base.operations import BaseDatabaseOperations

_TABLES_THAT_REFUSE = """
    SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal AND tgtype & 32 <> 0 ORDER BY 1
"""
_execute = BaseDatabaseOperations.execute_sql_flush


def _execute_without_triggers(self: Any, sql_list: Iterable[str]) -> None:
    with self.connection.cursor() as cursor:
        cursor.execute(_TABLES_THAT_REFUSE)
        tables = [table for (table,) in cursor.fetchall()]
    disabled = [f"ALTER TABLE {table} DISABLE TRIGGER USER" for table in tables]
    enabled = [f"ALTER TABLE {table} ENABLE TRIGGER USER" for table in tables]
    _execute(self, [*disabled, *sql_list, *enabled])


BaseDatabaseOperations.execute_sql_flush = _execute_without_triggers  # type: ignore[method-assign]

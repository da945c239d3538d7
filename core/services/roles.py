"""The second database role: what the application may do when it does not own its tables.

The owner migrates. The application reads and writes, and where a trigger refuses a change it has no right to it either:
what it cannot do does not depend on the triggers being there.
"""

from django.db import connection, transaction
from psycopg2 import sql

# Bits of pg_trigger.tgtype.
_DELETE, _UPDATE = 8, 16

_TABLES = """
    SELECT c.relname, coalesce(bit_or(t.tgtype::int) FILTER (WHERE p.proname = 'core_refuse_change'), 0)
    FROM pg_class c
    LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal
    LEFT JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
        AND pg_get_userbyid(c.relowner) = current_user
    GROUP BY c.relname ORDER BY c.relname"""

_OWNED = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tableowner = current_user"


class UnknownRole(LookupError):
    """The database has no such role."""


@transaction.atomic
def grant_application(*, role: str) -> dict[str, str]:
    """Give a role what the application needs of every table, take away what it does not; return the rights by table.

    Run it as the owner after every migration.
    Idempotency: the rights are set anew each time.
    Raises: UnknownRole.
    """
    name = sql.Identifier(role)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
        if cursor.fetchone() is None:
            raise UnknownRole(f"There is no role {role}: CREATE ROLE it first, with LOGIN and a password.")
        cursor.execute(_TABLES)
        rights = {table: _rights(table, refused) for table, refused in cursor.fetchall()}
        cursor.execute("SELECT current_schema()")
        schema = sql.Identifier(cursor.fetchone()[0])
        for table, allowed in rights.items():
            target = sql.SQL("{}.{}").format(schema, sql.Identifier(table))
            cursor.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(target, name))
            cursor.execute(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(allowed), target, name))
        cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, name))
        cursor.execute(sql.SQL("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {} TO {}").format(schema, name))
    return rights


def _rights(table: str, refused: int) -> str:
    if table == "django_migrations":
        return "SELECT"
    allowed = ["SELECT", "INSERT"]
    allowed += [right for right, bit in (("UPDATE", _UPDATE), ("DELETE", _DELETE)) if not refused & bit]
    return ", ".join(allowed)


def owns_tables() -> bool:
    """Tell whether the role of this connection owns the tables, and so may change whatever the triggers refuse."""
    with connection.cursor() as cursor:
        cursor.execute(_OWNED)
        return bool(cursor.fetchone()[0])

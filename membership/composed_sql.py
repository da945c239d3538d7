"""Statements composed from literals.

psycopg2 prepares nothing by itself, and a planner that sees the values plans better than one that sees parameters.
"""

from collections.abc import Iterable
from datetime import date
from typing import Any

from django.db import connection
from psycopg2 import sql

SQL = sql.Composable
Cells = tuple[Any, ...]


def fetch(query: SQL) -> list[Cells]:
    """Run a composed query and return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def flat(query: SQL) -> sql.SQL:
    """Return a query as one piece: what is made once and put into many others costs little there."""
    connection.ensure_connection()
    return sql.SQL(query.as_string(connection.connection))


def joined(parts: Iterable[SQL], separator: str = ", ") -> SQL:
    """Return the parts with a separator between them."""
    return sql.SQL(separator).join(list(parts))


def array_text(values: Iterable[object]) -> str:
    """Return numbers, dates, instants or booleans as the text of one array, None as NULL. Nothing in it needs escaping.

    The server parses one text faster than a constructor of many.
    """
    texts = (
        "NULL" if value is None else value.isoformat() if isinstance(value, date) else str(value) for value in values
    )
    return "{" + ",".join(texts) + "}"


def array(values: Iterable[object], type_name: str) -> SQL:
    """Return an array literal, of what `array_text` takes."""
    return sql.SQL(f"'{array_text(values)}'::{type_name}[]")


def among(member_ids: Iterable[int]) -> SQL:
    """Return the condition that member_id is one of those given."""
    return sql.SQL("member_id = ANY({})").format(array(member_ids, "bigint"))

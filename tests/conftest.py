"""Real servers for the tests: one pair per session, shared by the workers, or those of DATABASE_URL and REDIS_URL."""

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import django
import pytest
from django.db import connection, models  # noqa: F401 -- models first: the backends import them
from django.db.backends.base.operations import BaseDatabaseOperations

from config import environment
from config.embedded.servers import Request, own_servers

# This module is imported before any nested conftest and before Django reads its settings, which come from the
# environment alone. Workers of pytest-xdist inherit the environment of the process that started the servers.
if "PERENNIAL_TEST_SESSION" not in os.environ:
    # Ended by a time limit, the session still stops its servers and removes its files.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    session = ExitStack()
    data = Path(tempfile.mkdtemp(prefix="perennial-tests-"))
    session.callback(shutil.rmtree, data)
    atexit.register(session.close)
    os.environ["PERENNIAL_TEST_SESSION"] = str(data)
    os.environ["PERENNIAL_DATA_DIR"] = str(data)
    request = Request(
        data=data,
        command="pytest",
        database_url=environment.text("DATABASE_URL"),
        redis_url=environment.text("REDIS_URL"),
        durable=False,
        postgres_major=environment.integer("PERENNIAL_TEST_POSTGRES", 18),
    )
    urls = session.enter_context(own_servers(request))
    os.environ["DATABASE_URL"], os.environ["REDIS_URL"] = urls.database, urls.redis

if "PYTEST_XDIST_WORKER" in os.environ and environment.text("REDIS_URL").startswith("unix:"):
    # Each worker has a PostgreSQL database of its own, and here a Redis database.
    os.environ["REDIS_URL"] += "?db=" + os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()


@pytest.fixture(autouse=True, scope="session")
def _empty_append_only_tables() -> Iterator[None]:
    """Let the clean-up after a test with real commits empty what the database otherwise protects."""
    operations = type(connection.ops)
    flush = operations.execute_sql_flush

    def flush_as_replica(self: BaseDatabaseOperations, sql_list: list[str]) -> None:
        flush(self, ["SET LOCAL session_replication_role = replica", *sql_list])

    with patch.object(operations, "execute_sql_flush", flush_as_replica):
        yield

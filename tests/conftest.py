"""Real servers for the tests: one pair per session, shared by the workers, or those of DATABASE_URL and REDIS_URL."""

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import django
import pytest

from config import environment
from config.embedded.servers import Request, own_servers

# This module is imported before any nested conftest and before Django reads its settings, which come from the
# environment alone. Workers of pytest-xdist inherit the environment of the process that started the servers.
if "PERENNIAL_TEST_SESSION" not in os.environ:
    # Ended by a time limit, the session still stops its servers and removes its files.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    session = ExitStack()
    data = Path(tempfile.mkdtemp(prefix="perennial-tests-"))
    (data / "static").mkdir()  # WhiteNoise warns where there is none
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

from django.db import connection  # noqa: E402

import tests.flushing  # noqa: E402, F401 it needs Django


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Let nobody stand in the way when the test database goes: a process that a test killed leaves its backend."""
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )

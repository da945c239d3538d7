"""A backup, restored into an empty database, is the same shop, and is proven to be sound."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from core.models import Program
from tests.operating.conftest import open_shop

PROJECT = Path(__file__).parents[2]
CURSOR = "from django.db import connection\nx = connection.cursor()"


@pytest.fixture
def empty_database(transactional_db: None) -> Iterator[str]:
    """The URL of a database beside the test's own."""
    name = f"{connection.settings_dict['NAME']}_restored"
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    parts = urlsplit(os.environ["DATABASE_URL"])
    yield urlunsplit(parts._replace(path=f"/{name}")) if parts.netloc else f"postgresql:///{name}?{parts.query}"
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def manage(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT, env=os.environ | {"DATABASE_URL": url}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def heads() -> str:
    return "SELECT string_agg(encode(head_hash, 'hex') || available, ',' ORDER BY id) FROM points_account"


def test_a_backup_restores_to_the_same_ledger(empty_database: str, tmp_path: Path) -> None:
    open_shop(tmp_path)
    file = tmp_path / "shop.dump"
    (tmp_path / "shop.dump.partial").touch(mode=0o644)  # left by one that was killed, or put there
    call_command("backup", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    restored = manage(empty_database, "restore", str(file))
    assert (restored.returncode, restored.stderr) == (0, "")
    assert "Verified: 1 program(s), no finding." in restored.stdout
    with connection.cursor() as cursor:
        cursor.execute(heads())
        expected = cursor.fetchone()[0]
    asked = f"{CURSOR}\nx.execute({heads()!r})\nprint('HEADS', x.fetchone()[0])"
    assert f"HEADS {expected}\n" in manage(empty_database, "shell", "-c", asked).stdout
    # The triggers came along.
    change = f"{CURSOR}\nx.execute('DELETE FROM points_lot')"
    assert "append-only" in manage(empty_database, "shell", "-c", change).stderr
    again = manage(empty_database, "restore", str(file))
    assert again.returncode == 1
    assert "restore into an empty one" in again.stderr


def test_a_backup_of_an_unsound_ledger_says_so(transactional_db: None, tmp_path: Path) -> None:
    open_shop(tmp_path)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE points_account SET lifetime_earned = lifetime_earned + 1")
    with pytest.raises(CommandError, match="the database is not sound"):
        call_command("backup", str(tmp_path / "shop.dump"))
    assert Program.objects.count() == 1


def test_a_file_that_exists_is_not_written_over(db: None, tmp_path: Path) -> None:
    file = tmp_path / "kept"
    file.write_text("kept")
    with pytest.raises(CommandError, match="exists; name another file"):
        call_command("backup", str(file))
    assert file.read_text() == "kept"


def test_what_is_no_backup_is_refused_whole(empty_database: str, tmp_path: Path) -> None:
    file = tmp_path / "not-a-backup"
    file.write_text("nonsense")
    outcome = manage(empty_database, "restore", str(file))
    assert outcome.returncode == 1
    assert "pg_restore failed" in outcome.stderr

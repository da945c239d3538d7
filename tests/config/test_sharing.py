"""Commands that run at the same time use the servers of the one that came first."""

import subprocess
from pathlib import Path

import pytest

from tests.config.installation import Installation, assert_gone, descendants, read_until

ASK_AND_WAIT = """
import sys
from django.db import connection
def ask():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_postmaster_start_time()::text")
        print("started at", cursor.fetchone()[0], flush=True)
ask()
sys.stdin.readline()
ask()
"""


def test_owner_stays_until_the_others_are_done(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "data")
    with installation.started("shell", "-c", ASK_AND_WAIT) as owner:
        started_at = _answer(owner)
        servers = descendants(owner)
        with installation.started("shell", "-c", ASK_AND_WAIT) as user:
            assert _answer(user) == started_at
            assert _answer_again(owner) == started_at
            with pytest.raises(subprocess.TimeoutExpired):
                owner.wait(1.5)
            assert _answer_again(user) == started_at
            assert user.wait(60) == 0
        assert owner.wait(60) == 0
        assert_gone(servers)


def _answer_again(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return _answer(process)


def _answer(process: subprocess.Popen[str]) -> str:
    return read_until(process, "started at").splitlines()[-1]


def test_help_starts_nothing(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "data")
    for arguments in (["help"], ["migrate", "--help"], ["check"]):
        assert installation.manage(*arguments, PERENNIAL_SECRET_KEY="given").returncode == 0
    assert not installation.data.exists()

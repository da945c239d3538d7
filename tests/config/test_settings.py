"""Settings come from the environment, and each variable is documented."""

import re
import stat
from pathlib import Path

import pytest
from django.conf import settings

from config.checks import check_driver
from config.failure import StartError
from config.installation import installation_secret
from config.server_urls import celery_broker_url, parse_database_url, postgres_socket_url
from tests.config.installation import PROJECT

READ = re.compile(r'''environment\.(?:text|words|flag|integer)\(\s*"(\w+)"|\btext\("(PERENNIAL_\w+)"''')


def test_documents_every_variable_that_is_read() -> None:
    sources = [path.read_text() for path in (*(PROJECT / "config").rglob("*.py"), PROJECT / "tests" / "conftest.py")]
    read = {name for source in sources for match in READ.findall(source) for name in match if name}
    documented = set(re.findall(r"^\| `(\w+)` \|", (PROJECT / "docs" / "settings.md").read_text(), re.MULTILINE))
    assert "DATABASE_URL" in read
    assert documented == read


def test_environment_is_read_in_one_place() -> None:
    allowed = {"config/environment.py", "config/launch.py", "config/supervisor.py", "config/embedded/child.py"}
    allowed |= {"config/celery.py", "config/wsgi.py"}
    found = {
        str(path.relative_to(PROJECT))
        for app in settings.INSTALLED_APPS
        for path in (PROJECT / app).rglob("*.py")
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }
    assert found <= allowed


def test_splits_a_database_url() -> None:
    parts = parse_database_url("postgresql://shop%40eu:p%2Fw@db.example:6432/loyalty?sslmode=require")
    assert (parts["USER"], parts["PASSWORD"], parts["HOST"], parts["PORT"], parts["NAME"], parts["OPTIONS"]) == (
        *("shop@eu", "p/w", "db.example", "6432", "loyalty"),
        {"sslmode": "require"},
    )


def test_keeps_the_case_and_spaces_of_a_socket_directory() -> None:
    parts = parse_database_url(postgres_socket_url("/tmp/A b/c", user="perennial", database="perennial"))  # noqa: S108 a name alone
    assert (parts["HOST"], parts["USER"], parts["NAME"], parts["PORT"]) == ("/tmp/A b/c", "perennial", "perennial", "")  # noqa: S108


@pytest.mark.parametrize(
    "url", ["", "postgresql://host/", "postgresql://host/a/b", "sqlite:///x", "postgresql://h:1x/a"]
)
def test_refuses_what_names_no_postgresql_database(url: str) -> None:
    with pytest.raises(StartError, match="DATABASE_URL"):
        parse_database_url(url)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("redis://:word@cache:6379/2", "redis://:word@cache:6379/2"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock"),
        ("unix://:word@/run/redis.sock?db=3", "redis+socket://:word@/run/redis.sock?virtual_host=3"),
    ],
)
def test_translates_the_redis_url_for_celery(given: str, expected: str) -> None:
    assert celery_broker_url(given) == expected


def test_makes_a_secret_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "data" / "secret"
    first = installation_secret(file, random_bytes=32)
    assert len(first) >= 43
    assert installation_secret(file, random_bytes=32) == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_refuses_psycopg_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_driver() == []
    (tmp_path / "psycopg").mkdir()
    (tmp_path / "psycopg" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert [message.id for message in check_driver()] == ["config.E001"]

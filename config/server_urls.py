"""DATABASE_URL and REDIS_URL: their parts, the form each library wants, and whether the servers behind them will do."""

from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import psycopg2
import redis

from config.failure import StartError

POSTGRES_FLOOR = 15
REDIS_FLOOR = (6, 2)
CONNECT_SECONDS = 10


def postgres_socket_url(directory: str, *, user: str, database: str) -> str:
    """Build the URL of a PostgreSQL server that listens in a socket directory."""
    return f"postgresql:///{database}?{urlencode({'host': directory, 'user': user})}"


def parse_database_url(url: str) -> dict[str, Any]:
    """Split a libpq URL into Django's database settings.

    Raises: StartError when the URL names no PostgreSQL database.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise StartError(f"DATABASE_URL cannot be read ({error}).") from None
    name = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in {"postgres", "postgresql"} or not name or "/" in name:
        raise StartError("DATABASE_URL must look like postgresql://user:password@host:5432/database.")
    query = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "HOST": query.pop("host", unquote(parts.hostname or "")),
        "PORT": query.pop("port", str(port or "")),
        "USER": query.pop("user", unquote(parts.username or "")),
        "PASSWORD": query.pop("password", unquote(parts.password or "")),
        "OPTIONS": query,
    }


def celery_broker_url(url: str) -> str:
    """Turn a redis-py URL into Celery's: a socket is `unix://` for the one and `redis+socket://` for the other."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    query = {"virtual_host" if key == "db" else key: value for key, value in parse_qsl(parts.query)}
    credentials = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return f"redis+socket://{credentials}{parts.path}" + (f"?{urlencode(query)}" if query else "")


def redis_socket_url(path: str) -> str:
    """Build the redis-py URL of a Redis server that listens on a socket."""
    return f"unix://{quote(path)}"


def check_postgres(url: str) -> None:
    """Connect once and refuse a server that is absent or too old.

    Raises: StartError.
    """
    parse_database_url(url)
    try:
        connection = psycopg2.connect(url, connect_timeout=CONNECT_SECONDS)
    except (psycopg2.Error, UnicodeError) as error:
        reason = " ".join(str(error).split())
        raise StartError(f"The PostgreSQL server of DATABASE_URL cannot be used: {reason}") from None
    version = connection.server_version
    connection.close()
    if version // 10_000 < POSTGRES_FLOOR:
        raise StartError(
            f"DATABASE_URL names PostgreSQL {version // 10_000}, but Perennial needs {POSTGRES_FLOOR} or newer."
        )


def check_redis(url: str) -> None:
    """Connect once and refuse a server that is absent or too old.

    Raises: StartError.
    """
    try:
        # Protocol 2: servers older than 6 refuse the greeting of protocol 3 before they tell their version.
        client = redis.Redis.from_url(
            url, protocol=2, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS
        )
        with client:
            version = str(client.info("server")["redis_version"])
    except (redis.RedisError, ValueError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())
        raise StartError(f"The Redis server of REDIS_URL cannot be used: {reason}") from None
    if tuple(int(part) for part in version.split(".")[:2]) < REDIS_FLOOR:
        floor = ".".join(map(str, REDIS_FLOOR))
        raise StartError(f"REDIS_URL names Redis {version}, but Perennial needs {floor} or newer.")

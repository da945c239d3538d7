"""Whether the process lives, whether it can work, and its metrics."""

import hmac
from collections.abc import Callable
from functools import lru_cache

import redis
from django.conf import settings
from django.core.management import CommandError
from django.db import DatabaseError, connection
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from config import environment
from core.schema import find_missing_migrations
from storefront.metrics import DatabaseCollector

CONNECT_SECONDS = 2


@never_cache
@require_safe
def healthz(_request: HttpRequest) -> HttpResponse:
    """Answer that the process lives; asks nobody else, so that a database that is down restarts no web server."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(_request: HttpRequest) -> HttpResponse:
    """Answer 200 if the database and Redis answer and every migration is applied, else 503 and what is wrong."""
    checks = {"database": _database, "redis": _redis, "migrations": _migrations}
    found = {name: _outcome(check) for name, check in checks.items()}
    is_ready = all(outcome == "ok" for outcome in found.values())
    body = {"status": "ok" if is_ready else "unavailable", **found}
    return JsonResponse(body, status=200 if is_ready else 503)


def _outcome(check: Callable[[], None]) -> str:
    try:
        check()
    except (DatabaseError, redis.RedisError) as error:
        # The type only: a driver's message names hosts and users.
        return type(error).__name__
    except CommandError as error:
        return str(error)
    return "ok"


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@lru_cache(maxsize=1)
def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=CONNECT_SECONDS, socket_connect_timeout=CONNECT_SECONDS
    )


def _redis() -> None:
    _client().ping()


_migrated = False


def _migrations() -> None:
    """Compare once: applied migrations stay applied while this release runs."""
    global _migrated  # noqa: PLW0603 one fact about this process
    if not _migrated:
        missing = find_missing_migrations()
        if missing:
            raise CommandError(f"{len(missing)} migration(s) are not applied: run manage.py migrate")
        _migrated = True


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer with the metrics in Prometheus' text format, to whoever shows the token; without a token there are none.

    Raises: Http404, so that nobody learns that they exist.
    """
    token = settings.METRICS_TOKEN
    shown = request.headers.get("Authorization", "")
    if not token or not hmac.compare_digest(shown.encode(), f"Bearer {token}".encode()):
        raise Http404
    registry = CollectorRegistry()
    registry.register(DatabaseCollector(at=timezone.now()))
    text = generate_latest(registry) + generate_latest(_process_registry())
    return HttpResponse(text, content_type=CONTENT_TYPE_LATEST)


def _process_registry() -> CollectorRegistry:
    """Return what this process measured or, where processes share a directory, what all of them did."""
    if not environment.text("PROMETHEUS_MULTIPROC_DIR"):
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry

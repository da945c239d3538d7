"""What surrounds the API's views: addresses, browsers' cross-origin rules, and the headers of the rate limit."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.cache import patch_vary_headers

from core.api.paths import keep_slashes
from core.services import api_keys

ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, X-Request-ID, Accept-Language"
EXPOSED_HEADERS = "X-Request-ID, RateLimit, RateLimit-Policy, Retry-After, Idempotent-Replayed"
PREFLIGHT_SECONDS = "600"


# Swagger's page has its styles inside, and its icons as data.
_LOCAL = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"
)


class ApiMiddleware:
    """Answer preflights, and let a browser read an answer if the caller's key allows its origin."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        if not request.path.startswith("/api/"):
            return self._get_response(request)
        keep_slashes(request)
        origin = request.headers.get("Origin", "")
        if request.method == "OPTIONS" and origin and "Access-Control-Request-Method" in request.headers:
            return _answer_preflight(origin)
        response = self._get_response(request)
        for name, value in getattr(request, "rate_headers", {}).items():
            response[name] = value
        if origin and _may_read(request, origin):
            _allow(response, origin)
            response["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
        patch_vary_headers(response, ["Origin", "Authorization"])
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def _may_read(request: HttpRequest, origin: str) -> bool:
    """Tell whether a browser may read the answer; a refusal that knows no key, if any key allows the origin.

    So a browser can tell a token that has lapsed from a server that is away.
    """
    caller: Any = getattr(request, "caller", None)
    if caller is None:
        return _is_known(origin)
    return origin in caller.key.allowed_origins


def _is_known(origin: str) -> bool:
    try:
        return api_keys.is_allowed_origin(origin, at=timezone.now())
    except DatabaseError:
        return False  # the view has said, or will say, that the database is away


def _answer_preflight(origin: str) -> HttpResponse:
    response = HttpResponse(status=204)
    if _is_known(origin):
        _allow(response, origin)
        response["Access-Control-Allow-Methods"] = "GET, POST, PATCH, DELETE"
        response["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
        response["Access-Control-Max-Age"] = PREFLIGHT_SECONDS
    patch_vary_headers(response, ["Origin"])
    return response


def _allow(response: HttpResponse, origin: str) -> None:
    response["Access-Control-Allow-Origin"] = origin


def local_content_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Let the page that a view answers load and call nothing but this server."""

    @wraps(view)
    def respond(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = view(request, *args, **kwargs)
        response["Content-Security-Policy"] = _LOCAL
        return response

    return respond

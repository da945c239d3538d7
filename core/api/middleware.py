"""What surrounds the API's answers: browsers' cross-origin rules, and the headers of the rate limit."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.cache import patch_vary_headers

from core.services import api_keys

ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, X-Request-ID, Accept-Language"
EXPOSED_HEADERS = "X-Request-ID, RateLimit, RateLimit-Policy, Retry-After, Idempotent-Replayed"
PREFLIGHT_SECONDS = "600"


class ApiMiddleware:
    """Answer preflights, and let a browser read an answer if the caller's key allows its origin."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        if not request.path.startswith("/api/"):
            return self._get_response(request)
        origin = request.headers.get("Origin", "")
        if request.method == "OPTIONS" and origin and "Access-Control-Request-Method" in request.headers:
            return _answer_preflight(origin)
        response = self._get_response(request)
        for name, value in getattr(request, "rate_headers", {}).items():
            response[name] = value
        caller: Any = getattr(request, "caller", None)
        if origin and caller is not None and origin in caller.key.allowed_origins:
            _allow(response, origin)
            response["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
        patch_vary_headers(response, ["Origin", "Authorization"])
        return response


def _answer_preflight(origin: str) -> HttpResponse:
    response = HttpResponse(status=204)
    if api_keys.is_allowed_origin(origin, at=timezone.now()):
        _allow(response, origin)
        response["Access-Control-Allow-Methods"] = "GET, POST, PATCH, DELETE"
        response["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
        response["Access-Control-Max-Age"] = PREFLIGHT_SECONDS
    patch_vary_headers(response, ["Origin"])
    return response


def _allow(response: HttpResponse, origin: str) -> None:
    response["Access-Control-Allow-Origin"] = origin

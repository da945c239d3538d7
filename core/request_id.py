"""Every request has an id in its answer and in its logs, a line of its own there, and its time in the metrics."""

import logging
import re
import time
from collections.abc import Callable

import uuid_utils.compat as uuid
from django.http import HttpRequest, HttpResponse

from core.log_context import get_log_context, log_context
from core.metrics import REQUEST_SECONDS

logger = logging.getLogger("perennial.request")

# Whoever calls may make up more; each would be a series of its own.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FORM = re.compile(r"[A-Za-z0-9._-]{1,64}")


def get_request_id() -> str:
    """Return the id of the request that is running, empty outside of one."""
    return get_log_context().get("request_id", "")


class RequestIdMiddleware:
    """Give every request an id: the sender's own X-Request-ID where it has the form of one, else a new one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer with the id, and note the request by its route: the path itself names members and orders."""
        told = request.headers.get("X-Request-ID", "")
        request_id = told if _FORM.fullmatch(told) else uuid.uuid7().hex
        started = time.perf_counter()
        with log_context(request_id=request_id):
            response = self._get_response(request)
            _note(request, response, time.perf_counter() - started)
        response["X-Request-ID"] = request_id
        return response


def _note(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    match = request.resolver_match
    if match is None:
        return
    method = request.method if request.method in METHODS else "other"
    REQUEST_SECONDS.labels(method, match.route, response.status_code).observe(seconds)
    logger.info(
        "request",
        extra={
            "method": request.method,
            "route": match.route,
            "status": response.status_code,
            "milliseconds": round(seconds * 1000, 1),
        },
    )

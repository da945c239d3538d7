"""The id of the request or task that is running: in answers, in logs."""

import re
from collections.abc import Callable
from contextvars import ContextVar

import uuid_utils.compat as uuid
from django.http import HttpRequest, HttpResponse

_FORM = re.compile(r"[A-Za-z0-9._-]{1,64}")
_current: ContextVar[str] = ContextVar("request_id", default="")


def get_request_id() -> str:
    """Return the id of the request or task that is running, empty outside of both."""
    return _current.get()


class RequestIdMiddleware:
    """Give every request an id: the sender's own X-Request-ID where it has the form of one, else a new one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer with the id."""
        told = request.headers.get("X-Request-ID", "")
        request_id = told if _FORM.fullmatch(told) else uuid.uuid7().hex
        token = _current.set(request_id)
        try:
            response = self._get_response(request)
        finally:
            _current.reset(token)
        response["X-Request-ID"] = request_id
        return response

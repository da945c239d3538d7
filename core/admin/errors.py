"""What operators see when a page is refused, missing or broken: a page in the admin's frame that says what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.translation import gettext_lazy as _

from core.api import problems
from core.request_id import get_request_id

logger = logging.getLogger(__name__)

_TEXTS: dict[int, tuple[Any, Any]] = {
    400: (
        _("The request cannot be read"),
        _("Something in the address or the form is not what this page understands."),
    ),
    403: (
        _("Not allowed"),
        _("Your group may not do this, or the form has waited too long: go back and send it again."),
    ),
    404: (_("Nothing here"), _("There is nothing at this address. What stood here may have been removed.")),
    500: (
        _("Something went wrong"),
        _("Look whether what you did is there before you do it again. If it goes wrong again, report it."),
    ),
}


def page(status: int, code: str, detail: str) -> Callable[..., HttpResponse]:
    """Return a handler for what Django refuses by itself: a problem below /api/, a page in the frame of the admin."""
    answer = problems.page(status, code, detail)

    def respond(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        user: Any = getattr(request, "user", None)
        if not request.path.startswith("/admin/") or user is None:
            return answer(request, *args, **kwargs)
        try:
            return HttpResponse(_render(request, status), status=status)
        except Exception:  # the frame needs the database, which may be what is wrong
            logger.exception("the page of an error cannot be shown")
            return answer(request, *args, **kwargs)

    return respond


def refuse_forgery(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form whose token is missing or too old; Django calls this instead of the handler of 403."""
    logger.info("a form was refused: %s", reason)
    return page(403, "forbidden", "This is not allowed.")(request)


class RefuseNul:
    """Refuse a NUL in an address of the admin: no text in the database has one, and PostgreSQL takes none."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith("/admin/") and "\0" in request.path + "".join(
            key + value for key, values in request.GET.lists() for value in values
        ):
            return page(400, "bad_request", "The request cannot be read.")(request)
        return self.get_response(request)


def _render(request: HttpRequest, status: int) -> str:
    title, detail = _TEXTS[status]
    request.current_app = admin.site.name
    frame = admin.site.each_context(request)
    told = {"title": title, "detail": detail, "request_id": get_request_id()}
    return render_to_string("core/error.html", frame | told, request=request)

"""What goes wrong, as application/problem+json (RFC 9457) with a stable code."""

import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from pydantic import BaseModel, Field, ValidationError
from rest_framework import exceptions

from core.api.codes import CODES
from core.patterns import say_pattern
from core.request_id import get_request_id

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
# A body may have as many mistakes as it has values; the first ones say enough.
MAX_ERRORS = 100
INTERNAL_ERROR = "Something went wrong on our side."


class FieldError(BaseModel):
    """One thing that is wrong with a request: where (a JSON pointer, or a parameter's name), and what to do."""

    pointer: str
    code: str
    detail: str


class ProblemBody(BaseModel):
    """The body of every refusal."""

    type: str
    title: str
    status: int
    code: str = Field(json_schema_extra={"enum": list(CODES)})
    detail: str
    request_id: str
    errors: list[FieldError] = []


class Problem(Exception):
    """A refusal: the status, a code that never changes its meaning, and a sentence for people."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.errors, self.headers = list(errors), dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Return the problem as JSON."""
        return ProblemBody(
            type=f"urn:perennial:problem:{self.code}",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            code=self.code,
            detail=self.detail,
            request_id=get_request_id(),
            errors=self.errors,
        ).model_dump()

    def response(self) -> HttpResponse:
        """Return the problem as an answer."""
        return JsonResponse(self.body(), status=self.status, content_type=CONTENT_TYPE, headers=self.headers)


T = TypeVar("T", bound=Callable[..., Problem])
_translators: dict[type[Exception], Callable[[Any], Problem]] = {}


def translates(*kinds: type[Exception]) -> Callable[[T], T]:
    """Register the decorated function as what turns domain exceptions of these kinds into problems."""

    def register(function: T) -> T:
        _translators.update(dict.fromkeys(kinds, function))
        return function

    return register


def translate(error: Exception) -> Problem | None:
    """Return the problem that an exception stands for, None if it is a mistake of ours."""
    if isinstance(error, Problem):
        return error
    for kind in type(error).__mro__:
        if kind in _translators:
            return _translators[kind](error)
    return None


def handle(error: Exception, _context: dict[str, Any]) -> HttpResponse:
    """Turn whatever a view raised into an answer, in JSON whatever else the view renders."""
    problem = translate(error)
    if problem is None:
        logger.error("unhandled", exc_info=error)
        problem = Problem(500, "internal_error", INTERNAL_ERROR)
    return problem.response()


@translates(ValidationError)
def _invalid(error: ValidationError) -> Problem:
    errors = field_errors(error)
    if errors[0].code == "json_invalid":
        return Problem(400, "invalid_json", "The body is not JSON.", errors=errors)
    detail = f"{error.error_count()} value(s) cannot be accepted; see errors."
    return Problem(422, "invalid_request", detail, errors=errors)


def field_errors(error: ValidationError) -> list[FieldError]:
    """Return what is wrong, value by value; at most MAX_ERRORS."""
    return [
        FieldError(pointer=pointer(detail["loc"]), code=detail["type"], detail=_sentence(detail))
        for detail in error.errors(include_url=False, include_input=False)[:MAX_ERRORS]
    ]


def pointer(location: Sequence[int | str]) -> str:
    """Return a location as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def _sentence(detail: Any) -> str:
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    if detail["type"] == "string_pattern_mismatch":
        return say_pattern(detail["ctx"]["pattern"])
    return str(detail["msg"])


@translates(exceptions.MethodNotAllowed)
def _method(error: exceptions.MethodNotAllowed) -> Problem:
    return Problem(405, "method_not_allowed", str(error.detail))


@translates(exceptions.ValidationError)
def _filter(error: exceptions.ValidationError) -> Problem:
    # Only filters raise it: a list of what is wrong for each parameter.
    found: Any = error.get_full_details()
    errors = [
        FieldError(pointer=pointer([name]), code=str(one["code"]), detail=str(one["message"]))
        for name, told in found.items()
        for one in told
    ]
    return Problem(400, "invalid_parameter", "A parameter cannot be accepted; see errors.", errors=errors)


@translates(exceptions.NotFound)
def _page(_error: exceptions.NotFound) -> Problem:
    # The only place that raises it is the pagination.
    return Problem(400, "invalid_cursor", "The cursor is not one that a page of this list gave.")


@translates(Http404)
def _not_found(_error: Http404) -> Problem:
    return Problem(404, "not_found", "There is nothing at this address.")


@translates(RequestDataTooBig)
def _too_large(_error: RequestDataTooBig) -> Problem:
    return Problem(413, "body_too_large", "The body is too large; send smaller batches.")


@translates(UnreadablePostError)
def _cut_off(_error: UnreadablePostError) -> Problem:
    return Problem(400, "bad_request", "The request ended before its body did.")


@translates(InterfaceError, OperationalError)
def _busy(error: Exception) -> Problem:
    logger.warning("database busy", exc_info=error)
    return Problem(503, "busy", "The database is busy; repeat the request.", headers={"Retry-After": "1"})


@translates(SuspiciousOperation)
def _suspicious(_error: SuspiciousOperation) -> Problem:
    return Problem(400, "bad_request", "The request cannot be read.")


def page(status: int, code: str, detail: str) -> Callable[..., HttpResponse]:
    """Return a handler for what Django refuses by itself: a problem below /api/, a short text elsewhere."""

    def respond(request: HttpRequest, *_args: Any, **_kwargs: Any) -> HttpResponse:
        if request.path.startswith("/api/"):
            return Problem(status, code, detail).response()
        return HttpResponse(detail, status=status, content_type="text/plain; charset=utf-8")

    return respond

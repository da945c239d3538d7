"""The ground of every API view: who calls, what it may do, what time it is, how bodies are read and answers written."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property, wraps
from typing import Any, ClassVar, TypeVar, cast

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils import timezone
from django_filters.rest_framework import DjangoFilterBackend
from pydantic import BaseModel, ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.credentials import Caller, Credentials, HasScope
from core.api.pages import Page
from core.api.problems import FieldError, Problem, field_errors, pointer
from core.api.throttle import RateLimit
from core.calendar import CLOCK_TOLERANCE
from core.models import Program, Scope
from core.places import places_of
from core.services import idempotency

B = TypeVar("B", bound=BaseModel)
Method = Callable[..., HttpResponse]

_KEY = re.compile("[!-~]{1,255}")


class OneRepresentation(BaseContentNegotiation):
    """There is one representation, whatever a client says it accepts."""

    def select_parser(self, _request: Request, _parsers: Any) -> None:
        """Leave the body to `ApiView.read`."""

    def select_renderer(self, _request: Request, renderers: Any, _format: str | None = None) -> tuple[Any, str]:
        """Return the only one."""
        return renderers[0], renderers[0].media_type


class ApiView(GenericAPIView):  # type: ignore[type-arg]
    """A view. `scopes` names the scope of every method it has; what is not named is refused.

    `is_open_to_members`: a member token may call it, and sees what is its member's.
    """

    scopes: ClassVar[Mapping[str, Scope]] = {}
    is_open_to_members: ClassVar[bool] = False

    http_method_names = ["get", "head", "post", "put", "patch", "delete"]
    authentication_classes = [Credentials]
    permission_classes = [HasScope]
    throttle_classes = [RateLimit]
    renderer_classes = [JSONRenderer]
    content_negotiation_class = OneRepresentation
    pagination_class = Page
    queryset: QuerySet[Any] | None = None
    filterset_class: ClassVar[type[Any] | None] = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let the caller in, and refuse parameters and bodies that the method does not read.

        Raises: Problem 400, 401, 403, 429.
        """
        super().initial(request, *args, **kwargs)
        takes = getattr(getattr(self, (request.method or "").lower(), None), "takes", None)
        if takes is None:  # the method is not known
            return
        for name in () if takes.query else request.query_params:
            raise Problem(400, "invalid_parameter", f"{name} is not a parameter of this address.")
        if not takes.body and request._request.body.strip() not in {b"", b"{}"}:  # some clients always send an object
            raise Problem(400, "unexpected_body", "This request has no body: leave it out.")

    @cached_property
    def at(self) -> datetime:
        """The instant of the request: the only one that its work knows."""
        return timezone.now()

    @property
    def latest(self) -> datetime:
        """The latest instant that what is told may have: the sender's clock may be ahead of ours."""
        return self.at + CLOCK_TOLERANCE

    @property
    def filter_backends(self) -> list[Any]:  # type: ignore[override]
        """What filters lists: the view's filters, if it has any."""
        return [DjangoFilterBackend] if self.filterset_class else []

    @property
    def caller(self) -> Caller:
        caller: Any = self.request.auth
        return cast(Caller, caller)

    @property
    def program(self) -> Program:
        """The program that the caller's key belongs to, with its definitions as of the request."""
        return self.caller.program

    @property
    def actor(self) -> str:
        """Who decides something, as it is kept: the key, by what of it is no secret, or a token of it."""
        key = f"key {self.caller.key.prefix}"
        return key if self.caller.member is None else f"token of {key}"

    def read(self, model: type[B]) -> B:
        """Return the request's body.

        Raises: Problem 400, 413, 415; ValidationError, which becomes a 422.
        """
        if self.request.content_type.partition(";")[0].strip().lower() != "application/json":
            raise Problem(415, "unsupported_media_type", "Send JSON: Content-Type: application/json.")
        return model.model_validate_json(self.request._request.body)

    def refuse_unknown_places(self, body: BaseModel) -> None:
        """Refuse a body whose currency, market or channel is none of the program's.

        Raises: Problem 422.
        """
        for field in ("currency", "market", "channel"):
            flaw = places_of(self.program).find_flaw(field, getattr(body, field, ""))
            if flaw:
                errors = [FieldError(pointer=pointer([field]), code="invalid_value", detail=flaw)]
                raise Problem(422, "invalid_value", f"{field}: {flaw}.", errors=errors)

    def read_query(self, model: type[B]) -> B:
        """Return the query's parameters; one that is unknown or given twice is refused.

        Raises: Problem 400.
        """
        self._refuse_repeated_parameters()
        try:
            return model.model_validate(self.request.query_params.dict())
        except ValidationError as error:
            errors = field_errors(error)
            raise Problem(
                400, "invalid_parameter", "A parameter cannot be accepted; see errors.", errors=errors
            ) from None

    @contextmanager
    def writing(self, *, dry_run: bool = False) -> Iterator[None]:
        """Run a write in one transaction; a dry run does all of it and takes it back."""
        with transaction.atomic():
            yield
            if dry_run:
                transaction.set_rollback(True)

    def pages(self, queryset: QuerySet[Any], show: Callable[[Any], dict[str, Any]]) -> Response:
        """Return one page of a list, filtered as the query says, each row as `show` shows it.

        Raises: Problem 400.
        """
        self._refuse_repeated_parameters()
        self._refuse_unknown_parameters()
        rows = self.paginate_queryset(self.filter_queryset(queryset)) or []
        return self.get_paginated_response([show(row) for row in rows])

    def _refuse_repeated_parameters(self) -> None:
        for name, values in self.request.query_params.lists():
            if len(values) > 1:
                raise Problem(400, "invalid_parameter", f"{name} is given twice.")

    def _refuse_unknown_parameters(self) -> None:
        filters: Any = self.filterset_class
        known = {"cursor", "limit", *(filters.base_filters if filters else ())}
        for name, value in self.request.query_params.items():
            if name not in known:
                raise Problem(400, "invalid_parameter", f"{name} is not a parameter of this list.")
            if not value:
                raise Problem(400, "invalid_parameter", f"{name} is empty: leave it out, or say what it is.")


def idempotent(*, is_required: bool) -> Callable[[Method], Method]:
    """Let a method honor the header Idempotency-Key. Its whole work is one transaction, and so is its answer.

    The same key with the same request replays the stored answer, with another one is refused (422), while the first
    is under way it is told so (409). A refused request frees its key.
    """

    def decorate(method: Method) -> Method:
        @wraps(method)
        def wrapper(view: Any, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
            key = request.headers.get("Idempotency-Key")
            if key is None and is_required:
                raise Problem(400, "idempotency_key_missing", "Send an Idempotency-Key: this request moves value.")
            if key is not None and not _KEY.fullmatch(key):
                raise Problem(
                    400, "idempotency_key_invalid", "An Idempotency-Key has 1 to 255 visible ASCII characters."
                )
            if key is None or request.query_params.get("dry_run") == "true":
                return method(view, request, *args, **kwargs)
            return _once(view, key, lambda: method(view, request, *args, **kwargs))

        return wrapper

    return decorate


def _once(view: ApiView, key: str, work: Callable[[], HttpResponse]) -> HttpResponse:
    try:
        begun = idempotency.begin(
            program_id=view.program.pk,
            caller=view.caller.name,
            key=key,
            request_digest=_digest(view.request),
            at=view.at,
        )
    except idempotency.KeyReused:
        raise Problem(422, "idempotency_key_reused", "This Idempotency-Key was used for another request.") from None
    except idempotency.InFlight:
        headers = {"Retry-After": "1"}
        raise Problem(409, "in_flight", "The same request is being worked on.", headers=headers) from None
    if isinstance(begun, idempotency.Answer):
        replayed = HttpResponse(begun.body, status=begun.status, content_type="application/json")
        replayed["Idempotent-Replayed"] = "true"
        return replayed
    try:
        with transaction.atomic():
            response = work()
            body = JSONRenderer().render(cast(Response, response).data).decode()
            idempotency.finish(begun, status=response.status_code, body=body)
    except idempotency.LeaseLost:
        raise Problem(409, "in_flight", "Another request with this key took over; repeat it.") from None
    except Exception:
        idempotency.release(begun)
        raise
    return response


def _digest(request: Request) -> bytes:
    """Return what makes a request the same: what it asks for, not how its JSON is written."""
    raw = request._request.body
    try:
        body = json.dumps(json.loads(raw), sort_keys=True)
    except (ValueError, RecursionError):
        body = raw.hex()
    told = json.dumps([request.method, request.path_info, sorted(request.query_params.lists()), body])
    return hashlib.sha256(told.encode()).digest()

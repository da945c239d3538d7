"""The OpenAPI document: every operation says what it takes, what it answers, and every refusal it may give."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from drf_spectacular.contrib.pydantic import PydanticExtension
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from core.api.problems import CONTENT_TYPE, ProblemBody

F = TypeVar("F", bound=Callable[..., Any])

# What any operation may answer, and what one that writes may answer besides. docs/api.md lists every code.
_ALWAYS = {
    400: "The request cannot be read: `invalid_parameter`, `invalid_cursor`, `bad_request`",
    401: "Who calls is not known: `unauthenticated`, `invalid_key`, `key_expired`, `key_revoked`, `invalid_token`, "
    "`token_expired`",
    403: "The caller may not do this: `scope_missing`, `key_required`, `member_not_active`",
    404: "The program of the key has nothing of this name: `not_found`, `unknown_member` and the like",
    405: "The address does not know this method: `method_not_allowed`",
    429: "Too many requests, see Retry-After: `rate_limited`",
    503: "Repeat the request, see Retry-After: `busy`",
}
_WRITE = {
    400: _ALWAYS[400] + ", `invalid_json`, `idempotency_key_missing`, `idempotency_key_invalid`",
    409: "It contradicts what is recorded or under way: `fact_conflict`, `in_flight` and the like",
    413: "`body_too_large`",
    415: "`unsupported_media_type`",
    422: "It was understood and is refused, see `code`, `detail` and `errors`: `invalid_request`, "
    "`idempotency_key_reused` and the like",
}

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    OpenApiParameter.HEADER,
    required=True,
    description="Chosen by the sender. Sent again with the same request, it replays the first answer.",
)
OPTIONAL_IDEMPOTENCY_KEY = OpenApiParameter(
    IDEMPOTENCY_KEY.name, IDEMPOTENCY_KEY.type, IDEMPOTENCY_KEY.location, description=IDEMPOTENCY_KEY.description
)


class ModelExtension(PydanticExtension):  # type: ignore[no-untyped-call]
    """A pydantic model's schema: as it is read in requests, as it is written in answers."""

    priority = 1

    def map_serializer(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """Return the schema and register those of the models inside."""
        mode: Any = "validation" if direction == "request" else "serialization"
        names, document = models_json_schema([(self.target, mode)], ref_template="#/components/schemas/{model}")
        definitions = document.get("$defs", {})
        own = names[self.target, mode]["$ref"].rpartition("/")[2]
        for name, schema in definitions.items():
            if name != own:
                component = ResolvedComponent(name, ResolvedComponent.SCHEMA, schema, name)  # type: ignore[no-untyped-call]
                auto_schema.registry.register_on_missing(component)
        result: dict[str, Any] = definitions[own]
        return result


class Operations(AutoSchema):
    """Name operations and tags after their addresses: what a parameter names stands in place of the segment before."""

    def get_operation_id(self) -> str:
        """Return the method and what it is about: list_orders, get_order, post_member_wallet_redemptions."""
        segments = self._segments()
        named = [part for part, following in pairwise([*segments, ""]) if not following.startswith("{")]
        is_list = self.method == "GET" and self._is_list_view()
        return re.sub(r"[{}]", "", "_".join(["list" if is_list else self.method.lower(), *named])).replace("-", "_")

    def get_tags(self) -> list[str]:
        """Return the resource: what hangs on a member goes by itself."""
        match self._segments():
            case ["members", "{member}", of_member, *_]:
                return [of_member]
            case segments:
                return segments[:1]

    def _segments(self) -> list[str]:
        return [part for part in self.path.removeprefix("/api/v1").split("/") if part]


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "core.api.credentials.Credentials"
    name = "bearer"

    def get_security_definition(self, _auto_schema: Any) -> dict[str, Any]:
        """Describe keys and tokens."""
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A server key (pnl_live_, pnl_test_) or member token",
        }


def operation(
    *,
    summary: str,
    answers: Mapping[int, type[BaseModel] | None],
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    parameters: Sequence[OpenApiParameter] = (),
    is_list: bool = False,
    **more: Any,
) -> Callable[[F], F]:
    """Describe a view's method. The summary is a sentence for people; the description is its docstring."""

    def describe(method: F) -> F:
        problems = _ALWAYS if method.__name__ == "get" else _ALWAYS | _WRITE
        responses: dict[Any, Any] = {
            (status, CONTENT_TYPE if model is ProblemBody else "application/json"): model
            for status, model in answers.items()
            if model
        }
        responses |= {status: None for status, model in answers.items() if model is None}
        responses |= {
            (status, CONTENT_TYPE): OpenApiResponse(ProblemBody, description=told) for status, told in problems.items()
        }
        decorate = extend_schema(
            summary=summary,
            description=more.pop("description", summary),
            request={"application/json": body} if body else None,
            responses=responses,
            parameters=[*parameters, *(_query_parameters(query) if query else ())],
            filters=is_list,
            **more,
        )
        return decorate(method)

    return describe


def _query_parameters(model: type[BaseModel]) -> list[OpenApiParameter]:
    """Return the parameters that a model of a query declares."""
    schema = model.model_json_schema()
    required = schema.get("required", [])
    return [
        OpenApiParameter(name, part, OpenApiParameter.QUERY, name in required, description=part.pop("description", ""))
        for name, part in schema.get("properties", {}).items()
    ]

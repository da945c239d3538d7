"""The OpenAPI document: every operation says what it takes, what it answers, and every refusal it may give."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar, cast

from drf_spectacular.contrib.pydantic import PydanticExtension
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from core.api import addresses
from core.api.pages import PageOf
from core.api.problems import CONTENT_TYPE, ProblemBody

F = TypeVar("F", bound=Callable[..., Any])

# What any operation may answer, and what one that writes may answer besides. docs/api.md lists every code.
_ALWAYS = {
    400: "The request cannot be read: `invalid_parameter`, `invalid_cursor`, `unexpected_body`, `bad_request`",
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


SHOPPER_ADDRESS = OpenApiParameter(
    addresses.HEADER,
    {"type": "string", "format": "ipv4"},  # or IPv6, which OpenAPI would need a choice for: generators refuse that
    OpenApiParameter.HEADER,
    description="The IP address of the shopper who typed the codes, where your server calls: wrong ones are counted "
    "for it, too. Ignored with a member token, whose browser calls by itself.",
)


class ModelExtension(PydanticExtension):  # type: ignore[no-untyped-call]
    """A pydantic model's schema: as it is read in requests, as it is written in answers."""

    priority = 1

    def map_serializer(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """Return the schema and register those of the models inside."""
        mode: Any = "validation" if direction == "request" else "serialization"
        names, document = models_json_schema([(self.target, mode)], ref_template="#/components/schemas/{model}")
        definitions = document.get("$defs", {})
        definitions = {name: _without_bounds(schema) for name, schema in definitions.items()}
        if direction == "request":
            definitions = {name: _without_defaults(schema) for name, schema in definitions.items()}
        own = names[self.target, mode]["$ref"].rpartition("/")[2]
        for name, schema in definitions.items():
            if name != own:
                component = ResolvedComponent(name, ResolvedComponent.SCHEMA, schema, name)  # type: ignore[no-untyped-call]
                auto_schema.registry.register_on_missing(component)
        result: dict[str, Any] = definitions[own]
        return result


def _without_bounds(schema: Any) -> Any:
    """Leave out `ge`, which pydantic writes where it cannot say a bound of what is read from text; it is no keyword."""
    if isinstance(schema, list):
        return [_without_bounds(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _without_bounds(part) for name, part in schema.items() if name != "ge"}


def _without_defaults(schema: Any) -> Any:
    """Return a schema that says in words what leaving a value out means.

    Generated clients send the `default` of what their caller left out: a change of the country would change the rest.
    """
    if isinstance(schema, list):
        return [_without_defaults(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: _without_defaults(part) for name, part in schema.items() if name != "default"}
    if schema.get("default") not in (None, [], {}) and not isinstance(schema["default"], dict):
        told = f"Left out: {json.dumps(schema['default'])}"
        kept["description"] = f"{kept['description']}. {told}" if "description" in kept else told
    return kept


class Operations(AutoSchema):
    """Name operations and tags after their addresses: what a parameter names stands in place of the segment before."""

    def get_operation_id(self) -> str:
        """Return the method and what it is about: list_orders, get_order, post_member_wallet_redemptions."""
        segments = self._segments()
        named = [part for part, following in pairwise([*segments, ""]) if not following.startswith("{")]
        verb = "list" if self._is_list_view() else self.method.lower()
        return re.sub(r"[{}]", "", "_".join([verb, *named])).replace("-", "_")

    def get_tags(self) -> list[str]:
        """Return the resource: what hangs on a member goes by itself."""
        match self._segments():
            case ["members", "{member}", of_member, *_]:
                return [of_member]
            case segments:
                return segments[:1]

    def _is_list_view(self, serializer: Any = None) -> bool:
        """Tell whether it answers pages, which the answers say themselves: no answer is made a list of."""
        answers: Any = self.get_response_serializers()
        return serializer is None and any(_is_page(model) for model in answers.values())

    def _segments(self) -> list[str]:
        return [part for part in self.path.removeprefix("/api/v1").split("/") if part]


# Beside them Cache-Control and Vary, which are for caches. The rate's are missing while there is no limit.
_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {"description": "The request's own, or a new one", "required": True, "schema": {"type": "string"}},
    "RateLimit": {"description": 'What is left: `"default";r=599;t=60`', "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": 'The limit: `"default";q=600;w=60`', "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "`Bearer`", "required": True, "schema": {"type": "string"}},
    "Allow": {"description": "The methods that there are", "required": True, "schema": {"type": "string"}},
    "Idempotent-Replayed": {"description": "`true`: the stored answer", "schema": {"type": "string", "enum": ["true"]}},
}
_HEADERS_OF = {"401": ["WWW-Authenticate"], "405": ["Allow"], "409": ["Retry-After"], "429": ["Retry-After"]} | {
    "503": ["Retry-After"]
}


def leave_bodies_out(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Say which requests may go without a body: those whose description says so."""
    for operations in result["paths"].values():
        for told in operations.values():
            if "requestBody" in told and "The body may be left out." in told.get("description", ""):
                told["requestBody"]["required"] = False
    return result


def share_refusals(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Let every refusal stand once, by its status and whether the operation writes, and be referred to."""
    shared: dict[str, Any] = {}
    for operations in result["paths"].values():
        for method, told in operations.items():
            for status, answer in told["responses"].items():
                name = f"Problem{status}" if method == "get" or status != "400" else f"Problem{status}OfWrites"
                if status >= "400" and shared.setdefault(name, answer) == answer:
                    told["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    result["components"]["responses"] = shared
    return result


def add_headers(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Say which headers answers have, and what each is."""
    result["components"]["headers"] = _HEADERS
    for operations in result["paths"].values():
        for told in operations.values():
            can_replay = any(parameter["name"] == IDEMPOTENCY_KEY.name for parameter in told.get("parameters", ()))
            for status, answer in told["responses"].items():
                names = ["X-Request-ID", "RateLimit", "RateLimit-Policy", *_HEADERS_OF.get(status, ())]
                names += ["Idempotent-Replayed"] if can_replay and status < "300" else []
                answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return result


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "core.api.credentials.Credentials"
    name = "bearer"

    def get_security_requirement(self, auto_schema: Any) -> dict[str, list[str]]:
        """Name the scope that the operation needs, as OpenAPI 3.1 lets any scheme name roles."""
        scope = auto_schema.view.scopes.get(auto_schema.method)
        return {self.name: [str(scope)] if scope else []}

    def get_security_definition(self, _auto_schema: Any) -> dict[str, Any]:
        """Describe keys and tokens."""
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A server key (pnl_live_, pnl_test_) or member token",
        }


class Takes(NamedTuple):
    """What a method reads of a request: the rest is refused before it runs."""

    query: bool
    body: bool


def operation(
    *,
    summary: str,
    answers: Mapping[int, type[BaseModel] | None],
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    parameters: Sequence[OpenApiParameter] = (),
    has_csv: bool = False,
    **more: Any,
) -> Callable[[F], F]:
    """Describe a view's method. The summary is a sentence for people; the description is its docstring.

    `has_csv`: it answers text/csv as well.
    """

    def describe(method: F) -> F:
        problems = _ALWAYS if method.__name__ == "get" else _ALWAYS | _WRITE
        responses: dict[Any, Any] = {
            (status, CONTENT_TYPE if model is ProblemBody else "application/json"): model
            for status, model in answers.items()
            if model
        }
        responses |= {status: None for status, model in answers.items() if model is None}
        responses |= {(200, "text/csv"): OpenApiTypes.STR} if has_csv else {}
        responses |= {
            (status, CONTENT_TYPE): OpenApiResponse(ProblemBody, description=told) for status, told in problems.items()
        }
        cast(Any, method).takes = Takes(query is not None or any(map(_is_page, answers.values())), body is not None)
        decorate = extend_schema(
            summary=summary,
            description=more.pop("description", summary),
            request={"application/json": body} if body else None,
            responses=responses,
            parameters=[*parameters, *(_query_parameters(query) if query else ())],
            **more,
        )
        return decorate(method)

    return describe


def _query_parameters(model: type[BaseModel]) -> list[OpenApiParameter]:
    """Return the parameters that a model of a query declares."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    required = schema.get("required", [])
    return [
        OpenApiParameter(
            name, _as_parameter(part), OpenApiParameter.QUERY, name in required, description=part.get("description", "")
        )
        for name, part in schema.get("properties", {}).items()
    ]


def _as_parameter(part: dict[str, Any]) -> dict[str, Any]:
    """Return what a parameter may be: one that is left out is left out, a query has no null."""
    words = {"title", "description", "default"}
    told = {name: value for name, value in part.items() if name not in words and value is not None}
    kinds = [kind for kind in told.pop("anyOf", []) if kind != {"type": "null"}]
    return told | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})


def _is_page(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, PageOf)

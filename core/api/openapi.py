"""The OpenAPI document: every operation says what it takes, what it answers, and every refusal it may give."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from drf_spectacular.contrib.pydantic import PydanticExtension
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiParameter, extend_schema
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from core.api.problems import CONTENT_TYPE, ProblemBody

F = TypeVar("F", bound=Callable[..., Any])

# What any operation may answer: no or a wrong key, no right, nothing there, too many calls.
_ALWAYS = (400, 401, 403, 404, 405, 429, 503)
# What one that reads a body may answer besides.
_WITH_BODY = (409, 413, 415, 422)

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
    problems = (*_ALWAYS, *(_WITH_BODY if body else ()))
    responses: dict[Any, Any] = {(status, "application/json"): model for status, model in answers.items() if model}
    responses |= {status: None for status, model in answers.items() if model is None}
    responses |= {(status, CONTENT_TYPE): ProblemBody for status in problems}
    return extend_schema(
        summary=summary,
        description=more.pop("description", summary),
        request={"application/json": body} if body else None,
        responses=responses,
        parameters=[*parameters, *(_query_parameters(query) if query else ())],
        filters=is_list,
        **more,
    )


def _query_parameters(model: type[BaseModel]) -> list[OpenApiParameter]:
    """Return the parameters that a model of a query declares."""
    schema = model.model_json_schema()
    required = schema.get("required", [])
    return [
        OpenApiParameter(name, part, OpenApiParameter.QUERY, name in required, description=part.pop("description", ""))
        for name, part in schema.get("properties", {}).items()
    ]

"""Webhook endpoints: where a program's events are sent, what came of it, and sending again."""

from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import Http404
from django_filters import ChoiceFilter, FilterSet
from pydantic import Field, StrictBool, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import OPTIONAL_IDEMPOTENCY_KEY, operation
from core.api.pages import PageOf
from core.api.problems import Problem, translates
from core.api.types import Answer, Body, Instant, Text
from core.api.views import ApiView, idempotent
from core.event_types import EventType
from core.models import Scope, WebhookDelivery, WebhookEndpoint
from core.outgoing import ForbiddenUrl
from core.services import webhooks

Address = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[!-~]+$")]
Description = Annotated[Text, StringConstraints(max_length=200)]
Types = Annotated[list[EventType], Field(description="Empty: all")]


class EndpointBody(Body):
    """Where to send events of these types; without types, all."""

    url: Address
    description: Description = ""
    event_types: Types = []


class EndpointChangeBody(Body):
    """What is to change; what is left out stays."""

    url: Address | None = None
    description: Description | None = None
    event_types: Types | None = None
    is_enabled: StrictBool | None = None


class ReplayBody(Body):
    """From which instant of recording on."""

    since: Instant


class EndpointAnswer(Answer):
    """An endpoint. Disabled by itself after days of failures, it says why."""

    id: str
    url: str
    description: str
    event_types: list[str]
    is_enabled: bool
    disabled_at: Instant | None
    disabled_reason: str
    failing_since: Instant | None
    previous_secret_expires_at: Instant | None
    created_at: Instant


class EndpointSecretAnswer(EndpointAnswer):
    """An endpoint with its signing secret, which is shown here and never again."""

    secret: str


class EndpointPage(PageOf):
    """A page of endpoints."""

    results: list[EndpointAnswer]


class AttemptAnswer(Answer):
    """One sending: the status that the endpoint answered, or why there is none."""

    attempted_at: Instant
    duration_ms: int
    status: int | None
    error: str
    answer: str


class DeliveryAnswer(Answer):
    """One event for the endpoint and what came of it."""

    event: str
    number: int
    type: str
    state: Literal["waiting", "delivered", "given_up"]
    next_attempt_at: Instant | None
    delivered_at: Instant | None
    given_up_at: Instant | None
    attempts: list[AttemptAnswer]


class DeliveryPage(PageOf):
    """A page of deliveries, the newest first."""

    results: list[DeliveryAnswer]


class ReplayAnswer(Answer):
    """How many events are on their way."""

    deliveries: int


class TestAnswer(Answer):
    """The test event that is on its way."""

    event: str


class DeliveryFilter(FilterSet):  # type: ignore[misc]
    """Deliveries by what came of them."""

    state = ChoiceFilter(method="in_state", choices=[(name, name) for name in ("waiting", "delivered", "given_up")])

    def in_state(self, queryset: Any, _name: str, value: str) -> Any:
        """Keep those in a state."""
        return queryset.filter(**{
            "waiting": {"next_attempt_at__isnull": False},
            "delivered": {"delivered_at__isnull": False},
            "given_up": {"given_up_at__isnull": False},
        }[value])  # fmt: skip


class _EndpointView(ApiView):
    """What the views of one program's endpoints share."""

    def find(self, public_id: UUID) -> WebhookEndpoint:
        """Return the endpoint of an address.

        Raises: Http404.
        """
        found = WebhookEndpoint.objects.filter(program=self.program, public_id=public_id).first()
        if found is None:
            raise Http404
        found.program = self.program
        return found

    @property
    def by(self) -> webhooks.By:
        return webhooks.By(self.actor)


class EndpointsView(_EndpointView):
    scopes = {"GET": Scope.WEBHOOKS_MANAGE, "POST": Scope.WEBHOOKS_MANAGE}

    @operation(summary="List the webhook endpoints", answers={200: EndpointPage})
    def get(self, _request: Request) -> Response:
        return self.pages(WebhookEndpoint.objects.filter(program=self.program).order_by("id"), show_endpoint)

    @operation(
        summary="Make a webhook endpoint",
        answers={201: EndpointSecretAnswer},
        body=EndpointBody,
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request) -> Response:
        body = self.read(EndpointBody)
        endpoint = webhooks.create(
            program=self.program,
            url=body.url,
            description=body.description,
            event_types=[kind.value for kind in body.event_types],
            by=self.by,
            at=self.at,
        )
        return Response(show_endpoint(endpoint) | {"secret": endpoint.secret}, 201)


class EndpointView(_EndpointView):
    scopes = dict.fromkeys(("GET", "PATCH", "DELETE"), Scope.WEBHOOKS_MANAGE)

    @operation(summary="Read a webhook endpoint", answers={200: EndpointAnswer})
    def get(self, _request: Request, endpoint: UUID) -> Response:
        return Response(show_endpoint(self.find(endpoint)))

    @operation(summary="Change a webhook endpoint", answers={200: EndpointAnswer}, body=EndpointChangeBody)
    def patch(self, _request: Request, endpoint: UUID) -> Response:
        body = self.read(EndpointChangeBody)
        types = None if body.event_types is None else [kind.value for kind in body.event_types]
        changed = webhooks.update(
            endpoint=self.find(endpoint),
            url=body.url,
            description=body.description,
            event_types=types,
            is_enabled=body.is_enabled,
            by=self.by,
            at=self.at,
        )
        return Response(show_endpoint(changed))

    @operation(summary="Delete a webhook endpoint with its log", answers={204: None})
    def delete(self, _request: Request, endpoint: UUID) -> Response:
        webhooks.delete(endpoint=self.find(endpoint), by=self.by, at=self.at)
        return Response(status=204)


class SecretView(_EndpointView):
    scopes = {"POST": Scope.WEBHOOKS_MANAGE}

    @operation(
        summary="Give a webhook endpoint a new secret",
        description="For a day messages carry the signatures of the new secret and of the one before.",
        answers={200: EndpointSecretAnswer},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request, endpoint: UUID) -> Response:
        rotated = webhooks.rotate_secret(endpoint=self.find(endpoint), by=self.by, at=self.at)
        return Response(show_endpoint(rotated) | {"secret": rotated.secret})


class EndpointTestView(_EndpointView):
    scopes = {"POST": Scope.WEBHOOKS_MANAGE}

    @operation(summary="Send a test event to a webhook endpoint", answers={202: TestAnswer})
    def post(self, _request: Request, endpoint: UUID) -> Response:
        event = webhooks.send_test(endpoint=self.find(endpoint), by=self.by, at=self.at)
        return Response({"event": str(event.public_id)}, 202)


class ReplayView(_EndpointView):
    scopes = {"POST": Scope.WEBHOOKS_MANAGE}

    @operation(summary="Send a webhook endpoint's events again", answers={202: ReplayAnswer}, body=ReplayBody)
    def post(self, _request: Request, endpoint: UUID) -> Response:
        since = self.read(ReplayBody).since
        count = webhooks.replay_since(endpoint=self.find(endpoint), by=self.by, since=since, at=self.at)
        return Response({"deliveries": count}, 202)


class DeliveriesView(_EndpointView):
    scopes = {"GET": Scope.WEBHOOKS_MANAGE}
    queryset = WebhookDelivery.objects.none()
    filterset_class = DeliveryFilter

    @operation(summary="List the deliveries of a webhook endpoint", answers={200: DeliveryPage})
    def get(self, _request: Request, endpoint: UUID) -> Response:
        return self.pages(webhooks.list_deliveries(endpoint=self.find(endpoint)), show_delivery)


class DeliveryReplayView(_EndpointView):
    scopes = {"POST": Scope.WEBHOOKS_MANAGE}

    @operation(summary="Send one event to a webhook endpoint again", answers={202: ReplayAnswer})
    def post(self, _request: Request, endpoint: UUID, event: UUID) -> Response:
        delivery = self.find(endpoint).deliveries.filter(event__public_id=event).first()
        if delivery is None:
            raise Http404
        webhooks.replay(delivery=delivery, by=self.by, at=self.at)
        return Response({"deliveries": 1}, 202)


def show_endpoint(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """Return an endpoint as the API shows it: without its secret."""
    return {
        "id": str(endpoint.public_id),
        "url": endpoint.url,
        "description": endpoint.description,
        "event_types": endpoint.event_types,
        "is_enabled": endpoint.disabled_at is None,
        "disabled_at": endpoint.disabled_at,
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": endpoint.failing_since,
        "previous_secret_expires_at": endpoint.previous_secret_expires_at,
        "created_at": endpoint.created_at,
    }


def show_delivery(delivery: WebhookDelivery) -> dict[str, Any]:
    """Return a delivery as the API shows it, its attempts from the newest."""
    state = "waiting" if delivery.next_attempt_at else "delivered" if delivery.delivered_at else "given_up"
    names = ("attempted_at", "duration_ms", "status", "error", "answer")
    return {
        "event": str(delivery.event.public_id),
        "number": delivery.event.number,
        "type": delivery.event.type,
        "state": state,
        "next_attempt_at": delivery.next_attempt_at,
        "delivered_at": delivery.delivered_at,
        "given_up_at": delivery.given_up_at,
        "attempts": [{name: getattr(attempt, name) for name in names} for attempt in delivery.log.all()],
    }


@translates(ForbiddenUrl)
def _forbidden_url(error: ForbiddenUrl) -> Problem:
    return Problem(422, "invalid_url", f"url: {error}.")


@translates(webhooks.EndpointDisabled)
def _disabled(_error: webhooks.EndpointDisabled) -> Problem:
    return Problem(409, "webhook_disabled", "The endpoint is disabled; enable it first.")


@translates(WebhookEndpoint.DoesNotExist)
def _deleted_meanwhile(_error: WebhookEndpoint.DoesNotExist) -> Problem:
    return Problem(404, "not_found", "There is nothing at this address.")

"""The events feed: what happened, in the order of commits, for readers that remember how far they have come."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import operation
from core.api.pages import MAX_PAGE_SIZE, PAGE_SIZE
from core.api.problems import Problem, ProblemBody, translates
from core.api.types import MAX_INTEGER, Answer, ExternalId, Instant
from core.api.views import ApiView
from core.event_types import EventType
from core.models import Scope
from core.services import feed


def _number(value: Any) -> Any:
    """Read a whole number as a query has it: pydantic would take signs, blanks and 1.0 as well."""
    if isinstance(value, str):
        if not (value.isascii() and value.isdecimal()):
            raise ValueError("write a whole number")
        return int(value[:20])
    return value


class EventQuery(BaseModel):
    """Which events."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after: Annotated[int, Field(ge=0, le=MAX_INTEGER), BeforeValidator(_number)] | None = Field(
        default=None,
        description="The number up to which the reader has come; without it, the oldest kept is first",
    )
    type: EventType | None = Field(default=None, description="Only events of this type")
    subject: ExternalId | None = Field(default=None, description="Only events about this member")
    limit: Annotated[int, BeforeValidator(_number)] = Field(
        default=PAGE_SIZE, ge=1, le=MAX_PAGE_SIZE, description="At most so many"
    )


class EventAnswer(Answer):
    """An event. `data` has the keys of its type; `subject` is the member's external id, where it is about one."""

    id: str
    number: int
    type: str
    timestamp: Instant
    recorded_at: Instant
    subject: str | None
    data: dict[str, Any]


class EventsAnswer(Answer):
    """Events by ascending number, and what to send as `after` next time."""

    results: list[EventAnswer]
    next_after: int


class EventsView(ApiView):
    scopes = {"GET": Scope.EVENTS_READ}

    @operation(summary="Read the events feed", answers={200: EventsAnswer, 410: ProblemBody}, query=EventQuery)
    def get(self, _request: Request) -> Response:
        query = self.read_query(EventQuery)
        events, next_after = feed.list_events(
            program_id=self.program.pk,
            after=query.after,
            limit=query.limit,
            type_=query.type or "",
            subject=query.subject or "",
        )
        return Response({"results": [feed.show(event) for event in events], "next_after": next_after})


@translates(feed.EventsGone)
def _gone(error: feed.EventsGone) -> Problem:
    oldest = error.first_kept - 1
    detail = f"Events up to {oldest} are no longer kept: read what you need anew, then go on with after={oldest}."
    return Problem(410, "events_gone", detail)


@translates(feed.EventsAhead)
def _ahead(error: feed.EventsAhead) -> Problem:
    return Problem(400, "events_ahead", f"The feed has come to {error.last_number} only.")

"""The program that a key belongs to, and tokens for the browsers of its members."""

from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import operation
from core.api.types import Answer
from core.api.views import ApiView
from core.models import Program, Scope


class MarketAnswer(Answer):
    """Where the program sells."""

    code: str
    currency: str
    time_zone: str
    locales: list[str]
    countries: list[str]


class ProgramAnswer(Answer):
    """A program: amounts that tiers and points are worked out from are in its currency, days are of its zone."""

    code: str
    name: str
    currency: str
    time_zone: str
    is_sandbox: bool
    markets: list[MarketAnswer]


class ProgramView(ApiView):
    scopes = {"GET": Scope.PROGRAMS_READ}
    is_open_to_members = True

    @operation(summary="Read the program of the key", answers={200: ProgramAnswer})
    def get(self, _request: Request) -> Response:
        return Response(show_program(self.program))


def show_program(program: Program) -> dict[str, object]:
    """Return a program as the API shows it."""
    markets = program.markets.order_by("code").values("code", "currency", "time_zone", "locales", "countries")
    return {
        "code": program.code,
        "name": program.name,
        "currency": program.currency,
        "time_zone": program.time_zone,
        "is_sandbox": program.is_sandbox,
        "markets": list(markets),
    }

"""What a member was seen with, as the storefront tells it."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import operation
from core.api.types import Body, Text
from core.models import Scope
from membership.api.members import MemberView
from membership.services import fingerprints

SeenWith = Annotated[Text, StringConstraints(min_length=1)]


class FingerprintsBody(Body):
    """What the member was seen with. Kept as keyed digests, never as told; accounts of one person share them."""

    email: SeenWith | None = None
    payment: SeenWith | None = Field(None, description="The means of payment, as your payment provider identifies it")
    device: SeenWith | None = None
    address: SeenWith | None = None
    ip_agent: SeenWith | None = Field(None, description="IP address and user agent, in one text")


class FingerprintsView(MemberView):
    scopes = {"POST": Scope.REFERRALS_WRITE}

    @operation(
        summary="Tell what a member was seen with",
        description="Known already, it changes nothing.",
        body=FingerprintsBody,
        answers={204: None},
    )
    def post(self, _request: Request, **_address: Any) -> Response:
        seen_with = self.read(FingerprintsBody).model_dump(exclude_none=True)
        fingerprints.record(member=self.member, seen_with=seen_with, at=self.at)
        return Response(status=204)

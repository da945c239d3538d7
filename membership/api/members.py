"""What every view below /members/{member}/ shares: the member, read once before the method runs; and their profile."""

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import operation
from core.api.problems import Problem
from core.api.types import Answer, Body, Code, Day, Instant
from core.api.views import ApiView
from core.models import Scope
from membership.models import Member, MemberStatus
from membership.selectors import find_member
from membership.services import members

Locale = Annotated[str, StringConstraints(max_length=15, pattern=r"^([A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*)?$")]
Country = Annotated[str, StringConstraints(pattern=r"^([A-Z]{2})?$"), Field(description="ISO 3166, or empty")]
Consents = Annotated[
    dict[Code, StrictBool],
    Field(
        max_length=50,
        description="What the member agreed to, by your own names",
        json_schema_extra={"additionalProperties": False},
    ),
]


class MemberAnswer(Answer):
    """A member as the program knows them."""

    external_id: str
    kind: Literal["person", "household"]
    status: Literal["active", "suspended", "erased"]
    locale: str
    country: str
    birthday: Day | None
    consents: dict[str, Any]
    joined_at: Instant
    recorded_at: Instant


class ProfileBody(Body):
    """What is to be changed; what is left out stays. `consents` replaces all of them."""

    locale: Locale = ""
    country: Country = ""
    birthday: Day | None = None
    consents: Consents = {}
    status: Literal["active", "suspended"] = "active"


class MemberView(ApiView):
    """A view of one member, `<ext:member>` in its address.

    A server key reaches every member of its program, suspended and erased ones too: what may be done with those is
    for the services to say. A token reaches its own member only, and opens nothing while that member is not active.
    """

    member: Member

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let the caller in and read the member.

        Raises: Problem 403, 404; as ApiView does.
        """
        super().initial(request, *args, **kwargs)
        told = kwargs["member"]
        if self.caller.member not in {None, told}:
            raise _unknown()
        member = find_member(program_id=self.program.pk, external_id=told)
        if member is None:
            raise _unknown()
        if self.caller.member is not None and member.status != MemberStatus.ACTIVE:
            raise Problem(403, "member_not_active", "This membership is suspended or has ended.")
        self.member = member


class ProfileView(MemberView):
    """The address of the member; reading it is the storefront app's, which knows all of them."""

    scopes = {"PATCH": Scope.MEMBERS_WRITE}

    @operation(
        summary="Change what is known about a member",
        description="A suspended member earns and is evaluated as before, and redeems nothing.",
        body=ProfileBody,
        answers={200: MemberAnswer},
    )
    def patch(self, _request: Request, **_address: Any) -> Response:
        changes = self.read(ProfileBody).model_dump(exclude_unset=True)
        members.update_member(member=self.member, changes=changes, actor=self.actor, at=self.at)
        return Response(show_member(self.member))


def show_member(member: Member) -> dict[str, Any]:
    """Return a member as the API shows them."""
    return {
        "external_id": member.external_id,
        "kind": member.kind,
        "status": member.status,
        "locale": member.locale,
        "country": member.country,
        "birthday": member.birthday,
        "consents": member.consents,
        "joined_at": member.joined_at,
        "recorded_at": member.recorded_at,
    }


def _unknown() -> Problem:
    return Problem(404, "unknown_member", "The program has no member with this id.")

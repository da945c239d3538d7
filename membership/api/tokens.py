"""Tokens with which the browsers of members read what is theirs and spend it."""

from rest_framework.request import Request
from rest_framework.response import Response

from core.api.credentials import issue_token
from core.api.openapi import operation
from core.api.problems import Problem
from core.api.types import Answer, Instant
from core.models import Scope
from membership.api.members import MemberView
from membership.models import MemberStatus
from membership.services import tokens


class TokenAnswer(Answer):
    """A token of one member. It ends at `expires_at`, or with the key that issued it."""

    token: str
    expires_at: Instant


class TokensView(MemberView):
    scopes = {"POST": Scope.TOKENS_ISSUE}

    @operation(
        summary="Issue a token for a member's browser",
        description="For about 15 minutes its bearer reads what is the member's and redeems points, and may do nothing "
        "else. Hand it to a page on which the member has signed in, from an origin that the key allows.",
        answers={201: TokenAnswer},
    )
    def post(self, _request: Request, member: str) -> Response:
        if self.member.status != MemberStatus.ACTIVE:
            raise Problem(409, "member_not_active", "The membership is suspended or has ended.")
        token, expires_at = issue_token(self.caller, member=member, at=self.at)
        tokens.note_issued(member=self.member, actor=self.actor, expires_at=expires_at, at=self.at)
        return Response({"token": token, "expires_at": expires_at}, 201)

"""The wallets of a program with their policies, its earn rules, and the base of what is below a member's wallet."""

from datetime import datetime
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import operation
from core.api.pages import PageOf
from core.api.types import Answer
from core.api.views import ApiView
from core.models import Scope, VersionStatus
from membership.api.members import MemberView
from points.api.problems import unknown_wallet
from points.definitions import EarnRuleDefinition, WalletPolicy
from points.models import EarnRuleVersion, WalletVersion
from points.statement import OwnWallet, find_wallet


class WalletAnswer(Answer):
    """A wallet with the policy in force: which version, and since when (null: from the beginning)."""

    code: str
    name: str
    version: int
    effective_at: datetime | None
    policy: WalletPolicy


class WalletPage(PageOf):
    """The wallets of the program."""

    results: list[WalletAnswer]


class EarnRuleAnswer(Answer):
    """An earn rule as it is in force: which version, and since when (null: from the beginning)."""

    code: str
    version: int
    effective_at: datetime | None
    definition: EarnRuleDefinition


class EarnRulePage(PageOf):
    """The earn rules of the program."""

    results: list[EarnRuleAnswer]


class WalletListView(ApiView):
    scopes = {"GET": Scope.PROGRAMS_READ}
    is_open_to_members = True

    @operation(summary="List the wallets with the policies in force", answers={200: WalletPage})
    def get(self, _request: Request) -> Response:
        published = WalletVersion.objects.filter(owner__program=self.program, status=VersionStatus.PUBLISHED)
        return self.pages(
            published.select_related("owner").order_by("owner_id"),
            lambda version: {"name": version.owner.name, "policy": version.definition, **_show_version(version)},
        )


class EarnRuleListView(ApiView):
    scopes = {"GET": Scope.PROGRAMS_READ}
    is_open_to_members = True

    @operation(summary="List the earn rules in force", answers={200: EarnRulePage})
    def get(self, _request: Request) -> Response:
        published = EarnRuleVersion.objects.filter(owner__program=self.program, status=VersionStatus.PUBLISHED)
        return self.pages(
            published.select_related("owner").order_by("owner_id"),
            lambda version: {"definition": version.definition, **_show_version(version)},
        )


class WalletView(MemberView):
    """A view of one member's wallet, `<slug:wallet>` in its address."""

    own: OwnWallet

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let the caller in and read member, wallet and account.

        Raises: Problem 403, 404.
        """
        super().initial(request, *args, **kwargs)
        own = find_wallet(program=self.program, member_id=self.member.pk, code=kwargs["wallet"])
        if own is None:
            raise unknown_wallet()
        self.own = own


def _show_version(version: WalletVersion | EarnRuleVersion) -> dict[str, Any]:
    return {"code": version.owner.code, "version": version.number, "effective_at": version.effective_at}

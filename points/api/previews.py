"""What an order would earn, and why each line of an order earned what it earned or nothing."""

from datetime import datetime
from typing import Annotated, Any, Literal, cast

from django.utils.translation import get_language
from pydantic import Field, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

import membership.api.problems  # noqa: F401 a preview is refused as its order would be
from core.api.openapi import operation
from core.api.problems import Problem
from core.api.types import Answer, Body, Currency, Instant, Minor, Name
from core.api.views import ApiView
from core.models import Scope
from membership.api.members import MemberView
from membership.fact_inputs import OrderInput, OrderLineInput
from points.explain_orders import explain_line, explain_order
from points.models import AccrualReason, EarnRuleVersion, Wallet
from points.order_stories import LineEarned, LineStory, OrderStory, find_order, tell_order
from points.preview import WalletPreview, preview_order
from points.rules import LineAccrual

MAX_LINES = 500
Label = Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]


class PreviewLineBody(Body):
    """A line of the basket: what will be paid for it. `program_amount_minor` where the currency is another one.

    `paid_in_points_minor`: the part of the amount that will be paid in points, which earns none.
    """

    amount_minor: Minor
    program_amount_minor: Minor | None = None
    paid_in_points_minor: Minor = 0
    sku: Label = ""
    category: Label = ""


class PreviewBody(Body):
    """An order that has not been placed. `at`: when it would be paid (now, if left out)."""

    currency: Currency
    channel: Name = ""
    lines: Annotated[list[PreviewLineBody], Field(min_length=1, max_length=MAX_LINES)]
    at: Instant | None = None


class PreviewAccrualAnswer(Answer):
    """What a line (its position, from 0) would earn by a version of a rule."""

    line: int
    rule: str
    rule_version: int
    basis: int
    multiplier_bps: int
    points: int
    reason: Literal["earned", "below_one_point", "below_minimum", "nothing_paid"]


class PreviewWalletAnswer(Answer):
    """What the order would earn in a wallet, and from when to when the points could be used."""

    wallet: str
    points: int
    available_at: datetime
    expires_at: datetime | None
    accruals: list[PreviewAccrualAnswer]


class PreviewAnswer(Answer):
    """What the order would earn with the tier held (its code; empty without one). Nothing is promised or written."""

    at: datetime
    tier: str
    wallets: list[PreviewWalletAnswer]


class EarnedAnswer(Answer):
    """What a line earned in a wallet by a version of a rule; `seq` is the transaction's number in the wallet.

    `points_corrected`: what corrections have added, or taken back (negative), since.
    """

    wallet: str
    seq: int
    rule: str
    rule_version: int
    points: int
    points_taken_back: int
    points_corrected: int
    reason: Literal["earned", "below_one_point", "below_minimum", "nothing_paid", "not_covered"]


class LineExplanation(Answer):
    """A line of an order, what it earned, and why, in sentences."""

    order_line: str
    sku: str
    program_amount_minor: int
    earned: list[EarnedAnswer]
    sentences: list[str]


class OrderPointsExplanation(Answer):
    """Why an order earned what it earned, or nothing, in the language asked for (Accept-Language: en, zh-hans)."""

    order: str
    member: str | None
    language: str
    sentences: list[str]
    lines: list[LineExplanation]


class PreviewView(MemberView):
    scopes = {"POST": Scope.POINTS_READ}
    is_open_to_members = True

    @operation(summary="Work out what an order would earn", body=PreviewBody, answers={200: PreviewAnswer})
    def post(self, _request: Request, **_address: Any) -> Response:
        body = self.read(PreviewBody)
        self.refuse_unknown_places(body)
        order = _as_order(body, self.member.external_id, self.at)
        found = preview_order(program=self.program, member_id=self.member.pk, order=order)
        wallets = dict(Wallet.objects.filter(program=self.program).values_list("pk", "code"))
        rules = _rule_names(found.wallets)
        return Response({
            "at": order.paid_at,
            "tier": found.tier,
            "wallets": [_show_wallet(wallet, wallets, rules) for wallet in found.wallets],
        })  # fmt: skip


class OrderPointsExplanationView(ApiView):
    scopes = {"GET": Scope.POINTS_READ}

    @operation(
        summary="Explain what an order earned, line by line, and why nothing", answers={200: OrderPointsExplanation}
    )
    def get(self, _request: Request, order: str) -> Response:
        found = find_order(program=self.program, external_id=order)
        if found is None:
            raise Problem(404, "unknown_order", "The program has no order with this id.")
        story = tell_order(found, program=self.program)
        return Response({
            "order": story.order,
            "member": story.member or None,
            "language": get_language(),
            "sentences": explain_order(story),
            "lines": [_show_line(line, story) for line in story.lines],
        })  # fmt: skip


def _as_order(body: PreviewBody, member: str, at: datetime) -> OrderInput:
    told = [line.program_amount_minor for line in body.lines if line.program_amount_minor is not None]
    return OrderInput(
        external_id="preview",
        member=member,
        paid_at=body.at or at,
        currency=body.currency,
        amount_minor=sum(line.amount_minor for line in body.lines),
        program_amount_minor=sum(told) if len(told) == len(body.lines) else None,
        channel=body.channel,
        lines=tuple(
            OrderLineInput(external_id=str(position), units=1, **line.model_dump())
            for position, line in enumerate(body.lines)
        ),
    )


def _version_id(accrual: LineAccrual) -> int:
    return cast(int, accrual.rule_version_id)  # only a grant has none, and nothing of an order is one


def _rule_names(wallets: tuple[WalletPreview, ...]) -> dict[int, tuple[str, int]]:
    used = {_version_id(accrual) for wallet in wallets for accrual in wallet.accruals}
    rows = EarnRuleVersion.objects.filter(pk__in=used).order_by().values_list("pk", "owner__code", "number")
    return {pk: (code, number) for pk, code, number in rows}


def _show_wallet(wallet: WalletPreview, wallets: dict[int, str], rules: dict[int, tuple[str, int]]) -> dict[str, Any]:
    return {
        "wallet": wallets[wallet.wallet_id],
        "points": wallet.points,
        "available_at": wallet.available_at,
        "expires_at": wallet.expires_at,
        "accruals": [
            {
                "line": accrual.source_id,
                "rule": rules[_version_id(accrual)][0],
                "rule_version": rules[_version_id(accrual)][1],
                "basis": accrual.basis,
                "multiplier_bps": accrual.multiplier_bps,
                "points": accrual.points,
                "reason": AccrualReason(accrual.reason).name.lower(),
            }
            for accrual in wallet.accruals
        ],
    }


def _show_line(line: LineStory, story: OrderStory) -> dict[str, Any]:
    return {
        "order_line": line.line,
        "sku": line.sku,
        "program_amount_minor": line.amount_minor,
        "earned": [_show_earned(part) for part in line.earned],
        "sentences": explain_line(line, story),
    }


def _show_earned(part: LineEarned) -> dict[str, Any]:
    return {
        "wallet": part.wallet,
        "seq": part.seq,
        "rule": part.earned.rule.code,
        "rule_version": part.earned.rule.version,
        "points": part.earned.points,
        "points_taken_back": part.taken_back,
        "points_corrected": part.points_corrected,
        "reason": part.earned.reason.name.lower(),
    }

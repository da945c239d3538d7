"""The first page of the admin: how a program does, and whether its jobs keep up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.cache import cache
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import get_language, gettext

from analytics import figures
from analytics.figures import ActiveMembers, Outstanding, TierCount, WalletMonths
from core.models import Program
from membership.models import Ladder
from storefront.health import read_health

# Counting a million members takes two seconds: once a minute is enough.
CACHE_SECONDS = 60
FLOWS = ("earned", "redeemed", "expired", "clawed_back")


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart. Units: percent of the chart's height."""

    flow: str
    label: str
    points: int
    height: float


@dataclass(frozen=True, slots=True)
class WalletChart:
    """A wallet's months, each with its bars."""

    wallet: WalletMonths
    groups: list[tuple[figures.WalletMonth, list[Bar]]]
    is_empty: bool


@dataclass(frozen=True, slots=True)
class TierShare:
    """A tier's members. Units: percent of the members of the ladder."""

    tier: TierCount
    percent: float


@dataclass(frozen=True, slots=True)
class MemberFigures:
    """Who is active, and who holds what."""

    at: datetime
    active: ActiveMembers
    ladders: list[tuple[Ladder, list[TierShare]]]


@dataclass(frozen=True, slots=True)
class PointFigures:
    """What members have, and what moved."""

    at: datetime
    outstanding: list[Outstanding]
    charts: list[WalletChart]


def build(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the dashboard shows to its context: of one program, and of what the operator may see."""
    user, at = request.user, timezone.now()
    programs = list(Program.objects.order_by("is_sandbox", "code"))
    sees = {
        "members": user.has_perm("membership.view_member"),
        "points": user.has_perm("points.view_ledgertransaction"),
        "health": user.has_perm("storefront.view_dayclose"),
    }
    context |= {"programs": programs, "sees": sees, "title": gettext("Dashboard"), "is_empty": not programs}
    if not programs or not any(sees.values()):
        return context
    asked = request.GET.get("program")
    program = next((one for one in programs if one.code == asked), programs[0])
    context |= {"program": program, "has_members": figures.has_members(program=program)}
    if sees["members"]:
        context["members"] = _cached("members", program, lambda: _member_figures(program, at))
    if sees["points"]:
        context["points"] = _cached("points", program, lambda: _point_figures(program, at))
    if sees["health"]:
        context["health"] = read_health(program=program, at=at)
    return context


def _cached(name: str, program: Program, compute: Any) -> Any:
    key = f"dashboard:{name}:{program.pk}:{program.revision}:{get_language()}"  # what is kept has words in it
    return cache.get_or_set(key, compute, CACHE_SECONDS)


def _member_figures(program: Program, at: datetime) -> MemberFigures:
    ladders = Ladder.objects.filter(program=program).order_by("pk")
    return MemberFigures(
        at=at,
        active=figures.count_active_members(program=program, at=at),
        ladders=[(ladder, _shares(figures.count_tiers(ladder=ladder, at=at))) for ladder in ladders],
    )


def _shares(counts: list[TierCount]) -> list[TierShare]:
    whole = sum(count.members for count in counts) or 1
    return [TierShare(count, round(count.members * 100 / whole, 1)) for count in counts]


def _point_figures(program: Program, at: datetime) -> PointFigures:
    return PointFigures(
        at=at,
        outstanding=figures.list_outstanding(program=program, at=at),
        charts=[_chart(wallet) for wallet in figures.list_wallet_months(program=program, at=at)],
    )


def _chart(wallet: WalletMonths) -> WalletChart:
    labels = flow_labels()
    highest = max(max(getattr(month, flow) for flow in FLOWS) for month in wallet.months)

    def bar(month: figures.WalletMonth, flow: str) -> Bar:
        points: int = getattr(month, flow)
        return Bar(flow, labels[flow], points, round(max(points, 0) * 100 / highest, 2) if highest > 0 else 0)

    groups = [(month, [bar(month, flow) for flow in FLOWS]) for month in wallet.months]
    return WalletChart(wallet, groups, highest <= 0)


def flow_labels() -> dict[str, str]:
    """Return what each kind of movement is called."""
    return {
        "earned": gettext("Earned"),
        "redeemed": gettext("Redeemed"),
        "expired": gettext("Expired"),
        "clawed_back": gettext("Clawed back"),
    }

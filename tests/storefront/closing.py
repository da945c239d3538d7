"""Shops whose days are closed: what they sell, what their members do, and what stands in the database afterwards."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from analytics.models import MemberMonth
from core.calendar import day_start
from core.models import Program
from membership.fact_inputs import ActivityInput, MemberInput, OrderInput, RefundInput
from membership.models import DirtyMember, TierPeriod
from membership.services.members import enroll_members
from points.models import Account, Accrual, ExpiryReminder, LedgerEntry
from storefront.models import DayClose, DayCloseStep
from storefront.services import day_close, intake, program_file
from tests.storefront.shop import Fact, order, refund, review, tier

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
LONG_AGO = datetime(2015, 1, 1, tzinfo=UTC)
MEMBERS = tuple(f"m{n}" for n in range(5))


def definition(code: str, zone: str, *, has_multiplier: bool) -> dict[str, Any]:
    """Tiers by a short window, so that they fall too; points that vest after a day and live for eight."""

    def window(cut: str, days: int) -> dict[str, Any]:
        one = {"metric": "net_spend", "at_least": cut, "window": {"rolling_days": days}}
        return {"any_of": [{"all_of": [one]}]}

    tiers = [{"code": "basic", "name": "Basic"}]
    tiers += [tier(name, "0.00", more) | {"entry": window(cut, 4)}
              for name, cut, more in (("silver", "100.00", "1.5"), ("gold", "300.00", "2"))]  # fmt: skip
    club = [{"code": "guest", "name": "Guest"}, {"code": "regular", "name": "Regular", "entry": window("200.00", 30)}]
    spend = {"trigger": "order_line", "formula": {"points": 1, "per": "1.00"}}
    return {
        "program": {"code": code, "name": code, "currency": "GBP", "time_zone": zone},
        "ladders": [
            {"code": "main", "name": "Tiers", "upgrade": "immediate", "evaluation": {"every": "day"}, "tiers": tiers},
            {"code": "club", "name": "Club", "upgrade": "at_evaluation", "evaluation": {"every": "month"},
             "tiers": club},
        ],
        "wallets": [
            {"code": "points", "name": "Points", "expiry_days": 8, "pending_days": 1, "reminder_days": 6},
            {"code": "gems", "name": "Gems", "expiry_days": 2, "reminder_days": 0},
        ],
        "earn_rules": [
            {"code": "spend", "name": "Spend", "wallet": "points", "tier_multiplier": has_multiplier} | spend,
            {"code": "gem", "name": "Gems", "wallet": "gems"} | spend,
            {"code": "review", "name": "Reviews", "wallet": "points", "trigger": "activity",
             "activity_kinds": ["review"], "formula": {"fixed": 5}},
        ],
    }  # fmt: skip


def open_shop(
    folder: Path, code: str = "shop", zone: str = "Europe/London", *, has_multiplier: bool = True,
    joined_at: datetime = LONG_AGO,
) -> Program:  # fmt: skip
    path = folder / f"{code}.yaml"
    path.write_text(json.dumps(definition(code, zone, has_multiplier=has_multiplier)))
    program = program_file.apply(program_file.load(path), at=LONG_AGO, actor="test")
    members = [MemberInput(external_id=name, joined_at=joined_at) for name in MEMBERS]
    enroll_members(program=program, members=members, at=joined_at)
    return program


class Arrival(NamedTuple):
    """A fact and when the shop told it."""

    recorded_at: datetime
    fact: Fact


def tell(program: Program, arrivals: Sequence[Arrival]) -> None:
    """Tell facts, each at its instant of recording."""
    for recorded_at, fact in arrivals:
        intake.record(
            program=program,
            orders=[fact] if isinstance(fact, OrderInput) else [],
            refunds=[fact] if isinstance(fact, RefundInput) else [],
            activities=[fact] if isinstance(fact, ActivityInput) else [],
            at=recorded_at,
        )


def draw_arrivals(random: Random, zone: str, first: date, days: int, *, has_late: bool) -> list[Arrival]:
    """Draw facts near the starts of days and within them, in the order in which they are told; some come days late."""
    arrivals = []
    for n in range(days * 3):
        at = _instant(random, zone, first, days)
        member = random.choice(MEMBERS)
        name = f"o{n}"
        if n % 4 == 3:
            arrivals.append(Arrival(at, review(name, at=at, member=member)))
            continue
        units, minor = random.choice([2, 3, 4]), random.choice([900, 4_000, 12_000, 32_000])
        told_at = at + random.choice([1, 2, 4]) * DAY if has_late and n % 3 == 1 else at
        arrivals.append(Arrival(told_at, order(name, (units, minor), at=at, member=member)))
        if n % 2:
            # Some units come back, never all of them.
            back_at = max(at, _instant(random, zone, first, days))
            back_told_at = max(told_at, back_at) + (random.choice([0, 2, 3]) * DAY if has_late else timedelta())
            part = (f"{name}.1", random.randint(1, units - 1), minor // units)
            arrivals.append(Arrival(back_told_at, refund(f"r{n}", part, at=back_at, member=member)))
    return sorted(arrivals, key=lambda arrival: (arrival.recorded_at, isinstance(arrival.fact, RefundInput)))


def _instant(random: Random, zone: str, first: date, days: int) -> datetime:
    start = day_start(first + random.randrange(days) * DAY, zone)
    offset = random.choice([timedelta(), timedelta(microseconds=1), timedelta(minutes=random.randrange(1_440))])
    return start + offset


def run(program: Program, arrivals: Sequence[Arrival], closes: Sequence[datetime], *, until: datetime) -> None:
    """Let time pass: facts are told when they come, and at each of the instants all days that are due are closed."""
    waiting = list(arrivals)
    for at in [*closes, until]:
        told = [arrival for arrival in waiting if arrival.recorded_at < at]
        waiting = waiting[len(told) :]
        tell(program, told)
        for day in day_close.list_due_days(program=program, at=at):
            day_close.close_day(program=program, day=day, at=at)


def outcome(program: Program) -> dict[str, Any]:
    """Return what closes bring about, without the instants of recording and the ids."""
    of_program = {"member__program": program}
    live = TierPeriod.objects.filter(superseded_at=None, **of_program)
    return {
        "tiers": sorted(live.values_list(
            "member__external_id", "ladder__code", "valid_from", "tier__code", "cause", "guaranteed_until")),
        "entries": Counter(LedgerEntry.objects.filter(**of_program).values_list(
            "member__external_id", "transaction__wallet__code", "transaction__kind", "transaction__effective_at",
            "from_bucket", "to_bucket", "points")),
        "accruals": Counter(Accrual.objects.filter(**of_program).values_list(
            "member__external_id", "wallet__code", "basis", "multiplier_bps", "points")),
        "accounts": sorted(Account.objects.filter(**of_program).values_list(
            "member__external_id", "wallet__code", "available", "pending", "held", "debt", "next_due_at")),
        "months": sorted(MemberMonth.objects.filter(program=program).values_list(
            "member__external_id", "month", "first_month", "tier_start__code", "orders", "net_minor")),
        "reminders": sorted(ExpiryReminder.objects.filter(**of_program).values_list(
            "member__external_id", "wallet__code", "expires_at")),
        "dirty": DirtyMember.objects.filter(**of_program).count(),
    }  # fmt: skip


def days_closed(program: Program) -> list[date]:
    finished = DayClose.objects.filter(program=program).exclude(finished_at=None)
    return sorted(finished.values_list("day", flat=True))


def steps_of(program: Program) -> list[tuple[str, bool]]:
    """Return the steps of the last close in their order, and whether each has finished."""
    last = DayClose.objects.filter(program=program).order_by("-day").first()
    steps = DayCloseStep.objects.filter(close=last).order_by("position")
    return [(step.name, step.finished_at is not None) for step in steps]

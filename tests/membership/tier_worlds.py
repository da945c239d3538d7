"""Small programs with one ladder, told through the services, for the tests of tiers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Self

from core.models import Program
from core.versions import publish
from membership.fact_inputs import ActivityInput, CreditInput, MemberInput, OrderInput, RefundInput
from membership.models import Ladder, Tier, TierPeriod
from membership.services import facts, members, tiers

_numbers = count(1)


def spend(at_least: str, window: Any, metric: str = "net_spend") -> dict[str, Any]:
    """Return a requirement of one metric."""
    value: object = at_least if metric == "net_spend" else int(at_least)
    return {"any_of": [{"all_of": [{"metric": metric, "at_least": value, "window": window}]}]}


YEAR_OF_DAYS = {"rolling_days": 365}


def cuts(*amounts: str, window: Any = YEAR_OF_DAYS, **policies: Any) -> dict[str, Any]:
    """Return a ladder of tiers t0, t1, ... by net spend."""
    return {
        "upgrade": "at_evaluation",
        "evaluation": {"every": "month"},
        **policies,
        "tiers": [
            {"code": "t0", "name": "T0"},
            *({"code": f"t{i}", "name": f"T{i}", "entry": spend(cut, window)} for i, cut in enumerate(amounts, 1)),
        ],
    }


def utc(text: str) -> datetime:
    """Return the instant of a text such as `2026-03-01` or `2026-03-01T09:30`, read as UTC unless it has a zone."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@dataclass
class World:
    """A program with one ladder. Recording instants count up by a second from 2030, so they tell what came when."""

    program: Program
    ladder: Ladder
    clock: int = 0
    ids: dict[str, int] = field(default_factory=dict)

    @classmethod
    def create(cls, definition: dict[str, Any], time_zone: str = "UTC") -> Self:
        code = f"p{next(_numbers)}"
        program = Program.objects.create(code=code, name=code, currency="GBP", time_zone=time_zone)
        ladder = Ladder.objects.create(program=program, code="main", name="Main")
        Tier.objects.bulk_create(Tier(ladder=ladder, code=t["code"], name=t["name"]) for t in definition["tiers"])
        publish(ladder, definition, at=utc("2000-01-01"))
        return cls(program, ladder)

    def now(self) -> datetime:
        self.clock += 1
        return datetime.fromtimestamp(1_893_456_000 + self.clock, tz=UTC)

    def join(self, name: str = "m", at: str = "2026-02-01") -> int:
        enrolled = members.enroll_members(
            program=self.program, members=[MemberInput(external_id=name, joined_at=utc(at))], at=self.now()
        )
        self.ids[name] = enrolled.ids[name]
        return self.ids[name]

    def order(self, at: str | datetime, minor: int, name: str = "m", order_id: str = "") -> str:
        external_id = order_id or f"o{next(_numbers)}"
        instant = utc(at) if isinstance(at, str) else at
        told = OrderInput(external_id=external_id, member=name, paid_at=instant, currency="GBP", amount_minor=minor)
        self.tell(orders=[told])
        return external_id

    def refund(self, at: str | datetime, minor: int, name: str = "m", order: str = "") -> None:
        instant = utc(at) if isinstance(at, str) else at
        told = RefundInput(
            external_id=f"r{next(_numbers)}",
            member=name,
            refunded_at=instant,
            currency="GBP",
            amount_minor=minor,
            order=order,
        )
        self.tell(refunds=[told])

    def visit(self, at: str | datetime, name: str = "m", kind: str = "visit") -> None:
        instant = utc(at) if isinstance(at, str) else at
        told = ActivityInput(external_id=f"a{next(_numbers)}", member=name, kind=kind, occurred_at=instant)
        self.tell(activities=[told])

    def credit(self, at: str | datetime, credits: int, name: str = "m") -> None:  # noqa: A002
        instant = utc(at) if isinstance(at, str) else at
        told = CreditInput(
            member=name, source=f"test:{next(_numbers)}", rule="r", credits=credits, effective_at=instant
        )
        now = self.now()
        recorded = facts.record_credits(program=self.program, credits=[told], at=now)
        tiers.follow_facts(program=self.program, recorded=recorded, at=now)

    def tell(
        self,
        orders: Sequence[OrderInput] = (),
        refunds: Sequence[RefundInput] = (),
        activities: Sequence[ActivityInput] = (),
    ) -> None:
        now = self.now()
        recorded = facts.record_facts(
            program=self.program, orders=orders, refunds=refunds, activities=activities, at=now
        )
        tiers.follow_facts(program=self.program, recorded=recorded, at=now)

    def evaluate(self, *instants: str | datetime, chunk_size: int = 100_000) -> None:
        for instant in instants:
            self.ladder.refresh_from_db()
            moment = utc(instant) if isinstance(instant, str) else instant
            tiers.evaluate(ladder=self.ladder, instant=moment, at=self.now(), chunk_size=chunk_size)

    def close(self, *instants: str | datetime) -> None:
        """Do what the closes that end at these instants do for tiers: late facts, evaluations, reviews of returns."""
        for instant in instants:
            through = utc(instant) if isinstance(instant, str) else instant
            self.ladder.refresh_from_db()
            tiers.apply_dirty(ladder=self.ladder, at=self.now())
            self.evaluate(*tiers.list_due(ladder=self.ladder, until=through))
            self.ladder.refresh_from_db()
            tiers.apply_dirty(ladder=self.ladder, through=through, at=self.now())

    def rows(self, name: str = "m") -> list[tuple[str, str, str]]:
        """Return the live rows as (valid_from, tier, cause), instants as short texts in UTC."""
        live = TierPeriod.objects.filter(member_id=self.ids[name], ladder=self.ladder, superseded_at=None)
        return [
            (short(valid_from), tier, cause)
            for valid_from, tier, cause in live.order_by("valid_from").values_list("valid_from", "tier__code", "cause")
        ]

    def full_rows(self, name: str = "m") -> list[tuple[datetime, str, str, datetime | None]]:
        live = TierPeriod.objects.filter(member_id=self.ids[name], ladder=self.ladder, superseded_at=None)
        columns = ("valid_from", "tier__code", "cause", "guaranteed_until")
        return list(live.order_by("valid_from").values_list(*columns))


def short(at: datetime) -> str:
    """Return `2026-03-01`, or `2026-03-01T09:30`, or the whole text with microseconds."""
    text = at.astimezone(UTC).isoformat().removesuffix("+00:00")
    return text.removesuffix(":00").removesuffix("T00:00")

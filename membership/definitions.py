"""The shape of a ladder version, in the program file and in the database."""

from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializationInfo,
    StringConstraints,
    ValidationInfo,
    field_serializer,
    model_validator,
)

from core.calendar import Period
from core.definitions import Code, Definition, Multiplier, Share, read_money, write_money

Metric = Literal["net_spend", "order_count", "credits", "active_days"]


class RollingWindow(Definition):
    """The N local days that end with the last local day that began before the instant."""

    rolling_days: Annotated[int, Field(ge=1, le=3660)]


class CalendarWindow(Definition):
    """The calendar period of the last local day that began before the instant, up to that day."""

    calendar: Period


Window = RollingWindow | CalendarWindow | Literal["lifetime"]


def _read_threshold(value: object, info: ValidationInfo) -> int:
    if info.data.get("metric") == "net_spend":
        return read_money(value, info)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("write a whole number")


class Requirement(Definition):
    """`metric >= at_least` over the window. net_spend in minor units of the program's currency, all else counts."""

    metric: Metric
    at_least: Annotated[int, BeforeValidator(_read_threshold), Field(ge=0)]
    window: Window

    @field_serializer("at_least")
    def _write_threshold(self, value: int, info: SerializationInfo) -> int | str:
        return write_money(value, info) if self.metric == "net_spend" else value


class AllOf(Definition):
    all_of: Annotated[tuple[Requirement, ...], Field(min_length=1)]


class AnyOf(Definition):
    any_of: Annotated[tuple[AllOf, ...], Field(min_length=1)]


class Benefits(Definition):
    """What a tier gives: times the points, `discount` off the list price of each line, shipping for nothing."""

    points_multiplier: Multiplier = 10_000
    discount: Share | None = None
    free_shipping: bool = False


class TierDefinition(Definition):
    """A rung. `stay` is what keeps the tier, where it differs from `entry`."""

    code: Code
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    entry: AnyOf | None = None
    stay: AnyOf | None = None
    benefits: Benefits = Field(default_factory=lambda: Benefits(points_multiplier="1"))


class Evaluation(Definition):
    """When every member is evaluated: at 00:00 local, each day, the 1st of each month, or a date of the year."""

    every: Literal["day", "month", "year"]
    on: Annotated[str, StringConstraints(pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])$")] = "01-01"


class Downgrade(Definition):
    """What an evaluation does with a member who no longer qualifies for the tier held.

    `after_grace`: the first failing evaluation grants `grace_days`; one that still fails after them downgrades.
    `to`: the highest lower tier they qualify for, or one tier at a time (soft landing).
    """

    when: Literal["never", "at_evaluation", "after_grace"] = "at_evaluation"
    grace_days: Annotated[int, Field(ge=0, le=3660)] = 0
    to: Literal["qualified", "one_tier"] = "qualified"


class LadderDefinition(Definition):
    upgrade: Literal["immediate", "at_evaluation"]
    evaluation: Evaluation
    downgrade: Downgrade = Downgrade()
    minimum_stay_days: Annotated[int, Field(ge=0, le=3660)] = 0
    tiers: Annotated[tuple[TierDefinition, ...], Field(min_length=2, max_length=50)]

    @model_validator(mode="after")
    def _check_rungs(self) -> Self:
        codes = [tier.code for tier in self.tiers]
        if len(set(codes)) != len(codes):
            raise ValueError("two tiers have the same code")
        if self.tiers[0].entry or self.tiers[0].stay:
            raise ValueError("the lowest tier has no requirement")
        missing = [tier.code for tier in self.tiers[1:] if tier.entry is None]
        if missing:
            raise ValueError(f"tier {missing[0]} needs an entry requirement")
        if (self.downgrade.when == "after_grace") != (self.downgrade.grace_days > 0):
            raise ValueError("grace_days goes with downgrade: {when: after_grace}, and is at least 1 there")
        return self

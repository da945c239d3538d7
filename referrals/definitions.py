"""The shape of a referral policy, in the program file and in the database."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from core.definitions import Code, Definition, Money

MOST_POINTS = 1_000_000
DEEPEST = 2


def _read_depth(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and value > DEEPEST:
        raise ValueError(
            f"{value} levels are refused: pay for the friends of friends of friends is what the laws against pyramid "
            f"selling name; at most {DEEPEST}, by market"
        )
    return value


class PointsReward(Definition):
    """So many points of a wallet."""

    points: Annotated[int, Field(ge=1, le=MOST_POINTS)]
    wallet: Code


class CouponReward(Definition):
    """A coupon of a definition."""

    coupon: Code


Reward = PointsReward | CouponReward
# What a reward is for: the friend's first order that counts, or the friend's joining.
Trigger = Literal["first_order", "enrollment"]


class SidePoints(PointsReward):
    """Points of one side of a referral. `trigger`: what they are for; left out, what the policy says."""

    trigger: Trigger | None = None


class SideCoupon(CouponReward):
    """A coupon of one side of a referral. `trigger`: what it is for; left out, what the policy says."""

    trigger: Trigger | None = None


SideReward = SidePoints | SideCoupon


class Milestone(Definition):
    """One reward more for a referrer whose direct friends have qualified so many times."""

    invitees: Annotated[int, Field(ge=1, le=10_000)]
    reward: Reward


class Chain(Definition):
    """How deep rewards go in a market. At depth 2 who brought the referrer has `reward`, so often a month at most."""

    market: Code
    depth: Annotated[Literal[1, 2], BeforeValidator(_read_depth)]
    reward: Reward | None = None
    at_most_per_month: Annotated[int, Field(ge=1, le=10_000)] | None = None

    @model_validator(mode="after")
    def _second_level_is_capped(self) -> Self:
        is_told = self.reward is not None and self.at_most_per_month is not None
        if self.depth == DEEPEST and not is_told:
            raise ValueError("depth 2 needs a reward and at_most_per_month")
        if self.depth != DEEPEST and (self.reward is not None or self.at_most_per_month is not None):
            raise ValueError("reward and at_most_per_month go with depth 2")
        return self


class ReferralTerms(Definition):
    """Who is rewarded for a referral, for what and when.

    `attribution_days`: how long after joining a code can be told, and how long after a click it counts.
    `trigger`: the friend's first order of `minimum_order` or more, or the enrollment itself; a side may have its own.
    `minimum_order`: of goods, without shipping and without what was paid in points.
    `return_days`: an order counts once so many days have passed and it is still worth `minimum_order`, net of refunds.
    `minutes_before_joining`: an order paid so shortly before the friend joined is taken as made on joining.
    `referrer`, `referee`: the rewards of both sides; left out: none. `at_most_per_month`: of the referrer's rewards.
    `chains`: markets in which rewards go deeper than one level; by the market of the order.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    attribution_days: Annotated[int, Field(ge=1, le=366)] = 30
    trigger: Trigger = "first_order"
    minimum_order: Annotated[Money, Field(ge=0)] = Field(default=0)
    return_days: Annotated[int, Field(ge=0, le=366)] = 14
    minutes_before_joining: Annotated[int, Field(ge=0, le=1_440)] = 60
    referrer: SideReward | None = None
    referee: SideReward | None = None
    at_most_per_month: Annotated[int, Field(ge=1, le=10_000)] | None = None
    milestones: tuple[Milestone, ...] = ()
    chains: tuple[Chain, ...] = ()

    @model_validator(mode="after")
    def _nothing_is_told_twice(self) -> Self:
        if len({chain.market for chain in self.chains}) < len(self.chains):
            raise ValueError("chains: a market is there twice")
        if len({milestone.invitees for milestone in self.milestones}) < len(self.milestones):
            raise ValueError("milestones: a number of invitees is there twice")
        return self

    @model_validator(mode="after")
    def _heads_are_not_paid(self) -> Self:
        if not self.awaits_order and any(chain.depth == DEEPEST for chain in self.chains):
            raise ValueError("chains: depth 2 goes with trigger: first_order; a second level is paid for orders alone")
        return self

    def trigger_of(self, level: int) -> Trigger:
        """Return what the reward of a level is for: 0 the referee's, 1 the referrer's, 2 that of the second level."""
        if level == DEEPEST:
            return "first_order"
        side = self.referee if level == 0 else self.referrer
        return self.trigger if side is None or side.trigger is None else side.trigger

    @property
    def awaits_order(self) -> bool:
        """Whether a referral qualifies by an order; otherwise the enrollment is enough."""
        return "first_order" in {self.trigger, self.trigger_of(0), self.trigger_of(1)}

    @property
    def pays_for_enrollment(self) -> bool:
        """Whether something is given for the enrollment itself."""
        return not self.awaits_order or "enrollment" in {self.trigger_of(0), self.trigger_of(1)}

    def list_rewards(self) -> list[Reward]:
        """Return every reward that is named."""
        named = [self.referrer, self.referee, *(milestone.reward for milestone in self.milestones)]
        return [reward for reward in [*named, *(chain.reward for chain in self.chains)] if reward is not None]

    def chain_of(self, market: str) -> Chain | None:
        """Return the second level of a market, None where there is one level only."""
        return next((chain for chain in self.chains if chain.market == market and chain.depth == DEEPEST), None)

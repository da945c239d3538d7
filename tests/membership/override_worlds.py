"""A world whose clock is set by hand, so that overrides begin and end among its facts and evaluations."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from membership.models import Member, Tier, TierOverride
from membership.selectors import tiers_at
from membership.services import overrides
from tests.membership.tier_worlds import World, utc


@dataclass
class ClockedWorld(World):
    """`moment` is what time it is; each recording is one microsecond after the one before, or at the moment."""

    moment: datetime = field(default_factory=lambda: utc("2026-01-01"))

    def now(self) -> datetime:
        self.moment += timedelta(microseconds=1)
        return self.moment

    def go(self, at: str | datetime) -> None:
        """Let it be a later instant."""
        self.moment = max(self.moment, utc(at) if isinstance(at, str) else at)

    def member(self, name: str = "m") -> Member:
        return Member.objects.get(pk=self.ids[name])

    def tier(self, code: str) -> Tier:
        return Tier.objects.get(ladder=self.ladder, code=code)

    def override(self, tier: str, until: str | datetime, name: str = "m", at: datetime | None = None) -> TierOverride:
        return overrides.override_tier(
            member=self.member(name),
            ladder=self.ladder,
            tier=self.tier(tier),
            valid_until=utc(until) if isinstance(until, str) else until,
            reason="a complaint",
            decided_by="ops",
            at=at or self.now(),
        )

    def lift(self, name: str = "m") -> TierOverride:
        return overrides.lift_override(
            member=self.member(name), ladder=self.ladder, reason="settled", decided_by="ops", at=self.now()
        )

    def held(self, at: str | datetime, name: str = "m") -> tuple[str, datetime | None]:
        """Return the tier held at an instant and the instant until which it is guaranteed."""
        instant = utc(at) if isinstance(at, str) else at
        row = tiers_at(ladder_id=self.ladder.pk, at=instant, member_ids=[self.ids[name]]).get()
        return row.tier.code, row.guaranteed_until

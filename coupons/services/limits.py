"""How many claims of a definition there may be, counted in one row or in several."""

from django.db import transaction

from coupons import locks
from coupons.models import Claim, ClaimState, CounterShard, CouponDefinition


class LimitBelowUsed(Exception):
    """There are more claims than the new limit allows; nothing was changed."""

    def __init__(self, limit: int, used: int) -> None:
        super().__init__(f"{used:,} given out already, so the limit cannot be {limit:,}")
        self.limit, self.used = limit, used


@transaction.atomic
def set_limit(*, definition: CouponDefinition, limit: int | None, shards: int = 1) -> None:
    """Let there be so many claims of a definition in all; None: without limit.

    What is free is spread evenly over the first `shards` counters. One that is no longer wanted keeps what was taken
    from it, so that it can be given back there.

    Raises: LimitBelowUsed.
    Locks: the definition's counters.
    """
    present = locks.lock_shards(definition.pk)
    if limit is None:
        CounterShard.objects.filter(definition=definition).delete()
        return
    # Claims from before the first limit count as taken from the first counter.
    used = [shard.used for shard in present] if present else [_count(definition)]
    free = limit - sum(used)
    if free < 0:
        raise LimitBelowUsed(limit, sum(used))
    used += [0] * (shards - len(used))
    for number, taken in enumerate(used):
        share = free // shards + (number < free % shards) if number < shards else 0
        CounterShard.objects.update_or_create(
            definition=definition,
            shard=number,
            defaults={"limit": taken + share},
            create_defaults={"limit": taken + share, "used": taken},
        )


def find_problem(*, definition: CouponDefinition, limit: int | None) -> str:
    """Return why a limit cannot be set, empty if it can: for a draft, before it is published."""
    shards = CounterShard.objects.filter(definition=definition).values_list("used", flat=True)
    used = sum(shards) if shards else _count(definition)
    return "" if limit is None or used <= limit else str(LimitBelowUsed(limit, used))


def _count(definition: CouponDefinition) -> int:
    return Claim.objects.filter(definition=definition).exclude(state=ClaimState.REVOKED).count()

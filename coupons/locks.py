"""The row locks of coupons. Order: the member's row (membership's), then the counters of definitions, ascending.

Whoever claims, holds, commits, releases, reverses or revokes locks the member first: of two writes of one member the
second sees the first. A claim then takes from one counter by a conditional UPDATE, which holds that row until the
transaction ends; it never waits for a second one of the same definition while it holds one.
"""

from coupons.models import CounterShard


def lock_shards(definition_id: int) -> list[CounterShard]:
    """Lock the counters of a definition, ascending, until the transaction ends: who claims waits."""
    shards = CounterShard.objects.select_for_update(no_key=True)
    return list(shards.filter(definition=definition_id).order_by("shard"))

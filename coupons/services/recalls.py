"""A wrong coupon is out: one act ends it and revokes what members have been given and not used."""

from collections import Counter
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, QuerySet

from core import locks as core_locks
from core import versions
from core.models import Program
from core.services import audit
from coupons import locks
from coupons.models import Claim, ClaimState, CouponDefinition, CouponRecall
from coupons.services import persons
from coupons.services.claims import publish_revoked
from membership.locks import lock_members

# Claims that one transaction revokes: their members wait for it as long as a request may take.
CHUNK = 500


@transaction.atomic
def recall(
    *,
    program: Program,
    definition: CouponDefinition,
    reason: str,
    at: datetime,
    actor: str = "",
    user: User | None = None,
) -> CouponRecall:
    """End a coupon and call back every claim of it that is open; none can be used from now on. A worker revokes them.

    What a checkout holds can still be paid; given back instead, it is revoked. The coupon may be published anew:
    claims made from then on are sound.

    Raises: VersionOverlap if the published version takes effect at `at` or later.
    Locks: the program's row, then the definition's.
    Idempotency: called back again while nothing is in force and nothing was claimed since, it is the same recall.
    """
    core_locks.lock_row(program)
    core_locks.lock_row(definition)
    ended = versions.end(definition, at=at)
    last = definition.recalls.order_by("-id").first()
    if last is not None and ended is None and not _open_claims(definition, made_after=last.recalled_at).exists():
        return last
    made = CouponRecall.objects.create(
        definition=definition, reason=reason, recalled_by=user.get_username() if user else actor, recalled_at=at
    )
    audit.record(
        action="coupon.recalled",
        target=f"coupon {definition.code}",
        actor=made.recalled_by,
        user=user,
        program=program,
        reason=reason,
        before={"version": ended.number if ended else None},
        after={"open": _open_claims(definition).count()},
        at=at,
    )
    return made


def revoke_recalled(*, recall_id: int, at: datetime, chunk: int = CHUNK) -> int:
    """Revoke the open claims that a recall is about, chunk by chunk, and return how many this call revoked.

    Each chunk is a transaction: a worker that is killed loses one, and the next goes on.

    Locks: the members of a chunk, ascending; then the counters of the definition.
    """
    revoked = 0
    while count := _revoke_chunk(recall_id, at, chunk):
        revoked += count
    CouponRecall.objects.filter(pk=recall_id, finished_at=None).update(finished_at=at)
    return revoked


def list_unfinished() -> list[int]:
    """Return the recalls that still have claims to revoke."""
    return list(CouponRecall.objects.filter(finished_at=None).order_by("id").values_list("id", flat=True))


@transaction.atomic
def _revoke_chunk(recall_id: int, at: datetime, chunk: int) -> int:
    found = CouponRecall.objects.select_related("definition__program").get(pk=recall_id)
    made = {"definition": found.definition, "claimed_at__lte": found.recalled_at, "state": ClaimState.OPEN}
    picked = dict(Claim.objects.filter(**made).order_by("member").values_list("pk", "member_id")[:chunk])
    if not picked:
        return 0
    lock_members(set(picked.values()))
    open_claims = Claim.objects.filter(pk__in=picked, state=ClaimState.OPEN)
    claims = list(open_claims.order_by("pk").values_list("pk", "shard"))
    open_claims.update(state=ClaimState.REVOKED, revoked_at=at)
    persons.free(definition_id=found.definition_id, member_ids=set(picked.values()))
    _free_counters(found.definition, Counter(shard or 0 for _, shard in claims))
    CouponRecall.objects.filter(pk=recall_id).update(revoked=F("revoked") + len(claims))
    publish_revoked(found.definition.program, [pk for pk, _ in claims], at)
    return len(picked)


def _free_counters(definition: CouponDefinition, places: Counter[int]) -> None:
    """Give places back to the counters they were taken from; what one does not have was counted in the first."""
    shards = locks.lock_shards(definition.pk)
    left = places.total()
    for shard in reversed(shards):
        count = min(shard.used, places[shard.shard] if shard.shard else left)
        left -= count
        shard.used -= count
        shard.save(update_fields=["used"])


def _open_claims(definition: CouponDefinition, made_after: datetime | None = None) -> QuerySet[Claim]:
    claims = Claim.objects.filter(definition=definition, state=ClaimState.OPEN)
    return claims if made_after is None else claims.filter(claimed_at__gt=made_after)

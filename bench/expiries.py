"""Lots that fall due: through the expiry job and in psql."""

from datetime import timedelta
from itertools import pairwise
from statistics import median
from time import perf_counter

from bench import clients
from bench.figures import Figure, alternate, compare
from bench.sizes import Sizes
from bench.worlds import EXPIRES_AT, NOW, World, settle_disk
from points.models import Account
from points.services import expiry as job
from points.services import posting

LOTS_PER_ACCOUNT = 4


def expiry(sizes: Sizes) -> list[Figure]:
    """Expire a part of all lots at a time: each part has accounts of its own and falls due on a day of its own."""
    parts = 2 * sizes.repetitions
    lots = sizes.lots // parts // LOTS_PER_ACCOUNT * LOTS_PER_ACCOUNT
    world = World.create(lots * parts // LOTS_PER_ACCOUNT)
    for part in range(parts):
        _load(world, part, lots)
    settle_disk()
    days = iter(range(parts))
    pauses: list[float] = []

    def ours() -> float:
        through = EXPIRES_AT + timedelta(next(days))
        began = perf_counter()
        ends = [began]
        fallen = job.settle_due(
            program=world.program, through=through, at=through, on_progress=lambda _: ends.append(perf_counter())
        )
        if fallen.expired != lots:
            raise RuntimeError(f"{fallen.expired} lots fell due, not {lots}")
        pauses.append(max(end - start for start, end in pairwise(ends)))
        return lots / (perf_counter() - began)

    def reference() -> float:
        script = _script(world, next(days))
        return lots / clients.psql([script])

    mine, other = alternate(sizes.repetitions, ours, reference)
    ratio = compare("lot expiry / the same SQL in psql", mine, other, unit="lots/s", floor=0.85, aim=0.95)
    longest = max(pauses) * 1000
    return [
        ratio,
        Figure("lot expiry, lots/s", ratio.ours, ratio.reference, median(mine), 35_000, 55_000),
        Figure("lot expiry, longest batch", f"{longest:,.0f} ms", "", longest, None, 250, True, " ms"),
    ]


def _load(world: World, part: int, lots: int) -> None:
    accounts = lots // LOTS_PER_ACCOUNT
    ids = world.member_ids[part * accounts : (part + 1) * accounts]
    expires_at = EXPIRES_AT + timedelta(part)
    for turn in range(LOTS_PER_ACCOUNT):
        postings = [world.earning(member_id, member_id * LOTS_PER_ACCOUNT + turn, 25, expires_at) for member_id in ids]
        posting.post_batch(program_id=world.program.pk, postings=postings, at=NOW)


def _script(world: World, day: int) -> str:
    """Return the calls that the job makes, a transaction each, with the accounts found beforehand."""
    through = EXPIRES_AT + timedelta(day)
    due = Account.objects.filter(wallet_id=world.wallet_id, next_due_at__lte=through).order_by("id")
    ids = list(due.values_list("id", flat=True))
    return "\n".join(
        f"SELECT * FROM points_settle_accounts(ARRAY{ids[start : start + job.ACCOUNTS_PER_BATCH]},"
        f" '{through.isoformat()}', '{through.isoformat()}');"
        for start in range(0, len(ids), job.ACCOUNTS_PER_BATCH)
    )

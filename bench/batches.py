"""Many earnings at once: through the service and in psql."""

import tempfile
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter

from bench import clients
from bench.figures import Figure, alternate, compare
from bench.sizes import Sizes
from bench.worlds import NOW, World
from points.postings import Posting
from points.services import posting

ORDERS_PER_MEMBER = 4


def bulk(sizes: Sizes) -> list[Figure]:
    """Post what many orders of one line earn, the chain of every account included."""
    world = World.create(sizes.orders // ORDERS_PER_MEMBER)
    world.fund(1_000)
    batches = count(1)

    def batch() -> list[Posting]:
        first = next(batches) * sizes.orders
        ids = world.member_ids
        return [world.earning(ids[n % len(ids)], first + n, 25) for n in range(sizes.orders)]

    def ours() -> float:
        postings = batch()
        began = perf_counter()
        posting.post_batch(program_id=world.program.pk, postings=postings, at=NOW)
        return sizes.orders / (perf_counter() - began)

    with tempfile.TemporaryDirectory() as directory:

        def reference() -> float:
            return sizes.orders / clients.psql([_script(world, batch(), Path(directory))])

        mine, other = alternate(sizes.repetitions, ours, reference)
    figure = compare("bulk earn with chain / the same SQL in psql", mine, other, unit="orders/s", floor=0.80, aim=0.92)
    speed = Figure("bulk earn with chain, orders/s", figure.ours, figure.reference, median(mine), 25_000, 40_000)
    return [figure, speed]


def _script(world: World, postings: list[Posting], directory: Path) -> str:
    """Return what the service does, as a script that copies files written beforehand."""
    rows, accruals = posting.stage_texts(postings)
    (directory / "postings").write_text(rows)
    (directory / "accruals").write_text(accruals)
    return f"""
        BEGIN;
        {posting.CREATE_STAGE};
        \\copy posting_stage FROM '{directory}/postings'
        \\copy {" ".join(posting.ACCRUAL_STAGE.split())} FROM '{directory}/accruals'
        ANALYZE posting_stage; ANALYZE accrual_stage;
        SELECT points_post_earnings({world.program.pk}, '{NOW.isoformat()}');
        COMMIT;
    """

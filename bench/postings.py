"""One posting at a time: through the service and in pgbench, and what the whole of it costs beside the least of one."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from bench import clients
from bench.figures import Figure, alternate, compare
from bench.sizes import Sizes
from bench.worlds import NOW, World, settle_disk
from points.services import operations, posting

SQL = Path(__file__).parent / "sql"
# Pgbench draws its numbers from here up: ours stay below.
OUR_NUMBERS = 10**18 - 1


def _variables(world: World) -> dict[str, Any]:
    return {
        "first": world.member_ids.start,
        "last": world.member_ids.stop - 1,
        "program": world.program.pk,
        "wallet": world.wallet_id,
        "rule": world.rule_version_id,
    }


def _earner(world: World, _number: int) -> Callable[[], object]:
    draw = random.SystemRandom()

    def earn() -> object:
        earning = world.earning(random.choice(world.member_ids), draw.randrange(OUR_NUMBERS), 25)
        return posting.post(program_id=world.program.pk, postings=[earning], at=NOW)

    return earn


def _burner(world: World, _number: int) -> Callable[[], object]:
    draw = random.SystemRandom()

    def burn() -> object:
        return operations.redeem(
            program=world.program,
            member_id=random.choice(world.member_ids),
            wallet_id=world.wallet_id,
            points=1,
            idempotency_key=str(draw.randrange(OUR_NUMBERS)),
            at=NOW,
        )

    return burn


def earn(sizes: Sizes) -> list[Figure]:
    """Post what an order earns."""
    world = World.create(sizes.accounts)
    world.fund(1_000)
    figures = []
    for processes, floor, aim in ((1, 0.45, 0.60), (4, 0.35, 0.45)):
        ours, reference = alternate(
            sizes.repetitions,
            partial(clients.rate, processes, sizes.seconds, partial(_earner, world)),
            partial(
                clients.pgbench,
                SQL / "earn.pgbench",
                clients=processes,
                seconds=sizes.seconds,
                variables=_variables(world),
            ),
        )
        path = f"earn posting, {processes} process{'es' if processes > 1 else ''} / the same function in pgbench"
        figures.append(compare(path, ours, reference, unit="/s", floor=floor, aim=aim))
    return figures


def burn(sizes: Sizes) -> list[Figure]:
    """Redeem a point."""
    world = World.create(sizes.accounts)
    world.fund(1_000_000)
    ours, reference = alternate(
        sizes.repetitions,
        partial(clients.rate, 4, sizes.seconds, partial(_burner, world)),
        partial(clients.pgbench, SQL / "burn.pgbench", clients=4, seconds=sizes.seconds, variables=_variables(world)),
    )
    path = "burn, 4 processes / the same function in pgbench"
    return [compare(path, ours, reference, unit="/s", floor=0.50, aim=0.65)]


def full(sizes: Sizes) -> list[Figure]:
    """Compare the whole of a posting with the least of one, both in pgbench."""
    world = World.create(sizes.accounts)
    world.fund(1_000)
    with connection.cursor() as cursor:
        cursor.execute((SQL / "minimal_posting.sql").read_text())
        cursor.execute(
            "INSERT INTO bench_account SELECT id, 0 FROM membership_member WHERE program_id = %s", [world.program.pk]
        )
    settle_disk()
    figures = []
    for count in (1, 4):
        run = partial(clients.pgbench, clients=count, seconds=sizes.seconds, variables=_variables(world))
        ours, reference = alternate(
            sizes.repetitions, partial(run, SQL / "earn.pgbench"), partial(run, SQL / "minimal.pgbench")
        )
        path = f"full posting / minimal posting, both in pgbench, {count} client{'s' if count > 1 else ''}"
        figures.append(compare(path, ours, reference, unit="/s", floor=0.60, aim=0.80))
    return figures


def queries(_sizes: Sizes) -> list[Figure]:
    """Count the statements of one posting, those that begin and end its transaction included."""
    earn_once = _earner(World.create(1), 0)
    # The first one also looks up the wallet and the rule.
    earn_once()
    with CaptureQueriesContext(connection) as captured:
        earn_once()
    statements = [query["sql"].split()[0] for query in captured.captured_queries]
    count = len(statements)
    return [Figure("statements per posting", " ".join(statements), "counted", count, 3, 1, lower_is_better=True)]

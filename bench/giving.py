"""Coupons given out: claims through the service and in pgbench, codes by the million and a COPY of the same rows."""

import random
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter

from django.db import connection

from bench import clients
from bench.figures import Figure, alternate, compare
from bench.sizes import Sizes
from bench.worlds import NOW, World, settle_disk
from core import versions
from core.definitions import as_written
from coupons import codes as texts
from coupons.definitions import CouponTerms
from coupons.models import CodeBatch, CouponDefinition
from coupons.published import Offer, get_offer
from coupons.services import claims as claiming
from coupons.services import code_batches, limits

SQL = Path(__file__).parent / "sql"
CLIENTS = 4
_numbers = count(1)


def _publish(world: World, shards: int, how: str = "claimed") -> Offer:
    """Publish a coupon with more claims than anyone will make."""
    terms = CouponTerms.model_validate(
        {"name": "Bench", "discount": {"percent": "10%"}, "how": how, "limit": 10**9, "shards": shards},
        context={"currency": "GBP"},
    )
    definition = CouponDefinition.objects.create(program=world.program, code=f"bench-{next(_numbers)}")
    version = versions.publish(definition, as_written(terms, "GBP"), at=NOW)
    limits.set_limit(definition=definition, limit=terms.limit, shards=shards)
    world.program.refresh_from_db()
    return get_offer(world.program, version.pk)


def _claimer(world: World, offer: Offer, _number: int) -> Callable[[], object]:
    def claim() -> object:
        member_id = random.choice(world.member_ids)
        return claiming.claim(program=world.program, member_id=member_id, definition=offer.code, at=NOW)

    return claim


def claims(sizes: Sizes) -> list[Figure]:
    """Claim a coupon: with its limit in one row, and in sixteen."""
    world = World.create(sizes.accounts)
    figures = []
    for shards in (1, 16):
        offer = _publish(world, shards)
        settle_disk()
        variables = {
            "first": world.member_ids.start,
            "last": world.member_ids.stop - 1,
            "program": world.program.pk,
            "definition": offer.definition_id,
            "version": offer.version_id,
        }
        ours, reference = alternate(
            sizes.repetitions,
            partial(clients.rate, CLIENTS, sizes.seconds, partial(_claimer, world, offer)),
            partial(
                clients.pgbench, SQL / "claim.pgbench", clients=CLIENTS, seconds=sizes.seconds, variables=variables
            ),
        )
        path = (
            f"claims, {CLIENTS} processes, limit in {shards} row{'s' if shards > 1 else ''} / same function in pgbench"
        )
        figures.append(compare(path, ours, reference, unit="/s", floor=0.35, aim=0.45))
    return figures


def _empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE coupons_couponcode CASCADE")
    settle_disk("coupons_couponcode")


def _ask(world: World, offer: Offer, number: int) -> CodeBatch:
    return code_batches.request_batch(
        program=world.program,
        definition=CouponDefinition.objects.get(pk=offer.definition_id),
        count=number,
        requested_by="bench",
        at=NOW,
    )


def _make(world: World, offer: Offer, number: int) -> float:
    """Return how many codes a second a batch makes, from its first chunk to its last."""
    _empty()
    batch = _ask(world, offer, number)
    began = perf_counter()
    made = code_batches.make_codes(batch_id=batch.pk, at=NOW)
    assert made == number  # noqa: S101
    return number / (perf_counter() - began)


def _copy(script: str, number: int) -> float:
    _empty()
    return number / clients.psql([script])


def codes(sizes: Sizes) -> list[Figure]:
    """Make a batch of codes, and copy rows like them, in the same order, into the same table."""
    world = World.create(1)
    offer = _publish(world, 1, how="code")
    symbols, batch = texts.symbols_for(sizes.codes), _ask(world, offer, 1)
    rows = []
    for start in range(0, sizes.codes, code_batches.CHUNK):
        drawn = texts.draw(min(code_batches.CHUNK, sizes.codes - start), symbols=symbols)
        rows += [
            f"{world.program.pk}\t{text}\t{offer.definition_id}\t{batch.pk}\tf\t{NOW.isoformat()}\n" for text in drawn
        ]
    columns = "program_id, text, definition_id, batch_id, is_shared, made_at"
    script = f"COPY coupons_couponcode ({columns}) FROM STDIN;\n{''.join(rows)}\\.\n"
    ours, reference = alternate(
        sizes.repetitions, partial(_make, world, offer, sizes.codes), partial(_copy, script, sizes.codes)
    )
    path = f"{sizes.codes:,} codes / COPY of the same rows in psql"
    return [compare(path, ours, reference, unit="codes/s", floor=0.50, aim=0.80)]

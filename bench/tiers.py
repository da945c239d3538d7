"""The evaluation of all tiers: by the service's workers, by SQL written for the purpose, by a loop over members."""

import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from time import perf_counter

from django.db import connection, transaction
from django.db.models import F, Sum

from bench import clients
from bench.figures import Figure, alternate, compare
from bench.sizes import Sizes
from bench.worlds import World, settle_disk
from membership.models import Evaluation, Ladder, MemberDay, Tier, TierPeriod
from membership.services import evaluations

SQL = Path(__file__).parent / "sql"
WORKERS = 2
# Everyone has found a tier at the first; what is measured is a month later, when most stay where they are.
BEFORE, FIRST, SECOND = (datetime(2026, month, 1, tzinfo=UTC) for month in (2, 3, 4))
LAST_DAY = date(2026, 3, 31)
FIRST_DAY = LAST_DAY - timedelta(364)
CUTS_MINOR = (25_000, 100_000, 300_000, 1_000_000)
CODES = ("bronze", "silver", "gold", "platinum", "diamond")


@dataclass(frozen=True)
class Climb:
    """A world whose members have bought, and its ladder."""

    world: World

    @cached_property
    def ladder_id(self) -> int:
        return Ladder.objects.get(program=self.world.program).pk

    @cached_property
    def version_id(self) -> int:
        return Ladder.objects.get(pk=self.ladder_id).versions.get().pk

    @cached_property
    def tier_ids(self) -> list[int]:
        ids = dict(Tier.objects.filter(ladder=self.ladder_id).values_list("code", "id"))
        return [ids[code] for code in CODES]

    def load(self, orders_per_member: int) -> None:
        """Fill in what each member bought and the tier they enrolled with, unchecked: it is right as made."""
        first, last = self.world.member_ids.start, self.world.member_ids.stop - 1
        settings = f"SET session_replication_role = replica;\n\\set orders {orders_per_member}\n"
        clients.psql([f"{settings}\\set first {first}\n\\set last {last}\n" + (SQL / "facts.sql").read_text()])
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            cursor.execute(
                "INSERT INTO membership_tierperiod (member_id, ladder_id, tier_id, version_id, valid_from, recorded_at,"
                " cause, evidence) SELECT id, %s, %s, %s, joined_at, recorded_at, 'enrolled', '{}'"
                " FROM membership_member WHERE program_id = %s ORDER BY id",
                [self.ladder_id, self.tier_ids[0], self.version_id, self.world.program.pk],
            )
            cursor.execute("SET session_replication_role = origin")
        # Members joined long before: the evaluations until the first one measured count as done.
        Ladder.objects.filter(pk=self.ladder_id).update(evaluated_at=BEFORE, completed_at=BEFORE)
        settle_disk()

    def evaluate(self, instant: datetime) -> float:
        """Run an evaluation with two workers and return its seconds."""
        began = perf_counter()
        ladder = Ladder.objects.get(pk=self.ladder_id)
        evaluation = evaluations.begin(ladder=ladder, instant=instant, at=instant)

        def work(_number: int) -> None:
            while evaluations.run_chunk(evaluation_id=evaluation.pk, at=instant):
                pass

        clients.elapsed(WORKERS, work)
        if not evaluations.finish(evaluation_id=evaluation.pk, at=instant):
            raise RuntimeError("a chunk is left")
        return perf_counter() - began

    def evaluate_by_hand(self) -> float:
        """Run the SQL written for the purpose on two connections, half of the members each, and return its seconds."""
        ids = self.world.member_ids
        half = ids[len(ids) // 2]
        known = {
            **dict(zip(CODES, self.tier_ids, strict=True)),
            "ladder": self.ladder_id,
            "version": self.version_id,
            "instant": SECOND.isoformat(),
            "first_day": FIRST_DAY,
            "last_day": LAST_DAY,
        }
        statement = (SQL / "evaluate.sql").read_text()
        return clients.psql(
            [
                "".join(f"\\set {k} {v}\n" for k, v in {**known, "first": first, "last": last}.items()) + statement
                for first, last in ((ids.start, half - 1), (half, ids.stop - 1))
            ]
        )

    def loop(self, members: int) -> float:
        """Evaluate some members one by one through the ORM and return the seconds of each."""
        chosen = sorted(random.sample(self.world.member_ids, members))
        began = perf_counter()
        for member_id in chosen:
            self._evaluate_member(member_id)
        return (perf_counter() - began) / members

    @transaction.atomic
    def _evaluate_member(self, member_id: int) -> None:
        live = TierPeriod.objects.filter(member=member_id, ladder=self.ladder_id, superseded_at=None)
        held = live.filter(valid_from__lt=SECOND).latest("valid_from")
        days = MemberDay.objects.filter(member=member_id, day__range=(FIRST_DAY, LAST_DAY))
        spend = days.aggregate(minor=Sum(F("spend_minor") - F("refunds_minor")))["minor"] or 0
        tier_id = self.tier_ids[sum(spend >= cut for cut in CUTS_MINOR)]
        if tier_id != held.tier_id:
            TierPeriod.objects.create(
                member_id=member_id,
                ladder_id=self.ladder_id,
                tier_id=tier_id,
                version_id=self.version_id,
                valid_from=SECOND,
                recorded_at=SECOND,
                cause="upgraded" if tier_id > held.tier_id else "downgraded",
                evidence={"net_spend:rolling_365": spend},
            )

    def moves(self) -> tuple[int, int]:
        """Return how many rows the second evaluation wrote, and a sum that tells whether they are the same ones."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*), coalesce(sum(hashint8(member_id * 31 + tier_id)::bigint"
                " + hashtext(cause || evidence::text)), 0)"
                " FROM membership_tierperiod WHERE ladder_id = %s AND valid_from = %s",
                [self.ladder_id, SECOND],
            )
            count, checksum = cursor.fetchone()
            return count, checksum

    def undo(self) -> None:
        """Take the second evaluation back, so that each measurement starts from the same state."""
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            cursor.execute("DELETE FROM membership_tierperiod WHERE ladder_id = %s AND valid_from = %s",
                           [self.ladder_id, SECOND])  # fmt: skip
            cursor.execute("SET session_replication_role = origin")
        Evaluation.objects.filter(ladder=self.ladder_id, at=SECOND).delete()
        Ladder.objects.filter(pk=self.ladder_id).update(evaluated_at=FIRST, completed_at=FIRST)
        settle_disk("membership_tierperiod")


def evaluation(sizes: Sizes) -> list[Figure]:
    """Evaluate everyone once to find their tiers, then measure the evaluation of the month after."""
    climb = Climb(World.create(sizes.members))
    climb.load(sizes.orders_per_member)
    first = climb.evaluate(FIRST)
    climb.undo()
    seen = set()

    def ours() -> float:
        seconds = climb.evaluate(SECOND)
        seen.add(climb.moves())
        climb.undo()
        return sizes.members / seconds

    def reference() -> float:
        seconds = climb.evaluate_by_hand()
        seen.add(climb.moves())
        climb.undo()
        return sizes.members / seconds

    mine, other = alternate(sizes.repetitions, ours, reference)
    if len(seen) != 1:
        raise RuntimeError(f"the two do not write the same rows: {seen}")
    per_member = climb.loop(sizes.looped_members)
    climb.undo()
    (moved, _), fastest = seen.pop(), sorted(mine)[len(mine) // 2]
    orders = sizes.members * sizes.orders_per_member
    ratio = compare(
        f"tiers of {sizes.members:,} members, {orders:,} orders, {moved:,} moves / SQL by hand",
        mine, other, unit="members/s", floor=0.60, aim=0.85,
    )  # fmt: skip
    return [
        ratio,
        Figure("tiers, seconds", f"{sizes.members / fastest:,.1f} s", f"first evaluation {first:,.1f} s",
               round(sizes.members / fastest, 2), unit=" s"),
        Figure("tiers / a loop over members in the ORM", f"{fastest:,.0f} members/s",
               f"{1 / per_member:,.0f} members/s ({sizes.looped_members:,} looped)", fastest * per_member,
               None, 200, unit="x"),
    ]  # fmt: skip

"""What a measurement works on: a program applied from its file, and members made in the database."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count

from django.db import connection

from config.environment import PROJECT
from core.models import Program
from points.models import AccrualReason, EarnRuleVersion, SourceKind, TransactionKind, Wallet
from points.postings import Posting
from points.rules import LineAccrual
from points.services import posting
from storefront.services import program_file

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
EXPIRES_AT = datetime(2027, 6, 2, tzinfo=UTC)
_numbers = count(1)


@dataclass(frozen=True)
class World:
    """A program of its own and the consecutive ids of its members."""

    program: Program
    member_ids: range

    @classmethod
    def create(cls, members: int) -> "World":
        file = program_file.load(PROJECT / "programs" / "retail_gbp.yaml", code=f"bench-{next(_numbers)}")
        program = program_file.apply(file, at=datetime(2020, 1, 1, tzinfo=UTC), actor="bench")
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO membership_member (program_id, external_id, kind, status, locale, country, consents,"
                " joined_at, recorded_at) SELECT %s, 'm' || n, 'person', 'active', '', '', '{}', '2024-01-01',"
                " '2024-01-01' FROM generate_series(1, %s) n",
                [program.pk, members],
            )
            cursor.execute("SELECT min(id), max(id) FROM membership_member WHERE program_id = %s", [program.pk])
            first, last = cursor.fetchone()
        if last - first + 1 != members:
            raise RuntimeError("the members' ids are not consecutive")
        return cls(program, range(first, last + 1))

    @cached_property
    def wallet_id(self) -> int:
        return Wallet.objects.get(program=self.program).pk

    @cached_property
    def rule_version_id(self) -> int:
        return EarnRuleVersion.objects.get(owner__program=self.program).pk

    def earning(self, member_id: int, number: int, points: int, expires_at: datetime = EXPIRES_AT) -> Posting:
        """Return what an order of one line earns; the number tells it from all others."""
        # An order every millisecond: instants differ as those of real orders do.
        at = NOW + timedelta(milliseconds=number % 1_000_000)
        accrual = LineAccrual(
            SourceKind.ORDER_LINE, number, self.rule_version_id, points * 100, 10_000, points, AccrualReason.EARNED
        )
        return Posting(
            kind=TransactionKind.EARN,
            member_id=member_id,
            wallet_id=self.wallet_id,
            key=f"earn:ORDER:{number}",
            effective_at=at,
            source_kind=SourceKind.ORDER,
            source_id=number,
            available_at=at,
            expires_at=expires_at,
            accruals=(accrual,),
        )

    def fund(self, points: int) -> None:
        """Give every member one lot."""
        first = self.member_ids.start
        for start in range(first, self.member_ids.stop, 50_000):
            ids = range(start, min(start + 50_000, self.member_ids.stop))
            postings = [self.earning(member_id, -member_id, points) for member_id in ids]
            posting.post_batch(program_id=self.program.pk, postings=postings, at=NOW)
        settle_disk()


def settle_disk(table: str = "") -> None:
    """Let what was loaded be neither written nor vacuumed while something is measured."""
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM ANALYZE {table}")
        cursor.execute("CHECKPOINT")

"""The kernel equals a plain-Python model of the ledger on random histories, one by one and in bulk."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.models import Program
from points.models import Account, Bucket, Hold, LedgerTransaction, TransactionKind, Wallet
from points.postings import Posting, digest
from points.services import holds
from points.services import posting as posting_service
from points.services.posting import Posted, PostingError, post, post_batch, settle
from points.services.verify import verify
from tests.oracle import ledger as oracle
from tests.points.ledgers import DAY, START, clawback, decision, earning, read_entries

HOUR = DAY / 24
Step = tuple[Any, ...]

instants = st.integers(0, 40 * 4).map(lambda n: START + n * 6 * HOUR)
earns = st.tuples(
    st.just("earn"), instants, st.lists(st.integers(0, 30), min_size=1, max_size=3), st.sampled_from([0, 0, 0, 3]),
    st.sampled_from([None, 5, 10, 10, 30]),
)  # fmt: skip
burns = st.tuples(st.just("burn"), instants, st.integers(1, 40))
adjustments = st.tuples(st.just("adjust"), instants, st.integers(-20, 30).filter(bool), st.sampled_from([None, 4, 20]))
refunds = st.tuples(
    st.just("clawback"), instants, st.integers(0, 9), st.integers(0, 2), st.integers(0, 3),
    st.sampled_from(["debt", "debt", "write_off", "own_lot", "refuse"]),
)  # fmt: skip
reversals = st.tuples(st.just("reverse"), instants, st.integers(0, 9))
settlements = st.tuples(st.just("settle"), instants)
holdings = st.tuples(st.just("hold"), instants, st.integers(1, 60))
captures = st.tuples(st.just("capture"), instants, st.integers(0, 3), st.one_of(st.none(), st.integers(1, 40)))
releases = st.tuples(st.just("release"), instants, st.integers(0, 3))
give_backs = st.tuples(st.just("give_back"), instants, st.integers(0, 3), st.integers(1, 20))
histories = st.lists(
    st.one_of(
        *(earns, earns, burns, adjustments, refunds, reversals, settlements),
        *(holdings, holdings, captures, captures, releases, give_backs, give_backs),
    ),
    max_size=18,
)

BUCKETS = {bucket.name.lower(): bucket.value for bucket in Bucket}
slow = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class History:
    """Plays steps on the real ledger and on the model, and compares after each."""

    def __init__(self, program: Program, wallet: Wallet, member_id: int) -> None:
        self.program, self.wallet, self.member_id = program, wallet, member_id
        self.model = oracle.Account()
        self.earned: list[int] = []
        self.returned: Counter[int] = Counter()
        self.decided: list[str] = []
        self.held: list[str] = []

    def play(self, number: int, step: Step) -> None:
        kind, at, *rest = step
        getattr(self, f"_{kind}")(1000 + number, at, *rest)

    def _both(self, posting: Posting | None, do: Callable[[], object]) -> bool:
        if posting is None:
            return False
        try:
            post(program_id=self.program.pk, postings=[posting], at=START)
        except PostingError:
            with pytest.raises(oracle.RefusedError):
                do()
            return False
        do()
        return True

    def _earn(self, source: int, at: datetime, points: list[int], pending: int, expiry: int | None) -> None:
        available, expires = at + pending * DAY, at + expiry * DAY if expiry else None
        posting = earning(
            self.member_id, self.wallet.pk, source, points, at, available_at=available, expires_at=expires
        )
        lines = [(str(a.source_id), a.points) for a in posting.accruals]
        self._both(posting, lambda: self.model.earn(str(source), at, lines, available, expires))
        self.earned.append(source)

    def _burn(self, source: int, at: datetime, points: int) -> None:
        posting = decision(TransactionKind.BURN, self.member_id, self.wallet.pk, str(source), points, at)
        if self._both(posting, lambda: self.model.burn(str(source), at, points)):
            self.decided.append(str(source))

    def _adjust(self, source: int, at: datetime, points: int, expiry: int | None) -> None:
        expires = at + expiry * DAY if expiry else None
        posting = decision(
            TransactionKind.ADJUST, self.member_id, self.wallet.pk, str(source), points, at, expires_at=expires
        )
        if self._both(posting, lambda: self.model.adjust(str(source), at, points, at, expires)):
            self.decided.append(str(source))

    def _clawback(self, source: int, at: datetime, which: int, position: int, units: int, policy: str) -> None:
        if not self.earned:
            return
        line = self.earned[which % len(self.earned)] * 10 + position
        if str(line) not in self.model.accruals:
            return
        units = min(units, 3 - self.returned[line])
        posting = clawback(self.member_id, self.wallet.pk, source, [(line, self.returned[line] + units, 3)], at, policy)
        if self._both(posting, lambda: self.model.clawback(str(source), at, [(str(line), units, 3)], policy)):  # type: ignore[arg-type]
            self.returned[line] += units

    def _reverse(self, source: int, at: datetime, which: int) -> None:
        if not self.decided:
            return
        key = self.decided[which % len(self.decided)]
        target = LedgerTransaction.objects.get(member_id=self.member_id, key_digest=digest(key))
        posting = Posting(
            kind=TransactionKind.REVERSE,
            member_id=self.member_id,
            wallet_id=self.wallet.pk,
            key=str(source),
            effective_at=at,
            reverses_id=target.pk,
        )
        self._both(posting, lambda: self.model.reverse(str(source), at, key))

    def _hold(self, source: int, at: datetime, points: int) -> None:
        if self._serve(
            lambda who: holds.hold(**who, points=points, reference=str(source), held_until=at, at=at),
            lambda: self.model.hold(str(source), at, points),
        ):
            self.held.append(str(source))

    def _capture(self, source: int, at: datetime, which: int, points: int | None) -> None:
        if self.held:
            hold = self.held[which % len(self.held)]
            self._serve(
                lambda who: holds.capture(**who, reference=hold, points=points, at=at),
                lambda: self.model.capture(str(source), at, hold, points),
            )

    def _release(self, source: int, at: datetime, which: int) -> None:
        if self.held:
            hold = self.held[which % len(self.held)]
            self._serve(
                lambda who: holds.release(**who, reference=hold, at=at),
                lambda: self.model.release(str(source), at, hold),
            )

    def _give_back(self, source: int, at: datetime, which: int, points: int) -> None:
        if self.held:
            hold = self.held[which % len(self.held)]
            self._serve(
                lambda who: holds.give_back(**who, reference=hold, points=points, refund_id=source, at=at),
                lambda: self.model.give_back(str(source), at, hold, points),
            )

    def _serve(self, ask: Callable[[dict[str, Any]], Posted], do: Callable[[], object]) -> bool:
        """Call a service and the model; what repeats an earlier call changes nothing in either."""
        who = {"program": self.program, "member_id": self.member_id, "wallet_id": self.wallet.pk}
        try:
            is_new = ask(who).is_new
        except PostingError:
            with pytest.raises(oracle.RefusedError):
                do()
            return False
        if is_new:
            do()
        return is_new

    def _settle(self, _source: int, at: datetime) -> None:
        ids = list(Account.objects.filter(member_id=self.member_id).values_list("pk", flat=True))
        settle(account_ids=ids, through=at, at=START)
        self.model.settle(at)

    def compare(self) -> None:
        real: Counter[tuple[object, ...]] = Counter()
        for m in read_entries(self.member_id):
            real[m.kind, m.from_bucket, m.to_bucket, m.effective_at] += m.points
        model: Counter[tuple[object, ...]] = Counter()
        for p in self.model.postings:
            model[p.kind, BUCKETS[p.from_bucket], BUCKETS[p.to_bucket], p.effective_at] += p.points
        assert real == model
        account = Account.objects.filter(member_id=self.member_id).first()
        for shown in Hold.objects.filter(member_id=self.member_id):
            hold = self.model.holds[shown.reference]
            assert shown.points - shown.captured - shown.released == len(hold.held)
            assert shown.captured - shown.returned == len(hold.captured)
        if account:
            balances = {name: getattr(account, name) for name in self.model.balances}
            assert balances == self.model.balances


@slow
@given(steps=histories)
def test_random_histories_equal_the_model(
    program: Program, wallet: Wallet, new_member: Callable[[], int], steps: list[Step]
) -> None:
    history = History(program, wallet, new_member())
    for number, step in enumerate(steps):
        history.play(number, step)
        history.compare()
    assert list(verify(program=program)) == []


# One lot that ends on the fifth day, partly spent, perhaps held; then refunds, most of them after its end.
ending_lots = st.tuples(
    st.lists(st.integers(5, 30), min_size=1, max_size=2),
    st.tuples(st.just("burn"), st.just(START + DAY), st.integers(1, 20)),
    st.tuples(st.just("hold"), st.just(START + DAY), st.integers(1, 20)),
    st.lists(
        st.one_of(
            *[
                st.tuples(
                    st.just("clawback"), st.sampled_from([3, 6, 7]).map(lambda n: START + n * DAY), st.just(0),
                    st.integers(0, 1), st.just(1), st.sampled_from(["debt", "debt", "write_off", "own_lot", "refuse"]),
                )
            ] * 4,
            st.tuples(st.just("release"), st.just(START + 6 * DAY), st.just(0)),
        ),
        min_size=2, max_size=6,
    ),
)  # fmt: skip


@slow
@given(told=ending_lots)
def test_refunds_around_a_lots_end_equal_the_model(
    program: Program, wallet: Wallet, new_member: Callable[[], int], told: tuple[list[int], Step, Step, list[Step]]
) -> None:
    points, burn, hold, steps = told
    history = History(program, wallet, new_member())
    for number, step in enumerate([("earn", START, points, 0, 5), ("earn", START, [9], 0, 30), burn, hold, *steps]):
        history.play(number, step)
        history.compare()
    assert list(verify(program=program)) == []


batches = st.lists(
    st.tuples(
        st.integers(0, 2), instants, st.lists(st.integers(0, 30), min_size=1, max_size=3), st.sampled_from([0, 0, 3]),
        st.sampled_from([None, 5, 30]), st.booleans(),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@slow
@given(before=batches, batch=batches)
def test_bulk_posting_writes_the_same_rows_as_one_by_one(
    program: Program, wallet: Wallet, new_member: Callable[[], int], before: list[Step], batch: list[Step]
) -> None:
    bulk, single = ([new_member() for _ in range(3)] for _ in range(2))

    def postings(members: list[int], rows: list[Step], offset: int) -> list[Posting]:
        made = []
        for n, (who, at, points, pending, expiry, is_refund) in enumerate(rows):
            source, expires = members[who] * 1000 + offset + n, at + expiry * DAY if expiry else None
            made.append(
                earning(
                    members[who], wallet.pk, source, points, at, available_at=at + pending * DAY, expires_at=expires
                )
            )
            if is_refund:
                made.append(clawback(members[who], wallet.pk, source, [(source * 10, 1, 2)], at + DAY))
        return made

    with patch.object(posting_service, "BULK_FROM", 1):
        post_batch(program_id=program.pk, postings=postings(bulk, before, 0), at=START)
        post_batch(program_id=program.pk, postings=postings(bulk, batch, 100), at=START)
    for posting in postings(single, before, 0) + postings(single, batch, 100):
        post(program_id=program.pk, postings=[posting], at=START)

    def plain(members: list[int]) -> list[object]:
        return [
            (n, m.kind, m.from_bucket, m.to_bucket, m.points, m.effective_at)
            for n, member in enumerate(members)
            for m in read_entries(member)
        ]

    assert plain(bulk) == plain(single)
    assert _accounts(bulk) == _accounts(single)
    assert list(verify(program=program)) == []


def _accounts(members: list[int]) -> list[tuple[int, ...]]:
    accounts = Account.objects.filter(member_id__in=members).order_by("member_id")
    return list(accounts.values_list("seq", "available", "pending", "debt", "lifetime_earned"))

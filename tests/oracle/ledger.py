"""One account of the points ledger as a list of lots and a list of postings.

The rules, each of them visible in one place below:
- Before every posting the account is settled to it: vests and expiries that are due by then are posted in
  (due instant, vest before expiry, lot) order, each effective at its due instant. A lot lives in
  [available_at, expires_at).
- A posting dated before the account's last one keeps its own instant; lots are judged at the later of the two.
- What comes into `available` repays debt first, from the lot that came in; also if that lot has expired when judged.
- A burn takes the lots that expire first; at one instant the older lot; lots that never expire last.
- A refund takes floor(points x returned / whole) of each accrual, cumulatively, in the order of arrival: from the
  accrual's own lot, pending or available, then by policy from other available lots and as debt. What it asks for is
  max(0, all that was due of the lot's accruals - what of the lot has expired), cumulatively: what expired is forgiven,
  what was spent before the end is not.
- A reversal of a burn or a deduction gives back to the same lots. What goes back to a lot past its end expires at
  once, at the instant it came back, not before: a history in which the points expired while they were spent would go
  below zero.
- A reversal of an addition takes what has not expired of it: from its own lot, then from other available lots, then
  as debt.
- A hold takes as a burn does, lot by lot, what expires first first. It is captured once, from its front, whole or in
  part; a release gives all the rest back to its lots; what was captured comes back from its end. What is held does not
  expire and no refund takes it; what goes back to a lot past its end expires at once.
- Debt is negative-normal: `debt` <= 0.
A posting that is refused leaves no trace, not even the settling before it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple

Kind = Literal[
    "earn", "burn", "clawback", "reverse", "expire", "vest", "adjust", "hold", "capture", "release", "give_back"
]
Policy = Literal["debt", "write_off", "own_lot", "refuse"]

END_OF_TIME = datetime.max.replace(tzinfo=UTC)
START_OF_TIME = datetime.min.replace(tzinfo=UTC)


class RefusedError(Exception):
    """The posting is not possible; nothing changed."""


class Posting(NamedTuple):
    """Points moved between two buckets. A vest's or expiry's source is `lot of <source>`."""

    kind: Kind
    source: str
    from_bucket: str
    to_bucket: str
    points: int
    effective_at: datetime


@dataclass
class Lot:
    number: int
    source: str
    remaining: int
    is_pending: bool
    available_at: datetime
    expires_at: datetime  # END_OF_TIME: never
    came_back_at: datetime = START_OF_TIME
    expired: int = 0
    due: int = 0
    owed: int = 0

    @property
    def due_at(self) -> datetime:
        """When the next thing happens to it by itself."""
        return self.available_at if self.is_pending else max(self.expires_at, self.came_back_at)


@dataclass
class Accrual:
    points: int
    lot: Lot | None
    returned: int = 0
    asked: int = 0


@dataclass
class Done:
    """What a later reversal needs to know of a burn or an adjustment."""

    points: int
    to_bucket: str
    taken: list[tuple[Lot, int]]
    lot: Lot | None = None
    is_reversed: bool = False


@dataclass
class Hold:
    """The lot of every single point, in the order in which they were taken: still held, and captured."""

    held: list[Lot]
    captured: list[Lot] = field(default_factory=list)
    is_captured: bool = False


@dataclass
class Account:
    postings: list[Posting] = field(default_factory=list)
    balances: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("available", "pending", "held", "debt"), 0))
    lots: list[Lot] = field(default_factory=list)
    accruals: dict[str, Accrual] = field(default_factory=dict)
    done: dict[str, Done] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    last_effective_at: datetime = START_OF_TIME

    # --- what can be asked of it ---------------------------------------------------------------------------

    def earn(
        self,
        source: str,
        at: datetime,
        accruals: Sequence[tuple[str, int]],
        available_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> None:
        """Post accruals (line, points) into one lot; lines worth nothing are remembered and open none."""
        with self._posting(at) as judged_at:
            total = sum(points for _, points in accruals)
            lot = self._open_lot("earn", source, at, judged_at, total, available_at, expires_at) if total else None
            for line, points in accruals:
                self.accruals[line] = Accrual(points, lot if points else None)

    def burn(self, source: str, at: datetime, points: int) -> None:
        """Spend points. Raises: RefusedError if there are not enough."""
        with self._posting(at):
            taken = self._spend("burn", source, at, points, "redeemed")
            self.done[source] = Done(points, "redeemed", taken)

    def adjust(
        self,
        source: str,
        at: datetime,
        points: int,
        available_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> None:
        """Add points in a lot of their own, or deduct (points < 0). Raises: RefusedError if there are not enough."""
        with self._posting(at) as judged_at:
            if points < 0:
                taken = self._spend("adjust", source, at, -points, "issued")
                self.done[source] = Done(-points, "issued", taken)
            else:
                lot = self._open_lot("adjust", source, at, judged_at, points, available_at, expires_at)
                self.done[source] = Done(points, "available", [], lot)

    def clawback(
        self, source: str, at: datetime, returns: Sequence[tuple[str, int, int]], policy: Policy = "debt"
    ) -> int:
        """Take back for returns (line, units back now, units bought) and return the points taken.

        Raises: RefusedError under the policy `refuse` if the account cannot give all of it.
        """
        taken = 0
        with self._posting(at):
            for line, units, whole in returns:
                if line in self.accruals:
                    taken += self._claw(source, at, self.accruals[line], units, whole, policy)
        return taken

    def reverse(self, source: str, at: datetime, reverses: str) -> None:
        """Undo the burn or adjustment of that source. Raises: RefusedError if there is none, or it has been undone."""
        with self._posting(at) as judged_at:
            done = self.done.get(reverses)
            if done is None or done.is_reversed:
                raise RefusedError("nothing to reverse")
            done.is_reversed = True
            if done.lot is None:
                self._give_back(source, at, done)
                self.settle(judged_at)
            else:
                self._take_back(source, at, done.points, done.lot)

    def hold(self, source: str, at: datetime, points: int) -> None:
        """Set points aside. Raises: RefusedError if there are not enough."""
        with self._posting(at):
            taken = self._spend("hold", source, at, points, "held")
            self.holds[source] = Hold([lot for lot, part in taken for _ in range(part)])

    def capture(self, source: str, at: datetime, hold: str, points: int | None) -> None:
        """Spend what is held (None: all of it). Raises: RefusedError if it is less, or the second time."""
        with self._posting(at):
            found = self.holds[hold]
            points = len(found.held) if points is None else points
            if found.is_captured or not 0 < points <= len(found.held):
                raise RefusedError("not so much to capture")
            found.captured, found.held, found.is_captured = found.held[:points], found.held[points:], True
            self._move("capture", source, "held", "redeemed", points, at)

    def release(self, source: str, at: datetime, hold: str) -> None:
        """Free what is still held. Raises: RefusedError if nothing is."""
        with self._posting(at) as judged_at:
            freed, self.holds[hold].held = self.holds[hold].held, []
            if not freed:
                raise RefusedError("nothing to release")
            self._return_points("release", source, at, "held", freed)
            self.settle(judged_at)

    def give_back(self, source: str, at: datetime, hold: str, points: int) -> None:
        """Return points that were captured. Raises: RefusedError if there are not so many."""
        with self._posting(at) as judged_at:
            captured = self.holds[hold].captured
            if points > len(captured):
                raise RefusedError("not so much to give back")
            self._return_points("give_back", source, at, "redeemed", captured[-points:])
            del captured[-points:]
            self.settle(judged_at)

    def settle(self, at: datetime) -> None:
        """Post what is due by an instant, as a nightly job does."""
        while due := [lot for lot in self.lots if lot.remaining and lot.due_at <= at and lot.due_at < END_OF_TIME]:
            lot = min(due, key=lambda lot: (lot.due_at, not lot.is_pending, lot.number))
            source, due_at = f"lot of {lot.source}", lot.due_at
            self.last_effective_at = max(self.last_effective_at, due_at)
            if lot.is_pending:
                lot.is_pending = False
                self._move("vest", source, "pending", "available", lot.remaining, due_at)
                self._repay("vest", source, lot, lot.remaining, due_at)
            else:
                self._move("expire", source, "available", "expired", lot.remaining, due_at)
                lot.expired += lot.remaining
                lot.remaining = 0

    # --- what it does inside -------------------------------------------------------------------------------

    @contextmanager
    def _posting(self, at: datetime) -> Iterator[datetime]:
        """Settle, give the instant at which lots are judged, and undo everything on a refusal."""
        before = deepcopy(self.__dict__)
        try:
            judged_at = max(at, self.last_effective_at)
            self.settle(judged_at)
            yield judged_at
            self.last_effective_at = judged_at
        except RefusedError:
            self.__dict__.update(before)
            raise

    def _move(self, kind: Kind, source: str, origin: str, target: str, points: int, at: datetime) -> None:
        if points:
            self.postings.append(Posting(kind, source, origin, target, points, at))
            if origin in self.balances:
                self.balances[origin] -= points
            if target in self.balances:
                self.balances[target] += points

    def _open_lot(
        self,
        kind: Kind,
        source: str,
        at: datetime,
        judged_at: datetime,
        points: int,
        available_at: datetime | None,
        expires_at: datetime | None,
    ) -> Lot:
        lot = Lot(len(self.lots), source, points, False, available_at or at, expires_at or END_OF_TIME)
        lot.is_pending = lot.available_at > judged_at
        self.lots.append(lot)
        self._move(kind, source, "issued", "pending" if lot.is_pending else "available", points, at)
        if not lot.is_pending:
            self._repay(kind, source, lot, points, at)
        return lot

    def _repay(self, kind: Kind, source: str, lot: Lot, points: int, at: datetime) -> None:
        part = min(-self.balances["debt"], points)
        lot.remaining -= part
        self._move(kind, source, "available", "debt", part, at)

    def _take(self, points: int) -> list[tuple[Lot, int]]:
        """Take up to so many points from available lots and return which lot gave how many."""
        taken = []
        for lot in sorted(self.lots, key=lambda lot: (lot.expires_at, lot.number)):
            part = 0 if lot.is_pending else min(lot.remaining, points)
            if part:
                lot.remaining -= part
                points -= part
                taken.append((lot, part))
        return taken

    def _spend(self, kind: Kind, source: str, at: datetime, points: int, target: str) -> list[tuple[Lot, int]]:
        if points > self.balances["available"]:
            raise RefusedError(f"{points} asked, {self.balances['available']} available")
        self._move(kind, source, "available", target, points, at)
        return self._take(points)

    def _claw(self, source: str, at: datetime, accrual: Accrual, units: int, whole: int, policy: Policy) -> int:
        accrual.returned += units
        due = accrual.points * accrual.returned // whole - accrual.asked
        accrual.asked += due
        lot = accrual.lot
        if lot is None:
            return 0
        lot.due += due
        due = max(0, lot.due - lot.expired - lot.owed)
        lot.owed += due
        own = min(due, lot.remaining)
        lot.remaining -= own
        self._move("clawback", source, "pending" if lot.is_pending else "available", "clawed_back", own, at)
        if policy == "own_lot":
            return own
        others = sum(part for _, part in self._take(due - own))
        self._move("clawback", source, "available", "clawed_back", others, at)
        rest = due - own - others
        if rest and policy == "refuse":
            raise RefusedError(f"{due} to take back, {own + others} are left")
        if policy == "debt":
            self._move("clawback", source, "debt", "clawed_back", rest, at)
            return due
        return own + others

    def _give_back(self, source: str, at: datetime, done: Done) -> None:
        self._move("reverse", source, done.to_bucket, "available", done.points, at)
        for lot, part in done.taken:
            lot.remaining += part
            lot.came_back_at = at
            self._repay("reverse", source, lot, part, at)

    def _return_points(self, kind: Kind, source: str, at: datetime, origin: str, lots: list[Lot]) -> None:
        self._move(kind, source, origin, "available", len(lots), at)
        for lot in lots:
            lot.remaining += 1
            lot.came_back_at = at
            self._repay(kind, source, lot, 1, at)

    def _take_back(self, source: str, at: datetime, points: int, lot: Lot) -> None:
        points -= lot.expired
        own = min(points, lot.remaining)
        lot.remaining -= own
        self._move("reverse", source, "pending" if lot.is_pending else "available", "issued", own, at)
        others = sum(part for _, part in self._take(points - own))
        self._move("reverse", source, "available", "issued", others, at)
        self._move("reverse", source, "debt", "issued", points - own - others, at)


def totals(postings: Sequence[Posting]) -> dict[tuple[str, str, str, str, datetime], int]:
    """Add up the points of postings alike in all else: comparable whatever the number of entries of one transaction."""
    sums: dict[tuple[str, str, str, str, datetime], int] = {}
    for posting in postings:
        key = (posting.kind, posting.source, posting.from_bucket, posting.to_bucket, posting.effective_at)
        sums[key] = sums.get(key, 0) + posting.points
    return sums

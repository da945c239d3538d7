"""The points of one member in one wallet, as refunds move them: lots, debt, points that paid, clawback.

Written like `tests/oracle/returns.py` from issue 8, section A, and DESIGN's section 5. Nothing here reads the product.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Lot:
    key: str
    points: int
    expires_at: int | None
    remaining: int = 0
    expired: int = 0
    due: int = 0  # by refunds, over all accruals of the lot
    asked: int = 0  # of it, after what was forgiven
    taken: int = 0

    def is_expired(self, at: int) -> bool:
        return self.expires_at is not None and self.expires_at <= at


@dataclass
class Wallet:
    """`clawback` says what is done when the lot itself has too little left.

    Of every policy the lot's own remainder is taken first: `own_lot` takes no more, the others take other lots too;
    then `debt` owes the rest, `write_off` forgets it, `refuse` takes nothing of all of it.
    A posting dated before the last one is judged at that one.
    """

    clawback: str = "debt"
    lots: dict[str, Lot] = field(default_factory=dict)
    debt: int = 0
    paid: dict[str, list[tuple[str, int]]] = field(default_factory=dict)  # by payment, what of which lot
    last: int = 0

    @property
    def available(self) -> int:
        return sum(lot.remaining for lot in self.lots.values())

    def settle(self, at: int) -> None:
        """ "a lot with expires_at <= t is expired at t" """
        self.last = max(at, self.last)
        for lot in self.lots.values():
            if lot.is_expired(self.last):
                lot.expired += lot.remaining
                lot.remaining = 0

    def earn(self, key: str, points: int, at: int, expires_at: int | None) -> None:
        self.settle(at)
        if points:
            self.lots[key] = Lot(key, points, expires_at)
            self._credit(self.lots[key], points)

    def pay(self, key: str, points: int, at: int) -> bool:
        """ "**Burn** takes the lots that expire first" """
        self.settle(at)
        if points > self.available:
            return False
        self.paid[key] = self._take(points)
        return True

    def give_back(self, key: str, points: int, at: int) -> None:
        """Give points back to the lots they came from, latest expiry first; what is past its end expires at once."""
        self.settle(at)
        taken = self.paid[key]
        while points:
            lot_key, of_lot = taken.pop()
            part = min(points, of_lot)
            if of_lot > part:
                taken.append((lot_key, of_lot - part))
            self._credit(self.lots[lot_key], part)
            points -= part

    def claw_back(self, key: str, due: int, at: int) -> int | None:
        """Take what refunds make due of a lot, `due` in all so far; return what was taken now, None if refused.

        "Clawback owes max(0, due so far over all accruals of the lot - what of it expired), cumulative: forgiven is
        what expired, not what was spent before the end."
        """
        self.settle(at)
        lot = self.lots[key]
        owed = max(lot.asked, due - lot.expired)
        wanted = owed - lot.asked
        own = min(wanted, lot.remaining)
        others = 0 if self.clawback == "own_lot" else min(wanted - own, self.available - lot.remaining)
        missing = wanted - own - others
        if self.clawback == "refuse" and missing:
            return None
        lot.due, lot.asked = max(lot.due, due), owed
        lot.remaining -= own
        self._take(others)
        if self.clawback == "debt":
            self.debt += missing
            others += missing
        lot.taken += own + others
        return own + others

    def _take(self, points: int) -> list[tuple[str, int]]:
        taken = []
        for lot in sorted(self.lots.values(), key=lambda one: (one.expires_at is None, one.expires_at or 0)):
            part = min(points, lot.remaining)
            if part:
                lot.remaining -= part
                points -= part
                taken.append((lot.key, part))
        return taken

    def _credit(self, lot: Lot, points: int) -> None:
        """ "Every credit to available repays debt first, from the incoming lot." """
        repaid = min(points, self.debt)
        self.debt -= repaid
        if lot.is_expired(self.last):
            lot.expired += points - repaid
        else:
            lot.remaining += points - repaid
